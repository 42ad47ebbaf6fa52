package fabric

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var morning = time.UnixMilli(1_700_000_000_000)

func after(d time.Duration) time.Time { return morning.Add(d) }

// show is a message in one line.
func show(s *Send) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%c %s", s.Kind, s.Topic)
	shape := s.Kind.shape()
	if shape.address {
		fmt.Fprintf(&b, " from %s", s.Address)
	}
	if shape.subject {
		fmt.Fprintf(&b, " %s", s.Subject)
	}
	if shape.sequence {
		fmt.Fprintf(&b, " %d", s.Sequence)
	}
	if shape.count {
		fmt.Fprintf(&b, " +%d", s.Count)
	}
	if s.First > 0 {
		fmt.Fprintf(&b, " none before %d", s.First)
	}
	if shape.topics {
		fmt.Fprintf(&b, " %q", names(s.Topics))
	}
	if s.Kind.HasContent() {
		fmt.Fprintf(&b, " %q", s.Content)
	}
	return b.String()
}

func showAll(sends []Send) []string {
	var lines []string
	for i := range sends {
		lines = append(lines, show(&sends[i]))
	}
	return lines
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("-want +got\n%s", cmp.Diff(want, got))
	}
}

func record(kind Kind, topic, producer, subject string, sequence uint64) *Message {
	return &Message{Kind: kind, Topic: []byte(topic), Address: []byte(producer), Subject: []byte(subject), Sequence: sequence}
}

func fetch(producer, asker, subject string, first uint64, count uint32) *Message {
	return &Message{Kind: Fetch, Topic: []byte(producer), Address: []byte(asker), Subject: []byte(subject), Sequence: first, Count: count}
}

func ack(producer, subject string, sequence uint64) *Message {
	return &Message{Kind: Ack, Topic: []byte(producer), Subject: []byte(subject), Sequence: sequence}
}

func storeHello(to, reader string) *Message {
	return &Message{Kind: StoreHello, Topic: []byte(to), Address: []byte(reader)}
}

// consumerTest is a consumer, and what it did since the last look.
type consumerTest struct {
	t *testing.T
	*Consumer
}

func newConsumerTest(t *testing.T, o ConsumerOptions) consumerTest {
	o.Address = "C"
	return consumerTest{t, NewConsumer(o)}
}

func (c consumerTest) does(want ...string) {
	c.t.Helper()
	out := c.Drain()
	got := showAll(out.Sends)
	for _, d := range out.Deliveries {
		got = append(got, fmt.Sprintf("deliver %s/%s %d %q", d.Subject, d.Address, d.Sequence, d.Content))
	}
	for _, s := range out.Skips {
		got = append(got, fmt.Sprintf("skip %s/%s %d to %d", s.Subject, s.Address, s.From, s.To))
	}
	expect(c.t, got, want...)
}

// comes lets a record come whose content is its sequence.
func (c consumerTest) comes(at time.Duration, m *Message) {
	c.Handle(after(at), m, fmt.Append(nil, m.Sequence), "")
}

// The scenarios 1 to 5 of the C project's features.
func TestConsumerFeatures(t *testing.T) {
	c := newConsumerTest(t, ConsumerOptions{Reset: Earliest})
	c.comes(0, storeHello("C", "S"))
	c.does(`W S from C []`)

	c = newConsumerTest(t, ConsumerOptions{Reset: Earliest})
	c.Subscribe(morning, "hello")
	c.does(`G hello from C`)
	c.comes(0, storeHello("C", "S"))
	c.does(`W S from C ["hello"]`)
	c.Subscribed([]byte("WS"))
	c.does(`W S from C ["hello"]`)
	c.Subscribed([]byte("LS"))
	c.Subscribed([]byte("W"))
	c.Subscribed(nil)
	c.does()

	c.comes(0, record(Record, "hello", "P", "hello", 1))
	c.does(`F P from C hello 0 +100000`)
	c.comes(0, record(Record, "hello", "P", "hello", 0))
	c.does(`deliver hello/P 0 "0"`)

	c = newConsumerTest(t, ConsumerOptions{})
	c.Subscribe(morning, "hello")
	c.does()
	c.comes(0, storeHello("C", "S"))
	c.does(`W S from C []`)
	c.comes(0, record(Record, "hello", "P", "hello", 2))
	c.does(`deliver hello/P 2 "2"`)
	c.comes(0, storeHello("C", "S"))
	c.does(`W S from C ["hello"]`) // To get the rest, should the producer die.
}

// The scenarios 6 and 7.
func TestProducerFeatures(t *testing.T) {
	p := NewProducer(morning, ProducerOptions{Address: "P", Topic: "hello", HeadInterval: 100 * time.Millisecond, TerminateUnacked: true})
	p.Tick(after(time.Hour))
	if d := p.Deadline(); !d.IsZero() {
		t.Errorf("a head is due at %v, before the first record", d)
	}
	if _, err := p.Publish(morning, []byte("one")); err != nil {
		t.Fatal(err)
	}
	expect(t, showAll(p.Drain()), `M hello from P hello 0 "one"`)
	p.Handle(fetch("P", "C", "hello", 0, 1), "C")
	if p.Serve(10) {
		t.Error("there is more to do")
	}
	expect(t, showAll(p.Drain()), `D C from P hello 0 "one"`)
	for i := range 5 {
		now := after(time.Duration(i+1) * 100 * time.Millisecond)
		if d := p.Deadline(); !d.Equal(now) {
			t.Fatalf("the next head is due at %v, want %v", d, now)
		}
		p.Tick(now.Add(-1))
		expect(t, showAll(p.Drain()))
		p.Tick(now)
		expect(t, showAll(p.Drain()), `H hello from P hello 0`)
	}
	if p.Done() {
		t.Error("done before it was terminated")
	}
	p.Terminate()
	if !p.Done() {
		t.Error("not done although it may leave records unacknowledged")
	}
	if _, err := p.Publish(morning, nil); err != ErrTerminated {
		t.Errorf("published after the end: %v", err)
	}
}

// What C's own test of the unacknowledged records does, contents looked at.
func TestUnacked(t *testing.T) {
	const million = 1_000_000
	p := NewProducer(morning, ProducerOptions{Address: "P", Topic: "t", MaxRecords: 2 * million})
	publish := func(n int) {
		t.Helper()
		for range n {
			if _, err := p.Publish(morning, fmt.Append(nil, p.Next())); err != nil {
				t.Fatal(err)
			}
			p.Drain()
		}
	}
	fetched := func(first uint64, count uint32, want uint64) {
		t.Helper()
		p.Handle(fetch("P", "C", "t", first, count), "C")
		next := first
		for more := true; more; {
			more = p.Serve(1000)
			for _, s := range p.Drain() {
				if s.Kind == DirectHead {
					continue
				}
				if s.Sequence != next || string(s.Content) != fmt.Sprint(next) || string(s.Topic) != "C" {
					t.Fatalf("got %s, want %d", show(&s), next)
				}
				next++
			}
		}
		if next-first != want {
			t.Errorf("fetch of %d from %d: got %d, want %d", count, first, next-first, want)
		}
	}
	acked := func(sequence uint64, left int) {
		t.Helper()
		p.Handle(ack("P", "t", sequence), "S")
		if n, bytes := p.Unacked(); n != left || left == 0 && bytes != 0 {
			t.Errorf("after the ACK of %d: %d records of %d bytes, want %d", sequence, n, bytes, left)
		}
	}
	publish(million)
	fetched(0, 2, 2)
	acked(100_000, million-100_001)
	fetched(100_000, 1, 0)
	fetched(100_001, 2, 2)
	fetched(million-1, 2, 1)
	fetched(million, 1, 0)
	for _, sequence := range []uint64{200_000, 304_000, 400_073, 586_321} {
		acked(sequence, million-int(sequence)-1)
		fetched(sequence+1, 300, 300)
	}
	acked(300, million-586_322)
	publish(100_000)
	acked(million+99_999, 0)
	publish(100_000)
	fetched(million+100_000, 100_000, 100_000)
	acked(10*million, 0)
	publish(1)
	fetched(million+200_000, 5, 1)
}

// Who is asked for more than there is, or for something else, stays calm.
func TestProducerFetch(t *testing.T) {
	p := NewProducer(morning, ProducerOptions{Address: "P", Topic: "t", MaxAskers: 2})
	for i := range 1000 {
		if _, err := p.Publish(morning, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	p.Drain()
	f := func(m *Message, want ...string) {
		t.Helper()
		p.Handle(m, "")
		p.Serve(1000)
		expect(t, showAll(p.Drain()), want...)
	}
	f(fetch("P", "C", "other", 0, 1))
	f(fetch("Q", "C", "t", 0, 1))
	f(fetch("P", "C", "t", 0, 0))
	f(fetch("P", "C", "t", MaxSequence, 1<<32-1))
	f(fetch("P", "C", "t", 998, 1<<32-1), `D C from P t 998 "998"`, `D C from P t 999 "999"`)
	// There is more behind what was asked for: one who asks as C does learns it.
	f(fetch("P", "C", "t", 0, 1), `D C from P t 0 "0"`, `E C from P t 999`)
	// What could not be sent is served again, also when the question was over.
	again := func(first int, want ...string) {
		t.Helper()
		p.Unserved(slices.Clone(p.Drain())[first:])
		p.Serve(1000)
		expect(t, showAll(p.Drain()), want...)
	}
	p.Handle(fetch("P", "C", "t", 998, 5), "")
	p.Serve(1000)
	again(0, `D C from P t 998 "998"`, `D C from P t 999 "999"`)
	p.Handle(fetch("P", "C", "t", 10, 3), "")
	p.Serve(2)
	again(1, `D C from P t 11 "11"`, `D C from P t 12 "12"`, `E C from P t 999`)
	p.Handle(fetch("P", "C", "t", 10, 3), "")
	p.Serve(1000)
	again(1, `D C from P t 11 "11"`, `D C from P t 12 "12"`, `E C from P t 999`)
	f(ack("P", "other", 5))
	f(ack("P", "t", 5))
	f(fetch("P", "C", "t", 5, 1), `E C from P t 999 none before 6`)

	// Three ask; there is room for two, who take turns.
	p.Handle(fetch("P", "C1", "t", 6, 600), "")
	p.Handle(fetch("P", "C2", "t", 100, 2), "")
	p.Handle(fetch("P", "C3", "t", 6, 1), "")
	var turns []string
	for p.Serve(100) {
		sends := p.Drain()
		turns = append(turns, fmt.Sprintf("%s %d", sends[0].Topic, len(sends)))
	}
	p.Drain()
	expect(t, turns, "C1 100", "C2 101", "C1 100", "C1 100", "C1 100", "C1 100")

	// What is acknowledged while it is being fetched is the stores' to answer.
	p.Handle(fetch("P", "C1", "t", 6, 600), "")
	p.Serve(10)
	p.Drain()
	p.Handle(ack("P", "t", 500), "S")
	if p.Serve(10) {
		t.Error("goes on with what it has no more")
	}
	expect(t, showAll(p.Drain()))
}

func TestBackPressure(t *testing.T) {
	p := NewProducer(morning, ProducerOptions{Address: "P", Topic: "t", MaxRecords: 3, MaxBytes: 10})
	f := func(content string, want error) {
		t.Helper()
		if _, err := p.Publish(morning, []byte(content)); err != want {
			t.Errorf("%q: %v, want %v", content, err, want)
		}
	}
	f("12345678901", ErrTooLarge)
	f("1234567890", nil)
	f("", nil)
	f("1", ErrFull)
	f("", nil)
	f("", ErrFull)
	p.Handle(ack("P", "t", 0), "S")
	f("1234567890", nil)
	f("", ErrFull)
	if p.Next() != 4 || p.First() != 1 {
		t.Errorf("keeps %d to %d", p.First(), p.Next())
	}

	p = NewProducer(morning, ProducerOptions{Address: "P", Topic: "t", MinAcks: NoAcks, MaxRecords: 3, MaxBytes: 10})
	for range 10 {
		f("1234", nil)
	}
	if n, bytes := p.Unacked(); n != 2 || bytes != 8 || p.Next() != 10 {
		t.Errorf("keeps %d records of %d bytes before %d", n, bytes, p.Next())
	}
	p.Terminate()
	if !p.Done() {
		t.Error("waits for acknowledgements that it does not need")
	}
}

// Records are kept until so many different stores have them.
func TestMinAcks(t *testing.T) {
	p := NewProducer(morning, ProducerOptions{Address: "P", Topic: "t", MinAcks: 2})
	for range 10 {
		if _, err := p.Publish(morning, nil); err != nil {
			t.Fatal(err)
		}
	}
	f := func(store string, sequence, first uint64) {
		t.Helper()
		p.Handle(ack("P", "t", sequence), store)
		if p.First() != first {
			t.Errorf("after %s's ACK of %d it keeps from %d, want %d", store, sequence, p.First(), first)
		}
	}
	f("S1", 4, 0)
	f("S1", 5, 0)
	f("S2", 2, 3)
	f("S3", 4, 5)
	f("S2", 99, 6)
	f("S2", 7, 6)
	p.Gone("S2")
	f("S4", 6, 6) // S1 has 5, S4 has 6.
	f("S2", 6, 7)
	p.Terminate()
	if p.Done() {
		t.Error("done with records that one store has")
	}
	f("S1", 9, 7)
	f("S4", 9, 10)
	if !p.Done() {
		t.Error("not done although two have everything")
	}
}

func TestResume(t *testing.T) {
	p := NewProducer(morning, ProducerOptions{Address: "P", Topic: "t", Resume: &ProducerState{First: 7, Contents: [][]byte{[]byte("7"), []byte("8")}}})
	if d := p.Deadline(); !d.Equal(morning) {
		t.Errorf("the head is due at %v", d)
	}
	p.Tick(morning)
	expect(t, showAll(p.Drain()), `H t from P t 8`)
	if n, err := p.Publish(morning, []byte("9")); n != 9 || err != nil {
		t.Errorf("published as %d, %v", n, err)
	}
	p.Handle(fetch("P", "S", "t", 7, 100), "S")
	p.Serve(100)
	expect(t, showAll(p.Drain()), `M t from P t 9 "9"`, `D S from P t 7 "7"`, `D S from P t 8 "8"`, `D S from P t 9 "9"`)

	p = NewProducer(morning, ProducerOptions{Address: "P", Topic: "t", Resume: &ProducerState{}})
	if d := p.Deadline(); !d.IsZero() {
		t.Errorf("a head is due at %v, of nothing", d)
	}
}
