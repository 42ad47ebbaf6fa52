package bridge

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/dafka"
	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/internal/replication"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

var now = time.UnixMilli(1_700_000_000_000)

// cluster is a metadata image that changes by what the controller decides, and
// partitions in memory that follow it.
type cluster struct {
	*testing.T
	config *config.Broker
	track  *metadata.Tracker
	rules  controller.Rules
	fs     *vfs.Mem
	parts  map[model.TopicID]map[int32]*partition.Partition
	// missing are partitions that cannot be served.
	missing map[model.Partition]bool
}

func newCluster(t *testing.T) *cluster {
	b, _, err := config.Load(config.Sources{Options: []string{"node.id=1"}, MemoryBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{
		T: t, config: b, track: metadata.NewTracker(metadata.Empty()), fs: vfs.NewMem(),
		parts: map[model.TopicID]map[int32]*partition.Partition{}, missing: map[model.Partition]bool{},
	}
	c.rules = controller.Rules{Config: b, Random: rand.NewChaCha8([32]byte{}), Place: func(model.Partition) model.UUID { return model.UUID{7} }}
	c.apply(controller.Format(), nil)
	c.apply(controller.Register(c.image(), metadata.Broker{ID: 1, Directories: []model.UUID{{7}}}, c.rules.Random))
	return c
}

func (c *cluster) image() *metadata.Image { return c.track.Image() }

func (c *cluster) apply(records []metadata.Record, err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
	if _, err := c.track.Apply(c.image().End(), records); err != nil {
		c.Fatal(err)
	}
}

// producers tells the cluster of Dafka producers.
func (c *cluster) producers(topic string, addresses ...string) {
	c.Helper()
	records, errs := c.rules.DafkaProducers(c.image(), []controller.DafkaTopic{{Name: topic, Producers: addresses}}, 1000)
	c.apply(records, errs[0])
}

// topic makes one of Kafka's, with configs in pairs.
func (c *cluster) topic(name string, partitions int32, configs ...string) {
	c.Helper()
	s := controller.TopicSpec{Name: name, Partitions: partitions, Replication: 1}
	for i := 0; i < len(configs); i += 2 {
		s.Configs = append(s.Configs, config.Override{Name: configs[i], Value: &configs[i+1]})
	}
	records, created, err := c.rules.CreateTopics(c.image(), []controller.TopicSpec{s})
	if err == nil {
		err = created[0].Err
	}
	c.apply(records, err)
}

func (c *cluster) alter(topic, key, value string) {
	c.Helper()
	records, errs, err := c.rules.AlterConfigs(c.image(), []controller.ConfigChange{{
		Resource: metadata.Resource{Type: metadata.ResourceTopic, Name: topic}, Keys: []controller.KeyChange{{Name: key, Value: value}},
	}})
	if err == nil {
		err = errs[0]
	}
	c.apply(records, err)
}

func (c *cluster) delete(topic string) {
	c.Helper()
	records, errs := c.rules.DeleteTopics(c.image(), []model.TopicID{c.image().Topic(topic).ID})
	c.apply(records, errs[0])
}

// find gives a partition, and makes it if need be, as replicas do.
func (c *cluster) find(id model.TopicID, p model.Partition) (*partition.Partition, error) {
	if c.missing[p] {
		return nil, partition.ErrOffline
	}
	if c.parts[id] == nil {
		c.parts[id] = map[int32]*partition.Partition{}
	}
	if c.parts[id][p.Index] == nil {
		overrides := c.image().Config(metadata.Resource{Type: metadata.ResourceTopic, Name: p.Topic})
		c.parts[id][p.Index] = c.open("/"+id.String()+p.String(), p, overrides)
	}
	return c.parts[id][p.Index], nil
}

// open opens a partition that is synced as soon as it is dirty.
func (c *cluster) open(dir string, p model.Partition, overrides map[string]string) *partition.Partition {
	c.Helper()
	cfg, err := config.ResolveTopic(c.config, overrides)
	if err != nil {
		c.Fatal(err)
	}
	if err := c.fs.MkdirAll(dir); err != nil {
		c.Fatal(err)
	}
	x, err := partition.Open(partition.Options{
		FS: c.fs, Dir: dir, ID: p, Self: 1, Config: &cfg, ProducerExpiry: time.Hour, Unverified: true,
		Dirty: func(x *partition.Partition) {
			go func() {
				if s, err := x.BeginSync(); err == nil {
					x.Synced(s, s.Flush())
				}
			}()
		},
	})
	if err != nil {
		c.Fatal(err)
	}
	x.Assign(replication.Assignment{Epoch: 1, Leader: 1, Members: []model.NodeID{1}, Replicas: 1})
	return x
}

// bridge is one without a mesh.
func (c *cluster) bridge() *Bridge {
	b := &Bridge{o: Options{
		Config: dafka.DefaultConfig(), Self: 1, Partition: c.find, Rules: c.rules, MaxPartitions: 1000,
		Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler),
		Propose: func(_ context.Context, decide func(*metadata.Image) ([]metadata.Record, error)) error {
			records, err := decide(c.image())
			c.apply(records, err)
			return nil
		},
	}}
	b.mu.table, b.mu.image = &table{}, metadata.Empty()
	b.admits, b.writer, b.reader, b.live = newAdmits(b), newWriter(b, "W", "R"), newReader(b, "R", "W"), newLive(b)
	return b
}

func batch(t testing.TB, o record.BuilderOptions, values ...string) record.Batch {
	t.Helper()
	b := record.NewBuilder(o)
	for _, v := range values {
		if err := b.Add(record.Record{Timestamp: now.UnixMilli(), Value: []byte(v)}); err != nil {
			t.Fatal(err)
		}
	}
	_, out, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
