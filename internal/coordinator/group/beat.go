package group

import (
	"slices"
	"strings"

	"github.com/barnabas-log/barnabas/wire"
)

// Epochs that members of consumer groups say instead of their own.
const (
	joinEpoch        = 0
	leaveEpoch       = -1
	leaveStaticEpoch = -2 // It will come back.
)

// ownIDVersion is the version of ConsumerGroupHeartbeat from which members bring
// an id of their own (KIP-1082).
const ownIDVersion = 1

// consumersEnabled reports whether the protocol of KIP-848 is spoken here.
func (m *Machine) consumersEnabled() bool {
	p := m.settings.Protocols
	return m.image.Feature("group.version") >= 1 && (len(p) == 0 || slices.Contains(p, consumerType))
}

// consumerHeartbeat takes a ConsumerGroupHeartbeat.
func (m *Machine) consumerHeartbeat(q *Request, body *wire.ConsumerGroupHeartbeatRequest) *wire.ConsumerGroupHeartbeatResponse {
	r := wire.NewConsumerGroupHeartbeatResponse()
	if !m.consumersEnabled() {
		r.ErrorCode = int16(wire.UnsupportedVersion)
		return r
	}
	no := m.checkBeat(q, body)
	switch {
	case no != nil:
	case body.MemberEpoch < 0:
		no = m.leaveBeat(body, r)
	default:
		no = m.beat(q, body, r)
	}
	if no != nil {
		m.script.reset()
		r.Reset()
		r.ErrorCode = int16(no.code)
		if no.code != wire.UnknownServerError {
			r.ErrorMessage = &no.message
		}
	}
	return r
}

// isBlank is Java's: a text that is there and has nothing but blanks.
func isBlank(p *string) bool {
	return p != nil && strings.TrimFunc(*p, func(r rune) bool { return r <= ' ' }) == ""
}

// checkBeat checks a heartbeat by itself.
func (m *Machine) checkBeat(q *Request, body *wire.ConsumerGroupHeartbeatRequest) *refusal {
	bad := func(message string) *refusal { return &refusal{wire.InvalidRequest, message} }
	switch known := q.Version >= ownIDVersion || body.MemberEpoch > 0 || body.MemberEpoch == leaveEpoch; {
	case known && isBlank(&body.MemberID):
		return bad("MemberId can't be empty.")
	case isBlank(&body.GroupID):
		return bad("GroupId can't be empty.")
	case isBlank(body.InstanceID):
		return bad("InstanceId can't be empty.")
	case isBlank(body.RackID):
		return bad("RackId can't be empty.")
	}
	switch {
	case body.MemberEpoch == joinEpoch && body.RebalanceTimeoutMs == -1:
		return bad("RebalanceTimeoutMs must be provided in first request.")
	case body.MemberEpoch == joinEpoch && (body.TopicPartitions == nil || len(body.TopicPartitions) > 0):
		return bad("TopicPartitions must be empty when (re-)joining.")
	case body.MemberEpoch == joinEpoch && body.SubscribedTopicNames == nil && body.SubscribedTopicRegex == nil:
		return bad("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.")
	case body.MemberEpoch == leaveStaticEpoch && body.InstanceID == nil:
		return bad("InstanceId can't be null.")
	case body.MemberEpoch < leaveStaticEpoch:
		return bad("MemberEpoch is invalid.")
	}
	if a := body.ServerAssignor; a != nil && !slices.Contains(m.settings.Assignors, *a) {
		return refuse(wire.UnsupportedAssignor, "ServerAssignor %s is not supported. Supported assignors: %s.", *a, strings.Join(m.settings.Assignors, ", "))
	}
	return nil
}

// step is what a member's request makes of its group, before any of it is
// applied.
type step struct {
	id     string    // Of the group.
	c      *consumer // As it is; for a group that is converted, as it will be.
	member *member   // As it was.
	next   *member   // As it will be.
	epoch  int32     // The group's.
	grown  int       // By how much targets take more memory, in bytes.
	// upgraded says that the group is a classic one, still.
	upgraded bool
	replaced string // The static member whose place next takes.
	// subscribers and wantRegex are those of the group with next in the place of
	// member; nil while they are c's.
	subscribers map[string]subscribers
	wantRegex   map[string]int
}

// beat takes a heartbeat of one who is in the group, or joins it.
func (m *Machine) beat(q *Request, body *wire.ConsumerGroupHeartbeatRequest, r *wire.ConsumerGroupHeartbeatResponse) *refusal {
	joins := body.MemberEpoch == joinEpoch
	g := m.group(body.GroupID)
	s := &step{id: body.GroupID}
	no := m.consumerFor(g, s, joins)
	if no == nil {
		no = m.mayEnter(s.c, body.MemberID, body.InstanceID)
	}
	if no == nil {
		if body.MemberID == "" {
			body.MemberID = m.newConsumerID()
		}
		s.member, no = m.whoBeats(s, body, joins)
	}
	if no != nil {
		return no
	}
	next := *s.member
	s.next = &next
	next.take(q, body)
	found, no := m.tell(s, q)
	if no != nil {
		return no
	}
	assignorChanged := m.assignorOf(s.c.assignors) != m.assignorOf(s.c.assignorsWith(s.member, s.next))
	m.bump(s, g, !slices.Equal(s.member.topics, s.next.topics) || found == regexResolved || assignorChanged)
	targetEpoch, target := m.retarget(s)
	if no := m.reconcile(s, targetEpoch, target, body.TopicPartitions); no != nil {
		return no
	}
	if !m.eachFits() {
		return refuseAs(wire.UnknownServerError)
	}
	if no := m.mayGrow(g, s); no != nil {
		if s.c.members[s.next.id] != nil {
			m.beatsAgain(g, s.next.id)
		}
		return no
	}
	g = m.enter(g, s)
	m.beatsAgain(g, s.next.id)
	m.watchRevocation(g, s)
	m.lookForTopics(g, s, q)

	r.MemberID, r.MemberEpoch, r.HeartbeatIntervalMs = &s.next.id, s.next.epoch, m.heartbeatInterval(g.id)
	full := body.RebalanceTimeoutMs != -1 && (body.SubscribedTopicNames != nil || body.SubscribedTopicRegex != nil) && body.TopicPartitions != nil
	if joins || full || !s.member.assigned.equal(s.next.assigned) {
		r.Assignment = assignmentAnswer(s.next.assigned)
	}
	return nil
}

// take takes over what a heartbeat says of its member. What it leaves out is as
// it was.
func (m *member) take(q *Request, body *wire.ConsumerGroupHeartbeatRequest) {
	if body.InstanceID != nil {
		m.instance = body.InstanceID
	}
	if body.RackID != nil {
		m.rack = body.RackID
	}
	if body.RebalanceTimeoutMs != -1 {
		m.rebalanceTimeout = body.RebalanceTimeoutMs
	}
	if body.ServerAssignor != nil {
		m.assignor = body.ServerAssignor
	}
	if body.SubscribedTopicNames != nil {
		m.topics = unique(body.SubscribedTopicNames)
	}
	if body.SubscribedTopicRegex != nil {
		m.regex = *body.SubscribedTopicRegex
	}
	m.clientID, m.clientHost, m.classic = q.ClientID, q.ClientHost, nil
}

func assignmentAnswer(h holding) *wire.ConsumerGroupHeartbeatResponseAssignment {
	a := &wire.ConsumerGroupHeartbeatResponseAssignment{TopicPartitions: make([]wire.ConsumerGroupHeartbeatResponseTopicPartitions, len(h))}
	for i, t := range h {
		out := &a.TopicPartitions[i]
		out.TopicID, out.Partitions = t.id, make([]int32, len(t.partitions))
		for j, p := range t.partitions {
			out.Partitions[j] = p.n
		}
	}
	return a
}

// consumerFor finds the consumer group of a step. Who joins may make it of
// nothing, or of a classic group.
func (m *Machine) consumerFor(g *group, s *step, joins bool) *refusal {
	switch {
	case g == nil && !joins:
		return refuse(wire.GroupIDNotFound, "Consumer group %s not found.", s.id)
	case g != nil && g.consumer != nil:
		s.c = g.consumer
	case g != nil && !joins:
		return notConsumer(s.id)
	case g == nil || g.isEmpty():
		if g != nil && g.record != nil {
			m.script.forgetClassic(g.id)
		}
		s.c = newConsumer()
		s.upgraded = g != nil
	default:
		c, no := m.upgrade(g)
		if no != nil {
			return no
		}
		s.c, s.upgraded = c, true
	}
	s.epoch = s.c.epoch
	return nil
}

// mayEnter checks whether there is room for one who is not a member yet.
func (m *Machine) mayEnter(c *consumer, id string, instance *string) *refusal {
	limit := min(m.settings.ConsumerMaxSize, maxMembers)
	if c.staticMember(instance) != nil || len(c.members) < limit || id != "" && c.members[id] != nil {
		return nil
	}
	return refuse(wire.GroupMaxSizeReached, "The consumer group has reached its maximum capacity of %d members.", limit)
}

// whoBeats finds the member that a heartbeat comes from.
func (m *Machine) whoBeats(s *step, body *wire.ConsumerGroupHeartbeatRequest, joins bool) (*member, *refusal) {
	if body.InstanceID != nil {
		return m.staticBeats(s, body, joins)
	}
	member := s.c.members[body.MemberID]
	if member == nil {
		if !joins {
			return nil, noMember(s.id, body.MemberID)
		}
		member = newMember(body.MemberID)
	}
	return member, member.checkEpoch(body)
}

func noMember(group, id string) *refusal {
	return refuse(wire.UnknownMemberID, "Member %s is not a member of group %s.", id, group)
}

func (m *Machine) staticBeats(s *step, body *wire.ConsumerGroupHeartbeatRequest, joins bool) (*member, *refusal) {
	old := s.c.staticMember(body.InstanceID)
	switch {
	case joins && old == nil:
		if member := s.c.members[body.MemberID]; member != nil {
			return member, nil
		}
		return newMember(body.MemberID), nil
	case joins && old.classic == nil && old.epoch != leaveStaticEpoch:
		return nil, refuse(wire.UnreleasedInstanceID,
			"Static member %s with instance id %s cannot join the group because the instance id is owned by %s member.", body.MemberID, *body.InstanceID, old.id)
	case joins:
		return m.replaceMember(s, old, body.MemberID), nil
	case old == nil:
		return nil, refuse(wire.UnknownMemberID, "Instance id %s is unknown.", *body.InstanceID)
	case old.id != body.MemberID:
		return nil, fencedBy(old, body.MemberID, *body.InstanceID)
	}
	return old, old.checkEpoch(body)
}

func fencedBy(old *member, id, instance string) *refusal {
	return refuse(wire.FencedInstanceID, "Static member %s with instance id %s was fenced by member %s.", id, instance, old.id)
}

// replaceMember writes that a static member has a new id, with all that it had.
func (m *Machine) replaceMember(s *step, old *member, id string) *member {
	next := *old
	next.id, next.epoch, next.previous = id, 0, 0
	s.replaced = old.id
	m.script.forgetMember(s.id, old.id)
	m.script.told(s.id, &next)
	m.script.target(s.id, id, s.c.targets[old.id])
	m.script.current(s.id, &next)
	return &next
}

// checkEpoch fences a member that does not know what we know of it. It may be
// one epoch behind, if an answer was lost, and has nothing that it should not
// have.
func (m *member) checkEpoch(body *wire.ConsumerGroupHeartbeatRequest) *refusal {
	switch e := body.MemberEpoch; {
	case e == joinEpoch:
		return nil
	case e > m.epoch:
		return refuse(wire.FencedMemberEpoch,
			"The consumer group member has a greater member epoch (%d) than the one known by the group coordinator (%d). The member must abandon all its partitions and rejoin.", e, m.epoch)
	case e < m.epoch && (e != m.previous || !m.assigned.covers(body.TopicPartitions)):
		return refuse(wire.FencedMemberEpoch,
			"The consumer group member has a smaller member epoch (%d) than the one known by the group coordinator (%d). The member must abandon all its partitions and rejoin.", e, m.epoch)
	}
	return nil
}

// covers reports whether what a member says it owns is part of the holding. A
// member that does not say may own anything.
func (h holding) covers(owned []wire.ConsumerGroupHeartbeatRequestTopicPartitions) bool {
	if owned == nil {
		return false
	}
	for i := range owned {
		has := h.of(owned[i].TopicID)
		if has == nil {
			return false
		}
		for _, n := range owned[i].Partitions {
			if _, ok := epochOf(has, n); !ok {
				return false
			}
		}
	}
	return true
}

// tell writes what the member says now, and finds out what it means for the
// group's regular expressions.
func (m *Machine) tell(s *step, q *Request) (regexChange, *refusal) {
	if s.c.members[s.next.id] == nil || !s.next.toldTheSame(s.member) {
		m.script.told(s.id, s.next)
	}
	return m.changeRegex(s)
}

// assignorsWith counts the assignors that are wanted with next in the place of
// member.
func (c *consumer) assignorsWith(member, next *member) map[string]int {
	if sameText(member.assignor, next.assignor) && c.members[member.id] != nil {
		return c.assignors
	}
	counts := map[string]int{}
	for name, n := range c.assignors {
		counts[name] = n
	}
	if member.assignor != nil {
		add(counts, *member.assignor, -1)
	}
	if next.assignor != nil {
		add(counts, *next.assignor, 1)
	}
	return counts
}

// assignorOf is the assignor that a group uses.
func (m *Machine) assignorOf(counts map[string]int) string {
	if name := preferred(counts); name != "" && slices.Contains(m.settings.Assignors, name) {
		return name
	}
	return m.settings.Assignors[0]
}

// bump gives the group a new epoch if something has changed for it: because the
// member said so, or the topics are not what they were.
func (m *Machine) bump(s *step, g *group, bump bool) {
	if !bump && g != nil && g.watch != nil && g.watch.fresh && g.consumer == s.c {
		return
	}
	s.subscribers, s.wantRegex = s.c.subscribersWith(s.member, s.next), s.c.wantRegexWith(s.member, s.next)
	hash := m.hashOf(s.subscribers)
	if bump || hash != s.c.hash {
		s.epoch++
		m.script.groupEpoch(s.id, s.epoch, hash)
	}
	if s.c.oldTopics {
		m.script.forgetOldTopics(s.id)
	}
}

// subscribersWith counts subscribers with next in the place of member.
func (c *consumer) subscribersWith(member, next *member) map[string]subscribers {
	if slices.Equal(member.topics, next.topics) && member.regex == next.regex {
		return c.subscribers
	}
	counts := make(map[string]subscribers, len(c.subscribers)+len(next.topics))
	for topic, n := range c.subscribers {
		counts[topic] = n
	}
	for _, topic := range member.topics {
		addSubscribers(counts, topic, subscribers{names: -1})
	}
	for _, topic := range next.topics {
		addSubscribers(counts, topic, subscribers{names: 1})
	}
	if old := c.regexes[member.regex]; old != nil && member.regex != next.regex && c.wantRegex[member.regex] == 1 {
		for _, topic := range old.topics {
			addSubscribers(counts, topic, subscribers{regexes: -1})
		}
	}
	return counts
}

func (c *consumer) wantRegexWith(member, next *member) map[string]int {
	if member.regex == next.regex {
		return c.wantRegex
	}
	counts := make(map[string]int, len(c.wantRegex)+1)
	for regex, n := range c.wantRegex {
		counts[regex] = n
	}
	if member.regex != "" {
		add(counts, member.regex, -1)
	}
	if next.regex != "" {
		add(counts, next.regex, 1)
	}
	return counts
}

// hashOf is the hash of topics that are subscribed to and exist.
func (m *Machine) hashOf(topics map[string]subscribers) int64 {
	hashes := make([]uint64, 0, len(topics))
	for _, name := range sortedKeys(topics) {
		t := m.image.Topic(name)
		if t == nil {
			continue
		}
		known, ok := m.hashes[name]
		if !ok || known.topic != t {
			known.topic = t
			m.hashing, known.hash = topicHash(m.hashing, m.image, t)
			if len(m.hashes) >= maxHashes {
				clear(m.hashes)
			}
			m.hashes[name] = known
		}
		hashes = append(hashes, known.hash)
	}
	return groupHash(hashes)
}

// maxHashes bounds the hashes of topics that are remembered: they can be
// computed again.
const maxHashes = 10_000

// enter makes the group what its records will say, as far as a failover may lose
// that.
func (m *Machine) enter(g *group, s *step) *group {
	if g == nil {
		g = m.make(s.id)
	}
	if s.upgraded {
		m.endClassic(g)
		m.watchClassics(g, s.c)
	}
	m.watchOf(g).fresh = true
	if s.replaced != s.next.id {
		m.unwatchMember(g, s.replaced)
	}
	return g
}

// leaveBeat takes a heartbeat of one who leaves.
func (m *Machine) leaveBeat(body *wire.ConsumerGroupHeartbeatRequest, r *wire.ConsumerGroupHeartbeatResponse) *refusal {
	g := m.group(body.GroupID)
	switch {
	case g == nil:
		return notFound(body.GroupID)
	case g.consumer == nil:
		return notConsumer(body.GroupID)
	}
	member := g.consumer.members[body.MemberID]
	if body.InstanceID != nil {
		member = g.consumer.staticMember(body.InstanceID)
	}
	switch {
	case member == nil && body.InstanceID != nil:
		return refuse(wire.UnknownMemberID, "Instance id %s is unknown.", *body.InstanceID)
	case member == nil:
		return noMember(body.GroupID, body.MemberID)
	case member.id != body.MemberID:
		return fencedBy(member, body.MemberID, *body.InstanceID)
	}
	r.MemberID, r.MemberEpoch = &body.MemberID, body.MemberEpoch
	if body.InstanceID != nil && body.MemberEpoch == leaveStaticEpoch {
		away := *member
		away.epoch, away.revoking, away.assigned = leaveStaticEpoch, nil, member.assigned.at(0)
		m.script.current(g.id, &away)
		return nil
	}
	m.expel(g, member)
	return nil
}
