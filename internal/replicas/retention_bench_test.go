package replicas

import (
	"fmt"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/record"
)

// BenchmarkRetention is what retention costs with 100,000 segments in 10,000
// partitions: two hours of checks, five minutes apart. core-% is the share of a
// core that it takes, first-ms the first check, which looks at every partition.
// In the first shape each partition loses a segment a day; in the second all of
// them are written between any two checks.
func BenchmarkRetention(b *testing.B) {
	for _, shape := range []struct {
		name    string
		written bool
		options []string
	}{
		{"age", false, []string{"log.retention.ms=864000000"}},
		{"written", true, []string{"log.retention.ms=-1", "log.retention.bytes=1000000"}},
		{"percent", false, []string{"log.retention.ms=-1", "log.retention.disk.percent=90"}},
	} {
		b.Run(shape.name, func(b *testing.B) { benchRetention(b, shape.written, shape.options) })
	}
}

const (
	benchTopics   = 10
	benchParts    = 1000 // Of a topic.
	benchSegments = 10   // Of a partition.
)

func benchRetention(b *testing.B, written bool, options []string) {
	var t testing.T
	w := newWorld(&t, vfs.NewMem(), append(options, "num.recovery.threads.per.data.dir=1")...)
	b.Cleanup(w.drop)
	w.start()
	for i := range benchTopics {
		w.create(fmt.Sprint("t", i), benchParts, "internal.segment.bytes=100", "durability=os", "file.delete.delay.ms=0")
	}
	w.fillForBench()
	d := w.disks[0]
	began := time.Now()
	w.checkAll(b)
	first, deleted := time.Since(began), d.deleted.segments.Load()
	b.ResetTimer()
	const checks = 2 * 12
	took := time.Duration(0)
	for range b.N {
		for range checks {
			w.now = w.now.Add(5 * time.Minute)
			if written {
				w.each(func(x *replica) { d.touch(x.Partition) })
			}
			began := time.Now()
			w.checkAll(b)
			took += time.Since(began)
		}
	}
	b.ReportMetric(100*took.Hours()/2/float64(b.N), "core-%")
	b.ReportMetric(float64(first.Microseconds())/1000, "first-ms")
	b.ReportMetric(float64(d.deleted.segments.Load()-deleted)/float64(b.N), "deleted")
	if t.Failed() {
		b.Fatal("the world failed")
	}
}

// checkAll does what the keeper does every five minutes, and the trimmer.
func (w *world) checkAll(b *testing.B) {
	for d, more := w.disks[0], true; more; more = d.soon.Swap(false) {
		if err := d.retain(); err != nil {
			b.Fatal(err)
		}
		d.relieve(b.Context())
		if err := d.removeRetired(); err != nil {
			b.Fatal(err)
		}
	}
}

// fillForBench gives every partition ten segments, a day apart each, the
// partitions a few seconds apart; the oldest one becomes too old within a day.
func (w *world) fillForBench() {
	now := w.now
	n := 0
	w.each(func(x *replica) {
		for i := range benchSegments {
			at := now.Add(-time.Duration(benchSegments-i)*24*time.Hour + time.Duration(n)*8*time.Second)
			bld := record.NewBuilder(record.BuilderOptions{})
			w.ok(bld.Add(record.Record{Timestamp: at.UnixMilli(), Value: make([]byte, 20)}))
			_, batch, err := bld.Build(nil)
			w.ok(err)
			_, err = x.Append(batch, false, at)
			w.ok(err)
		}
		n++
	})
	w.now = now
}
