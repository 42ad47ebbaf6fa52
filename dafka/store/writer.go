package store

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/mesh"
	"github.com/barnabas-log/barnabas/internal/storelog"
	"github.com/barnabas-log/barnabas/internal/zmtp"
)

// maxHeld bounds the messages whose records wait to be stored, in bytes. As much
// again is being stored meanwhile.
const maxHeld = 32 << 20

// writer is the node that gathers records. Its inlets put them into the machine,
// run stores them and sends what the machine has to say.
type writer struct {
	logs *storelog.Logs
	log  *slog.Logger
	node *mesh.Node
	o    fabric.WriterOptions

	mu      sync.Mutex
	machine *fabric.Writer
	backlog *mesh.Backlog

	wake mesh.Bell

	// Those of run.
	work     fabric.Work
	storing  []*zmtp.Batch
	outcomes []storelog.Outcome
	// turnedAway is how many messages there was no room for when that was said
	// last, at turnedAwayAt.
	turnedAway   uint64
	turnedAwayAt time.Time
}

func newWriter(logs *storelog.Logs, address, reader string, log *slog.Logger) *writer {
	w := &writer{logs: logs, log: log, wake: mesh.NewBell(), o: fabric.WriterOptions{Address: address, Reader: reader}}
	w.backlog = mesh.NewBacklog(&w.mu, maxHeld)
	var has []fabric.Partition
	var ends []uint64
	for _, p := range logs.Partitions() {
		has, ends = append(has, p.Partition), append(ends, p.End())
	}
	w.machine = fabric.NewWriter(time.Now(), w.o, has, ends)
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

// receive is told of records, of heads, and of other stores. It waits while too
// much is held.
func (w *writer) receive(b *zmtp.Batch, from string, urgent bool) {
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
		w.machine.Handle(now, &m, content, from)
	}
	if after, _ := w.machine.Pending(); after == before {
		b.Release()
	} else {
		w.backlog.Add(b)
	}
	w.wake.Ring()
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

func (w *writer) strangers() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.machine.Strangers()
}

// run stores what comes until ctx ends, and then what has come.
func (w *writer) run(ctx context.Context) {
	alarm := time.NewTimer(0)
	defer alarm.Stop()
	for {
		select {
		case <-ctx.Done():
			for w.turn() {
			}
			return
		case <-w.wake:
		case <-alarm.C:
		}
		for w.turn() {
		}
		w.mu.Lock()
		at := w.machine.Deadline()
		w.mu.Unlock()
		alarm.Reset(time.Until(at))
	}
}

// turn tells the machine what was stored, sends what it has to say, and stores
// what it has gathered. It reports whether there was any: then there is more to
// tell.
func (w *writer) turn() bool {
	w.take()
	w.node.Publish(w.work.Sends)
	w.outcomes = nil
	if len(w.work.Runs) > 0 {
		w.outcomes = w.logs.Append(w.work.Runs)
	}
	w.work.Forget()
	w.storing = mesh.Release(w.storing)
	return len(w.outcomes) > 0
}

// take is the part of a turn that has the machine. What the machine wants done is
// copied, for it goes on while that is done.
func (w *writer) take() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for i := range w.outcomes {
		w.settleLocked(now, &w.outcomes[i])
	}
	w.machine.Tick(now)
	e := w.machine.Drain()
	w.work.Take(e)
	for _, s := range e.Skips {
		w.log.Warn("records are gone", "topic", s.Subject, "producer", s.Address, "from", s.From, "to", s.To)
	}
	w.storing = w.backlog.Take(w.storing)
	w.complainLocked(now)
}

// complainLocked says that there are more producers than a store can have.
func (w *writer) complainLocked(now time.Time) {
	n := w.machine.Strangers()
	if n == w.turnedAway || now.Sub(w.turnedAwayAt) < complainInterval {
		return
	}
	w.turnedAway, w.turnedAwayAt = n, now
	w.log.Error("records of new producers are not stored: there are too many partitions, one for each producer and topic that ever was; begin a new directory (store/db)",
		"partitions", w.machine.Partitions(), "messages", n)
}

func (w *writer) settleLocked(now time.Time, o *storelog.Outcome) {
	if o.Err != nil {
		w.machine.Refused(now, o.Number, o.End)
	}
	w.machine.Stored(o.Number, o.Stored)
}
