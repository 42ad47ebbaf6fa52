package controller

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
)

// seen is what the cluster says of a partition whose directory comes and goes.
type seen struct {
	Leader             model.NodeID
	Epoch              model.Epoch
	ISR, ELR, LastKnow []model.NodeID
	Directory          model.UUID
}

func (c *cluster) see(topic string) seen {
	p := c.track.Image().Topic(topic).Partitions[0]
	return seen{p.Leader, p.LeaderEpoch, p.ISR, p.ELR, p.LastKnownELR, p.Directories[0]}
}

// What Kafka 4.4.0 tells of partitions whose directory fails, at run time and
// at the start, and comes back: testdata of tests/differential has its answers.
func TestDirectories(t *testing.T) {
	a, b := model.UUID{1}, model.UUID{2}
	me := []model.NodeID{1}
	c := newCluster(t, 1, 2)
	at := a
	c.rules.Place = func(model.Partition) model.UUID { return at }
	c.create(named("good"))
	at = b
	c.create(named("bad"), TopicSpec{Name: "others", Partitions: -1, Replication: -1, Assignment: []Replicas{{0, []model.NodeID{2}}}})
	f := func(what, topic string, want seen) {
		t.Helper()
		if d := cmp.Diff(want, c.see(topic)); d != "" {
			t.Errorf("%s: %s: %s", what, topic, d)
		}
	}
	c.apply(DirectoriesFailed(c.track.Image(), 1, []model.UUID{a}))
	f("failed", "bad", seen{model.NoNode, 1, nil, me, me, b})
	f("failed", "good", seen{1, 0, me, nil, nil, a})
	f("failed", "others", seen{2, 0, []model.NodeID{2}, nil, nil, b})
	if got := c.track.Image().Broker(1).Directories; !cmp.Equal(got, []model.UUID{a}) {
		t.Error(got)
	}
	if again := DirectoriesFailed(c.track.Image(), 1, []model.UUID{a}); len(again) != 1 {
		t.Errorf("told twice: %v", again)
	}

	c.apply(Restart(c.track.Image(), 1, []model.UUID{a}))
	f("restarted without it", "bad", seen{model.NoNode, 1, nil, me, me, b})
	f("restarted without it", "good", seen{1, 1, me, nil, nil, a})
	c.apply(Restart(c.track.Image(), 1, []model.UUID{a, b}))
	f("back", "bad", seen{1, 2, me, nil, nil, b})
	c.apply(Restart(c.track.Image(), 1, []model.UUID{a}))
	f("missing at the start", "bad", seen{model.NoNode, 3, nil, nil, me, b})

	topic := c.track.Image().Topic("good")
	moved := []Placement{{topic.ID, 0, b}, {topic.ID, 7, b}, {model.TopicID{9}, 0, b}, {c.track.Image().Topic("others").ID, 0, a}}
	c.apply(AssignDirectories(c.track.Image(), 1, moved))
	f("moved", "good", seen{1, 3, me, nil, nil, b})
	f("not ours", "others", seen{2, 0, []model.NodeID{2}, nil, nil, b})
	if again := AssignDirectories(c.track.Image(), 1, moved); len(again) != 0 {
		t.Errorf("assigned twice: %v", again)
	}
	c.apply(AssignDirectories(c.track.Image(), 1, []Placement{{c.track.Image().Topic("bad").ID, 0, a}}))
	f("found elsewhere", "bad", seen{1, 4, me, nil, nil, a})
	c.apply(Restart(c.track.Image(), 1, []model.UUID{b}))
	f("gone again", "bad", seen{model.NoNode, 5, nil, nil, me, a})
	// The records survive a snapshot.
	copied, err := metadata.FromSnapshot(c.track.Image().End(), c.track.Image().Snapshot())
	if err != nil || !cmp.Equal(copied.Topic("bad").Partitions[0].LastKnownELR, me) {
		t.Error(err)
	}
}
