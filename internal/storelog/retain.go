package storelog

import (
	"container/heap"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/model"
)

// lookInterval is how long a partition of which nothing could be deleted, though
// it was due, is left alone.
const lookInterval = 10 * time.Second

// retain deletes what is too old or too much.
func (l *Logs) retain(now time.Time) {
	if l.o.Age == 0 && l.o.Bytes == 0 {
		return
	}
	for _, p := range l.Partitions() {
		if log := p.log.Load(); log != nil && !now.Before(p.due) {
			l.retainOne(now, p, log)
			p.due = l.dueAgain(now, log)
		}
	}
}

func (l *Logs) retainOne(now time.Time, p *Partition, log *commitlog.Log) {
	r := commitlog.Retention{Age: l.o.Age, Bytes: l.o.Bytes, Limit: model.Offset(p.stored.Load())}
	err := l.dir.Spend(func() error { return log.RollExpired(now, r) })
	if err == nil {
		err = l.delete(now, p, log, r)
	}
	l.failed(err)
}

// dueAgain is when to look at a log: when its first segment is too old, or soon
// if it may be too large.
func (l *Logs) dueAgain(now time.Time, log *commitlog.Log) time.Time {
	soon := now.Add(lookInterval)
	if l.o.Bytes > 0 {
		return soon
	}
	if o, err := log.Oldest(); err == nil {
		if due := time.UnixMilli(o.Time).Add(l.o.Age); due.After(now) {
			return due
		}
	}
	return soon
}

// delete deletes segments, and tells who has to know where the log starts now.
func (l *Logs) delete(now time.Time, p *Partition, log *commitlog.Log, r commitlog.Retention) error {
	gone := 0
	err := l.dir.Spend(func() (err error) { gone, err = log.Retain(now, r); return err })
	if gone == 0 {
		return err
	}
	l.stat.dropped.Add(uint64(gone))
	l.touch(p)
	l.changed(p)
	_, err2 := log.DeleteExpired(now, 0)
	return errors.Join(err, err2)
}

// failed says that retention could not do its work. A log that is offline has
// been told of.
func (l *Logs) failed(err error) {
	if err == nil || errors.Is(err, commitlog.ErrOffline) || errors.Is(err, commitlog.ErrClosed) {
		return
	}
	now := l.o.Now().UnixNano()
	if last := l.brim.complained.Load(); now-last >= int64(complainInterval) && l.brim.complained.CompareAndSwap(last, now) {
		l.o.Log.Error("records not deleted", "dir", l.dir.Path(), "err", err)
	}
}

// brim keeps the file system at DiskPercent: when it is fuller, the oldest sealed
// segments of all partitions go; when no sealed one is left, the largest active
// one is sealed. The keeper looks every second, and whoever appends when as much
// was written as was left, so that fast producers cannot run away from it.
type brim struct {
	mu   sync.Mutex
	left int64 // Bytes until it has to look again.
	// holders are those of which segments were removed: somebody may read them
	// still, and then the space is not free yet.
	holders map[*Partition]struct{}
	said    time.Time
	stuck   bool
	// complained is when it was last said that deletion does not work, in
	// nanoseconds since 1970.
	complained atomic.Int64
}

const (
	// brimStuck is how many bytes may be written before the next look when there
	// was nothing to delete.
	brimStuck = 16 << 20
	// brimHeld is how long a removed file that somebody reads counts as free.
	brimHeld = 10 * time.Second
	// brimSays is how often it is said that segments go.
	brimSays = time.Minute
)

// makeRoom is told of every write before it.
func (l *Logs) makeRoom(bytes int64) {
	if l.o.DiskPercent == 0 {
		return
	}
	l.brim.mu.Lock()
	defer l.brim.mu.Unlock()
	if l.brim.left -= bytes; l.brim.left <= 0 {
		l.relieveLocked()
		l.brim.left -= bytes
	}
}

// relieve deletes until the file system is not fuller than it may be.
func (l *Logs) relieve() {
	if l.o.DiskPercent == 0 {
		return
	}
	l.brim.mu.Lock()
	defer l.brim.mu.Unlock()
	l.relieveLocked()
}

func (l *Logs) relieveLocked() {
	b, now := &l.brim, l.o.Now()
	over, err := l.over(now)
	if err != nil {
		l.failed(err)
		b.left = brimStuck
		return
	}
	if over > 0 && now.Sub(b.said) >= brimSays {
		b.said = now
		l.o.Log.Warn("file system fuller than store/retention_disk_percent, the oldest segments go", "dir", l.dir.Path(), "percent", l.o.DiskPercent)
	}
	if over > 0 {
		over -= l.dropOldest(now, over)
	}
	if b.left = -over; over <= 0 {
		b.stuck = false
		return
	}
	b.left = brimStuck
	if !b.stuck {
		b.stuck = true
		l.o.Log.Error("file system fuller than store/retention_disk_percent, and no segment is left that may go", "dir", l.dir.Path(), "percent", l.o.DiskPercent, "bytes", over)
	}
}

// over is how many bytes are above the mark; below it they are negative.
func (l *Logs) over(now time.Time) (int64, error) {
	u, err := l.dir.Usage()
	if err != nil {
		return 0, err
	}
	held := int64(0)
	for p := range l.brim.holders {
		bytes := p.log.Load().Held(now.Add(-brimHeld))
		if held = max(held, bytes); bytes == 0 {
			delete(l.brim.holders, p)
		}
	}
	return u.Above(int64(l.o.DiskPercent)) - held, nil
}

// dropOldest deletes segments, the oldest first, until so many bytes are free or
// there are none, and returns how many are free.
func (l *Logs) dropOldest(now time.Time, wanted int64) (freed int64) {
	for freed < wanted {
		queue := l.sealed()
		if len(queue) == 0 && !l.sealLargest() {
			return freed
		}
		if len(queue) > 0 {
			n := l.dropFrom(&queue, now, wanted-freed)
			if freed += n; n == 0 {
				return freed
			}
		}
	}
	return freed
}

func (l *Logs) dropFrom(queue *segments, now time.Time, wanted int64) (freed int64) {
	for len(*queue) > 0 && freed < wanted {
		first := &(*queue)[0]
		n := l.drop(now, first.p, first.Bytes)
		freed += n
		o, ok := droppable(first.p)
		if n == 0 || !ok {
			heap.Pop(queue)
			continue
		}
		first.Oldest = o
		heap.Fix(queue, 0)
	}
	return freed
}

func (l *Logs) drop(now time.Time, p *Partition, bytes int64) int64 {
	log, start := p.log.Load(), p.Start()
	err := l.delete(now, p, log, commitlog.Retention{Oldest: 1, Limit: model.Offset(p.stored.Load())})
	l.failed(err)
	l.brim.holders[p] = struct{}{}
	if p.Start() == start {
		return 0
	}
	return bytes
}

// droppable describes the first segment of a partition if it may go: if it is
// sealed, and stored.
func droppable(p *Partition) (o commitlog.Oldest, ok bool) {
	log := p.log.Load()
	if log == nil || log.Err() != nil || log.Segments() < 2 {
		return o, false
	}
	o, err := log.Oldest()
	return o, err == nil && o.Sealed && o.Bytes > 0
}

// segments is a heap of first segments, the oldest at 0.
type segments []oldest

type oldest struct {
	p *Partition
	commitlog.Oldest
}

func (s segments) Len() int           { return len(s) }
func (s segments) Less(i, j int) bool { return s[i].Time < s[j].Time }
func (s segments) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *segments) Push(x any)        { *s = append(*s, x.(oldest)) }
func (s *segments) Pop() any {
	last := (*s)[len(*s)-1]
	*s = (*s)[:len(*s)-1]
	return last
}

// sealed are the first segments that may go.
func (l *Logs) sealed() segments {
	var s segments
	for _, p := range l.Partitions() {
		if o, ok := droppable(p); ok {
			s = append(s, oldest{p, o})
		}
	}
	heap.Init(&s)
	return s
}

// sealLargest seals the largest active segment.
func (l *Logs) sealLargest() bool {
	var largest *commitlog.Log
	size := int64(0)
	for _, p := range l.Partitions() {
		if log := p.log.Load(); log != nil && log.Err() == nil && log.ActiveSize() > size && model.Offset(p.stored.Load()) == log.End() {
			largest, size = log, log.ActiveSize()
		}
	}
	if largest == nil {
		return false
	}
	err := l.dir.Spend(largest.Roll)
	l.failed(err)
	return err == nil
}
