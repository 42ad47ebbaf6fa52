package group

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/internal/coordinator/group/assign"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// Types of the records that are ours.
const (
	legacyOffsetRecord = wire.LegacyOffsetCommitRecordType
	offsetRecord       = wire.OffsetCommitRecordType
)

// keys are Apply's memory for what comes most often.
type keys struct {
	offset      wire.OffsetCommitRecordKey
	offsetValue wire.OffsetCommitRecordValue
}

// Apply implements [coordinator.Machine]. Records of share groups and streams
// groups, and of kinds and versions to come, are not looked at.
func (m *Machine) Apply(o coordinator.Origin, key, value []byte) error {
	m.reader.Reset(key)
	kind := m.reader.Int16()
	err := m.reader.Err()
	if err == nil {
		err = m.apply(o, kind, value)
	}
	if err != nil && !errors.Is(err, wire.ErrVersion) {
		return fmt.Errorf("group: read a record of type %d: %w", kind, err)
	}
	return nil
}

func (m *Machine) apply(o coordinator.Origin, kind int16, value []byte) error {
	switch kind {
	case offsetRecord, legacyOffsetRecord:
		return m.applyOffset(o, value)
	case wire.GroupMetadataRecordType:
		return m.applyClassic(value)
	case wire.ConsumerGroupMetadataRecordType:
		return m.applyEpoch(value)
	case wire.ConsumerGroupPartitionMetadataRecordType:
		return m.applyOldTopics(value)
	case wire.ConsumerGroupMemberMetadataRecordType:
		return m.applyTold(value)
	case wire.ConsumerGroupTargetAssignmentMetadataRecordType:
		return m.applyTargetEpoch(value)
	case wire.ConsumerGroupTargetAssignmentMemberRecordType:
		return m.applyTarget(value)
	case wire.ConsumerGroupCurrentMemberAssignmentRecordType:
		return m.applyCurrent(value)
	case wire.ConsumerGroupRegularExpressionRecordType:
		return m.applyRegex(value)
	}
	return nil
}

// readKey reads the rest of a key.
func (m *Machine) readKey(key wire.CoordinatorKey) error { return wire.ReadExactly(&m.reader, key, 0) }

// readValue reads a value that will be kept, from memory of its own.
func readValue(b []byte, value wire.Message) error {
	_, err := wire.ReadCoordinatorValue(bytes.Clone(b), value)
	return err
}

// found returns the group that a record speaks of. If there is none, it is
// made if the record says something.
func (m *Machine) found(id string, value []byte) *group {
	g := m.groups[id]
	if g == nil && value != nil {
		g = m.make(id)
	}
	return g
}

func (m *Machine) make(id string) *group {
	g := &group{id: strings.Clone(id)}
	m.groups[g.id] = g
	m.count(g.bytes())
	return g
}

// kept reports whether the log says something of the group.
func (g *group) kept() bool {
	return g.record != nil || g.consumer != nil || len(g.offsets) > 0 || len(g.open) > 0
}

// tidy forgets a group of which the log says nothing any more. As in Kafka one
// that has merely lost its offsets is there until the next sweep.
func (m *Machine) tidy(g *group) {
	if g.doomed || m.clock.IsZero() {
		m.drop(g)
	}
}

// drop forgets a group of which nothing is left.
func (m *Machine) drop(g *group) {
	if !g.kept() && g.classic == nil && g.watch == nil {
		m.release(g)
		delete(m.groups, g.id)
		m.count(-g.bytes() - g.mostHeld)
	}
}

func (m *Machine) applyOffset(o coordinator.Origin, value []byte) error {
	// Both kinds have the same keys, and the values of the older kind are the
	// first version of the newer one's.
	k, v := &m.keys.offset, &m.keys.offsetValue
	if err := m.readKey(k); err != nil {
		return err
	}
	if value == nil {
		m.forgetOffset(k)
		return nil
	}
	m.reader.Reset(value)
	version := m.reader.Int16()
	if err := wire.ReadExactly(&m.reader, v, version); err != nil {
		return err
	}
	m.order++
	c := committed{
		partition: k.Partition, leaderEpoch: v.LeaderEpoch, offset: v.Offset, at: v.CommitTimestamp, expires: v.ExpireTimestamp,
		order: m.order, metadata: v.Metadata, topicID: v.TopicID,
	}
	g := m.found(k.Group, value)
	if o.Producer != nil {
		m.hold(g, k.Topic, c, o.Producer.ID)
		return nil
	}
	m.putOffset(g, k.Topic, c)
	return nil
}

func (m *Machine) putOffset(g *group, topic string, c committed) {
	if g.offsets == nil {
		g.offsets = offsets{}
	}
	m.count(g.offsets.put(topic, c))
}

// hold keeps an offset until its transaction ends.
func (m *Machine) hold(g *group, topic string, c committed, id model.ProducerID) {
	txn := m.pending[id]
	if txn == nil {
		txn = transaction{}
		m.pending[id] = txn
	}
	if txn[g.id] == nil {
		txn[g.id] = offsets{}
		m.countHeld(g, transactionBytes)
	}
	m.countHeld(g, 2*txn[g.id].put(topic, c)) // Once more for open.
	if g.open == nil {
		g.open = open{}
	}
	g.open.add(topic, c.partition, id)
}

func (m *Machine) forgetOffset(k *wire.OffsetCommitRecordKey) {
	g := m.groups[k.Group]
	if g == nil {
		return
	}
	m.order++
	m.count(-g.offsets.remove(k.Topic, k.Partition))
	for _, id := range g.open[k.Topic][k.Partition] {
		m.unhold(g, id, k)
	}
	g.open.clear(k.Topic, k.Partition)
	m.tidy(g)
}

// unhold takes an offset out of a transaction.
func (m *Machine) unhold(g *group, id model.ProducerID, k *wire.OffsetCommitRecordKey) {
	t := m.pending[id]
	o := t[k.Group]
	m.countHeld(g, -2*o.remove(k.Topic, k.Partition))
	if o != nil && len(o) == 0 {
		m.countHeld(g, -transactionBytes)
		delete(t, k.Group)
	}
	if len(t) == 0 {
		delete(m.pending, id)
	}
}

// ApplyMarker implements [coordinator.Machine].
func (m *Machine) ApplyMarker(o coordinator.Origin, commit bool) error {
	txn := m.pending[o.Producer.ID]
	delete(m.pending, o.Producer.ID)
	for id, held := range txn {
		g := m.groups[id]
		if g == nil {
			continue // Its tombstones would have taken the offsets along.
		}
		m.countHeld(g, -transactionBytes-2*held.bytes())
		for topic, list := range held {
			for i := range list.list {
				m.settle(g, topic, &list.list[i], o.Producer.ID, commit)
			}
		}
		m.tidy(g)
	}
	return nil
}

// settle ends the wait of one offset. If something was committed after it, that
// counts: compaction would keep it alone.
func (m *Machine) settle(g *group, topic string, c *committed, id model.ProducerID, commit bool) {
	g.open.remove(topic, c.partition, id)
	if !commit {
		return
	}
	if now := g.offsets.get(topic, c.partition); now == nil || now.order < c.order {
		m.putOffset(g, topic, *c)
	}
}

func (m *Machine) applyClassic(value []byte) error {
	var k wire.GroupMetadataRecordKey
	if err := m.readKey(&k); err != nil {
		return err
	}
	var v *wire.GroupMetadataRecordValue
	if value != nil {
		v = new(wire.GroupMetadataRecordValue)
		if err := readValue(value, v); err != nil {
			return err
		}
	}
	g := m.found(k.Group, value)
	if g == nil {
		return nil
	}
	m.count(recordBytes(v) - recordBytes(g.record))
	g.record = v
	if g.classic != nil && g.classic.isIdle() {
		g.endClassic() // The record says it all.
	}
	m.tidy(g)
	return nil
}

// consumerOf returns the consumer group that a record speaks of, nil if there
// is none and the record is a tombstone.
func (m *Machine) consumerOf(id string, value []byte) (*group, *consumer) {
	g := m.found(id, value)
	if g == nil || g.consumer == nil && value == nil {
		return nil, nil
	}
	if g.consumer == nil {
		g.consumer = newConsumer()
		g.consumer.machine = m
		m.count(g.consumer.counted)
	}
	return g, g.consumer
}

func (m *Machine) applyEpoch(value []byte) error {
	var k wire.ConsumerGroupMetadataRecordKey
	if err := m.readKey(&k); err != nil {
		return err
	}
	var v wire.ConsumerGroupMetadataRecordValue
	if value != nil {
		if err := readValue(value, &v); err != nil {
			return err
		}
	}
	g, c := m.consumerOf(k.GroupID, value)
	switch {
	case c == nil:
	case value != nil:
		c.epoch, c.hash = v.Epoch, v.MetadataHash
	default:
		m.count(-c.counted)
		g.consumer = nil
		m.unwatch(g)
		m.tidy(g)
	}
	return nil
}

func (m *Machine) applyOldTopics(value []byte) error {
	var k wire.ConsumerGroupPartitionMetadataRecordKey
	if err := m.readKey(&k); err != nil {
		return err
	}
	if _, c := m.consumerOf(k.GroupID, value); c != nil {
		c.oldTopics = value != nil
	}
	return nil
}

func (m *Machine) applyTold(value []byte) error {
	var k wire.ConsumerGroupMemberMetadataRecordKey
	if err := m.readKey(&k); err != nil {
		return err
	}
	var v wire.ConsumerGroupMemberMetadataRecordValue
	if value != nil {
		if err := readValue(value, &v); err != nil {
			return err
		}
	}
	_, c := m.consumerOf(k.GroupID, value)
	if c == nil {
		return nil
	}
	if value == nil {
		c.removeMember(k.MemberID)
		return nil
	}
	member := c.copyOf(k.MemberID)
	member.instance, member.rack, member.assignor, member.clientID, member.clientHost = v.InstanceID, v.RackID, v.ServerAssignor, v.ClientID, v.ClientHost
	member.topics, member.regex, member.rebalanceTimeout = unique(v.SubscribedTopicNames), textOf(v.SubscribedTopicRegex), v.RebalanceTimeoutMs
	member.classic = nil
	if told := v.ClassicMemberMetadata; told != nil {
		member.classic = &classicSide{session: told.SessionTimeoutMs}
		for _, p := range told.SupportedProtocols {
			member.classic.protocols = append(member.classic.protocols, wire.JoinGroupRequestProtocol(p))
		}
	}
	c.setMember(member)
	return nil
}

// copyOf returns a member like the one with that id.
func (c *consumer) copyOf(id string) *member {
	old := c.members[id]
	if old == nil {
		return newMember(strings.Clone(id))
	}
	member := *old
	return &member
}

// unique sorts names and leaves each once.
func unique(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

func (m *Machine) applyTargetEpoch(value []byte) error {
	var k wire.ConsumerGroupTargetAssignmentMetadataRecordKey
	if err := m.readKey(&k); err != nil {
		return err
	}
	v := wire.ConsumerGroupTargetAssignmentMetadataRecordValue{AssignmentEpoch: -1}
	if value != nil {
		if err := readValue(value, &v); err != nil {
			return err
		}
	}
	if _, c := m.consumerOf(k.GroupID, value); c != nil {
		c.assignmentEpoch, c.assignedAt = v.AssignmentEpoch, v.AssignmentTimestamp
	}
	return nil
}

func (m *Machine) applyTarget(value []byte) error {
	var k wire.ConsumerGroupTargetAssignmentMemberRecordKey
	if err := m.readKey(&k); err != nil {
		return err
	}
	var v wire.ConsumerGroupTargetAssignmentMemberRecordValue
	if value != nil {
		if err := readValue(value, &v); err != nil {
			return err
		}
	}
	_, c := m.consumerOf(k.GroupID, value)
	if c == nil {
		return nil
	}
	if value == nil {
		c.forgetTarget(k.MemberID)
		return nil
	}
	var target assign.Assignment
	for _, t := range v.TopicPartitions {
		target = append(target, assign.Topic{ID: t.TopicID, Partitions: ascending(t.Partitions)})
	}
	c.setTarget(strings.Clone(k.MemberID), tidyAssignment(target))
	return nil
}

func ascending(list []int32) []int32 {
	slices.Sort(list)
	return slices.Compact(list)
}

// tidyAssignment puts topics in order, each once, and leaves out empty ones.
func tidyAssignment(a assign.Assignment) assign.Assignment {
	slices.SortStableFunc(a, func(x, y assign.Topic) int { return assign.Compare(x.ID, y.ID) })
	a = slices.CompactFunc(a, func(x, y assign.Topic) bool { return x.ID == y.ID })
	return slices.DeleteFunc(a, func(t assign.Topic) bool { return len(t.Partitions) == 0 })
}

func (m *Machine) applyCurrent(value []byte) error {
	var k wire.ConsumerGroupCurrentMemberAssignmentRecordKey
	if err := m.readKey(&k); err != nil {
		return err
	}
	var v wire.ConsumerGroupCurrentMemberAssignmentRecordValue
	if value != nil {
		if err := readValue(value, &v); err != nil {
			return err
		}
	}
	_, c := m.consumerOf(k.GroupID, value)
	if c == nil || value == nil && c.members[k.MemberID] == nil {
		return nil
	}
	member := c.copyOf(k.MemberID)
	if value == nil {
		member.epoch, member.previous, member.assigned, member.revoking = -1, -1, nil, nil
	} else {
		member.epoch, member.previous, member.state = v.MemberEpoch, v.PreviousMemberEpoch, memberState(v.State)
		member.assigned, member.revoking = holdingFrom(v.AssignedPartitions, v.MemberEpoch), holdingFrom(v.PartitionsPendingRevocation, v.MemberEpoch)
	}
	c.setMember(member)
	return nil
}

// holdingFrom reads what a member has. Kafka before 4.4 did not say in which
// epoch it got that: it is the member's then.
func holdingFrom(topics []wire.ConsumerGroupCurrentMemberAssignmentRecordValueTopicPartitions, epoch int32) (h holding) {
	for _, t := range topics {
		list := make([]heldPartition, len(t.Partitions))
		for i, n := range t.Partitions {
			list[i] = heldPartition{n, max(epoch, 0)}
			if len(t.AssignmentEpochs) == len(list) {
				list[i].epoch = t.AssignmentEpochs[i]
			}
		}
		slices.SortStableFunc(list, func(a, b heldPartition) int { return cmp.Compare(a.n, b.n) })
		list = slices.CompactFunc(list, func(a, b heldPartition) bool { return a.n == b.n })
		if len(list) > 0 {
			h = append(h, held{t.TopicID, list})
		}
	}
	slices.SortStableFunc(h, func(a, b held) int { return assign.Compare(a.id, b.id) })
	return slices.CompactFunc(h, func(a, b held) bool { return a.id == b.id })
}

func (m *Machine) applyRegex(value []byte) error {
	var k wire.ConsumerGroupRegularExpressionRecordKey
	if err := m.readKey(&k); err != nil {
		return err
	}
	var r *resolved
	if value != nil {
		var v wire.ConsumerGroupRegularExpressionRecordValue
		if err := readValue(value, &v); err != nil {
			return err
		}
		r = &resolved{unique(v.Topics), v.Version, v.Timestamp}
	}
	if _, c := m.consumerOf(k.GroupID, value); c != nil {
		c.setRegex(strings.Clone(k.RegularExpression), r)
	}
	return nil
}
