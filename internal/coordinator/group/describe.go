package group

import (
	"slices"
	"strings"

	"github.com/barnabas-log/barnabas/internal/coordinator/group/assign"
	"github.com/barnabas-log/barnabas/wire"
)

// Types of groups, as Kafka names them.
const (
	classicType  = "classic"
	consumerType = "consumer"
)

// dead is the state of what is not a classic group.
const dead = "Dead"

// notFoundVersion is the version of DescribeGroups from which a group that is
// not known is an error.
const notFoundVersion = 6

// list takes a ListGroups.
func (m *Machine) list(body *wire.ListGroupsRequest) *wire.ListGroupsResponse {
	r := wire.NewListGroupsResponse()
	wanted := func(filter []string, value string) bool {
		return len(filter) == 0 || slices.ContainsFunc(filter, func(f string) bool { return strings.EqualFold(strings.TrimSpace(f), value) })
	}
	for _, id := range sortedKeys(m.groups) {
		listed := m.groups[id].listed()
		if wanted(body.StatesFilter, listed.GroupState) && wanted(body.TypesFilter, listed.GroupType) {
			r.Groups = append(r.Groups, listed)
		}
	}
	return r
}

func (g *group) listed() wire.ListGroupsResponseListedGroup {
	if g.consumer != nil {
		return wire.ListGroupsResponseListedGroup{GroupID: g.id, ProtocolType: consumerProtocol, GroupState: g.consumer.state(), GroupType: consumerType}
	}
	state, protocolType := g.classicState()
	return wire.ListGroupsResponseListedGroup{GroupID: g.id, ProtocolType: protocolType, GroupState: state.String(), GroupType: classicType}
}

// classicState is the state and the protocol type of a classic group.
func (g *group) classicState() (classicState, string) {
	switch {
	case g.classic != nil:
		return g.classic.state, g.classic.protocolType
	case g.record != nil:
		return empty, g.record.ProtocolType
	}
	return empty, ""
}

// describe takes a DescribeGroups.
func (m *Machine) describe(q *Request, body *wire.DescribeGroupsRequest) *wire.DescribeGroupsResponse {
	r := wire.NewDescribeGroupsResponse()
	r.Groups = make([]wire.DescribeGroupsResponseDescribedGroup, len(body.Groups))
	for i, id := range body.Groups {
		out := &r.Groups[i]
		out.Reset()
		out.GroupID = id
		g := m.group(id)
		if g != nil && g.consumer == nil {
			g.describeClassic(out)
			continue
		}
		out.GroupState = dead
		if q.Version >= notFoundVersion {
			no := notFound(id)
			if g != nil {
				no = refuse(wire.GroupIDNotFound, "Group %s is not a classic group.", id)
			}
			out.ErrorCode, out.ErrorMessage = int16(no.code), &no.message
		}
	}
	return r
}

func notFound(id string) *refusal { return refuse(wire.GroupIDNotFound, "Group %s not found.", id) }

func (g *group) describeClassic(out *wire.DescribeGroupsResponseDescribedGroup) {
	state, protocolType := g.classicState()
	out.GroupState, out.ProtocolType = state.String(), protocolType
	c := g.classic
	if c == nil {
		return
	}
	if state == settled {
		out.ProtocolData = textOf(c.protocol)
	}
	for _, id := range c.ids() {
		member := c.members[id]
		described := wire.DescribeGroupsResponseDescribedGroupMember{
			MemberID: id, GroupInstanceID: member.instance, ClientID: member.clientID, ClientHost: member.clientHost, MemberAssignment: member.assignment,
		}
		if state == settled {
			described.MemberMetadata = member.metadata(out.ProtocolData)
		}
		out.Members = append(out.Members, described)
	}
}

// deleteGroups takes a DeleteGroups.
func (m *Machine) deleteGroups(body *wire.DeleteGroupsRequest) *wire.DeleteGroupsResponse {
	r := wire.NewDeleteGroupsResponse()
	seen := map[string]bool{}
	for _, id := range body.GroupsNames {
		if seen[id] {
			continue // Kafka answers each once.
		}
		seen[id] = true
		r.Results = append(r.Results, wire.DeleteGroupsResponseDeletableGroupResult{GroupID: id, ErrorCode: int16(m.deleteGroup(id))})
	}
	return r
}

func (m *Machine) deleteGroup(id string) wire.ErrorCode {
	g := m.group(id)
	switch {
	case g == nil:
		return wire.GroupIDNotFound
	case !g.isEmpty():
		return wire.NonEmptyGroup
	}
	m.forgetOffsets(g)
	m.forget(g)
	return wire.None
}

// consumerDescribe takes a ConsumerGroupDescribe.
func (m *Machine) consumerDescribe(body *wire.ConsumerGroupDescribeRequest) *wire.ConsumerGroupDescribeResponse {
	r := wire.NewConsumerGroupDescribeResponse()
	r.Groups = make([]wire.ConsumerGroupDescribeResponseDescribedGroup, len(body.GroupIDs))
	for i, id := range body.GroupIDs {
		out := &r.Groups[i]
		out.Reset()
		out.GroupID = id
		g := m.group(id)
		switch {
		case !m.consumersEnabled():
			out.ErrorCode = int16(wire.UnsupportedVersion)
		case id == "":
			out.ErrorCode = int16(wire.InvalidGroupID)
		case g == nil:
			no := notFound(id)
			out.ErrorCode, out.ErrorMessage = int16(no.code), &no.message
		case g.consumer == nil:
			no := notConsumer(id)
			out.ErrorCode, out.ErrorMessage = int16(no.code), &no.message
		default:
			m.describeConsumer(g.consumer, out)
		}
	}
	return r
}

func notConsumer(id string) *refusal {
	return refuse(wire.GroupIDNotFound, "Group %s is not a consumer group.", id)
}

func (m *Machine) describeConsumer(c *consumer, out *wire.ConsumerGroupDescribeResponseDescribedGroup) {
	out.GroupState, out.GroupEpoch, out.AssignmentEpoch = c.state(), c.epoch, c.assignmentEpoch
	out.AssignorName = m.assignorOf(c.assignors)
	for _, id := range c.ids() {
		member := c.members[id]
		var described wire.ConsumerGroupDescribeResponseMember
		described.Reset()
		described.MemberID, described.InstanceID, described.RackID, described.MemberEpoch = id, member.instance, member.rack, member.epoch
		described.ClientID, described.ClientHost, described.SubscribedTopicNames = member.clientID, member.clientHost, member.topics
		regex := member.regex
		described.SubscribedTopicRegex = &regex
		described.Assignment.TopicPartitions = m.describeHeld(member)
		described.TargetAssignment.TopicPartitions = m.describeTarget(c.targets[id])
		if described.MemberType = 1; member.classic != nil {
			described.MemberType = 0
		}
		out.Members = append(out.Members, described)
	}
}

// describeHeld is all that a member has, also what it has to give up.
func (m *Machine) describeHeld(member *member) []wire.ConsumerGroupDescribeResponseTopicPartitions {
	var all assign.Assignment
	for _, h := range []holding{member.assigned, member.revoking} {
		for _, t := range h {
			i := slices.IndexFunc(all, func(o assign.Topic) bool { return o.ID == t.id })
			if i < 0 {
				i = len(all)
				all = append(all, assign.Topic{ID: t.id})
			}
			for _, p := range t.partitions {
				all[i].Partitions = append(all[i].Partitions, p.n)
			}
		}
	}
	for i := range all {
		slices.Sort(all[i].Partitions)
	}
	return m.describeTarget(tidyAssignment(all))
}

// describeTarget names the topics of an assignment. Those that are gone have no
// names.
func (m *Machine) describeTarget(a assign.Assignment) []wire.ConsumerGroupDescribeResponseTopicPartitions {
	var list []wire.ConsumerGroupDescribeResponseTopicPartitions
	for _, t := range a {
		if topic := m.image.TopicByID(t.ID); topic != nil {
			list = append(list, wire.ConsumerGroupDescribeResponseTopicPartitions{TopicID: t.ID, TopicName: topic.Name, Partitions: t.Partitions})
		}
	}
	return list
}
