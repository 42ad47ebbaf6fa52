package replicas

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/internal/histogram"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/model"
)

// Stats counts what the disks did.
type Stats struct {
	// Flushes is how long each group of appends took to become durable.
	Flushes histogram.Times
	// FlushedBytes and FlushedPartitions are what the groups held.
	FlushedBytes, FlushedPartitions atomic.Uint64
}

func (s *Stats) flushed(took time.Duration, bytes int64, partitions int) {
	s.Flushes.Observe(took)
	s.FlushedBytes.Add(uint64(max(bytes, 0)))
	s.FlushedPartitions.Add(uint64(partitions))
}

// Stats returns the counters.
func (r *Replicas) Stats() *Stats { return &r.stats }

// Totals are sums over all partitions.
type Totals struct {
	Partitions, Offline int
	Bytes               int64
	Segments, Producers int
	// Unsynced is how many records are appended and not durable yet.
	Unsynced int64
	// OldestTxn is the timestamp of the oldest open transaction, in milliseconds
	// since 1970; 0 if none is open.
	OldestTxn int64
}

// Totals sums up what this node has.
func (r *Replicas) Totals() Totals {
	var t Totals
	r.mu.RLock()
	t.Partitions = len(r.mu.parts)
	for _, x := range r.mu.parts {
		if x.err != nil {
			t.Offline++
		}
	}
	r.mu.RUnlock()
	r.each(func(x *replica) {
		n := x.Numbers()
		if n.Offline {
			t.Offline++
		}
		t.Bytes += n.Bytes
		t.Segments += n.Segments
		t.Producers += n.Producers
		if n.OldestTxn > 0 && (t.OldestTxn == 0 || n.OldestTxn < t.OldestTxn) {
			t.OldestTxn = n.OldestTxn
		}
		t.Unsynced += max(0, int64(n.End-x.Log().SyncedEnd()))
	})
	return t
}

// DirStats is what became of one data directory.
type DirStats struct {
	Path string
	// Partitions are those that lie here, copies on their way here included;
	// Moving are these.
	Partitions, Moving int64
	// DeletedSegments and DeletedBytes went for whatever reason.
	DeletedSegments, DeletedBytes uint64
	// Percent is log.retention.disk.percent, 0 while it is off. PercentSegments and
	// PercentBytes went because of it; PercentStuck says that the file system is
	// fuller and nothing is left to delete.
	Percent                       int64
	PercentSegments, PercentBytes uint64
	PercentStuck                  bool
}

// DirStats tells what became of each data directory that could be opened.
func (r *Replicas) DirStats() []DirStats {
	all := make([]DirStats, 0, len(r.disks))
	for _, d := range r.disks {
		all = append(all, DirStats{
			Path: d.dir.Path(), Partitions: d.placed.Load(), Moving: int64(len(r.movesTo(d))),
			DeletedSegments: uint64(d.deleted.segments.Load()), DeletedBytes: uint64(d.deleted.bytes.Load()),
			Percent: d.brim.percent.Load(), PercentStuck: d.brim.stuck.Load(),
			PercentSegments: uint64(d.brim.dropped.segments.Load()), PercentBytes: uint64(d.brim.dropped.bytes.Load()),
		})
	}
	return all
}

// Online reports whether the data directory at a path is one of this node's,
// and has not failed.
func (r *Replicas) Online(path string) bool {
	return slices.ContainsFunc(r.disks, func(d *disk) bool { return d.dir.Path() == path && d.hasFailed() == nil })
}

// Numbers calls each for every partition that is here and can be served, in no
// order.
func (r *Replicas) Numbers(each func(model.Partition, partition.Numbers)) {
	r.each(func(x *replica) { each(x.ID, x.Numbers()) })
}
