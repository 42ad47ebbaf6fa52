package group

import (
	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/internal/coordinator/group/assign"
	"github.com/barnabas-log/barnabas/wire"
)

// Versions in which Kafka 4.4 writes values. All others are of version 0.
const (
	classicVersion       = 3
	offsetVersion        = 4
	offsetExpiresVersion = 1 // The only one that has a time of expiry.
)

// script collects the records that follow from an input. Keys and values live
// in its memory, until the next input.
type script struct {
	records []coordinator.Record
	memory  []byte
	bytes   int // Of keys and values, and what each record takes beyond.
	largest int // Of these.
}

// recordOverhead is the most that a record takes in a batch beyond key and value.
const recordOverhead = 32

func (s *script) reset() { *s = script{records: s.records[:0], memory: s.memory[:0]} }

// keptMemory is how much memory for records is used again.
const keptMemory = 256 << 10

// mark is where the script is; rewind forgets what was written since.
func (s *script) mark() script { return *s }

func (s *script) rewind(to script) {
	s.records, s.bytes, s.largest = s.records[:len(to.records)], to.bytes, to.largest
}

// write adds a record. A nil value is a tombstone.
func (s *script) write(key wire.CoordinatorKey, value wire.Message, version int16) {
	at := len(s.memory)
	var err error
	if s.memory, err = wire.AppendCoordinatorKey(s.memory, key); err != nil {
		panic("group: encode a key: " + err.Error()) // All its names came from messages.
	}
	r := coordinator.Record{Key: s.memory[at:len(s.memory):len(s.memory)]}
	if value != nil {
		at = len(s.memory)
		if s.memory, err = wire.AppendCoordinatorValue(s.memory, value, version); err != nil {
			panic("group: encode a value: " + err.Error())
		}
		r.Value = s.memory[at:len(s.memory):len(s.memory)]
	}
	s.add(r)
}

func (s *script) add(r coordinator.Record) {
	s.records = append(s.records, r)
	size := len(r.Key) + len(r.Value) + recordOverhead
	s.bytes, s.largest = s.bytes+size, max(s.largest, size)
}

// offset records a committed offset. It is written by hand, because it is
// written more often than all others.
func (s *script) offset(group, topic string, c *committed) {
	key := s.offsetKey(group, topic, c.partition)
	at := len(s.memory)
	b := s.memory
	if c.expires >= 0 {
		b = wire.AppendInt16(b, offsetExpiresVersion)
		b = wire.AppendInt64(b, c.offset)
		b = wire.AppendString(b, c.metadata)
		b = wire.AppendInt64(b, c.at)
		b = wire.AppendInt64(b, c.expires)
	} else {
		b = wire.AppendInt16(b, offsetVersion)
		b = wire.AppendInt64(b, c.offset)
		b = wire.AppendInt32(b, c.leaderEpoch)
		b = wire.AppendCompactString(b, c.metadata)
		b = wire.AppendInt64(b, c.at)
		if c.topicID.IsZero() {
			b = wire.AppendNoTags(b)
		} else {
			b = wire.AppendUvarint(b, 1)
			b = wire.AppendTag(b, 0, len(c.topicID))
			b = wire.AppendUUID(b, c.topicID)
		}
	}
	s.memory = b
	s.add(coordinator.Record{Key: key, Value: b[at:len(b):len(b)]})
}

func (s *script) offsetKey(group, topic string, partition int32) []byte {
	at := len(s.memory)
	b := wire.AppendInt16(s.memory, offsetRecord)
	b = wire.AppendString(b, group)
	b = wire.AppendString(b, topic)
	b = wire.AppendInt32(b, partition)
	s.memory = b
	return b[at:len(b):len(b)]
}

// forgetOffset records that there is no committed offset.
func (s *script) forgetOffset(group, topic string, partition int32) {
	s.add(coordinator.Record{Key: s.offsetKey(group, topic, partition)})
}

// classic records the state of a classic group.
func (s *script) classic(group string, v *wire.GroupMetadataRecordValue) {
	s.write(&wire.GroupMetadataRecordKey{Group: group}, v, classicVersion)
}

func (s *script) forgetClassic(group string) {
	s.write(&wire.GroupMetadataRecordKey{Group: group}, nil, 0)
}

// groupEpoch records a consumer group's epoch, and the hash of its topics.
func (s *script) groupEpoch(group string, epoch int32, hash int64) {
	s.write(&wire.ConsumerGroupMetadataRecordKey{GroupID: group}, &wire.ConsumerGroupMetadataRecordValue{Epoch: epoch, MetadataHash: hash}, 0)
}

func (s *script) forgetOldTopics(group string) {
	s.write(&wire.ConsumerGroupPartitionMetadataRecordKey{GroupID: group}, nil, 0)
}

// told records what a member said.
func (s *script) told(group string, m *member) {
	v := &wire.ConsumerGroupMemberMetadataRecordValue{
		InstanceID: m.instance, RackID: m.rack, ClientID: m.clientID, ClientHost: m.clientHost, SubscribedTopicNames: m.topics,
		SubscribedTopicRegex: &m.regex, RebalanceTimeoutMs: m.rebalanceTimeout, ServerAssignor: m.assignor,
	}
	if m.classic != nil {
		v.ClassicMemberMetadata = &wire.ConsumerGroupMemberMetadataRecordValueClassicMemberMetadata{SessionTimeoutMs: m.classic.session}
		for _, p := range m.classic.protocols {
			v.ClassicMemberMetadata.SupportedProtocols = append(v.ClassicMemberMetadata.SupportedProtocols,
				wire.ConsumerGroupMemberMetadataRecordValueClassicProtocol(p))
		}
	}
	s.write(&wire.ConsumerGroupMemberMetadataRecordKey{GroupID: group, MemberID: m.id}, v, 0)
}

func (s *script) forgetTold(group, id string) {
	s.write(&wire.ConsumerGroupMemberMetadataRecordKey{GroupID: group, MemberID: id}, nil, 0)
}

// target records what a member should have.
func (s *script) target(group, id string, a assign.Assignment) {
	v := &wire.ConsumerGroupTargetAssignmentMemberRecordValue{TopicPartitions: make([]wire.ConsumerGroupTargetAssignmentMemberRecordValueTopicPartition, len(a))}
	for i, t := range a {
		v.TopicPartitions[i] = wire.ConsumerGroupTargetAssignmentMemberRecordValueTopicPartition{TopicID: t.ID, Partitions: t.Partitions}
	}
	s.write(&wire.ConsumerGroupTargetAssignmentMemberRecordKey{GroupID: group, MemberID: id}, v, 0)
}

func (s *script) forgetTarget(group, id string) {
	s.write(&wire.ConsumerGroupTargetAssignmentMemberRecordKey{GroupID: group, MemberID: id}, nil, 0)
}

// targetEpoch records of which epoch the targets are, and when they were made.
func (s *script) targetEpoch(group string, epoch int32, at int64) {
	v := &wire.ConsumerGroupTargetAssignmentMetadataRecordValue{AssignmentEpoch: epoch, AssignmentTimestamp: at}
	s.write(&wire.ConsumerGroupTargetAssignmentMetadataRecordKey{GroupID: group}, v, 0)
}

func (s *script) forgetTargetEpoch(group string) {
	s.write(&wire.ConsumerGroupTargetAssignmentMetadataRecordKey{GroupID: group}, nil, 0)
}

// current records what a member has.
func (s *script) current(group string, m *member) {
	v := &wire.ConsumerGroupCurrentMemberAssignmentRecordValue{
		MemberEpoch: m.epoch, PreviousMemberEpoch: m.previous, State: int8(m.state),
		AssignedPartitions: currentTopics(m.assigned), PartitionsPendingRevocation: currentTopics(m.revoking),
	}
	s.write(&wire.ConsumerGroupCurrentMemberAssignmentRecordKey{GroupID: group, MemberID: m.id}, v, 0)
}

func currentTopics(h holding) []wire.ConsumerGroupCurrentMemberAssignmentRecordValueTopicPartitions {
	topics := make([]wire.ConsumerGroupCurrentMemberAssignmentRecordValueTopicPartitions, len(h))
	for i, t := range h {
		out := &topics[i]
		out.TopicID = t.id
		out.Partitions, out.AssignmentEpochs = make([]int32, len(t.partitions)), make([]int32, len(t.partitions))
		for j, p := range t.partitions {
			out.Partitions[j], out.AssignmentEpochs[j] = p.n, p.epoch
		}
	}
	return topics
}

func (s *script) forgetCurrent(group, id string) {
	s.write(&wire.ConsumerGroupCurrentMemberAssignmentRecordKey{GroupID: group, MemberID: id}, nil, 0)
}

// forgetMember records that a member is gone.
func (s *script) forgetMember(group, id string) {
	s.forgetCurrent(group, id)
	s.forgetTarget(group, id)
	s.forgetTold(group, id)
}

// regex records what a regular expression matches.
func (s *script) regex(group, regex string, r *resolved) {
	v := &wire.ConsumerGroupRegularExpressionRecordValue{Topics: r.topics, Version: r.version, Timestamp: r.at}
	s.write(&wire.ConsumerGroupRegularExpressionRecordKey{GroupID: group, RegularExpression: regex}, v, 0)
}

func (s *script) forgetRegex(group, regex string) {
	s.write(&wire.ConsumerGroupRegularExpressionRecordKey{GroupID: group, RegularExpression: regex}, nil, 0)
}

// forgetConsumer records that a consumer group is gone, members and all. One of
// them may have been replaced by another, of whom the records before speak.
func (s *script) forgetConsumer(group string, c *consumer, replaced, by string) {
	ids := c.ids()
	for i, id := range ids {
		if id == replaced && replaced != by {
			ids[i] = by
		}
	}
	for _, id := range ids {
		s.forgetCurrent(group, id)
	}
	for _, id := range ids {
		s.forgetTarget(group, id)
	}
	s.forgetTargetEpoch(group)
	for _, id := range ids {
		s.forgetTold(group, id)
	}
	for _, regex := range sortedKeys(c.regexes) {
		s.forgetRegex(group, regex)
	}
	s.forgetOldTopics(group)
	s.write(&wire.ConsumerGroupMetadataRecordKey{GroupID: group}, nil, 0)
}
