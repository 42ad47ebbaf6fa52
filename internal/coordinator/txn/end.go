package txn

import (
	"math"
	"time"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// endTxn commits or aborts, once that is in the log: the markers are written
// after the answer, and the next transaction waits for them.
func (m *Machine) endTxn(now time.Time, q *wire.EndTxnRequest, version int16) wire.Response {
	r := wire.NewEndTxnResponse()
	r.ProducerID, r.ProducerEpoch = int64(model.NoProducer), noEpoch
	e := m.ids[q.TransactionalID]
	switch {
	case q.TransactionalID == "":
		r.ErrorCode = int16(wire.InvalidRequest)
	case e == nil:
		r.ErrorCode = int16(wire.InvalidProducerIDMapping)
	case version < endBumps:
		r.ErrorCode = fencedAs(m.endV1(now, e, q), version, 2)
	default:
		who, code := m.endV2(now, e, q)
		r.ProducerID, r.ProducerEpoch, r.ErrorCode = int64(who.id), who.epoch, int16(code)
	}
	return r
}

// endBumps is the first EndTxn of clients that learn a new epoch from its
// answer (KIP-890 part 2).
const endBumps = 5

// endV1 ends a transaction whose producer keeps its epoch. A repeat can not be
// told from a second request, and succeeds.
func (m *Machine) endV1(now time.Time, e *entry, q *wire.EndTxnRequest) wire.ErrorCode {
	switch {
	case int64(e.producer) != q.ProducerID:
		return wire.InvalidProducerIDMapping
	case e.epoch != q.ProducerEpoch:
		return wire.ProducerFenced
	case e.status == ongoing:
		m.end(now, e, q.Committed, 0, e.started)
		return wire.None
	case e.status == empty || e.status.commits() != q.Committed:
		return wire.InvalidTxnState
	case e.status.prepared():
		return wire.ConcurrentTransactions
	}
	return wire.None
}

// commits says which way a transaction ends, or has ended.
func (s status) commits() bool { return s == prepareCommit || s == completeCommit }

// endV2 ends a transaction and bumps the epoch with it, so that nothing that
// comes late can be taken for part of the next. A repeat is known by its epoch,
// which is one behind; but not behind an end of version 1, which bumps nothing:
// who asks is a zombie then, and must not be told the epoch of who came after.
// Aborting where nothing was begun bumps the epoch, too: the producer may not
// know what has reached the brokers.
func (m *Machine) endV2(now time.Time, e *entry, q *wire.EndTxnRequest) (identity, wire.ErrorCode) {
	rotated := int64(e.previous) == q.ProducerID && q.ProducerEpoch == exhausted && e.epoch == 0
	repeat := e.status.ended() && e.version >= epochTwo && (int(e.epoch) == int(q.ProducerEpoch)+1 || rotated && !e.status.prepared())
	started := now.UnixMilli()
	switch {
	case int64(e.producer) != q.ProducerID && !rotated:
		return nobody, wire.InvalidProducerIDMapping
	case !repeat && (e.epoch != q.ProducerEpoch || e.status.prepared()):
		return nobody, wire.ProducerFenced
	case repeat && e.status.commits() != q.Committed:
		return nobody, wire.InvalidTxnState
	case repeat && e.status.prepared():
		return nobody, wire.ConcurrentTransactions
	case repeat:
		return identity{e.producer, e.epoch}, wire.None
	case e.status == ongoing:
		started = e.started
	case q.Committed:
		return nobody, wire.InvalidTxnState
	}
	who, ok := m.end(now, e, q.Committed, epochTwo, started)
	if !ok {
		return nobody, wire.CoordinatorLoadInProgress
	}
	return who, wire.None
}

// ended says that a transaction was decided, and maybe completed.
func (s status) ended() bool { return s != empty && s != ongoing }

// end decides about a transaction, and returns who goes on after it. From
// transaction version 2 on the epoch is bumped, and where epochs are used up
// another producer id takes over; it reports false if there is none.
func (m *Machine) end(now time.Time, e *entry, commit bool, version int16, started int64) (identity, bool) {
	t := e.transaction
	t.status, t.previous, t.next, t.version = prepareAbort, e.producer, model.NoProducer, version
	t.started, t.updated = started, now.UnixMilli()
	if commit {
		t.status = prepareCommit
	}
	if version >= epochTwo {
		if e.epoch >= exhausted {
			id, ok := m.take(now)
			if !ok {
				return nobody, false
			}
			t.next = id
		}
		if e.epoch < math.MaxInt16 {
			t.epoch++
		}
		e.lastEpoch = e.epoch
	}
	m.write(e.id, &t)
	m.mark(now, e, t)
	done := completed(now, t)
	return identity{done.producer, done.epoch}, true
}

// complete ends a transaction whose markers are written.
func (m *Machine) complete(now time.Time, id string, t transaction) {
	t = completed(now, t)
	m.write(id, &t)
}

// completed is what a prepared transaction becomes.
func completed(now time.Time, t transaction) transaction {
	t.previous = t.producer
	if t.version >= epochTwo && t.next != model.NoProducer {
		t.producer, t.epoch = t.next, 0
	}
	t.status += completeCommit - prepareCommit
	t.next, t.topics, t.updated = model.NoProducer, nil, now.UnixMilli()
	return t
}
