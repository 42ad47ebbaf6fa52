package group

import (
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/wire"
)

// groupsVersion is the version of OffsetFetch from which it names several groups.
const groupsVersion = 8

// topErrorVersion is the version of OffsetFetch from which a group has an error
// of its own.
const topErrorVersion = 2

// noOffset is what a partition without a committed offset is said to have.
const noOffset = -1

// fetch takes an OffsetFetch, of one group or several.
func (m *Machine) fetch(q *Request, body *wire.OffsetFetchRequest) *wire.OffsetFetchResponse {
	r := wire.NewOffsetFetchResponse()
	if q.Version >= groupsVersion {
		r.Groups = make([]wire.OffsetFetchResponseGroup, len(body.Groups))
		for i := range body.Groups {
			m.fetchGroup(q.Version, &body.Groups[i], body.RequireStable, &r.Groups[i])
		}
		return r
	}
	in := wire.OffsetFetchRequestGroup{GroupID: body.GroupID, MemberEpoch: -1}
	if body.Topics != nil {
		in.Topics = make([]wire.OffsetFetchRequestTopics, len(body.Topics))
		for i, t := range body.Topics {
			in.Topics[i] = wire.OffsetFetchRequestTopics{Name: t.Name, PartitionIndexes: t.PartitionIndexes}
		}
	}
	var out wire.OffsetFetchResponseGroup
	m.fetchGroup(q.Version, &in, body.RequireStable, &out)
	r.ErrorCode = out.ErrorCode
	r.Topics = make([]wire.OffsetFetchResponseTopic, len(out.Topics))
	for i, t := range out.Topics {
		r.Topics[i] = wire.OffsetFetchResponseTopic{Name: t.Name, Partitions: make([]wire.OffsetFetchResponsePartition, len(t.Partitions))}
		for j, p := range t.Partitions {
			r.Topics[i].Partitions[j] = wire.OffsetFetchResponsePartition(p)
		}
	}
	return r
}

func (m *Machine) fetchGroup(version int16, in *wire.OffsetFetchRequestGroup, stable bool, out *wire.OffsetFetchResponseGroup) {
	out.GroupID = in.GroupID
	g := m.group(in.GroupID)
	if code := g.mayFetch(in); code != wire.None {
		m.fetchError(version, in, out, code)
		return
	}
	var held open
	if stable && g != nil {
		held = g.open
	}
	if in.Topics == nil {
		if g != nil {
			out.Topics = m.fetchAll(version, g, held)
		}
		return
	}
	var refused []wire.OffsetFetchResponseTopics
	for i := range in.Topics {
		topic := &in.Topics[i]
		name := topic.Name
		if version >= fetchIDVersion {
			t := m.image.TopicByID(topic.TopicID)
			if t == nil {
				refused = append(refused, fetched(topic, func(int32) wire.OffsetFetchResponsePartitions { return unknownOffset(wire.UnknownTopicID) }))
				continue
			}
			name = t.Name
		}
		out.Topics = append(out.Topics, fetched(topic, func(n int32) wire.OffsetFetchResponsePartitions {
			var c *committed
			if g != nil {
				c = g.offsets.get(name, n)
			}
			return offsetAnswer(c, held.has(name, n), topic.TopicID)
		}))
	}
	out.Topics = append(out.Topics, refused...) // Kafka has them last.
}

// fetched answers each partition of a topic.
func fetched(in *wire.OffsetFetchRequestTopics, of func(partition int32) wire.OffsetFetchResponsePartitions) wire.OffsetFetchResponseTopics {
	out := wire.OffsetFetchResponseTopics{Name: in.Name, TopicID: in.TopicID, Partitions: make([]wire.OffsetFetchResponsePartitions, len(in.PartitionIndexes))}
	for i, n := range in.PartitionIndexes {
		out.Partitions[i] = of(n)
		out.Partitions[i].PartitionIndex = n
	}
	return out
}

func unknownOffset(code wire.ErrorCode) wire.OffsetFetchResponsePartitions {
	none := ""
	return wire.OffsetFetchResponsePartitions{CommittedOffset: noOffset, CommittedLeaderEpoch: -1, Metadata: &none, ErrorCode: int16(code)}
}

// offsetAnswer is what there is to say of one partition. Offsets of another topic
// of that name are not this one's.
func offsetAnswer(c *committed, held bool, id wire.UUID) wire.OffsetFetchResponsePartitions {
	switch {
	case held:
		return unknownOffset(wire.UnstableOffsetCommit)
	case c == nil || !c.topicID.IsZero() && !id.IsZero() && c.topicID != id:
		return unknownOffset(wire.None)
	}
	metadata := c.metadata
	return wire.OffsetFetchResponsePartitions{CommittedOffset: c.offset, CommittedLeaderEpoch: c.leaderEpoch, Metadata: &metadata}
}

// fetchAll is all that a group has committed.
func (m *Machine) fetchAll(version int16, g *group, held open) (list []wire.OffsetFetchResponseTopics) {
	for _, name := range g.offsets.topics() {
		out := wire.OffsetFetchResponseTopics{Name: name}
		if version >= fetchIDVersion {
			t := m.image.Topic(name)
			if t == nil {
				continue // It has no id to be named by.
			}
			out.Name, out.TopicID = "", t.ID
		}
		sorted := g.offsets[name].sorted()
		for i := range sorted {
			p := offsetAnswer(&sorted[i], held.has(name, sorted[i].partition), wire.UUID{})
			p.PartitionIndex = sorted[i].partition
			out.Partitions = append(out.Partitions, p)
		}
		list = append(list, out)
	}
	return list
}

// mayFetch checks who asks, if that is said.
func (g *group) mayFetch(in *wire.OffsetFetchRequestGroup) wire.ErrorCode {
	if g == nil || g.consumer == nil || in.MemberID == nil && in.MemberEpoch < 0 {
		return wire.None
	}
	member := g.consumer.members[textOf(in.MemberID)]
	switch {
	case member == nil:
		return wire.UnknownMemberID
	case member.epoch != in.MemberEpoch:
		return member.stale()
	}
	return wire.None
}

func (m *Machine) fetchError(version int16, in *wire.OffsetFetchRequestGroup, out *wire.OffsetFetchResponseGroup, code wire.ErrorCode) {
	if version >= topErrorVersion {
		out.ErrorCode = int16(code)
		return
	}
	for i := range in.Topics {
		out.Topics = append(out.Topics, fetched(&in.Topics[i], func(int32) wire.OffsetFetchResponsePartitions { return unknownOffset(code) }))
	}
}

// deleteOffsets takes an OffsetDelete.
func (m *Machine) deleteOffsets(body *wire.OffsetDeleteRequest) *wire.OffsetDeleteResponse {
	r := wire.NewOffsetDeleteResponse()
	g := m.group(body.GroupID)
	if code := g.mayDeleteOffsets(body.GroupID); code != wire.None {
		r.ErrorCode = int16(code)
		return r
	}
	r.Topics = make([]wire.OffsetDeleteResponseTopic, len(body.Topics))
	for i := range body.Topics {
		in, out := &body.Topics[i], &r.Topics[i]
		t := m.image.Topic(in.Name)
		out.Name, out.Partitions = in.Name, make([]wire.OffsetDeleteResponsePartition, len(in.Partitions))
		for j, p := range in.Partitions {
			out.Partitions[j] = wire.OffsetDeleteResponsePartition{
				PartitionIndex: p.PartitionIndex, ErrorCode: int16(m.deleteOffset(g, t, in.Name, p.PartitionIndex)),
			}
		}
	}
	return r
}

func (g *group) mayDeleteOffsets(id string) wire.ErrorCode {
	switch {
	case id == "":
		return wire.InvalidGroupID
	case g == nil:
		return wire.GroupIDNotFound
	case g.consumer == nil && g.classic != nil && g.classic.state != empty && !g.classic.usesConsumerProtocol():
		return wire.NonEmptyGroup // Nobody knows what its members subscribe to.
	}
	return wire.None
}

func (m *Machine) deleteOffset(g *group, t *metadata.Topic, name string, partition int32) wire.ErrorCode {
	switch {
	case t == nil || !hasPartition(t, partition):
		return wire.UnknownTopicOrPartition
	case g.isSubscribed(name):
		return wire.GroupSubscribedToTopic
	case g.offsets.get(name, partition) != nil || g.open.has(name, partition):
		m.script.forgetOffset(g.id, name, partition)
	}
	return wire.None
}

// isSubscribed reports whether the group has members that may want a topic.
func (g *group) isSubscribed(topic string) bool {
	switch {
	case g.consumer != nil:
		_, ok := g.consumer.subscribers[topic]
		return ok
	case g.classic != nil:
		return g.classic.isSubscribed(topic)
	}
	return false // It has no members.
}
