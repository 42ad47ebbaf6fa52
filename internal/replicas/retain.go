package replicas

import (
	"errors"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/model"
)

// retention says which partitions of a disk retention has to look at: those
// whose time has come, and those that somebody touched, by appending, trimming
// or configuring. All others cost nothing.
type retention struct {
	sync.Mutex
	due     queue
	touched map[*partition.Partition]struct{}
	trimmed map[*partition.Partition]struct{} // See trimmed.
	looking []*partition.Partition            // The rest of the check under way.
}

// retainAtOnce is how many partitions are looked at in one go. After a start
// each is looked at once, which may cost reading an index; then marks and
// checkpoints have their turn in between.
const retainAtOnce = 500

// touch says that retention should look at a partition with its next check.
func (d *disk) touch(p *partition.Partition) {
	d.retention.Lock()
	d.retention.touched[p] = struct{}{}
	d.retention.Unlock()
}

// trimmed says that segments of a partition may lie before its start.
func (d *disk) trimmed(p *partition.Partition) {
	d.retention.Lock()
	d.retention.trimmed[p] = struct{}{}
	d.retention.Unlock()
}

// forgetRetention forgets a partition that is gone.
func (d *disk) forgetRetention(p *partition.Partition) {
	d.retention.Lock()
	defer d.retention.Unlock()
	d.retention.due.remove(p)
	delete(d.retention.touched, p)
	delete(d.retention.trimmed, p)
}

// takeDue takes some of the partitions to look at; more says that there are
// others. Who is touched while they are looked at waits for the next check.
func (d *disk) takeDue(now time.Time, atMost int) (due []*partition.Partition, more bool) {
	r := &d.retention
	r.Lock()
	defer r.Unlock()
	if len(r.looking) == 0 {
		r.looking = slices.Collect(maps.Keys(r.touched))
		clear(r.touched)
		for q, ok := r.due.takeFirst(now.UnixMilli()); ok; q, ok = r.due.takeFirst(now.UnixMilli()) {
			r.looking = append(r.looking, q.p)
		}
	}
	n := min(atMost, len(r.looking))
	due, r.looking = r.looking[:n], r.looking[n:]
	return due, len(r.looking) > 0
}

// retain gives up what the topics' retention says.
func (d *disk) retain() error {
	now := d.leap.Old(d.owner.opts.Now())
	deleted, bytes := d.deleted.segments.Load(), d.deleted.bytes.Load()
	due, more := d.takeDue(now, retainAtOnce)
	var errs []error
	for _, p := range due {
		if x := d.replicaOf(p); x != nil && x.Err() == nil {
			errs = append(errs, d.retainOne(x, now))
		}
	}
	if more {
		d.soon.Store(true)
		d.wakeKeeper()
	}
	if n := d.deleted.segments.Load() - deleted; n > 0 {
		d.owner.opts.Log.Info("segments deleted by retention", "dir", d.dir.Path(), "segments", n, "bytes", d.deleted.bytes.Load()-bytes)
	}
	return errors.Join(errs...)
}

// retainOne looks at a partition, and notes when to look again.
func (d *disk) retainOne(x *replica, now time.Time) error {
	n, err := x.Retain(now)
	if n > 0 {
		d.deletedSome(x)
	}
	at, ok, err2 := x.RetainAt()
	if err = notClosed(errors.Join(err, err2)); err != nil {
		at, ok = 0, true // It is tried again.
	}
	if ok {
		// What could not go yet waits for the next check.
		next := now.Add(d.owner.config.Load().RetentionCheck).UnixMilli()
		if at <= now.UnixMilli() {
			at = next
		}
		d.retention.Lock()
		d.retention.due.set(x.Partition, at)
		d.retention.Unlock()
	}
	if s, _ := x.State(model.NoEpoch); s.Committed < s.End {
		d.touch(x.Partition) // What is not committed could not go.
	}
	if x.IdleSince(now) >= idleAfter {
		// Looking opened files that nobody else wants: the second time they have not
		// been used since the first.
		x.Log().Idle()
		x.Log().Idle()
	}
	return err
}

// deletedSome notes a partition of which segments were deleted: their files
// have to be removed, and its mark has the old start.
func (d *disk) deletedSome(x *replica) {
	d.mu.Lock()
	d.mu.deleting[x.Partition] = struct{}{}
	d.mu.grown[x.Partition] = struct{}{}
	d.mu.Unlock()
}

// notClosed forgets the error of a log that was closed meanwhile.
func notClosed(err error) error {
	if errors.Is(err, commitlog.ErrClosed) {
		return nil
	}
	return err
}

// dropTrimmed deletes the segments that lie before where logs start.
func (d *disk) dropTrimmed() error {
	d.retention.Lock()
	trimmed := slices.Collect(maps.Keys(d.retention.trimmed))
	clear(d.retention.trimmed)
	d.retention.Unlock()
	now := d.owner.opts.Now()
	var errs []error
	for _, p := range trimmed {
		x := d.replicaOf(p)
		if x == nil || x.Err() != nil {
			continue
		}
		n, err := x.DropTrimmed(now)
		if n > 0 {
			d.deletedSome(x)
		}
		errs = append(errs, notClosed(err))
	}
	return errors.Join(errs...)
}

// removeRetired frees deleted segments and directories whose time has come: on
// a disk that is nearly full, at once.
func (d *disk) removeRetired() error {
	d.mu.Lock()
	nothing := len(d.mu.deleting) == 0 && len(d.mu.retired) == 0
	d.mu.Unlock()
	if nothing {
		return nil
	}
	low := d.dir.Low()
	return errors.Join(d.removeSegments(low), d.removeDirectories(low))
}

func (d *disk) removeSegments(atOnce bool) error {
	now := d.owner.opts.Now()
	d.mu.Lock()
	deleting := slices.Collect(maps.Keys(d.mu.deleting))
	d.mu.Unlock()
	var errs []error
	for _, p := range deleting {
		delay := p.Config().FileDeleteDelay
		if atOnce {
			delay = math.MinInt64 // Whatever the clock has done: the trimmer goes on until it is done.
		}
		waiting, err := p.Log().DeleteExpired(now, delay)
		errs = append(errs, notClosed(err))
		if waiting == 0 {
			d.mu.Lock()
			delete(d.mu.deleting, p)
			d.mu.Unlock()
		}
	}
	return errors.Join(errs...)
}

func (d *disk) removeDirectories(atOnce bool) error {
	now := d.owner.opts.Now()
	delay := d.owner.config.Load().Topic.FileDeleteDelay
	var due []string
	d.mu.Lock()
	d.mu.retired = slices.DeleteFunc(d.mu.retired, func(r retired) bool {
		if !atOnce && now.Sub(r.at) < delay {
			return false
		}
		due = append(due, r.name)
		return true
	})
	d.mu.Unlock()
	var errs []error
	for _, name := range due {
		errs = append(errs, d.dir.RemoveLog(name))
	}
	return errors.Join(errs...)
}
