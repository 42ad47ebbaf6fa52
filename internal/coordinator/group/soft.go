package group

import (
	"encoding/hex"
	"time"

	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/internal/leap"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// soft is what a failover may lose.
type soft struct {
	wall   leap.Clock
	clock  time.Time     // When it is, by the clock on the wall; zero while the log is replayed.
	now    time.Duration // The same, as time that ran since the machine was loaded: all moments are such.
	millis int64         // The same, in milliseconds since 1970.
	aged   int64         // The clock by which offsets are old, likewise.
	timers timers
	rang   map[string]bool // Groups that got records since the last call.

	sweepTimer timer
	sweeping   []string // Groups that are still to be swept.

	shells []*group // In the order in which they were made.
	shelf  uint64   // The number of the first of these.
	jobs   map[string]*job

	// newTopics is the version of the cluster's metadata in which a topic was made.
	newTopics int64
	hashes    map[string]hashed
	hashing   []byte
}

func newSoft() soft {
	return soft{
		rang: map[string]bool{}, jobs: map[string]*job{}, hashes: map[string]hashed{},
		sweepTimer: timer{alarm: sweepAlarm}, shelf: 1,
	}
}

// hashed is the hash of a topic as it was.
type hashed struct {
	topic *metadata.Topic
	hash  uint64
}

func (m *Machine) look(now time.Time) {
	m.wall.Look(now)
	m.clock, m.now, m.millis, m.aged = now, m.wall.Ran(), now.UnixMilli(), m.wall.Old(now).UnixMilli()
}

// in lets a timer ring after some milliseconds.
func (m *Machine) in(t *timer, millis int32) {
	m.timers.start(t, m.now+time.Duration(millis)*time.Millisecond)
}

// Loaded implements [coordinator.Machine]. Sessions begin now.
func (m *Machine) Loaded(now time.Time) {
	m.look(now)
	m.timers.start(&m.sweepTimer, m.now+m.settings.OffsetsCheck)
	for _, id := range sortedKeys(m.groups) {
		g := m.groups[id]
		switch {
		case g.consumer != nil:
			m.watchLoaded(g)
		case g.record != nil && len(g.record.Members) > 0:
			m.reviveClassic(g)
		}
	}
}

// Deadline implements [coordinator.Machine].
func (m *Machine) Deadline() time.Time {
	at, ok := m.timers.next()
	if !ok {
		return time.Time{}
	}
	return earlier(m.clock.Add(at-m.now), m.wall.Due())
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// ring does what is due. Of each group it does one thing at most that needs
// records: what comes next has to see them applied.
func (m *Machine) ring() {
	clear(m.rang)
	for m.script.bytes < m.opts.MaxBatch {
		t := m.timers.due(m.now)
		if t == nil {
			return
		}
		alone := t.alarm == sweepAlarm
		if m.rang[t.group] || alone && len(m.script.records) > 0 {
			m.timers.start(t, m.now)
			return
		}
		before := len(m.script.records)
		m.alarm(t)
		if len(m.script.records) > before {
			m.rang[t.group] = true
		}
		// A sweep may go on, and work on expressions: others come in between.
		if alone || t.alarm == regexAlarm {
			return
		}
	}
}

func (m *Machine) alarm(t *timer) {
	if t.alarm == sweepAlarm {
		m.sweep()
		return
	}
	g := m.groups[t.group]
	if g == nil {
		return
	}
	switch t.alarm {
	case joinAlarm:
		m.joinTimeout(g)
	case syncAlarm:
		m.syncTimeout(g)
	case pendingAlarm:
		m.pendingTimeout(g, t.member)
	case sessionAlarm:
		if g.consumer != nil {
			m.fence(g, t.member)
			return
		}
		m.sessionTimeout(g, t.member)
	case revokeAlarm, rejoinAlarm, resyncAlarm:
		m.fence(g, t.member)
	case regexAlarm:
		m.resolve(g)
	}
}

// A group of which nothing is recorded is a shell: it has a member id that was
// given out, or members that join for the first time.

// maxShells bounds the groups that strangers can make without a record. Who is
// given a member id comes back with it within milliseconds; if it was forgotten
// by then, it is given another.
const maxShells = 10_000

// shelve notes that a group is a shell.
func (m *Machine) shelve(g *group) {
	if g.kept() || g.shell != 0 {
		return
	}
	m.shells = append(m.shells, g)
	g.shell = m.shelf + uint64(len(m.shells)) - 1
	for len(m.shells) > maxShells {
		oldest := m.shells[0]
		m.shells[0] = nil
		m.shells, m.shelf = m.shells[1:], m.shelf+1
		if oldest == nil {
			continue
		}
		oldest.shell = 0
		if c := oldest.classic; c != nil && len(c.members) == 0 && !oldest.kept() {
			m.forgetPending(c)
			oldest.endClassic()
			m.drop(oldest)
		}
	}
}

// release ends what soft state points to a group.
func (m *Machine) release(g *group) {
	if g.shell >= m.shelf {
		m.shells[g.shell-m.shelf] = nil
	}
	g.shell = 0
	m.unwatch(g)
	m.endJob(g.id)
}

// mark ends a transaction. Whether its producer and coordinator may do that is
// for the log to say: see [coordinator.Admitter].
func (m *Machine) mark(to coordinator.Token, in Marker) {
	in.Producer.Sequence = record.NoSequence
	m.producer = &in.Producer
	m.marker = &coordinator.Marker{Committed: in.Committed, CoordinatorEpoch: in.CoordinatorEpoch, TransactionVersion: in.TransactionVersion}
	m.reply(to, wire.None)
}

// randomBytes fills the id of a new member.
func (m *Machine) randomBytes() (b [16]byte) {
	for i := 0; i < len(b); i += 8 {
		v := m.opts.Rand.Uint64()
		for j := range 8 {
			b[i+j] = byte(v >> (8 * j))
		}
	}
	return b
}

// newClassicID makes a member id as Kafka does: a prefix that says who it is, and
// a random UUID. The prefix is a client's; it is cut if all would be longer than
// a string may be.
func (m *Machine) newClassicID(prefix string) string {
	b := m.randomBytes()
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80 // RFC 4122, version 4.
	h := hex.EncodeToString(b[:])
	const rest = 1 + 36
	return prefix[:min(len(prefix), maxText-rest)] + "-" + h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// maxText is the most bytes that a string may have on the wire.
const maxText = 1<<15 - 1

// newConsumerID makes a member id for who did not bring one (version 0 of
// ConsumerGroupHeartbeat, and classic members of a consumer group): a UUID in
// Kafka's writing, which never begins with a dash.
func (m *Machine) newConsumerID() string {
	for {
		b := m.randomBytes()
		b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
		if id := model.UUID(b).String(); id[0] != '-' {
			return id
		}
	}
}
