package partition

import (
	"errors"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/config"
)

// ErrMoved says that the partition no longer lies where the caller thinks.
var ErrMoved = errors.New("partition: moved to another data directory")

// home is where a partition lies. It is replaced as a whole, under the
// partition's lock, when the partition moves to another data directory.
type home struct {
	log    *commitlog.Log
	owner  any
	dirty  func(*Partition)
	grown  func(*Partition)
	full   func() bool
	room   func(cfg *config.Topic, bytes int)
	wrote  func(bytes int)
	failed func(*Partition, error)
}

func newHome(o *Options, log *commitlog.Log) *home {
	h := &home{log: log, owner: o.Owner, dirty: o.Dirty, grown: o.Grown, full: o.Full, room: o.Room, wrote: o.Wrote, failed: o.Failed}
	if h.dirty == nil {
		h.dirty = func(*Partition) {}
	}
	if h.grown == nil {
		h.grown = func(*Partition) {}
	}
	if h.full == nil {
		h.full = func() bool { return false }
	}
	if h.room == nil {
		h.room = func(*config.Topic, int) {}
	}
	if h.wrote == nil {
		h.wrote = func(int) {}
	}
	if h.failed == nil {
		h.failed = func(*Partition, error) {}
	}
	return h
}

// Log returns the partition's log, for those who keep its directory: marks,
// retention, sizes. Appending goes through the partition. After a move it is
// another one, and this one is closed.
func (p *Partition) Log() *commitlog.Log { return p.home.Load().log }

// Owner is Options.Owner of where the partition lies.
func (p *Partition) Owner() any { return p.home.Load().owner }

// Fail takes the partition offline: its disk can no longer be trusted.
func (p *Partition) Fail(err error) {
	var w woken
	p.mu.Lock()
	p.failLocked(err, &w)
	p.mu.Unlock()
	w.wake()
}

// failLocked takes the partition offline, tells who keeps its directory when
// the lock is free, and returns the error to report.
func (p *Partition) failLocked(err error, w *woken) error {
	p.mu.waiters.everybody(w)
	if p.mu.failed == nil {
		p.mu.failed = offline(err)
		w.then = func() { p.home.Load().failed(p, err) }
	}
	return p.mu.failed
}
