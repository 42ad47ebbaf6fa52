package replicas

import (
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
)

// CleanerStats are what the cleaner did, and what it saw last.
type CleanerStats struct {
	// Passes ended well, Failed did not, those that were stopped not among them.
	Passes, Failed atomic.Uint64
	// BytesRead counts what was read to learn the keys, and what was cleaned;
	// BytesWritten what was written; BytesFreed by how much logs became smaller.
	BytesRead, BytesWritten, BytesFreed atomic.Uint64
	RecordsRead, RecordsRemoved         atomic.Uint64
	Nanos                               atomic.Uint64
	// Busy is how many passes are under way; BytesMoved is what was read and
	// written so far, theirs included.
	Busy       atomic.Int64
	BytesMoved atomic.Uint64
	// MapPercent is how full the map of the last pass was, of what it may be.
	MapPercent atomic.Int64
	// DirtyPercent is the largest share of dirty bytes of a log at the last look,
	// DelayMillis how much longer than max.compaction.lag.ms a log has waited.
	DirtyPercent, DelayMillis atomic.Int64
	// Uncleanable is how many logs cannot be cleaned.
	Uncleanable atomic.Int64
	// LookedNanos is when the cleaner looked for work last, since 1970.
	LookedNanos atomic.Int64
}

// CleanerStats returns the counters of compaction.
func (r *Replicas) CleanerStats() *CleanerStats { return &r.cleaner.stats }

func (s *CleanerStats) passed(done commitlog.Cleaned, err error, took time.Duration) {
	switch {
	case err == nil:
		s.Passes.Add(1)
		s.MapPercent.Store(int64(100 * done.MapUse))
	case !isOver(err):
		s.Failed.Add(1)
	}
	s.BytesRead.Add(uint64(done.BytesIndexed + done.BytesRead))
	s.BytesWritten.Add(uint64(done.BytesWritten))
	s.BytesFreed.Add(uint64(max(done.Freed, 0)))
	s.RecordsRead.Add(uint64(done.RecordsRead))
	s.RecordsRemoved.Add(uint64(done.RecordsRead - done.RecordsKept))
	s.Nanos.Add(uint64(took))
}

func (s *CleanerStats) looked(now time.Time, ratio float64, delay time.Duration) {
	s.LookedNanos.Store(now.UnixNano())
	s.DirtyPercent.Store(int64(100 * ratio))
	s.DelayMillis.Store(delay.Milliseconds())
}
