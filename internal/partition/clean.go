package partition

import (
	"context"
	"errors"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/producers"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// Dirt is how much of a partition's log waits for compaction.
type Dirt struct {
	commitlog.Dirt
	// Delay is how much longer than max.compaction.lag.ms something has waited; 0
	// if nothing has.
	Delay time.Duration
	// Least is min.cleanable.dirty.ratio.
	Least float64
}

// Due reports whether the log is to be compacted now.
func (d Dirt) Due() bool { return d.Delay > 0 && d.Dirty > 0 || d.Ratio() > d.Least }

// Dirt looks at a compacted log. cleaned is where the last pass ended, or
// model.NoOffset, mark the last mark that is kept durably. ok is false if the
// topic is not compacted or the partition cannot be read.
func (p *Partition) Dirt(now time.Time, cleaned model.Offset, mark commitlog.Mark) (d Dirt, ok bool, err error) {
	cfg := p.config.Load()
	log, scope, _, ok := p.cleanScope(cleaned, mark)
	if !ok {
		return d, false, nil
	}
	d.Least = cfg.MinCleanableRatio
	lagging := cfg.MaxCompactionLag.Milliseconds() < now.UnixMilli() // Else nothing is old enough.
	d.Dirt, err = log.Dirt(scope, now, cfg.MinCompactionLag, lagging)
	if lagging && d.Oldest >= 0 {
		d.Delay = max(0, now.Add(-max(cfg.MaxCompactionLag, 0)).Sub(time.UnixMilli(d.Oldest)))
	}
	return d, err == nil, err
}

// cleanScope is what may be cleaned: below the last stable offset, so that all
// that is read is decided. What a log that is shorter than it was cleaned to
// holds is dirty from its start on.
func (p *Partition) cleanScope(cleaned model.Offset, mark commitlog.Mark) (log *commitlog.Log, scope commitlog.CleanScope, committed model.Offset, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stateLocked()
	if cleaned < s.Start || cleaned > s.End {
		cleaned = model.NoOffset
	}
	scope = commitlog.CleanScope{From: cleaned, Limit: s.Stable, Mark: mark}
	return p.Log(), scope, s.Committed, p.config.Load().Compact && p.mu.failed == nil && !p.mu.closed
}

// CleanTools are what a pass of compaction works with: see
// [commitlog.CleanOptions].
type CleanTools struct {
	Map         *commitlog.OffsetMap
	BufferBytes int
	Pace        func(ctx context.Context, bytes int) error
	Room        func(bytes int64) bool
	// KeysRequired refuses a log with records that have no key.
	KeysRequired bool
}

// Clean compacts what Dirt found, as far as the map holds the keys of.
func (p *Partition) Clean(ctx context.Context, now time.Time, d Dirt, mark commitlog.Mark, t CleanTools) (commitlog.Cleaned, error) {
	log, scope, committed, ok := p.cleanScope(d.From, mark)
	if !ok {
		return commitlog.Cleaned{End: d.From}, ErrNotLeader
	}
	scope.From, scope.Limit = d.From, min(scope.Limit, d.Limit)
	done, err := log.Clean(ctx, commitlog.CleanOptions{
		CleanScope: scope, Committed: committed, Now: now, DeleteRetention: p.config.Load().DeleteRetention,
		Producers: p.lastBatches, Map: t.Map, BufferBytes: t.BufferBytes, Pace: t.Pace, Room: t.Room, KeysRequired: t.KeysRequired,
	})
	if lerr := log.Err(); lerr != nil && !errors.Is(lerr, commitlog.ErrClosed) && log == p.Log() {
		p.Fail(lerr)
	}
	return done, err
}

// lastBatches are those of the producers that are remembered.
func (p *Partition) lastBatches() map[model.ProducerID]commitlog.LastBatch {
	p.mu.Lock()
	defer p.mu.Unlock()
	active := p.mu.producers.Active()
	last := make(map[model.ProducerID]commitlog.LastBatch, len(active))
	for _, a := range active {
		last[a.ID] = commitlog.LastBatch{Offset: a.LastOffset, Epoch: a.Epoch}
	}
	return last
}

// Reindex makes the indexes of the log anew from its batches: see
// [commitlog.Log.Reindex].
func (p *Partition) Reindex(ctx context.Context, progress func(bytes int)) (commitlog.Reindexed, error) {
	log := p.Log()
	state := producers.New(producers.Options{})
	var aborted []commitlog.AbortedTxn
	err := log.Scan(log.Start(), func(b record.Batch) error {
		if done, ok := state.Apply(b); ok && done.Aborted {
			aborted = append(aborted, abortedTxn(done))
		}
		return ctx.Err()
	})
	if err != nil {
		return commitlog.Reindexed{}, err
	}
	return log.Reindex(ctx, aborted, progress)
}

func abortedTxn(done producers.Completed) commitlog.AbortedTxn {
	return commitlog.AbortedTxn{ProducerID: done.ProducerID, First: done.FirstOffset, Last: done.LastOffset, LastStable: done.LastStable}
}
