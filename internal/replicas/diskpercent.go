package replicas

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/model"
)

// Each data directory has a trimmer, which keeps the file system that it is on
// at log.retention.disk.percent: when it is fuller, the oldest sealed segments
// of the directory go, over all partitions whose policy is deletion, until it is
// not; when no sealed one is left, active ones are sealed, the largest first.
// Internal topics are never touched, and those that are only compacted, or kept
// for ever, are not deleted from.
//
// It asks the file system every second, and whenever as much was appended as was
// left at the last look, so that a fast producer cannot run away from it. Files
// are removed at once, file.delete.delay.ms or not; the space of one that
// somebody reads comes back when he is done.
//
// Below the mark it makes room for a segment that the cleaner is about to write.

const (
	// brimPatience is how long an append waits when the mark was passed by more
	// than half a segment: deleting takes milliseconds, and a producer that waits is
	// better off than one that is refused when the disk is full.
	brimPatience = time.Second
	// brimHeld is how long a removed file that somebody reads counts as free, if
	// it is the largest of such. Without it one slow reader would cost the segment
	// after his, too; with all of them as many could fill the disk.
	brimHeld = 10 * time.Second
	// brimStuck is how many bytes may be appended before the trimmer looks again
	// when there was nothing to delete.
	brimStuck = 16 << 20
	// brimPending is how long the trimmer waits for a sync that has to come before
	// a segment can go, and brimTries how often.
	brimPending = 10 * time.Millisecond
	brimTries   = 100
	// brimSays is how often it says what it does.
	brimSays = time.Minute
)

// brim is what the trimmer knows of its disk.
type brim struct {
	percent atomic.Int64 // 0 is off.
	// begun and done count the bytes of appends that began and that ended, limit is
	// what begun may come to before the mark is reached. What was done before a look
	// at the file system is in what it tells; all that began and was not done before
	// it is taken to come on top. So nothing in between is forgotten.
	begun, done, limit atomic.Int64
	wake               chan struct{}
	mu                 struct {
		sync.Mutex
		// round ends when something was freed, or nothing can be.
		round chan struct{}
		// rolled are partitions that have sealed a segment lately, holders those
		// whose removed files somebody may read.
		rolled  map[model.Partition]struct{}
		holders map[*partition.Partition]struct{}
	}
	dropped struct{ segments, bytes atomic.Int64 }
	stuck   atomic.Bool // Above the mark, and nothing to delete.
	// wanted is how many bytes below the mark the cleaner waits for.
	wanted atomic.Int64

	// The trimmer's own: partitions with a segment to delete by the time of the
	// oldest, once known; what was said last.
	oldest queue
	known  bool
	said   struct {
		at              time.Time
		segments, bytes int64
	}
}

func newBrim() *brim {
	b := &brim{wake: make(chan struct{}, 1), oldest: newQueue()}
	b.mu.round, b.mu.rolled = make(chan struct{}), map[model.Partition]struct{}{}
	b.mu.holders = map[*partition.Partition]struct{}{}
	b.limit.Store(math.MaxInt64)
	return b
}

// reconfigure takes what a new configuration says of the disk.
func (d *disk) reconfigure(c *config.Broker) {
	d.brim.percent.Store(int64(c.Disks.RetentionPercent))
	d.brim.poke()
}

// poke wakes the trimmer.
func (b *brim) poke() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// nextRound lets those who wait look again.
func (b *brim) nextRound() {
	b.mu.Lock()
	close(b.mu.round)
	b.mu.round = make(chan struct{})
	b.mu.Unlock()
}

// left is how many bytes may be appended before the mark is reached, as far as
// is known.
func (b *brim) left() int64 { return b.limit.Load() - b.begun.Load() }

// wrote is told of the end of every append that room was told of.
func (d *disk) wrote(bytes int) { d.brim.done.Add(int64(bytes)) }

// appended is how many bytes of appends began since the start on all disks, and
// how many of them to logs that are compacted.
func (r *Replicas) appended() (all, toCompact int64) {
	for _, d := range r.disks {
		all += d.brim.begun.Load()
		toCompact += d.toCompact.Load()
	}
	return all, toCompact
}

// room is told of every append before it begins. It calls for the trimmer when
// the mark is reached, and waits for it when the mark was passed by more than
// half a segment, unless nothing is deleted from the topic: nobody makes room there.
func (d *disk) room(cfg *config.Topic, bytes int) {
	if cfg.Compact {
		d.toCompact.Add(int64(bytes))
	}
	left := d.brim.limit.Load() - d.brim.begun.Add(int64(bytes))
	d.brim.near(left, cfg.SegmentBytes, cfg.Delete)
}

// copied is told of bytes that were copied here: they count as if they had been
// appended.
func (d *disk) copied(cfg *config.Topic, bytes int) {
	left := d.brim.limit.Add(-int64(bytes)) - d.brim.begun.Load()
	d.brim.near(left, cfg.SegmentBytes, true)
}

// near calls for the trimmer when nothing is left, and may wait for it.
func (b *brim) near(left, segment int64, mayWait bool) {
	if left > 0 || b.percent.Load() == 0 {
		return
	}
	b.poke()
	if mayWait && left < -segment/2 {
		b.await(context.Background(), func() bool { return b.left() >= -segment/2 })
	}
}

// await waits for the trimmer until it is enough; false if that takes too long.
func (b *brim) await(ctx context.Context, enough func() bool) bool {
	late := time.NewTimer(brimPatience)
	defer late.Stop()
	for {
		b.mu.Lock()
		round := b.mu.round
		b.mu.Unlock()
		if enough() {
			return true
		}
		select {
		case <-round:
		case <-late.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// awaitRoom waits until there are so many bytes below the mark; false if they
// do not come.
func (d *disk) awaitRoom(ctx context.Context, bytes int64) bool {
	b := d.brim
	b.wanted.Add(bytes)
	defer b.wanted.Add(-bytes)
	b.poke()
	var failed error
	enough := b.await(ctx, func() bool {
		over, err := d.over()
		failed = err
		return err != nil || over+bytes <= 0
	})
	return enough && failed == nil
}

// hasRolled notes a partition that has one more sealed segment.
func (b *brim) hasRolled(p model.Partition) {
	if b.percent.Load() == 0 {
		return
	}
	b.mu.Lock()
	b.mu.rolled[p] = struct{}{}
	b.mu.Unlock()
}

// forget forgets a partition that is not here any more.
func (b *brim) forget(p model.Partition) {
	b.mu.Lock()
	delete(b.mu.rolled, p)
	b.mu.Unlock()
}

// trim runs the trimmer until ctx ends.
func (d *disk) trim(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-d.brim.wake:
		}
		d.relieve(ctx)
	}
}

// relieve deletes until the file system is not fuller than the mark, nor will be
// when the appends under way are done, and the cleaner has the room that it waits
// for.
func (d *disk) relieve(ctx context.Context) {
	b := d.brim
	if b.percent.Load() == 0 || d.hasFailed() != nil {
		if b.limit.Load() != math.MaxInt64 {
			b.off()
		}
		return
	}
	for tries := 0; ctx.Err() == nil; {
		done := b.done.Load()
		over, err := d.over()
		if err != nil {
			d.owner.opts.Log.Error("file system does not tell how full it is", "dir", d.dir.Path(), "err", err)
			b.off()
			d.judge(err)
			return
		}
		b.limit.Store(done - over)
		b.nextRound()
		left := b.left()
		if left >= 0 {
			b.stuck.Store(false)
		}
		if left >= b.wanted.Load() {
			return
		}
		d.sayFull()
		freed, pending := d.makeRoom(left < 0)
		if freed {
			tries = 0
			continue
		}
		if tries++; !pending || tries > brimTries {
			if left < 0 {
				d.cannotRelieve(over)
			}
			return
		}
		pause(ctx, brimPending)
	}
}

// off ends all waiting.
func (b *brim) off() {
	b.limit.Store(math.MaxInt64)
	b.known = false
	b.stuck.Store(false)
	b.nextRound()
}

// pause waits, but not beyond the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// over is how many bytes are above the mark; below it they are negative. The
// cleaner asks, too.
func (d *disk) over() (int64, error) {
	u, err := d.dir.Usage()
	if err != nil {
		return 0, err
	}
	held := d.brim.held(d.owner.opts.Now().Add(-brimHeld))
	return u.Above(d.brim.percent.Load()) - held, nil
}

// held is the bytes of the largest file that was removed after a moment and that
// somebody still reads.
func (b *brim) held(after time.Time) (held int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p := range b.mu.holders {
		bytes := p.Log().Held(after)
		held = max(held, bytes)
		if bytes == 0 {
			delete(b.mu.holders, p)
		}
	}
	return held
}

// isRead notes a partition whose removed files somebody may read.
func (b *brim) isRead(p *partition.Partition) {
	b.mu.Lock()
	b.mu.holders[p] = struct{}{}
	b.mu.Unlock()
}

// makeRoom takes one step: it removes what waits for removal, or deletes the
// oldest segment, or, if it may, seals the largest active one. pending says that
// a segment could go if it were synced.
func (d *disk) makeRoom(maySeal bool) (freed, pending bool) {
	if d.removeWaiting() {
		return true, false
	}
	if freed, pending = d.dropOldest(); freed || pending || !maySeal {
		return freed, pending
	}
	return d.rollLargest(), false
}

// removeWaiting removes what was deleted and waits for file.delete.delay.ms.
func (d *disk) removeWaiting() bool {
	d.mu.Lock()
	waiting := len(d.mu.retired)
	for p := range d.mu.deleting {
		waiting += p.Log().Waiting()
	}
	d.mu.Unlock()
	if waiting == 0 {
		return false
	}
	d.tellIf(errors.Join(d.removeSegments(true), d.removeDirectories(true)))
	return true
}

func (d *disk) tellIf(err error) {
	if err != nil {
		d.owner.opts.Log.Error("space not freed", "dir", d.dir.Path(), "err", err)
		d.judge(err)
	}
}

// internalTopic reports the topics that the broker itself needs.
func internalTopic(name string) bool {
	return name == "__consumer_offsets" || name == "__transaction_state" || name == "__share_group_state"
}

// droppable describes the oldest segment of a partition if it may go.
func droppable(x *replica) (o commitlog.Oldest, ok bool, err error) {
	if internalTopic(x.ID.Topic) || x.Err() != nil {
		return o, false, nil
	}
	return x.Droppable()
}

// learn brings the queue up to date: with all partitions when the mark is
// passed for the first time, later with those that sealed a segment.
func (d *disk) learn() {
	b := d.brim
	b.mu.Lock()
	rolled := b.mu.rolled
	b.mu.rolled = map[model.Partition]struct{}{}
	b.mu.Unlock()
	if !b.known {
		b.known = true
		b.oldest = newQueue()
		d.each(d.enqueue)
		return
	}
	for p := range rolled {
		if x := d.owner.entry(p); x != nil && x.err == nil && x.disk == d {
			d.enqueue(x)
		}
	}
}

// enqueue puts a partition where its oldest segment stands.
func (d *disk) enqueue(x *replica) {
	o, ok, err := droppable(x)
	if err != nil {
		d.tellIf(notClosed(err))
	}
	if ok {
		d.brim.oldest.set(x.Partition, o.Time)
	} else {
		d.brim.oldest.remove(x.Partition)
	}
}

// dropOldest deletes the oldest segment of all.
func (d *disk) dropOldest() (dropped, pending bool) {
	d.learn()
	var waiting []*replica
	defer func() {
		for _, x := range waiting {
			d.enqueue(x)
		}
	}()
	for {
		q, ok := d.brim.oldest.takeFirst(math.MaxInt64)
		if !ok {
			return false, len(waiting) > 0
		}
		x := d.replicaOf(q.p)
		if x == nil {
			continue // It is gone.
		}
		o, ok, err := droppable(x)
		switch {
		case err != nil || !ok:
			d.tellIf(notClosed(err))
			continue
		case o.Time > q.at: // Somebody else deleted what stood here.
			d.brim.oldest.set(x.Partition, o.Time)
			continue
		}
		dropped, err := d.drop(x, o)
		d.tellIf(notClosed(err))
		if dropped {
			d.enqueue(x)
			return true, false
		}
		waiting = append(waiting, x)
	}
}

// drop deletes the oldest segment of a partition and its files.
func (d *disk) drop(x *replica, o commitlog.Oldest) (bool, error) {
	now := d.owner.opts.Now()
	dropped, err := x.DropOldest(now)
	if !dropped {
		return false, err
	}
	d.deletedSome(x)
	d.brim.isRead(x.Partition)
	d.brim.dropped.segments.Add(1)
	d.brim.dropped.bytes.Add(o.Bytes)
	_, err2 := x.Log().DeleteExpired(now, 0)
	return true, errors.Join(err, err2)
}

// rollLargest seals the largest active segment that may be deleted then.
func (d *disk) rollLargest() bool {
	var largest *replica
	size := int64(0)
	d.each(func(x *replica) {
		if internalTopic(x.ID.Topic) || x.Err() != nil || !x.Config().Delete {
			return
		}
		if n := x.Log().ActiveSize(); n > size {
			largest, size = x, n
		}
	})
	if largest == nil {
		return false
	}
	err := d.dir.Spend(largest.Roll)
	d.tellIf(notClosed(err))
	return err == nil
}

// sayFull says, now and then, that segments go for want of space, and how many
// went since it was said last.
func (d *disk) sayFull() {
	b, now := d.brim, d.owner.opts.Now()
	if now.Sub(b.said.at) < brimSays {
		return
	}
	segments, bytes := b.dropped.segments.Load(), b.dropped.bytes.Load()
	d.owner.opts.Log.Warn("file system fuller than log.retention.disk.percent, the oldest segments go", "dir", d.dir.Path(),
		"percent", b.percent.Load(), "segments", segments-b.said.segments, "bytes", bytes-b.said.bytes)
	b.said.at, b.said.segments, b.said.bytes = now, segments, bytes
}

// cannotRelieve gives up until there is something new.
func (d *disk) cannotRelieve(over int64) {
	b := d.brim
	b.limit.Store(b.begun.Load() + brimStuck)
	if !b.stuck.Swap(true) {
		d.owner.opts.Log.Error("file system fuller than log.retention.disk.percent, and no segment is left that may go",
			"dir", d.dir.Path(), "percent", b.percent.Load(), "bytes", over)
	}
	b.nextRound()
}
