package coordinator

import (
	"errors"
	"testing"
	"time"
)

// Shards share one limit, a fifth of which is for what is known; what one holds
// is given back when it ends.
func TestMemory(t *testing.T) {
	m := NewMemory(1000)
	a, b := m.Share(), m.Share()
	a.Add(500)
	b.Add(200)
	f := func(s *Share, bytes int, known, want bool) {
		t.Helper()
		if got := s.Fits(bytes, known); got != want {
			t.Errorf("%d more, known %v: %v", bytes, known, got)
		}
	}
	f(a, 100, false, true)
	f(a, 101, false, false)
	f(b, 101, true, true)
	f(b, 300, true, true)
	f(b, 301, true, false)
	f(b, -1, false, true)
	b.Add(1000) // A log that is loaded.
	f(a, 0, false, true)
	f(a, 1, true, false)
	if m.Held() != 1700 || m.Refused() != 3 || m.Limit() != 1000 {
		t.Errorf("%d held, %d refused", m.Held(), m.Refused())
	}
	b.Release()
	b.Release()
	f(b, 300, false, true)
	if m.Held() != 500 {
		t.Errorf("%d held", m.Held())
	}
	var none *Share
	none.Add(5)
	none.Release()
	f(none, 1<<40, false, true)
	f(NewMemory(0).Share(), 1<<40, false, true)
}

// large is an input that takes memory while it waits; its machine does nothing
// with it.
type large struct{ bytes int }

func (l large) HeldBytes() int { return l.bytes }

// What waits for shards is bounded by what it takes, too, over all shards; what
// was handled, refused or lost makes room.
func TestQueuedBytesAreBounded(t *testing.T) {
	all := NewMemory(200 << 20) // A quarter may wait.
	log := &memory{}
	r := NewRuntime(Options{New: newSums, Now: time.Now, MaxBatch: 1 << 10, Memory: all})
	one, two := newShard(r, 0, 0, log), newShard(r, 1, 0, log)
	for _, s := range []*shard{one, two} {
		if err := s.load(); err != nil {
			t.Fatal(err)
		}
	}
	f := func(s *shard, in any, want error) {
		t.Helper()
		if err := s.submit(in, func(any, error) {}); !errors.Is(err, want) {
			t.Fatalf("%+v: %v, want %v", in, err, want)
		}
	}
	f(one, large{300 << 20}, nil) // One may always.
	f(two, large{1}, ErrUnavailable)
	f(two, ask{"k"}, nil)
	if err := one.turn(); err != nil {
		t.Fatal(err)
	}
	f(one, large{30 << 20}, nil)
	f(two, large{20 << 20}, nil)
	f(two, large{1 << 20}, ErrUnavailable)
	two.fail(errors.New("a full disk"))
	f(one, large{20 << 20}, nil)
	one.finish()
	if n := all.queued.Load(); n != 0 {
		t.Errorf("%d bytes are counted that wait nowhere", n)
	}
}
