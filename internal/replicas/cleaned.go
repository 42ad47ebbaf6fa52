package replicas

import (
	"maps"
	"sync"

	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/model"
)

// cleaned is Kafka's cleaner-offset-checkpoint of a disk: how far each log is
// compacted. The lock is held while it is written.
type cleaned struct {
	sync.Mutex
	offsets datadir.Offsets
	// stale are partitions that are gone and still in the file.
	stale map[model.Partition]struct{}
}

// loadCleaned reads the checkpoint. One that cannot be read costs compacting
// logs from their beginning.
func (d *disk) loadCleaned() {
	d.cleaned.stale = map[model.Partition]struct{}{}
	var err error
	if d.cleaned.offsets, err = d.dir.Checkpoint(datadir.CleanerFile); err != nil {
		d.owner.opts.Log.Warn("checkpoint of compaction unreadable, logs are compacted from their beginning", "err", err)
		d.cleaned.offsets = datadir.Offsets{}
	}
}

// setCleaned keeps where a pass ended, unless the partition is gone.
func (d *disk) setCleaned(p *partition.Partition, o model.Offset) error {
	d.cleaned.Lock()
	defer d.cleaned.Unlock()
	if d.replicaOf(p) == nil || d.cleaned.offsets[p.ID] == o {
		return nil
	}
	next := maps.Clone(d.cleaned.offsets)
	next[p.ID] = o
	return d.writeCleaned(next)
}

// forgetCleaned forgets a partition that is gone; the file follows when it is
// written next, or when one of the same name is made.
func (d *disk) forgetCleaned(p model.Partition) {
	d.cleaned.Lock()
	defer d.cleaned.Unlock()
	if _, ok := d.cleaned.offsets[p]; ok {
		delete(d.cleaned.offsets, p)
		d.cleaned.stale[p] = struct{}{}
	}
}

// freshCleaned prepares a partition that is made now: what the file says of one
// of its name must not count.
func (d *disk) freshCleaned(p model.Partition) error {
	d.forgetCleaned(p)
	d.cleaned.Lock()
	defer d.cleaned.Unlock()
	if _, left := d.cleaned.stale[p]; !left {
		return nil
	}
	return d.writeCleaned(d.cleaned.offsets)
}

// writeCleaned replaces the file, without partitions that are gone. Caller holds
// the lock.
func (d *disk) writeCleaned(next datadir.Offsets) error {
	maps.DeleteFunc(next, func(p model.Partition, _ model.Offset) bool {
		x := d.owner.entry(p)
		return x == nil || x.disk != d
	})
	if err := d.dir.WriteCheckpoint(datadir.CleanerFile, next); err != nil {
		return err
	}
	d.cleaned.offsets = next
	clear(d.cleaned.stale)
	return nil
}
