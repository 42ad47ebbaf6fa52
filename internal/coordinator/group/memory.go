package group

import (
	"github.com/barnabas-log/barnabas/internal/coordinator/group/assign"
	"github.com/barnabas-log/barnabas/wire"
)

// What things take in memory, roughly, in bytes, beside names and all else that
// has no certain length. They were measured, with what maps and lists keep in
// reserve: see TestMemoryIsCounted.
const (
	groupBytes          = 400
	classicBytes        = 700
	classicMemberBytes  = 800
	pendingBytes        = 300 // One who was given a member id.
	topicBytes          = 60  // A topic that members want.
	consumerBytes       = 1500
	consumerMemberBytes = 1500
	committedTopicBytes = 300 // A topic with committed offsets.
	offsetBytes         = 200
	transactionBytes    = 800 // The offsets of one group in a transaction.
	nameBytes           = 100 // A topic in a subscription.
	heldTopicBytes      = 250 // A topic of which a member has partitions.
	heldBytes           = 40
	targetBytes         = 150 // What a member should have,
	targetTopicBytes    = 50
	stepBytes           = 100 // A step of an expression while it is resolved,
	foundBytes          = 32  // and a topic that it has found.
)

// usualMetadata is how much metadata is counted with each offset, so that those
// who say something of usual length can say it when there is no room for more.
const usualMetadata = 32

// count says how much more, or less, is kept than before.
func (m *Machine) count(bytes int) {
	m.bytes += bytes
	m.opts.Memory.Add(bytes)
}

// hasMemory reports whether there is room for so much more of a group, which is nil
// if it is new.
func (m *Machine) hasMemory(g *group, bytes int) bool {
	return m.opts.Memory.Fits(bytes, g != nil && g.kept())
}

// countHeld counts what transactions hold of a group. The most of it stays
// counted: who could have a transaction can have another.
func (m *Machine) countHeld(g *group, bytes int) {
	g.held += bytes
	if more := g.held - g.mostHeld; more > 0 {
		g.mostHeld = g.held
		m.count(more)
	}
}

func (g *group) bytes() int { return groupBytes + len(g.id) }

func (c *committed) bytes() int { return offsetBytes + max(0, len(c.metadata)-usualMetadata) }

// recordBytes is what the record of a classic group takes. Its members count it
// for themselves, but for their assignments.
func recordBytes(r *wire.GroupMetadataRecordValue) int {
	if r == nil {
		return 0
	}
	n := len(r.ProtocolType) + len(textOf(r.Protocol)) + len(textOf(r.Leader))
	for i := range r.Members {
		n += 2 * len(r.Members[i].Assignment) // The member as it is now has it, too.
	}
	return n
}

// bytes is what a member takes here, and in its group's record.
func (member *classicMember) bytes() int {
	n := classicMemberBytes + 4*len(member.id) + 2*(len(member.clientID)+len(member.clientHost)+2*len(textOf(member.instance)))
	for _, p := range member.protocols {
		n += 64 + 2*(len(p.Name)+len(p.Metadata))
	}
	return n
}

// protocolBytes is what protocols take that a member of a classic group speaks.
func protocolBytes(protocols []wire.JoinGroupRequestProtocol) (n int) {
	for _, p := range protocols {
		n += 64 + len(p.Name) + len(p.Metadata)
	}
	return n
}

// count says how much more, or less, a classic group takes.
func (c *classic) count(bytes int) {
	c.counted += bytes
	if c.machine != nil {
		c.machine.count(bytes)
	}
}

// begin lets a group count, end lets it count no more.
func (c *classic) begin(m *Machine) {
	c.machine = m
	m.count(c.counted)
}

func (g *group) endClassic() {
	if c := g.classic; c != nil && c.machine != nil {
		c.machine.count(-c.counted)
		c.machine = nil
	}
	g.classic = nil
}

// bytes is what a member of a consumer group takes.
func (m *member) bytes() int {
	n := consumerMemberBytes + 4*len(m.id) + 2*len(textOf(m.instance)) + len(textOf(m.rack)) + len(m.clientID) + len(m.clientHost) + 2*len(m.regex)
	for _, topic := range m.topics {
		n += nameBytes + len(topic)
	}
	if m.classic != nil {
		n += protocolBytes(m.classic.protocols)
	}
	return n + m.assigned.bytes() + m.revoking.bytes()
}

func (h holding) bytes() (n int) {
	for i := range h {
		n += heldTopicBytes + heldBytes*len(h[i].partitions)
	}
	return n
}

// bytesOfTarget is what a member's target takes.
func bytesOfTarget(id string, a assign.Assignment) int {
	n := targetBytes + len(id)
	for i := range a {
		n += targetTopicBytes + 4*len(a[i].Partitions)
	}
	return n
}

// bytesOf is what an expression and its topics take.
func (r *resolved) bytesOf(regex string) int {
	if r == nil {
		return 0
	}
	n := nameBytes + len(regex)
	for _, topic := range r.topics {
		n += nameBytes + len(topic)
	}
	return n
}

// count says how much more, or less, a consumer group takes. One that may not
// come to be has no machine.
func (c *consumer) count(bytes int) {
	c.counted += bytes
	if c.machine != nil {
		c.machine.count(bytes)
	}
}

// setTarget says what a member should have; forgetTarget forgets it.
func (c *consumer) setTarget(id string, a assign.Assignment) {
	c.forgetTarget(id)
	c.targets[id] = a
	c.count(bytesOfTarget(id, a))
}

func (c *consumer) forgetTarget(id string) {
	if old, ok := c.targets[id]; ok {
		c.count(-bytesOfTarget(id, old))
		delete(c.targets, id)
	}
}

// grownBy is how much more a group will take after a step.
func (s *step) grownBy(g *group) int {
	n := s.grown + s.next.bytes()
	if old := s.c.members[s.replacedOr(s.next.id)]; old != nil {
		n -= old.bytes()
	}
	switch {
	case g == nil:
		n += groupBytes + len(s.id) + s.c.counted
	case g.consumer == nil:
		n += s.c.counted - recordBytes(g.record)
		if g.classic != nil {
			n -= g.classic.counted
		}
	}
	return n
}

// mayGrow checks whether there is room for what a step makes of its group. Who
// comes, or wants something else than before, is turned away. Who is there has
// what it has, and asks again.
func (m *Machine) mayGrow(g *group, s *step) *refusal {
	if len(m.script.records) == 0 || m.hasMemory(g, s.grownBy(g)) {
		return nil
	}
	old := s.c.members[s.replacedOr(s.next.id)]
	if old == nil || s.replaced == "" && !s.next.toldTheSame(old) {
		return refuse(wire.GroupMaxSizeReached, "The coordinator has no memory left for this.")
	}
	return refuseAs(wire.CoordinatorLoadInProgress)
}

// growth is how much more a group takes after a commit.
type growth struct {
	machine *Machine
	group   *group // Nil if it is new.
	txn     bool
	offsets offsets // Those that change.
	base    int     // What it takes that there are any.
	bytes   int     // What the offsets take that were let in.
}

func (m *Machine) growthBy(who *committer) growth {
	x := growth{machine: m, group: m.groups[who.group], txn: who.txn}
	switch {
	case x.group == nil:
		x.base = groupBytes + len(who.group)
	case !x.txn:
		x.offsets = x.group.offsets
	}
	if x.txn {
		x.offsets = m.pending[who.producer][who.group]
		if x.offsets == nil {
			x.base += transactionBytes
		}
	}
	return x
}

// take lets an offset in if it takes no more than what it replaces, or there is
// room for it.
func (x *growth) take(topic string, c *committed) bool {
	more := x.offsets.more(topic, c)
	if more > 0 && !x.machine.hasMemory(x.group, x.with(x.bytes+more)) {
		return false
	}
	x.bytes += max(0, more)
	return true
}

// with is how much more the group takes if the offsets take so many bytes.
func (x *growth) with(bytes int) int {
	switch {
	case !x.txn:
		return x.base + bytes
	case x.group == nil:
		return x.base + 2*bytes
	}
	return x.group.held + x.base + 2*bytes - x.group.mostHeld
}
