package datadir

import "time"

// SyncChoice decides how to make a group of files durable: one fdatasync each,
// or one syncfs of the whole file system. Which is cheaper depends on the disk,
// on how many files there are, and on what others have left dirty on the same
// file system: with topics of durability=os beside, a syncfs would write their
// gigabytes too. So both are measured, and the one that has become dearer is
// tried again now and then.
type SyncChoice struct {
	each, all time.Duration // What one fdatasync, and one syncfs, cost lately; 0 is not known.
	sinceEach int           // Groups since the choice was last tried.
	sinceAll  int
}

const (
	// minTogether is the smallest group for which a syncfs is tried.
	minTogether = 3
	// retryEach and retryAll are after how many groups the loser is tried again.
	// A syncfs may turn out to cost seconds, so it is tried seldom.
	retryEach = 64
	retryAll  = 512
)

// Together says whether to sync n files with one syncfs.
func (c *SyncChoice) Together(n int) bool {
	c.sinceEach++
	c.sinceAll++
	switch {
	case n < minTogether:
		return false
	case c.each == 0 || c.sinceEach > retryEach:
		return false
	case c.all == 0 || c.sinceAll > retryAll:
		return true
	}
	return c.all < time.Duration(n)*c.each
}

// Took learns from a group.
func (c *SyncChoice) Took(together bool, n int, d time.Duration) {
	if together {
		c.sinceAll = 0
		c.all = smooth(c.all, d)
		return
	}
	c.sinceEach = 0
	c.each = smooth(c.each, d/time.Duration(n))
}

// smooth follows a series of durations, a quarter of the way at a time; what is
// another order of magnitude is another disk, and counts at once.
func smooth(old, d time.Duration) time.Duration {
	d = max(d, 1)
	if old == 0 || d < old/8 {
		return d
	}
	return old + (d-old)/4
}
