package partition

import (
	"math"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
)

// RetainAt tells when Retain has something to do because of retention.ms, in
// milliseconds since 1970: when the oldest segment is old enough. Appends may
// make that later. ok is false if time alone changes nothing.
func (p *Partition) RetainAt() (at int64, ok bool, err error) {
	cfg := p.config.Load()
	if !cfg.Delete || cfg.Retention <= 0 || cfg.Retention == math.MaxInt64 {
		return 0, false, nil
	}
	o, err := p.Log().Oldest()
	keep := cfg.Retention.Milliseconds()
	if err != nil || o.Bytes == 0 || o.Time > math.MaxInt64-keep-1 {
		return 0, false, err
	}
	return o.Time + keep + 1, true, nil
}

// Droppable describes the oldest segment if it may be deleted to make room: it
// is sealed, and the topic's policy is deletion.
func (p *Partition) Droppable() (o commitlog.Oldest, ok bool, err error) {
	if !p.config.Load().Delete {
		return o, false, nil
	}
	o, err = p.Log().Oldest()
	return o, err == nil && o.Sealed, err
}

// DropOldest deletes the oldest segment, to make room, whatever retention says.
// It reports false if there is none that is committed. Its files wait for
// [commitlog.Log.DeleteExpired].
func (p *Partition) DropOldest(now time.Time) (bool, error) {
	n, err := p.drop(now, commitlog.Retention{Oldest: 1})
	return n > 0, err
}

// DropTrimmed deletes the segments that Trim has left before the start of the
// log, and returns how many went.
func (p *Partition) DropTrimmed(now time.Time) (int, error) {
	return p.drop(now, commitlog.Retention{})
}

func (p *Partition) drop(now time.Time, r commitlog.Retention) (int, error) {
	p.mu.Lock()
	r.Limit = p.mu.replica.Committed()
	usable := p.mu.failed == nil && !p.mu.closed
	p.mu.Unlock()
	if !usable {
		return 0, nil
	}
	n, err := p.Log().Retain(now, r)
	p.started(n)
	return n, err
}

// started tells the producers' state that segments were deleted.
func (p *Partition) started(segments int) {
	if segments > 0 {
		p.mu.Lock()
		p.mu.producers.LogStart(p.Log().Start())
		p.mu.Unlock()
	}
}

// Roll seals the active segment, if it holds anything.
func (p *Partition) Roll() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.failed != nil || p.mu.closed {
		return nil
	}
	return p.Log().Roll()
}
