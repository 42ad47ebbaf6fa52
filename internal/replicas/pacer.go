package replicas

import (
	"context"
	"sync"
	"time"
)

// maxBurst is how far ahead of its rate the cleaner may be: less costs a timer
// for every read, more would be noticed.
const maxBurst = 50 * time.Millisecond

// maxWait is as good as for ever, in nanoseconds, and can be added to a time.
const maxWait = 1 << 60

// mannersLast is how long after an append the cleaner still gives way: a
// producer that sends a few records a second wants an answer as soon as others.
const mannersLast = time.Second

// mannersRest is how many times as long as it worked a worker then rests.
const mannersRest = 3

// mannersLead is how many bytes a worker reads and writes for each that is
// appended to a log that is compacted, rest or no rest. A log that is cleaned when
// a share r of it is dirty wants 2/r of them; one that is cleaned more slowly
// than it is written would grow for ever.
const mannersLead = 8

// manners make one worker of the cleaner give way: as long as records are
// appended it rests after each piece of work, so that who wants a core or the
// disk waits for a piece at most, and not for a pass.
type manners struct {
	// appended is how many bytes of appends began so far, and how many of them to
	// logs that are compacted.
	appended func() (all, toCompact int64)
	seen     int64     // Of all.
	until    time.Time // The worker gives way no longer.

	// Of the pass: what was appended before, and moved since.
	before, moved int64
	began         time.Time // Of the piece.
}

// begin is called before a pass.
func (m *manners) begin() {
	_, m.before = m.appended()
	m.moved, m.began = 0, time.Now()
}

// giveWay is called after each piece, with the bytes that it moved, and waits if
// there is somebody to give way to.
func (m *manners) giveWay(ctx context.Context, bytes int, ended time.Time) {
	all, toCompact := m.appended()
	if all != m.seen {
		m.seen, m.until = all, ended.Add(mannersLast)
	}
	m.moved += int64(bytes)
	isBehind := m.moved < mannersLead*(toCompact-m.before)
	rest := time.Until(ended.Add(mannersRest * ended.Sub(m.began)))
	if rest > 0 && ended.Before(m.until) && !isBehind {
		pause(ctx, rest)
	}
	m.began = time.Now()
}

// pacer holds those who share it to a number of bytes per second: the workers of
// the cleaner, or the moves between directories.
type pacer struct {
	mu struct {
		sync.Mutex
		rate float64
		// free is when all bytes so far would have been due.
		free time.Time
	}
}

// setRate sets another rate. What was done at the old one is forgotten: at one
// byte per second it would take days to be due.
func (p *pacer) setRate(bytesPerSecond float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.rate != bytesPerSecond {
		p.mu.rate, p.mu.free = bytesPerSecond, time.Time{}
	}
}

// due is how long to wait after so many bytes: without end if the rate is not
// above zero.
func (p *pacer) due(bytes int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.rate <= 0 {
		return maxWait
	}
	now := time.Now()
	if p.mu.free.Before(now) {
		p.mu.free = now
	}
	p.mu.free = p.mu.free.Add(time.Duration(min(float64(bytes)/p.mu.rate*float64(time.Second), maxWait)))
	return p.mu.free.Sub(now)
}

// pace waits as long as the rate wants it after so many bytes.
func (p *pacer) pace(ctx context.Context, bytes int) error {
	if wait := p.due(bytes); wait > maxBurst {
		pause(ctx, wait)
	}
	return ctx.Err()
}
