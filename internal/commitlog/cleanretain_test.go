package commitlog

import (
	"context"
	"fmt"
	"testing"

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
