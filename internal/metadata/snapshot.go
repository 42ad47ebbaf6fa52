package metadata

import (
	"maps"
	"slices"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// MetadataVersion is the name of the feature that versions the records.
const MetadataVersion = "metadata.version"

// Snapshot returns records that describe the image whole, in an order that
// FromSnapshot and Kafka can apply.
func (i *Image) Snapshot() []Record {
	var out []Record
	add := func(m wire.MetadataRecord, version int16) { out = append(out, Record{m, version}) }
	i.snapshotFeatures(add)
	for _, n := range i.Brokers() {
		add(n.record())
	}
	out = append(out, i.others...)
	i.byName.Ascend(func(t *Topic) bool {
		topic := wire.NewTopicRecord()
		topic.Name, topic.TopicID = t.Name, t.ID
		add(topic, 0)
		for n, p := range t.Partitions {
			add(p.record(t.ID, int32(n)), PartitionRecordVersion)
		}
		return true
	})
	i.configs.Ascend(func(c *configs) bool {
		for _, key := range slices.Sorted(maps.Keys(c.values)) {
			add(ConfigRecord(c.resource, key, new(c.values[key])), 0)
		}
		return true
	})
	i.snapshotQuotas(add)
	if i.nextPID > 0 {
		ids := wire.NewProducerIDsRecord()
		ids.BrokerID, ids.BrokerEpoch, ids.NextProducerID = -1, -1, int64(i.nextPID)
		add(ids, 0)
	}
	return out
}

// snapshotFeatures puts metadata.version first: readers want to know the
// format before the rest.
func (i *Image) snapshotFeatures(add func(wire.MetadataRecord, int16)) {
	if level := i.features[MetadataVersion]; level != 0 {
		add(FeatureRecord(MetadataVersion, level), 0)
	}
	for _, name := range slices.Sorted(maps.Keys(i.features)) {
		if name != MetadataVersion {
			add(FeatureRecord(name, i.features[name]), 0)
		}
	}
}

// PartitionRecordVersion is what we write: 1 added directories, 2 the eligible
// leaders. RegisterBrokerVersion likewise.
const (
	PartitionRecordVersion = 2
	RegisterBrokerVersion  = 3
)

func (p *Partition) record(topic model.TopicID, index int32) *wire.PartitionRecord {
	m := wire.NewPartitionRecord()
	m.TopicID, m.PartitionID = topic, index
	m.Leader, m.LeaderEpoch, m.PartitionEpoch = int32(p.Leader), int32(p.LeaderEpoch), p.PartitionEpoch
	m.Replicas, m.Isr = ints(p.Replicas), ints(p.ISR)
	m.RemovingReplicas, m.AddingReplicas = ints(p.Removing), ints(p.Adding)
	m.LeaderRecoveryState, m.Directories = p.Recovery, p.Directories
	if len(p.ELR) > 0 {
		m.EligibleLeaderReplicas = ints(p.ELR)
	}
	if len(p.LastKnownELR) > 0 {
		m.LastKnownElr = ints(p.LastKnownELR)
	}
	return m
}

func (n *Broker) record() (wire.MetadataRecord, int16) {
	m := wire.NewRegisterBrokerRecord()
	m.BrokerID, m.BrokerEpoch, m.IncarnationID = int32(n.ID), n.Epoch, n.Incarnation
	m.Rack, m.Fenced, m.InControlledShutdown, m.LogDirs = n.Rack, n.Fenced, n.Stopping, n.Directories
	for _, e := range n.Endpoints {
		m.EndPoints = append(m.EndPoints, wire.RegisterBrokerRecordBrokerEndpoint{
			Name: e.Listener, Host: e.Host, Port: e.Port, SecurityProtocol: e.Security,
		})
	}
	return m, RegisterBrokerVersion
}

// FeatureRecord says that a feature is finalised at a level; 0 is off.
func FeatureRecord(name string, level int16) *wire.FeatureLevelRecord {
	m := wire.NewFeatureLevelRecord()
	m.Name, m.FeatureLevel = name, level
	return m
}

// ConfigRecord sets a configuration, or removes it when value is nil.
func ConfigRecord(r Resource, key string, value *string) *wire.ConfigRecord {
	m := wire.NewConfigRecord()
	m.ResourceType, m.ResourceName, m.Name, m.Value = int8(r.Type), r.Name, key, value
	return m
}

func ints(ids []model.NodeID) []int32 {
	out := make([]int32, len(ids))
	for i, id := range ids {
		out[i] = int32(id)
	}
	return out
}
