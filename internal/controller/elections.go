package controller

import (
	"slices"

	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// Election says which replicas may lead.
type Election int8

// The elections, by Kafka's numbers.
const (
	// Preferred gives the leadership to the first replica.
	Preferred Election = 0
	// Unclean gives it, where nobody leads, to any replica, whatever it lacks.
	Unclean Election = 1
)

// ElectLeaders decides who leads some partitions. The errors stand beside the
// partitions; that of one that needs no election is ELECTION_NOT_NEEDED. broken
// reports replicas of this node that cannot serve.
func (r Rules) ElectLeaders(image *metadata.Image, e Election, parts []model.Partition, broken func(model.Partition) bool) ([]metadata.Record, []error) {
	var records []metadata.Record
	errs := make([]error, len(parts))
	for i, p := range parts {
		made, err := r.electLeader(image, e, p, broken)
		if errs[i] = err; err == nil {
			records = append(records, made)
		}
	}
	return records, errs
}

func (r Rules) electLeader(image *metadata.Image, e Election, id model.Partition, broken func(model.Partition) bool) (metadata.Record, error) {
	t := image.Topic(id.Topic)
	switch {
	case t == nil:
		return metadata.Record{}, refuse(ErrUnknownTopic, "No such topic as %s", id.Topic)
	case id.Index < 0 || int(id.Index) >= len(t.Partitions):
		return metadata.Record{}, refuse(ErrUnknownTopic, "No such partition as %s", id)
	}
	p := t.Partitions[id.Index]
	able := func(n model.NodeID) bool {
		return isLive(image, n) && (n != model.NodeID(r.Config.NodeID) || !broken(id))
	}
	leads := p.Leader != model.NoNode && able(p.Leader)
	if leads && (e == Unclean || p.Leader == p.Replicas[0]) {
		return metadata.Record{}, refuse(wire.ElectionNotNeeded, "%s", wire.ElectionNotNeeded.Message())
	}
	leader, clean := elect(p, able, e == Unclean)
	if leader == model.NoNode || e == Preferred && leader == p.Leader {
		why := wire.PreferredLeaderNotAvailable
		if e == Unclean {
			why = wire.EligibleLeadersNotAvailable
		}
		return metadata.Record{}, refuse(why, "%s", why.Message())
	}
	m := change(t, id.Index)
	m.Leader = int32(leader)
	if !clean {
		m.LeaderRecoveryState = recovering
	}
	if !clean || len(p.ISR) == 0 {
		m.Isr, m.EligibleLeaderReplicas = []int32{int32(leader)}, ints(without(p.ELR, []model.NodeID{leader}))
	}
	return metadata.Record{Message: m, Version: partitionChangeVersion}, nil
}

// recovering marks a partition that was elected uncleanly (KIP-704).
const recovering = 1

// elect chooses among the replicas, the preferred first, one that is in sync;
// if none is, one that was and lost nothing (KIP-966); or, if it must be, any.
func elect(p *metadata.Partition, able func(model.NodeID) bool, unclean bool) (leader model.NodeID, clean bool) {
	complete := p.ISR
	if len(complete) == 0 {
		complete = p.ELR
	}
	for _, n := range p.Replicas {
		if slices.Contains(complete, n) && able(n) {
			return n, true
		}
	}
	if i := slices.IndexFunc(p.Replicas, able); unclean && i >= 0 {
		return p.Replicas[i], false
	}
	return model.NoNode, true
}

func isLive(image *metadata.Image, n model.NodeID) bool {
	b := image.Broker(n)
	return b != nil && !b.Fenced && !b.Stopping
}
