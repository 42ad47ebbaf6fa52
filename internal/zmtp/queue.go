package zmtp

import (
	"context"
	"net"
	"sync"
)

// MaxCopied is the longest frame, in bytes, that Send copies: its memory may be
// used again at once. A longer one is queued as it is.
const MaxCopied = 4 << 10

const (
	// Small frames are gathered in chunks: one write takes many messages.
	chunkBytes = 32 << 10
	// One write takes up to that many bytes. What is being written still counts
	// as queued, so less would keep senders from room that is nearly there.
	maxWrite = 256 << 10
	// Subscriptions are queued whatever the high-water mark, up to so many bytes.
	maxControl = 16 << 20
)

var chunks = sync.Pool{New: func() any { return new([chunkBytes]byte) }}

// piece is a run of bytes in the order of the wire: a chunk, or one large frame.
type piece struct {
	data     []byte
	messages int // That end in it.
	chunk    bool
}

// queue is what waits to be written to one peer.
type queue struct {
	mu       sync.Mutex
	filled   sync.Cond // For the writer.
	pieces   []piece
	first    int // Index of the oldest one.
	messages int // Queued or being written.
	bytes    int
	ending   bool          // Takes nothing more; the writer ends when it is empty.
	aborted  bool          // The writer ends at once.
	progress chan struct{} // Closed by the next change for the better, if anybody waits.

	maxMessages int
	maxBytes    int
	seal        sealer // Nil without encryption.
}

// sealer appends the encrypted form of a frame, with its header.
type sealer interface {
	seal(dst []byte, flags byte, body []byte) []byte
	sealedSize(body int) int
}

func newQueue(maxMessages, maxBytes int) *queue {
	q := &queue{maxMessages: maxMessages, maxBytes: maxBytes}
	q.filled.L = &q.mu
	return q
}

// pushLocked queues a message as a whole, or reports that there is no room.
func (q *queue) pushLocked(m Message, size int) bool {
	if q.ending || !q.fitsLocked(size) {
		return false
	}
	last := len(m) - 1
	for _, f := range m[:last] {
		q.appendLocked(flagMore, f)
	}
	q.appendLocked(0, m[last])
	q.messages++
	q.pieces[len(q.pieces)-1].messages++
	return true
}

// fitsLocked reports whether there is room for a message. One always fits.
func (q *queue) fitsLocked(size int) bool {
	return q.messages == 0 || q.messages < q.maxMessages && q.bytes+size <= q.maxBytes
}

// command queues a command, before the handshake's end in the clear. It returns
// false if the peer lets too many of them wait.
func (q *queue) command(body []byte) bool { return q.control(flagCommand, body) }

// control queues what the high-water mark does not concern.
func (q *queue) control(flags byte, body []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ending {
		return true
	}
	if q.bytes+len(body) > q.maxBytes+maxControl {
		return false
	}
	q.appendLocked(flags, body)
	q.filled.Signal()
	return true
}

// lifeSign queues a PING or PONG, unless so much waits that the peer gets another
// sign of life as soon as it reads; who does not read costs nothing more.
func (q *queue) lifeSign(body []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.ending && q.bytes < chunkBytes {
		q.appendLocked(flagCommand, body)
		q.filled.Signal()
	}
}

// encrypt seals all that is queued from now on.
func (q *queue) encrypt(s sealer) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.seal = s
}

// raw queues bytes that are no frame.
func (q *queue) raw(b []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	p := q.roomLocked(len(b))
	p.data = append(p.data, b...)
	q.bytes += len(b)
	q.filled.Signal()
}

func (q *queue) appendLocked(flags byte, body []byte) {
	switch {
	case q.seal != nil:
		p := q.roomLocked(q.seal.sealedSize(len(body)))
		before := len(p.data)
		p.data = q.seal.seal(p.data, flags, body)
		q.bytes += len(p.data) - before
	case len(body) <= MaxCopied:
		p := q.roomLocked(maxHeader + len(body))
		before := len(p.data)
		p.data = appendFrame(p.data, flags, body)
		q.bytes += len(p.data) - before
	default:
		p := q.roomLocked(maxHeader)
		p.data = appendHeader(p.data, flags, len(body))
		q.pieces = append(q.pieces, piece{data: body})
		q.bytes += maxHeader + len(body)
	}
}

// roomLocked returns the last piece if size more bytes fit, else a new one.
func (q *queue) roomLocked(size int) *piece {
	if n := len(q.pieces); n > q.first {
		if p := &q.pieces[n-1]; p.chunk && cap(p.data)-len(p.data) >= size {
			return p
		}
	}
	if size > chunkBytes {
		q.pieces = append(q.pieces, piece{data: make([]byte, 0, size)})
	} else {
		q.pieces = append(q.pieces, piece{data: chunks.Get().(*[chunkBytes]byte)[:0], chunk: true})
	}
	return &q.pieces[len(q.pieces)-1]
}

// take waits for something to write and appends the oldest pieces to dst. It
// returns none when there is nothing more to do.
func (q *queue) take(dst []piece) []piece {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.first == len(q.pieces) && !q.ending && !q.aborted {
		q.filled.Wait()
	}
	if q.aborted {
		return dst
	}
	for size := 0; q.first < len(q.pieces) && size < maxWrite; q.first++ {
		dst = append(dst, q.pieces[q.first])
		size += len(q.pieces[q.first].data)
		q.pieces[q.first] = piece{}
	}
	if q.first == len(q.pieces) {
		q.pieces, q.first = q.pieces[:0], 0
	} else if q.first > len(q.pieces)/2 {
		n := copy(q.pieces, q.pieces[q.first:])
		clear(q.pieces[n:])
		q.pieces, q.first = q.pieces[:n], 0
	}
	return dst
}

// done takes back pieces that were written.
func (q *queue) done(pieces []piece) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.aborted {
		return
	}
	for _, p := range pieces {
		q.messages -= p.messages
		q.bytes -= len(p.data)
		if p.chunk {
			chunks.Put((*[chunkBytes]byte)(p.data[:chunkBytes]))
		}
	}
	q.advanceLocked()
}

func (q *queue) advanceLocked() {
	if q.progress != nil {
		close(q.progress)
		q.progress = nil
	}
}

// end lets the writer finish what is there; abort does not.
func (q *queue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ending = true
	q.filled.Signal()
}

func (q *queue) abort() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ending, q.aborted = true, true
	q.pieces, q.first, q.messages, q.bytes = nil, 0, 0, 0
	q.filled.Signal()
	q.advanceLocked()
}

// await waits until ready is true, which is asked with the lock held, or nothing
// will ever be written.
func (q *queue) await(ctx context.Context, ready func() bool) error {
	for {
		q.mu.Lock()
		if q.aborted || ready() {
			q.mu.Unlock()
			return nil
		}
		if q.progress == nil {
			q.progress = make(chan struct{})
		}
		progress := q.progress
		q.mu.Unlock()
		select {
		case <-progress:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// queued is how many messages wait, or are being written.
func (q *queue) queued() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.messages
}

// write sends what the queue holds until it ends, and all of it if it can.
func (q *queue) write(conn net.Conn) error {
	var pieces []piece
	var vector net.Buffers
	for {
		pieces = q.take(pieces[:0])
		if len(pieces) == 0 {
			return nil
		}
		vector = vector[:0]
		for _, p := range pieces {
			vector = append(vector, p.data)
		}
		unsent := vector // WriteTo moves its receiver along.
		if _, err := unsent.WriteTo(conn); err != nil {
			return err
		}
		q.done(pieces)
		clear(pieces)
	}
}
