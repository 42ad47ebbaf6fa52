package config

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What can be said about compaction, and what is refused.
func TestCleaner(t *testing.T) {
	plain, _ := load(t, Sources{})
	f := func(change func(*Cleaner), options ...string) {
		t.Helper()
		b, _ := load(t, Sources{Options: options})
		want := plain.Cleaner
		change(&want)
		if d := cmp.Diff(want, b.Cleaner); d != "" {
			t.Errorf("%v: %s", options, d)
		}
	}
	f(func(c *Cleaner) { c.Enabled = false }, "log.cleaner.enable=false")
	f(func(c *Cleaner) { c.Threads = 3 }, "log.cleaner.threads=3")
	f(func(c *Cleaner) { c.MapBytes = 5 << 20 }, "log.cleaner.dedupe.buffer.size=5242880")
	f(func(c *Cleaner) { c.MapLoad = 0.5 }, "log.cleaner.io.buffer.load.factor=0.5")
	f(func(c *Cleaner) { c.BufferBytes = 1000 }, "log.cleaner.io.buffer.size=1000")
	f(func(c *Cleaner) { c.BytesPerSecond = 1e6 }, "log.cleaner.io.max.bytes.per.second=1e6")
	f(func(c *Cleaner) { c.Backoff = time.Second }, "log.cleaner.backoff.ms=1000")

	refused := func(want string, options ...string) {
		t.Helper()
		_, _, err := Load(Sources{Options: append(options, "log.dirs=/a")})
		var invalid *InvalidError
		if !errors.As(err, &invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", options, err)
		}
	}
	refused("offset map is too small", "log.cleaner.io.buffer.load.factor=0")
	refused("log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread.", "log.cleaner.dedupe.buffer.size=1000")
	refused("log.cleaner.threads must be at least 1", "log.cleaner.threads=0")
}

// A compacted topic closes its segments in time for max.compaction.lag.ms.
func TestCompactedTopicRolls(t *testing.T) {
	b, _ := load(t, Sources{})
	f := func(want time.Duration, overrides map[string]string) {
		t.Helper()
		c, err := ResolveTopic(b, overrides)
		if err != nil || c.SegmentAge != want {
			t.Errorf("%v: %v, want %v, %v", overrides, c.SegmentAge, want, err)
		}
	}
	f(time.Minute, map[string]string{"cleanup.policy": "compact", "max.compaction.lag.ms": "60000"})
	f(time.Second, map[string]string{"cleanup.policy": "compact,delete", "max.compaction.lag.ms": "60000", "segment.ms": "1000"})
	f(7*24*time.Hour, map[string]string{"cleanup.policy": "delete", "max.compaction.lag.ms": "60000"})
	f(7*24*time.Hour, map[string]string{"cleanup.policy": "compact"})
}
