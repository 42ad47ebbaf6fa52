package listener

import (
	"io"
	"sync/atomic"
)

// View is bytes that write themselves, such as a section of a file.
type View interface {
	// Size is how many bytes WriteTo will write.
	Size() int
	// WriteTo writes them all, or returns an error: then the stream is torn and
	// the connection is closed.
	WriteTo(w io.Writer) (int64, error)
	// Close releases the bytes. It is called once, written or not.
	Close()
}

// Pending is an answer that has to wait for something.
type Pending interface {
	// Poll is called by the connection when the answer is its next one and
	// somebody has called Wake since the last Poll. It completes the answer with
	// Send, Skip or Hangup, or leaves it parked. It must not block.
	Poll(a *Answer)
	// Cancel is called instead when the connection ends first.
	Cancel()
}

// Answer is the place of one answer in the order of its connection. Exactly
// one of Send, Skip, Hangup or Park must be called before Handle returns; a
// parked answer is completed by its Pending.
type Answer struct {
	conn    *Conn
	buf     *buffer
	out     []byte
	views   []placed
	pending Pending
	woken   atomic.Bool
	state   answerState // Guarded by conn.mu once the answer is queued.
}

type answerState int8

const (
	answerOpen answerState = iota
	answerParked
	answerReady  // out and views are to be written.
	answerSkip   // Nothing is to be written.
	answerHangup // The connection is to be closed here.
)

type placed struct {
	at   int // Before out[at].
	view View
}

// Buffer returns an empty slice to append the answer's bytes to, the size of
// the frame included (see [Answer.Send]). It is recycled with the answer.
func (a *Answer) Buffer() []byte {
	if a.buf == nil {
		a.buf = &buffer{make([]byte, 0, 512)}
	}
	return a.buf.b[:0]
}

// Insert puts a view between the bytes: it will be written before out[at] of
// what is sent. Insertions come in order. The answer owns the view from now on.
func (a *Answer) Insert(at int, v View) {
	a.views = append(a.views, placed{at, v})
}

// ViewBytes is the size of all views inserted.
func (a *Answer) ViewBytes() int {
	n := 0
	for _, p := range a.views {
		n += p.view.Size()
	}
	return n
}

// Send completes the answer with a whole frame: its size, header and body, as
// far as they are not in views. out usually grew from Buffer.
func (a *Answer) Send(out []byte) {
	a.out = out
	a.complete(answerReady)
}

// Skip completes the answer without sending anything, as acks=0 asks.
func (a *Answer) Skip() { a.complete(answerSkip) }

// Hangup closes the connection once all earlier answers are sent; what the
// client sent after this request is not read. It is how Kafka answers what it
// cannot parse.
func (a *Answer) Hangup() { a.complete(answerHangup) }

// Park leaves the answer open. From now on Poll is called after each Wake.
// Wakes that came before Park are not lost.
func (a *Answer) Park(p Pending) {
	a.conn.mu.Lock()
	a.pending = p
	a.state = answerParked
	a.conn.mu.Unlock()
}

// Wake asks for a Poll. Anybody may call it at any time, even after the answer
// was completed: a late Wake costs the connection's next answer one Poll in
// vain, which is why Poll must look for itself.
func (a *Answer) Wake() {
	if a.woken.Swap(true) {
		return
	}
	a.conn.wakeWriter()
}

// Conn returns the answer's connection.
func (a *Answer) Conn() *Conn { return a.conn }

func (a *Answer) complete(s answerState) {
	if s == answerHangup {
		a.conn.dying.Store(true)
	}
	a.conn.mu.Lock()
	a.state = s
	a.pending = nil
	a.conn.mu.bytes += len(a.out)
	a.conn.mu.Unlock()
}

// closeViews gives back the views. Not under conn.mu: it may take locks of
// those who call Park under theirs.
func (a *Answer) closeViews() {
	for i := range a.views {
		a.views[i].view.Close()
		a.views[i] = placed{}
	}
	a.views = a.views[:0]
}

// reset makes a used answer new, whose views are closed; its buffer is kept
// unless it grew large.
func (a *Answer) reset() {
	if a.buf != nil && a.out != nil {
		if cap(a.out) <= keptAnswer {
			a.buf.b = a.out[:0]
		} else {
			a.buf = nil
		}
	}
	a.out, a.pending, a.state = nil, nil, answerOpen
	a.woken.Store(false)
}

// keptAnswer is the greatest answer buffer that a connection keeps for the
// next answer: produce, heartbeat and fetch answers without data fit.
const keptAnswer = 4 << 10
