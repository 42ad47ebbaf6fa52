package bridge

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/mesh"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/internal/zmtp"
)

const (
	// readRecords is how many records of one answer are sent before it is another's
	// turn, sentAtOnce how many are handed to the socket at once.
	readRecords = 1 << 14
	sentAtOnce  = 512
	// headsAtOnce is how many partitions are looked at for questions for heads,
	// before it is somebody else's turn.
	headsAtOnce = 4096
	// slow is how long to wait for askers whose queues are full, when there are no
	// others.
	slow = 10 * time.Millisecond
	// lookEvery is how often it is looked where logs begin: retention moves that.
	lookEvery = 5 * time.Second
)

// reader is the node that answers, and by which topics are published. Its inlet
// puts questions into the machine, run answers them.
type reader struct {
	b    *Bridge
	node *mesh.Node
	o    fabric.ReaderOptions

	mu      sync.Mutex
	table   *table
	places  map[*part]int // In the table: the machine's numbers.
	age     int           // How often the machine was made anew.
	machine *fabric.Reader

	wake chan struct{}

	// Those of run.
	sends   []fabric.Send
	pages   pages
	stalled int // Turns since somebody whose turn it was could take something.
}

func newReader(b *Bridge, address, writer string) *reader {
	r := &reader{b: b, table: &table{}, wake: make(chan struct{}, 1), o: fabric.ReaderOptions{Address: address, Writer: writer}}
	r.machine, r.places = fabric.NewReader(r.o), map[*part]int{}
	return r
}

func (r *reader) join(o mesh.Options) (err error) {
	o.Address, o.Publisher, o.Subscribed = r.o.Address, zmtp.XPub, r.subscribed
	o.Inlets = []mesh.Inlet{{Prefixes: fabric.ReaderPrefixes(r.o.Address), HighWater: o.HighWater, Receive: r.receive}}
	r.mu.Lock() // What is received first waits for node.
	defer r.mu.Unlock()
	r.node, err = mesh.Join(o)
	return err
}

// follow takes a new table. Where partitions are others now, the machine begins
// anew; who waits for an answer asks again.
func (r *reader) follow(t *table) {
	r.mu.Lock()
	defer r.mu.Unlock()
	from := len(r.table.parts)
	if t.anew {
		r.machine, r.places, from = fabric.NewReader(r.o), map[*part]int{}, 0
		r.age++
	}
	r.table = t
	for i, p := range t.parts[from:] {
		r.places[p] = from + i
		r.holdsLocked(p)
	}
}

// holds looks what a log has.
func (r *reader) holds(p *part) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.holdsLocked(p)
}

// holdsLocked tells the machine. What does not begin at 0 has lost its beginning,
// here or at all other stores: who asks for it is told so.
func (r *reader) holdsLocked(p *part) {
	place, known := r.places[p]
	if !known || p.replica == nil {
		return
	}
	if start, end := p.holds(); end > 0 {
		r.machine.Holds(place, p.Partition, 0, start, end)
	}
}

// look looks what all logs have.
func (r *reader) look() {
	r.mu.Lock()
	parts := r.table.parts
	r.mu.Unlock()
	for _, p := range parts {
		r.holds(p)
	}
}

// receive is told of questions.
func (r *reader) receive(b *zmtp.Batch, _ string) {
	r.mu.Lock()
	var m fabric.Message
	for _, frames := range b.Messages {
		if _, err := m.ParseFrames(frames); err != nil {
			r.node.Malformed()
			continue
		}
		r.machine.Handle(&m)
	}
	b.Release()
	r.publishUnlock()
	r.poke()
}

func (r *reader) subscribed(prefix []byte) {
	r.mu.Lock()
	r.machine.Subscribed(prefix)
	r.publishUnlock()
}

// publishUnlock sends what the machine has to say at once, so that it does not
// gather, after it has given the lock back: the socket may be waiting for
// somebody slow, for whom nobody else must wait.
func (r *reader) publishUnlock() {
	sends := append([]fabric.Send(nil), r.machine.Drain()...)
	r.mu.Unlock()
	r.node.Publish(sends)
}

func (r *reader) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run answers until ctx ends.
func (r *reader) run(ctx context.Context) {
	looks := time.NewTicker(lookEvery)
	defer looks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-looks.C:
			r.b.look()
			r.look()
		case <-r.wake:
		}
		for r.turn(ctx) && ctx.Err() == nil {
		}
	}
}

// turn answers some of the questions, and reports whether there are more.
func (r *reader) turn(ctx context.Context) bool {
	r.mu.Lock()
	more := r.machine.ServeHeads(headsAtOnce)
	read, ok := r.machine.Next(readRecords)
	askers := r.machine.Askers()
	r.sends = append(r.sends[:0], r.machine.Drain()...)
	age := r.age
	var p *part
	if ok {
		p = r.table.parts[read.Number]
	}
	r.mu.Unlock()
	r.send(ctx, slow, r.sends)
	if !ok {
		return more
	}
	wait := time.Duration(0)
	if r.stalled >= askers {
		wait = slow
	}
	a := r.answer(ctx, wait, p, &read)
	if r.stalled++; !a.blocked || a.next > read.First {
		r.stalled = 0
	}
	if a.moved {
		r.holds(p)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.age != age:
	case a.gap > 0:
		r.machine.Gap(read, a.gap)
	case a.next == read.First && (a.blocked || a.moved):
		r.machine.Later(read)
	default:
		r.machine.Served(read, a.next)
	}
	return true
}

// answer is what became of a part of an answer.
type answer struct {
	next    uint64 // One past the last record that was sent.
	blocked bool   // The asker does not read.
	moved   bool   // The log begins later than the machine knows.
	gap     uint64 // If not 0, where the log goes on that has nothing from the first on.
}

// answer reads records and sends them.
func (r *reader) answer(ctx context.Context, wait time.Duration, p *part, read *fabric.Read) (a answer) {
	a.next = read.First
	r.sends = r.sends[:0]
	gap, err := r.pages.read(p, read.First, read.First+uint64(read.Count), func(sequence uint64, content []byte) bool {
		r.sends = append(r.sends, fabric.Send{Message: read.Message(sequence), Content: content})
		if len(r.sends) == sentAtOnce {
			r.flush(ctx, wait, &a)
		}
		return !a.blocked
	})
	a.moved = errors.Is(err, partition.ErrOutOfRange)
	r.flush(ctx, wait, &a)
	if a.next == read.First {
		a.gap = gap
	}
	return a
}

// flush sends what was gathered of an answer.
func (r *reader) flush(ctx context.Context, wait time.Duration, a *answer) {
	if a.blocked || len(r.sends) == 0 {
		return
	}
	done := r.send(ctx, wait, r.sends)
	a.next += uint64(done)
	a.blocked = done < len(r.sends)
	r.b.served.Add(uint64(done))
	r.sends = r.sends[:0]
}

// send publishes, and waits so long for who is slow. It returns how much was
// sent.
func (r *reader) send(ctx context.Context, wait time.Duration, sends []fabric.Send) int {
	if len(sends) == 0 {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	done, _ := r.node.PublishWait(ctx, sends)
	return done
}
