package api

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// busyCoordinator has a transaction to end first.
type busyCoordinator struct {
	until time.Time
	asked []time.Duration // Before until.
}

func (b *busyCoordinator) Shards() []int32 { return []int32{0} }

func (b *busyCoordinator) Submit(_ int32, _ any, done coordinator.Done) error {
	r := wire.NewAddPartitionsToTxnResponse()
	p := wire.Extend(&wire.Extend(&wire.Extend(&r.ResultsByTransaction).TopicResults).ResultsByPartition)
	left := time.Until(b.until)
	if b.asked = append(b.asked, left); left > 0 {
		p.PartitionErrorCode = int16(wire.ConcurrentTransactions)
	}
	done(r, nil)
	return nil
}

// TestAddPatience: a write that adds its partition waits for the end of the
// transaction before, as long as it is told to; one that does not is refused.
func TestAddPatience(t *testing.T) {
	for _, x := range []struct {
		name    string
		version int16
		busy    time.Duration
		options []string
		took    time.Duration
		code    wire.ErrorCode
		tries   int
	}{
		{name: "short", version: 12, busy: 6 * time.Millisecond, took: 7 * time.Millisecond, tries: 4},                               // 1, 2, 4
		{name: "longer", version: 12, busy: 60 * time.Millisecond, took: 71 * time.Millisecond, tries: 8},                            // … 8, 16, 20, 20
		{name: "too long", version: 12, busy: time.Second, took: 91 * time.Millisecond, code: wire.ConcurrentTransactions, tries: 9}, // … 20
		// A client that adds partitions itself has begun too early.
		{name: "an old client", version: 11, busy: time.Second, code: wire.NotEnoughReplicas, tries: 1},
		{
			name: "small steps", version: 12, busy: 10 * time.Millisecond, options: []string{"add.partitions.to.txn.retry.backoff.ms=2"},
			took: 11 * time.Millisecond, tries: 7,
		},
		{
			name: "no patience", version: 12, busy: 10 * time.Millisecond, options: []string{"add.partitions.to.txn.retry.backoff.max.ms=0"},
			code: wire.ConcurrentTransactions, tries: 1,
		},
		{
			name: "much patience", version: 12, busy: time.Second, options: []string{"add.partitions.to.txn.retry.backoff.max.ms=5000"},
			took: 1011 * time.Millisecond, tries: 55,
		},
	} {
		t.Run(x.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNode(t, append(x.options, "durability=os")...)
				n.topic("__transaction_state", 1)
				n.topic("t", 1)
				busy := &busyCoordinator{until: time.Now().Add(x.busy)}
				n.api.opts.Transactions = busy
				q := produce("t", 0, -1, batch(t, record.BuilderOptions{Producer: &record.Producer{ID: 1}, Transactional: true}, "v"))
				q.TransactionalID = new("x")
				var r *wire.ProduceResponse
				took := elapsed(func() { r = ask[*wire.ProduceResponse](n.dial(), q, x.version) })
				code := wire.ErrorCode(r.Responses[0].PartitionResponses[0].ErrorCode)
				if took != x.took || code != x.code || len(busy.asked) != x.tries {
					t.Errorf("%v, error %d after %v and %d tries: %v", x.name, code, took, len(busy.asked), busy.asked)
				}
			})
		})
	}
}
