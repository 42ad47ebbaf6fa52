package group

import (
	"slices"

	"github.com/barnabas-log/barnabas/internal/coordinator/group/assign"
	"github.com/barnabas-log/barnabas/model"
)

// consumer is a consumer group (KIP-848) as its records say it is. Its methods
// that change it are Apply's, and those who think a step ahead in a copy of
// their own.
type consumer struct {
	epoch           int32
	hash            int64 // Of the topics that it is subscribed to.
	assignmentEpoch int32
	assignedAt      int64 // In milliseconds since 1970; 0 is never.
	members         map[string]*member
	targets         map[string]assign.Assignment
	regexes         map[string]*resolved
	// oldTopics is whether there is a record of a kind that Kafka wrote before
	// 4.0 and has no use for any more.
	oldTopics bool
	machine   *Machine // Nil while it may not come to be.
	counted   int      // What it takes, in bytes.

	// What follows from members and regexes, kept because it is asked for often.
	static      map[string]string // The member of an instance.
	subscribers map[string]subscribers
	wantRegex   map[string]int // How many members want an expression.
	assignors   map[string]int // How many members want an assignor.
	protocols   map[string]int // How many classic members speak a protocol.
	classics    int            // How many classic members there are.
	holders     map[model.TopicID]map[int32]int32
}

// subscribers are how many members want a topic by name, and how many regular
// expressions find it.
type subscribers struct{ names, regexes int }

// resolved are the topics that a regular expression matches.
type resolved struct {
	topics  []string // In order.
	version int64    // The last offset of the cluster's metadata that was looked at.
	at      int64    // In milliseconds since 1970.
}

// firstEpoch is the epoch of a group of which nothing was recorded.
const firstEpoch = 1

func newConsumer() *consumer {
	return &consumer{
		epoch: firstEpoch, assignmentEpoch: firstEpoch, members: map[string]*member{}, targets: map[string]assign.Assignment{},
		regexes: map[string]*resolved{}, static: map[string]string{}, subscribers: map[string]subscribers{}, wantRegex: map[string]int{},
		counted: consumerBytes, assignors: map[string]int{}, protocols: map[string]int{}, holders: map[model.TopicID]map[int32]int32{},
	}
}

// setMember puts a member in the place of the one with its id.
func (c *consumer) setMember(m *member) {
	if old := c.members[m.id]; old != nil {
		c.countMember(old, -1)
	}
	c.members[m.id] = m
	c.countMember(m, 1)
}

func (c *consumer) removeMember(id string) {
	if old := c.members[id]; old != nil {
		c.countMember(old, -1)
		delete(c.members, id)
	}
}

// countMember lets m count, or not any more.
func (c *consumer) countMember(m *member, by int) {
	c.count(by * m.bytes())
	c.countTopics(m, by)
	if m.regex != "" {
		add(c.wantRegex, m.regex, by)
	}
	if m.assignor != nil {
		add(c.assignors, *m.assignor, by)
	}
	if m.classic != nil {
		c.classics += by
		for _, p := range m.classic.protocols {
			add(c.protocols, p.Name, by)
		}
	}
	c.countHeld(m.assigned, by)
	c.countHeld(m.revoking, by)
	switch {
	case m.instance == nil:
	case by > 0:
		c.static[*m.instance] = m.id
	case c.static[*m.instance] == m.id:
		delete(c.static, *m.instance)
	}
}

func add(counts map[string]int, key string, by int) {
	if counts[key] += by; counts[key] == 0 {
		delete(counts, key)
	}
}

func (c *consumer) countTopics(m *member, by int) {
	for _, topic := range m.topics {
		addSubscribers(c.subscribers, topic, subscribers{names: by})
	}
}

func addSubscribers(counts map[string]subscribers, topic string, by subscribers) {
	n := counts[topic]
	n.names, n.regexes = n.names+by.names, n.regexes+by.regexes
	if n == (subscribers{}) {
		delete(counts, topic)
		return
	}
	counts[topic] = n
}

func (c *consumer) countHeld(h holding, by int) {
	for _, t := range h {
		counts := c.holders[t.id]
		if counts == nil {
			counts = make(map[int32]int32, len(t.partitions))
			c.holders[t.id] = counts
		}
		for _, p := range t.partitions {
			if counts[p.n] += int32(by); counts[p.n] == 0 {
				delete(counts, p.n)
			}
		}
		if len(counts) == 0 {
			delete(c.holders, t.id)
		}
	}
}

// isHeld reports whether some member has a partition, or has not given it up.
func (c *consumer) isHeld(id model.TopicID, partition int32) bool {
	return c.holders[id][partition] > 0
}

// setRegex says what a regular expression matches; nil forgets it.
func (c *consumer) setRegex(regex string, r *resolved) {
	if old := c.regexes[regex]; old != nil {
		for _, topic := range old.topics {
			addSubscribers(c.subscribers, topic, subscribers{regexes: -1})
		}
		c.count(-old.bytesOf(regex))
		delete(c.regexes, regex)
	}
	if r == nil {
		return
	}
	c.regexes[regex] = r
	c.count(r.bytesOf(regex))
	for _, topic := range r.topics {
		addSubscribers(c.subscribers, topic, subscribers{regexes: 1})
	}
}

// staticMember is the member of an instance, or nil.
func (c *consumer) staticMember(instance *string) *member {
	if instance == nil {
		return nil
	}
	id, ok := c.static[*instance]
	if !ok {
		return nil
	}
	return c.members[id]
}

// target is what a member should have; that of a static member who was
// replaced is that of its predecessor.
func (c *consumer) target(m *member) assign.Assignment {
	if m.instance == nil {
		return c.targets[m.id]
	}
	return c.targets[c.static[*m.instance]]
}

// state is the group's, as Kafka names it. It takes a look at all members.
func (c *consumer) state() string {
	switch {
	case len(c.members) == 0:
		return "Empty"
	case c.epoch > c.assignmentEpoch:
		return "Assigning"
	}
	for _, m := range c.members {
		if !m.reconciled(c.assignmentEpoch) {
			return "Reconciling"
		}
	}
	return "Stable"
}

// preferred is the assignor that most members want, "" if none wants any. Of two that
// are wanted by as many it is the one that Kafka would take.
func preferred(counts map[string]int) (name string) {
	most := 0
	for _, candidate := range []string{uniform, ranges} {
		if n := counts[candidate]; n > most {
			name, most = candidate, n
		}
	}
	return name
}

// Names of the server-side assignors.
const (
	uniform = "uniform"
	ranges  = "range"
)

// lookedAt is when the regular expressions were resolved, and against which
// version of the cluster's metadata. They are resolved together.
func (c *consumer) lookedAt() (at, version int64, ever bool) {
	for _, r := range c.regexes {
		if !ever || r.at > at {
			at, version, ever = r.at, r.version, true
		}
	}
	return at, version, ever
}

// waitsForOthers reports whether something that the member should have is still
// with somebody else.
func (c *consumer) waitsForOthers(m *member) bool {
	if m.state != waiting {
		return false
	}
	for _, t := range c.targets[m.id] {
		has := m.assigned.of(t.ID)
		for _, n := range t.Partitions {
			if _, ok := epochOf(has, n); !ok && c.isHeld(t.ID, n) {
				return true
			}
		}
	}
	return false
}

// supports reports whether a classic member with these protocols may be in the
// group: all classic members must have one in common.
func (c *consumer) supports(names []string) bool {
	if len(c.members) == 0 {
		return len(names) > 0
	}
	return slices.ContainsFunc(names, func(name string) bool { return c.protocols[name] == c.classics })
}

// ids are the members' ids in order.
func (c *consumer) ids() []string { return sortedKeys(c.members) }

// same reports whether the same topics were found before.
func (r *resolved) same(old *resolved) bool {
	if old == nil {
		return len(r.topics) == 0
	}
	return slices.Equal(r.topics, old.topics)
}
