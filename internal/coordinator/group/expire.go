package group

import (
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
)

// maxSwept is how many offsets are looked at in one go: some milliseconds' work.
const maxSwept = 50_000

// sweep goes on with looking for offsets and groups that have expired. It begins
// anew every offsets.retention.check.interval.ms.
func (m *Machine) sweep() {
	if m.sweeping == nil {
		m.sweeping = sortedKeys(m.groups)
	}
	for seen := 0; len(m.sweeping) > 0; m.sweeping = m.sweeping[1:] {
		if seen >= maxSwept || !m.fits() {
			m.timers.start(&m.sweepTimer, m.now)
			return
		}
		if g := m.groups[m.sweeping[0]]; g != nil {
			seen += m.sweepGroup(g)
		}
	}
	m.sweeping = nil
	m.timers.start(&m.sweepTimer, m.now+m.settings.OffsetsCheck)
}

// sweepGroup forgets what of a group has expired, and the group if that was all.
func (m *Machine) sweepGroup(g *group) (seen int) {
	seen = 1
	left := len(g.open) > 0
	if since, ok := g.expiresSince(); ok {
		for _, name := range g.offsets.topics() {
			topic := g.offsets[name]
			seen += len(topic.list)
			if g.isSubscribed(name) {
				left = true
				continue
			}
			for _, c := range topic.sorted() {
				if !g.open.has(name, c.partition) && m.expired(&c, since) {
					m.script.forgetOffset(g.id, name, c.partition)
				} else {
					left = true
				}
			}
		}
	} else {
		left = left || len(g.offsets) > 0
	}
	if !left && g.isEmpty() {
		m.forget(g)
	}
	return seen
}

// expiresSince is from when on the offsets of a group grow old: 0 is from their
// commit on. A group whose members may want its offsets keeps them.
func (g *group) expiresSince() (since int64, ok bool) {
	if g.consumer != nil {
		return 0, true
	}
	if c := g.classic; c != nil && c.state != empty {
		return 0, c.state == settled && c.topicsKnown
	}
	switch {
	case g.record == nil || g.record.ProtocolType == "" || g.record.CurrentStateTimestamp == -1:
		return 0, true // Offsets that were committed by hand, or before Kafka 2.1.
	}
	return g.record.CurrentStateTimestamp, true // Since it became empty.
}

func (m *Machine) expired(c *committed, since int64) bool {
	if c.expires >= 0 {
		return m.aged >= c.expires
	}
	if since == 0 {
		since = c.at
	}
	return m.aged-since >= m.settings.OffsetsRetention.Milliseconds()
}

// isEmpty reports whether a group has no members.
func (g *group) isEmpty() bool {
	if g.consumer != nil {
		return len(g.consumer.members) == 0
	}
	return g.classic == nil || g.classic.state == empty
}

// forget writes that a group is no more; of its offsets others have written.
func (m *Machine) forget(g *group) {
	if c := g.classic; c != nil {
		m.forgetPending(c)
		g.endClassic()
	}
	g.doomed = true
	switch {
	case g.consumer != nil:
		m.script.forgetConsumer(g.id, g.consumer, "", "")
	case g.record != nil:
		m.script.forgetClassic(g.id)
	default:
		m.drop(g) // Nothing of it was written.
	}
}

// forgetOffsets writes that a group has no offsets, those that transactions hold
// included.
func (m *Machine) forgetOffsets(g *group) {
	for _, name := range g.offsets.topics() {
		for _, c := range g.offsets[name].sorted() {
			m.script.forgetOffset(g.id, name, c.partition)
		}
	}
	for _, name := range sortedKeys(g.open) {
		for _, n := range sortedPartitions(g.open[name]) {
			if g.offsets.get(name, n) == nil {
				m.script.forgetOffset(g.id, name, n)
			}
		}
	}
}

// news takes over what the cluster is now.
func (m *Machine) news(in News) {
	if in.Settings != nil {
		m.settings = usable(*in.Settings)
	}
	if in.Image == nil || in.Image == m.image {
		return
	}
	old := m.image
	m.image = in.Image
	var made bool
	var changed []string
	var gone []*metadata.Topic
	look := func(was, is *metadata.Topic) {
		switch {
		case was == is:
			return
		case was == nil:
			made = true
		case is == nil || is.ID != was.ID:
			gone = append(gone, was)
		}
		if is != nil {
			made = made || was != nil && is.ID != was.ID
			changed = append(changed, is.Name)
			return
		}
		changed = append(changed, was.Name)
	}
	if d := in.Delta; d != nil && d.From == old {
		m.compareSome(old, d.Topics, look)
	} else {
		compareAll(old, in.Image, look)
	}
	if made {
		m.newTopics = m.version()
	}
	m.refresh(changed)
	if len(gone) > 0 {
		m.topicsGone(gone)
	}
}

// compareSome looks at the topics that a delta names.
func (m *Machine) compareSome(old *metadata.Image, ids []model.TopicID, look func(was, is *metadata.Topic)) {
	seen := map[model.TopicID]bool{}
	for _, id := range ids {
		if !seen[id] {
			seen[id] = true
			look(old.TopicByID(id), m.image.TopicByID(id))
		}
	}
}

// compareAll looks at all topics of two images.
func compareAll(old, image *metadata.Image, look func(was, is *metadata.Topic)) {
	old.Topics("", func(was *metadata.Topic) bool {
		look(was, image.Topic(was.Name))
		return true
	})
	image.Topics("", func(is *metadata.Topic) bool {
		if old.Topic(is.Name) == nil {
			look(nil, is)
		}
		return true
	})
}

// topicsGone forgets the offsets in topics that were deleted. One that was made
// again under the same name has another id.
func (m *Machine) topicsGone(gone []*metadata.Topic) {
	for _, id := range sortedKeys(m.groups) {
		g := m.groups[id]
		for _, t := range gone {
			m.topicGone(g, t)
		}
	}
}

func (m *Machine) topicGone(g *group, t *metadata.Topic) {
	of := func(c *committed) bool { return c != nil && (c.topicID.IsZero() || c.topicID == t.ID) }
	if topic := g.offsets[t.Name]; topic != nil {
		for _, c := range topic.sorted() {
			if of(&c) {
				m.script.forgetOffset(g.id, t.Name, c.partition)
			}
		}
	}
	for _, n := range sortedPartitions(g.open[t.Name]) {
		if of(g.offsets.get(t.Name, n)) {
			continue // It is written already.
		}
		for _, p := range g.open[t.Name][n] {
			if of(m.pending[p][g.id].get(t.Name, n)) {
				m.script.forgetOffset(g.id, t.Name, n)
				break
			}
		}
	}
}
