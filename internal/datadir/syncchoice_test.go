package datadir

import (
	"testing"
	"time"
)

// The cheaper way is found, and found again when it changes.
func TestSyncChoiceFollowsTheDisk(t *testing.T) {
	f := func(name string, n int, each, all time.Duration, want bool) {
		t.Helper()
		var c SyncChoice
		used := map[bool]int{}
		for i := range 4000 {
			if i == 2000 { // Another disk, in effect: forget what was counted, not what was learned.
				clear(used)
			}
			e, a := each, all
			if i < 2000 {
				e, a = time.Millisecond, time.Millisecond
			}
			together := c.Together(n)
			used[together]++
			if together {
				c.Took(true, n, a)
			} else {
				c.Took(false, n, time.Duration(n)*e)
			}
		}
		if share := float64(used[want]) / 2000; share < 0.9 {
			t.Errorf("%s: %v in %.0f%% of the groups", name, want, share*100)
		}
	}
	f("few files", 2, time.Millisecond, time.Microsecond, false)
	f("many files", 16, 400*time.Microsecond, 1200*time.Microsecond, true)
	f("gigabytes of others", 16, 400*time.Microsecond, 3*time.Second, false)
	f("a disk that syncs for free", 16, time.Microsecond, 200*time.Microsecond, false)
}
