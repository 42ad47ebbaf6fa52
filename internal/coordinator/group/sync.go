package group

import (
	"bytes"

	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/wire"
)

// protocolVersion is the version of SyncGroup from which members say which
// protocol they think they speak (KIP-559).
const protocolVersion = 5

func syncError(code wire.ErrorCode) *wire.SyncGroupResponse {
	r := wire.NewSyncGroupResponse()
	r.ErrorCode = int16(code)
	return r
}

// sync takes a SyncGroup.
func (m *Machine) sync(to coordinator.Token, q *Request, body *wire.SyncGroupRequest) {
	g := m.group(body.GroupID)
	switch {
	case q.Version >= protocolVersion && (body.ProtocolType == nil || body.ProtocolName == nil):
		m.reply(to, syncError(wire.InconsistentGroupProtocol))
	case body.GroupID == "":
		m.reply(to, syncError(wire.InvalidGroupID))
	case g != nil && g.consumer != nil && len(g.consumer.members) > 0:
		m.reply(to, m.syncConsumer(g, body))
	case g == nil || g.classic == nil || g.classic.state == empty:
		m.reply(to, syncError(wire.UnknownMemberID))
	default:
		m.syncClassic(to, g.classic, body)
	}
}

func (m *Machine) syncClassic(to coordinator.Token, c *classic, body *wire.SyncGroupRequest) {
	code := c.validate(body.MemberID, body.GroupInstanceID)
	switch {
	case code != wire.None:
	case body.GenerationID != c.generation:
		code = wire.IllegalGeneration
	case c.protocolType != "" && differs(body.ProtocolType, &c.protocolType) || differs(body.ProtocolName, c.protocol):
		code = wire.InconsistentGroupProtocol
	case c.state == preparing:
		code = wire.RebalanceInProgress
	}
	if code != wire.None {
		m.reply(to, syncError(code))
		return
	}
	member := c.members[body.MemberID]
	delete(c.unsynced, member.id)
	if len(c.unsynced) == 0 {
		m.timers.stop(&c.syncTimer)
	}
	if c.state == settled {
		m.reply(to, c.synced(member))
		return
	}
	m.answerSync(c, member, wire.RebalanceInProgress) // It asks twice.
	member.sync, member.syncing = to, true
	if c.leader == member.id {
		m.settleAssignment(c, body.Assignments)
	}
}

// differs reports whether both are known and not the same.
func differs(a, b *string) bool { return a != nil && b != nil && *a != *b }

// synced is the answer to a member that has its assignment.
func (c *classic) synced(member *classicMember) *wire.SyncGroupResponse {
	r := wire.NewSyncGroupResponse()
	r.ProtocolType, r.ProtocolName, r.Assignment = c.typeOf(), c.protocol, member.assignment
	return r
}

// settleAssignment takes the leader's assignment, records it and tells all who
// wait for theirs.
func (m *Machine) settleAssignment(c *classic, assignments []wire.SyncGroupRequestAssignment) {
	for _, member := range c.members {
		member.assignment = nil
	}
	for i := range assignments {
		if member := c.members[assignments[i].MemberID]; member != nil {
			member.assignment = bytes.Clone(assignments[i].Assignment)
		}
	}
	record := c.recordOf()
	m.script.classic(c.group.id, record)
	why := wire.None
	switch {
	case !m.eachFits():
		why = wire.UnknownServerError
	case !m.hasMemory(c.group, recordBytes(record)-recordBytes(c.group.record)):
		why = wire.GroupMaxSizeReached
	}
	if why != wire.None {
		m.script.reset()
		for _, id := range c.ids() {
			m.answerSync(c, c.members[id], why)
		}
		m.prepare(c)
		return
	}
	m.moveTo(c, settled)
	for _, id := range c.ids() {
		if member := c.members[id]; member.syncing {
			m.reply(member.sync, c.synced(member))
			member.syncing, member.sync = false, 0
			m.alive(member)
		}
	}
}

// syncTimeout takes out who has not asked for its assignment.
func (m *Machine) syncTimeout(g *group) {
	c := g.classic
	if c == nil || c.state != completing && c.state != settled || len(c.unsynced) == 0 {
		return
	}
	for _, id := range sortedKeys(c.unsynced) {
		m.remove(c, id)
	}
	m.prepare(c)
}

// heartbeat takes a Heartbeat.
func (m *Machine) heartbeat(body *wire.HeartbeatRequest) *wire.HeartbeatResponse {
	r := wire.NewHeartbeatResponse()
	g := m.group(body.GroupID)
	switch {
	case body.GroupID == "":
		r.ErrorCode = int16(wire.InvalidGroupID)
	case g != nil && g.consumer != nil:
		r.ErrorCode = int16(m.heartbeatConsumer(g, body))
	case g == nil || g.classic == nil:
		r.ErrorCode = int16(wire.UnknownMemberID)
	default:
		r.ErrorCode = int16(m.heartbeatClassic(g.classic, body))
	}
	return r
}

func (m *Machine) heartbeatClassic(c *classic, body *wire.HeartbeatRequest) wire.ErrorCode {
	if code := c.validate(body.MemberID, body.GroupInstanceID); code != wire.None {
		return code
	}
	if body.GenerationID != c.generation {
		return wire.IllegalGeneration
	}
	m.alive(c.members[body.MemberID])
	if c.state == preparing {
		return wire.RebalanceInProgress
	}
	return wire.None
}

// membersVersion is the version of LeaveGroup from which several may leave at
// once (KIP-345).
const membersVersion = 3

// leave takes a LeaveGroup.
func (m *Machine) leave(q *Request, body *wire.LeaveGroupRequest) *wire.LeaveGroupResponse {
	r := wire.NewLeaveGroupResponse()
	if body.GroupID == "" {
		r.ErrorCode = int16(wire.InvalidGroupID)
		return r
	}
	leavers := body.Members
	if q.Version < membersVersion {
		leavers = []wire.LeaveGroupRequestMemberIdentity{{MemberID: body.MemberID}}
	}
	r.Members = make([]wire.LeaveGroupResponseMemberResponse, len(leavers))
	for i := range leavers {
		r.Members[i].MemberID, r.Members[i].GroupInstanceID = leavers[i].MemberID, leavers[i].GroupInstanceID
		r.Members[i].ErrorCode = int16(wire.UnknownMemberID)
	}
	switch g := m.group(body.GroupID); {
	case g != nil && g.consumer != nil:
		m.leaveConsumer(g, leavers, r.Members)
	case g != nil && g.classic != nil:
		m.leaveClassic(g.classic, leavers, r.Members)
		m.settleIdle(g)
	}
	if q.Version < membersVersion {
		r.ErrorCode, r.Members = r.Members[0].ErrorCode, nil
	}
	return r
}

func (m *Machine) leaveClassic(c *classic, leavers []wire.LeaveGroupRequestMemberIdentity, answers []wire.LeaveGroupResponseMemberResponse) {
	left := false
	for i := range leavers {
		code := m.leaveOne(c, &leavers[i])
		answers[i].ErrorCode = int16(code)
		left = left || code == wire.None
	}
	switch {
	case !left:
	case c.state == settled || c.state == completing:
		m.prepare(c)
	default:
		m.completeIfAll(c)
	}
}

func (m *Machine) leaveOne(c *classic, who *wire.LeaveGroupRequestMemberIdentity) wire.ErrorCode {
	id := who.MemberID
	switch {
	case id == "" && who.GroupInstanceID != nil && c.static[*who.GroupInstanceID] != "":
		id = c.static[*who.GroupInstanceID]
	case id == "":
		return wire.UnknownMemberID
	case c.pending[id] != nil:
	default:
		if code := c.validate(id, who.GroupInstanceID); code != wire.None {
			return code
		}
	}
	m.remove(c, id)
	return wire.None
}
