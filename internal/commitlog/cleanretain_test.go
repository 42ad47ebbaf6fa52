package commitlog

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// TestCleanBesideRetention: whatever retention deletes at whatever moment of a
// pass, the pass reaches its end and leaves what one would that began afterwards.
func TestCleanBesideRetention(t *testing.T) {
	fill := func(segmentBytes int64) *Log {
		l := mustOpen(t, vfs.NewMem(), Options{SegmentBytes: segmentBytes})
		put(t, l, "a=1", "b=1", "c=1")
		put(t, l, "a=2", "d=1", "a=3", "b=2")
		put(t, l, "d", "c=2", "e=1")
		put(t, l, "a=4", "f=1", "e=2")
		put(t, l, "f", "g=1")
		return l
	}
	// run deletes the segments below an offset at the pace'th piece of a pass.
	run := func(segmentBytes int64, pace int, below model.Offset) (paces int) {
		t.Helper()
		l := fill(segmentBytes)
		retain := func() {
			if err := l.SetStart(below); err != nil {
				t.Fatal(err)
			}
			if _, err := l.Retain(testNow, Retention{Limit: l.End()}); err != nil {
				t.Fatal(err)
			}
			if _, err := l.DeleteExpired(testNow, 0); err != nil {
				t.Fatal(err)
			}
		}
		what := fmt.Sprintf("segments of %d bytes, deleted below %d at piece %d", segmentBytes, below, pace)
		done, err := l.Clean(t.Context(), cleanOptions(t, l, func(o *CleanOptions) {
			o.BufferBytes = record.HeaderSize
			o.Pace = func(context.Context, int) error {
				if paces++; paces == pace {
					retain()
				}
				return nil
			}
		}))
		if err != nil || done.End != l.End() {
			t.Errorf("%s: %+v, %v", what, done, err)
		}
		after := fill(segmentBytes)
		mustClean(t, after)
		if err := after.SetStart(l.Start()); err != nil {
			t.Fatal(err)
		}
		if got, want := contents(t, l), contents(t, after); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
		verify(t, l)
		return paces
	}
	for _, segmentBytes := range []int64{300, 1000, 1 << 20} {
		for _, below := range []model.Offset{3, 7, 10, 15} {
			for pace, n := 1, 1; pace <= n; pace++ {
				n = run(segmentBytes, pace, below)
			}
		}
	}
}

// TestCleanFullSegment: a segment that is as large as its index allows has no room
// for delete horizons, and is compacted all the same; what goes makes room for
// them.
func TestCleanFullSegment(t *testing.T) {
	l := mustOpen(t, vfs.NewMem(), Options{})
	for range 3 {
		mustAppend(t, l, keyed(t, record.BuilderOptions{}, 1000, "a", "b", "c", "d", "e", "f", "g"), 0)
	}
	put(t, l, "x=1", "h", "x=2")
	size := l.Size()
	run := func(most int64, now time.Time) {
		t.Helper()
		p, err := l.newPass(cleanOptions(t, l, at(now)))
		if err != nil {
			t.Fatal(err)
		}
		p.most = most
		if err := p.run(t.Context()); err != nil {
			t.Fatal(err)
		}
		verify(t, l)
	}
	horizons := func() (n int) {
		b := readAll(t, l, 0, l.End(), 1<<20)
		for len(b) > 0 {
			batch, rest, err := record.Next(b)
			if err != nil {
				t.Fatal(err)
			}
			if b = rest; batch.HasDeleteHorizon() {
				n++
			}
		}
		return n
	}
	put(t, l, "y=1")
	run(size, testNow)
	const kept = "14:a 15:b 16:c 17:d 18:e 19:f 20:g 22:h 23:x=2"
	expect(t, l, kept+" 24:y=1")
	if n := horizons(); n != 2 {
		t.Errorf("%d horizons where much went", n)
	}

	l = mustOpen(t, vfs.NewMem(), Options{})
	mustAppend(t, l, keyed(t, record.BuilderOptions{}, 1000, "a", "b", "c", "d", "e", "f", "g"), 0)
	put(t, l, "h", "x=1")
	size = l.Size()
	run(size, testNow)
	expect(t, l, "0:a 1:b 2:c 3:d 4:e 5:f 6:g 7:h 8:x=1")
	if n := horizons(); n != 0 {
		t.Errorf("%d horizons without room", n)
	}
	run(2*size, testNow)
	if n := horizons(); n != 2 {
		t.Errorf("%d horizons with room", n)
	}
	put(t, l, "y=1")
	run(2*size, testNow.Add(2*time.Hour))
	expect(t, l, "8:x=1 9:y=1")
}
