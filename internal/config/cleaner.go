package config

import (
	"math"
	"time"
)

// keyBytes is what one key costs in the cleaner's map.
const keyBytes = 24

// Cleaner is what the configuration says about who compacts, beside what topics say.
type Cleaner struct {
	// Enabled is log.cleaner.enable: without it nothing is compacted.
	Enabled bool
	// Threads is how many logs are compacted at a time (log.cleaner.threads).
	Threads int
	// MapBytes is the memory for keys, and MapLoad how full it may be, from 0 to 1; BufferBytes that for reading and writing: all
	// threads together (log.cleaner.dedupe.buffer.size, log.cleaner.io.buffer.load.factor, log.cleaner.io.buffer.size).
	MapBytes    int64
	MapLoad     float64
	BufferBytes int
	// BytesPerSecond bounds what all threads read and write together (log.cleaner.io.max.bytes.per.second); +Inf if nobody set it.
	BytesPerSecond float64
	// Backoff is the pause when no log needs compaction (log.cleaner.backoff.ms).
	Backoff time.Duration
}

func (b *Broker) fillCleaner() {
	load, _ := b.value("log.cleaner.io.buffer.load.factor")
	rate, _ := b.value("log.cleaner.io.max.bytes.per.second")
	b.Cleaner = Cleaner{
		Enabled: b.bool("log.cleaner.enable"), Threads: int(b.int("log.cleaner.threads")),
		MapBytes: b.int("log.cleaner.dedupe.buffer.size"), MapLoad: load.num, BufferBytes: int(b.int("log.cleaner.io.buffer.size")),
		BytesPerSecond: rate.num, Backoff: Millis(b.int("log.cleaner.backoff.ms")),
	}
	if b.Cleaner.BytesPerSecond >= math.MaxFloat64 {
		b.Cleaner.BytesPerSecond = math.Inf(1)
	}
}

// checkCleaner refuses a map that no key fits into, as Kafka does when its cleaner starts.
func (b *Broker) checkCleaner() error {
	keys := b.Cleaner.MapBytes / int64(max(b.Cleaner.Threads, 1)) / keyBytes
	if b.Cleaner.Enabled && float64(keys)*b.Cleaner.MapLoad <= 1 {
		return &InvalidError{"offset map is too small to fit in even a single message, so log cleaning will never make progress. " +
			"You can increase log.cleaner.dedupe.buffer.size or decrease log.cleaner.threads"}
	}
	return nil
}

// rollAge is how far the timestamps in a segment may lie apart. A compacted topic rolls in time for max.compaction.lag.ms, since the
// active segment is never compacted.
func (t *Topic) rollAge() time.Duration {
	if t.Compact && t.MaxCompactionLag > 0 {
		return min(t.SegmentAge, t.MaxCompactionLag)
	}
	return t.SegmentAge
}
