package group

import (
	"bytes"
	"strings"
	"time"

	"github.com/barnabas-log/barnabas/wire"
)

// Versions of JoinGroup from which a member is given its id before it joins
// (KIP-394), may be without protocol (KIP-559) and may be told to skip the
// assignment (KIP-814).
const (
	knownIDVersion        = 4
	nullProtocolVersion   = 7
	skipAssignmentVersion = 9
)

// newMemberTimeout is the session of a member that waits for its first
// generation: however long that takes, it may have died in between. Kafka's
// number, in milliseconds.
const newMemberTimeout = 5 * 60_000

// maxProtocols is how many protocols the members of a group may have whose
// metadata, together, would just fit its record: clients have one or two. A
// record has only those of the protocol that is chosen, memory has all.
const maxProtocols = 8

// maxMembers and maxPending bound what a group takes whatever group.max.size
// says: some hundred are usual, and a record of so many would not fit a batch.
const (
	maxMembers = 10_000
	maxPending = 10_000
)

// joinAnswer is the answer to JoinGroup in a version.
func joinAnswer(version int16) *wire.JoinGroupResponse {
	r := wire.NewJoinGroupResponse()
	if version >= nullProtocolVersion {
		r.ProtocolName = nil
	}
	return r
}

func joinError(version int16, member string, code wire.ErrorCode) *wire.JoinGroupResponse {
	r := joinAnswer(version)
	r.MemberID, r.ErrorCode = member, int16(code)
	return r
}

// joined is the answer to a member that is in a generation. The leader learns
// who else is.
func (c *classic) joined(version int16, member string) *wire.JoinGroupResponse {
	r := joinAnswer(version)
	r.MemberID, r.GenerationID, r.Leader = member, c.generation, c.leader
	if c.protocol != nil && *c.protocol != "" {
		r.ProtocolName = c.protocol
	}
	r.ProtocolType = c.typeOf()
	return r
}

// typeOf is the protocol type for an answer, which is read while the group goes
// on.
func (c *classic) typeOf() *string {
	if c.protocolType == "" {
		return nil
	}
	t := c.protocolType
	return &t
}

// roll is the list that a leader gets.
func (c *classic) roll() []wire.JoinGroupResponseMember {
	list := make([]wire.JoinGroupResponseMember, 0, len(c.members))
	for _, id := range c.ids() {
		member := c.members[id]
		list = append(list, wire.JoinGroupResponseMember{
			MemberID: id, GroupInstanceID: member.instance, Metadata: member.metadata(textOf(c.protocol)),
		})
	}
	return list
}

// join takes a JoinGroup.
func (m *Machine) join(p parked, q *Request, body *wire.JoinGroupRequest) {
	session := time.Duration(body.SessionTimeoutMs) * time.Millisecond
	switch {
	case body.GroupID == "":
		m.reply(p.to, joinError(p.version, body.MemberID, wire.InvalidGroupID))
		return
	case session < m.settings.MinSessionTimeout || session > m.settings.MaxSessionTimeout:
		m.reply(p.to, joinError(p.version, body.MemberID, wire.InvalidSessionTimeout))
		return
	}
	if p.version == 0 {
		body.RebalanceTimeoutMs = body.SessionTimeoutMs
	}
	g := m.group(body.GroupID)
	if g != nil && g.consumer != nil && len(g.consumer.members) > 0 {
		m.joinConsumer(g, p, q, body)
		return
	}
	m.joinClassic(g, p, q, body)
}

func (m *Machine) joinClassic(g *group, p parked, q *Request, body *wire.JoinGroupRequest) {
	unknown := body.MemberID == ""
	if !unknown && (g == nil || g.consumer != nil) {
		m.reply(p.to, joinError(p.version, body.MemberID, wire.UnknownMemberID))
		return
	}
	if g == nil {
		g = m.make(body.GroupID)
	}
	c := m.live(g)
	switch {
	case !m.accepts(c, body.MemberID):
		m.remove(c, body.MemberID)
		m.reply(p.to, joinError(p.version, "", wire.GroupMaxSizeReached))
	case !c.supports(body.ProtocolType, body.Protocols):
		m.reply(p.to, joinError(p.version, body.MemberID, wire.InconsistentGroupProtocol))
	case unknown:
		m.joinNew(c, p, q, body)
	default:
		m.joinAgain(c, p, q, body)
	}
	m.settleLive(g, c)
}

// settleLive forgets what was made for a request that came to nothing, and
// converts an empty consumer group whose members now come as classic ones.
func (m *Machine) settleLive(g *group, c *classic) {
	switch {
	case c.isIdle():
		if g.classic == c {
			g.endClassic()
		}
		m.drop(g)
	case g.consumer != nil && len(g.consumer.members) == 0:
		m.script.forgetConsumer(g.id, g.consumer, "", "")
	}
	if m.groups[g.id] == g {
		m.shelve(g)
	}
}

// accepts reports whether the group has room for a member.
func (m *Machine) accepts(c *classic, id string) bool {
	member := c.members[id]
	switch c.state {
	case empty:
		return true
	case preparing:
		return member != nil && member.join != nil || c.joining < m.settings.MaxSize
	}
	return member != nil || len(c.members) < m.settings.MaxSize
}

// hasRoom reports whether a member can be held, and written, beside the others
// or in the place of one.
func (m *Machine) hasRoom(c *classic, member, instead *classicMember) bool {
	bytes, held, more, members := c.bytes+member.size(), c.held+member.held(), member.bytes(), len(c.members)
	if instead != nil {
		bytes, held, more, members = bytes-instead.size(), held-instead.held(), more-instead.bytes(), members-1
	}
	return members < maxMembers && bytes < m.opts.MaxBatch && held < maxProtocols*m.opts.MaxBatch && m.hasMemory(c.group, more)
}

// saying is a member that says something else than before, for hasRoom.
func (member *classicMember) saying(id string, body *wire.JoinGroupRequest) *classicMember {
	next := *member
	next.id, next.protocols = id, body.Protocols
	return &next
}

func (m *Machine) joinNew(c *classic, p parked, q *Request, body *wire.JoinGroupRequest) {
	if body.GroupInstanceID != nil {
		id := m.newClassicID(*body.GroupInstanceID)
		if old, ok := c.static[*body.GroupInstanceID]; ok {
			if !m.hasRoom(c, c.members[old].saying(id, body), c.members[old]) {
				m.reply(p.to, joinError(p.version, "", wire.GroupMaxSizeReached))
				return
			}
			m.replaceStatic(c, p, body, old, id)
			return
		}
		m.addMember(c, p, q, body, id)
		return
	}
	id := m.newClassicID(q.ClientID)
	switch {
	case p.version < knownIDVersion:
		m.addMember(c, p, q, body, id)
	case len(c.pending) >= maxPending || !m.hasMemory(c.group, pendingBytes+len(id)):
		m.reply(p.to, joinError(p.version, "", wire.GroupMaxSizeReached))
	default:
		m.pend(c, id, body.SessionTimeoutMs)
		m.reply(p.to, joinError(p.version, id, wire.MemberIDRequired))
	}
}

// joinAgain is for one who has an id.
func (m *Machine) joinAgain(c *classic, p parked, q *Request, body *wire.JoinGroupRequest) {
	if c.pending[body.MemberID] != nil {
		if body.GroupInstanceID != nil {
			m.reply(p.to, joinError(p.version, body.MemberID, wire.UnknownMemberID)) // Such an id was never given to a static member.
			return
		}
		m.addMember(c, p, q, body, body.MemberID)
		return
	}
	if code := c.validate(body.MemberID, body.GroupInstanceID); code != wire.None {
		m.reply(p.to, joinError(p.version, body.MemberID, code))
		return
	}
	member := c.members[body.MemberID]
	if !m.hasRoom(c, member.saying(member.id, body), member) {
		m.reply(p.to, joinError(p.version, body.MemberID, wire.GroupMaxSizeReached))
		return
	}
	same := sameProtocols(member.protocols, body.Protocols)
	switch {
	case c.state == completing && same:
		// It did not get the answer, or asks twice.
		r := c.joined(p.version, member.id)
		if c.leader == member.id {
			r.Members = c.roll()
		}
		m.reply(p.to, r)
	case c.state == settled && same && c.leader != member.id:
		m.reply(p.to, c.joined(p.version, member.id))
	default:
		// The leader of a settled group asks for a rebalance by joining.
		m.updateMember(c, member, &p, body)
		m.rebalanceOrComplete(c)
	}
}

func (m *Machine) addMember(c *classic, p parked, q *Request, body *wire.JoinGroupRequest, id string) {
	id = strings.Clone(id)
	member := &classicMember{
		id: id, instance: keptText(body.GroupInstanceID), clientID: q.ClientID, clientHost: q.ClientHost, rebalance: body.RebalanceTimeoutMs,
		session: body.SessionTimeoutMs, protocols: kept(body.Protocols), join: &p, fresh: true,
		timer: timer{alarm: sessionAlarm, group: c.group.id, member: id},
	}
	if !m.hasRoom(c, member, nil) {
		m.reply(p.to, joinError(p.version, "", wire.GroupMaxSizeReached))
		return
	}
	if c.state == preparing && c.before == empty {
		c.newcomers = true
	}
	m.unpend(c, id)
	if len(c.members) == 0 {
		c.protocolType = strings.Clone(body.ProtocolType)
	}
	c.add(member)
	m.in(&member.timer, newMemberTimeout)
	m.rebalanceOrComplete(c)
}

// kept is what a member says, for as long as it stays. What came with a request
// aliases its frame, and would hold all else that was in there.
func kept(protocols []wire.JoinGroupRequestProtocol) []wire.JoinGroupRequestProtocol {
	out := make([]wire.JoinGroupRequestProtocol, len(protocols))
	for i, p := range protocols {
		out[i] = wire.JoinGroupRequestProtocol{Name: strings.Clone(p.Name), Metadata: bytes.Clone(p.Metadata)}
	}
	return out
}

func keptText(s *string) *string {
	if s == nil {
		return nil
	}
	return new(strings.Clone(*s))
}

// updateMember takes over what a member says now. A JoinGroup of it that still
// waits will have no other answer.
func (m *Machine) updateMember(c *classic, member *classicMember, p *parked, body *wire.JoinGroupRequest) {
	c.countProtocols(member, -1)
	member.protocols = kept(body.Protocols)
	c.countProtocols(member, 1)
	member.rebalance, member.session = body.RebalanceTimeoutMs, body.SessionTimeoutMs
	if member.join != nil {
		m.reply(member.join.to, joinError(member.join.version, member.id, wire.RebalanceInProgress))
	} else {
		c.joining++
	}
	member.join = p
}

// answerJoin answers a member that waits.
func (m *Machine) answerJoin(c *classic, member *classicMember, r *wire.JoinGroupResponse) {
	if member.join != nil {
		m.reply(member.join.to, r)
		member.join = nil
		c.joining--
	}
}

// answerSync answers a member that waits for its assignment with an error.
func (m *Machine) answerSync(c *classic, member *classicMember, code wire.ErrorCode) {
	if member.syncing {
		m.reply(member.sync, syncError(code))
		member.syncing, member.sync = false, 0
	}
}

// replaceStatic lets a new member take the place of the one that its instance
// had. Nothing is rebalanced if that makes no difference (KIP-345, KIP-814).
func (m *Machine) replaceStatic(c *classic, p parked, body *wire.JoinGroupRequest, old, id string) {
	leader := c.leader
	member := m.rename(c, old, id)
	m.updateMember(c, member, &p, body)
	m.alive(member)
	switch c.state {
	case settled:
		if c.choose() != textOf(c.protocol) {
			m.rebalanceOrComplete(c)
			return
		}
		m.script.classic(c.group.id, c.recordOf())
		if !m.eachFits() {
			m.script.reset()
			m.prepare(c)
			return
		}
		r := c.joined(p.version, id)
		switch {
		case p.version < skipAssignmentVersion:
			// Whoever does not know how to skip must not think that it leads.
			r.Leader = leader
		case c.leader == id:
			r.Members, r.SkipAssignment = c.roll(), true
		}
		m.answerJoin(c, member, r)
	case completing:
		m.prepare(c)
	default:
		m.completeIfAll(c)
	}
}

// rename gives a static member a new id. What waits under the old one is fenced.
func (m *Machine) rename(c *classic, old, id string) *classicMember {
	member := c.members[old]
	m.timers.stop(&member.timer)
	if member.join != nil {
		m.answerJoin(c, member, joinError(member.join.version, old, wire.FencedInstanceID))
	}
	m.answerSync(c, member, wire.FencedInstanceID)
	next := &classicMember{
		id: id, instance: member.instance, clientID: member.clientID, clientHost: member.clientHost, rebalance: member.rebalance,
		session: member.session, protocols: member.protocols, assignment: member.assignment,
		timer: timer{alarm: sessionAlarm, group: c.group.id, member: id},
	}
	c.countProtocols(member, -1)
	delete(c.members, old)
	c.members[id] = next
	c.countProtocols(next, 1)
	c.static[*next.instance] = id
	if c.leader == old {
		c.leader = id
	}
	if c.unsynced[old] {
		delete(c.unsynced, old)
		c.unsynced[id] = true
	}
	return next
}

// rebalanceOrComplete begins a rebalance, or goes on with the one that is.
func (m *Machine) rebalanceOrComplete(c *classic) {
	if c.state == preparing {
		m.completeIfAll(c)
		return
	}
	m.prepare(c)
}

// completeIfAll ends the wait for members, unless it is the delay before the
// first generation, which is always waited for.
func (m *Machine) completeIfAll(c *classic) {
	if c.state == preparing && c.before != empty && c.allJoined() {
		m.complete(c)
	}
}

// prepare begins a rebalance.
func (m *Machine) prepare(c *classic) {
	if c.state == completing {
		for _, id := range c.ids() {
			member := c.members[id]
			member.assignment = nil
			if member.syncing {
				m.answerSync(c, member, wire.RebalanceInProgress)
				m.alive(member)
			}
		}
	}
	clear(c.unsynced)
	m.timers.stop(&c.syncTimer)
	c.first = c.state == empty
	m.moveTo(c, preparing)
	timeout := time.Duration(c.rebalanceTimeout()) * time.Millisecond
	switch {
	case c.first:
		c.newcomers = false
		c.delay, c.remaining = m.settings.InitialDelay, max(timeout-m.settings.InitialDelay, 0)
		m.timers.start(&c.joinTimer, m.now+c.delay)
	case c.allJoined():
		m.complete(c)
	default:
		m.timers.start(&c.joinTimer, m.now+timeout)
	}
}

// joinTimeout ends the wait for members, or begins another delay because some
// came during the last.
func (m *Machine) joinTimeout(g *group) {
	c := g.classic
	if c == nil || c.state != preparing {
		return
	}
	if !c.first || !c.newcomers || c.remaining == 0 {
		m.complete(c)
		return
	}
	c.newcomers = false
	delay := min(m.settings.InitialDelay, c.remaining)
	c.delay, c.remaining = delay, max(c.remaining-c.delay, 0)
	m.timers.start(&c.joinTimer, m.now+delay)
}

// complete begins the next generation with those who have joined. Static
// members may be late.
func (m *Machine) complete(c *classic) {
	m.timers.stop(&c.joinTimer)
	c.first = false
	for _, id := range c.ids() {
		if member := c.members[id]; member.join == nil && member.instance == nil {
			m.remove(c, id)
		}
	}
	if !c.electJoined() && len(c.members) > 0 {
		// Nobody has come. They may yet.
		m.in(&c.joinTimer, c.rebalanceTimeout())
		return
	}
	c.generation++
	clear(c.unsynced)
	if len(c.members) == 0 {
		c.protocol, c.leader = nil, ""
		c.findTopics()
		m.moveTo(c, empty)
		m.script.classic(c.group.id, c.recordOf())
		return
	}
	protocol := c.choose()
	c.protocol = &protocol
	c.findTopics()
	m.moveTo(c, completing)
	for _, id := range c.ids() {
		member := c.members[id]
		if member.join != nil {
			r := c.joined(member.join.version, id)
			if c.leader == id {
				r.Members = c.roll()
			}
			m.answerJoin(c, member, r)
		}
		m.alive(member)
		member.fresh = false
		c.unsynced[id] = true
	}
	m.in(&c.syncTimer, c.rebalanceTimeout())
}

// electJoined makes sure that the leader is one who has joined, if anybody has.
func (c *classic) electJoined() bool {
	if leader := c.members[c.leader]; leader != nil && leader.join != nil {
		return true
	}
	for _, id := range c.ids() {
		if c.members[id].join != nil {
			c.leader = id
			return true
		}
	}
	return false
}

// pendingTimeout forgets one who was given an id and did not come.
func (m *Machine) pendingTimeout(g *group, id string) {
	c := g.classic
	if c == nil || c.pending[id] == nil {
		return
	}
	m.remove(c, id)
	if c.state == preparing && c.allJoined() {
		m.complete(c)
	}
	m.settleIdle(g)
}

// settleIdle forgets what a record says as well.
func (m *Machine) settleIdle(g *group) {
	if c := g.classic; c != nil && c.isIdle() && (g.record != nil || g.kept()) && len(m.script.records) == 0 {
		g.endClassic()
	}
}

// sessionTimeout takes a member out that was not heard of.
func (m *Machine) sessionTimeout(g *group, id string) {
	c := g.classic
	if c == nil || c.members[id] == nil || c.members[id].satisfied() {
		return
	}
	m.remove(c, id)
	m.afterRemoval(c)
}

// afterRemoval lets a group go on without some members.
func (m *Machine) afterRemoval(c *classic) {
	switch {
	case c.state == settled || c.state == completing:
		m.prepare(c)
	case c.state == preparing && c.allJoined():
		m.complete(c)
	}
}
