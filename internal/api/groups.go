package api

import (
	"net"
	"slices"
	"strings"

	"github.com/barnabas-log/barnabas/internal/coordinator/group"
	"github.com/barnabas-log/barnabas/wire"
)

// groupQuestion is what the shard of a group is asked.
func (s *session) groupQuestion(c *call, body wire.Request) group.Request {
	return group.Request{Body: body, Version: c.Version, ClientID: c.client, ClientHost: clientHost(s.conn.RemoteAddr()), Bytes: readBytes * c.bytes}
}

// clientHost is an address as Kafka shows it.
func clientHost(a net.Addr) string {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return "/" + tcp.IP.String()
	}
	return "/" + a.String()
}

// askGroup gives a request to the shard of a group. refused sets the error of
// the answer r; some APIs have it elsewhere.
func (s *session) askGroup(c *call, id string, body wire.Request, refused func(wire.ErrorCode) wire.Response) {
	shard := s.groupShard(id)
	if shard < 0 {
		s.reply(c, refused(wire.NotCoordinator))
		return
	}
	s.ask(c, s.opts.Groups, shard, s.groupQuestion(c, body), refused)
}

func (s *session) joinGroup(c *call, q *wire.JoinGroupRequest) {
	member, version := strings.Clone(q.MemberID), c.Version // It may wait for long, and holds no frame.
	s.askGroup(c, q.GroupID, q, func(e wire.ErrorCode) wire.Response {
		r := wire.NewJoinGroupResponse()
		r.ErrorCode, r.MemberID = int16(e), member
		if version < 7 {
			r.ProtocolName = new("")
		}
		return r
	})
}

func (s *session) syncGroup(c *call, q *wire.SyncGroupRequest) {
	s.askGroup(c, q.GroupID, q, func(e wire.ErrorCode) wire.Response {
		r := wire.NewSyncGroupResponse()
		r.ErrorCode = int16(e)
		return r
	})
}

func (s *session) heartbeat(c *call, q *wire.HeartbeatRequest) {
	s.askGroup(c, q.GroupID, q, func(e wire.ErrorCode) wire.Response {
		r := wire.NewHeartbeatResponse()
		r.ErrorCode = int16(e)
		return r
	})
}

func (s *session) leaveGroup(c *call, q *wire.LeaveGroupRequest) {
	s.askGroup(c, q.GroupID, q, func(e wire.ErrorCode) wire.Response {
		r := wire.NewLeaveGroupResponse()
		r.ErrorCode = int16(e)
		return r
	})
}

func (s *session) consumerGroupHeartbeat(c *call, q *wire.ConsumerGroupHeartbeatRequest) {
	s.askGroup(c, q.GroupID, q, func(e wire.ErrorCode) wire.Response {
		r := wire.NewConsumerGroupHeartbeatResponse()
		r.ErrorCode = int16(e)
		return r
	})
}

func (s *session) offsetCommit(c *call, q *wire.OffsetCommitRequest) {
	s.askGroup(c, q.GroupID, q, func(e wire.ErrorCode) wire.Response {
		r := wire.NewOffsetCommitResponse()
		for i := range q.Topics {
			x := wire.Extend(&r.Topics)
			x.Name, x.TopicID = q.Topics[i].Name, q.Topics[i].TopicID
			for j := range q.Topics[i].Partitions {
				y := wire.Extend(&x.Partitions)
				y.PartitionIndex, y.ErrorCode = q.Topics[i].Partitions[j].PartitionIndex, int16(e)
			}
		}
		return r
	})
}

func (s *session) offsetDelete(c *call, q *wire.OffsetDeleteRequest) {
	s.askGroup(c, q.GroupID, q, func(e wire.ErrorCode) wire.Response {
		r := wire.NewOffsetDeleteResponse()
		r.ErrorCode = int16(e)
		return r
	})
}

// firstBatchedFetch is the first OffsetFetch of several groups.
const firstBatchedFetch = 8

func (s *session) offsetFetch(c *call, q *wire.OffsetFetchRequest) {
	if c.Version >= firstBatchedFetch {
		s.offsetFetches(c, q)
		return
	}
	var seen places[offsetPlace]
	for i := range q.Topics {
		t := &q.Topics[i]
		t.PartitionIndexes = onceEach(&seen, offsetPlace{topic: t.Name}, t.PartitionIndexes)
	}
	version := c.Version // The call is another's by the time the shard answers.
	s.askGroup(c, q.GroupID, q, func(e wire.ErrorCode) wire.Response {
		r := wire.NewOffsetFetchResponse()
		r.ErrorCode = int16(e)
		if version >= 2 {
			return r
		}
		for i := range q.Topics { // There is no other place for the error.
			x := wire.Extend(&r.Topics)
			x.Name = q.Topics[i].Name
			for _, p := range q.Topics[i].PartitionIndexes {
				y := wire.Extend(&x.Partitions)
				y.PartitionIndex, y.CommittedOffset, y.Metadata, y.ErrorCode = p, -1, new(""), int16(e)
			}
		}
		return r
	})
}

// offsetPlace is a partition of which an offset is wanted.
type offsetPlace struct {
	topic string
	id    wire.UUID
	index int32
}

// onceEach drops partitions of a topic that were named before. Each is answered
// with as much as its group has ever said of it, for four bytes.
func onceEach(seen *places[offsetPlace], of offsetPlace, partitions []int32) []int32 {
	return slices.DeleteFunc(partitions, func(index int32) bool {
		of.index = index
		_, isNew := seen.at(of)
		return !isNew
	})
}

// oneEach is a request that names each group once, and each partition of it.
func oneEach(groups []wire.OffsetFetchRequestGroup) []wire.OffsetFetchRequestGroup {
	var seen places[string]
	groups = slices.DeleteFunc(groups, func(g wire.OffsetFetchRequestGroup) bool {
		_, isNew := seen.at(g.GroupID)
		return !isNew
	})
	for i := range groups {
		var seen places[offsetPlace]
		for j := range groups[i].Topics {
			t := &groups[i].Topics[j]
			t.PartitionIndexes = onceEach(&seen, offsetPlace{topic: t.Name, id: t.TopicID}, t.PartitionIndexes)
		}
	}
	return groups
}

// offsetFetches asks the shard of each group.
func (s *session) offsetFetches(c *call, q *wire.OffsetFetchRequest) {
	q.Groups = oneEach(q.Groups)
	parts, r := s.byShard(len(q.Groups), func(i int) string { return q.Groups[i].GroupID }), wire.NewOffsetFetchResponse()
	for i := range q.Groups {
		x := wire.Extend(&r.Groups)
		x.GroupID, x.ErrorCode = q.Groups[i].GroupID, int16(wire.NotCoordinator)
	}
	for i := range parts {
		one := wire.NewOffsetFetchRequest()
		one.RequireStable = q.RequireStable
		for _, at := range parts[i].at {
			one.Groups = append(one.Groups, q.Groups[at])
		}
		parts[i].in = s.groupQuestion(c, one)
	}
	s.gather(c, parts, func(p part, got any, e wire.ErrorCode) {
		for n, at := range p.at {
			if r.Groups[at].ErrorCode = int16(e); e == wire.None {
				r.Groups[at] = got.(*wire.OffsetFetchResponse).Groups[n]
			}
		}
	}, func() wire.Response { return r })
}

// part is the share of one shard in a request of several groups.
type part struct {
	shard int32
	at    []int // Which groups of the request.
	in    any
}

// byShard sorts the groups of a request by shard. Groups without one, because
// there is no topic of offsets, are in no part.
func (s *session) byShard(n int, id func(i int) string) (parts []part) {
	var seen places[int32]
	for i := range n {
		shard := s.groupShard(id(i))
		if shard < 0 {
			continue
		}
		at, isNew := seen.at(shard)
		if isNew {
			parts = append(parts, part{shard: shard})
		}
		parts[at].at = append(parts[at].at, i)
	}
	return parts
}

// gather asks all parts, hands what they answer to take, and answers.
func (s *session) gather(c *call, parts []part, take func(p part, got any, e wire.ErrorCode), whole func() wire.Response) {
	questions := make([]question, 0, len(parts))
	for _, p := range parts {
		questions = append(questions, question{p.shard, p.in})
	}
	s.askAll(c, s.opts.Groups, questions, func(got []any, errs []error) wire.Response {
		for i, p := range parts {
			take(p, got[i], code(errs[i]))
		}
		return whole()
	})
}

// groupOperations are what everybody may do with a group while there are no
// ACLs, by Kafka's numbers: read, delete, describe, and its configs.
const groupOperations = 1<<3 | 1<<6 | 1<<8 | 1<<10 | 1<<11

func (s *session) describeGroups(c *call, q *wire.DescribeGroupsRequest) {
	q.Groups = unique(q.Groups)
	parts, r := s.byShard(len(q.Groups), func(i int) string { return q.Groups[i] }), wire.NewDescribeGroupsResponse()
	for i := range q.Groups {
		x := wire.Extend(&r.Groups)
		x.GroupID, x.ErrorCode = q.Groups[i], int16(wire.NotCoordinator)
	}
	for i := range parts {
		one := wire.NewDescribeGroupsRequest()
		for _, at := range parts[i].at {
			one.Groups = append(one.Groups, q.Groups[at])
		}
		parts[i].in = s.groupQuestion(c, one)
	}
	s.gather(c, parts, func(p part, got any, e wire.ErrorCode) {
		for n, at := range p.at {
			if r.Groups[at].ErrorCode = int16(e); e != wire.None {
				continue
			}
			r.Groups[at] = got.(*wire.DescribeGroupsResponse).Groups[n]
			if q.IncludeAuthorizedOperations && r.Groups[at].ErrorCode == 0 {
				r.Groups[at].AuthorizedOperations = groupOperations
			}
		}
	}, func() wire.Response { return r })
}

func (s *session) consumerGroupDescribe(c *call, q *wire.ConsumerGroupDescribeRequest) {
	q.GroupIDs = unique(q.GroupIDs)
	parts, r := s.byShard(len(q.GroupIDs), func(i int) string { return q.GroupIDs[i] }), wire.NewConsumerGroupDescribeResponse()
	for i := range q.GroupIDs {
		x := wire.Extend(&r.Groups)
		x.GroupID, x.ErrorCode = q.GroupIDs[i], int16(wire.NotCoordinator)
	}
	for i := range parts {
		one := wire.NewConsumerGroupDescribeRequest()
		for _, at := range parts[i].at {
			one.GroupIDs = append(one.GroupIDs, q.GroupIDs[at])
		}
		parts[i].in = s.groupQuestion(c, one)
	}
	s.gather(c, parts, func(p part, got any, e wire.ErrorCode) {
		for n, at := range p.at {
			if r.Groups[at].ErrorCode = int16(e); e != wire.None {
				continue
			}
			r.Groups[at] = got.(*wire.ConsumerGroupDescribeResponse).Groups[n]
			if q.IncludeAuthorizedOperations && r.Groups[at].ErrorCode == 0 {
				r.Groups[at].AuthorizedOperations = groupOperations
			}
		}
	}, func() wire.Response { return r })
}

func (s *session) deleteGroups(c *call, q *wire.DeleteGroupsRequest) {
	q.GroupsNames = unique(q.GroupsNames)
	parts, r := s.byShard(len(q.GroupsNames), func(i int) string { return q.GroupsNames[i] }), wire.NewDeleteGroupsResponse()
	for i := range q.GroupsNames {
		x := wire.Extend(&r.Results)
		x.GroupID, x.ErrorCode = q.GroupsNames[i], int16(wire.NotCoordinator)
	}
	for i := range parts {
		one := wire.NewDeleteGroupsRequest()
		for _, at := range parts[i].at {
			one.GroupsNames = append(one.GroupsNames, q.GroupsNames[at])
		}
		parts[i].in = s.groupQuestion(c, one)
	}
	s.gather(c, parts, func(p part, got any, e wire.ErrorCode) {
		for n, at := range p.at {
			if r.Results[at].ErrorCode = int16(e); e == wire.None {
				r.Results[at] = got.(*wire.DeleteGroupsResponse).Results[n]
			}
		}
	}, func() wire.Response { return r })
}

// unique drops what was named before: a few bytes of a request must not be
// answered with all that there is to say of a group, again and again.
func unique(names []string) []string {
	var seen places[string]
	return slices.DeleteFunc(names, func(name string) bool {
		_, isNew := seen.at(name)
		return !isNew
	})
}

// listGroups asks all shards. One that is loading makes the answer an error,
// with the groups of the others.
func (s *session) listGroups(c *call, q *wire.ListGroupsRequest) {
	var parts []part
	for _, shard := range s.opts.Groups.Shards() {
		parts = append(parts, part{shard: shard, in: s.groupQuestion(c, q)})
	}
	r := wire.NewListGroupsResponse()
	s.gather(c, parts, func(_ part, got any, e wire.ErrorCode) {
		if e == wire.NotCoordinator {
			return // It has moved: another broker lists its groups.
		}
		if e != wire.None {
			r.ErrorCode = int16(e)
			return
		}
		of := got.(*wire.ListGroupsResponse)
		if of.ErrorCode != 0 {
			r.ErrorCode = of.ErrorCode
		}
		r.Groups = append(r.Groups, of.Groups...)
	}, func() wire.Response { return r })
}
