package zmtp

import (
	"bytes"
	"sync"
)

// Message is one message: its frames, of which there is at least one. The first
// is what prefixes are compared with.
type Message [][]byte

// Subscription is what a subscriber asked an XPUB for. Every SUBSCRIBE and CANCEL
// of every connection is told, in their order; when a connection ends each prefix
// that it still had is told once, as cancelled.
type Subscription struct {
	Prefix    []byte
	Subscribe bool // Or cancel.
	Count     int  // How often this connection now subscribes to Prefix: 1 the first time, 0 when nothing is left.
}

// A batch is handed over once it has this much, or nothing more is there to read.
const (
	maxBatchMessages = 256
	maxBatchBytes    = 64 << 10
)

// A frame up to ownFrame bytes is copied into its batch; a larger one gets memory
// of its own, into which it is read.
const ownFrame = 8 << 10

// Batch is what was received from one peer in one go: up to 256 messages, or the
// subscriptions of an XPUB. It belongs to the receiver, who calls Release when
// nothing of it is in use any more; a batch that is not released is left to the
// garbage collector. Small frames of a batch share memory: who keeps one for long
// should copy it.
type Batch struct {
	From          *Peer
	Messages      []Message
	Subscriptions []Subscription

	arena  []byte   // What small frames and prefixes point into; older arrays where it had to grow.
	frames [][]byte // Frames of Messages, then those of the message that is not yet complete.
	open   int      // Index in frames of the latter.
	bytes  int      // Of all frames.
	ahead  int      // Bytes that are read and not looked at yet.
}

var batches = sync.Pool{New: func() any { return new(Batch) }}

// Release gives the batch's memory back. Nothing of it may be used afterwards.
func (b *Batch) Release() {
	clear(b.Messages)
	clear(b.Subscriptions)
	clear(b.frames)
	*b = Batch{Messages: b.Messages[:0], Subscriptions: b.Subscriptions[:0], arena: b.arena[:0], frames: b.frames[:0]}
	batches.Put(b)
}

// Bytes is the size of all complete messages.
func (b *Batch) Bytes() int { return b.bytes }

// add adds a frame, and completes the message if it is the last.
func (b *Batch) add(f frame) {
	body := f.body
	if !f.owned {
		body = b.keep(body)
	}
	b.bytes += len(body)
	b.frames = append(b.frames, body)
	if !f.more() {
		b.Messages = append(b.Messages, b.frames[b.open:len(b.frames):len(b.frames)])
		b.open = len(b.frames)
	}
}

// keep copies p to where it lives as long as the batch.
func (b *Batch) keep(p []byte) []byte {
	if len(p) > ownFrame {
		return bytes.Clone(p)
	}
	if cap(b.arena)-len(b.arena) < len(p) { // What points into the old one keeps it.
		b.arena = make([]byte, 0, max(len(p), min(max(len(p)+b.ahead, 2*cap(b.arena)), maxBatchBytes)))
	}
	start := len(b.arena)
	b.arena = append(b.arena, p...)
	return b.arena[start:len(b.arena):len(b.arena)]
}

// partial is the number of frames of the message that is not yet complete.
func (b *Batch) partial() int { return len(b.frames) - b.open }

// drop forgets the message that is not yet complete.
func (b *Batch) drop() {
	for _, f := range b.frames[b.open:] {
		b.bytes -= len(f)
	}
	clear(b.frames[b.open:])
	b.frames = b.frames[:b.open]
}

func (b *Batch) full() bool {
	return len(b.Messages)+len(b.Subscriptions) >= maxBatchMessages || b.bytes >= maxBatchBytes
}

func (b *Batch) empty() bool { return len(b.Messages)+len(b.Subscriptions) == 0 }

// rest moves the message that is not yet complete to a batch of its own, so that
// b can be handed over.
func (b *Batch) rest() *Batch {
	next := batches.Get().(*Batch)
	for _, f := range b.frames[b.open:] {
		next.add(frame{flags: flagMore, body: f, owned: len(f) > ownFrame})
	}
	b.drop()
	return next
}

func newBatch(from *Peer) *Batch {
	b := batches.Get().(*Batch)
	b.From = from
	b.expect(from.usual)
	return b
}

// expect makes room for so many messages in a batch that never had one.
func (b *Batch) expect(messages int) {
	if b.Messages == nil && messages > 0 {
		b.Messages = make([]Message, 0, messages)
		b.frames = make([][]byte, 0, 2*messages)
	}
}
