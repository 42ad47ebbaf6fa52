package txn

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/barnabas-log/barnabas/model"
)

// follow keeps soft state in step with an entry that Apply has changed.
func (m *Machine) follow(e *entry, was status) {
	if e.status == ongoing {
		if was != ongoing {
			e.begun = m.wall.Ran()
		}
		m.open[e.id] = e
	} else {
		delete(m.open, e.id)
	}
	if !e.status.prepared() {
		e.attempt, e.sent, e.has, e.missing = 0, nil, nil, 0
	}
}

// Loaded implements [coordinator.Machine]. What was decided before is finished
// now: nobody may remember who has written which markers.
func (m *Machine) Loaded(now time.Time) {
	m.wall.Look(now)
	for _, e := range m.ids {
		if e.status.prepared() {
			m.resend = append(m.resend, e.id)
		}
	}
	slices.Sort(m.resend)
	for _, e := range m.open {
		age := time.Duration(now.UnixMilli()-e.started) * time.Millisecond
		e.begun = m.wall.Ran() - max(age, 0)
	}
	// Attempts of an earlier load, in this process or in another, must not be
	// taken for ours.
	m.attempts = uint64(now.UnixNano())
	m.abortAt, m.expireAt, m.soon = now.Add(m.opts.Settings.AbortCheck), now.Add(m.opts.Settings.ExpireCheck), now
}

// Deadline implements [coordinator.Machine].
func (m *Machine) Deadline() time.Time {
	at := m.soon
	if len(m.open) > 0 {
		at = earlier(at, m.abortAt)
	}
	if len(m.ids) > 0 {
		at = earlier(at, earlier(m.expireAt, m.wall.Due()))
	}
	return at
}

// earlier is the earlier time; zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// maxAtOnce and maxMemory bound what one call of Handle does about many
// transactional ids, so that clients' requests come between.
const (
	maxAtOnce = 1000
	maxMemory = 4 << 20
)

// look does what time asks for.
func (m *Machine) look(now time.Time) {
	m.soon = time.Time{}
	m.askForIDs(now)
	switch {
	case len(m.resend) > 0:
		m.sendAgain(now)
	case len(m.open) > 0 && !now.Before(m.abortAt):
		m.abortTimedOut(now)
	case !now.Before(m.expireAt):
		m.expire(now)
	}
}

// sendAgain sends the markers of transactions that were found prepared.
func (m *Machine) sendAgain(now time.Time) {
	some := m.resend[:min(maxAtOnce, len(m.resend))]
	for _, id := range some {
		if e := m.ids[id]; e != nil && e.status.prepared() && e.attempt == 0 {
			m.mark(now, e, e.transaction)
		}
	}
	if m.resend = m.resend[len(some):]; len(m.resend) == 0 {
		m.resend = nil
	}
	m.soon = now
}

// abortTimedOut aborts transactions that are open for too long, the oldest
// first. The producer is fenced, as if another one had come.
func (m *Machine) abortTimedOut(now time.Time) {
	var late []*entry
	for _, e := range m.open {
		if e.timeout != forever && m.openFor(e) > time.Duration(e.timeout)*time.Millisecond {
			late = append(late, e)
		}
	}
	slices.SortFunc(late, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.started, b.started), strings.Compare(a.id, b.id))
	})
	m.abortAt = now.Add(m.opts.Settings.AbortCheck)
	for i, e := range late {
		if i == maxAtOnce || len(m.memory) > maxMemory {
			m.abortAt = now
			return
		}
		send := TimedOut{e.id, e.producer, e.epoch, m.openFor(e)}
		if m.fence(now, e) { // Else there are no producer ids: the next look may find some.
			m.out.Sends = append(m.out.Sends, send)
		}
	}
}

// openFor is how long a transaction has been ongoing.
func (m *Machine) openFor(e *entry) time.Duration { return m.wall.Ran() - e.begun }

// expire forgets transactional ids that have not been used for long.
func (m *Machine) expire(now time.Time) {
	var old []string
	limit := m.wall.Old(now).Add(-m.opts.Settings.Expiration).UnixMilli()
	for id, e := range m.ids {
		if e.status.idle() && e.updated <= limit {
			old = append(old, id)
		}
	}
	slices.Sort(old)
	m.expireAt = now.Add(m.opts.Settings.ExpireCheck)
	if len(old) > maxAtOnce {
		old, m.expireAt = old[:maxAtOnce], now
	}
	for _, id := range old {
		m.remove(id)
	}
}

// mark asks for the markers of a transaction that Apply makes, or has made, t.
// One that touched nothing is complete.
func (m *Machine) mark(now time.Time, e *entry, t transaction) {
	partitions := t.topics.all()
	if len(partitions) == 0 {
		m.complete(now, e.id, t)
		return
	}
	m.attempts++
	e.attempt, e.sent, e.missing, e.has = m.attempts, partitions, len(partitions), make([]uint64, (len(partitions)+63)/64)
	m.out.Sends = append(m.out.Sends, WriteMarkers{
		TransactionalID: e.id, Attempt: e.attempt, ProducerID: t.producer, Epoch: t.epoch,
		Committed: t.status == prepareCommit, TransactionVersion: t.version, Partitions: partitions,
	})
}

// marked takes in which markers are written, and completes a transaction that
// lacks none any more.
func (m *Machine) marked(now time.Time, in *MarkersWritten) {
	e := m.ids[in.TransactionalID]
	if e == nil || e.attempt == 0 || e.attempt != in.Attempt {
		return
	}
	for _, p := range in.Partitions {
		i, ok := slices.BinarySearchFunc(e.sent, p, comparePartitions)
		if ok && e.has[i/64]&(1<<(i%64)) == 0 {
			e.has[i/64] |= 1 << (i % 64)
			e.missing--
		}
	}
	if e.missing == 0 {
		m.complete(now, e.id, e.transaction)
	}
}

func comparePartitions(a, b model.Partition) int {
	return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Index, b.Index))
}

// unmarked lists the partitions whose marker has not been reported.
func (e *entry) unmarked() []model.Partition {
	if e.attempt == 0 {
		return e.topics.all()
	}
	var list []model.Partition
	for i, p := range e.sent {
		if e.has[i/64]&(1<<(i%64)) == 0 {
			list = append(list, p)
		}
	}
	return list
}

// supply takes a block of producer ids. What was left of the last one is given
// up: ids are plenty.
func (m *Machine) supply(in ProducerIDs) {
	m.askedAt = time.Time{}
	if in.First >= 0 && in.First < in.End {
		m.fresh = in
	}
}

// fewIDs is when more are asked for: some may be wanted until they come.
// askAgain is when nobody counts on the answer any more.
const (
	fewIDs   = 10
	askAgain = time.Second
)

// take hands out a producer id that nobody has, if there is one.
func (m *Machine) take(now time.Time) (model.ProducerID, bool) {
	id, ok := m.fresh.First, m.fresh.First < m.fresh.End
	if ok {
		m.fresh.First++
	}
	m.askForIDs(now)
	return id, ok
}

func (m *Machine) askForIDs(now time.Time) {
	if m.fresh.End-m.fresh.First >= fewIDs || !m.askedAt.IsZero() && now.Sub(m.askedAt) < askAgain {
		return
	}
	m.askedAt = now
	m.out.Sends = append(m.out.Sends, NeedProducerIDs{})
}
