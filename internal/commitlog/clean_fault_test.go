package commitlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// TestCleanLargeBatch reads a batch that is larger than the buffer, and ends at
// one whose length is wrong without taking the memory that it claims.
func TestCleanLargeBatch(t *testing.T) {
	mem := vfs.NewMem()
	l := mustOpen(t, mem, Options{})
	big := strings.Repeat("x", maxUnchecked+100)
	put(t, l, "a=1", "b="+big, "a=2")
	mustClean(t, l, func(o *CleanOptions) { o.BufferBytes = 100 })
	if got := contents(t, l); got != "1:b="+big+" 2:a=2" {
		t.Errorf("%d bytes: %.30s", len(got), got)
	}
	l.Close()
	f, err := mem.OpenWrite("/d/" + FileName(0, logSuffix))
	if err != nil {
		t.Fatal(err)
	}
	f.WriteAt([]byte{'!'}, 1000)
	l = mustOpen(t, mem, Options{Clean: true})
	put(t, l, "c=1")
	_, err = l.Clean(t.Context(), cleanOptions(t, l))
	var d *Damage
	if !errors.As(err, &d) || d.Position != 0 {
		t.Errorf("%v", err)
	}
}

// TestCleanDamaged: a batch that is not one ends the pass; the log stays as it
// was and goes on.
func TestCleanDamaged(t *testing.T) {
	f := func(name string, position int64) {
		t.Helper()
		mem := vfs.NewMem()
		l := mustOpen(t, mem, Options{SegmentBytes: 300})
		put(t, l, "a=1", "a=2")
		put(t, l, "b=1", "b=2", "b=3", "c=1")
		file, err := mem.OpenWrite("/d/" + FileName(2, logSuffix))
		if err != nil {
			t.Fatal(err)
		}
		var b [1]byte
		file.ReadAt(b[:], position)
		b[0] ^= 0x41
		file.WriteAt(b[:], position)
		before, _ := vfs.ReadFile(mem, "/d/"+FileName(2, logSuffix), 1<<20)
		done, err := l.Clean(t.Context(), cleanOptions(t, l))
		var d *Damage
		if !errors.As(err, &d) || d.File != FileName(2, logSuffix) || done.End > 0 || l.Err() != nil {
			t.Errorf("%s: %v %+v, log: %v", name, err, done, l.Err())
		}
		after, _ := vfs.ReadFile(mem, "/d/"+FileName(2, logSuffix), 1<<20)
		if !bytes.Equal(before, after) || slices.ContainsFunc(names(t, mem), func(n string) bool { return strings.HasSuffix(n, cleanedSuffix) }) {
			t.Errorf("%s: files changed: %v", name, names(t, mem))
		}
		put(t, l, "d=1")
	}
	f("checksum", 65)
	f("length", 8)
	f("magic", 16)
	f("offset", 0)
	f("value", 70)
}

// TestCleanFaults: whatever fails, the log has what it had, goes on unless only
// the disk can tell what is there, and can be cleaned when the disk works again.
func TestCleanFaults(t *testing.T) {
	f := func(kind vfs.OpKind, pattern string, failure error, offline bool) {
		t.Helper()
		name := string(kind) + " " + pattern
		var failing atomic.Bool
		mem := vfs.NewMem()
		fsys := vfs.NewFaulty(mem, func(o vfs.Op) error {
			if failing.Load() && o.Matches(kind, pattern) {
				return failure
			}
			return nil
		})
		l := mustOpen(t, fsys, Options{SegmentBytes: 300})
		put(t, l, "a=1", "a=2")
		put(t, l, "b=1", "a=3", "b=2")
		failing.Store(true)
		_, err := l.Clean(t.Context(), cleanOptions(t, l))
		if !errors.Is(err, failure) || (l.Err() != nil) != offline {
			t.Errorf("%s: %v, log: %v", name, err, l.Err())
		}
		failing.Store(false)
		if !offline {
			for _, n := range names(t, mem) {
				if strings.HasSuffix(n, cleanedSuffix) || strings.HasSuffix(n, swapSuffix) {
					t.Errorf("%s: %s is left", name, n)
				}
			}
			mustClean(t, l)
			expect(t, l, "3:a=3 4:b=2")
		}
		l.Close()
		l = mustOpen(t, fsys, Options{Foreign: true})
		mustClean(t, l)
		expect(t, l, "3:a=3 4:b=2")
		verify(t, l)
	}
	f(vfs.OpCreate, "*.cleaned", syscall.ENOSPC, false)
	f(vfs.OpWrite, "*.log.cleaned", syscall.ENOSPC, false)
	f(vfs.OpWrite, "*.timeindex.cleaned", syscall.ENOSPC, false)
	f(vfs.OpSync, "*.log.cleaned", syscall.EIO, false)
	f(vfs.OpSync, "*.timeindex.cleaned", syscall.EIO, false)
	f(vfs.OpSetModTime, "*.cleaned", syscall.EPERM, false)
	f(vfs.OpRename, "*.log.swap", syscall.EIO, false)
	f(vfs.OpRename, "*.timeindex.swap", syscall.EIO, false)
	f(vfs.OpRead, "*.log", syscall.EIO, false)
	f(vfs.OpRename, "*.log.deleted", syscall.EIO, true)
	f(vfs.OpRename, "*.log", syscall.EIO, true)
	f(vfs.OpRename, "*.timeindex", syscall.EIO, true)
}

// TestCleanInterrupted: what happens to the log meanwhile ends the pass.
func TestCleanInterrupted(t *testing.T) {
	f := func(name string, meanwhile func(l *Log) error, want error) {
		t.Helper()
		mem := vfs.NewMem()
		l := mustOpen(t, mem, Options{SegmentBytes: 300})
		put(t, l, "a=1", "a=2")
		put(t, l, "b=1", "a=3", "b=2")
		put(t, l, "c=1")
		var once sync.Once
		finished := make(chan error, 1)
		done, err := l.Clean(t.Context(), cleanOptions(t, l, func(o *CleanOptions) {
			o.Pace = func(ctx context.Context, _ int) error {
				once.Do(func() { go func() { finished <- meanwhile(l) }() })
				// The pass is stopped before it reads on, or when it has nothing to read.
				select {
				case err := <-finished:
					finished <- err
				case <-ctx.Done():
				}
				return ctx.Err()
			}
		}))
		if !errors.Is(err, want) || done.End > 0 {
			t.Errorf("%s: %v %+v", name, err, done)
		}
		if err := <-finished; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if slices.ContainsFunc(names(t, mem), func(n string) bool { return strings.HasSuffix(n, cleanedSuffix) }) {
			t.Errorf("%s: %v", name, names(t, mem))
		}
	}
	f("close", (*Log).Close, ErrClosed)
	f("truncate", func(l *Log) error { return l.Truncate(1) }, ErrChanged)
	f("restart", func(l *Log) error { return l.TruncateFullyAndStartAt(100) }, ErrChanged)
	ctx, cancel := context.WithCancel(t.Context())
	l := mustOpen(t, vfs.NewMem(), Options{})
	put(t, l, "a=1", "a=2")
	cancel()
	if _, err := l.Clean(ctx, cleanOptions(t, l)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	l.Close()
	if _, err := l.Clean(t.Context(), cleanOptions(t, l)); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

// TestCleanRefuses: a log without keys when told to, and one without room.
func TestCleanRefuses(t *testing.T) {
	mem := vfs.NewMem()
	l := mustOpen(t, mem, Options{})
	put(t, l, "a=1", "=keyless", "a=2")
	before := names(t, mem)
	_, err := l.Clean(t.Context(), cleanOptions(t, l, func(o *CleanOptions) { o.KeysRequired = true }))
	if !errors.Is(err, ErrNoKey) || !slices.Equal(names(t, mem), before) {
		t.Error(err, names(t, mem))
	}
	var asked int64
	_, err = l.Clean(t.Context(), cleanOptions(t, l, func(o *CleanOptions) {
		o.Room = func(n int64) bool { asked = n; return false }
	}))
	if !errors.Is(err, ErrNoRoom) || asked != l.Size() {
		t.Error(err, asked)
	}
	expect(t, l, "0:a=1 1:=keyless 2:a=2")
	if done := mustClean(t, l); done.Keyless != 1 {
		t.Errorf("%+v", done)
	}
	expect(t, l, "2:a=2")
}

// TestCleanViews: who reads a segment while it is replaced reads the old one.
func TestCleanViews(t *testing.T) {
	l := mustOpen(t, vfs.NewMem(), Options{})
	put(t, l, "a=1", "a=2", "b=1")
	v, err := l.Read(0, l.End(), 1<<20, true)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	before, err := v.Bytes(nil)
	if err != nil {
		t.Fatal(err)
	}
	mustClean(t, l)
	l.Idle()
	l.Idle()
	if _, err := l.DeleteExpired(testNow, 0); err != nil {
		t.Fatal(err)
	}
	after, err := v.Bytes(nil)
	if err != nil || !bytes.Equal(after, before) {
		t.Errorf("%d bytes, %v", len(after), err)
	}
	expect(t, l, "1:a=2 2:b=1")
}

// TestCleanPace: all that is read and written is paced; a smaller buffer reads
// more often.
func TestCleanPace(t *testing.T) {
	l := mustOpen(t, vfs.NewMem(), Options{})
	for range 50 {
		put(t, l, "a="+strings.Repeat("x", 200))
	}
	calls := func(buffer int) (n int) {
		l := mustOpen(t, vfs.NewMem(), Options{})
		for range 3 {
			put(t, l, strings.Split(strings.Repeat("a="+strings.Repeat("x", 200)+" ", 50)+"b=1", " ")...)
		}
		paced := int64(0)
		done := mustClean(t, l, func(o *CleanOptions) {
			o.BufferBytes = buffer
			o.Pace = func(_ context.Context, bytes int) error {
				n++
				paced += int64(bytes)
				return nil
			}
		})
		if paced < done.BytesIndexed+done.BytesRead+done.BytesWritten || done.BytesWritten == 0 {
			t.Errorf("paced %d of %+v", paced, done)
		}
		return n
	}
	if small, large := calls(1000), calls(100_000); small < 10*large {
		t.Errorf("%d reads with a small buffer, %d with a large one", small, large)
	}
}

// TestCleanWritesOut: the disk gets what is written bit by bit, so that nobody's
// sync waits for much of it, and what it then reports is not lost.
func TestCleanWritesOut(t *testing.T) {
	var given int
	var failure error
	l := mustOpen(t, vfs.NewFaulty(vfs.NewMem(), func(o vfs.Op) error {
		if !o.Matches(vfs.OpWriteOut, "*.log.cleaned") {
			return nil
		}
		given++
		return failure
	}), Options{})
	for range 3 {
		for i := range 40 {
			mustAppend(t, l, keyed(t, record.BuilderOptions{}, 1000, fmt.Sprintf("k%d=%s", i/2*2, strings.Repeat("x", 200_000))), 0)
		}
		seal(t, l)
	}
	before := contents(t, l)
	failure = syscall.EIO
	if _, err := l.Clean(t.Context(), cleanOptions(t, l)); !errors.Is(err, failure) {
		t.Error(err)
	}
	expect(t, l, before)
	given, failure = 0, nil
	done := mustClean(t, l)
	// Each piece is begun, and all but the last waited for.
	if pieces := int(done.BytesWritten / (cleanAhead + 200_100)); pieces < 3 || given < 2*pieces-1 {
		t.Errorf("%d writes began or ended, %d bytes", given, done.BytesWritten)
	}
}

// TestCleanConcurrently appends, reads, deletes and looks up by time while
// passes go on.
func TestCleanConcurrently(t *testing.T) {
	l := mustOpen(t, vfs.NewMem(), Options{SegmentBytes: 2000, IndexInterval: 100})
	var done atomic.Bool
	var all sync.WaitGroup
	all.Go(func() {
		defer done.Store(true)
		for i := range 3000 {
			b := keyed(t, record.BuilderOptions{}, int64(i), fmt.Sprintf("k%d=%d", i%37, i))
			if _, _, err := l.Append(b, 0, testNow); err != nil {
				t.Error(err)
				return
			}
			if i%100 == 0 {
				if err := l.Sync(); err != nil {
					t.Error(err)
				}
			}
		}
	})
	reader := func(seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 5))
		for !done.Load() && !t.Failed() {
			start := l.Start()
			from := start + model.Offset(rng.Int64N(int64(l.End()-start)+1))
			v, err := l.Read(from, l.End(), 1+rng.IntN(4000), true)
			if errors.Is(err, ErrOutOfRange) {
				continue // Deleted meanwhile.
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
			for next := model.Offset(0); len(b) > 0; {
				batch, rest, err := record.Next(b)
				if err != nil || batch.CRC() != batch.ComputeCRC() || batch.LastOffset() < max(from, next) {
					t.Errorf("read at %d: batch at %d after %d: %v", from, batch.BaseOffset(), next, err)
					return
				}
				next, b = batch.End(), rest
			}
			ts, end := rng.Int64N(3000), l.End()
			p, err := l.OffsetForTime(ts)
			if err != nil || p.Offset >= 0 && p.Timestamp < ts || p.Offset < 0 && int64(end) > ts && l.Start() < end {
				t.Errorf("time %d: %+v %v, end %d", ts, p, err, end)
				return
			}
			if _, err := l.Aborted(from, l.End()); err != nil {
				t.Error(err)
			}
			if _, err := l.Dirt(CleanScope{from, l.End(), anyMark(l)}, testNow, time.Millisecond, true); err != nil {
				t.Error(err)
			}
		}
	}
	for i := range uint64(3) {
		all.Go(func() { reader(i) })
	}
	all.Go(func() {
		for !done.Load() {
			l.Idle()
			l.SetStart(l.Start() + 1)
			if _, err := l.Retain(testNow, Retention{Limit: l.SyncedEnd()}); err != nil {
				t.Error(err)
			}
			if _, err := l.DeleteExpired(testNow, 0); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Millisecond)
		}
	})
	passes := 0
	for !done.Load() {
		_, err := l.Clean(t.Context(), cleanOptions(t, l, func(o *CleanOptions) { o.Limit, o.Committed = l.SyncedEnd(), l.SyncedEnd() }))
		if err != nil && !errors.Is(err, ErrChanged) {
			t.Fatal(err)
		}
		passes++
	}
	all.Wait()
	seal(t, l)
	mustClean(t, l)
	if got := strings.Count(contents(t, l), "="); got != 37 {
		t.Errorf("%d keys after %d passes", got, passes)
	}
	verify(t, l)
}
