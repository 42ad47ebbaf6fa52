package replicas

import (
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/partition"
)

// Periods of the keeper's work that Kafka has no setting for.
const (
	// markEvery bounds what recovery has to read after a crash, with markBytes.
	markEvery = 5 * time.Second
	markBytes = 64 << 20
	// idleAfter is when the files of a partition that nobody writes are closed.
	idleAfter = 30 * time.Second
)

// keep does the periodic work of a disk until ctx ends.
func (d *disk) keep(ctx context.Context) {
	c := d.owner.config.Load()
	jobs := []*job{
		marks:     {every: markEvery, do: d.markGrown},
		retaining: {every: c.RetentionCheck, first: c.FirstTask, do: d.retain},
		{every: flushEvery(c), do: d.flushDue},
		{every: time.Second, do: d.restore},
		{every: markEvery, do: d.tellOffline},
		{every: c.WatermarkCheckpoint, do: d.checkpointCommitted},
		{every: c.StartCheckpoint, do: d.checkpointStarts},
		{every: idleAfter, do: d.idle},
		{every: c.ProducerExpirationCheck, do: d.expireProducers},
		{every: time.Second, do: d.dropTrimmed},
		{every: time.Second, do: d.removeRetired},
	}
	now := d.owner.opts.Now()
	for _, j := range jobs {
		j.due = now.Add(max(j.first, min(j.every, c.FirstTask)))
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-d.early:
			d.hurry(jobs)
		}
		d.runDue(jobs)
	}
}

// flushEvery is how often flush.ms is looked at. Kafka never does unless it is
// told how often.
func flushEvery(c *config.Broker) time.Duration {
	if c.FlushCheck == math.MaxInt64 {
		return time.Second
	}
	return c.FlushCheck
}

// hurry makes due what somebody does not want to wait for.
func (d *disk) hurry(jobs []*job) {
	if d.unmarked.Load() >= markBytes {
		jobs[marks].due = time.Time{}
	}
	if d.soon.Swap(false) { // A check is under way.
		jobs[retaining].due = time.Time{}
	}
}

// Places of jobs that may become due before their time.
const (
	marks = iota
	retaining
)

type job struct {
	every, first time.Duration
	due          time.Time
	do           func() error
}

func (d *disk) runDue(jobs []*job) {
	if d.hasFailed() != nil {
		return
	}
	now := d.owner.opts.Now()
	d.watchClock(now)
	for _, j := range jobs {
		if now.Before(j.due) || j.every <= 0 {
			continue
		}
		j.due = now.Add(j.every)
		if err := j.do(); err != nil && d.hasFailed() == nil {
			d.owner.opts.Log.Error("periodic work failed", "dir", d.dir.Path(), "err", err)
			d.judge(err)
		}
	}
}

// markGrown marks the logs that have grown since their last mark. Where appends
// are not synced anyway, a mark costs a sync, and so comes seldom, unless
// compaction waits for it.
func (d *disk) markGrown() error {
	now := d.owner.opts.Now()
	d.unmarked.Store(0)
	var due []*replica
	d.eachGrown(func(x *replica) {
		if x.Config().FsyncAcks || d.cleanerWaits(x) || now.Sub(time.Unix(0, x.marked.Load())) >= d.owner.config.Load().RecoveryCheckpoint {
			due = append(due, x)
		}
	})
	if len(due) == 0 {
		return nil
	}
	return errors.Join(d.mark(due, markTogether), d.writeMarks(false))
}

// tellOffline logs partitions that went offline by themselves, such as one whose
// epoch file cannot be read. A directory that failed has been logged as one.
func (d *disk) tellOffline() error {
	if d.hasFailed() != nil {
		return nil
	}
	d.each(func(x *replica) {
		if err := x.Err(); err != nil && !x.told {
			x.told = true
			d.owner.opts.Log.Error("partition offline", "topic", x.ID.Topic, "partition", x.ID.Index, "err", err)
		}
	})
	return nil
}

// eachGrown calls do for the partitions with something above their mark, and
// forgets those that are gone.
func (d *disk) eachGrown(do func(*replica)) {
	d.mu.Lock()
	grown := slices.Collect(maps.Keys(d.mu.grown))
	d.mu.Unlock()
	for _, p := range grown {
		if x := d.replicaOf(p); x != nil && x.Err() == nil {
			do(x)
			continue
		}
		d.mu.Lock()
		delete(d.mu.grown, p)
		d.mu.Unlock()
	}
}

// markTogether is how many logs are marked in one go. A topic that is deleted
// meanwhile waits for the end of it.
const markTogether = 256

// mark marks logs, so many at a time; writeMarks keeps the marks.
func (d *disk) mark(logs []*replica, together int) error {
	var errs []error
	for some := range slices.Chunk(logs, max(together, 1)) {
		d.keeping.Lock()
		errs = append(errs, d.markSome(some)...)
		d.keeping.Unlock()
	}
	return errors.Join(errs...)
}

// markSome returns an error or nil for each log. Caller holds keeping.
func (d *disk) markSome(logs []*replica) []error {
	errs := make([]error, len(logs))
	markings := make([]*commitlog.Marking, len(logs))
	begun := 0
	for i, x := range logs {
		// Before it begins: what grows from now on says so again.
		d.mu.Lock()
		delete(d.mu.grown, x.Partition)
		d.mu.Unlock()
		d.touch(x.Partition) // The last look at it may have been before the last append.
		m, err := x.BeginMarkOf(d)
		if err != nil {
			errs[i] = d.notMarked(x, err)
			continue
		}
		x.marked.Store(d.owner.opts.Now().UnixNano())
		markings[i] = m
		begun++
	}
	var all error
	if begun >= manyDirty {
		// Then the sync of each finds nothing left to do.
		all = d.dir.SyncAll()
	}
	for i, m := range markings {
		if m == nil {
			continue
		}
		mark, err := m.Finish()
		if err = errors.Join(err, all); err != nil {
			errs[i] = d.notMarked(logs[i], err)
			continue
		}
		d.keepMark(logs[i], mark)
	}
	return errs
}

// notMarked sees to it that a log is marked another time, unless it is gone.
func (d *disk) notMarked(x *replica, err error) error {
	if errors.Is(err, commitlog.ErrClosed) || errors.Is(err, partition.ErrMoved) {
		return nil
	}
	d.grew(x.Partition)
	return err
}

// keepMark keeps a mark, unless the partition was deleted meanwhile: one of the
// same name may be there already.
func (d *disk) keepMark(x *replica, m commitlog.Mark) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.replicaOf(x.Partition) != nil {
		d.mu.marks[x.ID] = m
	}
}

// writeMarks makes the marks durable. It holds a lock while the disk works: an
// older set must not be written over a newer one.
func (d *disk) writeMarks(recoveryPoints bool) error {
	d.writing.Lock()
	defer d.writing.Unlock()
	d.mu.Lock()
	marks := maps.Clone(d.mu.marks)
	forgotten := slices.Collect(maps.Keys(d.mu.forgotten))
	d.mu.Unlock()
	if err := d.dir.WriteMarks(marks, recoveryPoints); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for p := range marks {
		if _, ok := d.mu.marks[p]; !ok {
			delete(marks, p) // Forgotten meanwhile.
		}
	}
	d.mu.written = marks
	for _, p := range forgotten {
		delete(d.mu.forgotten, p)
	}
	return nil
}

// flushDue syncs partitions whose flush.ms has passed.
func (d *disk) flushDue() error {
	now := d.owner.opts.Now()
	d.eachGrown(func(x *replica) {
		if x.NeedsFlush(now) {
			d.flusher.add(x.Partition)
		}
	})
	return nil
}

// idle closes the files of partitions that nobody writes.
func (d *disk) idle() error {
	now := d.owner.opts.Now()
	d.each(func(x *replica) {
		if x.IdleSince(now) >= idleAfter {
			x.Log().Idle()
		}
	})
	return nil
}

func (d *disk) expireProducers() error {
	now := d.owner.opts.Now()
	d.each(func(x *replica) { x.ExpireProducers(now) })
	return nil
}
