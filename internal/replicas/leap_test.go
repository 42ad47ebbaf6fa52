package replicas

import (
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/vfs"
)

// A clock that leaps by years and is set right within the hour costs no record;
// one that stays there is believed after that hour.
func TestClockLeaps(t *testing.T) {
	w := newWorld(t, vfs.NewMem(), "log.segment.bytes=1048576")
	w.start()
	w.create("time", 1, "retention.ms=86400000")
	w.mustAppend("time", 0, 500_000, 6)
	w.flush()
	d, right := w.disks[0], w.now
	f := func(now time.Time, deleted bool) {
		t.Helper()
		w.now = now
		d.runDue(nil)
		w.ok(d.retain())
		if start := w.part("time", 0).Log().Start(); (start > 0) != deleted {
			t.Errorf("at %v the log starts at %d", now.Sub(right), start)
		}
	}
	f(right, false)
	wrong := right.AddDate(20, 0, 0)
	f(wrong, false)
	f(wrong.Add(59*time.Minute), false)
	f(right.Add(time.Hour), false)
	f(right.Add(time.Hour+time.Second), false)
	f(right.AddDate(-30, 0, 0), false) // Back, and right again: that is no reason, either.
	f(right.Add(time.Hour+2*time.Second), false)
	f(right.AddDate(5, 0, 0), false)
	for minutes := range 60 {
		f(right.AddDate(5, 0, 0).Add(time.Duration(minutes)*time.Minute), false)
	}
	f(right.AddDate(5, 0, 0).Add(61*time.Minute), true)
}
