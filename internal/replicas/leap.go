package replicas

import (
	"math"
	"time"
)

// leap is by how much the clock was set ahead lately. A clock that leaps by
// years makes all records old at once, and retention would delete them; so for
// a while it goes by the old clock, and who sets the clock right loses nothing.
// A clock that is right now, and was wrong before, costs retention that while.
// It belongs to the keeper.
type leap struct {
	last, since time.Time // The last look, and the last leap.
	doubted     time.Duration
}

const (
	// minLeap is more than a pause of the process or the machine makes of a second
	// between two looks, in most cases; it does no harm if it is one.
	minLeap = time.Hour
	// leapDoubt is how long retention waits: time enough to hear of it.
	leapDoubt = time.Hour
)

// look is told the clock every second. It reports a leap that it sees.
func (l *leap) look(now time.Time) (leapt time.Duration) {
	last := l.last
	l.last = now
	if last.IsZero() {
		return 0
	}
	// Round(0) takes away the clock that only runs, which Sub would go by.
	switch by := now.Round(0).Sub(last.Round(0)); {
	case by >= minLeap:
		l.doubted, l.since = min(l.doubted, math.MaxInt64-by)+by, now
		return by
	case by <= -minLeap:
		l.doubted = max(0, l.doubted+by)
	case now.Sub(l.since) >= leapDoubt:
		l.doubted = 0
	}
	return 0
}

// old is the clock by which records are old.
func (l *leap) old(now time.Time) time.Time { return now.Add(-l.doubted) }

// watchClock looks whether the clock leapt.
func (d *disk) watchClock(now time.Time) {
	if by := d.leap.look(now); by > 0 {
		d.owner.opts.Log.Warn("clock was set ahead: retention by time goes by the old one for an hour; if it is wrong now, set it right",
			"dir", d.dir.Path(), "by", by)
	}
}
