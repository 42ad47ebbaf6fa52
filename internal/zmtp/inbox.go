package zmtp

import (
	"context"
	"sync"
	"sync/atomic"
)

// inbox is the socket's queue of received batches. Readers wait while it is
// full, and with them TCP. Whoever waits longest goes first, so that a peer that
// sends much does not shut others out.
type inbox struct {
	mu       sync.Mutex
	filled   sync.Cond // For receivers.
	emptied  sync.Cond // For readers.
	batches  []*Batch
	first    int // Index of the oldest one.
	messages int
	bytes    int
	closed   bool

	maxMessages int
	maxBytes    int
}

func newInbox(maxMessages, maxBytes int) *inbox {
	i := &inbox{maxMessages: maxMessages, maxBytes: maxBytes}
	i.filled.L, i.emptied.L = &i.mu, &i.mu
	return i
}

// weigh is what a batch counts for. Every message costs its descriptors, too.
func weigh(b *Batch) (messages, bytes int) {
	n := len(b.Messages) + len(b.Subscriptions)
	return n, b.bytes + 64*n
}

// put waits for room and adds b. It returns false if the connection is cut or the
// inbox closed before that.
func (i *inbox) put(b *Batch, cut *atomic.Bool) bool {
	messages, bytes := weigh(b)
	i.mu.Lock()
	defer i.mu.Unlock()
	for !i.closed && !cut.Load() && i.messages > 0 && (i.messages+messages > i.maxMessages || i.bytes+bytes > i.maxBytes) {
		i.emptied.Wait()
	}
	if i.closed || cut.Load() {
		i.emptied.Signal() // The call may have been for somebody who can still use it.
		return false
	}
	i.batches = append(i.batches, b)
	i.messages += messages
	i.bytes += bytes
	i.filled.Signal()
	if i.messages < i.maxMessages {
		i.emptied.Signal() // There may be room for the next one, too.
	}
	return true
}

// get waits for a batch, or until the context is done or the inbox closed.
func (i *inbox) get(ctx context.Context) (*Batch, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.empty() && !i.closed {
		stop := context.AfterFunc(ctx, i.wake)
		defer stop()
	}
	for i.empty() && !i.closed {
		if ctx.Err() != nil {
			i.filled.Signal()
			return nil, context.Cause(ctx)
		}
		i.filled.Wait()
	}
	if i.closed {
		return nil, ErrClosed
	}
	b := i.batches[i.first]
	i.batches[i.first] = nil
	i.first++
	if i.first == len(i.batches) {
		i.batches, i.first = i.batches[:0], 0
	} else if i.first > len(i.batches)/2 {
		n := copy(i.batches, i.batches[i.first:])
		clear(i.batches[n:])
		i.batches, i.first = i.batches[:n], 0
	}
	messages, bytes := weigh(b)
	i.messages -= messages
	i.bytes -= bytes
	i.emptied.Signal()
	return b, nil
}

func (i *inbox) empty() bool { return i.first == len(i.batches) }

// wake makes all who wait look again.
func (i *inbox) wake() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.filled.Broadcast()
	i.emptied.Broadcast()
}

func (i *inbox) close() {
	i.mu.Lock()
	i.closed = true
	i.batches, i.first = nil, 0
	i.mu.Unlock()
	i.wake()
}
