package replicas

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/model"
)

// cleaner compacts the logs of this node. Its workers each take the log that
// has the largest share of dirty bytes, or has waited too long, clean as much
// of it as their memory holds the keys of, and look again. A log that cannot be
// cleaned is left alone until its configuration changes or the node starts
// anew; the others go on.
type cleaner struct {
	owner *Replicas
	stats CleanerStats
	pacer pacer
	// changed says that the configuration is another.
	changed chan struct{}

	// choosing is held while the next log is chosen.
	choosing sync.Mutex
	mu       struct {
		sync.Mutex
		busy map[*partition.Partition]*cleaning
		// bad are logs that cannot be cleaned, resting those that are not to be tried
		// before a time.
		bad     map[*partition.Partition]error
		resting map[*partition.Partition]rest
	}
}

// cleaning is a pass under way.
type cleaning struct {
	stop context.CancelFunc
	done chan struct{}
}

// rest is why and for how long a log is left alone.
type rest struct {
	until time.Time
	err   error // That was said.
}

func newCleaner(r *Replicas) *cleaner {
	c := &cleaner{owner: r, changed: make(chan struct{}, 1)}
	c.pacer.setRate(r.config.Load().Cleaner.BytesPerSecond)
	c.mu.busy = map[*partition.Partition]*cleaning{}
	c.mu.bad = map[*partition.Partition]error{}
	c.mu.resting = map[*partition.Partition]rest{}
	return c
}

// run compacts until ctx ends. When the configuration changes the workers end,
// and others begin with the new one.
func (c *cleaner) run(ctx context.Context) {
	for ctx.Err() == nil {
		cfg := c.owner.config.Load().Cleaner
		c.pacer.setRate(cfg.BytesPerSecond)
		round, stop := context.WithCancel(ctx)
		var workers sync.WaitGroup
		for range cfg.Threads {
			if cfg.Enabled {
				workers.Go(func() { c.work(round, cfg) })
			}
		}
		for again := true; again; again = ctx.Err() == nil && cfg == c.owner.config.Load().Cleaner {
			select {
			case <-ctx.Done():
			case <-c.changed:
			}
		}
		stop()
		workers.Wait()
	}
}

// reconfigure makes the cleaner look at the configuration, and try again what
// it could not clean.
func (c *cleaner) reconfigure() {
	c.mu.Lock()
	clear(c.mu.bad)
	clear(c.mu.resting)
	c.mu.Unlock()
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// retry makes the cleaner try a log again.
func (c *cleaner) retry(p *partition.Partition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.mu.bad, p)
	delete(c.mu.resting, p)
}

// stop ends the pass over a partition, if there is one, and waits for it.
func (c *cleaner) stop(p *partition.Partition) {
	c.mu.Lock()
	pass := c.mu.busy[p]
	c.mu.Unlock()
	if pass != nil {
		pass.stop()
		<-pass.done
	}
}

// work cleans one log after the other.
func (c *cleaner) work(ctx context.Context, cfg config.Cleaner) {
	m, err := commitlog.NewOffsetMap(cfg.MapBytes/int64(cfg.Threads), cfg.MapLoad)
	if err != nil {
		c.owner.opts.Log.Error("nothing is compacted", "err", err)
		return
	}
	manners := manners{appended: c.owner.appended}
	tools := partition.CleanTools{Map: m, BufferBytes: cfg.BufferBytes / cfg.Threads / 2, Pace: func(ctx context.Context, bytes int) error {
		return c.pace(ctx, &manners, bytes)
	}}
	for ctx.Err() == nil {
		manners.begin()
		if !c.cleanOne(ctx, tools) {
			m.Release()
			pause(ctx, cfg.Backoff)
		}
	}
}

func (c *cleaner) pace(ctx context.Context, m *manners, bytes int) error {
	c.stats.BytesMoved.Add(uint64(bytes))
	ended := time.Now()
	if err := c.pacer.pace(ctx, bytes); err != nil {
		return err
	}
	m.giveWay(ctx, bytes, ended)
	return ctx.Err()
}

// dirtyLog is a log to be cleaned.
type dirtyLog struct {
	*replica
	dirt partition.Dirt
	mark commitlog.Mark
}

// cleanOne cleans the dirtiest log; false if there is none.
func (c *cleaner) cleanOne(ctx context.Context, tools partition.CleanTools) bool {
	next, ctx, ok := c.take(ctx)
	if !ok {
		return false
	}
	d, began := next.disk, time.Now()
	tools.Room = func(bytes int64) bool { return d.roomToClean(ctx, bytes) }
	c.stats.Busy.Add(1)
	done, err := next.Clean(ctx, c.owner.opts.Now(), next.dirt, next.mark, tools)
	c.stats.Busy.Add(-1)
	c.stats.passed(done, err, time.Since(began))
	if d.replicaOf(next.Partition) != nil && err == nil {
		err = d.setCleaned(next.Partition, done.End)
	}
	if done.Replaced > 0 {
		d.mu.Lock()
		d.mu.deleting[next.Partition] = struct{}{}
		d.mu.Unlock()
	}
	c.tell(next, done, err, time.Since(began))
	c.release(next)
	return true
}

// take chooses a log and keeps others from it. The context is that of the pass.
func (c *cleaner) take(ctx context.Context) (dirtyLog, context.Context, bool) {
	c.choosing.Lock()
	defer c.choosing.Unlock()
	c.forgetGone()
	next, ok := c.dirtiest()
	if !ok {
		return next, ctx, false
	}
	ctx, stop := context.WithCancel(ctx)
	c.mu.Lock()
	c.mu.busy[next.Partition] = &cleaning{stop, make(chan struct{})}
	c.mu.Unlock()
	// A move that began since looks for passes. After one that ended the mark is
	// that of a log that is not the partition's any more.
	if c.owner.moving(next.ID) != nil || c.owner.entry(next.ID) != next.replica {
		c.release(next)
		return next, ctx, false
	}
	return next, ctx, true
}

func (c *cleaner) release(x dirtyLog) {
	c.mu.Lock()
	pass := c.mu.busy[x.Partition]
	delete(c.mu.busy, x.Partition)
	c.mu.Unlock()
	pass.stop()
	close(pass.done)
}

// dirtiest is the log with the largest share of dirty bytes of those whose
// time has come.
func (c *cleaner) dirtiest() (best dirtyLog, found bool) {
	now := c.owner.opts.Now()
	most, delay := 0.0, time.Duration(0)
	c.owner.each(func(x *replica) {
		if !x.Config().Compact || !c.free(x, now) {
			return
		}
		next := dirtyLog{replica: x, mark: x.disk.writtenMark(x.ID)}
		var ok bool
		var err error
		if next.dirt, ok, err = x.Dirt(now, x.disk.cleanedTo(x.ID), next.mark); err != nil {
			c.tell(next, commitlog.Cleaned{}, err, 0)
		}
		if !ok {
			return
		}
		ratio := next.dirt.Ratio()
		most, delay = max(most, ratio), max(delay, next.dirt.Delay)
		if next.dirt.Due() && (!found || ratio > best.dirt.Ratio()) {
			best, found = next, true
		}
	})
	c.stats.looked(now, most, delay)
	return best, found
}

// free reports whether a log may be cleaned now. While it is copied to another
// directory it may not: the copy would have the value of a key and not the
// tombstone that was removed behind it.
func (c *cleaner) free(x *replica, now time.Time) bool {
	if x.disk.hasFailed() != nil || c.owner.moving(x.ID) != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.busy[x.Partition] == nil && c.mu.bad[x.Partition] == nil && !now.Before(c.mu.resting[x.Partition].until)
}

// forgetGone forgets partitions that are not here any more.
func (c *cleaner) forgetGone() {
	c.mu.Lock()
	defer c.mu.Unlock()
	gone := func(p *partition.Partition) bool {
		x := c.owner.entry(p.ID)
		return x == nil || x.Partition != p
	}
	for p := range c.mu.bad {
		if gone(p) {
			delete(c.mu.bad, p)
		}
	}
	for p := range c.mu.resting {
		if gone(p) {
			delete(c.mu.resting, p)
		}
	}
	c.stats.Uncleanable.Store(int64(len(c.mu.bad)))
}

// tell says what became of a pass, and leaves the log alone if it should be.
func (c *cleaner) tell(x dirtyLog, done commitlog.Cleaned, err error, took time.Duration) {
	log := c.owner.opts.Log.With("topic", x.ID.Topic, "partition", x.ID.Index)
	switch {
	case err == nil && done.End <= x.dirt.From:
		c.rest(x, nil) // What was to be cleaned is not to be any more.
	case err == nil:
		log.Info("log compacted", "from", x.dirt.From, "offset", done.End, "bytes", done.BytesIndexed+done.BytesRead, "freed", done.Freed,
			"records", done.RecordsRead, "removed", done.RecordsRead-done.RecordsKept, "took", took)
		if done.Keyless > 0 {
			log.Warn("records without keys removed by compaction", "records", done.Keyless)
		}
		c.retry(x.Partition)
	case errors.Is(err, context.Canceled): // By a move, a new configuration or the end.
	case isOver(err) || x.Err() != nil:
		c.rest(x, nil) // Something else changed the log, or took it offline.
	case isShortage(err):
		if c.rest(x, err) {
			log.Warn("log not compacted for now", "err", err)
		}
	default:
		c.mu.Lock()
		c.mu.bad[x.Partition] = err
		c.stats.Uncleanable.Store(int64(len(c.mu.bad)))
		c.mu.Unlock()
		log.Error("log cannot be compacted, and is left as it is until its configuration changes or the node starts anew", "err", err)
		x.disk.judge(err)
	}
}

// rest leaves a log alone for a while. It reports whether that is news.
func (c *cleaner) rest(x dirtyLog, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	said := c.mu.resting[x.Partition].err != nil
	c.mu.resting[x.Partition] = rest{c.owner.opts.Now().Add(c.owner.config.Load().Cleaner.Backoff), err}
	return !said
}

// isOver reports the end of a pass that is nobody's fault.
func isOver(err error) bool {
	for _, of := range []error{context.Canceled, commitlog.ErrClosed, commitlog.ErrChanged, partition.ErrNotLeader} {
		if errors.Is(err, of) {
			return true
		}
	}
	return false
}

// isShortage reports what may be better the next time.
func isShortage(err error) bool {
	for _, of := range []error{commitlog.ErrNoRoom, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM} {
		if errors.Is(err, of) {
			return true
		}
	}
	return full(err)
}

// cleanMargin is what compaction leaves free, as others need space, too.
const cleanMargin = 64 << 20

// roomToClean reports whether there is room for a segment beside those that it
// will replace. Where producers keep the disk at log.retention.disk.percent, the
// trimmer makes some: else what is compacted would grow until it had pushed out all
// that is deleted from.
func (d *disk) roomToClean(ctx context.Context, bytes int64) bool {
	free, _, err := d.dir.Free()
	if err != nil || d.dir.Full() || free-bytes < cleanMargin {
		return false
	}
	return d.brim.percent.Load() == 0 || d.brim.stuck.Load() || d.awaitRoom(ctx, bytes)
}

// cleanedTo is where the last pass over a log ended, or model.NoOffset.
func (d *disk) cleanedTo(p model.Partition) model.Offset {
	d.cleaned.Lock()
	defer d.cleaned.Unlock()
	if o, ok := d.cleaned.offsets[p]; ok {
		return o
	}
	return model.NoOffset
}

// cleanerWaits reports whether a log has segments that only the lack of a mark
// keeps from being compacted.
func (d *disk) cleanerWaits(x *replica) bool {
	return x.Config().Compact && x.Log().ActiveBase() > d.writtenMark(x.ID).Segment
}

// writtenMark is the mark of a partition that the next start finds.
func (d *disk) writtenMark(p model.Partition) commitlog.Mark {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.written[p]
}
