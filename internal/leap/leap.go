// Package leap notices a clock that is set: it tells time that passed from time
// that somebody, or a time server, has put on the clock. It knows nothing of who
// asks, and has no clock of its own.
package leap

import (
	"math"
	"time"
)

// Clock is what its owner knows of the clock on the wall. A clock that leaps by
// years makes everything old at once: retention would delete all there is, groups
// lose their offsets, and open transactions be aborted. So for a while age goes
// by the old clock, and who sets the clock right loses nothing. A clock that is
// right now, and was wrong before, costs expiry that while.
//
// The zero Clock is ready. Its owner tells it the time whenever it needs to know,
// and not later than when Due says.
type Clock struct {
	last, since time.Time // The last look, and the last leap.
	doubted     time.Duration
	ran         time.Duration
}

const (
	// Least is what a clock must be set by to be doubted. It is more than a pause
	// of the process or the machine makes of the time between two looks, in most
	// cases; it does no harm if it is one.
	Least = time.Hour
	// Doubt is how long a leap is not believed: time enough to hear of it.
	Doubt = time.Hour
)

// Look is told the time. It reports by how much the clock was set ahead since the
// last look, if it was.
func (c *Clock) Look(now time.Time) (leapt time.Duration) {
	last := c.last
	c.last = now
	if last.IsZero() {
		return 0
	}
	passed, by := between(last, now)
	c.ran += passed
	switch {
	case by >= Least:
		c.doubted, c.since = min(c.doubted, math.MaxInt64-by)+by, now
		return by
	case by <= -Least:
		c.doubted = max(0, c.doubted+by)
	case now.Sub(c.since) >= Doubt:
		c.doubted = 0
	}
	return 0
}

// between is how much time passed between two looks, and by how much the clock
// was set.
func between(last, now time.Time) (passed, set time.Duration) {
	// Round(0) takes away the clock that only runs, which Sub goes by.
	wall := now.Round(0).Sub(last.Round(0))
	switch ran := now.Sub(last); {
	case now != now.Round(0) && last != last.Round(0):
		return ran, wall - ran
	case wall >= Least || wall <= -Least:
		return 0, wall
	}
	return max(0, wall), 0
}

// Due is when the next look is due: without the clock that only runs, an hour
// without a look could not be told from a leap.
func (c *Clock) Due() time.Time { return c.last.Add(Least / 2) }

// Old is the clock by which things are old: now, unless that is in doubt.
func (c *Clock) Old(now time.Time) time.Time { return now.Add(-c.doubted) }

// Ran is how much time has passed between the first look and the last, whatever
// the clock was set to.
func (c *Clock) Ran() time.Duration { return c.ran }
