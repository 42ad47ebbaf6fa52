package replicas

import (
	"context"
	"errors"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/model"
)

// Periods of the keeper's work that Kafka has no setting for.
const (
	// markEvery bounds what recovery has to read after a crash, with markBytes.
	markEvery = 5 * time.Second
	// idleAfter is when the files of a partition that nobody writes are closed.
	idleAfter = 30 * time.Second
	// firstRetention is how long after the start retention looks for the first
	// time, as in Kafka.
	firstRetention = 30 * time.Second
)

// keep does the periodic work of a disk until ctx ends.
func (d *disk) keep(ctx context.Context) {
	c := d.owner.opts.Config
	jobs := []*job{
		{every: markEvery, do: d.markDirty},
		{every: time.Second, do: d.flushDue},
		{every: 5 * time.Second, do: d.restore},
		{every: c.WatermarkCheckpoint, do: d.checkpoint},
		{every: c.RetentionCheck, first: firstRetention, do: d.retain},
		{every: idleAfter, do: d.idle},
		{every: c.ProducerExpirationCheck, do: d.expireProducers},
		{every: time.Second, do: d.removeRetired},
	}
	now := d.owner.opts.Now()
	for _, j := range jobs {
		j.due = now.Add(max(j.first, min(j.every, firstRetention)))
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		d.runDue(jobs)
	}
}

type job struct {
	every, first time.Duration
	due          time.Time
	do           func() error
}

func (d *disk) runDue(jobs []*job) {
	now := d.owner.opts.Now()
	for _, j := range jobs {
		if now.Before(j.due) || j.every <= 0 {
			continue
		}
		j.due = now.Add(j.every)
		if err := j.do(); err != nil {
			d.owner.opts.Log.Error("periodic work failed", "dir", d.dir.Path(), "err", err)
		}
	}
}

// markDirty marks the logs that have grown since their last mark. Where appends
// are not synced anyway, a mark costs a sync, and so comes seldom.
func (d *disk) markDirty() error {
	now := d.owner.opts.Now()
	return d.mark(func(x *replica) bool {
		d.mu.Lock()
		m := d.mu.marks[x.ID]
		d.mu.Unlock()
		return m.Offset != x.Log().End() &&
			(x.Config().FsyncAcks || now.Sub(x.marked) >= d.owner.opts.Config.RecoveryCheckpoint)
	}, false)
}

// mark marks logs and writes the marks of all.
func (d *disk) mark(which func(*replica) bool, recoveryPoints bool) error {
	var begun []begunMark
	var errs []error
	d.each(func(x *replica) {
		if x.Err() != nil || !which(x) {
			return
		}
		m, err := x.BeginMark()
		if err != nil {
			errs = append(errs, err)
			return
		}
		x.marked = d.owner.opts.Now()
		begun = append(begun, begunMark{x.ID, m})
	})
	if len(begun) == 0 && !recoveryPoints {
		return errors.Join(errs...)
	}
	if len(begun) >= manyDirty {
		// Then the sync of each finds nothing left to do.
		errs = append(errs, d.dir.SyncAll())
	}
	for _, b := range begun {
		m, err := b.marking.Finish()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		d.mu.Lock()
		d.mu.marks[b.id] = m
		d.mu.Unlock()
	}
	d.mu.Lock()
	marks := make(datadir.Marks, len(d.mu.marks))
	for p, m := range d.mu.marks {
		marks[p] = m
	}
	d.mu.Unlock()
	return errors.Join(append(errs, d.dir.WriteMarks(marks, recoveryPoints))...)
}

type begunMark struct {
	id      model.Partition
	marking *commitlog.Marking
}

// flushDue syncs partitions whose flush.ms has passed.
func (d *disk) flushDue() error {
	now := d.owner.opts.Now()
	d.each(func(x *replica) {
		if x.NeedsFlush(now) {
			d.flusher.add(x.Partition)
		}
	})
	return nil
}

// restore takes a reserve again when a full disk has space.
func (d *disk) restore() error {
	if d.dir.Full() && d.dir.Restore() {
		d.owner.opts.Log.Info("disk has space again", "dir", d.dir.Path())
	}
	return nil
}

// retain gives up what the topics' retention says.
func (d *disk) retain() error {
	now := d.owner.opts.Now()
	var errs []error
	d.each(func(x *replica) {
		if _, err := x.Retain(now); err != nil {
			errs = append(errs, err)
		}
	})
	return errors.Join(errs...)
}

// removeRetired frees deleted segments and directories whose time has come.
func (d *disk) removeRetired() error {
	now := d.owner.opts.Now()
	delay := d.owner.opts.Config.Topic.FileDeleteDelay
	var errs []error
	d.each(func(x *replica) {
		if _, err := x.Log().DeleteExpired(now, x.Config().FileDeleteDelay); err != nil {
			errs = append(errs, err)
		}
	})
	d.mu.Lock()
	var due []string
	left := d.mu.retired[:0]
	for _, r := range d.mu.retired {
		if now.Sub(r.at) >= delay {
			due = append(due, r.name)
		} else {
			left = append(left, r)
		}
	}
	d.mu.retired = left
	d.mu.Unlock()
	for _, name := range due {
		errs = append(errs, d.dir.RemoveLog(name))
	}
	return errors.Join(errs...)
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
