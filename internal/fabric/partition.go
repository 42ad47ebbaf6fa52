package fabric

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"time"
)

// Partition is what one producer publishes on one topic.
type Partition struct {
	Subject string // The topic.
	Address string // The producer.
}

func (p Partition) compare(q Partition) int {
	return cmp.Or(strings.Compare(p.Subject, q.Subject), strings.Compare(p.Address, q.Address))
}

// Send is a message to publish.
type Send struct {
	Message
	// Content is the second frame, if the kind has one.
	Content []byte
}

// cursor is how far somebody who reads a partition has come, and what it does
// about the rest.
//
//	         something is missing           due: asked in vain, ask again
//	idle ─────────────────────────▶ fetching ───┐
//	  ▲                              │  ▲       │ later and later
//	  └──────────────────────────────┘  └───────┘
//	   next has reached end, or maxTries in vain
type cursor struct {
	Partition
	subject, address []byte // The same, for messages.

	next uint64 // The sequence that is wanted next.
	end  uint64 // One past the last that is known to exist.

	// The fetch that is under way, if until is not 0.
	asked uint64    // Its first sequence, or how far it had come at the last look.
	until uint64    // One past its last.
	tries int       // How often it was sent in vain, and once more.
	sent  time.Time // When it was sent last.
	due   time.Time // When to look after it.
	place int       // Where it is in fetcher.heap.

	// gone, if it is not 0, is the lowest sequence before which somebody said
	// that there is nothing any more, for the first time at goneSince and the
	// last at goneAt.
	gone              uint64
	goneSince, goneAt time.Time
}

func newCursor(p Partition) cursor {
	return cursor{Partition: p, subject: []byte(p.Subject), address: []byte(p.Address)}
}

func (c *cursor) is(subject, address []byte) bool {
	return string(address) == c.Address && string(subject) == c.Subject
}

// exists notes that there is a record of this sequence.
func (c *cursor) exists(sequence uint64) { c.end = max(c.end, sequence+1) }

// fetcher asks for what cursors miss, and asks again until it comes.
type fetcher struct {
	self     []byte // Who asks.
	retry    time.Duration
	maxRetry time.Duration
	// patience is how long nobody may have a record that somebody says is gone,
	// until it is left out.
	patience time.Duration
	chunk    uint64

	heap  []*cursor // Those that fetch, the one that is due first at 0.
	sends []Send
}

// chunkSize is C's: a fetch ends where a multiple of it begins.
const chunkSize = 100_000

// maxTries is how often a fetch is sent in vain until it is given up, after more
// than a minute with the usual times. A head, or a record, begins it anew. It is
// for what a producer took with it when it died before any store had it.
const maxTries = 12

func newFetcher(self string, retry, maxRetry, patience time.Duration, chunk int) fetcher {
	f := fetcher{self: []byte(self), retry: orSpan(retry, time.Second), patience: patience, chunk: uint64(orDefault(chunk, chunkSize))}
	f.maxRetry = max(orSpan(maxRetry, 8*time.Second), f.retry)
	return f
}

func orSpan(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}

func orDefault(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}

// want asks for what c misses, if it does not already.
func (f *fetcher) want(now time.Time, c *cursor) {
	if c.until == 0 && c.next < c.end {
		f.fetch(now, c)
	}
}

func (f *fetcher) fetch(now time.Time, c *cursor) {
	count := f.chunk - c.next%f.chunk
	f.sends = append(f.sends, Send{Message: Message{
		Kind: Fetch, Topic: c.address, Address: f.self, Subject: c.subject, Sequence: c.next, Count: uint32(count),
	}})
	wait := min(f.retry<<min(c.tries, 16), f.maxRetry)
	fresh := c.until == 0
	c.asked, c.until, c.tries, c.sent, c.due = c.next, c.next+count, c.tries+1, now, now.Add(wait)
	if until := c.goneSince.Add(f.patience); c.gone > c.next && until.After(now) && until.Before(c.due) {
		c.due = until
	}
	if fresh {
		c.place = len(f.heap)
		f.heap = append(f.heap, c)
	}
	f.fix(c.place)
}

// later asks for what c misses after a while, unless it comes by itself.
func (f *fetcher) later(now time.Time, c *cursor) {
	f.rest(c)
	c.asked, c.until, c.sent, c.due, c.place = c.next, c.next+1, now, now.Add(f.retry), len(f.heap)
	f.heap = append(f.heap, c)
	f.fix(c.place)
}

// took notes that the record at c.next came and was taken.
func (f *fetcher) took(now time.Time, c *cursor) {
	c.next++
	c.end = max(c.end, c.next)
	if c.until != 0 {
		f.proceed(now, c)
	}
}

// proceed looks whether c has what it fetched, or all there is.
func (f *fetcher) proceed(now time.Time, c *cursor) {
	c.gone = 0
	switch {
	case c.next >= c.end:
		f.rest(c)
	case c.next >= c.until:
		c.tries = 0
		f.fetch(now, c)
	}
}

// rest ends c's fetch.
func (f *fetcher) rest(c *cursor) {
	if c.until == 0 {
		return
	}
	c.until, c.tries, c.gone = 0, 0, 0
	last := len(f.heap) - 1
	at := c.place
	f.heap[at] = f.heap[last]
	f.heap[at].place = at
	f.heap[last] = nil
	f.heap = f.heap[:last]
	if at < last {
		f.fix(at)
	}
}

// hasIt notes that a store says that it has c.next: if c was waiting for longer
// and longer, it goes back to asking at the usual pace.
func (f *fetcher) hasIt(c *cursor) {
	if c.until != 0 {
		f.hurry(c, c.sent.Add(f.retry))
	}
}

// listens notes that somebody subscribed to this prefix at the publisher: who
// listens to fetches from now on has missed those that were sent a moment ago,
// when nodes had just met. They are sent again, once.
func (f *fetcher) listens(prefix []byte) {
	if len(prefix) == 0 || Kind(prefix[0]) != Fetch || len(f.heap) > maxHurried {
		return
	}
	for _, c := range slices.Clone(f.heap) {
		if c.tries == 1 && bytes.HasPrefix(c.address, prefix[1:]) {
			f.hurry(c, c.sent.Add(welcomeInterval))
		}
	}
}

// welcomeInterval is how long after a fetch it may be sent again for the sake of
// newcomers.
const welcomeInterval = 10 * time.Millisecond

// maxHurried bounds what a stranger's subscription costs: with more fetches under
// way the next ones will do.
const maxHurried = 1024

// isGone notes that somebody has no record before first any more.
func (f *fetcher) isGone(now time.Time, c *cursor, first uint64) {
	if c.until == 0 {
		return // It is not asking: this is an answer to an old question.
	}
	if c.gone == 0 {
		c.gone, c.goneSince = first, now
	}
	c.gone, c.goneAt = min(c.gone, first), now
	f.hurry(c, c.goneSince.Add(f.patience))
}

func (f *fetcher) hurry(c *cursor, due time.Time) {
	if due.Before(c.due) {
		c.due = due
		f.fix(c.place)
	}
}

// tick asks again for what did not come. A cursor whose next record is gone for
// good is given to skip, which moves its next.
func (f *fetcher) tick(now time.Time, skip func(c *cursor, to uint64)) {
	for len(f.heap) > 0 && !f.heap[0].due.After(now) {
		c := f.heap[0]
		switch {
		case c.next > c.asked: // Slow, but it comes.
			c.asked, c.tries, c.due = c.next, 1, now.Add(f.retry)
			f.fix(0)
		case f.skips(now, c):
			skip(c, c.gone)
			c.end, c.tries = max(c.end, c.next), 0
			if c.gone = 0; c.next >= c.end {
				f.rest(c)
			} else {
				f.fetch(now, c)
			}
		case c.tries >= maxTries:
			c.end = c.next
			f.rest(c)
		default:
			f.fetch(now, c)
		}
	}
}

// skips reports whether nobody has c.next, for long enough, and somebody said so
// to the last question: who said it once may have been taken for another, or be
// gone itself.
func (f *fetcher) skips(now time.Time, c *cursor) bool {
	return c.gone > c.next && !now.Before(c.goneSince.Add(f.patience)) && !c.goneAt.Before(c.sent)
}

// deadline is when tick has something to do, or zero.
func (f *fetcher) deadline() time.Time {
	if len(f.heap) == 0 {
		return time.Time{}
	}
	return f.heap[0].due
}

// fix restores the order of the heap after the cursor at i was changed.
func (f *fetcher) fix(i int) {
	h := f.heap
	for i > 0 && h[i].due.Before(h[(i-1)/2].due) {
		f.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
	for {
		first := 2*i + 1
		if first+1 < len(h) && h[first+1].due.Before(h[first].due) {
			first++
		}
		if first >= len(h) || !h[first].due.Before(h[i].due) {
			return
		}
		f.swap(i, first)
		i = first
	}
}

func (f *fetcher) swap(i, j int) {
	h := f.heap
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// sooner is the earlier of two deadlines, where zero means never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
