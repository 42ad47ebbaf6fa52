package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/mesh"
	"github.com/barnabas-log/barnabas/internal/storelog"
	"github.com/barnabas-log/barnabas/internal/zmtp"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

const (
	// readBytes and readRecords are how much of one answer is sent before it is
	// another's turn.
	readBytes   = 512 << 10
	readRecords = 1 << 14
	// sentAtOnce is how many records are handed to the socket at once.
	sentAtOnce = 512
	// headsAtOnce is how many partitions are looked at for questions for heads,
	// before it is somebody else's turn.
	headsAtOnce = 4096
	// slow is how long to wait for askers whose queues are full, when there are no
	// others.
	slow = 10 * time.Millisecond
)

// reader is the node that answers. Its inlet puts questions into the machine, run
// answers them.
type reader struct {
	logs    *storelog.Logs
	node    *mesh.Node
	address string
	log     *slog.Logger
	served  atomic.Uint64

	mu      sync.Mutex
	machine *fabric.Reader

	wake chan struct{}

	// Those of run.
	sends   []fabric.Send
	buf     []byte
	stalled int // Turns since somebody whose turn it was could take something.
	// complained is when it was last said that records cannot be read.
	complained time.Time
}

func newReader(logs *storelog.Logs, address, writer string, log *slog.Logger) *reader {
	r := &reader{logs: logs, address: address, log: log, wake: make(chan struct{}, 1)}
	r.machine = fabric.NewReader(fabric.ReaderOptions{Address: address, Writer: writer})
	for _, p := range logs.Partitions() {
		r.holds(p)
	}
	logs.Watch(r.holds)
	return r
}

// holds is told what a log has. What does not begin at 0 has lost its beginning,
// here or at all other stores: who asks for it is told so.
func (r *reader) holds(p *storelog.Partition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if end := p.End(); end > 0 {
		r.machine.Holds(p.Number, p.Partition, 0, p.Start(), end)
	}
}

func (r *reader) join(o mesh.Options) (err error) {
	o.Address, o.Publisher, o.Subscribed = r.address, zmtp.XPub, r.subscribed
	o.Inlets = []mesh.Inlet{{Prefixes: fabric.ReaderPrefixes(r.address), HighWater: o.HighWater, Receive: r.receive}}
	r.mu.Lock() // What is received first waits for node.
	defer r.mu.Unlock()
	r.node, err = mesh.Join(o)
	return err
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
// somebody slow, for whom the writer must not wait.
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
	for {
		select {
		case <-ctx.Done():
			return
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
	r.mu.Unlock()
	r.send(ctx, slow, r.sends)
	if !ok {
		return more
	}
	wait := time.Duration(0)
	if r.stalled >= askers {
		wait = slow
	}
	a := r.answer(ctx, wait, &read)
	if r.stalled++; !a.blocked || a.next > read.First {
		r.stalled = 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case a.gap > 0:
		r.machine.Gap(read, a.gap)
	case a.blocked && a.next == read.First:
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
	gap     uint64 // If not 0, where the log goes on that has nothing from the first on.
}

// answer reads records and sends them.
func (r *reader) answer(ctx context.Context, wait time.Duration, read *fabric.Read) (a answer) {
	a.next = read.First
	log, from := r.logs.Log(r.logs.Partition(read.Number)), model.Offset(read.First)
	if log == nil {
		return a
	}
	batches, err := r.read(log, from)
	r.sends = r.sends[:0]
	large := false
	for x := range records(batches, from, from+model.Offset(read.Count), &err) {
		next := a.next + uint64(len(r.sends))
		if at := uint64(x.Offset); at > next {
			if next == read.First {
				a.gap = at
			}
			break // Who wants what is behind the gap asks again, and is told.
		}
		large = large || len(x.Value) > zmtp.MaxCopied
		r.sends = append(r.sends, fabric.Send{Message: read.Message(next), Content: x.Value})
		if len(r.sends) == sentAtOnce && !r.flush(ctx, wait, &a) {
			break
		}
	}
	r.flush(ctx, wait, &a)
	r.complain(read, err)
	if large {
		r.buf = nil // The socket has it: frames that long are not copied.
	}
	return a
}

// records are those of batches from an offset on and before end, up to the first
// that is damaged, which sets err.
func records(batches []byte, from, end model.Offset, err *error) iter.Seq[record.Record] {
	return func(yield func(record.Record) bool) {
		for len(batches) > 0 && *err == nil {
			var b record.Batch
			if b, batches, *err = record.Next(batches); *err == nil && b.ComputeCRC() != b.CRC() {
				*err = fmt.Errorf("%w: checksum of the batch at %d", record.ErrCorrupt, b.BaseOffset())
			}
			if *err != nil {
				return
			}
			for x, bad := range b.Records(0) {
				if *err = bad; bad != nil || x.Offset >= end || x.Offset >= from && !yield(x) {
					return
				}
			}
		}
	}
}

// complainInterval is how often it is said that records cannot be read: who needs
// them asks again and again.
const complainInterval = time.Minute

// complain says that records cannot be read. Other stores may have them. That
// retention was faster than the asker is no reason.
func (r *reader) complain(read *fabric.Read, err error) {
	if err == nil || errors.Is(err, commitlog.ErrOutOfRange) || time.Since(r.complained) < complainInterval {
		return
	}
	r.complained = time.Now()
	r.log.Error("records cannot be read", "topic", read.Subject, "producer", read.Address, "partition", read.Number, "err", err)
}

// read returns batches from the one that has an offset on.
func (r *reader) read(log *commitlog.Log, from model.Offset) ([]byte, error) {
	v, err := log.Read(from, log.End(), readBytes, true)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	b, err := v.Bytes(r.buf)
	if cap(b) <= 2*readBytes {
		r.buf = b[:0]
	}
	return b, err
}

// flush sends what was gathered of an answer, and reports whether all of it was.
func (r *reader) flush(ctx context.Context, wait time.Duration, a *answer) bool {
	if a.blocked {
		return false
	}
	done := r.send(ctx, wait, r.sends)
	a.next += uint64(done)
	a.blocked = done < len(r.sends)
	r.served.Add(uint64(done))
	r.sends = r.sends[:0]
	return !a.blocked
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
