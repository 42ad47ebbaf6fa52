package fabric

import (
	"testing"
	"time"
)

// Who subscribes to heads hears of what was published before at once; many who
// do so at a time share a HEAD.
func TestHeadForNewcomers(t *testing.T) {
	now := time.Unix(1000, 0)
	p := NewProducer(now, ProducerOptions{Address: "A", Topic: "letters"})
	heads := func() (n int) {
		for _, s := range p.Drain() {
			if s.Kind == Head && s.Sequence == 0 {
				n++
			}
		}
		return n
	}
	p.Subscribed(now, Head.Prefix("letters"))
	if p.Tick(now); heads() != 0 || !p.Deadline().IsZero() {
		t.Error("a HEAD before the first record")
	}
	if _, err := p.Publish(now, []byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		name   string
		prefix []byte
		after  time.Duration // Since the record.
		want   int
	}{
		{"records are not heads", Record.Prefix("letters"), time.Millisecond, 0},
		{"another topic", Head.Prefix("letter."), time.Millisecond, 0},
		{"a longer one", Head.Prefix("letters!"), time.Millisecond, 0},
		{"nothing", nil, time.Millisecond, 0},
		{"the topic", Head.Prefix("letters"), 2 * time.Millisecond, 1},
		{"too soon after", Head.Prefix(""), 3 * time.Millisecond, 0},
		{"all topics, later", Head.Prefix(""), 12 * time.Millisecond, 1},
		{"a sibling's start", Head.Prefix("let"), 50 * time.Millisecond, 1},
	} {
		at := now.Add(x.after)
		for range 100 {
			p.Subscribed(at, x.prefix)
		}
		if p.Tick(at); heads() != x.want {
			t.Errorf("%s: not %d heads", x.name, x.want)
		}
	}
	if p.Deadline() != now.Add(50*time.Millisecond+time.Second) {
		t.Errorf("the next is due at %v", p.Deadline())
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
