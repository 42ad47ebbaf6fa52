package coordinator

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// sums is a machine that adds numbers up by name.
type sums struct {
	total    map[string]int
	pending  map[model.ProducerID]map[string]int
	waiting  []Token // For a tick.
	deadline time.Time
	loaded   time.Time
}

type (
	add struct {
		name string
		n    int
		of   *record.Producer
	}
	ask  struct{ name string }
	wait struct{ long time.Duration }
	end  struct {
		of        record.Producer
		committed bool
	}
	shout struct{ what string }
)

func newSums(int32, *Share) Machine {
	return &sums{total: map[string]int{}, pending: map[model.ProducerID]map[string]int{}}
}

func (m *sums) Handle(now time.Time, to Token, in any) (e Effects) {
	reply := func(a any) []Reply { return []Reply{{to, a}} }
	switch in := in.(type) {
	case nil:
		for _, t := range m.waiting {
			e.Replies = append(e.Replies, Reply{t, "woken"})
		}
		m.waiting, m.deadline = nil, time.Time{}
	case add:
		e.Batches = []Batch{{Records: []Record{{[]byte(in.name), []byte(strconv.Itoa(in.n))}}, Producer: in.of}}
		e.Replies = reply(m.total[in.name] + in.n)
	case ask:
		e.Replies = reply(m.total[in.name])
	case wait:
		m.waiting, m.deadline = append(m.waiting, to), now.Add(in.long)
	case end:
		e.Batches = []Batch{{Producer: &in.of, Marker: &Marker{Committed: in.committed, CoordinatorEpoch: 3}}}
		e.Replies = reply("ended")
	case shout:
		e.Batches = []Batch{{Records: []Record{{[]byte("shouts"), []byte("1")}}}}
		e.Sends = []any{in.what}
	}
	return e
}

func (m *sums) Apply(o Origin, key, value []byte) error {
	n, err := strconv.Atoi(string(value))
	if err != nil {
		return err
	}
	if o.Producer == nil {
		m.total[string(key)] += n
		return nil
	}
	if m.pending[o.Producer.ID] == nil {
		m.pending[o.Producer.ID] = map[string]int{}
	}
	m.pending[o.Producer.ID][string(key)] += n
	return nil
}

func (m *sums) ApplyMarker(o Origin, committed bool) error {
	if o.CoordinatorEpoch != 3 {
		return fmt.Errorf("marker of epoch %d", o.CoordinatorEpoch)
	}
	if committed {
		for name, n := range m.pending[o.Producer.ID] {
			m.total[name] += n
		}
	}
	delete(m.pending, o.Producer.ID)
	return nil
}

func (m *sums) Loaded(now time.Time) { m.loaded = now }
func (m *sums) Deadline() time.Time  { return m.deadline }

// memory is a log whose commits are up to the test.
type memory struct {
	mu struct {
		sync.Mutex
		batches        []record.Batch
		end, committed model.Offset
		epoch          model.Epoch
		refuse         error
		waiters        []waiter
	}
	byHand bool
}

func (l *memory) Append(epoch model.Epoch, b record.Batch) (model.Offset, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if epoch != l.mu.epoch {
		return 0, fmt.Errorf("%w: epoch %d", ErrNotCoordinator, l.mu.epoch)
	}
	if l.mu.refuse != nil {
		return 0, l.mu.refuse
	}
	b = append(record.Batch(nil), b...)
	b.SetBaseOffset(l.mu.end)
	l.mu.batches = append(l.mu.batches, b)
	l.mu.end = b.End()
	if !l.byHand {
		l.mu.committed = l.mu.end
	}
	return l.mu.end, nil
}

func (l *memory) Acknowledged(end model.Offset, epoch model.Epoch) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if epoch != l.mu.epoch {
		return false, ErrNotCoordinator
	}
	return l.mu.committed >= end, nil
}

func (l *memory) AwaitCommitted(end model.Offset, epoch model.Epoch, w Waker) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if epoch != l.mu.epoch || l.mu.committed >= end {
		return false
	}
	l.mu.waiters = append(l.mu.waiters, waiter{end, epoch, w.Wake})
	return true
}

func (l *memory) Replay(each func(record.Batch) error) (model.Offset, error) {
	l.mu.Lock()
	batches, end := l.mu.batches, l.mu.end
	l.mu.Unlock()
	for _, b := range batches {
		if err := each(b); err != nil {
			return 0, err
		}
	}
	return end, nil
}

// waiter waits for the log to be committed up to end, or to be another's.
type waiter struct {
	end   model.Offset
	epoch model.Epoch
	wake  func()
}

// set changes what the log says, and wakes who waited for that.
func (l *memory) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	var left []waiter
	for _, w := range l.mu.waiters {
		if w.epoch == l.mu.epoch && w.end > l.mu.committed {
			left = append(left, w)
			continue
		}
		w.wake()
	}
	l.mu.waiters = left
}

func (l *memory) commit() { l.set(func() { l.mu.committed = l.mu.end }) }

// stage is a runtime over one log, in virtual time.
type stage struct {
	*Runtime
	log   *memory
	sends []any
}

// patience is more than any stage takes but the one that is about it.
const patience = time.Minute

func play(t *testing.T, byHand bool, act func(*stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{log: &memory{byHand: byHand}}
		s.Runtime = NewRuntime(Options{
			Patience: patience,
			Name:     "test", New: newSums, Now: time.Now, Log: slog.New(slog.DiscardHandler), MaxBatch: 1 << 10,
			Send: func(_ int32, _ model.Epoch, what any) { s.sends = append(s.sends, what) },
		})
		s.Lead(0, 0, s.log)
		synctest.Wait()
		act(s)
		s.Close()
	})
}

// give submits an input and returns where its answer will be.
func (s *stage) give(t *testing.T, in any) *answer {
	t.Helper()
	a := &answer{}
	if err := s.Submit(0, in, a.take); err != nil {
		a.take(nil, err)
	}
	synctest.Wait()
	return a
}

type answer struct {
	mu    sync.Mutex
	v     any
	err   error
	given int
}

func (a *answer) take(v any, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.v, a.err, a.given = v, err, a.given+1
}

func (a *answer) want(t *testing.T, v any, err error) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.given != 1 || a.v != v || !errors.Is(a.err, err) {
		t.Fatalf("answer %v, %v, given %d times; want %v, %v", a.v, a.err, a.given, v, err)
	}
}

func (a *answer) none(t *testing.T) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.given != 0 {
		t.Fatalf("answered %v, %v; nothing is committed", a.v, a.err)
	}
}

func TestRepliesWaitForCommit(t *testing.T) {
	play(t, true, func(s *stage) {
		a, b := s.give(t, add{"k", 2, nil}), s.give(t, ask{"k"})
		c := s.give(t, shout{"hear"})
		a.none(t)
		b.none(t) // It has seen what is not committed.
		if len(s.sends) > 0 {
			t.Fatal("sent before the commit")
		}
		s.log.commit()
		synctest.Wait()
		a.want(t, 2, nil)
		b.want(t, 2, nil)
		c.none(t) // It wants no answer.
		if len(s.sends) != 1 || s.sends[0] != "hear" {
			t.Fatalf("sends are %v", s.sends)
		}
		s.give(t, ask{"k"}).want(t, 2, nil) // Nothing is under way: at once.
	})
}

// TestPatience: who waits too long for a log that hangs is told so, and finds
// later that it was done; what is to be sent waits on.
func TestPatience(t *testing.T) {
	play(t, true, func(s *stage) {
		a := s.give(t, add{"k", 2, nil})
		time.Sleep(patience / 2)
		b, c := s.give(t, add{"k", 3, nil}), s.give(t, shout{"hear"})
		c.none(t)
		time.Sleep(patience/2 - time.Millisecond)
		a.none(t)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		a.want(t, nil, ErrUnavailable)
		b.none(t)
		s.log.commit()
		synctest.Wait()
		a.want(t, nil, ErrUnavailable) // Once.
		b.want(t, 5, nil)
		if len(s.sends) != 1 {
			t.Fatalf("sends are %v", s.sends)
		}
		d := s.give(t, add{"k", 1, nil})
		time.Sleep(2 * patience)
		synctest.Wait()
		d.want(t, nil, ErrUnavailable)
		s.log.commit()
		s.give(t, ask{"k"}).want(t, 6, nil)
	})
}

func TestReplayGivesTheSame(t *testing.T) {
	play(t, false, func(s *stage) {
		one := &record.Producer{ID: 1, Sequence: record.NoSequence}
		two := &record.Producer{ID: 2, Sequence: record.NoSequence}
		s.give(t, add{"a", 5, nil})
		s.give(t, add{"a", 7, one})
		s.give(t, add{"a", 100, two})
		s.give(t, end{*one, true}).want(t, "ended", nil)
		s.give(t, end{*two, false})
		s.give(t, add{"a", 1000, two}) // Open.
		s.give(t, ask{"a"}).want(t, 12, nil)
		s.log.set(func() { s.log.mu.epoch = 4 })
		s.give(t, ask{"a"}).want(t, nil, ErrNotCoordinator)
		s.Lead(0, 4, s.log)
		synctest.Wait()
		s.give(t, ask{"a"}).want(t, 12, nil)
		s.give(t, end{*two, true})
		s.give(t, ask{"a"}).want(t, 1012, nil)
	})
}

func TestOldEpochIsRefused(t *testing.T) {
	play(t, true, func(s *stage) {
		a := s.give(t, add{"a", 1, nil})
		s.log.set(func() { s.log.mu.epoch = 2 })
		synctest.Wait()
		a.want(t, nil, ErrNotCoordinator)
		s.give(t, ask{"a"}).want(t, nil, ErrNotCoordinator)
		s.Lead(0, 2, s.log)
		synctest.Wait()
		s.give(t, ask{"a"}).want(t, nil, ErrLoading) // What it found is not committed.
		s.log.commit()
		synctest.Wait()
		s.give(t, ask{"a"}).want(t, 1, nil)
		s.Resign(0)
		s.give(t, ask{"a"}).want(t, nil, ErrNotCoordinator)
	})
}

func TestRefusedAppendStartsAnew(t *testing.T) {
	play(t, false, func(s *stage) {
		s.give(t, add{"a", 1, nil})
		waiting := s.give(t, wait{time.Hour})
		s.log.set(func() { s.log.mu.refuse = errors.New("disk full") })
		s.give(t, add{"a", 1, nil}).want(t, nil, ErrUnavailable)
		waiting.want(t, nil, ErrUnavailable) // The machine that knew of it is gone.
		s.give(t, ask{"a"}).want(t, nil, ErrLoading)
		s.log.set(func() { s.log.mu.refuse = nil })
		time.Sleep(reloadPause)
		synctest.Wait()
		s.give(t, ask{"a"}).want(t, 1, nil)
	})
}

// picky is a log that refuses one producer.
type picky struct {
	*memory
	refuses model.ProducerID
}

var errPicky = errors.New("not that one")

func (l picky) Admit(b Batch) error {
	if b.Producer.ID == l.refuses {
		return errPicky
	}
	return nil
}

// Who is refused because of his producer is refused alone.
func TestRefusedProducer(t *testing.T) {
	play(t, false, func(s *stage) {
		s.Resign(0)
		s.Lead(0, 0, picky{s.log, 2})
		synctest.Wait()
		one, two := &record.Producer{ID: 1}, &record.Producer{ID: 2}
		waiting := s.give(t, wait{time.Hour})
		s.give(t, add{"a", 5, one}).want(t, 5, nil)
		s.give(t, add{"a", 100, two}).want(t, nil, errPicky)
		s.give(t, end{*two, true}).want(t, nil, errPicky)
		s.give(t, end{*one, true}).want(t, "ended", nil)
		s.give(t, ask{"a"}).want(t, 5, nil)
		waiting.none(t)
	})
}

func TestDeadline(t *testing.T) {
	play(t, false, func(s *stage) {
		a := s.give(t, wait{time.Minute})
		time.Sleep(time.Minute - time.Millisecond)
		synctest.Wait()
		a.none(t)
		time.Sleep(time.Millisecond)
		synctest.Wait()
		a.want(t, "woken", nil)
	})
}

func TestBatchesAreBoundedAndGrouped(t *testing.T) {
	r := NewRuntime(Options{New: newSums, Now: time.Now, MaxBatch: 1 << 10})
	log := &memory{}
	s := newShard(r, 0, 0, log)
	if err := s.load(); err != nil {
		t.Fatal(err)
	}
	answers := 0
	for i := range 1000 {
		if err := s.submit(add{fmt.Sprintf("name-%d", i), 1, nil}, func(any, error) { answers++ }); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.turn(); err != nil {
		t.Fatal(err)
	}
	if n := len(log.mu.batches); answers != 1000 || n < 10 || n > 100 {
		t.Fatalf("%d answers from %d batches", answers, n)
	}
	for _, b := range log.mu.batches {
		if len(b) > 1<<10+record.HeaderSize {
			t.Fatalf("a batch of %d bytes", len(b))
		}
	}
}

func TestQueueIsBounded(t *testing.T) {
	r := NewRuntime(Options{Now: time.Now})
	s := newShard(r, 0, 0, nil)
	s.mu.state = serving // And nobody serves.
	for range maxQueue {
		if err := s.submit(ask{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.submit(ask{}, nil); err != ErrUnavailable {
		t.Fatalf("the queue took one more: %v", err)
	}
}

func TestCloseAnswersAll(t *testing.T) {
	play(t, true, func(s *stage) {
		a, b := s.give(t, add{"a", 1, nil}), s.give(t, wait{time.Hour})
		s.Close()
		a.want(t, nil, ErrNotCoordinator)
		b.want(t, nil, ErrNotCoordinator)
		s.Lead(0, 9, s.log)
		if err := s.Submit(0, ask{"a"}, nil); err != ErrNotCoordinator {
			t.Fatal(err)
		}
	})
}
