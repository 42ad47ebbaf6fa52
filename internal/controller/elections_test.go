package controller

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// state makes one partition what a test needs.
func (c *cluster) state(topic string, change func(*wire.PartitionChangeRecord)) {
	c.t.Helper()
	m := wire.NewPartitionChangeRecord()
	m.TopicID, m.PartitionID = c.track.Image().Topic(topic).ID, 0
	change(m)
	c.apply([]metadata.Record{{Message: m, Version: partitionChangeVersion}})
}

func (c *cluster) fence(id model.NodeID) {
	c.t.Helper()
	m := wire.NewFenceBrokerRecord()
	m.ID = int32(id)
	c.apply([]metadata.Record{{Message: m}})
}

func TestElectLeaders(t *testing.T) {
	never := func(model.Partition) bool { return false }
	f := func(what string, e Election, prepare func(*cluster), broken func(model.Partition) bool, want error, wantLeader model.NodeID, wantISR ...model.NodeID) {
		t.Helper()
		c := newCluster(t, 1, 2, 3)
		c.create(TopicSpec{Name: "t", Partitions: -1, Replication: -1, Assignment: []Replicas{{0, []model.NodeID{1, 2, 3}}}})
		prepare(c)
		id := model.Partition{Topic: "t"}
		records, errs := c.rules.ElectLeaders(c.track.Image(), e, []model.Partition{id}, broken)
		if !errors.Is(errs[0], want) || (want == nil) != (errs[0] == nil) {
			t.Errorf("%s: %v, want %v", what, errs[0], want)
		}
		c.apply(records)
		p := c.track.Image().Topic("t").Partitions[0]
		if p.Leader != wantLeader || !cmp.Equal(p.ISR, wantISR) {
			t.Errorf("%s: leader %d of %v, want %d of %v", what, p.Leader, p.ISR, wantLeader, wantISR)
		}
	}
	led := func(leader int32, isr ...int32) func(*cluster) {
		return func(c *cluster) {
			c.state("t", func(m *wire.PartitionChangeRecord) { m.Leader, m.Isr = leader, isr })
		}
	}
	f("the preferred leads", Preferred, func(*cluster) {}, never, wire.ElectionNotNeeded, 1, 1, 2, 3)
	f("somebody leads", Unclean, led(2, 2, 3), never, wire.ElectionNotNeeded, 2, 2, 3)
	f("the preferred is in sync", Preferred, led(2, 1, 2), never, nil, 1, 1, 2)
	f("the preferred is not in sync", Preferred, led(2, 2, 3), never, wire.PreferredLeaderNotAvailable, 2, 2, 3)
	f("the preferred is gone", Preferred, func(c *cluster) { led(2, 1, 2)(c); c.fence(1) }, never, wire.PreferredLeaderNotAvailable, 2, 1, 2)
	f("the preferred is broken here", Preferred, led(2, 1, 2), func(model.Partition) bool { return true }, wire.PreferredLeaderNotAvailable, 2, 1, 2)
	f("nobody leads, one is in sync", Unclean, led(-1, 3), never, nil, 3, 3)
	f("nobody leads, nobody in sync is there", Unclean, func(c *cluster) { led(-1, 3)(c); c.fence(3) }, never, nil, 1, 1)
	f("nobody is there", Unclean, func(c *cluster) { led(-1, 3)(c); c.fence(1); c.fence(2); c.fence(3) }, never, wire.EligibleLeadersNotAvailable, -1, 3)
	eligible := func(c *cluster) {
		c.state("t", func(m *wire.PartitionChangeRecord) {
			m.Leader, m.Isr, m.EligibleLeaderReplicas = -1, []int32{}, []int32{3}
		})
	}
	f("one lost nothing", Preferred, eligible, never, nil, 3, 3)
	c := newCluster(t, 1)
	_, errs := c.rules.ElectLeaders(c.track.Image(), Preferred, []model.Partition{{Topic: "x"}}, never)
	if !errors.Is(errs[0], ErrUnknownTopic) || errs[0].Error() != "No such topic as x" {
		t.Error(errs[0])
	}
}

// partitionState is what reassignments change.
type partitionState struct {
	Replicas, ISR, Adding, Removing []model.NodeID
	Leader                          model.NodeID
}

func TestReassign(t *testing.T) {
	c := newCluster(t, 1, 2, 3)
	c.create(TopicSpec{Name: "t", Partitions: -1, Replication: -1, Assignment: []Replicas{{0, []model.NodeID{1}}}})
	ids := func(list ...model.NodeID) []model.NodeID { return list }
	f := func(what string, to []model.NodeID, same bool, want error, after partitionState) {
		t.Helper()
		records, errs := c.rules.Reassign(c.track.Image(), []Reassignment{{model.Partition{Topic: "t"}, to}}, same)
		if !errors.Is(errs[0], want) || (want == nil) != (errs[0] == nil) {
			t.Errorf("%s: %v, want %v", what, errs[0], want)
		}
		c.apply(records)
		p := c.track.Image().Topic("t").Partitions[0]
		if d := cmp.Diff(after, partitionState{p.Replicas, p.ISR, p.Adding, p.Removing, p.Leader}); d != "" {
			t.Errorf("%s: %s", what, d)
		}
	}
	alone := partitionState{ids(1), ids(1), nil, nil, 1}
	f("where it is", ids(1), true, nil, alone)
	f("nobody", []model.NodeID{}, false, ErrInvalidAssignment, alone)
	f("twice", ids(1, 1), false, ErrInvalidAssignment, alone)
	f("unknown", ids(9), false, ErrInvalidAssignment, alone)
	f("another number", ids(1, 2), true, ErrInvalidReplication, alone)
	f("nothing to cancel", nil, false, wire.NoReassignmentInProgress, alone)
	f("one more", ids(1, 2), false, nil, partitionState{ids(1, 2), ids(1), ids(2), nil, 1})
	f("back", nil, false, nil, alone)
	f("elsewhere", ids(2, 3), false, nil, partitionState{ids(2, 3, 1), ids(1), ids(2, 3), ids(1), 1})
	c.state("t", func(m *wire.PartitionChangeRecord) { m.Isr = []int32{1, 2, 3} })
	f("elsewhere, when all are there", ids(2, 3), false, nil, partitionState{ids(2, 3), ids(2, 3), nil, nil, 2})
	f("fewer", ids(3), false, nil, partitionState{ids(3), ids(3), nil, nil, 3})
}

// A broker that is gone leaves the replicas in sync, unless it is the last one,
// and the cluster. This one stays.
func TestUnregister(t *testing.T) {
	c := newCluster(t, 1, 2, 3)
	c.create(
		TopicSpec{Name: "shared", Partitions: -1, Replication: -1, Assignment: []Replicas{{0, []model.NodeID{2, 1}}}},
		TopicSpec{Name: "alone", Partitions: -1, Replication: -1, Assignment: []Replicas{{0, []model.NodeID{2}}}},
	)
	f := func(id model.NodeID, want error) {
		t.Helper()
		records, err := c.rules.Unregister(c.track.Image(), id)
		if !errors.Is(err, want) || (want == nil) != (err == nil) {
			t.Errorf("%d: %v, want %v", id, err, want)
		}
		c.apply(records)
	}
	f(9, wire.BrokerIDNotRegistered)
	f(1, ErrInvalidRequest)
	f(2, nil)
	image := c.track.Image()
	shared, alone := image.Topic("shared").Partitions[0], image.Topic("alone").Partitions[0]
	if image.Broker(2) != nil || shared.Leader != 1 || !cmp.Equal(shared.ISR, []model.NodeID{1}) {
		t.Errorf("shared: %+v", shared)
	}
	if alone.Leader != model.NoNode || !cmp.Equal(alone.ISR, []model.NodeID{2}) {
		t.Errorf("alone: %+v", alone)
	}
}
