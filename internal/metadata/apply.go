package metadata

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// Record is a metadata record and the version that it is written in.
type Record struct {
	Message wire.MetadataRecord
	Version int16
}

// ErrRecord says that a record does not fit the image: the log is damaged or
// was written by a newer Kafka.
var ErrRecord = errors.New("metadata: record does not fit")

// builder is an image in the making. It owns its trees, and those maps and
// topics that it has already copied.
type builder struct {
	*Image
	delta      Delta
	ownBrokers bool
	ownOthers  bool
	configured map[Resource]bool // In delta already.
}

func build(from *Image) *builder {
	return &builder{Image: from.clone(), delta: Delta{From: from}}
}

// apply changes the image by one record. Strings of messages alias their
// frame, so what is kept is cloned.
func (b *builder) apply(offset model.Offset, r Record, created model.Offset) error {
	b.end = offset + 1
	switch m := r.Message.(type) {
	case *wire.TopicRecord:
		return b.addTopic(m)
	case *wire.PartitionRecord:
		return b.addPartition(m, created)
	case *wire.PartitionChangeRecord:
		return b.changePartition(m)
	case *wire.RemoveTopicRecord:
		return b.removeTopic(m)
	case *wire.ConfigRecord:
		b.setConfig(m)
	case *wire.ClientQuotaRecord:
		if !b.setQuota(m) {
			b.carry(r)
		}
	case *wire.ProducerIDsRecord:
		b.nextPID = model.ProducerID(m.NextProducerID)
	case *wire.FeatureLevelRecord:
		b.setFeature(m)
	case *wire.RegisterBrokerRecord:
		b.register(m)
	case *wire.BrokerRegistrationChangeRecord:
		return b.changeBroker(m)
	case *wire.FenceBrokerRecord:
		return b.editBroker(model.NodeID(m.ID), func(n *Broker) { n.Fenced = true })
	case *wire.UnfenceBrokerRecord:
		return b.editBroker(model.NodeID(m.ID), func(n *Broker) { n.Fenced = false })
	case *wire.UnregisterBrokerRecord:
		b.copyBrokers()
		delete(b.brokers, model.NodeID(m.BrokerID))
	case *wire.ClearElrRecord:
		return b.clearELR(m)
	case *wire.NoOpRecord:
	default:
		b.carry(r)
	}
	return nil
}

func (b *builder) addTopic(m *wire.TopicRecord) error {
	if b.Topic(m.Name) != nil {
		return fmt.Errorf("%w: topic %q exists", ErrRecord, m.Name)
	}
	t := &Topic{Name: strings.Clone(m.Name), ID: m.TopicID}
	b.byName.ReplaceOrInsert(t)
	b.byID.ReplaceOrInsert(t)
	b.delta.touch(t.ID)
	return nil
}

// edit returns the builder's own copy of a topic, made when it is first needed.
func (b *builder) edit(id model.TopicID) (*Topic, error) {
	old := b.TopicByID(id)
	if old == nil {
		return nil, fmt.Errorf("%w: no topic %s", ErrRecord, id)
	}
	if b.delta.From.TopicByID(id) != old {
		return old, nil
	}
	t := &Topic{Name: old.Name, ID: old.ID, Partitions: slices.Clone(old.Partitions)}
	b.byName.ReplaceOrInsert(t)
	b.byID.ReplaceOrInsert(t)
	b.delta.touch(id)
	return t, nil
}

func (b *builder) addPartition(m *wire.PartitionRecord, created model.Offset) error {
	t, err := b.edit(m.TopicID)
	if err != nil {
		return err
	}
	p := &Partition{
		Leader: model.NodeID(m.Leader), LeaderEpoch: model.Epoch(m.LeaderEpoch), PartitionEpoch: m.PartitionEpoch,
		Replicas: nodes(m.Replicas), ISR: nodes(m.Isr), Removing: nodes(m.RemovingReplicas), Adding: nodes(m.AddingReplicas),
		ELR: nodes(m.EligibleLeaderReplicas), LastKnownELR: nodes(m.LastKnownElr),
		Recovery: m.LeaderRecoveryState, Directories: slices.Clone(m.Directories), Created: created,
	}
	switch n := int(m.PartitionID); {
	case n == len(t.Partitions):
		t.Partitions = append(t.Partitions, p)
		b.count++
	case n >= 0 && n < len(t.Partitions):
		t.Partitions[n] = p
	default:
		return fmt.Errorf("%w: topic %q has %d partitions, no %d", ErrRecord, t.Name, len(t.Partitions), n)
	}
	return nil
}

func (b *builder) changePartition(m *wire.PartitionChangeRecord) error {
	t, err := b.edit(m.TopicID)
	if err != nil {
		return err
	}
	if m.PartitionID < 0 || int(m.PartitionID) >= len(t.Partitions) {
		return fmt.Errorf("%w: topic %q has no partition %d", ErrRecord, t.Name, m.PartitionID)
	}
	p := *t.Partitions[m.PartitionID]
	set := func(to *[]model.NodeID, from []int32) {
		if from != nil {
			*to = nodes(from)
		}
	}
	set(&p.ISR, m.Isr)
	if m.Replicas != nil {
		p.Directories = movedDirectories(p.Replicas, p.Directories, nodes(m.Replicas))
	}
	set(&p.Replicas, m.Replicas)
	set(&p.Removing, m.RemovingReplicas)
	set(&p.Adding, m.AddingReplicas)
	set(&p.ELR, m.EligibleLeaderReplicas)
	set(&p.LastKnownELR, m.LastKnownElr)
	if len(m.Directories) > 0 {
		p.Directories = slices.Clone(m.Directories)
	}
	if m.LeaderRecoveryState >= 0 {
		p.Recovery = m.LeaderRecoveryState
	}
	if m.Leader != noLeaderChange {
		p.Leader = model.NodeID(m.Leader)
		p.LeaderEpoch++
	}
	p.PartitionEpoch++
	t.Partitions[m.PartitionID] = &p
	return nil
}

// movedDirectories keeps the directories of the replicas that stay; those of new
// ones are not assigned yet (KIP-858).
func movedDirectories(from []model.NodeID, dirs []model.UUID, to []model.NodeID) []model.UUID {
	if len(dirs) == 0 {
		return nil
	}
	out := make([]model.UUID, len(to))
	for i, id := range to {
		if n := slices.Index(from, id); n >= 0 && n < len(dirs) {
			out[i] = dirs[n]
		}
	}
	return out
}

// noLeaderChange is Kafka's "the leader stays" in a PartitionChangeRecord; -1
// is "there is no leader now".
const noLeaderChange = -2

func (b *builder) removeTopic(m *wire.RemoveTopicRecord) error {
	t := b.TopicByID(m.TopicID)
	if t == nil {
		return fmt.Errorf("%w: no topic %s", ErrRecord, m.TopicID)
	}
	b.byName.Delete(t)
	b.byID.Delete(t)
	b.configs.Delete(&configs{resource: Resource{ResourceTopic, t.Name}})
	b.count -= len(t.Partitions)
	b.delta.touch(t.ID)
	return nil
}

func (b *builder) setConfig(m *wire.ConfigRecord) {
	r := Resource{ResourceType(m.ResourceType), strings.Clone(m.ResourceName)}
	values := maps.Clone(b.Config(r))
	if m.Value == nil {
		delete(values, m.Name)
	} else {
		if values == nil {
			values = map[string]string{}
		}
		values[strings.Clone(m.Name)] = strings.Clone(*m.Value)
	}
	if len(values) == 0 {
		b.configs.Delete(&configs{resource: r})
	} else {
		b.configs.ReplaceOrInsert(&configs{r, values})
	}
	if !b.configured[r] {
		if b.configured == nil {
			b.configured = map[Resource]bool{}
		}
		b.configured[r] = true
		b.delta.Configs = append(b.delta.Configs, r)
	}
}

// clearELR forgets the eligible leaders of a topic, or of all of them (KIP-966).
func (b *builder) clearELR(m *wire.ClearElrRecord) error {
	if m.TopicName != "" {
		t := b.Topic(m.TopicName)
		if t == nil {
			return fmt.Errorf("%w: no topic %q", ErrRecord, m.TopicName)
		}
		return b.clearTopicELR(t.ID)
	}
	var ids []model.TopicID
	b.Topics("", func(t *Topic) bool {
		ids = append(ids, t.ID)
		return true
	})
	for _, id := range ids {
		if err := b.clearTopicELR(id); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) clearTopicELR(id model.TopicID) error {
	has := func(p *Partition) bool { return len(p.ELR) > 0 || len(p.LastKnownELR) > 0 }
	if !slices.ContainsFunc(b.TopicByID(id).Partitions, has) {
		return nil
	}
	t, err := b.edit(id)
	if err != nil {
		return err
	}
	for i, p := range t.Partitions {
		if has(p) {
			c := *p
			c.ELR, c.LastKnownELR = nil, nil
			c.PartitionEpoch++
			t.Partitions[i] = &c
		}
	}
	return nil
}

func (b *builder) setFeature(m *wire.FeatureLevelRecord) {
	b.features = maps.Clone(b.features)
	if m.FeatureLevel == 0 {
		delete(b.features, m.Name)
		return
	}
	b.features[strings.Clone(m.Name)] = m.FeatureLevel
}

func (b *builder) copyBrokers() {
	if !b.ownBrokers {
		b.brokers, b.ownBrokers = maps.Clone(b.brokers), true
	}
}

func (b *builder) register(m *wire.RegisterBrokerRecord) {
	n := &Broker{
		ID: model.NodeID(m.BrokerID), Epoch: m.BrokerEpoch, Incarnation: m.IncarnationID,
		Fenced: m.Fenced, Stopping: m.InControlledShutdown, Directories: slices.Clone(m.LogDirs),
	}
	if m.Rack != nil {
		rack := strings.Clone(*m.Rack)
		n.Rack = &rack
	}
	for _, e := range m.EndPoints {
		n.Endpoints = append(n.Endpoints, Endpoint{strings.Clone(e.Name), strings.Clone(e.Host), e.Port, e.SecurityProtocol})
	}
	b.copyBrokers()
	b.brokers[n.ID] = n
}

func (b *builder) changeBroker(m *wire.BrokerRegistrationChangeRecord) error {
	return b.editBroker(model.NodeID(m.BrokerID), func(n *Broker) {
		switch m.Fenced {
		case 1:
			n.Fenced = true
		case -1:
			n.Fenced = false
		}
		if m.InControlledShutdown == 1 {
			n.Stopping = true
		}
		if len(m.LogDirs) > 0 {
			n.Directories = slices.Clone(m.LogDirs)
		}
	})
}

func (b *builder) editBroker(id model.NodeID, edit func(*Broker)) error {
	old := b.brokers[id]
	if old == nil {
		return fmt.Errorf("%w: no broker %d", ErrRecord, id)
	}
	n := *old
	edit(&n)
	b.copyBrokers()
	b.brokers[id] = &n
	return nil
}

// carry keeps a record that means nothing to us for the next snapshot. The
// message is read again from its own bytes, so that it holds on to no frame.
func (b *builder) carry(r Record) {
	raw, err := wire.AppendMetadataRecord(nil, r.Message, r.Version)
	if err != nil {
		return // It was just read from such bytes.
	}
	if !b.ownOthers {
		b.others, b.ownOthers = slices.Clone(b.others), true
	}
	if m, v, err := wire.ReadMetadataRecord(raw); err == nil {
		b.others = append(b.others, Record{m, v})
	}
}

func nodes(ids []int32) []model.NodeID {
	if len(ids) == 0 {
		return nil
	}
	out := make([]model.NodeID, len(ids))
	for i, id := range ids {
		out[i] = model.NodeID(id)
	}
	return out
}
