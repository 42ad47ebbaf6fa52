package storelog

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/model"
)

const (
	// tickInterval is how often the keeper looks at the disk, and at what is due.
	tickInterval = time.Second
	// markInterval bounds what a recovery has to read, in time; it is as much again
	// for each markedAtOnce partitions, for all marks are in one file.
	markInterval = 5 * time.Second
	markedAtOnce = 20_000
	// maxOpen is about how many partitions may have open files.
	maxOpen = 2048
	// complainInterval is how often it is said that something does not work.
	complainInterval = time.Minute
	// manyDirty is from how many logs on one sync of the whole file system is
	// cheaper than one of each.
	manyDirty = 8
)

// keeper is what Keep knows.
type keeper struct {
	// These are its own.
	marks                datadir.Marks
	nextMark, complained time.Time

	opened atomic.Int64 // Partitions that were used since the last sweep.
	wake   chan struct{}
	mu     struct {
		sync.Mutex
		// unmarked are those that may have changed since the marks were written, open
		// those that may have open files.
		unmarked, open map[*Partition]struct{}
	}
}

func (k *keeper) init() {
	k.wake = make(chan struct{}, 1)
	k.mu.unmarked, k.mu.open = map[*Partition]struct{}{}, map[*Partition]struct{}{}
}

// touch notes that a partition is used.
func (l *Logs) touch(p *Partition) {
	if !p.used.Load() && p.used.CompareAndSwap(false, true) && l.keep.opened.Add(1) > maxOpen {
		select {
		case l.keep.wake <- struct{}{}:
		default:
		}
	}
}

// closeMany closes files if too many may be open.
func (l *Logs) closeMany() {
	if l.keep.opened.Load() > maxOpen {
		l.sweep()
		l.sweep() // Twice: the first one only notes who is idle.
	}
}

// Keep takes marks, lets retention delete, and closes idle files, until ctx ends.
func (l *Logs) Keep(ctx context.Context) {
	tick := time.NewTicker(tickInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.Tick()
		case <-l.keep.wake:
			l.closeMany()
		}
	}
}

// Tick is one step of Keep, for tests.
func (l *Logs) Tick() {
	now := l.o.Now()
	l.retain(now)
	l.relieve()
	l.dir.Restore()
	if now.Before(l.keep.nextMark) {
		return
	}
	l.keep.nextMark = now.Add(markInterval * time.Duration(1+len(l.keep.marks)/markedAtOnce))
	l.sweep()
	if err := l.mark(); err != nil && now.Sub(l.keep.complained) >= complainInterval {
		l.keep.complained = now
		l.o.Log.Error("marks not taken: the next start may have to read more", "dir", l.dir.Path(), "err", err)
	}
}

// sweep closes the files of those that were not used since the last one.
func (l *Logs) sweep() {
	k := &l.keep
	k.mu.Lock()
	defer k.mu.Unlock()
	k.opened.Store(0)
	for _, p := range l.Partitions() {
		if p.used.Load() && p.used.Swap(false) {
			k.mu.open[p], k.mu.unmarked[p] = struct{}{}, struct{}{}
		} else if _, open := k.mu.open[p]; !open {
			continue
		} else {
			delete(k.mu.open, p)
		}
		if log := p.log.Load(); log != nil {
			log.Idle()
		}
	}
}

// mark notes how far each log is durable, so that the next start need not read
// what lies below.
func (l *Logs) mark() error {
	k := &l.keep
	k.mu.Lock()
	unmarked := k.mu.unmarked
	k.mu.unmarked = map[*Partition]struct{}{}
	k.mu.Unlock()
	var errs []error
	if len(unmarked) >= manyDirty {
		errs = append(errs, l.dir.SyncAll()) // Then the sync of each has nothing to do.
	}
	fresh := maps.Clone(k.marks)
	changed := false
	take := func(name model.Partition, log *commitlog.Log) {
		if have, ok := fresh[name]; log.Err() != nil || ok && have.Offset == log.End() && have.Start == log.Start() {
			return
		}
		m, err := log.Checkpoint(nil)
		if err != nil {
			errs = append(errs, err)
			return
		}
		fresh[name], changed = m, true
	}
	for p := range unmarked {
		if log := p.log.Load(); log != nil {
			take(p.name, log)
			if len(unmarked) > maxOpen { // It may have opened a file.
				log.Idle()
				log.Idle()
			}
		}
	}
	take(manifestName, l.manifest)
	if changed {
		if err := l.dir.WriteMarks(fresh, false); err != nil {
			k.mu.Lock()
			maps.Copy(k.mu.unmarked, unmarked)
			k.mu.Unlock()
			return errors.Join(append(errs, err)...)
		}
		k.marks = fresh
	}
	return errors.Join(errs...)
}
