package fabric

import (
	"bytes"
	"slices"
)

// ReaderOptions say how a [Reader] behaves. Zero values mean the defaults.
type ReaderOptions struct {
	Address string // Its own.
	// Writer is the address of the same store's writer, which asks others only.
	Writer string
	// MaxAskers bounds how many fetches are being answered, and how many
	// questions for heads: 4096. Who asks in vain asks again.
	MaxAskers int
}

// Read is a part of the answer to a fetch: the shell reads records and publishes
// them as DIRECT-RECORDs, see [Read.Message].
type Read struct {
	Partition
	Number int
	// First is the sequence to begin with, Count how many are wanted at most.
	First uint64
	Count int

	asker   []byte
	subject []byte
	address []byte
}

// Message is the first frame of a record of the answer.
func (r *Read) Message(sequence uint64) Message {
	return Message{Kind: DirectRecord, Topic: r.asker, Address: r.address, Subject: r.subject, Sequence: sequence}
}

// Reader is the half of a store that answers: which heads there are, and records
// that others missed.
//
//	GET-HEADS, CONSUMER-HELLO ──▶ questions for heads ──ServeHeads──▶ DIRECT-HEADs
//	FETCH ──▶ questions for records ──Next──▶ Read ──Served──▶ … ──▶ DIRECT-HEAD, if there are more
//
// What is to be published gathers until [Reader.Drain].
type Reader struct {
	o     ReaderOptions
	self  []byte
	parts []held // By the writer's numbers.
	known map[Partition]int
	asks  questions
	heads []headQuestion
	// headBytes is what the topics in heads take.
	headBytes int
	sends     []Send
}

// held is what a log has: from start to end. It began with begin, and if start
// is above that, retention has deleted the rest.
type held struct {
	Partition
	subject, address  []byte
	begin, start, end uint64
}

// gone is what to tell those who want earlier records. Where nothing was
// deleted, others may have them.
func (h *held) gone() uint64 {
	if h.start > h.begin {
		return h.start
	}
	return 0
}

// headQuestion is somebody who wants the heads of all partitions whose subjects
// start with one of topics.
type headQuestion struct {
	asker  []byte
	topics Topics
	next   int // The number of the partition to look at next.
}

// maxHeadBytes bounds the topics of all questions for heads.
const maxHeadBytes = 16 << 20

// NewReader returns the reader of a store that has nothing yet.
func NewReader(o ReaderOptions) *Reader {
	o.MaxAskers = orDefault(o.MaxAskers, 4096)
	return &Reader{o: o, self: []byte(o.Address), known: map[Partition]int{}, asks: newQuestions(o.MaxAskers)}
}

// Holds tells what the log with the writer's number has: from start to end. It
// began with begin; what is between begin and start was deleted by retention.
func (r *Reader) Holds(number int, p Partition, begin, start, end uint64) {
	for len(r.parts) <= number {
		r.parts = append(r.parts, held{})
	}
	h := &r.parts[number]
	if h.Partition != p {
		*h = held{Partition: p, subject: []byte(p.Subject), address: []byte(p.Address)}
		r.known[p] = number
	}
	h.begin, h.start, h.end = begin, start, end
}

// Subscribed notes that somebody subscribed to this prefix at the reader's
// publisher. Consumers, and writers of other stores, are greeted.
func (r *Reader) Subscribed(prefix []byte) {
	if len(prefix) < 2 || len(prefix) > 1+maxName || Kind(prefix[0]) != StoreHello || string(prefix[1:]) == r.o.Writer {
		return
	}
	r.sends = append(r.sends, Send{Message: Message{Kind: StoreHello, Topic: slices.Clone(prefix[1:]), Address: r.self}})
}

// Handle takes a message that came.
func (r *Reader) Handle(m *Message) {
	if string(m.Address) == r.o.Writer {
		return
	}
	switch m.Kind {
	case Fetch:
		r.fetch(m)
	case GetHeads:
		r.askHeads(m.Address, MakeTopics(string(m.Topic)))
	case ConsumerHello:
		if string(m.Topic) == r.o.Address && len(m.Topics) > 0 {
			r.askHeads(m.Address, m.Topics)
		}
	}
}

func (r *Reader) askHeads(asker []byte, topics Topics) {
	for i := range r.heads {
		if q := &r.heads[i]; bytes.Equal(q.asker, asker) && bytes.Equal(q.topics, topics) {
			q.next = 0
			return
		}
	}
	if len(r.heads) >= r.o.MaxAskers || r.headBytes+len(topics) > maxHeadBytes {
		return
	}
	r.headBytes += len(topics)
	r.heads = append(r.heads, headQuestion{asker: slices.Clone(asker), topics: slices.Clone(topics)})
}

// fetch notes a question. C answers one record more than was asked for; we do
// not.
func (r *Reader) fetch(m *Message) {
	number, there := r.known[Partition{Subject: string(m.Subject), Address: string(m.Topic)}]
	if !there {
		return
	}
	switch h := &r.parts[number]; {
	case m.Sequence < h.start:
		if h.gone() > 0 {
			r.head(slices.Clone(m.Address), h)
		}
	case m.Sequence < h.end && m.Count > 0:
		r.asks.ask(m.Address, number, m.Sequence, m.Sequence+uint64(m.Count))
	}
}

func (r *Reader) head(asker []byte, h *held) {
	r.sends = append(r.sends, Send{Message: Message{
		Kind: DirectHead, Topic: asker, Address: h.address, Subject: h.subject, Sequence: h.end - 1, First: h.gone(),
	}})
}

// Next is what to read next, of at most that many records; nothing if nobody
// waits. Those who wait take turns. Each Read is answered with [Reader.Served]
// before the next is asked for.
func (r *Reader) Next(most int) (Read, bool) {
	for {
		q := r.asks.pick()
		if q == nil {
			return Read{}, false
		}
		h := &r.parts[q.partition]
		if q.next >= h.start && q.next < h.end {
			return Read{
				Partition: h.Partition, Number: q.partition, First: q.next, Count: int(min(uint64(most), q.end-q.next, h.end-q.next)),
				asker: q.asker, subject: h.subject, address: h.address,
			}, true
		}
		r.asks.drop(q)
		if q.next < h.start {
			r.head(q.asker, h)
		}
	}
}

// Served tells how far an answer has come: next is one past the last record that
// was published, or read.First if there was none. An asker for whom there is none
// has asked in vain: the log has a gap there, or cannot be read.
func (r *Reader) Served(read Read, next uint64) {
	q := r.asks.known[asked{string(read.asker), read.Number}]
	if q == nil || q.next != read.First {
		return // It has asked anew in the meantime.
	}
	r.asks.pass()
	q.next = next
	h := &r.parts[q.partition]
	if next > read.First && next < q.end && next < h.end {
		return
	}
	r.asks.drop(q)
	if next == q.end && next < h.end {
		r.head(q.asker, h) // C's consumers ask on only if they are told.
	}
}

// Askers is how many fetches are being answered.
func (r *Reader) Askers() int { return len(r.asks.ring) }

// Later tells that nothing of an answer could be published yet: the asker does
// not read fast enough. It keeps its place.
func (r *Reader) Later(read Read) {
	if q := r.asks.known[asked{string(read.asker), read.Number}]; q != nil && q.next == read.First {
		r.asks.pass()
	}
}

// Gap tells that the log has nothing from read.First on and before to, and never
// will. The asker is told; it may find somebody else who has.
func (r *Reader) Gap(read Read, to uint64) {
	q := r.asks.known[asked{string(read.asker), read.Number}]
	if q == nil || q.next != read.First {
		return
	}
	r.asks.pass()
	r.asks.drop(q)
	h := &r.parts[q.partition]
	r.sends = append(r.sends, Send{Message: Message{
		Kind: DirectHead, Topic: q.asker, Address: h.address, Subject: h.subject, Sequence: h.end - 1, First: to,
	}})
}

// ServeHeads answers questions for heads, for about as much work as that many
// heads are, and reports whether there is more to do.
func (r *Reader) ServeHeads(most int) bool {
	for most > 0 && len(r.heads) > 0 {
		q := &r.heads[0]
		cost := 1 + len(q.topics)/64
		for ; most > 0 && q.next < len(r.parts); q.next++ {
			if h := &r.parts[q.next]; h.end > 0 && q.wants(h.subject) {
				r.head(q.asker, h)
			}
			most -= cost
		}
		if q.next >= len(r.parts) {
			r.headBytes -= len(q.topics)
			r.heads = slices.Delete(r.heads, 0, 1)
		}
	}
	return len(r.heads) > 0
}

func (q *headQuestion) wants(subject []byte) bool {
	for topic := range q.topics.All() {
		if bytes.HasPrefix(subject, topic) {
			return true
		}
	}
	return false
}

// Drain returns what is to be published, in order. It is valid until the next
// call of anything.
func (r *Reader) Drain() []Send {
	sends := r.sends
	r.sends = r.sends[:0]
	return sends
}
