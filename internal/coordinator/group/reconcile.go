package group

import (
	"cmp"
	"slices"

	"github.com/barnabas-log/barnabas/internal/coordinator/group/assign"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// retarget finds out what the member should have. If the group has an epoch that
// no assignment was made for, one is made now; not more often than every
// group.consumer.assignment.interval.ms, so that members that come together are
// dealt with together.
func (m *Machine) retarget(s *step) (epoch int32, target assign.Assignment) {
	if s.c.assignmentEpoch >= s.epoch || !m.mayAssign(s) {
		return s.c.assignmentEpoch, s.c.target(s.next)
	}
	members := m.assignees(s)
	g := assign.Group{Members: members, Same: s.isSame(len(members)), Partitions: m.partitions}
	m.wanted(s, &g)
	assignor := assign.Uniform
	if m.assignorOf(s.c.assignorsWith(s.member, s.next)) == ranges {
		assignor = assign.Range
	}
	for i, a := range assignor(g) {
		id := members[i].ID
		if id == s.next.id {
			target = a
		}
		if old, ok := s.c.targets[s.predecessor(id)]; !ok || !old.Equal(a) {
			m.script.target(s.id, id, a)
			s.grown += bytesOfTarget(id, a)
			if ok {
				s.grown -= bytesOfTarget(id, old)
			}
		}
	}
	m.script.targetEpoch(s.id, s.epoch, m.millis)
	return s.epoch, target
}

func (m *Machine) mayAssign(s *step) bool {
	at := s.c.assignedAt // A moment to come is of a clock that was set right since.
	return at == 0 || m.millis < at || m.millis >= at+m.assignmentInterval(s.id)
}

func (m *Machine) partitions(id model.TopicID) int {
	if t := m.image.TopicByID(id); t != nil {
		return len(t.Partitions)
	}
	return 0
}

// predecessor is the member whose target is that of id: itself, but for a static
// member that takes another's place.
func (s *step) predecessor(id string) string {
	if id == s.next.id && s.replaced != "" {
		return s.replaced
	}
	return id
}

// member is the group's member with that id, as it will be.
func (s *step) memberOf(id string) *member {
	if id == s.next.id {
		return s.next
	}
	return s.c.members[id]
}

// assignees are the members that get something, in the order of their ids, and
// what they had.
func (m *Machine) assignees(s *step) []assign.Member {
	ids := make([]string, 0, len(s.c.members)+1)
	for id := range s.c.members {
		if id != s.replaced && id != s.next.id {
			ids = append(ids, id)
		}
	}
	ids = append(ids, s.next.id)
	slices.Sort(ids)
	list := make([]assign.Member, len(ids))
	for i, id := range ids {
		list[i] = assign.Member{ID: id, Instance: textOf(s.memberOf(id).instance), Had: s.c.targets[s.predecessor(id)]}
	}
	return list
}

// isSame reports whether all members want the same topics.
func (s *step) isSame(members int) bool {
	topics, regexes := s.c.subscribers, s.c.wantRegex
	if s.subscribers != nil {
		topics, regexes = s.subscribers, s.wantRegex
	}
	if len(regexes) == 0 {
		for _, n := range topics {
			if n.names != members {
				return false
			}
		}
		return true
	}
	for _, n := range regexes {
		if n != members {
			return false
		}
	}
	for _, n := range topics {
		if n.names > 0 || n.regexes != 1 {
			return false
		}
	}
	return true
}

// wanted fills in which topics the members want.
func (m *Machine) wanted(s *step, g *assign.Group) {
	for i := range g.Members {
		if i > 0 && g.Same {
			g.Members[i].Topics = g.Members[0].Topics
			continue
		}
		g.Members[i].Topics = m.topicIDs(s.c, s.memberOf(g.Members[i].ID))
	}
}

// topicIDs are the topics that a member wants and that exist, in order.
func (m *Machine) topicIDs(c *consumer, member *member) []model.TopicID {
	var ids []model.TopicID
	collect := func(names []string) {
		for _, name := range names {
			if t := m.image.Topic(name); t != nil {
				ids = append(ids, t.ID)
			}
		}
	}
	collect(member.topics)
	if r := c.regexes[member.regex]; r != nil {
		collect(r.topics)
	}
	slices.SortFunc(ids, assign.Compare)
	return slices.Compact(ids)
}

// reconcile moves the member on towards its target: it gives up what it should
// not have, and gets what nobody else has any more. That is written.
func (m *Machine) reconcile(s *step, epoch int32, target assign.Assignment, owned []wire.ConsumerGroupHeartbeatRequestTopicPartitions) *refusal {
	changed := !slices.Equal(s.member.topics, s.next.topics) || s.member.regex != s.next.regex
	if !changed && s.next.reconciled(epoch) {
		return nil
	}
	r := &reconciler{m: m, c: s.c, member: s.next, epoch: epoch, target: target, owned: owned, changed: changed}
	next, no := r.run()
	if no != nil {
		return no
	}
	if !next.isWhere(s.next) {
		m.script.current(s.id, next)
	}
	s.next = next
	return nil
}

// reconciler brings one member nearer to its target.
type reconciler struct {
	m       *Machine
	c       *consumer
	member  *member
	epoch   int32 // Of the target.
	target  assign.Assignment
	owned   []wire.ConsumerGroupHeartbeatRequestTopicPartitions
	changed bool // The member subscribes to something else.
}

func (r *reconciler) run() (*member, *refusal) {
	switch r.member.state {
	case stable:
		switch {
		case r.member.epoch != r.epoch:
			return r.advance(r.member.epoch), nil
		case r.changed:
			return r.shed(), nil
		}
		return r.member, nil
	case revoking:
		if !r.owns(r.member.revoking) {
			return r.advance(r.member.epoch), nil
		}
		if r.changed {
			return r.shed(), nil
		}
		return r.member, nil
	case waiting:
		return r.advance(r.member.epoch), nil
	}
	// A state that a newer version wrote.
	if r.owned == nil || len(r.owned) > 0 {
		return nil, refuse(wire.FencedMemberEpoch, "The consumer group member is in a unknown state. The member must abandon all its partitions and rejoin.")
	}
	return r.advance(r.epoch), nil
}

// owns reports whether the member still has some of h. If it does not say, it
// has.
func (r *reconciler) owns(h holding) bool {
	if r.owned == nil {
		return true
	}
	for i := range r.owned {
		list := h.of(r.owned[i].TopicID)
		for _, n := range r.owned[i].Partitions {
			if _, ok := epochOf(list, n); ok {
				return true
			}
		}
	}
	return false
}

// shed takes away topics that the member does not subscribe to any more; its
// target will follow.
func (r *reconciler) shed() *member {
	ids := r.m.topicIDs(r.c, r.member)
	var keep, drop holding
	for _, t := range r.member.assigned {
		if _, ok := slices.BinarySearchFunc(ids, t.id, assign.Compare); ok {
			keep = append(keep, t)
		} else {
			drop = append(drop, t)
		}
	}
	if len(drop) == 0 {
		return r.member
	}
	next := *r.member
	next.previous, next.assigned = r.member.epoch, keep
	if away := merge(r.member.revoking, drop); r.owns(away) {
		next.state, next.revoking = revoking, away
	}
	return &next
}

// merge puts two holdings together.
func merge(a, b holding) holding {
	all := append(slices.Clone(a), b...)
	slices.SortStableFunc(all, func(x, y held) int { return assign.Compare(x.id, y.id) })
	var out holding
	for _, t := range all {
		if n := len(out); n > 0 && out[n-1].id == t.id {
			list := append(slices.Clone(out[n-1].partitions), t.partitions...)
			slices.SortStableFunc(list, func(x, y heldPartition) int { return cmp.Compare(x.n, y.n) })
			out[n-1].partitions = slices.CompactFunc(list, func(x, y heldPartition) bool { return x.n == y.n })
			continue
		}
		out = append(out, t)
	}
	return out
}

// advance finds out what the member keeps, what it has to give up, and what it
// can be given.
func (r *reconciler) advance(from int32) *member {
	ids := r.m.topicIDs(r.c, r.member)
	var keep, drop, gain holding
	waits := false
	each(r.target, r.member.assigned, func(id model.TopicID, target []int32, has []heldPartition) {
		if _, ok := slices.BinarySearchFunc(ids, id, assign.Compare); !ok {
			target = nil
		}
		var kept, dropped, gained []heldPartition
		for _, p := range has {
			if _, ok := slices.BinarySearch(target, p.n); ok {
				kept = append(kept, p)
			} else {
				dropped = append(dropped, p)
			}
		}
		revoked := r.member.revoking.of(id)
		for _, n := range target {
			if _, ok := epochOf(has, n); ok {
				continue
			}
			if _, mine := epochOf(revoked, n); r.c.isHeld(id, n) && !mine {
				waits = true
				continue
			}
			gained = append(gained, heldPartition{n, r.epoch})
		}
		keep, drop, gain = keep.with(id, kept), drop.with(id, dropped), gain.with(id, gained)
	})
	next := *r.member
	next.previous = r.member.epoch
	if len(drop) > 0 && r.owns(drop) {
		next.epoch, next.state, next.assigned, next.revoking = from, revoking, keep, drop
		return &next
	}
	next.epoch, next.state, next.assigned, next.revoking = r.epoch, stable, merge(keep, gain), nil
	if waits {
		next.state = waiting
	}
	return &next
}

func (h holding) with(id model.TopicID, list []heldPartition) holding {
	if len(list) == 0 {
		return h
	}
	return append(h, held{id, list})
}

// each goes over the topics of a target and a holding, in order.
func each(target assign.Assignment, has holding, visit func(id model.TopicID, target []int32, has []heldPartition)) {
	for len(target) > 0 || len(has) > 0 {
		order := 0
		switch {
		case len(target) == 0:
			order = 1
		case len(has) == 0:
			order = -1
		default:
			order = assign.Compare(target[0].ID, has[0].id)
		}
		switch {
		case order < 0:
			visit(target[0].ID, target[0].Partitions, nil)
			target = target[1:]
		case order > 0:
			visit(has[0].id, nil, has[0].partitions)
			has = has[1:]
		default:
			visit(has[0].id, target[0].Partitions, has[0].partitions)
			target, has = target[1:], has[1:]
		}
	}
}
