package fabric

import (
	"bytes"
	"testing"
)

const batch = 1000

// benchContent is a record of 100 bytes.
func benchContent() []byte { return bytes.Repeat([]byte("x"), 100) }

// benchRecords calls f with the records of a partition, one after the other.
func benchRecords(b *testing.B, kind Kind, topic string, f func(m *Message, content []byte, last bool)) {
	content := benchContent()
	frame := Append(nil, record(kind, topic, producerID, "letters", 0))
	var m Message
	b.ReportAllocs()
	b.SetBytes(int64(len(content)))
	for i := uint64(0); b.Loop(); i++ {
		if err := m.Parse(frame); err != nil {
			b.Fatal(err)
		}
		m.Sequence = i
		f(&m, content, i%batch == batch-1)
	}
}

// A record is published, encoded, and acknowledged with a thousand others.
func BenchmarkProducer(b *testing.B) {
	p := NewProducer(morning, ProducerOptions{Address: producerID, Topic: "letters"})
	content := benchContent()
	acked := ack(producerID, "letters", 0)
	var frame []byte
	b.ReportAllocs()
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		sequence, err := p.Publish(morning, content)
		if err != nil {
			b.Fatal(err)
		}
		if sequence%batch != batch-1 {
			continue
		}
		sends := p.Drain()
		for i := range sends {
			frame = Append(frame[:0], &sends[i].Message)
		}
		acked.Sequence = sequence
		p.Handle(acked, "S")
	}
}

// A record comes and is delivered.
func BenchmarkConsumer(b *testing.B) {
	c := NewConsumer(ConsumerOptions{Address: consumerID, Reset: Earliest})
	c.Subscribe(morning, "letters")
	benchRecords(b, Record, "letters", func(m *Message, content []byte, last bool) {
		c.Handle(morning, m, content, "")
		if last {
			c.Drain()
		}
	})
	if lag := c.Lag(); len(lag) > 0 {
		b.Fatal(lag)
	}
}

// A record comes while others are being caught up with, from many partitions by
// turns.
func BenchmarkConsumerCatchUp(b *testing.B) {
	c := NewConsumer(ConsumerOptions{Address: consumerID, Reset: Earliest})
	c.Subscribe(morning, "letters")
	const partitions = 16
	var addresses [partitions][]byte
	for i := range addresses {
		addresses[i] = []byte(producerID[:31] + string(rune('A'+i)))
		m := record(DirectHead, consumerID, string(addresses[i]), "letters", 1<<40)
		c.Handle(morning, m, nil, "")
	}
	n := uint64(0)
	benchRecords(b, DirectRecord, consumerID, func(m *Message, content []byte, last bool) {
		m.Address, m.Sequence = addresses[n%partitions], n/partitions
		n++
		c.Handle(morning, m, content, "")
		if last {
			c.Drain()
		}
	})
}

// A record comes, is stored with a thousand others, and acknowledged.
func BenchmarkWriter(b *testing.B) {
	w := NewWriter(morning, WriterOptions{Address: "W", Reader: "R"}, nil, nil)
	benchRecords(b, Record, "letters", func(m *Message, content []byte, last bool) {
		w.Handle(morning, m, content, "")
		if !last {
			return
		}
		out := w.Drain()
		for i := range out.Runs {
			w.Stored(out.Runs[i].Number, out.Runs[i].End())
		}
	})
	if w.parts[0].stored == 0 && b.N > batch {
		b.Fatal("nothing is stored")
	}
}

// A record is answered: its first frame is made.
func BenchmarkReader(b *testing.B) {
	r := NewReader(ReaderOptions{Address: "R", Writer: "W"})
	r.Holds(0, Partition{"letters", producerID}, 0, 0, 1<<60)
	r.Handle(fetch(producerID, consumerID, "letters", 0, 1<<32-1))
	var frame []byte
	read, _ := r.Next(batch)
	next := read.First
	b.ReportAllocs()
	for b.Loop() {
		m := read.Message(next)
		frame = Append(frame[:0], &m)
		if next++; next == read.First+uint64(read.Count) {
			r.Served(read, next)
			r.Handle(fetch(producerID, consumerID, "letters", next, 1<<32-1))
			read, _ = r.Next(batch)
		}
	}
}
