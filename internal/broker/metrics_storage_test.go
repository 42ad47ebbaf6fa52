package broker

import (
	"testing"
	"time"
)

func TestAge(t *testing.T) {
	c := collector{b: &Broker{opts: Options{Now: func() time.Time { return time.UnixMilli(10_500) }}}}
	f := func(since int64, want float64) {
		t.Helper()
		if got := c.age(since); got != want {
			t.Errorf("since %d: %v, want %v", since, got, want)
		}
	}
	f(0, 0)
	f(500, 10)
	f(11_000, 0) // A client's clock is fast.
}
