package bridge

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/mesh"
	"github.com/barnabas-log/barnabas/internal/zmtp"
)

// maxHeld bounds the messages whose records wait to be stored, in bytes. As much
// again is being stored meanwhile.
const maxHeld = 32 << 20

// writer is the node that gathers records. Its inlets put them into the machine,
// run has them stored and sends what the machine has to say.
type writer struct {
	b    *Bridge
	node *mesh.Node
	o    fabric.WriterOptions

	mu      sync.Mutex
	table   *table
	age     int // How often the machine was made anew.
	machine *fabric.Writer
	last    *part // That of the last message.
	backlog *mesh.Backlog

	wake mesh.Bell

	// Those of run.
	work    fabric.Work
	storing []*zmtp.Batch
	from    *table // That runs are of,
	fromAge int    // and the machine.
	keeper  keeper
}

func newWriter(b *Bridge, address, reader string) *writer {
	w := &writer{b: b, table: &table{}, wake: mesh.NewBell(), o: fabric.WriterOptions{Address: address, Reader: reader}}
	w.backlog = mesh.NewBacklog(&w.mu, maxHeld)
	w.machine = fabric.NewWriter(time.Now(), w.o, nil, nil)
	w.keeper = newKeeper(b)
	return w
}

func (w *writer) join(o mesh.Options) (err error) {
	o.Address, o.Publisher, o.Subscribed = w.o.Address, zmtp.XPub, w.subscribed
	o.Inlets = []mesh.Inlet{
		{Prefixes: fabric.WriterPrefixes(o.Address), HighWater: o.HighWater, Receive: func(b *zmtp.Batch, from string) { w.receive(b, from, true) }},
		{Prefixes: fabric.PublishedPrefixes(), HighWater: o.HighWater, Receive: func(b *zmtp.Batch, from string) { w.receive(b, from, false) }},
	}
	w.mu.Lock() // What is received first waits for node.
	defer w.mu.Unlock()
	w.node, err = mesh.Join(o)
	return err
}

// follow takes a new table. Where partitions are others now, the machine begins
// anew with what the logs have, and what it had gathered is asked for again.
func (w *writer) follow(t *table) {
	w.mu.Lock()
	defer w.mu.Unlock()
	begins := len(w.table.parts) == 0 // The first table has partitions with records.
	w.table, w.last = t, nil
	if !t.anew && !begins {
		return
	}
	var has []fabric.Partition
	var ends []uint64
	for _, p := range t.parts {
		if p.published || p.replica == nil {
			continue
		}
		_, end := p.holds()
		has, ends = append(has, p.Partition), append(ends, end)
	}
	w.age++
	w.machine = fabric.NewWriter(time.Now(), w.o, has, ends)
	w.backlog.Drop()
	w.wake.Ring()
}

// takes reports whether records of a partition of the mesh are stored.
func (w *writer) takes(p *part) bool { return !p.published && p.replica != nil }

// receive is told of records, of heads, and of other stores. It waits while too
// much is held, and until it is decided about producers that are new.
func (w *writer) receive(b *zmtp.Batch, from string, urgent bool) {
	if fresh := w.fresh(b); len(fresh) > 0 {
		w.b.admits.wait(fresh)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.backlog.Await(urgent) {
		return
	}
	before, _ := w.machine.Pending()
	now := time.Now()
	var m fabric.Message
	for _, frames := range b.Messages {
		content, err := m.ParseFrames(frames)
		if err != nil {
			w.node.Malformed()
			continue
		}
		if w.admittedLocked(&m) {
			w.machine.Handle(now, &m, content, from)
		}
	}
	if after, _ := w.machine.Pending(); after == before {
		b.Release()
	} else {
		w.backlog.Add(b)
	}
	w.wake.Ring()
}

// fresh are the producers that a batch tells of and about whom nothing is
// decided. Messages that differ in their sequences only, as most neighbours do,
// are looked at once.
func (w *writer) fresh(b *zmtp.Batch) (all []fabric.Partition) {
	w.mu.Lock()
	defer w.mu.Unlock()
	const sequence = 8 // Bytes, at the end.
	var m fabric.Message
	var last []byte
	for _, frames := range b.Messages {
		first := frames[0]
		if len(first) == len(last) && len(first) > sequence && bytes.Equal(first[:len(first)-sequence], last[:len(last)-sequence]) {
			continue
		}
		if _, err := m.ParseFrames(frames); err != nil || !concernsPart(m.Kind) {
			continue
		}
		last = first
		if w.knownLocked(&m) != nil {
			continue
		}
		p := fabric.Partition{Subject: string(m.Subject), Address: string(m.Address)}
		if !slices.Contains(all, p) && !w.b.admits.isRefused(p) {
			all = append(all, p)
		}
	}
	return all
}

// concernsPart reports whether messages of a kind tell of a partition.
func concernsPart(k fabric.Kind) bool {
	switch k {
	case fabric.Record, fabric.Head, fabric.DirectRecord, fabric.DirectHead:
		return true
	}
	return false
}

// knownLocked is the partition of a message, or nil.
func (w *writer) knownLocked(m *fabric.Message) *part {
	if p := w.last; p != nil && string(m.Address) == p.Address && string(m.Subject) == p.Subject {
		return p
	}
	p := w.table.by[fabric.Partition{Subject: string(m.Subject), Address: string(m.Address)}]
	if p != nil {
		w.last = p
	}
	return p
}

// admittedLocked keeps from the machine what producers say that have no partition
// here.
func (w *writer) admittedLocked(m *fabric.Message) bool {
	if !concernsPart(m.Kind) {
		return true
	}
	p := w.knownLocked(m)
	if p == nil {
		w.b.refused.Add(1)
		return false
	}
	return w.takes(p)
}

func (w *writer) subscribed(prefix []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.machine.Subscribed(prefix)
	w.wake.Ring()
}

// close lets those go who wait.
func (w *writer) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.backlog.Close()
}

// run has stored what comes, until ctx ends.
func (w *writer) run(ctx context.Context) {
	alarm := time.NewTimer(0)
	defer alarm.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-alarm.C:
		}
		for w.turn(ctx) && ctx.Err() == nil {
		}
		w.mu.Lock()
		at := w.machine.Deadline()
		w.mu.Unlock()
		alarm.Reset(time.Until(at))
	}
}

// turn sends what the machine has to say, has stored what it has gathered, and
// tells it the outcome. It reports whether there was any: then there is more to
// say.
func (w *writer) turn(ctx context.Context) bool {
	w.take()
	w.node.Publish(w.work.Sends)
	outcomes := w.keeper.keep(ctx, w.from, w.work.Runs)
	w.settle(outcomes)
	w.work.Forget()
	w.storing = mesh.Release(w.storing)
	return len(outcomes) > 0
}

// take copies what the machine wants done, for it goes on while that is done.
func (w *writer) take() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.machine.Tick(time.Now())
	e := w.machine.Drain()
	w.work.Take(e)
	for _, s := range e.Skips {
		w.b.o.Log.Warn("records of a dafka producer are gone", "topic", s.Subject, "producer", s.Address, "from", s.From, "to", s.To)
	}
	w.storing = w.backlog.Take(w.storing)
	w.from, w.fromAge = w.table, w.age
}

// settle tells the machine what was stored, if it is still the one that asked,
// and the reader.
func (w *writer) settle(outcomes []outcome) {
	w.mu.Lock()
	if w.age == w.fromAge {
		now := time.Now()
		for _, o := range outcomes {
			if o.err != nil {
				w.machine.Refused(now, o.number, o.end)
			}
			w.machine.Stored(o.number, o.committed)
		}
	}
	w.mu.Unlock()
	for _, o := range outcomes {
		if o.part != nil {
			w.b.reader.holds(o.part)
		}
	}
}
