package fabric

import (
	"math"
	"testing"
	"time"
)

// cConsumer does what C's consumer does with a partition when it begins with the
// earliest, bugs included.
type cConsumer struct {
	last     uint64             // The last that was delivered; math.MaxUint64 for none.
	asked    map[[2]uint64]bool // Chunk and second.
	received int
}

// handle takes a message and returns the FETCH that C would send, if any.
func (c *cConsumer) handle(now time.Time, m *Message) *Message {
	switch m.Kind {
	case Record, DirectRecord:
		if m.Sequence == c.last+1 {
			c.last = m.Sequence
			c.received++
			return nil
		}
		if c.last != math.MaxUint64 && m.Sequence <= c.last {
			return nil
		}
	case DirectHead, Head:
		if c.received > 0 && m.Sequence <= c.last {
			return nil
		}
	}
	first := c.last + 1
	part := first / chunkSize
	key := [2]uint64{part, uint64(now.Unix())}
	if c.asked[key] {
		return nil
	}
	c.asked[key] = true
	return fetch("P", "C", "t", first, uint32((part+1)*chunkSize-first))
}

// A consumer of C gets all records of a partition whose producer is gone, which
// C's store stops after 100,001 of. It asks only if it is told that there is more.
func TestCConsumerCatchesUp(t *testing.T) {
	const all = 250_000
	r := NewReader(ReaderOptions{Address: "R", Writer: "W"})
	r.Holds(0, Partition{"t", "P"}, 0, 0, all)
	c := &cConsumer{last: math.MaxUint64, asked: map[[2]uint64]bool{}}
	r.Handle(&Message{Kind: GetHeads, Topic: []byte("t"), Address: []byte("C")})
	give := func(sends []Send) {
		for i := range sends {
			if q := c.handle(morning, &sends[i].Message); q != nil {
				r.Handle(q)
			}
		}
	}
	r.ServeHeads(1)
	give(r.Drain())
	for read, ok := r.Next(1000); ok; read, ok = r.Next(1000) {
		for i := range uint64(read.Count) {
			m := read.Message(read.First + i)
			if q := c.handle(morning, &m); q != nil {
				r.Handle(q)
			}
		}
		r.Served(read, read.First+uint64(read.Count))
		give(r.Drain())
	}
	if c.received != all {
		t.Errorf("it got %d records of %d", c.received, all)
	}
}

// A store of C answers one record more than it is asked for, says hello twice,
// and nothing about what comes after.
func TestCStore(t *testing.T) {
	const all = 250_000
	c := NewConsumer(ConsumerOptions{Address: "C", Reset: Earliest})
	c.Subscribe(morning, "t")
	c.Drain()
	hello := storeHello("C", "S")
	c.Handle(morning, hello, nil, "S")
	c.Handle(morning, hello, nil, "S")
	expect(t, showAll(c.Drain().Sends), `W S from C ["t"]`, `W S from C ["t"]`)
	c.Handle(morning, record(DirectHead, "C", "P", "t", all-1), nil, "S")
	next, fetches := uint64(0), 0
	for asked := c.Drain().Sends; len(asked) > 0; asked = asked[1:] {
		fetches++
		q := asked[0]
		for s := q.Sequence; s <= q.Sequence+uint64(q.Count) && s < all; s++ {
			c.Handle(morning, record(DirectRecord, "C", "P", "t", s), nil, "S")
			out := c.Drain()
			for range out.Deliveries {
				next++
			}
			for _, again := range out.Sends {
				asked = append(asked[:len(asked):len(asked)], again)
			}
		}
	}
	if next != all || fetches != 3 {
		t.Errorf("%d records of %d after %d fetches", next, all, fetches)
	}
}

// A producer of C forgets to ask again, and its ACK was lost: our store repeats
// it with the next HEAD, so that it can end.
func TestCProducerEnds(t *testing.T) {
	w := newWriterTest(t, WriterOptions{}, nil, nil)
	w.comes(0, record(Record, "t", "P", "t", 0), "P")
	w.does(`append to 0 t/P 0 [0]`)
	w.Stored(0, 1)
	w.does(`K P t 0`) // Lost.
	w.comes(time.Second, record(Head, "t", "P", "t", 0), "P")
	w.does(`K P t 0`)
}

// What jdafka says is dropped, whichever message it is.
func TestJdafka(t *testing.T) {
	const id = "550e8400-e29b-41d4-a716-446655440000"
	for _, frame := range []string{
		"Mhello\x00\x05hello\x24" + id + "\x00\x00\x00\x00\x00\x00\x00\x01",
		"Hhello\x00\x05hello\x24" + id + "\x00\x00\x00\x00\x00\x00\x00\x01",
		"F" + id + "\x00\x05hello\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x86\xa0\x24" + id,
		"K" + id + "\x00\x05hello\x00\x00\x00\x00\x00\x00\x00\x00",
		"Ghello\x00\x24" + id,
		"L" + id + "\x00\x24" + id,
	} {
		var m Message
		if err := m.Parse([]byte(frame)); err != ErrVersion {
			t.Errorf("%q: %v", frame, err)
		}
	}
}
