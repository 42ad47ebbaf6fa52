package controller

import (
	"slices"

	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// partitionChangeVersion has directories (KIP-858) and eligible leaders
// (KIP-966), brokerChangeVersion the broker's directories.
const (
	partitionChangeVersion = 2
	brokerChangeVersion    = 2
)

// Restart elects this broker anew for the partitions of which it holds the only
// replica. A member that restarts gets a new epoch, even where it led before:
// what it had not made durable may be gone, and readers notice by the epoch
// (KIP-320). Partitions in a directory that is not online get no leader.
func Restart(image *metadata.Image, self model.NodeID, online []model.UUID) []metadata.Record {
	var records []metadata.Record
	eachAlone(image, self, func(t *metadata.Topic, index int32, p *metadata.Partition) {
		switch {
		case isOnline(p, online):
			m := change(t, index)
			lead(m, p, self)
			records = append(records, metadata.Record{Message: m, Version: partitionChangeVersion})
		case p.Leader != model.NoNode:
			m := leaderless(t, index, self)
			m.EligibleLeaderReplicas = []int32{} // What it has is not known: nobody says that it is all.
			records = append(records, metadata.Record{Message: m, Version: partitionChangeVersion})
		}
	})
	return records
}

// DirectoriesFailed tells that only some of a broker's directories are online
// still. Its partitions in others have no leader; it may lead them again
// without loss, should the directory come back.
func DirectoriesFailed(image *metadata.Image, self model.NodeID, online []model.UUID) []metadata.Record {
	var records []metadata.Record
	if b := image.Broker(self); b != nil && len(online) > 0 {
		m := wire.NewBrokerRegistrationChangeRecord()
		m.BrokerID, m.BrokerEpoch, m.LogDirs = int32(self), b.Epoch, online
		records = append(records, metadata.Record{Message: m, Version: brokerChangeVersion})
	}
	eachAlone(image, self, func(t *metadata.Topic, index int32, p *metadata.Partition) {
		if p.Leader == self && !isOnline(p, online) {
			records = append(records, metadata.Record{Message: leaderless(t, index, self), Version: partitionChangeVersion})
		}
	})
	return records
}

// Placement is where a broker keeps its replica of a partition.
type Placement struct {
	Topic     model.TopicID
	Partition int32
	Directory model.UUID
}

// AssignDirectories tells where a broker's replicas lie (KIP-858). What is gone
// meanwhile, or known, is left out. A partition without a leader that is found in
// another directory than it was believed in, one that lost its meta.properties,
// say, is led again by who has all there is of it.
func AssignDirectories(image *metadata.Image, self model.NodeID, where []Placement) []metadata.Record {
	var records []metadata.Record
	for _, w := range where {
		t := image.TopicByID(w.Topic)
		if t == nil || int(w.Partition) >= len(t.Partitions) {
			continue
		}
		p := t.Partitions[w.Partition]
		i := slices.Index(p.Replicas, self)
		if i < 0 || i < len(p.Directories) && p.Directories[i] == w.Directory {
			continue
		}
		m := change(t, w.Partition)
		m.Directories = make([]model.UUID, len(p.Replicas))
		copy(m.Directories, p.Directories)
		m.Directories[i] = w.Directory
		if p.Leader == model.NoNode && len(p.Replicas) == 1 {
			lead(m, p, self)
		}
		records = append(records, metadata.Record{Message: m, Version: partitionChangeVersion})
	}
	return records
}

// eachAlone visits the partitions of which a broker holds the only replica.
func eachAlone(image *metadata.Image, self model.NodeID, visit func(t *metadata.Topic, index int32, p *metadata.Partition)) {
	image.Topics("", func(t *metadata.Topic) bool {
		for i, p := range t.Partitions {
			if len(p.Replicas) == 1 && p.Replicas[0] == self {
				visit(t, int32(i), p)
			}
		}
		return true
	})
}

// isOnline reports whether the only replica of a partition is in one of the
// directories, or nobody knows where it is.
func isOnline(p *metadata.Partition, online []model.UUID) bool {
	return len(p.Directories) == 0 || p.Directories[0].IsZero() || slices.Contains(online, p.Directories[0])
}

func change(t *metadata.Topic, index int32) *wire.PartitionChangeRecord {
	m := wire.NewPartitionChangeRecord()
	m.TopicID, m.PartitionID = t.ID, index
	return m
}

// lead makes the only replica of a partition its leader.
func lead(m *wire.PartitionChangeRecord, p *metadata.Partition, self model.NodeID) {
	m.Leader, m.Isr = int32(self), []int32{int32(self)}
	if len(p.ELR)+len(p.LastKnownELR) > 0 {
		m.EligibleLeaderReplicas, m.LastKnownElr = []int32{}, []int32{}
	}
}

// leaderless takes the leader from a partition that has no other replica.
func leaderless(t *metadata.Topic, index int32, self model.NodeID) *wire.PartitionChangeRecord {
	m := change(t, index)
	m.Leader, m.Isr = int32(model.NoNode), []int32{}
	m.EligibleLeaderReplicas, m.LastKnownElr = []int32{int32(self)}, []int32{int32(self)}
	return m
}
