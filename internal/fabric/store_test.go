package fabric

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// writerTest is a writer, and what it did since the last look.
type writerTest struct {
	t *testing.T
	*Writer
}

func newWriterTest(t *testing.T, o WriterOptions, has []Partition, ends []uint64) writerTest {
	o.Address, o.Reader = "W", "R"
	w := writerTest{t, NewWriter(morning, o, has, ends)}
	w.Tick(morning)
	w.does(`G  from W`)
	return w
}

func (w writerTest) does(want ...string) {
	w.t.Helper()
	out := w.Drain()
	got := showAll(out.Sends)
	for _, r := range out.Runs {
		got = append(got, fmt.Sprintf("append to %d %s/%s %d %s", r.Number, r.Subject, r.Address, r.First, r.Contents))
	}
	for _, s := range out.Skips {
		got = append(got, fmt.Sprintf("skip %s/%s %d to %d", s.Subject, s.Address, s.From, s.To))
	}
	expect(w.t, got, want...)
}

func (w writerTest) comes(at time.Duration, m *Message, from string) {
	w.Handle(after(at), m, fmt.Append(nil, m.Sequence), from)
}

// Two records were published before the store was there, a third after. It
// fetches, appends what came in one go, and acknowledges what is stored.
func TestWriter(t *testing.T) {
	w := newWriterTest(t, WriterOptions{}, nil, nil)
	w.comes(0, record(Record, "t", "P", "t", 2), "P")
	w.comes(0, record(Head, "t", "P", "t", 2), "P")
	w.does(`F P from W t 0 +100000`)
	for i := range uint64(3) {
		w.comes(0, record(DirectRecord, "W", "P", "t", i), "P")
	}
	w.comes(0, record(Record, "t", "Q", "t", 0), "Q")
	w.comes(0, record(Record, "t", "P", "t", 3), "P")
	if n, bytes := w.Pending(); n != 5 || bytes != 5 {
		t.Errorf("%d records of %d bytes are pending", n, bytes)
	}
	w.does(`append to 0 t/P 0 [0 1 2 3]`, `append to 1 t/Q 0 [0]`)
	if n, bytes := w.Pending(); n != 0 || bytes != 0 {
		t.Errorf("%d records of %d bytes are pending", n, bytes)
	}
	w.comes(0, record(Record, "t", "P", "t", 2), "P")
	w.comes(0, record(Head, "t", "P", "t", 3), "P")
	w.does() // It is on its way, but not stored.
	w.Stored(0, 4)
	w.Stored(1, 1)
	w.does(`K P t 3`, `K Q t 0`)
	w.Stored(0, 4)
	w.does()

	// Who did not hear it hears it again, once for all.
	w.comes(0, record(Head, "t", "P", "t", 3), "P")
	w.comes(0, record(Record, "t", "P", "t", 2), "P")
	w.comes(0, record(DirectRecord, "W", "P", "t", 1), "P")
	w.does(`K P t 3`)
	w.comes(0, record(DirectHead, "W", "P", "t", 3), "R2")
	w.does()
}

// A store that starts anew goes on where its logs end.
func TestWriterRestart(t *testing.T) {
	w := newWriterTest(t, WriterOptions{}, []Partition{{"t", "P"}, {"t", "Q"}}, []uint64{4, 0})
	w.comes(0, record(Head, "t", "P", "t", 3), "P")
	w.comes(0, record(Head, "t", "Q", "t", 0), "Q")
	w.does(`F Q from W t 0 +100000`, `K P t 3`)
	w.comes(0, record(Record, "t", "P", "t", 4), "P")
	w.does(`append to 0 t/P 4 [4]`)
	if w.Partitions() != 2 {
		t.Errorf("%d partitions", w.Partitions())
	}
}

// What the disk does not take is fetched again after a while; what comes in the
// meantime at the end of the log is taken.
func TestRefused(t *testing.T) {
	w := newWriterTest(t, WriterOptions{}, nil, nil)
	for i := range uint64(3) {
		w.comes(0, record(Record, "t", "P", "t", i), "P")
	}
	w.does(`append to 0 t/P 0 [0 1 2]`)
	w.comes(0, record(Record, "t", "P", "t", 3), "P")
	w.Refused(morning, 0, 1)
	w.does()
	if n, bytes := w.Pending(); n != 0 || bytes != 0 {
		t.Errorf("%d records of %d bytes are pending", n, bytes)
	}
	w.Stored(0, 1)
	w.does(`K P t 0`)
	w.comes(0, record(Record, "t", "P", "t", 4), "P")
	w.does()
	w.Tick(after(time.Second))
	w.does(`F P from W t 1 +99999`)
	w.comes(0, record(DirectRecord, "W", "P", "t", 1), "P")
	w.does(`append to 0 t/P 1 [1]`)
}

// Stores ask each other, and greet each other, but not themselves.
func TestStoresMeet(t *testing.T) {
	w := newWriterTest(t, WriterOptions{AskHeads: time.Minute}, nil, nil)
	w.comes(0, storeHello("W", "R"), "R")
	w.Subscribed([]byte("WR"))
	w.does()
	w.comes(0, storeHello("W", "R2"), "R2")
	w.does(`W R2 from W [""]`)
	w.Subscribed([]byte("WR2"))
	w.does(`W R2 from W [""]`)
	w.Tick(after(time.Minute))
	w.does(`G  from W`)

	r := NewReader(ReaderOptions{Address: "R", Writer: "W"})
	r.Subscribed([]byte("LW"))
	r.Subscribed([]byte("L"))
	r.Subscribed([]byte("WR"))
	expect(t, showAll(r.Drain()))
	r.Subscribed([]byte("LW2"))
	r.Subscribed([]byte("LC"))
	expect(t, showAll(r.Drain()), `L W2 from R`, `L C from R`)
}

// The producer's answers are not taken as long as another store may have the
// record: C's producers answer with wrong contents.
func TestStoresArePreferred(t *testing.T) {
	w := newWriterTest(t, WriterOptions{AskHeads: time.Hour}, nil, nil)
	w.comes(0, record(DirectHead, "W", "P", "t", 1), "R2")
	w.does(`F P from W t 0 +100000`)
	w.comes(0, record(DirectRecord, "W", "P", "t", 0), "P")
	w.does()
	w.comes(0, record(DirectRecord, "W", "P", "t", 0), "R2")
	w.does(`append to 0 t/P 0 [0]`)
	w.comes(0, record(DirectRecord, "W", "P", "t", 1), "P")
	w.does()
	w.Tick(after(time.Second))
	w.does() // It came further than it was a second ago.
	w.Tick(after(2 * time.Second))
	w.does(`F P from W t 1 +99999`)
	w.comes(0, record(DirectRecord, "W", "P", "t", 1), "P")
	w.does(`append to 0 t/P 1 [1]`) // No store answered.
	// No store has the next one.
	w.comes(0, record(Head, "t", "P", "t", 2), "P")
	w.comes(0, record(DirectRecord, "W", "P", "t", 2), "P")
	w.does(`F P from W t 2 +99998`, `append to 0 t/P 2 [2]`)
	// What is published live is right.
	w.comes(0, record(DirectHead, "W", "P", "t", 3), "R2")
	w.comes(0, record(Record, "t", "P", "t", 3), "P")
	w.does(`F P from W t 3 +99997`, `append to 0 t/P 3 [3]`)
}

// A store that missed what is gone everywhere begins behind it.
func TestAdopt(t *testing.T) {
	w := newWriterTest(t, WriterOptions{AskHeads: time.Hour}, nil, nil)
	w.comes(0, record(Head, "t", "P", "t", 20), "P")
	w.does(`F P from W t 0 +100000`)
	m := record(DirectHead, "W", "P", "t", 20)
	m.First = 10
	w.comes(0, m, "P") // The producer has no earlier ones; stores may.
	for w.Deadline().Before(after(30 * time.Second)) {
		now := w.Deadline()
		w.Tick(now)
		w.comes(now.Sub(morning), m, "P")
	}
	w.Drain()
	w.Tick(after(30 * time.Second))
	w.does(`F P from W t 10 +99990`, `skip t/P 0 to 10`)
	w.comes(31*time.Second, record(DirectRecord, "W", "P", "t", 10), "P")
	// The same again, with a run that is not drained yet.
	m.First, m.Sequence = 15, 30
	w.comes(31*time.Second, m, "R2")
	for w.Deadline().Before(after(61 * time.Second)) {
		now := w.Deadline()
		w.Tick(now)
		w.comes(now.Sub(morning), m, "R2")
	}
	w.Tick(after(61 * time.Second))
	w.comes(62*time.Second, record(DirectRecord, "W", "P", "t", 15), "R2")
	out := w.Writer.Drain()
	var got []string
	for i := range out.Runs {
		got = append(got, fmt.Sprint(out.Runs[i].First, " to ", out.Runs[i].End()))
	}
	expect(t, got, "10 to 11", "15 to 16")
	w.Stored(0, 11)
	w.does(`K P t 10`)
}

func TestWriterBounds(t *testing.T) {
	w := newWriterTest(t, WriterOptions{MaxPartitions: 1, AskHeads: time.Hour}, nil, nil)
	w.comes(0, record(Head, "t", "P", "t", MaxSequence), "")
	w.comes(0, record(Record, "t", "Q", "t", 0), "")
	w.does(`F P from W t 0 +100000`)
	w.comes(0, record(DirectRecord, "X", "P", "t", 0), "")
	w.comes(0, record(DirectHead, "X", "P", "t", 0), "")
	w.comes(0, storeHello("X", "S"), "")
	w.comes(0, fetch("P", "C", "t", 0, 1), "")
	w.does()
	if w.Strangers() != 1 {
		t.Errorf("%d strangers", w.Strangers())
	}
}

// readerTest is a reader over logs whose contents are their sequences.
type readerTest struct {
	t *testing.T
	*Reader
}

// does what the reader wants, some records at a time.
func (r readerTest) does(most int, want ...string) {
	r.t.Helper()
	for r.ServeHeads(most) {
	}
	got := showAll(r.Drain())
	for {
		read, ok := r.Next(most)
		if !ok {
			break
		}
		next := read.First
		for ; next < read.First+uint64(read.Count); next++ {
			got = append(got, show(&Send{Message: read.Message(next), Content: fmt.Append(nil, next)}))
		}
		r.Served(read, next)
		got = append(got, showAll(r.Drain())...)
	}
	expect(r.t, append(got, showAll(r.Drain())...), want...)
}

func TestReader(t *testing.T) {
	r := readerTest{t, NewReader(ReaderOptions{Address: "R", Writer: "W", MaxAskers: 3})}
	r.Handle(fetch("P", "C", "id", 0, 1))
	r.Holds(0, Partition{"id", "P"}, 0, 0, 5)
	r.Holds(2, Partition{"idle", "P"}, 0, 3, 5)
	r.Holds(3, Partition{"x", "Q"}, 3, 3, 5)
	r.does(1)

	// As many as were asked for, and a word if there are more.
	r.Handle(fetch("P", "C", "id", 3, 2))
	r.does(100, `D C from P id 3 "3"`, `D C from P id 4 "4"`)
	r.Handle(fetch("P", "C", "id", 1, 2))
	r.does(1, `D C from P id 1 "1"`, `D C from P id 2 "2"`, `E C from P id 4`)
	r.Handle(fetch("P", "C", "id", 4, 1<<32-1))
	r.does(100, `D C from P id 4 "4"`)
	r.Handle(fetch("P", "C", "id", 5, 1))
	r.Handle(fetch("P", "C", "id", 4, 0))
	r.Handle(fetch("P", "W", "id", 4, 1))
	r.Handle(fetch("Q", "C", "id", 4, 1))
	r.does(100)

	// What retention deleted is told; what was never here is others' business.
	r.Handle(fetch("P", "C", "idle", 0, 1))
	r.does(100, `E C from P idle 4 none before 3`)
	r.Handle(fetch("Q", "C", "x", 0, 1))
	r.does(100)

	// Askers take turns, and there is room for three.
	r.Handle(fetch("P", "C1", "id", 0, 100))
	r.Handle(fetch("P", "C2", "id", 0, 1))
	r.Handle(fetch("P", "C3", "id", 4, 1))
	r.Handle(fetch("P", "C4", "id", 4, 1))
	r.Handle(fetch("P", "C1", "id", 3, 100)) // It has asked before.
	r.does(1, `D C1 from P id 3 "3"`, `D C2 from P id 0 "0"`, `E C2 from P id 4`, `D C3 from P id 4 "4"`, `D C1 from P id 4 "4"`)

	head := func(asker string, topics ...string) {
		r.Handle(&Message{Kind: ConsumerHello, Topic: []byte("R"), Address: []byte(asker), Topics: MakeTopics(topics...)})
	}
	head("C", "id")
	r.does(1, `E C from P id 4`, `E C from P idle 4 none before 3`)
	head("C", "x", "idl")
	r.does(1, `E C from P idle 4 none before 3`, `E C from Q x 4`)
	head("C")
	head("W", "")
	r.Handle(&Message{Kind: ConsumerHello, Topic: []byte("R2"), Address: []byte("C"), Topics: MakeTopics("")})
	r.does(1)
	r.Handle(&Message{Kind: GetHeads, Address: []byte("C")})
	r.does(1, `E C from P id 4`, `E C from P idle 4 none before 3`, `E C from Q x 4`)
	for i := range 4 {
		head(fmt.Sprint("C", i), "x")
		head(fmt.Sprint("C", i), "x")
	}
	r.does(1, `E C0 from Q x 4`, `E C1 from Q x 4`, `E C2 from Q x 4`)
}

// The log changes while an answer is under way.
func TestReaderMeanwhile(t *testing.T) {
	r := readerTest{t, NewReader(ReaderOptions{Address: "R", Writer: "W"})}
	r.Holds(0, Partition{"t", "P"}, 0, 0, 5)
	r.Handle(fetch("P", "C", "t", 0, 10))
	read, _ := r.Next(2)
	if read.First != 0 || read.Count != 2 {
		t.Fatalf("read %+v", read)
	}
	r.Served(read, 2)
	r.Holds(0, Partition{"t", "P"}, 0, 4, 6) // Retention, and a new record.
	r.does(1, `E C from P t 5 none before 4`)
	r.Handle(fetch("P", "C", "t", 4, 10))
	r.does(1, `D C from P t 4 "4"`, `D C from P t 5 "5"`)

	// It asked anew while its answer was read.
	r.Handle(fetch("P", "C", "t", 5, 1))
	read, _ = r.Next(2)
	r.Handle(fetch("P", "C", "t", 4, 1))
	r.Served(read, 6)
	r.does(1, `D C from P t 4 "4"`, `E C from P t 5 none before 4`)

	// There is a gap, or the disk does not give it.
	r.Handle(fetch("P", "C", "t", 4, 1))
	read, _ = r.Next(2)
	r.Served(read, 4)
	r.does(1)
}

func TestPeers(t *testing.T) {
	p := NewPeers(morning, PeersOptions{Address: "me", MaxPeers: 2})
	does := func(want PeersEffects) {
		t.Helper()
		got := p.Drain()
		for _, list := range []*[]Peer{&got.Connect, &got.Disconnect, &got.Renamed} {
			if len(*list) == 0 {
				*list = nil
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	a, b := Peer{"a", "tcp://a:1"}, Peer{"b", "tcp://b:1"}
	p.Tick(p.Deadline())
	does(PeersEffects{Beacon: true})
	p.Handle(morning, Peer{"me", "tcp://me:1"})
	does(PeersEffects{})
	p.Handle(morning, a)
	does(PeersEffects{Beacon: true, Connect: []Peer{a}})
	p.Handle(after(time.Second), a)
	does(PeersEffects{})
	p.Handle(after(time.Second), b)
	p.Drain()
	p.Handle(after(time.Second), Peer{"c", "tcp://c:1"})
	does(PeersEffects{})
	if p.Ignored() != 1 {
		t.Errorf("ignored %d", p.Ignored())
	}
	p.Handle(after(2*time.Second), Peer{"b2", "tcp://b:1"})
	does(PeersEffects{Renamed: []Peer{{"b2", "tcp://b:1"}}, Beacon: true})
	var ticks []time.Duration
	for len(p.All()) > 0 {
		now := p.Deadline()
		p.Tick(now)
		if gone := p.Drain().Disconnect; len(gone) > 0 {
			ticks = append(ticks, now.Sub(morning))
			if len(gone) != 1 {
				t.Errorf("gone: %v", gone)
			}
		}
	}
	if d := cmp.Diff([]time.Duration{5 * time.Second, 6 * time.Second}, ticks); d != "" {
		t.Error(d)
	}
	p.Handle(after(10*time.Second), a)
	does(PeersEffects{Beacon: true, Connect: []Peer{a}})
}
