package fabric

import (
	"testing"
	"time"
)

// Who subscribes to heads hears of what was published before, when the producer
// has had time to hear it; those who follow each other share a HEAD.
func TestHeadForNewcomers(t *testing.T) {
	begin := time.Unix(1000, 0)
	p := NewProducer(begin, ProducerOptions{Address: "A", Topic: "letters"})
	p.Subscribed(begin, Head.Prefix("letters"))
	if p.Tick(begin); len(p.Drain()) != 0 || !p.Deadline().IsZero() || p.Welcomes() {
		t.Error("a HEAD before the first record")
	}
	if _, err := p.Publish(begin, []byte("x")); err != nil {
		t.Fatal(err)
	}
	p.Drain()
	for _, x := range []struct {
		name      string
		prefix    []byte
		at, until int // Milliseconds after the record.
	}{
		{"records are not heads", Record.Prefix("letters"), 1, 1000},
		{"another topic", Head.Prefix("letter."), 1, 1000},
		{"a longer one", Head.Prefix("letters!"), 1, 1000},
		{"nothing", nil, 1, 1000},
		{"the topic", Head.Prefix("letters"), 2, 102},
		{"another newcomer", Head.Prefix(""), 60, 160},
		{"all topics, later", Head.Prefix(""), 300, 400},
		{"just before the next", Head.Prefix("let"), 1390, 1490},
		{"again and again", Head.Prefix("let"), 1480, 1580},
	} {
		ms := func(n int) time.Time { return begin.Add(time.Duration(n) * time.Millisecond) }
		for due := p.Deadline(); !due.After(ms(x.at)); due = p.Deadline() {
			if p.Tick(due); p.Welcomes() {
				t.Errorf("%s: the HEAD before is not told", x.name)
			}
		}
		for range 100 {
			p.Subscribed(ms(x.at), x.prefix)
		}
		if p.Deadline() != ms(x.until) || p.Welcomes() != (x.until != 1000) {
			t.Errorf("%s: told at %v", x.name, p.Deadline())
		}
	}
	p.Drain()
	for at := begin.Add(1500 * time.Millisecond); len(p.Drain()) == 0; at = at.Add(10 * time.Millisecond) {
		if p.Subscribed(at, Head.Prefix("")); at.After(begin.Add(2500 * time.Millisecond)) {
			t.Fatal("newcomers keep it from telling anything")
		}
		p.Tick(at)
	}
}

// Who begins to listen to fetches has missed those of a moment ago, and gets them
// once more: not again and again, and not those for others.
func TestFetchForNewcomers(t *testing.T) {
	now := time.Unix(1000, 0)
	c := NewConsumer(ConsumerOptions{Address: "C", Reset: Earliest})
	c.Subscribe(now, "letters")
	fetches := func() (of []string) {
		for _, s := range c.Drain().Sends {
			if s.Kind == Fetch {
				of = append(of, string(s.Topic))
			}
		}
		return of
	}
	for _, address := range []string{"P1", "P2"} {
		c.Handle(now, &Message{Kind: Head, Topic: []byte("letters"), Subject: []byte("letters"), Address: []byte(address), Sequence: 4}, nil, "")
	}
	if got := fetches(); len(got) != 2 {
		t.Fatalf("fetched from %v", got)
	}
	for _, x := range []struct {
		name   string
		prefix []byte
		after  time.Duration
		want   int
	}{
		{"not to fetches", Ack.Prefix("P1"), 20 * time.Millisecond, 0},
		{"somebody else", Fetch.Prefix("P3"), 20 * time.Millisecond, 0},
		{"one of them", Fetch.Prefix("P1"), 20 * time.Millisecond, 1},
		{"the same again", Fetch.Prefix("P1"), 40 * time.Millisecond, 0},
		{"a store", Fetch.Prefix(""), 50 * time.Millisecond, 1},
		{"another store", Fetch.Prefix(""), 60 * time.Millisecond, 0},
	} {
		c.Subscribed(x.prefix)
		if c.Tick(now.Add(x.after)); len(fetches()) != x.want {
			t.Errorf("%s: not %d fetches", x.name, x.want)
		}
	}
}
