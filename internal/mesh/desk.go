package mesh

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/zmtp"
)

const (
	// answeredRecords is how many records of one answer are sent before it is
	// another's turn, sentAtOnce how many are handed to the socket at once.
	answeredRecords = 1 << 14
	sentAtOnce      = 512
	// headsAtOnce is how many partitions are looked at for questions for heads,
	// before it is somebody else's turn.
	headsAtOnce = 4096
	// slow is how long to wait for askers whose queues are full, when there are no
	// others.
	slow = 10 * time.Millisecond
)

// Desk is the shell of a [fabric.Reader]: the node of a store that answers. Its
// inlet puts questions into the machine; who has the records calls Turn when Bell
// rings, until there is nothing more to do.
type Desk struct {
	sync.Mutex // Of Machine, and of what its owner keeps beside it.
	Machine    *fabric.Reader
	Node       *Node
	Bell       Bell
	Served     atomic.Uint64 // Records sent.

	// Those of Turn.
	sends   []fabric.Send
	stalled int // Turns since somebody whose turn it was could take something.
}

// NewDesk returns the desk of a node that has not joined yet.
func NewDesk(m *fabric.Reader) *Desk { return &Desk{Machine: m, Bell: NewBell()} }

// Join joins a mesh.
func (d *Desk) Join(address string, o Options) (err error) {
	o.Address, o.Publisher, o.Subscribed = address, zmtp.XPub, d.subscribed
	o.Inlets = []Inlet{{Prefixes: fabric.ReaderPrefixes(address), HighWater: o.HighWater, Receive: d.receive}}
	d.Lock() // What is received first waits for Node.
	defer d.Unlock()
	d.Node, err = Join(o)
	return err
}

// receive is told of questions.
func (d *Desk) receive(b *zmtp.Batch, _ string) {
	d.Lock()
	var m fabric.Message
	for _, frames := range b.Messages {
		if _, err := m.ParseFrames(frames); err != nil {
			d.Node.Malformed()
			continue
		}
		d.Machine.Handle(&m)
	}
	b.Release()
	d.publishUnlock()
	d.Bell.Ring()
}

func (d *Desk) subscribed(prefix []byte) {
	d.Lock()
	d.Machine.Subscribed(prefix)
	d.publishUnlock()
}

// publishUnlock sends what the machine has to say at once, so that it does not
// gather, after it has given the lock back: the socket may be waiting for
// somebody slow, for whom nobody else must wait.
func (d *Desk) publishUnlock() {
	sends := append([]fabric.Send(nil), d.Machine.Drain()...)
	d.Unlock()
	d.Node.Publish(sends)
}

// Answer is a part of an answer that is being sent.
type Answer struct {
	Read    fabric.Read
	Next    uint64 // One past the last record that was sent.
	Blocked bool   // The asker does not read.
	Moved   bool   // The log begins later than the machine knows.
	Gap     uint64 // If not 0, where the log goes on that has nothing from the first on.

	desk *Desk
	ctx  context.Context
	wait time.Duration // For the asker, if he is slow.
}

// Nothing reports whether no record was sent.
func (a *Answer) Nothing() bool { return a.Next == a.Read.First }

// Expected is the sequence of the record that Add wants.
func (a *Answer) Expected() uint64 { return a.Next + uint64(len(a.desk.sends)) }

// Add sends a record, and reports whether the asker takes more. Its content is
// used until the answer is flushed.
func (a *Answer) Add(content []byte) bool {
	d := a.desk
	d.sends = append(d.sends, fabric.Send{Message: a.Read.Message(a.Expected()), Content: content})
	if len(d.sends) == sentAtOnce {
		a.Flush()
	}
	return !a.Blocked
}

// Flush sends what was gathered.
func (a *Answer) Flush() {
	d := a.desk
	if a.Blocked || len(d.sends) == 0 {
		return
	}
	done := d.Node.publishFor(a.ctx, a.wait, d.sends)
	a.Next += uint64(done)
	a.Blocked = done < len(d.sends)
	d.Served.Add(uint64(done))
	d.sends = d.sends[:0]
}

// Turn answers some of the questions, and reports whether there are more. source
// is called with the lock, for the partition with the machine's number, and what
// it returns without it, to fill the answer.
func (d *Desk) Turn(ctx context.Context, source func(number int) func(*Answer)) bool {
	d.Lock()
	machine := d.Machine
	more := machine.ServeHeads(headsAtOnce)
	read, ok := machine.Next(answeredRecords)
	askers := machine.Askers()
	d.sends = append(d.sends[:0], machine.Drain()...)
	var fill func(*Answer)
	if ok {
		fill = source(read.Number)
	}
	d.Unlock()
	d.Node.publishFor(ctx, slow, d.sends)
	d.sends = d.sends[:0]
	if !ok {
		return more
	}
	a := Answer{Read: read, Next: read.First, desk: d, ctx: ctx}
	if d.stalled >= askers {
		a.wait = slow
	}
	fill(&a)
	a.Flush()
	d.sends = d.sends[:0]
	if d.stalled++; !a.Blocked || !a.Nothing() {
		d.stalled = 0
	}
	d.Lock()
	defer d.Unlock()
	switch {
	case d.Machine != machine: // It began anew, and who asked asks again.
	case a.Gap > 0:
		machine.Gap(read, a.Gap)
	case a.Nothing() && (a.Blocked || a.Moved):
		machine.Later(read)
	default:
		machine.Served(read, a.Next)
	}
	return true
}

// publishFor publishes, and waits so long for who is slow. It returns how much
// was sent.
func (n *Node) publishFor(ctx context.Context, wait time.Duration, sends []fabric.Send) int {
	if len(sends) == 0 {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	done, _ := n.PublishWait(ctx, sends)
	return done
}
