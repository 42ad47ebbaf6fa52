package fabric

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A user gets three records in order: one from before it subscribed, one that
// makes it fetch, one live. With latest, it gets the second.
func TestConsumerAPI(t *testing.T) {
	c := newConsumerTest(t, ConsumerOptions{Reset: Earliest})
	c.Subscribe(morning, "hello")
	c.does(`G hello from C`)
	c.comes(0, record(Record, "hello", "P", "hello", 1))
	c.does(`F P from C hello 0 +100000`)
	c.comes(0, record(DirectRecord, "C", "P", "hello", 0))
	c.comes(0, record(DirectRecord, "C", "P", "hello", 1))
	c.comes(0, record(DirectRecord, "C", "P", "hello", 1)) // From a store, too.
	c.comes(0, record(Record, "hello", "P", "hello", 2))
	c.does(`deliver hello/P 0 "0"`, `deliver hello/P 1 "1"`, `deliver hello/P 2 "2"`)

	c = newConsumerTest(t, ConsumerOptions{})
	c.Subscribe(morning, "hello")
	c.comes(0, record(Record, "hello", "P", "hello", 1))
	c.does(`deliver hello/P 1 "1"`)
	c.comes(0, record(Record, "hello", "P", "hello", 0))
	c.does()
}

func TestReset(t *testing.T) {
	f := func(o ConsumerOptions, m *Message, want ...string) {
		t.Helper()
		c := newConsumerTest(t, o)
		c.Subscribe(morning, "t")
		c.Drain()
		c.comes(0, m)
		c.does(want...)
	}
	head, direct := record(Head, "t", "P", "t", 3), record(DirectHead, "C", "P", "t", 3)
	all := ConsumerOptions{Reset: Earliest}
	f(all, head, `F P from C t 0 +100000`)
	f(all, direct, `F P from C t 0 +100000`)
	f(ConsumerOptions{}, head, `F P from C t 3 +99997`)
	f(ConsumerOptions{Reset: AfterLatest}, head)
	f(ConsumerOptions{Reset: AfterLatest}, record(Record, "t", "P", "t", 3), `deliver t/P 3 "3"`)
	f(ConsumerOptions{Reset: AfterLatest}, direct)
	f(ConsumerOptions{}, direct)

	// With positions, stores are asked, but only what has a position goes on.
	at := ConsumerOptions{Positions: map[Partition]uint64{{"t", "P"}: 2}}
	f(at, head, `F P from C t 2 +99998`)
	f(at, direct, `F P from C t 2 +99998`)
	f(at, record(DirectHead, "C", "Q", "t", 3))
	f(at, record(Record, "t", "P", "t", 1))
	f(at, record(Record, "t", "P", "t", 2), `deliver t/P 2 "2"`)
	c := newConsumerTest(t, at)
	c.Subscribe(morning, "t")
	c.does(`G t from C`)
	c.comes(0, storeHello("C", "S"))
	c.does(`W S from C ["t"]`)
	if d := cmp.Diff(at.Positions, c.Positions()); d != "" {
		t.Error(d)
	}
}

// Who began with the latest and misses the end of a partition, whose producer is
// gone, hears of it from stores. A world found it (seed 3923).
func TestLatestEnd(t *testing.T) {
	c := newConsumerTest(t, ConsumerOptions{AskHeads: time.Minute})
	c.Subscribe(morning, "t")
	c.Tick(after(time.Minute))
	c.does() // It follows nothing yet.
	c.comes(0, record(Record, "t", "P", "t", 2))
	c.does(`deliver t/P 2 "2"`)
	c.Tick(after(2 * time.Minute))
	c.does(`G t from C`)
	c.comes(0, record(DirectHead, "C", "P", "t", 6))
	c.comes(0, record(DirectHead, "C", "Q", "t", 6)) // Long ago.
	c.does(`F P from C t 3 +99997`)
}

// Topics that start with a subscribed one come by the same subscription.
func TestSiblings(t *testing.T) {
	f := func(o ConsumerOptions, topic string, want ...string) {
		t.Helper()
		c := newConsumerTest(t, o)
		c.Subscribe(morning, topic)
		for _, subject := range []string{"id", "idle", "other"} {
			c.comes(0, record(Record, subject, "P", subject, 0))
		}
		c.does(want...)
		if n := len(c.Positions()); n != len(want) {
			t.Errorf("it remembers %d partitions", n)
		}
	}
	f(ConsumerOptions{}, "id", `deliver id/P 0 "0"`)
	f(ConsumerOptions{Siblings: true}, "id", `deliver id/P 0 "0"`, `deliver idle/P 0 "0"`)
	f(ConsumerOptions{}, "", `deliver id/P 0 "0"`, `deliver idle/P 0 "0"`, `deliver other/P 0 "0"`)
	f(ConsumerOptions{Siblings: true}, "", `deliver id/P 0 "0"`, `deliver idle/P 0 "0"`, `deliver other/P 0 "0"`)
}

func TestUnsubscribe(t *testing.T) {
	c := newConsumerTest(t, ConsumerOptions{Reset: Earliest})
	c.Subscribe(morning, "b")
	c.Subscribe(morning, "a")
	c.Subscribe(morning, "a")
	c.does(`G b from C`, `G a from C`)
	if d := cmp.Diff([]string{"a", "b"}, c.Subscription()); d != "" {
		t.Error(d)
	}
	c.comes(0, record(Record, "a", "P", "a", 0))
	c.comes(0, record(Record, "a", "P", "a", 2))
	c.does(`F P from C a 1 +99999`, `deliver a/P 0 "0"`)
	c.Unsubscribe("a")
	c.Unsubscribe("never")
	c.comes(0, record(Record, "a", "P", "a", 1))
	c.Tick(after(10 * time.Second))
	c.does()
	c.Subscribe(morning, "a")
	c.comes(0, record(Record, "a", "P", "a", 3))
	c.does(`G a from C`, `F P from C a 1 +99999`)
	c.Unsubscribe("a")
	c.Unsubscribe("b")
	if d := c.Deadline(); !d.IsZero() {
		t.Errorf("without topics something is due at %v", d)
	}
}

// A fetch that nobody answers is sent again, later and later; a store that has
// it brings it back to pace; what comes slowly is not asked for twice.
func TestRetry(t *testing.T) {
	c := newConsumerTest(t, ConsumerOptions{Reset: Earliest, AskHeads: time.Hour})
	c.Subscribe(morning, "t")
	c.Drain()
	c.comes(0, record(Head, "t", "P", "t", 9))
	c.does(`F P from C t 0 +100000`)
	due := func(want time.Duration) {
		t.Helper()
		d := c.Deadline()
		if got := d.Sub(morning); got != want {
			t.Fatalf("due after %v, want %v", got, want)
		}
		c.Tick(d.Add(-1))
		c.does()
		c.Tick(d)
		c.does(`F P from C t 0 +100000`)
	}
	c.comes(0, record(Head, "t", "P", "t", 9))
	c.comes(0, record(Record, "t", "P", "t", 10))
	c.does()
	for _, s := range []time.Duration{1, 3, 7, 15, 23, 31} {
		due(s * time.Second)
	}
	c.comes(31500*time.Millisecond, record(DirectHead, "C", "P", "t", 9))
	c.does()
	due(32 * time.Second)

	c.comes(33*time.Second, record(DirectRecord, "C", "P", "t", 0))
	c.does(`deliver t/P 0 "0"`)
	c.Tick(c.Deadline())
	c.does() // It has come further.
	c.Tick(c.Deadline())
	c.does(`F P from C t 1 +99999`)
	for i := range uint64(10) {
		c.comes(60*time.Second, record(DirectRecord, "C", "P", "t", i+1))
	}
	c.Drain()
	if d := c.Deadline(); !d.Equal(after(time.Hour)) {
		t.Errorf("all is here, and yet something is due at %v", d)
	}
	c.Tick(c.Deadline())
	c.does(`G t from C`)
}

// More than a chunk is missing: one fetch follows the other without a head.
func TestChunks(t *testing.T) {
	c := newConsumerTest(t, ConsumerOptions{Reset: Earliest})
	c.Subscribe(morning, "t")
	c.Drain()
	c.comes(0, record(DirectHead, "C", "P", "t", 250_000))
	c.does(`F P from C t 0 +100000`)
	for i := range uint64(250_001) {
		c.comes(0, record(DirectRecord, "C", "P", "t", i))
		out := c.Drain()
		if n := len(out.Deliveries); n != 1 {
			t.Fatalf("%d deliveries of record %d", n, i)
		}
		got := showAll(out.Sends)
		switch i {
		case 99_999:
			expect(t, got, `F P from C t 100000 +100000`)
		case 199_999:
			expect(t, got, `F P from C t 200000 +100000`)
		default:
			expect(t, got)
		}
	}
}

// Records that retention took are left out, with a word, after nobody has had
// them for a while.
func TestSkip(t *testing.T) {
	start := func(o ConsumerOptions) consumerTest {
		o.Reset = Earliest
		c := newConsumerTest(t, o)
		c.Subscribe(morning, "t")
		c.Drain()
		return c
	}
	gone := func(first, last uint64) *Message {
		m := record(DirectHead, "C", "P", "t", last)
		m.First = first
		return m
	}
	c := start(ConsumerOptions{})
	c.comes(0, gone(500, 999))
	c.does(`F P from C t 0 +100000`)
	c.comes(time.Second, gone(700, 1200)) // Another store has deleted more.
	for c.Deadline().Before(after(5 * time.Second)) {
		now := c.Deadline()
		c.Tick(now)
		c.does(`F P from C t 0 +100000`)
		c.comes(now.Sub(morning), gone(700, 1200))
	}
	c.Tick(after(5 * time.Second))
	c.does(`F P from C t 500 +99500`, `skip t/P 0 to 500`)
	c.comes(6*time.Second, record(DirectRecord, "C", "P", "t", 500))
	c.does(`deliver t/P 500 "500"`)

	// Somebody has them after all.
	c = start(ConsumerOptions{})
	c.comes(0, gone(500, 999))
	c.Drain()
	c.comes(time.Second, record(DirectRecord, "C", "P", "t", 0))
	c.does(`deliver t/P 0 "0"`)
	c.Tick(after(5 * time.Second))
	c.Tick(after(6 * time.Second))
	c.does(`F P from C t 1 +99999`)

	// It was said once, and not repeated: the one who said it may be gone.
	c = start(ConsumerOptions{})
	c.comes(0, gone(500, 999))
	for c.Deadline().Before(after(20 * time.Second)) {
		c.Tick(c.Deadline())
	}
	if n := len(c.Drain().Skips); n != 0 {
		t.Errorf("it skipped %d times", n)
	}
	c.comes(20*time.Second, gone(500, 999))
	c.Tick(c.Deadline())
	c.does(`F P from C t 500 +99500`, `skip t/P 0 to 500`)

	// A producer that does not have them any more says nothing about stores.
	c = start(ConsumerOptions{})
	c.Handle(morning, gone(500, 999), nil, "P")
	for range 10 {
		c.Tick(c.Deadline())
	}
	if n := len(c.Drain().Skips); n != 0 {
		t.Errorf("it skipped %d times", n)
	}

	// All is gone: there is nothing to fetch, but a place to go on from.
	c = start(ConsumerOptions{})
	c.comes(0, gone(1000, 999))
	c.Drain()
	for range 3 {
		now := c.Deadline()
		c.Tick(now)
		c.comes(now.Sub(morning), gone(1000, 999))
	}
	c.does(`F P from C t 0 +100000`, `F P from C t 0 +100000`, `skip t/P 0 to 1000`)
	if d := c.Deadline(); !d.Equal(after(time.Minute)) {
		t.Errorf("due at %v", d.Sub(morning))
	}
}

// There is room for so many partitions, and strangers' messages are for others.
func TestConsumerBounds(t *testing.T) {
	c := newConsumerTest(t, ConsumerOptions{Reset: Earliest, MaxPartitions: 2})
	c.Subscribe(morning, "")
	c.Drain()
	for i := range 3 {
		c.comes(0, record(Record, "t", fmt.Sprint("P", i), "t", 0))
	}
	c.does(`deliver t/P0 0 "0"`, `deliver t/P1 0 "0"`)
	if c.Strangers() != 1 {
		t.Errorf("%d strangers", c.Strangers())
	}
	c.comes(0, record(DirectRecord, "D", "P0", "t", 1))
	c.comes(0, record(DirectHead, "D", "P0", "t", 1))
	c.comes(0, storeHello("D", "S"))
	c.comes(0, fetch("P", "D", "t", 0, 1))
	c.comes(0, ack("P", "t", 1))
	c.does()
	c.comes(0, record(Head, "t", "P0", "t", MaxSequence))
	c.does(`F P0 from C t 1 +99999`)
	if d := cmp.Diff(map[Partition]uint64{{"t", "P0"}: MaxSequence}, c.Lag()); d != "" {
		t.Error(d)
	}
}
