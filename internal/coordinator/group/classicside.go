package group

import (
	"slices"

	"github.com/barnabas-log/barnabas/wire"
)

// Classic members of a consumer group: each has a protocol of the embedded type
// "consumer", its generation is its member epoch, nobody leads, and a rebalance
// is its own affair.

// joinConsumer takes the JoinGroup of a classic member.
func (m *Machine) joinConsumer(g *group, p parked, q *Request, body *wire.JoinGroupRequest) {
	r, no := m.joinsConsumer(g, p, q, body)
	if no != nil {
		m.script.reset()
		r = joinError(p.version, "", no.code)
	}
	m.reply(p.to, r)
}

func (m *Machine) joinsConsumer(g *group, p parked, q *Request, body *wire.JoinGroupRequest) (*wire.JoinGroupResponse, *refusal) {
	c, unknown := g.consumer, body.MemberID == ""
	if !m.mayUpgrade() && !m.mayDowngrade() {
		return nil, refuseAs(wire.InconsistentGroupProtocol)
	}
	if unknown {
		body.MemberID = m.newConsumerID()
	}
	if no := m.mayEnter(c, body.MemberID, body.GroupInstanceID); no != nil {
		return nil, no
	}
	names := make([]string, len(body.Protocols))
	for i := range body.Protocols {
		names[i] = body.Protocols[i].Name
	}
	if body.ProtocolType != consumerProtocol || !c.supports(names) {
		return nil, refuseAs(wire.InconsistentGroupProtocol)
	}
	if unknown && body.GroupInstanceID == nil && p.version >= knownIDVersion {
		return joinError(p.version, body.MemberID, wire.MemberIDRequired), nil
	}
	s := &step{id: g.id, c: c, epoch: c.epoch}
	var no *refusal
	if s.member, no = m.whoJoins(s, body, unknown); no != nil {
		return nil, no
	}
	subscription, ok := readSubscription(body.Protocols[0].Metadata)
	if !ok {
		return nil, refuseAs(wire.InconsistentGroupProtocol)
	}
	return m.joinStep(g, s, p, q, body, subscription)
}

// whoJoins finds the member that a JoinGroup comes from. A new one may have the
// id that it was given, which nobody wrote down.
func (m *Machine) whoJoins(s *step, body *wire.JoinGroupRequest, unknown bool) (*member, *refusal) {
	known := s.c.members[body.MemberID]
	if body.GroupInstanceID == nil {
		if known == nil {
			known = newMember(body.MemberID)
		}
		return known, nil
	}
	old := s.c.staticMember(body.GroupInstanceID)
	switch {
	case unknown && old == nil && known != nil:
		return known, nil
	case unknown && old == nil:
		return newMember(body.MemberID), nil
	case unknown:
		return m.replaceMember(s, old, body.MemberID), nil
	case old == nil:
		return nil, refuse(wire.UnknownMemberID, "Instance id %s is unknown.", *body.GroupInstanceID)
	case old.id != body.MemberID:
		return nil, fencedBy(old, body.MemberID, *body.GroupInstanceID)
	}
	return old, nil
}

func (m *Machine) joinStep(g *group, s *step, p parked, q *Request, body *wire.JoinGroupRequest, told *wire.ConsumerProtocolSubscription) (*wire.JoinGroupResponse, *refusal) {
	downgrades := m.endsNew(s.c, body.GroupInstanceID)
	next := *s.member
	s.next = &next
	if body.GroupInstanceID != nil {
		next.instance = body.GroupInstanceID
	}
	next.tellSubscription(told)
	if next.regex = ""; body.RebalanceTimeoutMs != -1 {
		next.rebalanceTimeout = body.RebalanceTimeoutMs
	}
	next.clientID, next.clientHost, next.classic = q.ClientID, q.ClientHost, &classicSide{body.SessionTimeoutMs, body.Protocols}
	found, no := m.tell(s, q)
	if no != nil {
		return nil, no
	}
	owned := m.ownedBy(told)
	m.bump(s, g, !slices.Equal(s.member.topics, next.topics) || found != regexSame)
	if !downgrades {
		epoch, target := m.retarget(s)
		if no := m.reconcile(s, epoch, target, owned); no != nil {
			return nil, no
		}
	} else if s.c.assignmentEpoch >= s.epoch {
		if no := m.reconcile(s, s.c.assignmentEpoch, s.c.target(s.next), owned); no != nil {
			return nil, no
		}
	}
	if !m.eachFits() {
		return nil, refuseAs(wire.UnknownServerError)
	}
	if no := m.mayGrow(g, s); no != nil {
		return nil, no
	}
	r := joinAnswer(p.version)
	protocolType, protocol := consumerProtocol, body.Protocols[0].Name
	r.MemberID, r.GenerationID, r.ProtocolType, r.ProtocolName = s.next.id, s.next.epoch, &protocolType, &protocol
	if downgrades {
		if !m.downgrade(g, nil, s.next, s.replacedOr(s.next.id), s.c.assignmentEpoch < s.epoch) {
			return nil, refuseAs(wire.UnknownServerError)
		}
		return r, nil
	}
	g = m.enter(g, s)
	m.watchRevocation(g, s)
	m.lookForTopics(g, s, q)
	m.in(&m.watchMember(g, s.next.id).session, body.SessionTimeoutMs)
	m.expectSync(g, s.next.id, body.RebalanceTimeoutMs)
	return r, nil
}

// replacedOr is the member whose place is taken, or that is updated.
func (s *step) replacedOr(id string) string {
	if s.replaced != "" {
		return s.replaced
	}
	return id
}

// endsNew reports whether a static member that comes as a classic one is the
// last that spoke the new protocol.
func (m *Machine) endsNew(c *consumer, instance *string) bool {
	old := c.staticMember(instance)
	return old != nil && old.classic == nil && c.classics == len(c.members)-1 && m.mayDowngrade() && len(c.members) <= m.settings.MaxSize
}

// ownedBy is what a classic member says that it has.
func (m *Machine) ownedBy(told *wire.ConsumerProtocolSubscription) []wire.ConsumerGroupHeartbeatRequestTopicPartitions {
	owned := []wire.ConsumerGroupHeartbeatRequestTopicPartitions{}
	for _, p := range told.OwnedPartitions {
		if t := m.image.Topic(p.Topic); t != nil {
			owned = append(owned, wire.ConsumerGroupHeartbeatRequestTopicPartitions{TopicID: t.ID, Partitions: p.Partitions})
		}
	}
	return owned
}

// classicMemberOf finds the classic member that a request comes from.
func (c *consumer) classicMemberOf(id string, instance *string) (*member, wire.ErrorCode) {
	member := c.members[id]
	if instance != nil {
		member = c.staticMember(instance)
	}
	switch {
	case member == nil:
		return nil, wire.UnknownMemberID
	case member.id != id:
		return nil, wire.FencedInstanceID
	case member.classic == nil:
		return nil, wire.UnknownMemberID
	}
	return member, wire.None
}

// syncConsumer takes the SyncGroup of a classic member.
func (m *Machine) syncConsumer(g *group, body *wire.SyncGroupRequest) *wire.SyncGroupResponse {
	c := g.consumer
	member, code := c.classicMemberOf(body.MemberID, body.GroupInstanceID)
	protocolType := consumerProtocol
	switch {
	case code != wire.None:
		return syncError(code)
	case body.GenerationID != member.epoch:
		return syncError(wire.IllegalGeneration)
	case differs(body.ProtocolType, &protocolType) || body.ProtocolName != nil && *body.ProtocolName != member.classic.protocol():
		return syncError(wire.InconsistentGroupProtocol)
	case c.assignmentEpoch > member.epoch && member.state != revoking:
		m.expectJoin(g, member)
		return syncError(wire.RebalanceInProgress)
	}
	assignment, ok := m.writeAssignment(assignmentOf(member.assigned), member.classic.protocols[0].Metadata)
	if !ok {
		return syncError(wire.UnknownServerError)
	}
	m.timers.stop(m.watchMember(g, member.id).resync)
	m.in(&m.watchMember(g, member.id).session, member.classic.session)
	r := wire.NewSyncGroupResponse()
	r.ProtocolType, r.ProtocolName, r.Assignment = body.ProtocolType, body.ProtocolName, assignment
	return r
}

// protocol is the one that the member speaks: its first.
func (c *classicSide) protocol() string {
	if len(c.protocols) == 0 {
		return ""
	}
	return c.protocols[0].Name
}

// heartbeatConsumer takes the Heartbeat of a classic member.
func (m *Machine) heartbeatConsumer(g *group, body *wire.HeartbeatRequest) wire.ErrorCode {
	c := g.consumer
	member, code := c.classicMemberOf(body.MemberID, body.GroupInstanceID)
	switch {
	case code != wire.None:
		return code
	case body.GenerationID != member.epoch:
		return wire.IllegalGeneration
	}
	m.in(&m.watchMember(g, member.id).session, member.classic.session)
	if member.epoch < c.assignmentEpoch || member.state == revoking || member.state == waiting && !c.waitsForOthers(member) {
		m.expectJoin(g, member)
		return wire.RebalanceInProgress
	}
	return wire.None
}

// leaveConsumer takes the LeaveGroup of members of a consumer group, of either
// protocol.
func (m *Machine) leaveConsumer(g *group, leavers []wire.LeaveGroupRequestMemberIdentity, answers []wire.LeaveGroupResponseMemberResponse) {
	var gone []*member
	for i, who := range leavers {
		member := g.consumer.members[who.MemberID]
		if who.GroupInstanceID != nil {
			member = g.consumer.staticMember(who.GroupInstanceID)
		}
		switch {
		case member == nil:
			continue // UNKNOWN_MEMBER_ID, as it says already.
		case who.GroupInstanceID != nil && who.MemberID != "" && member.id != who.MemberID:
			answers[i].ErrorCode = int16(wire.FencedInstanceID)
			continue
		}
		answers[i].ErrorCode = int16(wire.None)
		if !slices.Contains(gone, member) {
			gone = append(gone, member)
		}
	}
	if len(gone) > 0 {
		m.expel(g, gone...)
	}
}
