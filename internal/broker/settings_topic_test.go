package broker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/record"
)

// setting is a config of topics, key=value, and the broker's that give its
// default the same value.
type setting struct {
	topic   string
	brokers []string
	// with are other configs of the broker, its topics those of the topic.
	with, topics []string
}

// decides checks that what f sees depends on a setting, in whichever way a
// topic comes to it: by its own config, given at its birth or later, by the file
// of the broker, and while the broker runs, where Kafka can change it then, for
// all brokers or for one; and that what is taken away has no effect any more.
func decides[T comparable](t *testing.T, s setting, unset, set T, f func(w *world) T) {
	t.Helper()
	run := func(how string, options, configs []string, change func(w *world), want T) {
		t.Helper()
		inWorld(t, append(options, s.with...), func(w *world) {
			w.create("t", append(configs, s.topics...)...)
			change(w)
			if got := f(w); got != want {
				t.Errorf("%s: %v, want %v", how, got, want)
			}
		})
	}
	nothing := func(*world) {}
	run("nothing set beside "+s.topic, nil, nil, nothing, unset)
	if s.topic != "" {
		name, _, _ := strings.Cut(s.topic, "=")
		run("topic with "+s.topic, nil, []string{s.topic}, nothing, set)
		run("topic given "+s.topic, nil, nil, func(w *world) { w.alter(ofTopic, "t", s.topic) }, set)
		run("topic without "+name+" any more", nil, []string{s.topic}, func(w *world) { w.alter(ofTopic, "t", name) }, unset)
	}
	for _, b := range s.brokers {
		run("broker with "+b, []string{b}, nil, nothing, set)
		name, _, _ := strings.Cut(b, "=")
		if k, _ := config.LookupBrokerKey(name); !k.ReadOnly() {
			if usual := name + "=" + k.Default; k.HasDefault {
				run("topic with "+s.topic+", all brokers given "+usual, nil, []string{s.topic}, func(w *world) { w.set(usual) }, set)
				run("all brokers given "+b+", the broker "+usual, nil, nil, func(w *world) { w.set(b); w.setFor("1", usual) }, unset)
				run("file with "+b+", all brokers given "+usual, []string{b}, nil, func(w *world) { w.set(usual) }, unset)
			}
			run("all brokers given "+b, nil, nil, func(w *world) { w.set(b) }, set)
			run("the broker given "+b, nil, nil, func(w *world) { w.setFor("1", b) }, set)
			run("nobody given "+name+" any more", nil, nil, func(w *world) {
				w.set(b)
				w.setFor("1", b)
				w.set(name)
				w.setFor("1", name)
			}, unset)
		}
	}
}

// Kafka's types of resources.
const (
	ofTopic         = 2
	ofBroker        = 4
	ofClientMetrics = 16
)

func TestRetentionSettings(t *testing.T) {
	decides(t, setting{
		topic:   "retention.ms=7200000",
		brokers: []string{"log.retention.ms=7200000", "log.retention.minutes=120", "log.retention.hours=2"},
	}, "0 0", "0 1", func(w *world) string {
		w.put("t", "x")
		time.Sleep(110 * time.Minute)
		before := w.part("t", 0).Log().Start()
		time.Sleep(20 * time.Minute)
		return fmt.Sprint(before, w.part("t", 0).Log().Start())
	})
	decides(t, setting{
		topic: "retention.bytes=1000", brokers: []string{"log.retention.bytes=1000"}, topics: []string{"internal.segment.bytes=600"},
	}, "5 5", "5 2", func(w *world) string {
		for range 5 {
			w.put("t", strings.Repeat("x", 500))
		}
		before := w.part("t", 0).Log().Segments()
		time.Sleep(20 * time.Minute)
		return fmt.Sprint(before, w.part("t", 0).Log().Segments())
	})
	decides(t, setting{
		brokers: []string{"log.retention.check.interval.ms=3600000"}, topics: []string{"retention.ms=1000"},
	}, true, false, func(w *world) bool {
		time.Sleep(31 * time.Second) // The first look.
		w.put("t", "x")
		time.Sleep(10 * time.Minute)
		return w.part("t", 0).Log().Start() > 0
	})
	decides(t, setting{
		brokers: []string{"log.initial.task.delay.ms=600000"}, topics: []string{"retention.ms=1000"},
	}, true, false, func(w *world) bool {
		w.put("t", "x")
		time.Sleep(40 * time.Second)
		return w.part("t", 0).Log().Start() > 0
	})
	decides(t, setting{
		topic: "file.delete.delay.ms=3600000", brokers: []string{"log.segment.delete.delay.ms=3600000"}, topics: []string{"retention.ms=1000"},
	}, 0, 1, func(w *world) int {
		w.put("t", "x")
		time.Sleep(10 * time.Minute)
		return len(w.files("/a/t-0", ".log.deleted"))
	})
}

func TestSegmentSettings(t *testing.T) {
	segments := func(w *world) int { return w.part("t", 0).Log().Segments() }
	three := func(size int) func(w *world) int {
		return func(w *world) int {
			for range 3 {
				w.put("t", strings.Repeat("x", size))
			}
			return segments(w)
		}
	}
	decides(t, setting{topic: "segment.bytes=1048576", brokers: []string{"log.segment.bytes=1048576"}}, 1, 3, three(600<<10))
	decides(t, setting{topic: "internal.segment.bytes=1000"}, 1, 3, three(600))
	decides(t, setting{
		topic: "segment.ms=3600000", brokers: []string{"log.roll.ms=3600000", "log.roll.hours=1"},
	}, 1, 3, func(w *world) int {
		for range 3 {
			w.put("t", "x")
			time.Sleep(61 * time.Minute)
		}
		return segments(w)
	})
	// Whatever the chance, not all of twenty segments live as long as they may.
	decides(t, setting{
		topic: "segment.jitter.ms=3600000", brokers: []string{"log.roll.jitter.ms=3600000", "log.roll.jitter.hours=1"}, topics: []string{"segment.ms=3600000"},
	}, true, false, func(w *world) bool {
		for range 41 {
			w.put("t", "x")
			time.Sleep(30 * time.Minute)
		}
		return segments(w) == 14
	})
	decides(t, setting{
		topic: "segment.index.bytes=24", brokers: []string{"log.index.size.max.bytes=24"},
	}, 1, 2, three(5000))
	decides(t, setting{
		topic: "index.interval.bytes=0", brokers: []string{"log.index.interval.bytes=0"},
	}, 0, 16, func(w *world) int {
		w.put("t", "a", "b", "c")
		time.Sleep(2 * time.Minute) // Indexes are written when nobody writes to them any more.
		return int(w.fileSize("/a/t-0/00000000000000000000.index"))
	})
	decides(t, setting{
		topic: "preallocate=true", brokers: []string{"log.preallocate=true"}, topics: []string{"internal.segment.bytes=1000"},
	}, "0", "1", func(w *world) string {
		w.put("t", strings.Repeat("x", 600))
		w.forget()
		w.put("t", strings.Repeat("x", 600))
		return fmt.Sprint(w.count(vfs.OpReserve, "/a/t-0/*.log"))
	})
}

// synced is how often a partition's log was synced since the last forget.
func (w *world) synced() int {
	return w.count(vfs.OpSync, "/a/t-0/*.log") + w.count(vfs.OpSyncFS, "/a*")
}

func TestFlushSettings(t *testing.T) {
	lazy := []string{"durability=os"}
	within := func(d time.Duration) func(w *world) bool {
		return func(w *world) bool {
			time.Sleep(time.Minute)
			w.put("t", "first")
			time.Sleep(7 * time.Second) // It is marked, which comes seldom.
			w.forget()
			w.put("t", "a", "b", "c")
			time.Sleep(d)
			return w.synced() > 0
		}
	}
	decides(t, setting{topic: "flush.messages=3", brokers: []string{"log.flush.interval.messages=3"}, with: lazy}, false, true, within(time.Second))
	decides(t, setting{topic: "flush.messages=4", with: lazy}, false, false, within(time.Second))
	decides(t, setting{topic: "flush.ms=5000", brokers: []string{
		"log.flush.interval.ms=5000", "log.flush.scheduler.interval.ms=5000",
	}, with: lazy}, false, true, within(11*time.Second))
	decides(t, setting{
		brokers: []string{"log.flush.scheduler.interval.ms=3600000"}, with: lazy, topics: []string{"flush.ms=1000"},
	}, true, false, within(11*time.Second))
	decides(t, setting{
		brokers: []string{"log.flush.offset.checkpoint.interval.ms=10000"}, with: lazy,
	}, false, true, within(20*time.Second))
	decides(t, setting{topic: "durability=os", brokers: lazy}, true, false, func(w *world) bool {
		time.Sleep(time.Minute + time.Second) // Not when marks are taken.
		w.forget()
		w.put("t", "a")
		return w.synced() > 0
	})
}

func TestCompressionSettings(t *testing.T) {
	text := strings.Repeat("Whoever compresses better than others needs more time for it. ", 40)
	for i := range 400 {
		text += fmt.Sprint(i * i * 7919)
	}
	stored := func(w *world) record.Batch {
		w.put("t", text)
		return w.fetchAll("t").Responses[0].Partitions[0].Records
	}
	codec := func(w *world) record.Codec { return stored(w).Codec() }
	decides(t, setting{topic: "compression.type=zstd", brokers: []string{"compression.type=zstd"}}, record.None, record.Zstd, codec)
	for codec, level := range map[string]string{
		"gzip": "compression.gzip.level=1", "lz4": "compression.lz4.level=12", "zstd": "compression.zstd.level=19",
	} {
		var usual int
		inWorld(t, nil, func(w *world) {
			w.create("t", "compression.type="+codec)
			usual = len(stored(w))
		})
		decides(t, setting{topic: level, brokers: []string{level}, topics: []string{"compression.type=" + codec}}, true, false,
			func(w *world) bool { return len(stored(w)) == usual })
	}
}

// Errors of Kafka.
const (
	messageTooLarge  = 10
	invalidTimestamp = 32
	invalidRecord    = 87
)

func TestMessageSettings(t *testing.T) {
	code := func(build func(w *world) record.Batch) func(w *world) int16 {
		return func(w *world) int16 { return w.produce("t", build(w)).ErrorCode }
	}
	large := func(c record.Codec) func(w *world) record.Batch {
		return func(w *world) record.Batch {
			return w.records(record.BuilderOptions{Codec: c}, strings.Repeat("x", 5000))
		}
	}
	decides(t, setting{topic: "max.message.bytes=1000", brokers: []string{"message.max.bytes=1000"}}, 0, messageTooLarge, code(large(record.None)))
	decides(t, setting{topic: "max.decompressed.message.bytes=1000", brokers: []string{"max.decompressed.message.bytes=1000"}},
		0, invalidRecord, code(large(record.Gzip)))
	aged := func(d time.Duration) func(w *world) int16 {
		return code(func(w *world) record.Batch { return w.recordsAt(time.Now().Add(d), record.BuilderOptions{}, "x") })
	}
	decides(t, setting{
		topic: "message.timestamp.before.max.ms=60000", brokers: []string{"log.message.timestamp.before.max.ms=60000"},
	}, 0, invalidTimestamp, aged(-time.Hour))
	decides(t, setting{
		topic: "message.timestamp.after.max.ms=60000", brokers: []string{"log.message.timestamp.after.max.ms=60000"},
	}, 0, invalidTimestamp, aged(2*time.Minute))
	decides(t, setting{
		topic: "message.timestamp.type=LogAppendTime", brokers: []string{"log.message.timestamp.type=LogAppendTime"},
	}, false, true, func(w *world) bool {
		return w.produce("t", w.records(record.BuilderOptions{}, "x")).LogAppendTimeMs == time.Now().UnixMilli()
	})
	decides(t, setting{topic: "cleanup.policy=compact", brokers: []string{"log.cleanup.policy=compact"}}, 0, invalidRecord,
		code(func(w *world) record.Batch { return w.records(record.BuilderOptions{}, "no key") }))
	decides(t, setting{topic: "record.validation=header"}, invalidRecord, 0, code(func(w *world) record.Batch {
		b := w.records(record.BuilderOptions{}, "x")
		b[len(b)-1] = 77 // Headers that are not there.
		b.UpdateCRC()
		return b
	}))
}

func TestCompactionSettings(t *testing.T) {
	compacted := []string{"cleanup.policy=compact", "internal.segment.bytes=1000"}
	kept := func(w *world) (n int) {
		w.part("t", 0).Log().Scan(0, func(b record.Batch) error { n += int(b.Count()); return nil })
		return n
	}
	same := func(w *world) bool {
		for i := range 10 {
			w.put("t", fmt.Sprintf("k=%d%s", i, strings.Repeat("x", 400)))
		}
		time.Sleep(2 * time.Minute)
		w.put("t", "k=11"+strings.Repeat("x", 400))
		time.Sleep(2 * time.Minute)
		return kept(w) == 11
	}
	decides(t, setting{
		topic: "min.cleanable.dirty.ratio=1", brokers: []string{"log.cleaner.min.cleanable.ratio=1"}, topics: compacted,
	}, false, true, same)
	decides(t, setting{
		topic: "min.compaction.lag.ms=3600000", brokers: []string{"log.cleaner.min.compaction.lag.ms=3600000"}, topics: compacted,
	}, false, true, same)
	decides(t, setting{
		topic: "max.compaction.lag.ms=60000", brokers: []string{"log.cleaner.max.compaction.lag.ms=60000"}, topics: compacted,
		with: []string{"log.cleaner.min.cleanable.ratio=1"},
	}, true, false, same)
	decides(t, setting{
		topic: "delete.retention.ms=60000", brokers: []string{"log.cleaner.delete.retention.ms=60000"}, topics: compacted,
	}, true, false, func(w *world) bool {
		w.put("t", "gone=x", "delete gone")
		for range 3 {
			w.put("t", "k="+strings.Repeat("x", 900), "k="+strings.Repeat("x", 900))
			time.Sleep(2 * time.Minute)
		}
		deleted := false
		w.part("t", 0).Log().Scan(0, func(b record.Batch) error {
			for r, err := range b.Records(1000) {
				deleted = deleted || err == nil && string(r.Key) == "gone"
			}
			return nil
		})
		return deleted
	})
}
