package group

import (
	"slices"
	"strings"

	"github.com/barnabas-log/barnabas/internal/coordinator/group/assign"
	"github.com/barnabas-log/barnabas/wire"
)

// A group changes its protocol while its members go on (KIP-848): a classic group
// of consumers becomes a consumer group when the first member comes with the new
// protocol, and goes back when the last of these leaves. In between the classic
// members are served from the consumer group's state. See classicside.go.

// mayUpgrade and mayDowngrade are the group.consumer.migration.policy.
func (m *Machine) mayUpgrade() bool { return m.policyIs("bidirectional", "upgrade") }

func (m *Machine) mayDowngrade() bool { return m.policyIs("bidirectional", "downgrade") }

func (m *Machine) policyIs(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, m.settings.MigrationPolicy) })
}

// upgrade makes a consumer group of a classic one with members, and writes it.
func (m *Machine) upgrade(g *group) (*consumer, *refusal) {
	c := g.classic
	no := func(why string) *refusal {
		return refuse(wire.GroupIDNotFound, "Cannot upgrade classic group %s to consumer group because %s.", g.id, why)
	}
	switch {
	case !m.mayUpgrade():
		return nil, no("online upgrade is disabled")
	case !c.usesConsumerProtocol():
		return nil, no("the group does not use the consumer embedded protocol")
	case len(c.members) > m.settings.ConsumerMaxSize:
		return nil, no("the group size exceeds the consumer group maximum size")
	case c.protocol == nil:
		// It never had a generation; its members get one in a moment.
		return nil, refuseAs(wire.CoordinatorLoadInProgress)
	}
	next := newConsumer()
	next.epoch, next.assignmentEpoch = c.generation, c.generation
	for _, id := range c.ids() {
		member, why := m.upgradeMember(c, c.members[id])
		if why != "" {
			return nil, no(why)
		}
		next.setMember(member)
		next.setTarget(id, assignmentOf(member.assigned))
	}
	next.hash = m.hashOf(next.subscribers)
	if g.record != nil {
		m.script.forgetClassic(g.id)
	}
	m.writeConsumer(g.id, next)
	return next, nil
}

// writeConsumer writes a consumer group whole.
func (m *Machine) writeConsumer(id string, c *consumer) {
	ids := c.ids()
	for _, member := range ids {
		m.script.told(id, c.members[member])
	}
	m.script.groupEpoch(id, c.epoch, c.hash)
	for _, member := range ids {
		m.script.target(id, member, c.targets[member])
	}
	m.script.targetEpoch(id, c.assignmentEpoch, c.assignedAt)
	for _, member := range ids {
		m.script.current(id, c.members[member])
	}
}

// upgradeMember is a classic member as a member of a consumer group. It keeps
// what its leader gave it.
func (m *Machine) upgradeMember(c *classic, old *classicMember) (member *member, why string) {
	const malformed = "the embedded consumer protocol is malformed"
	member = newMember(old.id)
	var assigned assign.Assignment
	if len(old.assignment) > 0 {
		a, ok := readAssignment(old.assignment)
		switch {
		case !ok:
			return nil, malformed
		case len(a.UserData) > 0:
			return nil, "an unsupported custom assignor is in use. Please refer to the documentation or switch to a default assignor before re-attempting the upgrade"
		}
		for _, p := range a.AssignedPartitions {
			if t := m.image.Topic(p.Topic); t != nil {
				assigned = append(assigned, assign.Topic{ID: t.ID, Partitions: ascending(p.Partitions)})
			}
		}
	}
	s, ok := readSubscription(old.metadata(*c.protocol))
	if !ok {
		return nil, malformed
	}
	member.tellSubscription(s)
	member.instance, member.clientID, member.clientHost, member.rebalanceTimeout = old.instance, old.clientID, old.clientHost, old.rebalance
	member.classic = &classicSide{old.session, old.protocols}
	member.epoch, member.previous = c.generation, c.generation
	member.assigned = holdingOf(tidyAssignment(assigned), c.generation)
	return member, ""
}

// tellSubscription takes over what the embedded protocol says.
func (m *member) tellSubscription(s *wire.ConsumerProtocolSubscription) {
	m.topics = unique(s.Topics)
	if s.RackID != nil && *s.RackID != "" {
		m.rack = s.RackID
	}
}

// assignmentOf is a holding without its epochs.
func assignmentOf(h holding) (a assign.Assignment) {
	for _, t := range h {
		list := make([]int32, len(t.partitions))
		for i, p := range t.partitions {
			list[i] = p.n
		}
		a = append(a, assign.Topic{ID: t.id, Partitions: list})
	}
	return a
}

// endClassic ends what waits in a classic group that is one no more.
func (m *Machine) endClassic(g *group) {
	c := g.classic
	if c == nil {
		return
	}
	for _, id := range c.ids() {
		member := c.members[id]
		if member.join != nil {
			m.answerJoin(c, member, joinError(member.join.version, id, wire.RebalanceInProgress))
		}
		m.answerSync(c, member, wire.RebalanceInProgress)
		m.timers.stop(&member.timer)
	}
	m.forgetPending(c)
	m.timers.stop(&c.joinTimer)
	m.timers.stop(&c.syncTimer)
	g.endClassic()
}

// expel takes members out of a consumer group. If only classic ones are left,
// the group may be theirs again.
func (m *Machine) expel(g *group, members ...*member) {
	c := g.consumer
	if m.classicsRemain(c, members) && m.downgrade(g, members, nil, "", true) {
		return
	}
	counts := make(map[string]subscribers, len(c.subscribers))
	for topic, n := range c.subscribers {
		counts[topic] = n
	}
	regexes := map[string]int{}
	for _, member := range members {
		m.script.forgetMember(g.id, member.id)
		m.unwatchMember(g, member.id)
		for _, topic := range member.topics {
			addSubscribers(counts, topic, subscribers{names: -1})
		}
		if member.regex != "" {
			regexes[member.regex]++
		}
	}
	for _, regex := range sortedKeys(regexes) {
		if regexes[regex] < c.wantRegex[regex] {
			continue
		}
		m.script.forgetRegex(g.id, regex)
		if r := c.regexes[regex]; r != nil {
			for _, topic := range r.topics {
				addSubscribers(counts, topic, subscribers{regexes: -1})
			}
		}
	}
	m.script.groupEpoch(g.id, c.epoch+1, m.hashOf(counts))
	if len(members) == len(c.members) {
		m.script.targetEpoch(g.id, c.epoch+1, 0)
	}
}

// classicsRemain reports whether a group without some members is one that
// classic members could have for themselves.
func (m *Machine) classicsRemain(c *consumer, without []*member) bool {
	classics, all := c.classics, len(c.members)-len(without)
	for _, member := range without {
		if member.classic != nil {
			classics--
		}
	}
	return classics == all && all > 0 && m.mayDowngrade() && all <= m.settings.MaxSize
}

// downgrade makes a classic group of a consumer group without some members, and
// maybe with one in the place of another. It reports whether that could be done.
func (m *Machine) downgrade(g *group, without []*member, joins *member, replaced string, rebalance bool) bool {
	c := g.consumer
	next := newClassic(g, m.millis)
	next.state, next.protocolType, next.generation = settled, consumerProtocol, c.epoch
	for _, id := range c.ids() {
		member := c.members[id]
		if !slices.Contains(without, member) && id != replaced {
			next.add(m.downgradeMember(g.id, member))
		}
	}
	if joins != nil {
		next.add(m.downgradeMember(g.id, joins))
	}
	protocol := next.choose()
	next.protocol = &protocol
	next.findTopics()
	for id, member := range next.members {
		target := c.targets[id]
		if joins != nil && id == joins.id {
			target = c.targets[replaced]
		}
		var ok bool
		if member.assignment, ok = m.writeAssignment(target, member.metadata(protocol)); !ok {
			return false
		}
	}
	before := m.script.mark()
	by := ""
	if joins != nil {
		by = joins.id
	}
	m.script.forgetConsumer(g.id, c, replaced, by)
	m.script.classic(g.id, next.recordOf())
	if !m.eachFits() {
		m.script.rewind(before)
		return false
	}
	m.unwatch(g)
	g.endClassic()
	g.classic = next
	next.begin(m)
	for _, id := range next.ids() {
		m.alive(next.members[id])
	}
	if rebalance {
		m.prepare(next)
	}
	return true
}

func (m *Machine) downgradeMember(group string, old *member) *classicMember {
	return &classicMember{
		id: old.id, instance: old.instance, clientID: old.clientID, clientHost: old.clientHost, rebalance: old.rebalanceTimeout,
		session: old.classic.session, protocols: old.classic.protocols,
		timer: timer{alarm: sessionAlarm, group: group, member: old.id},
	}
}

// writeAssignment writes an assignment as the leader of a classic group would, in
// the version that the member speaks.
func (m *Machine) writeAssignment(a assign.Assignment, metadata []byte) ([]byte, bool) {
	version, _, ok := consumerVersion(metadata)
	if !ok {
		return nil, false
	}
	out := &wire.ConsumerProtocolAssignment{}
	for _, t := range a {
		if topic := m.image.TopicByID(t.ID); topic != nil {
			out.AssignedPartitions = append(out.AssignedPartitions, wire.ConsumerProtocolAssignmentTopicPartition{Topic: topic.Name, Partitions: t.Partitions})
		}
	}
	b, err := out.AppendTo(wire.AppendInt16(nil, version), version)
	return b, err == nil
}
