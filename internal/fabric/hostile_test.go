package fabric

import (
	"math/rand/v2"
	"testing"
	"time"
)

// choices are bytes that decide what a stranger says.
type choices []byte

func (c *choices) of(n int) int {
	if len(*c) == 0 {
		return 0
	}
	b := (*c)[0]
	*c = (*c)[1:]
	return int(b) % n
}

func (c *choices) name() []byte {
	return []byte([]string{"P", "Q", "C", "W", "R", "X", "t", "tt", "u", "v"}[c.of(10)])
}

func (c *choices) sequence() uint64 {
	if n := c.of(14); n < 12 {
		return uint64(n)
	} else if n == 12 {
		return MaxSequence
	}
	return MaxSequence - uint64(c.of(3))
}

// message is any that can be parsed.
func (c *choices) message() *Message {
	m := &Message{
		Kind:  []Kind{Record, DirectRecord, Fetch, Ack, Head, DirectHead, GetHeads, ConsumerHello, StoreHello}[c.of(9)],
		Topic: c.name(), Address: c.name(), Subject: c.name(), Sequence: c.sequence(),
		Count: []uint32{0, 1, 5, 1<<32 - 1}[c.of(4)],
	}
	if c.of(3) == 0 {
		m.First = c.sequence() + 1
	}
	m.Topics = MakeTopics([]string{"", "t", "u"}[:c.of(4)]...)
	return m
}

// Strangers say what they like, in whatever order: machines keep their bounds,
// do not panic, and what was due is not due again at once.
func FuzzMachines(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		seed := make([]byte, 2000)
		for i := range seed {
			seed[i] = byte(rng.Uint32())
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := choices(data)
		now := morning
		p := NewProducer(now, ProducerOptions{Address: "P", Topic: "t", MaxRecords: 5, MaxBytes: 20, MaxAskers: 3, MinAcks: c.of(4) - 1})
		cons := NewConsumer(ConsumerOptions{Address: "C", Reset: Reset(c.of(3)), Siblings: c.of(2) == 0, MaxPartitions: 3, chunk: 3})
		w := NewWriter(now, WriterOptions{Address: "W", Reader: "R", MaxPartitions: 3, chunk: 3}, nil, nil)
		r := NewReader(ReaderOptions{Address: "R", Writer: "W", MaxAskers: 3})
		for len(c) > 0 {
			m, from := c.message(), string(c.name())
			p.Handle(m, from)
			cons.Handle(now, m, nil, from)
			w.Handle(now, m, nil, from)
			r.Handle(m)
			act(t, &c, &now, p, cons, w, r)
			if len(cons.known) > 3 || len(cons.heap) > 3 || len(w.parts) > 3 || len(w.heap) > 3 || len(r.asks.ring) > 3 || len(r.heads) > 3 ||
				len(p.asks.ring) > 3 || len(p.asks.known) != len(p.asks.ring) || len(r.asks.known) != len(r.asks.ring) {
				t.Fatal("a bound is broken")
			}
			if n, bytes := p.Unacked(); n > 5 || bytes > 20 {
				t.Fatalf("%d records of %d bytes are kept", n, bytes)
			}
		}
	})
}

// act lets users, disks and time do something.
func act(t *testing.T, c *choices, now *time.Time, p *Producer, cons *Consumer, w *Writer, r *Reader) {
	switch c.of(12) {
	case 0:
		_, _ = p.Publish(*now, make([]byte, c.of(8)))
	case 1:
		p.Gone(string(c.name()))
	case 2:
		cons.Subscribe(*now, string(c.name()))
	case 3:
		cons.Unsubscribe(string(c.name()))
	case 4:
		prefix := []Kind{StoreHello, ConsumerHello, Head, Fetch}[c.of(4)].Prefix(string(c.name()))
		p.Subscribed(*now, prefix)
		cons.Subscribed(prefix)
		w.Subscribed(prefix)
		r.Subscribed(prefix)
	case 5, 6:
		obey(c, *now, w, r)
	case 7:
		if n := len(r.parts); n > 0 {
			h := r.parts[c.of(n)]
			if h.end > h.start {
				r.Holds(r.known[h.Partition], h.Partition, h.begin, h.start+1, h.end)
			}
		}
	case 8:
		serve(t, c, p, r)
	case 9, 10:
		*now = now.Add(time.Duration(c.of(4000)*20) * time.Millisecond)
	}
	for range 100 {
		if d := sooner(sooner(p.Deadline(), cons.Deadline()), w.Deadline()); d.IsZero() || d.After(*now) {
			drainAll(t, p, cons, r)
			return
		}
		p.Tick(*now)
		cons.Tick(*now)
		w.Tick(*now)
	}
	t.Fatal("something is due for ever")
}

func obey(c *choices, now time.Time, w *Writer, r *Reader) {
	for _, run := range w.Drain().Runs {
		if c.of(5) == 0 {
			w.Refused(now, run.Number, run.First)
			continue
		}
		w.Stored(run.Number, run.End())
		start := run.First
		if run.Number < len(r.parts) && r.parts[run.Number].end > 0 {
			start = r.parts[run.Number].start
		}
		r.Holds(run.Number, run.Partition, 0, start, run.End())
	}
}

func serve(t *testing.T, c *choices, p *Producer, r *Reader) {
	for range 100 {
		more := p.Serve(1 + c.of(5))
		more = r.ServeHeads(1+c.of(5)) || more
		if read, ok := r.Next(1 + c.of(5)); ok {
			more = true
			if read.Count < 1 {
				t.Fatalf("read %+v", read)
			}
			r.Served(read, read.First+uint64(c.of(read.Count+1)))
		}
		if !more {
			return
		}
	}
	t.Fatal("answers have no end")
}

// drainAll empties what has gathered, which is as much as came in.
func drainAll(t *testing.T, p *Producer, cons *Consumer, r *Reader) {
	out := cons.Drain()
	if n := len(p.Drain()) + len(out.Sends) + len(r.Drain()); n > 600 {
		t.Fatalf("%d messages at once", n)
	}
}
