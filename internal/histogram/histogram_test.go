package histogram

import (
	"math"
	"testing"
	"time"
)

func TestTimes(t *testing.T) {
	var h Times
	for _, d := range []time.Duration{-time.Hour, 0, 50 * time.Microsecond, 51 * time.Microsecond, time.Second, time.Hour} {
		h.Observe(d)
	}
	c := h.Counts()
	if want := time.Hour + time.Second + 101*time.Microsecond; c.Total() != 6 || c.Sum != want {
		t.Errorf("%d, %v", c.Total(), c.Sum)
	}
	b := c.Buckets()
	for bound, want := range map[float64]uint64{0.00005: 3, 0.0001: 4, 0.5: 4, 1: 5, 30: 5} {
		if b[bound] != want {
			t.Errorf("%d up to %v s, want %d", b[bound], bound, want)
		}
	}
	c.Add(h.Counts())
	if c.Total() != 12 || c.Buckets()[30] != 10 {
		t.Errorf("twice is %d", c.Total())
	}
}

// Bounds rise, and tell times apart by factors of two or three.
func TestBounds(t *testing.T) {
	for i, b := range bounds[1:] {
		if f := b.Seconds() / bounds[i].Seconds(); f < 1.9 || f > 3.1 || math.IsNaN(f) {
			t.Errorf("%v after %v", b, bounds[i])
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	var h Times
	b.ReportAllocs()
	for b.Loop() {
		h.Observe(300 * time.Microsecond)
	}
}
