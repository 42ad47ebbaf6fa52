package group

import (
	"slices"
	"time"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/metadata"
)

// watch is what is known of a consumer group beside its records.
type watch struct {
	// fresh says that the hash of the group's topics is that of the cluster as it
	// is now, or will be when the records are applied.
	fresh bool
	// tried is when regular expressions were last looked at, in milliseconds
	// since 1970; 0 is never.
	tried   int64
	costs   map[string]int // Of regular expressions, as far as they are known.
	members map[string]*memberWatch
}

// memberWatch are the timers of a member. Those that are nil never rang.
type memberWatch struct {
	session timer
	revoke  *timer
	rejoin  *timer // Of classic members.
	resync  *timer
}

func (m *Machine) watchOf(g *group) *watch {
	if g.watch == nil {
		g.watch = &watch{members: map[string]*memberWatch{}}
	}
	return g.watch
}

func (m *Machine) watchMember(g *group, id string) *memberWatch {
	w := m.watchOf(g)
	mw := w.members[id]
	if mw == nil {
		mw = &memberWatch{session: timer{alarm: sessionAlarm, group: g.id, member: id}}
		w.members[id] = mw
	}
	return mw
}

func (m *Machine) unwatchMember(g *group, id string) {
	if g.watch == nil || g.watch.members[id] == nil {
		return
	}
	mw := g.watch.members[id]
	delete(g.watch.members, id)
	m.timers.stop(&mw.session)
	m.timers.stop(mw.revoke)
	m.timers.stop(mw.rejoin)
	m.timers.stop(mw.resync)
}

func (m *Machine) unwatch(g *group) {
	if g.watch == nil {
		return
	}
	for id := range g.watch.members {
		m.unwatchMember(g, id)
	}
	g.watch = nil
}

// watchLoaded lets the sessions of a group that was found in the log begin.
func (m *Machine) watchLoaded(g *group) {
	for _, id := range g.consumer.ids() {
		m.beatsAgain(g, id)
		if member := g.consumer.members[id]; member.state == revoking {
			m.in(m.revokeTimer(g, id), member.rebalanceTimeout)
		}
	}
}

// watchClassics lets the sessions of classic members begin, whose group becomes
// a consumer group.
func (m *Machine) watchClassics(g *group, c *consumer) {
	for _, id := range c.ids() {
		m.in(&m.watchMember(g, id).session, c.members[id].classic.session)
	}
}

// beatsAgain begins a member's session anew.
func (m *Machine) beatsAgain(g *group, id string) {
	m.in(&m.watchMember(g, id).session, m.session(g.id))
}

func (m *Machine) revokeTimer(g *group, id string) *timer {
	mw := m.watchMember(g, id)
	if mw.revoke == nil {
		mw.revoke = &timer{alarm: revokeAlarm, group: g.id, member: id}
	}
	return mw.revoke
}

// watchRevocation gives a member that has to give something up the time that it
// asked for.
func (m *Machine) watchRevocation(g *group, s *step) {
	moved := !s.next.isWhere(s.member) || s.next.id != s.member.id
	switch {
	case !moved || s.next.classic != nil:
	case s.next.state == revoking:
		m.in(m.revokeTimer(g, s.next.id), s.next.rebalanceTimeout)
	default:
		m.timers.stop(m.watchMember(g, s.next.id).revoke)
	}
}

// expectJoin gives a classic member of a consumer group the time to join again,
// unless it is running already.
func (m *Machine) expectJoin(g *group, member *member) {
	mw := m.watchMember(g, member.id)
	if mw.rejoin == nil {
		mw.rejoin = &timer{alarm: rejoinAlarm, group: g.id, member: member.id}
	}
	if !mw.rejoin.set {
		m.in(mw.rejoin, member.rebalanceTimeout)
	}
}

// expectSync gives a classic member that has joined the time to ask for what it
// has.
func (m *Machine) expectSync(g *group, id string, millis int32) {
	mw := m.watchMember(g, id)
	m.timers.stop(mw.rejoin)
	if mw.resync == nil {
		mw.resync = &timer{alarm: resyncAlarm, group: g.id, member: id}
	}
	m.in(mw.resync, millis)
}

// refresh lets groups that subscribe to some topics look at them again.
func (m *Machine) refresh(topics []string) {
	for _, g := range m.groups {
		if g.consumer == nil || g.watch == nil || !g.watch.fresh {
			continue
		}
		if slices.ContainsFunc(topics, g.isSubscribed) {
			g.watch.fresh = false
		}
	}
}

// fence takes out a member that was not heard of, or did not do in time what it
// had to.
func (m *Machine) fence(g *group, id string) {
	if g.consumer == nil {
		return
	}
	if member := g.consumer.members[id]; member != nil {
		m.expel(g, member)
	}
}

// Settings that a group may have of its own, within the broker's bounds.

func (m *Machine) own(group, key string, usual, low, high time.Duration) time.Duration {
	text, ok := m.image.Config(metadata.Resource{Type: metadata.ResourceGroup, Name: group})[key]
	if !ok {
		return usual
	}
	millis, err := config.ParseInt(text)
	if err != nil {
		return usual
	}
	return min(max(time.Duration(millis)*time.Millisecond, low), high)
}

// session is how long members of a group may be silent, in milliseconds.
func (m *Machine) session(group string) int32 {
	s := &m.settings
	return int32(m.own(group, "consumer.session.timeout.ms", s.ConsumerSession, s.MinConsumerSession, s.MaxConsumerSession).Milliseconds())
}

// heartbeatInterval is what members are told, in milliseconds.
func (m *Machine) heartbeatInterval(group string) int32 {
	s := &m.settings
	return int32(m.own(group, "consumer.heartbeat.interval.ms", s.ConsumerHeartbeat, s.MinHeartbeat, s.MaxHeartbeat).Milliseconds())
}

// assignmentInterval is how long an assignment stands, in milliseconds.
func (m *Machine) assignmentInterval(group string) int64 {
	s := &m.settings
	return m.own(group, "consumer.assignment.interval.ms", s.AssignmentInterval, s.MinAssignment, s.MaxAssignment).Milliseconds()
}
