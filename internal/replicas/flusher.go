package replicas

import (
	"context"
	"errors"
	"sync"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/partition"
)

// manyDirty is from how many logs on work that is done once, at start or for
// marks, begins with one syncfs: then the sync of each finds nothing to do.
const manyDirty = 8

// flusher makes the appends of one disk durable. It takes all partitions that
// are dirty, syncs them, and releases who waited; meanwhile the next group
// forms. There is no timer: the disk's own latency is the batch window.
type flusher struct {
	disk *disk
	mu   struct {
		sync.Mutex
		dirty []*partition.Partition
	}
	wake   chan struct{}
	choice datadir.SyncChoice
	// Kept for the next group.
	group []*partition.Partition
	syncs []syncing
}

type syncing struct {
	p *partition.Partition
	s partition.Syncing
}

func newFlusher(d *disk) *flusher { return &flusher{disk: d, wake: make(chan struct{}, 1)} }

// add says that a partition is dirty. A partition says so once per group, so
// the queue is bounded by the number of partitions.
func (f *flusher) add(p *partition.Partition) {
	f.mu.Lock()
	f.mu.dirty = append(f.mu.dirty, p)
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// run flushes until ctx ends, and then once more what is left.
func (f *flusher) run(ctx context.Context) {
	for {
		select {
		case <-f.wake:
			f.flush()
		case <-ctx.Done():
			f.flush()
			return
		}
	}
}

// flush syncs one group.
func (f *flusher) flush() {
	f.mu.Lock()
	f.group, f.mu.dirty = f.mu.dirty, f.group[:0]
	f.mu.Unlock()
	if len(f.group) == 0 {
		return
	}
	if f.disk.hasFailed() != nil {
		clear(f.group)
		return
	}
	f.syncs = f.syncs[:0]
	gained := int64(0)
	for _, p := range f.group {
		s, err := p.BeginSyncOf(f.disk)
		switch {
		case errors.Is(err, commitlog.ErrClosed), errors.Is(err, partition.ErrMoved):
			continue // Its topic was deleted, or it lies elsewhere.
		case err != nil:
			p.Fail(err)
			continue
		}
		gained += s.Gained
		f.syncs = append(f.syncs, syncing{p, s})
	}
	clear(f.group)
	began := f.disk.owner.opts.Now()
	together := f.choice.Together(len(f.syncs))
	if together {
		f.together()
	} else {
		f.oneByOne()
	}
	took := f.disk.owner.opts.Now().Sub(began)
	if len(f.syncs) > 0 {
		f.choice.Took(together, len(f.syncs), took)
	}
	synced := len(f.syncs)
	clear(f.syncs)
	f.disk.owner.stats.flushed(took, gained, synced)
	f.disk.synced(gained)
}

func (f *flusher) oneByOne() {
	for i := range f.syncs {
		f.syncs[i].p.Synced(f.syncs[i].s, f.syncs[i].s.Flush())
	}
}

func (f *flusher) together() {
	err := f.disk.dir.SyncAll()
	for i := range f.syncs {
		f.syncs[i].p.Synced(f.syncs[i].s, err)
	}
}
