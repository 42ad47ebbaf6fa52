package txn

import (
	"math"
	"time"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// identity is a producer id with an epoch.
type identity struct {
	id    model.ProducerID
	epoch int16
}

// nobody stands for no producer.
var nobody = identity{model.NoProducer, noEpoch}

// initProducerID gives a transactional id to a producer, and takes it from the
// one that had it before.
func (m *Machine) initProducerID(now time.Time, q *wire.InitProducerIDRequest, version int16) wire.Response {
	r := wire.NewInitProducerIDResponse()
	got, code := m.initialise(now, q)
	r.ProducerID, r.ProducerEpoch, r.ErrorCode = int64(got.id), got.epoch, fencedAs(code, version, 4)
	return r
}

func (m *Machine) initialise(now time.Time, q *wire.InitProducerIDRequest) (identity, wire.ErrorCode) {
	was := identity{model.ProducerID(q.ProducerID), q.ProducerEpoch}
	timeout, code := m.checkInit(q)
	if code != wire.None {
		return nobody, code
	}
	e := m.ids[*q.TransactionalID]
	switch {
	case e == nil:
		return m.create(now, *q.TransactionalID, timeout)
	case e.status.prepared() && was != nobody && was == e.successor():
		return nobody, wire.ConcurrentTransactions
	case was != nobody && !e.knew(was):
		return nobody, wire.ProducerFenced
	case e.status.prepared():
		return nobody, wire.ConcurrentTransactions
	case e.status == ongoing:
		// The producer that comes back finds the transaction aborted, and its
		// epoch bumped once more: the one given here is never told to anybody.
		if !m.fence(now, e) {
			return nobody, wire.CoordinatorLoadInProgress
		}
		return nobody, wire.ConcurrentTransactions
	}
	return m.renew(now, e, timeout, was)
}

// checkInit looks at a request alone, and returns the timeout.
func (m *Machine) checkInit(q *wire.InitProducerIDRequest) (timeout int32, code wire.ErrorCode) {
	limit := m.opts.Settings.MaxTimeout.Milliseconds()
	switch {
	case (q.ProducerID == int64(model.NoProducer)) != (q.ProducerEpoch == noEpoch): // One without the other.
		return 0, wire.InvalidRequest
	case q.TransactionalID == nil || *q.TransactionalID == "":
		return 0, wire.InvalidRequest
	case q.Enable2Pc && !m.opts.Settings.TwoPhase:
		return 0, wire.TransactionalIDAuthorizationFailed
	case q.KeepPreparedTxn:
		return 0, wire.UnsupportedVersion // Kafka 4.4 has the field, and nothing behind it.
	case q.Enable2Pc:
		return forever, wire.None
	case q.TransactionTimeoutMs <= 0 || int64(q.TransactionTimeoutMs) > limit:
		return 0, wire.InvalidTransactionTimeout
	}
	return q.TransactionTimeoutMs, wire.None
}

// create begins a transactional id.
func (m *Machine) create(now time.Time, id string, timeout int32) (identity, wire.ErrorCode) {
	switch {
	case !m.fits(id, nil):
		return nobody, wire.UnknownServerError
	case !m.opts.Memory.Fits(entryBytes+usualBytes+len(id), false):
		return nobody, wire.PolicyViolation
	}
	producer, ok := m.take(now)
	if !ok {
		return nobody, wire.CoordinatorLoadInProgress
	}
	t := transaction{producer: producer, previous: producer, next: model.NoProducer, started: noTime, updated: now.UnixMilli(), timeout: timeout}
	m.write(id, &t)
	return identity{producer, 0}, wire.None
}

// knew reports whether a producer may speak of this transactional id: it has
// it, or had it until its epochs were used up. The epoch is looked at later.
func (e *entry) knew(p identity) bool {
	return p.id == e.producer || p.id == e.previous && p.epoch >= exhausted
}

// successor is who goes on after a prepared transaction, where that is another
// producer id: it has been told already, and may come before the markers are
// written.
func (e *entry) successor() identity {
	if e.next == model.NoProducer {
		return nobody
	}
	return identity{e.next, 0}
}

// renew gives an idle transactional id a new epoch, or a new producer id when
// the epochs are used up. A producer that says who it is keeps its place if it
// repeats the request (KIP-360).
func (m *Machine) renew(now time.Time, e *entry, timeout int32, was identity) (identity, wire.ErrorCode) {
	t := e.transaction
	t.status, t.topics, t.previous, t.started, t.updated, t.timeout = empty, nil, e.producer, noTime, now.UnixMilli(), timeout
	last := int16(noEpoch)
	if was != nobody {
		last = e.epoch
	}
	switch {
	case was != nobody && was.epoch != e.epoch:
		if was.epoch != e.lastEpoch {
			return nobody, wire.ProducerFenced
		}
		last = e.lastEpoch // The answer was lost.
	case e.epoch >= exhausted:
		id, ok := m.take(now)
		if !ok {
			return nobody, wire.CoordinatorLoadInProgress
		}
		t.producer, t.epoch = id, 0
	default:
		t.epoch++
	}
	e.lastEpoch = last
	m.write(e.id, &t)
	return identity{t.producer, t.epoch}, wire.None
}

// fence aborts an ongoing transaction with an epoch that its producer does not
// have. It reports false if that needs a producer id and there is none.
func (m *Machine) fence(now time.Time, e *entry) bool {
	if m.version >= epochTwo {
		_, ok := m.end(now, e, false, epochTwo, e.started)
		return ok
	}
	t := e.transaction
	if t.epoch < math.MaxInt16 {
		t.epoch++
	}
	t.status, t.previous, t.next, t.version, t.updated = prepareAbort, e.producer, model.NoProducer, 0, now.UnixMilli()
	e.lastEpoch = noEpoch
	m.write(e.id, &t)
	m.mark(now, e, t)
	return true
}
