package txn

import (
	"math"
	"time"

	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/internal/leap"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// Machine is the coordinator of the transactional ids of one shard.
type Machine struct {
	opts    Options
	version int16 // Finalised transaction.version.

	// Hard: what Apply has made of the log.
	ids   map[string]*entry
	bytes int // What ids take.

	// Soft: see soft.go.
	wall     leap.Clock
	open     map[string]*entry // Those that are ongoing.
	resend   []string          // Those whose markers must be sent again after a load.
	attempts uint64            // The last attempt.
	abortAt  time.Time         // When to look for what has timed out.
	expireAt time.Time         // When to look for what has expired.
	soon     time.Time         // When there is something left to do, or zero.
	fresh    ProducerIDs       // Not given to anybody yet.
	askedAt  time.Time         // When more were asked for, or zero.

	// What Handle returns, and its memory.
	out     coordinator.Effects
	records []coordinator.Record
	memory  []byte
	// Memory of Apply and write.
	reader         wire.Reader
	value, written wire.TransactionLogRecordValue
}

// entry is one transactional id: what the log says, and what a failover may
// lose.
type entry struct {
	id string
	transaction
	// lastEpoch is the one before the last bump that the producer asked for, or
	// noEpoch: a repeated request names it.
	lastEpoch int16
	// most is what topics have taken at most, or may: it stays counted, so that
	// who could have a transaction can have another.
	most int
	// begun is when the transaction became ongoing, as wall runs: its timeout is
	// about time that passed, not about what a clock is set to.
	begun time.Duration
	// sent are the partitions that attempt was told of, sorted, while the status
	// is a prepared one; missing of them have not been reported, and has has a
	// bit for each that was.
	attempt uint64
	sent    []model.Partition
	has     []uint64
	missing int
}

var _ coordinator.Machine = (*Machine)(nil)

// New returns a machine that knows no transactional id.
func New(o Options) *Machine {
	if o.MaxBatch <= 0 {
		o.MaxBatch = math.MaxInt32
	}
	return &Machine{opts: o, version: o.TransactionVersion, ids: map[string]*entry{}, open: map[string]*entry{}}
}

// Handle implements [coordinator.Machine]. The batches it returns are the
// machine's again with the next call.
func (m *Machine) Handle(now time.Time, to coordinator.Token, in any) coordinator.Effects {
	m.wall.Look(now)
	m.out = coordinator.Effects{Batches: m.out.Batches[:0]}
	m.records, m.memory = m.records[:0], m.memory[:0]
	if cap(m.memory) > keptMemory {
		m.records, m.memory = nil, nil
	}
	var answer any
	switch in := in.(type) {
	case nil:
		m.look(now)
	case Request:
		answer = m.answer(now, &in)
	case MarkersWritten:
		m.marked(now, &in)
	case ProducerIDs:
		m.supply(in)
	case News:
		m.opts.Settings, m.version = in.Settings, in.TransactionVersion
	}
	if to != 0 {
		m.out.Replies = []coordinator.Reply{{To: to, Answer: answer}}
	}
	return m.out
}

// keptMemory is how much memory for records is used again.
const keptMemory = 256 << 10

func (m *Machine) answer(now time.Time, q *Request) any {
	switch body := q.Body.(type) {
	case *wire.InitProducerIDRequest:
		return m.initProducerID(now, body, q.Version)
	case *wire.AddPartitionsToTxnRequest:
		return m.addPartitions(now, body, q.Version)
	case *wire.AddOffsetsToTxnRequest:
		return m.addOffsets(now, body, q)
	case *wire.EndTxnRequest:
		return m.endTxn(now, body, q.Version)
	case *wire.DescribeTransactionsRequest:
		return m.describe(body)
	case *wire.ListTransactionsRequest:
		return m.list(now, body)
	}
	return wire.UnknownServerError
}

// fencedAs is how clients of old versions learn that they are fenced: those
// before first know only of an invalid epoch (KIP-588).
func fencedAs(code wire.ErrorCode, version, first int16) int16 {
	if code == wire.ProducerFenced && version < first {
		code = wire.InvalidProducerEpoch
	}
	return int16(code)
}
