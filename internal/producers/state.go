package producers

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// Refusals of [State.Check], named by Kafka's error codes.
var (
	// ErrOutOfOrderSequence is OUT_OF_ORDER_SEQUENCE_NUMBER.
	ErrOutOfOrderSequence = errors.New("producers: out of order sequence")
	// ErrInvalidEpoch is INVALID_PRODUCER_EPOCH: a newer incarnation wrote here.
	ErrInvalidEpoch = errors.New("producers: invalid producer epoch")
	// ErrInvalidTxnState is INVALID_TXN_STATE.
	ErrInvalidTxnState = errors.New("producers: invalid transaction state")
	// ErrCoordinatorFenced is TRANSACTION_COORDINATOR_FENCED.
	ErrCoordinatorFenced = errors.New("producers: transaction coordinator fenced")
)

// window is how many batches of a producer are remembered: clients keep no more
// in flight (max.in.flight.requests.per.connection with idempotence).
const window = 5

// DefaultMaxProducers bounds the producers of one partition: each costs some
// 250 bytes. Beyond it the one silent for longest is forgotten, as if its
// records had been deleted; a client that gets a new producer id for each
// record must not take the broker's memory.
const DefaultMaxProducers = 100_000

// Options of a State. The zero value is usable.
type Options struct {
	// MaxProducers; 0 means DefaultMaxProducers. Producers with an open
	// transaction are never forgotten.
	MaxProducers int
}

// Origin says who wants to append.
type Origin uint8

const (
	// Client is a Produce request: all rules hold.
	Client Origin = iota
	// Coordinator writes markers and transactional offsets: epochs are checked,
	// sequences are not.
	Coordinator
)

// CheckOptions qualify one append.
type CheckOptions struct {
	Origin Origin
	// TransactionVersion is that of a marker's coordinator: from 2 on a marker
	// carries an epoch above that of the transaction's batches (KIP-890).
	TransactionVersion int16
	// Guard is what Verify has returned for this batch. A client's batch that
	// opens a transaction needs it.
	Guard Guard
	// Unverified says that transactions are opened unasked
	// (transaction.partition.verification.enable=false).
	Unverified bool
}

// Verdict is what to do with a batch that was not refused.
type Verdict struct {
	// Duplicate says not to append, and to answer with what follows once that
	// is committed: where the batch already is, and its greatest timestamp
	// (which Kafka then answers as the append time).
	Duplicate  bool
	BaseOffset model.Offset
	LastOffset model.Offset
	Timestamp  int64
}

// written is one remembered batch.
type written struct {
	lastOffset   model.Offset
	timestamp    int64
	lastSequence int32
	offsetDelta  int32
}

func (w *written) firstSequence() int32 { return record.AddSequence(w.lastSequence, -w.offsetDelta) }

// producer is what is known of one producer id. It hangs in State's list from
// longest silent to last heard.
type producer struct {
	id               model.ProducerID
	txnFirst         model.Offset // of the open transaction, or NoOffset
	lastTimestamp    int64
	coordinatorEpoch int32 // -1 before the first marker
	epoch            int16
	count            uint8 // valid entries of batches
	batches          [window]written
	older, newer     *producer
}

func (p *producer) last() *written { return &p.batches[p.count-1] }

// lastSequence is -1 when the epoch has no batch yet.
func (p *producer) lastSequence() int32 {
	if p.count == 0 {
		return record.NoSequence
	}
	return p.last().lastSequence
}

func (p *producer) lastOffset() model.Offset {
	if p.count == 0 {
		return model.NoOffset
	}
	return p.last().lastOffset
}

func (p *producer) add(w written) {
	if p.count == window {
		copy(p.batches[:], p.batches[1:])
		p.count--
	}
	p.batches[p.count] = w
	p.count++
}

// enter begins an epoch: what was written in another is no repeat.
func (p *producer) enter(epoch int16) {
	if p.epoch != epoch {
		p.epoch, p.count = epoch, 0
	}
}

// State is the memory of one partition. The zero value is not usable: see New.
type State struct {
	max       int
	producers map[model.ProducerID]*producer
	// ends of the list: oldest is the next to be forgotten.
	oldest, newest *producer
	open           []txn // by first offset
	undecided      []txn // by first offset; marker written, commit point below it
	// Questions to coordinators, not durable: see Verify.
	verifying map[model.ProducerID]*verification
	asked     []asked
	guards    Guard // The last one.
}

// New returns a State that knows no producer.
func New(o Options) *State {
	if o.MaxProducers <= 0 {
		o.MaxProducers = DefaultMaxProducers
	}
	return &State{max: o.MaxProducers, producers: make(map[model.ProducerID]*producer)}
}

// Check says whether a batch may be appended, without changing anything. It
// reads the header; of a control batch the marker too. Batches without a
// producer always may. The partition's lock must be held from Check to Apply.
func (s *State) Check(b record.Batch, o CheckOptions) (Verdict, error) {
	id := b.ProducerID()
	if id == model.NoProducer {
		return Verdict{}, nil
	}
	p := s.producers[id]
	if b.IsControl() {
		return Verdict{}, checkMarker(p, b, o)
	}
	if p != nil && o.Origin == Client {
		if v, ok := p.find(b); ok {
			return v, nil
		}
	}
	return Verdict{}, s.checkData(p, b, o)
}

// checkData says whether a batch that is no repeat may be appended. p is its
// producer, nil if unknown.
func (s *State) checkData(p *producer, b record.Batch, o CheckOptions) error {
	if p != nil && b.ProducerEpoch() < p.epoch {
		return errStale(p, b.ProducerEpoch())
	}
	if b.IsTransactional() && (p == nil || !p.inTxn(b.ProducerEpoch())) && !s.verified(b, o) {
		return errUnverified()
	}
	if o.Origin == Client {
		if err := s.checkSequence(p, b); err != nil {
			return err
		}
	}
	if p != nil && p.txnFirst != model.NoOffset && !b.IsTransactional() {
		return fmt.Errorf("%w: expected transactional write from producer %d", ErrInvalidTxnState, p.id)
	}
	return nil
}

// CheckCoordinated says what Check would say of a coordinator's transactional
// batch of a producer.
func (s *State) CheckCoordinated(pr record.Producer, unverified bool) error {
	p := s.producers[pr.ID]
	switch {
	case p != nil && pr.Epoch < p.epoch:
		return errStale(p, pr.Epoch)
	case p != nil && p.inTxn(pr.Epoch) || unverified:
		return nil
	}
	if v := s.verifying[pr.ID]; v == nil || v.confirmed != pr.Epoch {
		return errUnverified()
	}
	return nil
}

func errUnverified() error {
	return fmt.Errorf("%w: record was not part of an ongoing transaction", ErrInvalidTxnState)
}

// inTxn reports whether a transaction of this epoch is open.
func (p *producer) inTxn(epoch int16) bool { return p.txnFirst != model.NoOffset && p.epoch == epoch }

// checkSequence also looks at who else of the same producer has asked to
// append: when a transaction begins, its batches wait for the coordinator, and
// must not overtake each other.
func (s *State) checkSequence(p *producer, b record.Batch) error {
	if v := s.verifying[b.ProducerID()]; v != nil {
		first := b.BaseSequence()
		switch {
		case v.startAtZero && first != 0 && (p == nil || p.count == 0):
			return fmt.Errorf("%w: producer %d is unknown and starts at %d, not 0", ErrOutOfOrderSequence, b.ProducerID(), first)
		case first > v.lowest:
			return fmt.Errorf("%w: producer %d at %d (incoming), %d (earliest seen)", ErrOutOfOrderSequence, b.ProducerID(), first, v.lowest)
		}
	}
	if p == nil {
		return nil
	}
	return p.checkSequence(b)
}

// find looks for a repeat: same epoch, same first and last sequence.
func (p *producer) find(b record.Batch) (Verdict, bool) {
	if b.ProducerEpoch() != p.epoch {
		return Verdict{}, false
	}
	first, last := b.BaseSequence(), b.LastSequence()
	for i := range p.batches[:p.count] {
		if w := &p.batches[i]; w.lastSequence == last && w.firstSequence() == first {
			return Verdict{Duplicate: true, BaseOffset: w.lastOffset - model.Offset(w.offsetDelta), LastOffset: w.lastOffset, Timestamp: w.timestamp}, true
		}
	}
	return Verdict{}, false
}

func (p *producer) checkSequence(b record.Batch) error {
	first := b.BaseSequence()
	if p.epoch == noEpoch {
		return nil
	}
	if b.ProducerEpoch() != p.epoch {
		if first != 0 {
			return fmt.Errorf("%w: producer %d begins epoch %d with %d, not 0 (current epoch %d)",
				ErrOutOfOrderSequence, p.id, b.ProducerEpoch(), first, p.epoch)
		}
		return nil
	}
	if last := p.lastSequence(); first != next(last) {
		return fmt.Errorf("%w: producer %d at %d (incoming), %d (current end)", ErrOutOfOrderSequence, p.id, first, last)
	}
	return nil
}

// noEpoch is the epoch of a producer of which no epoch is known: Kafka takes
// any sequence after it.
const noEpoch = -1

func next(sequence int32) int32 {
	if sequence == math.MaxInt32 {
		return 0
	}
	return sequence + 1
}

func errStale(p *producer, epoch int16) error {
	return fmt.Errorf("%w: producer %d has %d, last seen is %d", ErrInvalidEpoch, p.id, epoch, p.epoch)
}

func checkMarker(p *producer, b record.Batch, o CheckOptions) error {
	c, err := b.Control()
	if err != nil {
		return err
	}
	if p == nil {
		return nil
	}
	stale := b.ProducerEpoch() < p.epoch
	if o.TransactionVersion >= 2 && b.ProducerEpoch() == p.epoch {
		// The retry of a marker that is here already (KAFKA-19999); or there was
		// no epoch left to bump.
		stale = p.txnFirst != model.NoOffset && p.epoch != math.MaxInt16
	}
	if stale {
		return errStale(p, b.ProducerEpoch())
	}
	if c.CoordinatorEpoch < p.coordinatorEpoch {
		return fmt.Errorf("%w: producer %d, epoch %d (zombie), %d (current)", ErrCoordinatorFenced, p.id, c.CoordinatorEpoch, p.coordinatorEpoch)
	}
	return nil
}

// Apply takes in a batch that was appended, or is replayed, in the order of
// offsets. It refuses nothing: what is in the log is true. For a marker that
// ends a transaction with data it returns what became of that.
func (s *State) Apply(b record.Batch) (Completed, bool) {
	id := b.ProducerID()
	if id == model.NoProducer {
		return Completed{}, false
	}
	if b.IsControl() {
		c, err := b.Control()
		if err != nil || c.Type > record.Commit {
			return Completed{}, false // Emptied by compaction, or of a kind that is not ours.
		}
		s.settle(b)
		return s.applyMarker(b, c)
	}
	if b.IsTransactional() {
		s.settle(b)
	}
	p := s.touch(id)
	p.enter(b.ProducerEpoch())
	p.lastTimestamp = b.MaxTimestamp()
	p.add(written{lastOffset: b.LastOffset(), timestamp: b.MaxTimestamp(), lastSequence: b.LastSequence(), offsetDelta: b.LastOffsetDelta()})
	if b.IsTransactional() && p.txnFirst == model.NoOffset {
		p.txnFirst = b.BaseOffset()
		s.open = insert(s.open, txn{producer: id, first: p.txnFirst, since: p.lastTimestamp})
	}
	return Completed{}, false
}

// touch returns the producer, made if need be, as the last heard.
func (s *State) touch(id model.ProducerID) *producer {
	p := s.producers[id]
	if p == nil {
		if len(s.producers) >= s.max {
			s.forgetOne()
		}
		p = &producer{id: id, txnFirst: model.NoOffset, epoch: noEpoch, coordinatorEpoch: -1, lastTimestamp: record.NoTimestamp}
		s.producers[id] = p
	} else {
		s.unlink(p)
	}
	p.older, p.newer = s.newest, nil
	if s.newest != nil {
		s.newest.newer = p
	} else {
		s.oldest = p
	}
	s.newest = p
	return p
}

func (s *State) unlink(p *producer) {
	if p.older != nil {
		p.older.newer = p.newer
	} else {
		s.oldest = p.newer
	}
	if p.newer != nil {
		p.newer.older = p.older
	} else {
		s.newest = p.older
	}
}

func (s *State) forget(p *producer) {
	s.unlink(p)
	delete(s.producers, p.id)
}

func (s *State) forgetOne() {
	for p := s.oldest; p != nil; p = p.newer {
		if p.txnFirst == model.NoOffset {
			s.forget(p)
			return
		}
	}
}

// Expire forgets producers silent for at least after, and returns how many
// (producer.id.expiration.ms; silence counts from the greatest timestamp of the
// last batch). Those with an open transaction stay.
func (s *State) Expire(now time.Time, after time.Duration) int {
	n, limit := 0, now.UnixMilli()-after.Milliseconds()
	for p := s.oldest; p != nil; {
		newer := p.newer
		if p.txnFirst == model.NoOffset && p.lastTimestamp <= limit {
			s.forget(p)
			n++
		}
		p = newer
	}
	s.expireVerifying(limit)
	return n
}

// Len is how many producers are known.
func (s *State) Len() int { return len(s.producers) }

// Producer is what DescribeProducers tells of one.
type Producer struct {
	ID               model.ProducerID
	Epoch            int16
	LastSequence     int32
	LastTimestamp    int64
	CoordinatorEpoch int32
	// TxnFirst is the first offset of the open transaction, or NoOffset.
	TxnFirst model.Offset
	// LastOffset is that of the last record in this epoch, or NoOffset.
	LastOffset model.Offset
}

// Active lists all producers, the longest silent first.
func (s *State) Active() []Producer {
	out := make([]Producer, 0, len(s.producers))
	for p := s.oldest; p != nil; p = p.newer {
		out = append(out, Producer{
			ID: p.id, Epoch: p.epoch, LastSequence: p.lastSequence(), LastTimestamp: p.lastTimestamp,
			CoordinatorEpoch: p.coordinatorEpoch, TxnFirst: p.txnFirst, LastOffset: p.lastOffset(),
		})
	}
	return out
}
