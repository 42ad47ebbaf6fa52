package controller

import (
	"testing"

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
