package broker

import (
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
)

// change decides about the cluster as a request does.
func (b *Broker) change(t *testing.T, decide func(controller.Rules, *metadata.Image) ([]metadata.Record, error)) {
	t.Helper()
	rules := controller.Rules{Config: b.config, Place: b.replicas.Load().Place, Random: testRandom{}}
	err := b.quorum.Propose(t.Context(), func(i *metadata.Image) ([]metadata.Record, error) { return decide(rules, i) })
	if err != nil {
		t.Fatal(err)
	}
}

// testRandom is no source of chance: each test makes one topic of each name.
type testRandom struct{}

var testRandoms atomic.Uint32

func (testRandom) Read(b []byte) (int, error) {
	n := testRandoms.Add(1)
	for i := range b {
		b[i] = byte(n >> (8 * (i % 3)))
	}
	return len(b), nil
}

func (b *Broker) createTopic(t *testing.T, name string) {
	t.Helper()
	b.change(t, func(r controller.Rules, i *metadata.Image) ([]metadata.Record, error) {
		records, created, err := r.CreateTopics(i, []controller.TopicSpec{{Name: name, Partitions: 1, Replication: 1}})
		if err == nil {
			err = created[0].Err
		}
		return records, err
	})
}

// set gives a broker, or all of them, a config; an empty value takes it away.
func (b *Broker) set(t *testing.T, broker, key, value string) {
	t.Helper()
	op := controller.SetConfig
	if value == "" {
		op = controller.DeleteConfig
	}
	b.change(t, func(r controller.Rules, i *metadata.Image) ([]metadata.Record, error) {
		records, errs, err := r.AlterConfigs(i, []controller.ConfigChange{{
			Resource: metadata.Resource{Type: metadata.ResourceBroker, Name: broker},
			Keys:     []controller.KeyChange{{Name: key, Op: op, Value: value}},
		}})
		if err == nil {
			err = errs[0]
		}
		return records, err
	})
}

func (b *Broker) topicConfig(t *testing.T, topic string) *config.Topic {
	t.Helper()
	p, err := b.replicas.Load().Partition(model.Partition{Topic: topic})
	if err != nil {
		t.Fatal(err)
	}
	return p.Config()
}

// What is set for a broker while it runs holds at once, for what is there and
// for what is made later, wins over what it was started with, and survives.
func TestDynamicConfigs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		b := mustStart(t, mem, "log.retention.hours=1", "message.max.bytes=1000")
		b.createTopic(t, "old")
		f := func(topic string, retention time.Duration, maxBytes int64) {
			t.Helper()
			if c := b.topicConfig(t, topic); c.Retention != retention || c.MaxMessageBytes != maxBytes {
				t.Errorf("%s: retention %v, %d bytes; want %v, %d", topic, c.Retention, c.MaxMessageBytes, retention, maxBytes)
			}
		}
		f("old", time.Hour, 1000)
		b.set(t, "", "log.retention.ms", "60000")
		b.set(t, "1", "message.max.bytes", "2000")
		f("old", time.Minute, 2000)
		b.createTopic(t, "new")
		f("new", time.Minute, 2000)
		b.set(t, "1", "log.retention.ms", "1000")
		f("old", time.Second, 2000)
		if err := b.Stop(); err != nil {
			t.Fatal(err)
		}
		b = mustStart(t, mem, "log.retention.hours=1", "message.max.bytes=1000")
		f("old", time.Second, 2000)
		b.set(t, "1", "log.retention.ms", "")
		b.set(t, "1", "message.max.bytes", "")
		f("new", time.Minute, 1000)
		b.set(t, "", "log.retention.ms", "")
		f("new", time.Hour, 1000)
		if err := b.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// The rack of a node is what the cluster knows of it.
func TestRack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mustStart(t, vfs.NewMem(), "broker.rack=cellar")
		if rack := b.quorum.Image().Broker(1).Rack; rack == nil || *rack != "cellar" {
			t.Errorf("rack %v", rack)
		}
		if err := b.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// A clock that jumps by years, forth and back, while the node runs and between
// its runs, loses nothing of the cluster and stops nothing.
func TestClockJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		var years atomic.Int64
		now := func() time.Time { return time.Now().AddDate(int(years.Load()), 0, 0) }
		begin := func() *Broker {
			cfg, _, err := config.Load(config.Sources{
				Flags: map[string]string{"http.listen": ""}, Options: []string{"log.dirs=/a"}, MemoryBytes: 1 << 30,
			})
			if err != nil {
				t.Fatal(err)
			}
			b, err := Start(Options{
				Config: cfg, FS: mem, Log: slog.New(slog.DiscardHandler), Now: now,
				Listen: func(string, string) (net.Listener, error) { return quiet{make(chan struct{})}, nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		b := begin()
		var want int
		for i, to := range []int64{5, -10, 0, 20, -20, 0} {
			years.Store(to)
			name := string(rune('a' + i))
			b.createTopic(t, name)
			b.set(t, "1", "log.retention.bytes", "100000")
			want++
			time.Sleep(time.Minute) // The keeper works on.
			if i%2 == 1 {
				if err := b.Stop(); err != nil {
					t.Fatal(err)
				}
				b = begin()
			}
			if got := b.quorum.Image().TopicCount(); got != want {
				t.Errorf("after %d years: %d topics, want %d", to, got, want)
			}
			b.topicConfig(t, name)
		}
		if err := b.Stop(); err != nil {
			t.Error(err)
		}
	})
}
