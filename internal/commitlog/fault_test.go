package commitlog

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// TestFullDisk fills a disk at every point of a history of appends, rolls and
// retention, and empties it again: what was acknowledged stays, and the log
// goes on.
func TestFullDisk(t *testing.T) {
	for capacity := int64(2000); capacity < 30_000; capacity += 170 {
		mem := vfs.NewMem()
		l := mustOpen(t, mem, Options{SegmentBytes: 3000, IndexInterval: 300})
		mem.SetCapacity(capacity)
		var all []byte
		refused := 0
		for i := range 150 {
			b := makeBatch(2, 150, int64(i), byte(i))
			_, end, err := l.Append(b, 0, testNow)
			switch {
			case err == nil:
				all = append(all, b...)
			case errors.Is(err, syscall.ENOSPC):
				refused++
			default:
				t.Fatalf("capacity %d: %v", capacity, err)
			}
			if err == nil && end != l.End() {
				t.Fatalf("end %d, %d", end, l.End())
			}
			if refused == 3 {
				mem.SetCapacity(0)
			}
		}
		if got := readAll(t, l, 0, l.End(), 1000); !bytes.Equal(got, all) {
			t.Fatalf("capacity %d: %d bytes, want %d", capacity, len(got), len(all))
		}
		verify(t, l)
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		l.Close()
		l = mustOpen(t, mem, Options{})
		if got := readAll(t, l, 0, l.End(), 1000); !bytes.Equal(got, all) {
			t.Fatalf("capacity %d: reopened with %d bytes, want %d", capacity, len(got), len(all))
		}
	}
}

// TestRetainOnFullDisk deletes segments where nothing can be written.
func TestRetainOnFullDisk(t *testing.T) {
	mem := vfs.NewMem()
	l := mustOpen(t, mem, Options{SegmentBytes: 1000})
	for i := range 20 {
		mustAppend(t, l, makeBatch(1, 300, int64(i), 0), model.Epoch(i))
	}
	mem.SetCapacity(1)
	n, err := l.Retain(testNow, Retention{Bytes: 2000, Limit: l.End()})
	if err != nil || n == 0 {
		t.Fatal(n, err)
	}
	if waiting, err := l.DeleteExpired(testNow.Add(time.Minute), time.Minute); waiting != 0 || err != nil {
		t.Fatal(waiting, err)
	}
	if l.Start() == 0 || l.Size() > 3000 {
		t.Fatal(l.Start(), l.Size())
	}
}

// TestFailedSync takes the log offline, for ever, and opened anew it has what
// was synced before.
func TestFailedSync(t *testing.T) {
	mem := vfs.NewMem()
	var broken atomic.Bool
	fs := vfs.NewFaulty(mem, func(o vfs.Op) error {
		if broken.Load() && o.Kind == vfs.OpSync {
			return syscall.EIO
		}
		return nil
	})
	l := mustOpen(t, fs, Options{})
	mustAppend(t, l, makeBatch(5, 100, 1, 1), 0)
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	mem.SyncDir("/")
	mustAppend(t, l, makeBatch(5, 100, 1, 1), 0)
	broken.Store(true)
	if err := l.Sync(); !errors.Is(err, ErrOffline) || !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	broken.Store(false)
	if err := l.Sync(); !errors.Is(err, ErrOffline) {
		t.Fatalf("sync again: %v", err)
	}
	if _, _, err := l.Append(makeBatch(1, 1, 1, 1), 0, testNow); !errors.Is(err, ErrOffline) {
		t.Fatalf("append: %v", err)
	}
	if _, err := l.Read(0, 5, 100, true); !errors.Is(err, ErrOffline) {
		t.Fatalf("read: %v", err)
	}
	if l.SyncedEnd() != 5 {
		t.Fatalf("synced %d", l.SyncedEnd())
	}
	again := mustOpen(t, mem.CrashClone(rand.New(rand.NewPCG(1, 1))), Options{})
	if again.End() < 5 {
		t.Fatalf("end %d", again.End())
	}
}

// TestRetention deletes by age and size, never beyond the limit, and rolls an
// active segment that is too old.
func TestRetention(t *testing.T) {
	open := func(age bool) *Log {
		l := mustOpen(t, vfs.NewMem(), Options{SegmentBytes: 1000})
		for i := range 10 {
			ts := testNow.Add(time.Duration(i) * time.Hour).UnixMilli()
			mustAppend(t, l, makeBatch(1, 700, ts, 0), 0)
		}
		if l.Segments() != 10 {
			t.Fatalf("%d segments", l.Segments())
		}
		return l
	}
	check := func(r Retention, now time.Duration, start, end model.Offset) {
		t.Helper()
		l := open(true)
		if err := l.RollExpired(testNow.Add(now), r); err != nil {
			t.Fatal(err)
		}
		if _, err := l.Retain(testNow.Add(now), r); err != nil {
			t.Fatal(err)
		}
		if l.Start() != start || l.End() != end {
			t.Errorf("%+v: [%d,%d), want [%d,%d)", r, l.Start(), l.End(), start, end)
		}
		for from := start; from < end; from++ {
			if v, err := l.Read(from, end, 1, true); err != nil || v.Size() == 0 {
				t.Errorf("%+v: read %d: %d bytes %v", r, from, v.Size(), err)
			} else {
				v.Close()
			}
		}
		if _, err := l.Read(start-1, end, 1, true); !errors.Is(err, ErrOutOfRange) {
			t.Errorf("%+v: read below the start: %v", r, err)
		}
	}
	check(Retention{Limit: 10}, 0, 0, 10)
	check(Retention{Limit: 10, Age: time.Hour}, 5*time.Hour, 4, 10)
	check(Retention{Limit: 2, Age: time.Hour}, 5*time.Hour, 2, 10)
	check(Retention{Limit: 10, Age: time.Hour}, 100*time.Hour, 10, 10)
	check(Retention{Limit: 10, Bytes: 3 * 761}, 0, 7, 10)
	check(Retention{Limit: 10, Bytes: 3*761 - 1}, 0, 7, 10)
	check(Retention{Limit: 10, Bytes: 3*761 + 1}, 0, 6, 10)
	check(Retention{Limit: 10, Bytes: 1}, 0, 9, 10)
}

// TestSparse reads a log with holes, as compaction leaves them: between
// batches, between segments and at the end of one.
func TestSparse(t *testing.T) {
	l := mustOpen(t, vfs.NewMem(), Options{SegmentBytes: 1000, IndexInterval: 100})
	var bases []model.Offset
	at := model.Offset(0)
	rng := rand.New(rand.NewPCG(1, 1))
	for range 60 {
		at += model.Offset(rng.IntN(30))
		b := makeBatch(3, 100, int64(at), 0)
		b.SetBaseOffset(at)
		b.SetLeaderEpoch(0)
		if _, err := l.AppendAt(b); err != nil {
			t.Fatal(err)
		}
		bases = append(bases, at)
		at += 3
		if rng.IntN(10) == 0 {
			if err := l.Roll(); err != nil {
				t.Fatal(err)
			}
		}
	}
	next := 0
	for o := range l.End() {
		for next < len(bases) && bases[next]+3 <= o {
			next++
		}
		v, err := l.Read(o, l.End(), 1, true)
		if err != nil {
			t.Fatal(err)
		}
		b, err := v.Bytes(nil)
		v.Close()
		if err != nil || record.Batch(b).BaseOffset() != bases[next] {
			t.Fatalf("read %d: batch at %d, want %d: %v", o, record.Batch(b).BaseOffset(), bases[next], err)
		}
	}
	b := makeBatch(1, 1, 1, 1)
	b.SetBaseOffset(l.End() - 1)
	if _, err := l.AppendAt(b); !errors.Is(err, ErrNotNext) {
		t.Fatalf("append below the end: %v", err)
	}
	// A hole too wide for one segment.
	b.SetBaseOffset(l.End() + 1<<33)
	if _, err := l.AppendAt(b); err != nil {
		t.Fatal(err)
	}
	if v, err := l.Read(bases[len(bases)-1]+3, l.End(), 1, true); err != nil || v.Size() != len(b) {
		t.Fatalf("read over the wide hole: %d %v", v.Size(), err)
	}
	mem, end := l.fs, l.End()
	l.Close()
	if again := mustOpen(t, mem, Options{}); again.End() != end {
		t.Fatalf("end %d, was %d", again.End(), end)
	}
}

// TestConcurrent appends, syncs, marks, retains and idles while readers follow:
// what they read is in order and whole. Run it with -race.
func TestConcurrent(t *testing.T) {
	dir := t.TempDir()
	l, err := Open(vfs.OS{}, dir, Options{SegmentBytes: 50_000, IndexInterval: 500})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const batches = 1500
	var wg sync.WaitGroup
	var done atomic.Bool
	wg.Go(func() {
		defer done.Store(true)
		for i := range batches {
			if _, _, err := l.Append(makeBatch(2, 200+i%300, int64(i), byte(i)), model.Epoch(i/500), testNow); err != nil {
				t.Error(err)
				return
			}
		}
	})
	wg.Go(func() {
		for !done.Load() {
			if err := l.Sync(); err != nil {
				t.Error(err)
			}
			if _, err := l.Checkpoint(nil); err != nil {
				t.Error(err)
			}
			l.Idle()
		}
	})
	wg.Go(func() {
		for !done.Load() {
			if _, err := l.OffsetForTime(1 << 60); err != nil {
				t.Error(err)
			}
			if _, err := l.Retain(testNow, Retention{Bytes: 400_000, Limit: l.SyncedEnd()}); err != nil {
				t.Error(err)
			}
			if _, err := l.DeleteExpired(testNow, 0); err != nil {
				t.Error(err)
			}
		}
	})
	for range 2 {
		wg.Go(func() {
			from := model.Offset(0)
			for from < 2*batches && !t.Failed() {
				v, err := l.Read(from, l.End(), 5000, true)
				if errors.Is(err, ErrOutOfRange) {
					from = l.Start() // Retention overtook us.
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				b, err := v.Bytes(nil)
				v.Close()
				if err != nil {
					t.Error(err)
					return
				}
				err = eachBatch(b, func(b record.Batch) error {
					if b.BaseOffset() != from || b.ComputeCRC() != b.CRC() {
						t.Errorf("batch at %d, want %d", b.BaseOffset(), from)
					}
					from = b.End()
					return nil
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
