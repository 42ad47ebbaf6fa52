package api

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// A fetch that waits is answered when enough came, and at its end with what
// there is. A partition that does not exist ends no wait for others.
func TestFetchWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "durability=os")
		n.topic("t", 2)
		reader, writer := n.dial(), n.dial()
		f := func(what string, q *wire.FetchRequest, put int, after time.Duration, records bool) {
			t.Helper()
			q.MaxWaitMs = 1000
			began := time.Now()
			reader.write(q, 12)
			for range put {
				time.Sleep(100 * time.Millisecond)
				ask[*wire.ProduceResponse](writer, produce("t", 0, -1, batch(t, record.BuilderOptions{}, "v")), 9)
			}
			r := decode[*wire.FetchResponse](t, reader.frame(), 12)
			if took := time.Since(began); took != after {
				t.Errorf("%s: answered after %v, want %v", what, took, after)
			}
			if got := len(r.Responses[0].Partitions[0].Records) > 0; got != records {
				t.Errorf("%s: records: %v", what, got)
			}
		}
		f("nothing comes", fetch("t", 0, 1), 0, time.Second, false)
		f("nothing comes, and one is missing", fetch("t", 0, 7), 0, time.Second, false)
		f("only what is missing", fetch("t", 7), 0, 0, false)
		f("one record", fetch("t", 0, 1), 1, 100*time.Millisecond, true)
		more := fetch("t", 0)
		more.MinBytes, more.Topics[0].Partitions[0].FetchOffset = 200, 1 // A batch takes about 70.
		f("several records", more, 3, 300*time.Millisecond, true)
	})
}

// Partitions are served in the order asked. The first that has something gives
// a whole batch, however small the limits; then only what fits (KIP-74).
func TestFetchLimits(t *testing.T) {
	n := newNode(t, "durability=os")
	n.topic("t", 3)
	c := n.dial()
	one := batch(t, record.BuilderOptions{}, "v")
	for _, index := range []int32{1, 1, 2, 2} {
		ask[*wire.ProduceResponse](c, produce("t", index, -1, batch(t, record.BuilderOptions{}, "v")), 9)
	}
	f := func(what string, all, each int32, want ...int) {
		t.Helper()
		q := fetch("t", 0, 1, 2)
		q.MaxBytes = all
		for i := range q.Topics[0].Partitions {
			q.Topics[0].Partitions[i].PartitionMaxBytes = each
		}
		for i, p := range ask[*wire.FetchResponse](c, q, 12).Responses[0].Partitions {
			if got := len(p.Records); got != want[i]*len(one) {
				t.Errorf("%s: partition %d gives %d bytes, want %d batches of %d", what, i, got, want[i], len(one))
			}
		}
	}
	size := int32(len(one))
	f("no limit", 1<<20, 1<<20, 0, 2, 2)
	f("one batch each", 1<<20, size, 0, 1, 1)
	f("less than a batch each", 1<<20, size-1, 0, 1, 0)
	f("nothing each", 1<<20, 0, 0, 1, 0)
	f("less than a batch in all", size-1, 1<<20, 0, 1, 0)
	f("three batches in all", 3*size, 1<<20, 0, 2, 1)
	f("three batches in all, nearly", 3*size-1, 1<<20, 0, 2, 0)
}
