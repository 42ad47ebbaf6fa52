package listener

import (
	"sync/atomic"
	"time"
)

// mute is until when a connection is not read: how a client waits that uses
// more than its share (KIP-219). Its answers go out meanwhile.
type mute struct {
	until atomic.Int64 // Nanoseconds after born; 0 is not muted.
	born  time.Time
}

// set mutes for d from now on. Of several the longest counts.
func (m *mute) set(d time.Duration) {
	until := int64(time.Since(m.born) + d)
	for {
		old := m.until.Load()
		if old >= until || m.until.CompareAndSwap(old, until) {
			return
		}
	}
}

// left is how long is left, at most 0 if nothing is.
func (m *mute) left() time.Duration {
	until := m.until.Load()
	if until == 0 { // The usual case looks at no clock.
		return 0
	}
	left := time.Duration(until) - time.Since(m.born)
	if left <= 0 {
		m.until.CompareAndSwap(until, 0)
	}
	return left
}

// Mute stops the connection from being read for d, beginning now. A request
// that has come already, and whose turn it is not yet, waits as long.
func (c *Conn) Mute(d time.Duration) {
	if d > 0 {
		c.server.stats.Mutes.Add(1)
		c.muted.set(d)
	}
}

// sitOut waits until the connection may be read again. Like silence, being
// muted ends a connection after the idle time: a client that is gone would
// hold it for as long as its quota is exceeded.
func (c *Conn) sitOut() error {
	left := c.muted.left()
	if left <= 0 {
		return nil
	}
	c.server.stats.Muted.Add(1)
	defer c.server.stats.Muted.Add(-1)
	c.flush()
	idle := c.server.opts.Idle
	for began := time.Now(); left > 0; left = c.muted.left() {
		if idle > 0 {
			rest := idle - time.Since(began)
			if rest <= 0 {
				return errIdle
			}
			left = min(left, rest)
		}
		if !sleep(left, c.halt, c.gone) {
			return errStopped
		}
	}
	return nil
}

// sleep waits, and reports false when one of two ends comes first; nil never
// comes.
func sleep(d time.Duration, end, other <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-end:
	case <-other:
	}
	return false
}
