package controller

import (
	"testing"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
)

func TestStateTopicsTakeTheReplicasThereAre(t *testing.T) {
	for brokers, want := range map[int]int{1: 1, 2: 2, 5: 3} {
		c := newCluster(t, nodes(brokers)...)
		for _, name := range []string{OffsetsTopic, TransactionsTopic} {
			records, err := c.rules.StateTopic(c.track.Image(), name)
			if err != nil {
				t.Fatal(err)
			}
			c.apply(records)
			topic := c.track.Image().Topic(name)
			if topic == nil || len(topic.Partitions) != 50 || len(topic.Partitions[7].Replicas) != want {
				t.Errorf("%s with %d brokers: %+v", name, brokers, topic)
			}
			if again, err := c.rules.StateTopic(c.track.Image(), name); err != nil || len(again) > 0 {
				t.Errorf("made again: %v, %v", again, err)
			}
		}
	}
}

func nodes(n int) (ids []model.NodeID) {
	for i := range n {
		ids = append(ids, model.NodeID(i+1))
	}
	return ids
}

// TestStateTopicSettings: the topics of coordinators are made as their keys say.
func TestStateTopicSettings(t *testing.T) {
	c := newCluster(t, nodes(5)...)
	b, _, err := config.Load(config.Sources{Options: []string{
		"offsets.topic.num.partitions=4", "offsets.topic.replication.factor=2", "offsets.topic.segment.bytes=2000000",
		"transaction.state.log.num.partitions=5", "transaction.state.log.replication.factor=4", "transaction.state.log.segment.bytes=3000000",
		"transaction.state.log.min.isr=3",
	}, MemoryBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	c.rules.Config = b
	f := func(name string, partitions, replicas int, configs map[string]string) {
		t.Helper()
		records, err := c.rules.StateTopic(c.track.Image(), name)
		if err != nil {
			t.Fatal(err)
		}
		c.apply(records)
		topic := c.track.Image().Topic(name)
		if len(topic.Partitions) != partitions || len(topic.Partitions[0].Replicas) != replicas {
			t.Errorf("%s: %d partitions, %d replicas", name, len(topic.Partitions), len(topic.Partitions[0].Replicas))
		}
		for key, want := range configs {
			if got := c.track.Image().Config(metadata.Resource{Type: metadata.ResourceTopic, Name: name})[key]; got != want {
				t.Errorf("%s: %s is %q, want %q", name, key, got, want)
			}
		}
	}
	f(OffsetsTopic, 4, 2, map[string]string{"segment.bytes": "2000000"})
	f(TransactionsTopic, 5, 4, map[string]string{"segment.bytes": "3000000", "min.insync.replicas": "3"})
}
