package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// maxQueue bounds the inputs that wait for a shard. A shard handles some
// hundred thousand a second: one that is this far behind would answer after
// its clients have given up.
const maxQueue = 16 << 10

// reloadPause is how long a shard whose log did not take a batch leaves it in
// peace: a full disk must not make it replay the log for each request.
const reloadPause = time.Second

// shard is one partition's goroutine, machine and log.
type shard struct {
	runtime   *Runtime
	partition int32
	epoch     model.Epoch
	log       Log
	ctx       context.Context
	cancel    context.CancelFunc
	wake      chan struct{}

	mu struct {
		sync.Mutex
		state state
		queue []input
	}

	// Of the goroutine alone.
	machine Machine
	share   *Share // What the machine keeps.
	batch   *record.Builder
	built   []byte
	end     model.Offset // What the machine has seen of the log.
	tokens  Token
	owed    map[Token]Done
	parked  []parked
	weary   int          // How many of parked have waited too long, and gave their replies up.
	awaited model.Offset // Up to where a wake was ordered.
	inputs  []input      // The queue's other memory.
}

type state uint8

const (
	loading state = iota
	serving
	over
)

type input struct {
	in    any
	done  Done // Nil if no answer is wanted.
	bytes int  // What it takes while it waits.
}

// parked waits until the log is committed up to end, since some time.
type parked struct {
	end     model.Offset
	since   time.Time
	replies []Reply
	sends   []any
}

func newShard(r *Runtime, partition int32, epoch model.Epoch, log Log) *shard {
	s := &shard{
		runtime: r, partition: partition, epoch: epoch, log: log,
		wake: make(chan struct{}, 1), share: r.opts.Memory.Share(), owed: map[Token]Done{}, batch: record.NewBuilder(record.BuilderOptions{}),
	}
	s.ctx, s.cancel = context.WithCancel(r.ctx)
	return s
}

// Wake lets the goroutine look around.
func (s *shard) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *shard) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.state == over
}

func (s *shard) submit(in any, done Done) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.mu.state == over || s.ctx.Err() != nil:
		return ErrNotCoordinator
	case s.mu.state == loading:
		return ErrLoading
	case len(s.mu.queue) >= maxQueue:
		s.runtime.stats.Failed.Add(1)
		return ErrUnavailable
	}
	bytes := 0
	if sized, ok := in.(Sized); ok {
		bytes = sized.HeldBytes()
	}
	if !s.runtime.opts.Memory.enqueue(bytes) {
		s.runtime.stats.Failed.Add(1)
		return ErrUnavailable
	}
	s.mu.queue = append(s.mu.queue, input{in, done, bytes})
	s.Wake()
	return nil
}

// tell queues news. A shard that is loading learns of the world when it is
// made and when it is loaded.
func (s *shard) tell(in any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.state != over {
		s.mu.queue = append(s.mu.queue, input{in: in})
		s.Wake()
	}
}

// run is the shard's life: load, serve, and load again when the log has
// refused something.
func (s *shard) run() {
	defer s.finish()
	for {
		err := s.load()
		if err == nil {
			err = s.serve()
		}
		s.fail(err)
		if s.ctx.Err() != nil || errors.Is(err, ErrNotCoordinator) {
			return
		}
		s.runtime.opts.Log.Warn("coordinator starts anew from its log", "coordinator", s.runtime.opts.Name, "partition", s.partition, "err", err)
		select {
		case <-time.After(reloadPause):
		case <-s.ctx.Done():
			return
		}
	}
}

// finish ends the shard: what came last is refused, too.
func (s *shard) finish() {
	s.share.Release()
	s.setState(over)
	s.refuse(ErrNotCoordinator)
}

func (s *shard) setState(to state) {
	s.mu.Lock()
	s.mu.state = to
	s.mu.Unlock()
}

// load replays the log into a new machine, and waits until all of it is
// committed.
func (s *shard) load() error {
	began := s.runtime.opts.Now()
	s.share.Release()
	s.machine, s.parked, s.weary, s.awaited = s.runtime.opts.New(s.partition, s.share), nil, 0, 0
	end, err := s.log.Replay(func(b record.Batch) error {
		if err := s.ctx.Err(); err != nil {
			return ErrNotCoordinator
		}
		return s.replay(b)
	})
	if err != nil {
		return err
	}
	s.end = end
	for {
		if ok, err := s.log.Acknowledged(end, s.epoch); ok || err != nil {
			if err != nil {
				return err
			}
			break
		}
		if !s.log.AwaitCommitted(end, s.epoch, s) {
			continue
		}
		select {
		case <-s.wake:
		case <-s.ctx.Done():
			return ErrNotCoordinator
		}
	}
	now := s.runtime.opts.Now()
	s.machine.Loaded(now)
	s.runtime.stats.Loads.Add(1)
	s.runtime.stats.LoadNanos.Add(int64(now.Sub(began)))
	s.setState(serving)
	return nil
}

// replay applies a batch of the log.
func (s *shard) replay(b record.Batch) error {
	o := Origin{Timestamp: b.MaxTimestamp()}
	if b.IsTransactional() {
		o.Producer = &record.Producer{ID: b.ProducerID(), Epoch: b.ProducerEpoch(), Sequence: b.BaseSequence()}
	}
	if b.IsControl() {
		return s.replayControl(b, o)
	}
	for r, err := range b.Records(0) {
		if err != nil {
			return fmt.Errorf("coordinator: read offset %d: %w", b.BaseOffset(), err)
		}
		o.Timestamp = r.Timestamp
		if err := s.machine.Apply(o, r.Key, r.Value); err != nil {
			return err
		}
	}
	return nil
}

func (s *shard) replayControl(b record.Batch, o Origin) error {
	if b.Count() == 0 {
		return nil // Compaction left the batch, for its producer's sake.
	}
	c, err := b.Control()
	if err != nil {
		return fmt.Errorf("coordinator: read offset %d: %w", b.BaseOffset(), err)
	}
	if o.Producer == nil || c.Type != record.Commit && c.Type != record.Abort {
		return nil
	}
	o.CoordinatorEpoch = c.CoordinatorEpoch
	return s.machine.ApplyMarker(o, c.Type == record.Commit)
}

// serve handles inputs and deadlines until something is wrong.
func (s *shard) serve() error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if err := s.turn(); err != nil {
			return err
		}
		var due <-chan time.Time
		if at := s.deadline(); !at.IsZero() {
			timer.Reset(max(0, at.Sub(s.runtime.opts.Now())))
			due = timer.C
		}
		select {
		case <-s.wake:
		case <-due:
		case <-s.ctx.Done():
			return ErrNotCoordinator
		}
	}
}

// deadline is when there is something to do, or zero.
func (s *shard) deadline() time.Time {
	at := s.machine.Deadline()
	if patience := s.runtime.opts.Patience; patience > 0 && s.weary < len(s.parked) {
		if end := s.parked[s.weary].since.Add(patience); at.IsZero() || end.Before(at) {
			return end
		}
	}
	return at
}

// turn handles all that has come, appends what follows, and gives the replies
// whose time has come.
func (s *shard) turn() error {
	s.mu.Lock()
	s.inputs, s.mu.queue = s.mu.queue, s.inputs[:0]
	s.mu.Unlock()
	defer func() { clear(s.inputs) }()
	for i, in := range s.inputs {
		if err := s.handle(in); err != nil {
			for _, lost := range s.inputs[i+1:] {
				s.runtime.opts.Memory.dequeue(lost.bytes)
				s.refuseOne(lost.done, ErrUnavailable)
			}
			return err
		}
	}
	now := s.runtime.opts.Now()
	if at := s.machine.Deadline(); !at.IsZero() && !at.After(now) {
		if err := s.obey(s.machine.Handle(now, 0, nil)); err != nil {
			return err
		}
	}
	if err := s.flush(); err != nil {
		return err
	}
	if err := s.release(); err != nil {
		return err
	}
	s.giveUp(now)
	return nil
}

func (s *shard) handle(in input) error {
	s.runtime.opts.Memory.dequeue(in.bytes)
	s.runtime.stats.Inputs.Add(1)
	var to Token
	if in.done != nil {
		s.tokens++
		to = s.tokens
		s.owed[to] = in.done
	}
	return s.obey(s.machine.Handle(s.runtime.opts.Now(), to, in.in))
}

// obey applies effects, collects their records, and parks the rest.
func (s *shard) obey(e Effects) error {
	if err := s.admit(e.Batches); err != nil {
		for _, r := range e.Replies {
			if done, ok := s.owed[r.To]; ok {
				delete(s.owed, r.To)
				s.refuseOne(done, err)
			}
		}
		return nil
	}
	for _, b := range e.Batches {
		if err := s.take(b); err != nil {
			return err
		}
	}
	if len(e.Replies)+len(e.Sends) == 0 {
		return nil
	}
	// The end that these wait for is known when the batch is appended.
	if n := len(s.parked); n > 0 && s.parked[n-1].end == unknownEnd {
		p := &s.parked[n-1]
		p.replies, p.sends = append(p.replies, e.Replies...), append(p.sends, e.Sends...)
		return nil
	}
	s.parked = append(s.parked, parked{unknownEnd, s.runtime.opts.Now(), e.Replies, e.Sends})
	return nil
}

const unknownEnd = model.Offset(-1)

// admit asks the log about batches of producers before anything is applied.
func (s *shard) admit(batches []Batch) error {
	log, ok := s.log.(Admitter)
	if !ok {
		return nil
	}
	for _, b := range batches {
		if b.Producer != nil {
			if err := log.Admit(b); err != nil {
				return err
			}
		}
	}
	return nil
}

// take applies one batch and adds it to what will be appended.
func (s *shard) take(b Batch) error {
	now := s.runtime.opts.Now().UnixMilli()
	o := Origin{Timestamp: now, Producer: b.Producer}
	if b.Marker != nil {
		return s.takeMarker(b, o)
	}
	size := 0
	for _, r := range b.Records {
		size += len(r.Key) + len(r.Value) + maxRecordOverhead
	}
	// A transaction's records are a batch of their own: its producer is in the
	// header.
	if b.Producer != nil || s.batch.Size()+size > s.runtime.opts.MaxBatch {
		if err := s.flush(); err != nil {
			return err
		}
	}
	for _, r := range b.Records {
		if err := s.machine.Apply(o, r.Key, r.Value); err != nil {
			return err
		}
		if err := s.batch.Add(record.Record{Timestamp: now, Key: r.Key, Value: r.Value}); err != nil {
			return err
		}
	}
	if b.Producer == nil {
		return nil
	}
	return s.append(record.BuilderOptions{Codec: s.runtime.opts.Codec, Producer: b.Producer, Transactional: true})
}

// maxRecordOverhead is the most that a record takes beyond key and value:
// lengths, attributes, deltas, number of headers.
const maxRecordOverhead = 32

func (s *shard) takeMarker(b Batch, o Origin) error {
	if err := s.flush(); err != nil {
		return err
	}
	kind := record.Abort
	if b.Marker.Committed {
		kind = record.Commit
	}
	o.CoordinatorEpoch = b.Marker.CoordinatorEpoch
	if err := s.machine.ApplyMarker(o, b.Marker.Committed); err != nil {
		return err
	}
	return s.write(record.EndTxnMarker(b.Producer.ID, b.Producer.Epoch, b.Marker.CoordinatorEpoch, kind, o.Timestamp))
}

// flush appends the records that were collected.
func (s *shard) flush() error {
	if s.batch.Count() > 0 {
		if err := s.append(record.BuilderOptions{Codec: s.runtime.opts.Codec}); err != nil {
			return err
		}
	}
	if n := len(s.parked); n > 0 && s.parked[n-1].end == unknownEnd {
		s.parked[n-1].end = s.end
	}
	return nil
}

func (s *shard) append(o record.BuilderOptions) error {
	out, batch, err := s.batch.BuildAs(s.built[:0], o)
	if err != nil {
		return err
	}
	s.built = out
	s.runtime.stats.Records.Add(uint64(s.batch.Count()))
	s.batch.Reset(record.BuilderOptions{})
	err = s.write(batch)
	if len(out) > keptMemory { // There may be a hundred shards.
		s.built, s.batch = nil, record.NewBuilder(record.BuilderOptions{})
	}
	return err
}

// keptMemory is how much memory for batches is used again.
const keptMemory = 256 << 10

func (s *shard) write(b record.Batch) error {
	end, err := s.log.Append(s.epoch, b)
	if err != nil {
		return err
	}
	s.runtime.stats.Batches.Add(1)
	s.end = end
	return nil
}

// release gives the replies, and sends, that wait for nothing any more.
func (s *shard) release() error {
	for len(s.parked) > 0 {
		p := s.parked[0]
		ok, err := s.log.Acknowledged(p.end, s.epoch)
		if err != nil {
			return err
		}
		if !ok && p.end <= s.awaited {
			return nil // The wake is ordered.
		}
		if !ok && s.log.AwaitCommitted(p.end, s.epoch, s) {
			s.awaited = p.end
			return nil
		}
		if !ok {
			continue // Committed, or over, between the two looks.
		}
		s.parked[0] = parked{}
		s.parked, s.weary = s.parked[1:], max(0, s.weary-1)
		s.give(p)
	}
	s.parked = nil
	return nil
}

// giveUp refuses the replies that have waited too long. What they are about may
// still be committed, as in Kafka: who asks again finds it.
func (s *shard) giveUp(now time.Time) {
	patience := s.runtime.opts.Patience
	for ; patience > 0 && s.weary < len(s.parked); s.weary++ {
		p := &s.parked[s.weary]
		if now.Sub(p.since) < patience {
			return
		}
		for _, r := range p.replies {
			if done, ok := s.owed[r.To]; ok {
				delete(s.owed, r.To)
				s.refuseOne(done, ErrUnavailable)
			}
		}
		p.replies = nil
	}
}

func (s *shard) give(p parked) {
	for _, r := range p.replies {
		if done, ok := s.owed[r.To]; ok {
			delete(s.owed, r.To)
			done(r.Answer, nil)
		}
	}
	for _, send := range p.sends {
		s.runtime.opts.Send(s.partition, s.epoch, send)
	}
}

// fail tells all who wait that they wait in vain. They ask again, and find
// what the log has of what they wanted.
func (s *shard) fail(err error) {
	s.mu.Lock()
	if s.mu.state == serving {
		s.mu.state = loading
	}
	s.mu.Unlock()
	why := ErrUnavailable
	if s.ctx.Err() != nil || errors.Is(err, ErrNotCoordinator) {
		why = ErrNotCoordinator
	}
	s.refuse(why)
	s.batch.Reset(record.BuilderOptions{})
}

// refuse answers all that is owed and all that is queued.
func (s *shard) refuse(why error) {
	s.mu.Lock()
	queue := s.mu.queue
	s.mu.queue = nil
	s.mu.Unlock()
	for to, done := range s.owed {
		delete(s.owed, to)
		s.refuseOne(done, why)
	}
	for _, in := range queue {
		s.runtime.opts.Memory.dequeue(in.bytes)
		s.refuseOne(in.done, why)
	}
}

func (s *shard) refuseOne(done Done, why error) {
	if done != nil {
		s.runtime.stats.Failed.Add(1)
		done(nil, why)
	}
}
