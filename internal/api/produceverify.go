package api

import (
	"fmt"
	"slices"
	"time"

	"github.com/barnabas-log/barnabas/internal/producers"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// Versions of Produce (KIP-890): from the first on clients know
// TRANSACTION_ABORTABLE, from the second on a write adds its partition to the
// transaction; before, AddPartitionsToTxn has.
const (
	firstAbortableProduce = 11
	firstImplicitProduce  = 12
)

// verdicts are what is known of the partitions of a transactional request.
type verdicts map[model.Partition]verdict

type verdict struct {
	guard producers.Guard
	err   error
}

func (v verdicts) of(topic string, index int32) (producers.Guard, error) {
	x := v[model.Partition{Topic: topic, Index: index}]
	return x.guard, x.err
}

// unverified is a batch whose transaction its coordinator does not vouch for,
// in words that the client is shown.
type unverified struct {
	code    wire.ErrorCode
	message string
}

func (u *unverified) Error() string { return u.message }
func (u *unverified) Unwrap() error { return u.code }

// verifyPatience is how long the coordinator of a transaction, here or on
// another broker, has for its answer.
const verifyPatience = 30 * time.Second

// verify asks the coordinator of the request's transaction about partitions in
// which the transaction is not open: a batch that comes late must not begin one
// that nobody ends. It waits for the answer, because what the connection sends
// next must not overtake this request; that is once for each transaction and
// partition.
func (p *produceAnswer) verify(c *call, x *produceScratch) verdicts {
	s, out := p.session, verdicts{}
	by := supportOf(c.Version, firstAbortableProduce, firstImplicitProduce)
	var ask []model.Partition
	var asks record.Producer
	for i := range x.wanted {
		at, batch, ok := p.wantedTransactional(c, &x.wanted[i])
		if !ok {
			continue
		}
		of := record.Producer{ID: batch.ProducerID(), Epoch: batch.ProducerEpoch(), Sequence: batch.BaseSequence()}
		if len(ask) > 0 && of.ID != asks.ID {
			out[at] = verdict{err: wire.InvalidProducerIDMapping}
			continue
		}
		v := s.verification(at, of, by)
		if out[at] = v; v.err == nil && v.guard != producers.NoGuard {
			ask, asks = append(ask, at), of
		}
	}
	if len(ask) == 0 {
		return out
	}
	codes := s.addPatiently(addQuestion(*x.request.TransactionalID, int64(asks.ID), asks.Epoch, by, ask), *x.request.TransactionalID, by)
	p.call.idle = c.idle // The wait was the coordinator's.
	for i, at := range ask {
		e := codes[min(i, len(codes)-1)]
		if e != wire.None {
			out[at] = verdict{err: produceCode(e, by)}
		}
	}
	return out
}

// wantedTransactional is where a batch of the request goes, if it is
// transactional and its topic exists.
func (p *produceAnswer) wantedTransactional(c *call, w *wantedBatch) (model.Partition, record.Batch, bool) {
	image := p.session.opts.Metadata.Image()
	t := image.Topic(w.topic.Name)
	if c.Version >= produceByID {
		t = image.TopicByID(w.topic.TopicID)
	}
	if t == nil || !transactional(w.in.Records) {
		return model.Partition{}, nil, false
	}
	b := record.Batch(w.in.Records)
	return model.Partition{Topic: t.Name, Index: w.in.Index}, b, !b.IsControl()
}

func (s *session) verification(at model.Partition, of record.Producer, by support) verdict {
	replica, err := s.opts.Replicas.Partition(at)
	if err != nil {
		return verdict{err: err}
	}
	guard, err := replica.VerifyTransaction(of, by == addsByWriting, s.opts.Now())
	return verdict{guard, err}
}

// addPatiently asks, for clients whose writes add partitions, again while the
// transaction before has yet to end: such a client goes on as soon as EndTxn is
// answered, and markers are written after that. The pauses grow from a
// millisecond, in which most transactions end.
func (s *session) addPatiently(question any, id string, by support) []wire.ErrorCode {
	codes := s.askAdded(question, id, by)
	if by != addsByWriting {
		return codes
	}
	settings := &s.opts.Config.Coordinators.Txn
	until := s.opts.Now().Add(settings.AddPatience)
	for pause := time.Millisecond; slices.Contains(codes, wire.ConcurrentTransactions); pause *= 2 {
		pause = min(pause, settings.AddPause)
		if s.opts.Now().Add(pause).After(until) || !s.pause(pause) {
			break
		}
		codes = s.askAdded(question, id, by)
	}
	return codes
}

// pause waits, which is not the request's own time, and reports whether the
// connection is still there.
func (s *session) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		s.call.idle += d
		return true
	case <-s.ctx.Done():
		return false
	}
}

// askAdded asks the coordinator of a transaction, and waits.
func (s *session) askAdded(question any, id string, by support) []wire.ErrorCode {
	shard := s.txnShard(id)
	if shard < 0 {
		return []wire.ErrorCode{wire.CoordinatorNotAvailable}
	}
	began := s.opts.Now()
	defer func() { s.call.idle += s.opts.Now().Sub(began) }()
	got := make(chan []wire.ErrorCode, 1)
	err := s.opts.Transactions.Submit(shard, question, func(answer any, err error) { got <- addedCodes(answer, err, by) })
	if err != nil {
		return addedCodes(nil, err, by)
	}
	patience := time.NewTimer(verifyPatience)
	defer patience.Stop()
	select {
	case codes := <-got:
		if len(codes) == 0 {
			return []wire.ErrorCode{wire.UnknownServerError}
		}
		return codes
	case <-patience.C:
		return []wire.ErrorCode{wire.NetworkException}
	case <-s.ctx.Done():
		return []wire.ErrorCode{wire.NetworkException}
	}
}

// produceCode says a coordinator's refusal in a way that producers of all ages
// act rightly on: NOT_ENOUGH_REPLICAS is what all of them try again without
// looking for another leader.
func produceCode(e wire.ErrorCode, by support) error {
	switch e {
	case wire.InvalidTxnState:
		return &unverified{e, "Partition was not added to the transaction"}
	case wire.ConcurrentTransactions:
		if by == addsByWriting {
			return e
		}
	case wire.NetworkException, wire.CoordinatorLoadInProgress, wire.CoordinatorNotAvailable, wire.NotCoordinator:
	default:
		return e
	}
	return &unverified{
		wire.NotEnoughReplicas,
		fmt.Sprintf("Unable to verify the partition has been added to the transaction. Underlying error: %s", e),
	}
}
