package broker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/record"
)

// TestCleanerMemorySettings: how many keys a pass of compaction holds, and how
// much it reads at a time, is what the settings say.
func TestCleanerMemorySettings(t *testing.T) {
	// compacted has some thousands of keys compacted.
	compacted := func(w *world) {
		w.create("t", "cleanup.policy=compact", "internal.segment.bytes=40000", "min.cleanable.dirty.ratio=0.01")
		for i := range 6 {
			var items []string
			for j := range 500 {
				items = append(items, fmt.Sprintf("k%d=%s", 500*i+j, strings.Repeat("x", 40)))
			}
			if code := w.produce("t", w.records(record.BuilderOptions{}, items...)).ErrorCode; code != 0 {
				t.Fatalf("error %d", code)
			}
		}
		w.forget()
		time.Sleep(5 * time.Minute)
	}
	passes := func(w *world) int {
		compacted(w)
		return int(w.b.replicas.Load().CleanerStats().Passes.Load())
	}
	const tiny, low = "log.cleaner.dedupe.buffer.size=1100000", "log.cleaner.io.buffer.load.factor=0.03" // Together 1375 keys.
	decidesBroker(t, tiny, 1, 2, passes, low)
	decidesBroker(t, low, 1, 2, passes, tiny)
	decidesBroker(t, "log.cleaner.io.buffer.size=4096", true, false, func(w *world) bool {
		w.create("t", "cleanup.policy=compact", "internal.segment.bytes=100000")
		for range 200 {
			w.put("t", "k="+strings.Repeat("x", 1000))
		}
		w.forget()
		time.Sleep(5 * time.Minute)
		return w.count(vfs.OpRead, "/a/t-0/*.log") < 40
	})
}

// TestCleanerRunSettings: what the cleaner is told while it runs holds, and what
// it is told no more does not.
func TestCleanerRunSettings(t *testing.T) {
	// dirty is what waits for compaction: 300 records of one key.
	dirty := func(w *world, topic string) {
		w.create(topic, "cleanup.policy=compact", "internal.segment.bytes=5000", "min.cleanable.dirty.ratio=0.01")
		for range 30 {
			w.put(topic, "k="+strings.Repeat("x", 1000))
		}
	}
	seconds := func(until func() bool) (n int) {
		for n = 0; n < 600 && !until(); n++ {
			time.Sleep(time.Second)
		}
		return n
	}
	stats := func(w *world) (passes uint64, busy int64) {
		st := w.b.replicas.Load().CleanerStats()
		return st.Passes.Load(), st.Busy.Load()
	}
	decidesBroker(t, "log.cleaner.backoff.ms=300000", true, false, func(w *world) bool {
		time.Sleep(301 * time.Second) // It rests as long as it was told to by now.
		dirty(w, "x")
		return seconds(func() bool { n, _ := stats(w); return n > 0 }) < 60
	})
	decidesBroker(t, "log.cleaner.io.max.bytes.per.second=500", true, false, func(w *world) bool {
		dirty(w, "x")
		return seconds(func() bool { n, _ := stats(w); return n > 0 }) < 60
	})
	decidesBroker(t, "log.cleaner.threads=2", 1, 2, func(w *world) (most int64) {
		dirty(w, "x")
		dirty(w, "y")
		seconds(func() bool { _, n := stats(w); most = max(most, n); return false })
		return most
	}, "log.cleaner.io.max.bytes.per.second=500")
	decidesBroker(t, "log.cleaner.enable=false", true, false, func(w *world) bool {
		dirty(w, "x")
		return seconds(func() bool { n, _ := stats(w); return n > 0 }) < 60
	})
}
