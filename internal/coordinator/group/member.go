package group

import (
	"cmp"
	"slices"

	"github.com/barnabas-log/barnabas/internal/coordinator/group/assign"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// memberState is where a member of a consumer group is on its way to the target
// assignment, by Kafka's numbers.
type memberState int8

const (
	// stable members have what the target of their epoch gives them.
	stable memberState = 0
	// revoking members have to give up partitions before they go on.
	revoking memberState = 1
	// waiting members get the rest when others have given it up.
	waiting memberState = 2
)

// held are partitions of one topic that a member has, in ascending order.
type held struct {
	id         model.TopicID
	partitions []heldPartition
}

// heldPartition is a partition, and the epoch in which the member got it.
type heldPartition struct{ n, epoch int32 }

// holding is what a member has, by topic id in ascending order. No topic is
// without partitions. It is never changed, but replaced.
type holding []held

func (h holding) of(id model.TopicID) []heldPartition {
	if i, ok := slices.BinarySearchFunc(h, id, func(t held, id model.TopicID) int { return assign.Compare(t.id, id) }); ok {
		return h[i].partitions
	}
	return nil
}

// epoch is that in which the member got a partition.
func (h holding) epoch(id model.TopicID, partition int32) (int32, bool) {
	return epochOf(h.of(id), partition)
}

func epochOf(list []heldPartition, partition int32) (int32, bool) {
	i, ok := slices.BinarySearchFunc(list, partition, func(p heldPartition, n int32) int { return cmp.Compare(p.n, n) })
	if !ok {
		return 0, false
	}
	return list[i].epoch, true
}

func (h holding) equal(o holding) bool {
	return slices.EqualFunc(h, o, func(a, b held) bool { return a.id == b.id && slices.Equal(a.partitions, b.partitions) })
}

// at is the holding with all epochs set.
func (h holding) at(epoch int32) holding {
	out := make(holding, len(h))
	for i, t := range h {
		out[i] = held{t.id, slices.Clone(t.partitions)}
		for j := range out[i].partitions {
			out[i].partitions[j].epoch = epoch
		}
	}
	return out
}

// holdingOf is an assignment, got in an epoch.
func holdingOf(a assign.Assignment, epoch int32) holding {
	var h holding
	for _, t := range a {
		list := make([]heldPartition, len(t.Partitions))
		for i, n := range t.Partitions {
			list[i] = heldPartition{n, epoch}
		}
		h = append(h, held{t.ID, list})
	}
	return h
}

// classicSide is what a member has told by JoinGroup, if it speaks the classic
// protocol.
type classicSide struct {
	session   int32 // In milliseconds.
	protocols []wire.JoinGroupRequestProtocol
}

func (c *classicSide) equal(o *classicSide) bool {
	if c == nil || o == nil {
		return c == o
	}
	return c.session == o.session && sameProtocols(c.protocols, o.protocols)
}

// member is a member of a consumer group: what its two records say. It is never
// changed, but replaced.
type member struct {
	id string

	// What it told: the metadata record.
	instance, rack, assignor *string
	clientID, clientHost     string
	topics                   []string // In order, each once.
	regex                    string
	rebalanceTimeout         int32 // In milliseconds; -1 is unknown.
	classic                  *classicSide

	// Where it is: the record of its current assignment.
	epoch, previous int32
	state           memberState
	assigned        holding
	revoking        holding
}

// newMember is a member of which nothing is known.
func newMember(id string) *member { return &member{id: id, previous: -1, rebalanceTimeout: -1} }

// toldTheSame reports whether two say the same of themselves.
func (m *member) toldTheSame(o *member) bool {
	return m.id == o.id && sameText(m.instance, o.instance) && sameText(m.rack, o.rack) && sameText(m.assignor, o.assignor) &&
		m.clientID == o.clientID && m.clientHost == o.clientHost && slices.Equal(m.topics, o.topics) && m.regex == o.regex &&
		m.rebalanceTimeout == o.rebalanceTimeout && m.classic.equal(o.classic)
}

// isWhere reports whether two are at the same place.
func (m *member) isWhere(o *member) bool {
	return m.epoch == o.epoch && m.previous == o.previous && m.state == o.state && m.assigned.equal(o.assigned) && m.revoking.equal(o.revoking)
}

// reconciled reports whether the member has what the target of an epoch says.
func (m *member) reconciled(epoch int32) bool { return m.state == stable && m.epoch == epoch }

func sameText(a, b *string) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

func sameProtocols(a, b []wire.JoinGroupRequestProtocol) bool {
	return slices.EqualFunc(a, b, func(x, y wire.JoinGroupRequestProtocol) bool {
		return x.Name == y.Name && slices.Equal(x.Metadata, y.Metadata)
	})
}

// textOf is the text that p points to, "" if there is none.
func textOf(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}
