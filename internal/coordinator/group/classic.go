package group

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"
	"unicode/utf16"

	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/wire"
)

// classicState is the state of a classic group.
type classicState uint8

const (
	// empty groups have no members, but maybe offsets.
	empty classicState = iota
	// preparing groups wait for their members to join.
	preparing
	// completing groups wait for the leader's assignment.
	completing
	// settled groups have one. Kafka calls them Stable.
	settled
)

func (s classicState) String() string {
	return [...]string{"Empty", "PreparingRebalance", "CompletingRebalance", "Stable"}[s]
}

// consumerProtocol is the protocol type of consumers.
const consumerProtocol = "consumer"

// classic is a classic group as it is now. What a failover leaves of it is the
// record that was written with its last assignment.
type classic struct {
	group        *group
	state        classicState
	before       classicState
	since        int64 // When it came to its state, in milliseconds since 1970.
	protocolType string
	protocol     *string
	generation   int32
	leader       string // "" if there is none.
	members      map[string]*classicMember
	static       map[string]string // The member of an instance.
	pending      map[string]*timer // Those who were given an id and have not joined.
	unsynced     map[string]bool   // Those who have not asked for their assignment.
	supported    map[string]int    // How many members support a protocol.
	joining      int               // How many wait for the answer to JoinGroup.
	bytes        int               // What the members take in the group's record,
	held         int               // and what all of their protocols take here.
	machine      *Machine          // Nil while it may not come to be, and when it is no more.
	counted      int               // What all of it takes, in bytes: see memory.go.

	// topics are those that the members subscribe to, if that is known: the
	// protocol is that of consumers, and could be read.
	topics      map[string]bool
	topicsKnown bool

	joinTimer, syncTimer timer
	// Before the first generation the group waits for more members: delay is how
	// long this time, remaining how long after that.
	first            bool
	delay, remaining time.Duration
	newcomers        bool
}

// classicMember is a member of a classic group.
type classicMember struct {
	id                   string
	instance             *string
	clientID, clientHost string
	rebalance, session   int32 // In milliseconds.
	protocols            []wire.JoinGroupRequestProtocol
	assignment           []byte
	join                 *parked           // JoinGroup that waits.
	sync                 coordinator.Token // SyncGroup that waits, if syncing.
	syncing              bool
	fresh                bool // It has never been in a generation.
	timer                timer
}

// parked is a JoinGroup that waits for its answer.
type parked struct {
	to      coordinator.Token
	version int16
}

func newClassic(g *group, millis int64) *classic {
	return &classic{
		counted: classicBytes, group: g, since: millis, members: map[string]*classicMember{}, static: map[string]string{}, pending: map[string]*timer{},
		unsynced: map[string]bool{}, supported: map[string]int{},
		joinTimer: timer{alarm: joinAlarm, group: g.id}, syncTimer: timer{alarm: syncAlarm, group: g.id},
	}
}

// live returns the classic group as it is now. One without members is made of
// its record, or of nothing.
func (m *Machine) live(g *group) *classic {
	if g.classic != nil {
		return g.classic
	}
	c := newClassic(g, m.millis)
	if r := g.record; r != nil {
		c.protocolType, c.protocol, c.generation, c.leader, c.since = r.ProtocolType, r.Protocol, r.Generation, textOf(r.Leader), r.CurrentStateTimestamp
		for i := range r.Members {
			c.add(classicMemberFrom(g.id, r, &r.Members[i]))
		}
		if len(c.members) > 0 {
			c.state = settled
		}
		c.findTopics()
	}
	c.begin(m)
	g.classic = c
	return c
}

func classicMemberFrom(group string, r *wire.GroupMetadataRecordValue, v *wire.GroupMetadataRecordValueMemberMetadata) *classicMember {
	member := &classicMember{
		id: v.MemberID, instance: v.GroupInstanceID, clientID: v.ClientID, clientHost: v.ClientHost, rebalance: v.RebalanceTimeout,
		session: v.SessionTimeout, assignment: v.Assignment,
		protocols: []wire.JoinGroupRequestProtocol{{Name: textOf(r.Protocol), Metadata: v.Subscription}},
		timer:     timer{alarm: sessionAlarm, group: group, member: v.MemberID},
	}
	if member.rebalance == -1 {
		member.rebalance = member.session // As before KIP-62.
	}
	return member
}

// reviveClassic lets the sessions of a group that was found in the log begin.
func (m *Machine) reviveClassic(g *group) {
	c := m.live(g)
	for _, id := range c.ids() {
		m.alive(c.members[id])
	}
	if len(c.members) > m.settings.MaxSize {
		m.prepare(c) // To give members a chance to commit before some have to go.
	}
}

// isIdle reports whether the group's record says all there is to say.
func (c *classic) isIdle() bool {
	return c.state == empty && len(c.members) == 0 && len(c.pending) == 0
}

func (c *classic) ids() []string { return sortedKeys(c.members) }

func (c *classic) usesConsumerProtocol() bool { return c.protocolType == consumerProtocol }

// moveTo changes the state.
func (m *Machine) moveTo(c *classic, s classicState) {
	c.before, c.state, c.since = c.state, s, m.millis
}

func (c *classic) add(member *classicMember) {
	if member.instance != nil {
		c.static[*member.instance] = member.id
	}
	if c.leader == "" {
		c.leader = member.id
	}
	c.members[member.id] = member
	c.countProtocols(member, 1)
	if member.join != nil {
		c.joining++
	}
}

func (c *classic) countProtocols(member *classicMember, by int) {
	for i, p := range member.protocols {
		if !slices.ContainsFunc(member.protocols[:i], func(o wire.JoinGroupRequestProtocol) bool { return o.Name == p.Name }) {
			add(c.supported, p.Name, by)
		}
	}
	c.bytes += by * member.size()
	c.held += by * member.held()
	c.count(by * member.bytes())
}

// held is about what a member's protocols take in memory.
func (member *classicMember) held() int { return protocolBytes(member.protocols) }

// size is about what a member takes in the group's record, in the protocol that
// takes most.
func (member *classicMember) size() int {
	most := 0
	for _, p := range member.protocols {
		most = max(most, len(p.Name)+len(p.Metadata))
	}
	return 64 + len(member.id) + len(member.clientID) + len(member.clientHost) + len(textOf(member.instance)) + most
}

// remove takes a member out, or one who was given an id. Who leads now is up to
// nobody: the first.
func (m *Machine) remove(c *classic, id string) {
	if member := c.members[id]; member != nil {
		delete(c.members, id)
		c.countProtocols(member, -1)
		if member.join != nil {
			c.joining--
			m.reply(member.join.to, joinError(member.join.version, "", wire.UnknownMemberID))
		}
		m.answerSync(c, member, wire.UnknownMemberID)
		if member.instance != nil && c.static[*member.instance] == id {
			delete(c.static, *member.instance)
		}
		m.timers.stop(&member.timer)
	}
	if c.leader == id {
		c.leader = ""
		for other := range c.members {
			if c.leader == "" || other < c.leader {
				c.leader = other
			}
		}
	}
	m.unpend(c, id)
	delete(c.unsynced, id)
}

// pend notes that somebody was given an id, unpend that it has come, or will not.
func (m *Machine) pend(c *classic, id string, session int32) {
	t := &timer{alarm: pendingAlarm, group: c.group.id, member: id}
	c.pending[id] = t
	c.count(pendingBytes + len(id))
	m.in(t, session)
}

func (m *Machine) unpend(c *classic, id string) {
	if t := c.pending[id]; t != nil {
		m.timers.stop(t)
		c.count(-pendingBytes - len(id))
		delete(c.pending, id)
	}
}

// forgetPending forgets who was given an id.
func (m *Machine) forgetPending(c *classic) {
	for id := range c.pending {
		m.unpend(c, id)
	}
}

// allJoined reports whether nobody is waited for.
func (c *classic) allJoined() bool { return c.joining == len(c.members) && len(c.pending) == 0 }

// rebalanceTimeout is the longest of the members', in milliseconds.
func (c *classic) rebalanceTimeout() (longest int32) {
	for _, member := range c.members {
		longest = max(longest, member.rebalance)
	}
	return longest
}

// supports reports whether one with these protocols may join.
func (c *classic) supports(protocolType string, protocols []wire.JoinGroupRequestProtocol) bool {
	if c.state == empty {
		return protocolType != "" && len(protocols) > 0
	}
	return c.protocolType == protocolType && slices.ContainsFunc(protocols, func(p wire.JoinGroupRequestProtocol) bool {
		return c.supported[p.Name] == len(c.members)
	})
}

// choose is the protocol that most members like best, of those that all support.
func (c *classic) choose() string {
	votes := map[string]int{}
	for _, member := range c.members {
		for _, p := range member.protocols {
			if c.supported[p.Name] == len(c.members) {
				votes[p.Name]++
				break
			}
		}
	}
	names := sortedKeys(votes)
	if len(names) == 0 {
		return ""
	}
	// Of equals, the one that Java's HashMap has first.
	return slices.MaxFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(votes[a], votes[b]), cmp.Compare(javaBucket(b), javaBucket(a)))
	})
}

// javaBucket is where a small HashMap of Java has a string.
func javaBucket(s string) uint32 {
	var hash uint32
	for _, u := range utf16.Encode([]rune(s)) {
		hash = 31*hash + uint32(u)
	}
	return (hash ^ hash>>16) & 15
}

// metadata is what a member said under a protocol.
func (member *classicMember) metadata(protocol string) []byte {
	for _, p := range member.protocols {
		if p.Name == protocol {
			return p.Metadata
		}
	}
	return nil
}

// satisfied reports whether a member need not send heartbeats: it waits for us.
func (member *classicMember) satisfied() bool {
	return !member.fresh && (member.join != nil || member.syncing)
}

// alive begins a member's session anew.
func (m *Machine) alive(member *classicMember) { m.in(&member.timer, member.session) }

// validate checks that one is a member.
func (c *classic) validate(id string, instance *string) wire.ErrorCode {
	if instance != nil {
		current, ok := c.static[*instance]
		switch {
		case !ok:
			return wire.UnknownMemberID
		case current != id:
			return wire.FencedInstanceID
		}
	}
	if c.members[id] == nil {
		return wire.UnknownMemberID
	}
	return wire.None
}

// findTopics reads the subscriptions of consumers.
func (c *classic) findTopics() {
	c.setTopics(nil)
	c.topicsKnown = false
	if !c.usesConsumerProtocol() {
		return
	}
	topics := map[string]bool{}
	if len(c.members) > 0 {
		if c.protocol == nil {
			return
		}
		for _, member := range c.members {
			if !subscribed(member.metadata(*c.protocol), topics) {
				return
			}
		}
	}
	c.topicsKnown = c.setTopics(topics)
}

// setTopics takes topics over, if there is room for them: the members may name
// many in few bytes. What is not known to be wanted by nobody does not expire.
func (c *classic) setTopics(topics map[string]bool) bool {
	more := topicBytes * (len(topics) - len(c.topics))
	if c.machine != nil && !c.machine.hasMemory(c.group, more) {
		return false
	}
	c.count(more)
	c.topics = topics
	return true
}

// subscribed adds the topics of a subscription. Later versions begin as the
// first does.
func subscribed(metadata []byte, topics map[string]bool) bool {
	if len(metadata) < 2 {
		return false
	}
	var s wire.ConsumerProtocolSubscription
	if s.ReadFrom(wire.NewReader(metadata[2:]), 0) != nil {
		return false
	}
	for _, topic := range s.Topics {
		topics[topic] = true
	}
	return true
}

// readSubscription reads a subscription in its own version. Those to come read
// like the last that is known, as in Kafka.
func readSubscription(metadata []byte) (*wire.ConsumerProtocolSubscription, bool) {
	s := new(wire.ConsumerProtocolSubscription)
	version, body, ok := consumerVersion(metadata)
	if !ok || s.ReadFrom(wire.NewReader(body), version) != nil {
		return nil, false
	}
	return s, true
}

// readAssignment reads an assignment likewise.
func readAssignment(assignment []byte) (*wire.ConsumerProtocolAssignment, bool) {
	a := new(wire.ConsumerProtocolAssignment)
	version, body, ok := consumerVersion(assignment)
	if !ok || a.ReadFrom(wire.NewReader(body), version) != nil {
		return nil, false
	}
	return a, true
}

// lastConsumerVersion is the last version of the consumers' embedded protocol.
const lastConsumerVersion = 3

func consumerVersion(b []byte) (version int16, body []byte, ok bool) {
	if len(b) < 2 {
		return 0, nil, false
	}
	version = int16(binary.BigEndian.Uint16(b))
	return min(version, lastConsumerVersion), b[2:], version >= 0
}

// isSubscribed reports whether members subscribe to a topic. If that is not
// known, consumers might.
func (c *classic) isSubscribed(topic string) bool {
	if c.topicsKnown {
		return c.topics[topic]
	}
	return c.usesConsumerProtocol()
}

// recordOf is what is written of the group, with the assignments as they are.
func (c *classic) recordOf() *wire.GroupMetadataRecordValue {
	v := &wire.GroupMetadataRecordValue{ProtocolType: c.protocolType, Generation: c.generation, Protocol: c.protocol, CurrentStateTimestamp: c.since}
	if c.leader != "" {
		v.Leader = &c.leader
	}
	for _, id := range c.ids() {
		member := c.members[id]
		v.Members = append(v.Members, wire.GroupMetadataRecordValueMemberMetadata{
			MemberID: id, GroupInstanceID: member.instance, ClientID: member.clientID, ClientHost: member.clientHost,
			RebalanceTimeout: member.rebalance, SessionTimeout: member.session, Subscription: member.metadata(textOf(c.protocol)),
			Assignment: member.assignment,
		})
	}
	return v
}
