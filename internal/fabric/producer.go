package fabric

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"time"
)

// Errors of [Producer.Publish].
var (
	// ErrFull says that too much is unacknowledged. It goes away by itself when
	// stores acknowledge.
	ErrFull = errors.New("fabric: too many records are not acknowledged")
	// ErrTooLarge says that a record would never fit.
	ErrTooLarge = errors.New("fabric: record is larger than all that may be unacknowledged")
	// ErrTerminated says that nothing may be published any more.
	ErrTerminated = errors.New("fabric: producer is terminated")
)

// NoAcks is the MinAcks of a producer that needs no store: the newest records
// are kept for those who missed them.
const NoAcks = -1

// ProducerOptions say how a [Producer] behaves. Zero values mean the defaults.
type ProducerOptions struct {
	Address string // Its own: never that of an earlier producer, unless it resumes.
	Topic   string // See [CheckName].
	// HeadInterval is how often it tells what it published last: 1 s.
	HeadInterval time.Duration
	// MinAcks is how many different stores must have a record before it is
	// forgotten: 1, as in C; or [NoAcks]. A store is told from others by its
	// writer's address. One of C takes a new one at each start, and counts twice
	// until it is noticed that the old one is gone.
	MinAcks int
	// TerminateUnacked lets it end with records that no store has.
	TerminateUnacked bool
	// MaxRecords and MaxBytes bound what is kept: a million and 256 MiB.
	MaxRecords, MaxBytes int
	// MaxAskers is how many may be fetching at a time: 1024.
	MaxAskers int
	// Resume is what was kept of an earlier life, with the same address.
	Resume *ProducerState
}

// ProducerState is what a durable producer must find again after a crash: every
// record that it ever published and that is not acknowledged.
type ProducerState struct {
	First    uint64   // The sequence of the first of Contents, and next if there is none.
	Contents [][]byte // What is unacknowledged, in order.
}

// Producer publishes records on one topic, keeps them until stores have them,
// and answers those who missed some.
//
//	           Publish: RECORD                    all acknowledged
//	empty ─────────────────────▶ unacknowledged ──────────────────▶ empty
//	  │ Terminate                    │ Terminate                      │
//	  ▼                              ▼  HEAD, answers go on           │
//	done ◀─────────────────────── ending ◀─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ┘
//
// What is to be published gathers until [Producer.Drain].
type Producer struct {
	o       ProducerOptions
	topic   []byte
	address []byte
	kept    ring
	acks    []storeAck
	headAt  time.Time
	toldAt  time.Time // Of the last HEAD, or of the first record.
	// welcomes says that somebody waits for the HEAD at headAt.
	welcomes bool
	ending   bool
	asks     questions
	sends    []Send
}

// storeAck is what a store has acknowledged.
type storeAck struct {
	store string
	end   uint64 // One past the last.
}

// maxStores is how many stores are told apart: more are not counted.
const maxStores = 256

// NewProducer returns a producer that has published nothing, or resumes.
func NewProducer(now time.Time, o ProducerOptions) *Producer {
	if o.HeadInterval <= 0 {
		o.HeadInterval = time.Second
	}
	o.MinAcks = max(orDefault(o.MinAcks, 1), NoAcks)
	o.MaxRecords = orDefault(o.MaxRecords, 1_000_000)
	o.MaxBytes = orDefault(o.MaxBytes, 256<<20)
	p := &Producer{o: o, topic: []byte(o.Topic), address: []byte(o.Address), asks: newQuestions(orDefault(o.MaxAskers, 1024))}
	if o.Resume != nil {
		p.resume(now)
	}
	return p
}

func (p *Producer) resume(now time.Time) {
	p.kept.first = p.o.Resume.First
	for _, content := range p.o.Resume.Contents {
		p.kept.push(content)
	}
	p.o.Resume = nil
	if p.kept.end() > 0 {
		p.toldAt, p.headAt = now, now
	}
}

// Publish takes a record, which is the producer's from now on, and returns its
// sequence. It fails with [ErrFull], [ErrTooLarge] or [ErrTerminated], and has
// then done nothing.
func (p *Producer) Publish(now time.Time, content []byte) (uint64, error) {
	switch {
	case p.ending:
		return 0, ErrTerminated
	case len(content) > p.o.MaxBytes:
		return 0, ErrTooLarge
	}
	for p.full(len(content)) {
		if p.o.MinAcks != NoAcks {
			return 0, ErrFull
		}
		p.kept.drop(1)
	}
	sequence := p.kept.end()
	p.kept.push(content)
	p.sends = append(p.sends, p.record(Record, p.topic, sequence))
	if sequence == 0 {
		p.toldAt, p.headAt = now, now.Add(p.o.HeadInterval)
	}
	return sequence, nil
}

func (p *Producer) full(more int) bool {
	return p.kept.len() >= p.o.MaxRecords || p.kept.bytes+more > p.o.MaxBytes && p.kept.len() > 0
}

func (p *Producer) record(kind Kind, topic []byte, sequence uint64) Send {
	return Send{
		Message: Message{Kind: kind, Topic: topic, Address: p.address, Subject: p.topic, Sequence: sequence},
		Content: p.kept.at(sequence),
	}
}

// Handle takes a message that came. from is who sent it, as far as that is
// known: the address in the beacon of the endpoint.
func (p *Producer) Handle(m *Message, from string) {
	switch {
	case string(m.Topic) != p.o.Address:
	case m.Kind == Ack && string(m.Subject) == p.o.Topic:
		p.ack(from, min(m.Sequence+1, p.kept.end()))
	case m.Kind == Fetch && string(m.Subject) == p.o.Topic:
		p.fetch(m)
	}
}

// ack notes that a store has everything before end. With one store being
// enough, it does not matter who it is.
func (p *Producer) ack(from string, end uint64) {
	if p.o.MinAcks <= 1 {
		p.release(end)
		return
	}
	at := slices.IndexFunc(p.acks, func(a storeAck) bool { return a.store == from })
	if at < 0 {
		if len(p.acks) == maxStores {
			return
		}
		at = len(p.acks)
		p.acks = append(p.acks, storeAck{store: from})
	}
	p.acks[at].end = max(p.acks[at].end, end)
	slices.SortStableFunc(p.acks, func(a, b storeAck) int { return cmp.Compare(b.end, a.end) })
	if len(p.acks) >= p.o.MinAcks {
		p.release(p.acks[p.o.MinAcks-1].end)
	}
}

func (p *Producer) release(end uint64) {
	if end > p.kept.first {
		p.kept.drop(int(end - p.kept.first))
	}
}

// Gone notes that a store left: what it acknowledged and nobody else counts no
// more, lest it comes back under another name and counts twice.
func (p *Producer) Gone(store string) {
	p.acks = slices.DeleteFunc(p.acks, func(a storeAck) bool { return a.store == store })
}

// fetch notes what somebody wants. What is acknowledged is the stores' to
// answer; that it is not here any more is told, since a store that comes when
// all others are gone can begin with what is.
func (p *Producer) fetch(m *Message) {
	switch {
	case m.Sequence < p.kept.first:
		head := p.head(DirectHead, slices.Clone(m.Address))
		head.First = p.kept.first
		p.sends = append(p.sends, head)
	case m.Sequence < p.kept.end() && m.Count > 0:
		p.asks.ask(m.Address, 0, m.Sequence, m.Sequence+uint64(m.Count))
	}
}

// Serve answers fetches with at most that many records, and reports whether
// there is more to do. Who calls it keeps the pace at which subscribers can read.
func (p *Producer) Serve(most int) bool {
	const turn = 256 // Records for one asker, then another's.
	for most > 0 {
		q := p.asks.pick()
		if q == nil {
			return false
		}
		if q.next < p.kept.first { // Stores have it by now.
			p.asks.drop(q)
			continue
		}
		end := min(q.end, p.kept.end(), q.next+uint64(min(most, turn)))
		for ; q.next < end; q.next++ {
			p.sends = append(p.sends, p.record(DirectRecord, q.asker, q.next))
			most--
		}
		p.asks.pass()
		p.answered(q)
	}
	return p.asks.pick() != nil
}

// Unserved takes back what Serve gave, and could not be sent because somebody
// reads slowly: it is served again.
func (p *Producer) Unserved(sends []Send) {
	for i := range sends {
		s := &sends[i]
		if s.Kind != DirectRecord {
			continue // A head comes again behind the records, or with time.
		}
		q := p.asks.known[asked{string(s.Topic), 0}]
		switch {
		case q == nil:
			p.asks.ask(s.Topic, 0, s.Sequence, s.Sequence+1)
		case s.Sequence < q.next:
			q.next = s.Sequence
		case s.Sequence == q.end:
			q.end++
		}
	}
}

// answered ends a question that has all its records. A consumer of C would not
// ask for the next ones unless it is told that they exist.
func (p *Producer) answered(q *question) {
	if q.next < q.end && q.next < p.kept.end() {
		return
	}
	p.asks.drop(q)
	if q.next < p.kept.end() {
		p.sends = append(p.sends, p.head(DirectHead, q.asker))
	}
}

func (p *Producer) head(kind Kind, topic []byte) Send {
	return Send{Message: Message{Kind: kind, Topic: topic, Address: p.address, Subject: p.topic, Sequence: p.kept.end() - 1}}
}

// Tick does what is due.
func (p *Producer) Tick(now time.Time) {
	if p.headAt.IsZero() || now.Before(p.headAt) {
		return
	}
	p.sends = append(p.sends, p.head(Head, p.topic))
	p.toldAt, p.headAt, p.welcomes = now, now.Add(p.o.HeadInterval), false
}

// welcomeDelay is how long after somebody subscribed to heads it is told one. By
// then the producer hears it, too: a consumer of C asks only once for what a HEAD
// tells it of.
const welcomeDelay = 100 * time.Millisecond

// Subscribed notes that somebody subscribed to this prefix at the producer's
// publisher. Who wants heads has missed what was published before, and is told
// of it soon, not with the next HEAD. Newcomers who follow each other share one.
func (p *Producer) Subscribed(now time.Time, prefix []byte) {
	if p.headAt.IsZero() || len(prefix) == 0 || Kind(prefix[0]) != Head || !bytes.HasPrefix(p.topic, prefix[1:]) {
		return
	}
	at := now.Add(min(welcomeDelay, p.o.HeadInterval))
	if at.Before(p.headAt) || !at.After(p.toldAt.Add(2*p.o.HeadInterval)) {
		p.headAt, p.welcomes = at, true
	}
}

// Welcomes reports whether newcomers wait for a HEAD.
func (p *Producer) Welcomes() bool { return p.welcomes }

// Deadline is when Tick has something to do, or zero.
func (p *Producer) Deadline() time.Time { return p.headAt }

// Drain returns what is to be published, in order. It is valid until the next
// call of anything.
func (p *Producer) Drain() []Send {
	sends := p.sends
	p.sends = p.sends[:0]
	return sends
}

// Terminate lets the producer end: nothing more can be published.
func (p *Producer) Terminate() { p.ending = true }

// Done reports whether the producer was terminated and owes nothing any more. A
// producer that needs no store owes nobody anything.
func (p *Producer) Done() bool {
	return p.ending && (p.kept.len() == 0 || p.o.TerminateUnacked || p.o.MinAcks == NoAcks)
}

// First is the first sequence that is kept, and Next if none is.
func (p *Producer) First() uint64 { return p.kept.first }

// Next is the sequence of the record that comes next.
func (p *Producer) Next() uint64 { return p.kept.end() }

// Unacked is how much is kept.
func (p *Producer) Unacked() (records, bytes int) { return p.kept.len(), p.kept.bytes }
