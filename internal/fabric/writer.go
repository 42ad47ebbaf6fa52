package fabric

import (
	"slices"
	"time"
)

// WriterOptions say how a [Writer] behaves. Zero values mean the defaults.
type WriterOptions struct {
	// Address is its own. A store that keeps it over restarts is not taken for
	// two by producers that want several acknowledgements.
	Address string
	// Reader is the address of the same store's reader.
	Reader string
	// Retry is how long a fetch may take until it is sent again, 1 s; then twice
	// as long, and so on up to MaxRetry, 8 s.
	Retry, MaxRetry time.Duration
	// Patience is how long it waits for somebody to have records that others say
	// are gone, 30 s, until it begins behind them: longer than a store's restart.
	Patience time.Duration
	// AskHeads is how often other stores are asked what they have: 60 s.
	AskHeads time.Duration
	// MaxPartitions bounds how many there may be: 262,144. Further ones are
	// dropped and counted.
	MaxPartitions int

	chunk int // For tests; 0 is C's.
}

// Run is consecutive records to append to the log of a partition.
type Run struct {
	Partition
	// Number is the writer's for the partition: from 0, never used again.
	Number int
	// First is the sequence of the first. It is above the end of the log where
	// records in between are gone for good.
	First uint64
	// Contents are parts of what was given to Handle.
	Contents [][]byte
}

// End is one past the last sequence.
func (r *Run) End() uint64 { return r.First + uint64(len(r.Contents)) }

// WriterEffects is what a writer wants done, each list in order. The runs are to
// be appended, and synced if that is what stored means; then [Writer.Stored] is
// called for each.
type WriterEffects struct {
	Sends []Send
	Runs  []Run
	Skips []Skip
}

// Work is what a writer wants done, copied so that the machine can go on while
// that is done. Its memory is used again.
type Work struct {
	Sends    []Send
	Runs     []Run
	contents [][]byte
}

// Take copies the effects.
func (w *Work) Take(e WriterEffects) {
	w.Sends = append(w.Sends[:0], e.Sends...)
	w.Runs, w.contents = w.Runs[:0], w.contents[:0]
	for _, r := range e.Runs {
		begin := len(w.contents)
		w.contents = append(w.contents, r.Contents...)
		r.Contents = w.contents[begin:len(w.contents):len(w.contents)]
		w.Runs = append(w.Runs, r)
	}
}

// Forget lets go of messages and contents.
func (w *Work) Forget() {
	clear(w.Sends)
	clear(w.Runs)
	clear(w.contents)
}

// Writer is the half of a store that gathers records: from producers as they
// publish, and from whoever has them what it missed.
//
//	            the record at next            the log has it
//	(missing) ─────────────────────▶ in a Run ───────────────▶ stored: ACK
//	    │  ▲                             │                        │  ▲ HEAD or RECORD
//	    └──┘ FETCH                       └─ Refused ─▶ (missing)  └──┘ of what is stored
//
// What it wants done gathers until [Writer.Drain].
type Writer struct {
	o WriterOptions
	fetcher
	parts []*written // By number.
	known map[Partition]*written
	last  *written // The one of the last message.
	askAt time.Time
	owed  []*written // Those to acknowledge.
	runs  []Run      // Beyond its length: memory for more.
	skips []Skip
	// What runs have.
	records, bytes int
	strangers      uint64
}

// written is a partition of a writer. cursor.next is one past the last record
// that is in the log or in a run.
type written struct {
	cursor
	number int
	stored uint64 // One past the last that the log has.
	owed   bool   // It is in Writer.owed.
	run    int    // Its open run in Writer.runs, or -1.
	// elsewhere is one past the last that another store has, as far as is known.
	elsewhere uint64
	// trusts says that answers of the producer are taken: no store answered.
	trusts bool
}

// NewWriter returns the writer of a store that has these partitions, up to these
// ends. They get the numbers from 0 in this order.
func NewWriter(now time.Time, o WriterOptions, has []Partition, ends []uint64) *Writer {
	o.AskHeads = orSpan(o.AskHeads, time.Minute)
	o.MaxPartitions = orDefault(o.MaxPartitions, 1<<18)
	w := &Writer{o: o, known: map[Partition]*written{}, askAt: now}
	w.fetcher = newFetcher(o.Address, o.Retry, o.MaxRetry, orSpan(o.Patience, 30*time.Second), o.chunk)
	for i, p := range has {
		w.add(p, ends[i])
	}
	return w
}

func (w *Writer) add(p Partition, end uint64) *written {
	it := &written{cursor: newCursor(p), number: len(w.parts), stored: end, run: -1}
	it.next, it.end = end, end
	w.parts = append(w.parts, it)
	w.known[p] = it
	return it
}

// Subscribed notes that somebody subscribed to this prefix at the writer's
// publisher. Another store's reader that listens is greeted.
func (w *Writer) Subscribed(prefix []byte) {
	w.listens(prefix)
	if len(prefix) > 1 && len(prefix) <= 1+maxName && Kind(prefix[0]) == ConsumerHello {
		w.greet(prefix[1:])
	}
}

// greet asks another store's reader for all its heads.
func (w *Writer) greet(reader []byte) {
	if string(reader) != w.o.Reader {
		w.sends = append(w.sends, Send{Message: Message{
			Kind: ConsumerHello, Topic: slices.Clone(reader), Address: w.self, Topics: MakeTopics(""),
		}})
	}
}

// Handle takes a message that came, with its content if it has one. from is who
// sent it, as far as that is known: the address in the beacon of the endpoint.
func (w *Writer) Handle(now time.Time, m *Message, content []byte, from string) {
	switch m.Kind {
	case Record:
		if p := w.find(m); p != nil {
			w.record(now, p, m.Sequence, content)
		}
	case Head:
		w.head(now, m)
	case DirectRecord, DirectHead, StoreHello:
		if string(m.Topic) != w.o.Address {
			return
		}
		switch m.Kind {
		case DirectRecord:
			w.directRecord(now, m, content, from)
		case DirectHead:
			w.directHead(now, m, from)
		default:
			w.greet(m.Address)
		}
	}
}

func (w *Writer) record(now time.Time, p *written, sequence uint64, content []byte) {
	switch {
	case sequence < p.stored:
		w.owe(p) // Who sent it again may have missed that it is stored.
	case sequence < p.next:
	case sequence == p.next:
		w.take(p, content)
		w.took(now, &p.cursor)
	default:
		p.exists(sequence)
		w.want(now, &p.cursor)
	}
}

// take puts the content of p.next into p's run.
func (w *Writer) take(p *written, content []byte) {
	if p.run < 0 {
		p.run = len(w.runs)
		w.open(Run{Partition: p.Partition, Number: p.number, First: p.next})
	}
	r := &w.runs[p.run]
	r.Contents = append(r.Contents, content)
	w.records++
	w.bytes += len(content)
}

// open adds a run, in the memory of an earlier one.
func (w *Writer) open(r Run) {
	if len(w.runs) < cap(w.runs) {
		r.Contents = w.runs[:len(w.runs)+1][len(w.runs)].Contents[:0]
	}
	w.runs = append(w.runs, r)
}

// directRecord takes an answer. C's producers answer with wrong contents, so
// those of stores are waited for where there are any.
func (w *Writer) directRecord(now time.Time, m *Message, content []byte, from string) {
	p := w.find(m)
	if p == nil {
		return
	}
	p.trusts = p.until != 0 && (p.trusts || p.tries > 1)
	if from == p.Address && m.Sequence < p.elsewhere && !p.trusts {
		return
	}
	w.record(now, p, m.Sequence, content)
}

func (w *Writer) head(now time.Time, m *Message) {
	p := w.find(m)
	switch {
	case p == nil:
	case m.Sequence < p.stored:
		w.owe(p)
	default:
		p.exists(m.Sequence)
		w.want(now, &p.cursor)
	}
}

func (w *Writer) directHead(now time.Time, m *Message, from string) {
	p := w.find(m)
	if p == nil {
		return
	}
	if from != p.Address {
		p.elsewhere = max(p.elsewhere, m.Sequence+1)
	}
	p.exists(m.Sequence)
	w.want(now, &p.cursor)
	if m.First > p.next {
		w.isGone(now, &p.cursor, m.First)
	} else {
		w.hasIt(&p.cursor)
	}
}

// find is the partition of a message, a new one if need be, or nil if there is
// no room.
func (w *Writer) find(m *Message) *written {
	if w.last != nil && w.last.is(m.Subject, m.Address) {
		return w.last
	}
	p := w.known[Partition{Subject: string(m.Subject), Address: string(m.Address)}]
	if p == nil {
		if len(w.parts) >= w.o.MaxPartitions {
			w.strangers++
			return nil
		}
		p = w.add(Partition{Subject: string(m.Subject), Address: string(m.Address)}, 0)
	}
	w.last = p
	return p
}

// Stored tells that the log of a partition has everything before end, as safely
// as an acknowledgement promises.
func (w *Writer) Stored(number int, end uint64) {
	if p := w.parts[number]; end > p.stored {
		p.stored = end
		w.owe(p)
	}
}

// Refused tells that a run could not be appended: the log ends at end. What
// came after will be fetched again. Runs behind the refused one that are drained
// already do not fit any more, and are to be left out.
func (w *Writer) Refused(now time.Time, number int, end uint64) {
	p := w.parts[number]
	if p.run >= 0 {
		r := &w.runs[p.run]
		w.forget(r)
		r.Contents = r.Contents[:0]
		p.run = -1
	}
	p.end = max(p.end, p.next)
	p.next, p.stored = end, min(p.stored, end)
	w.later(now, &p.cursor) // At once, a broken disk would have it fetched for ever.
}

func (w *Writer) forget(r *Run) {
	w.records -= len(r.Contents)
	for _, content := range r.Contents {
		w.bytes -= len(content)
	}
}

func (w *Writer) owe(p *written) {
	if !p.owed {
		p.owed = true
		w.owed = append(w.owed, p)
	}
}

// Pending is what is in runs. Who hands in messages drains before it is too
// much.
func (w *Writer) Pending() (records, bytes int) { return w.records, w.bytes }

// Tick does what is due.
func (w *Writer) Tick(now time.Time) {
	w.tick(now, w.skip)
	if now.Before(w.askAt) {
		return
	}
	w.askAt = now.Add(w.o.AskHeads)
	w.sends = append(w.sends, Send{Message: Message{Kind: GetHeads, Address: w.self}})
}

// skip lets a log go on behind what nobody has any more.
func (w *Writer) skip(c *cursor, to uint64) {
	p := w.known[c.Partition]
	p.run = -1 // The next one begins elsewhere.
	w.skips = append(w.skips, Skip{Partition: p.Partition, From: p.next, To: to})
	p.next = to
}

// Deadline is when Tick has something to do.
func (w *Writer) Deadline() time.Time { return sooner(w.deadline(), w.askAt) }

// Drain returns what the writer wants done. It is valid until the next call of
// anything.
func (w *Writer) Drain() WriterEffects {
	for _, p := range w.owed {
		p.owed = false
		if p.stored > 0 {
			w.sends = append(w.sends, Send{Message: Message{Kind: Ack, Topic: p.address, Subject: p.subject, Sequence: p.stored - 1}})
		}
	}
	for i := range w.runs {
		w.parts[w.runs[i].Number].run = -1
	}
	out := WriterEffects{Sends: w.sends, Runs: w.filled(), Skips: w.skips}
	w.owed, w.sends, w.runs, w.skips = w.owed[:0], w.sends[:0], w.runs[:0], w.skips[:0]
	w.records, w.bytes = 0, 0
	return out
}

// filled is the runs that have records. An empty one has been refused.
func (w *Writer) filled() []Run {
	full := 0
	for i := range w.runs {
		if len(w.runs[i].Contents) > 0 {
			w.runs[full], w.runs[i] = w.runs[i], w.runs[full]
			full++
		}
	}
	return w.runs[:full]
}

// Partitions is how many there are: numbers are below it.
func (w *Writer) Partitions() int { return len(w.parts) }

// Strangers counts messages of partitions that there was no room for.
func (w *Writer) Strangers() uint64 { return w.strangers }
