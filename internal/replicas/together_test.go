package replicas

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
)

// What the cleaner, the trimmer and the movers do to each other.

// The cleaner asks how full the disk is while the trimmer deletes and notes who
// still reads.
func TestRoomWhileTrimming(t *testing.T) {
	w, mems := percentWorld(t, 1, "/a")
	w.start()
	w.create("x", 4, small)
	for i := range int32(4) {
		w.mustAppend("x", i, 90_000, 20)
	}
	w.flush()
	d := w.disks[0]
	ctx, cancel := context.WithCancel(t.Context())
	var askers sync.WaitGroup
	for range 2 {
		askers.Go(func() {
			for ctx.Err() == nil {
				d.roomToClean(ctx, 1)
			}
		})
	}
	for d.brim.dropped.segments.Load() < 60 {
		u, err := mems["/a"].DiskUsage("/")
		w.ok(err)
		mems["/a"].SetCapacity(100 * (u.Used - 10_000))
		d.relieve(t.Context())
	}
	cancel()
	askers.Wait()
}

// A rate that was far too low holds up nobody once it is raised.
func TestRateRaised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pacer
		for _, rate := range []float64{1, 1e-300} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			p.setRate(rate)
			if err := p.pace(ctx, 1<<20); err == nil {
				t.Errorf("a megabyte at %v bytes a second took no time", rate)
			}
			cancel()
		}
		p.setRate(1e6)
		began := time.Now()
		if err := p.pace(t.Context(), 1e6); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("a second's work took %v", took)
		}
	})
}

// When compaction is no longer a topic's policy, the pass over it ends: what it
// would remove is to be kept.
func TestPolicyChangesInPass(t *testing.T) {
	w := newWorld(t, vfs.NewMem())
	w.start()
	w.create("x", 1, compacted...)
	w.fill("x", 100, 7)
	w.mark()
	policy := func(p string) {
		w.apply(metadata.Record{Message: metadata.ConfigRecord(metadata.Resource{Type: metadata.ResourceTopic, Name: "x"}, "cleanup.policy", &p)})
	}
	pass := func(to string) {
		tools := w.tools()
		changed := make(chan struct{})
		var once sync.Once
		tools.Pace = func(ctx context.Context, _ int) error {
			once.Do(func() {
				go func() { defer close(changed); policy(to) }()
			})
			select {
			case <-changed:
			case <-ctx.Done():
			}
			return ctx.Err()
		}
		if !w.cleaner.cleanOne(t.Context(), tools) {
			t.Fatal("nothing to clean")
		}
		<-changed
	}
	pass("delete")
	if n := w.records("x"); n != 100 {
		t.Errorf("%d of 100 records are left of a topic that is not compacted", n)
	}
	policy("compact")
	pass("compact,delete")
	if n := w.records("x"); n >= 100 {
		t.Error("a pass was ended that goes on being wanted")
	}
}

// Moves go in large pieces, however many bytes a second there may be, and a rate
// that was far too low holds up none once it is raised.
func TestMovePiece(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, vfs.NewMem())
		w.paths = []string{"/a", "/b"}
		w.cluster()
		w.start()
		if n := w.movePiece(); n != moveBytes {
			t.Errorf("pieces of %d bytes", n)
		}
		const rate = "replica.alter.log.dirs.io.max.bytes.per.second"
		w.create("x", 1)
		w.mustAppend("x", 0, 900_000, 3)
		w.flush()
		w.reconfigured(map[string]string{rate: "10"})
		ctx, cancel := context.WithCancel(t.Context())
		var mover sync.WaitGroup
		mover.Go(func() { w.carryMoves(ctx) })
		w.ok(w.Move(x0(), "/b"))
		time.Sleep(time.Minute)
		if got := w.where(x0()); len(got) != 2 {
			t.Error(got)
		}
		w.reconfigured(map[string]string{rate: "1000000"})
		time.Sleep(time.Minute)
		if got := w.where(x0()); len(got) != 1 || got[0] != "/b" {
			t.Errorf("in %v a minute after the rate was raised", got)
		}
		cancel()
		mover.Wait()
	})
}

// On a disk that producers keep at the mark compaction goes on: room is made for
// it, as for an append, and no more than it takes.
func TestCompactionAtTheMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, mems := percentWorld(t, 1, "/a")
		w.options = append(w.options, "log.cleaner.backoff.ms=0")
		w.start()
		w.create("x", 1, small)
		w.create("y", 1, "cleanup.policy=compact", small, "durability=os")
		w.mustAppend("x", 0, 30_000, 60)
		for range 60 {
			_, err := w.part("y", 0).Append(w.keyed(30_000), true, w.now)
			w.ok(err)
		}
		w.flush()
		w.mark()
		u, err := mems["/a"].DiskUsage("/")
		w.ok(err)
		mems["/a"].SetCapacity(100 * (u.Used + 20_000))
		ctx, cancel := context.WithCancel(t.Context())
		var trimmer sync.WaitGroup
		trimmer.Go(func() { w.disks[0].trim(ctx) })
		time.Sleep(2 * time.Second)
		if start := w.starts("x")[0]; start != 0 {
			t.Errorf("deleted up to %d below the mark", start)
		}
		before := w.part("y", 0).Log().Size()
		for range 5 {
			w.cleaner.cleanOne(t.Context(), w.tools())
		}
		if now := w.part("y", 0).Log().Size(); now > before/5 {
			t.Errorf("%d of %d bytes are left", now, before)
		}
		if start := w.starts("x")[0]; start > 9 {
			t.Errorf("deleted up to %d to make room for a segment", start)
		}
		if w.disks[0].brim.stuck.Load() {
			t.Error("stuck")
		}
		cancel()
		trimmer.Wait()
	})
}

// A process that has no descriptor left for a while has no broken disk: its
// partitions go on, and what could not be made is made later.
func TestOutOfDescriptors(t *testing.T) {
	var out atomic.Bool
	w := newWorld(t, vfs.NewFaulty(vfs.NewMem(), func(o vfs.Op) error {
		switch o.Kind {
		case vfs.OpOpen, vfs.OpCreate, vfs.OpReadDir, vfs.OpSyncDir:
			if out.Load() {
				return syscall.EMFILE
			}
		}
		return nil
	}))
	w.start()
	w.create("x", 1, compacted...)
	w.fill("x", 100, 7)
	w.mark()
	out.Store(true)
	d := w.disks[0]
	w.put("x", "k1=1")
	w.cleaner.cleanOne(t.Context(), w.tools())
	d.grew(w.part("x", 0))
	for _, do := range []func() error{d.markGrown, d.removeRetired, d.checkpointStarts, d.checkpointCommitted} {
		d.judge(do())
	}
	w.create("y", 1)
	if _, err := w.Partition(model.Partition{Topic: "y"}); !errors.Is(err, partition.ErrOffline) {
		t.Errorf("made without descriptors: %v", err)
	}
	d.judge(d.restore())
	if err := d.hasFailed(); err != nil {
		t.Error(err)
	}
	out.Store(false)
	w.ok(d.restore())
	w.ok(d.markGrown())
	w.fill("x", 10, 7)
	w.mustAppend("y", 0, 100, 1)
	w.now = w.now.Add(time.Hour)
	if w.compact() == 0 {
		t.Error("nothing compacted")
	}
}

// Topics that come and go leave nothing with the trimmer, also while the disk has
// room.
func TestTrimmerForgets(t *testing.T) {
	w, _ := percentWorld(t, 90, "/a", "/b")
	w.start()
	for i := range 50 {
		name := fmt.Sprint("t", i)
		w.create(name, 2, compacted...)
		w.fill(name, 30, 3)
		w.mark()
		w.compact()
		w.remove(name)
	}
	for _, d := range w.disks {
		w.ok(d.removeRetired())
		d.mu.Lock()
		n := len(d.brim.mu.rolled) + len(d.mu.grown) + len(d.mu.deleting) + len(d.mu.marks) + len(d.mu.refused) + len(d.mu.unmade) + len(d.mu.starts)
		d.mu.Unlock()
		n += len(d.retention.touched) + len(d.retention.trimmed) + len(d.cleaned.offsets)
		if n > 0 {
			t.Errorf("%d things are remembered of what is gone", n)
		}
	}
}

// What is moved to a disk that is at its mark makes the trimmer look as soon as an
// append does: the disk does not pass the mark by more than two segments.
func TestMoveToTheMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, mems := percentWorld(t, 1, "/a", "/b")
		w.cluster()
		w.start()
		w.create("x", 2, small) // One on each.
		for i := range int32(2) {
			w.mustAppend("x", i, 90_000, 60)
		}
		w.flush()
		u, err := mems["/b"].DiskUsage("/")
		w.ok(err)
		mark := u.Used + 10_000
		mems["/b"].SetCapacity(100 * mark)
		ctx, cancel := context.WithCancel(t.Context())
		var trimmer sync.WaitGroup
		trimmer.Go(func() { w.disks[1].trim(ctx) })
		time.Sleep(1500 * time.Millisecond)
		w.ok(w.Move(x0(), "/b"))
		most := int64(0)
		m := w.nextMove()
		done := make(chan struct{})
		go func() { defer close(done); w.carryOut(ctx, m) }()
		for range 3000 {
			time.Sleep(time.Millisecond)
			u, err := mems["/b"].DiskUsage("/")
			w.ok(err)
			most = max(most, u.Used)
		}
		<-done
		if got := w.where(x0()); len(got) != 1 || got[0] != "/b" {
			t.Fatal(got)
		}
		t.Logf("%d above the mark", most-mark)
		if most > mark+200_000+moveBytes {
			t.Errorf("%d bytes above the mark", most-mark)
		}
		cancel()
		trimmer.Wait()
	})
}

// The trimmer removes what waits for removal whatever the clock says: it would
// else try for ever.
func TestRemovedBeforeItsTime(t *testing.T) {
	w := newWorld(t, vfs.NewMem())
	w.start()
	w.create("x", 1, small, "retention.bytes=1000")
	w.mustAppend("x", 0, 90_000, 3)
	w.flush()
	w.ok(w.disks[0].retain())
	if n := w.part("x", 0).Log().Waiting(); n != 2 {
		t.Fatalf("%d segments wait", n)
	}
	w.now = w.now.Add(-time.Hour)
	if !w.disks[0].removeWaiting() || w.disks[0].removeWaiting() {
		t.Error("it did not end")
	}
}
