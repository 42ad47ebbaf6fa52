package group

import (
	"errors"

	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/wire"
)

// A member may subscribe to all topics that a regular expression matches
// (KIP-848). The expressions of a group are resolved together, against one image
// of the cluster, after the heartbeat that asked for it is answered, as in
// Kafka. That is done in steps, so that no expression can hold the shard up.

const (
	// maxRegexes and maxPrograms are the most expressions, and instructions that
	// these are compiled to, for a group together.
	maxRegexes  = 250
	maxPrograms = 10 * coordinator.MaxProgram
	// maxWork is how many steps are done in one go, some milliseconds' work.
	maxWork = 1 << 20
	// refreshPause is how long a group leaves its expressions alone, in
	// milliseconds, also if there are new topics. It is Kafka's number.
	refreshPause = 10_000
)

// regexChange is what a member's request does to the expressions of its group.
type regexChange uint8

const (
	regexSame regexChange = iota
	// regexChanged is an expression whose topics are not known yet.
	regexChanged
	// regexResolved is one whose topics are known, or none in the place of one.
	regexResolved
)

// changeRegex writes what follows from a member's new expression.
func (m *Machine) changeRegex(s *step) (regexChange, *refusal) {
	old, next := s.member.regex, s.next.regex
	if old == next {
		return regexSame, nil
	}
	if old != "" && s.c.wantRegex[old] == 1 {
		m.script.forgetRegex(s.id, old)
	}
	switch {
	case next == "" && old != "":
		return regexResolved, nil
	case next == "":
	case s.c.wantRegex[next] == 0:
		w := &watch{}
		if g := m.groups[s.id]; g != nil && g.watch != nil {
			w = g.watch
		}
		if err := w.hasRoomFor(s.c, next); err != nil {
			return regexSame, refuse(wire.InvalidRegularExpression, "SubscribedTopicRegex `%s` is not a valid regular expression: %s.", next, err)
		}
	case s.c.regexes[next] != nil:
		return regexResolved, nil
	}
	return regexChanged, nil
}

// hasRoomFor checks a new expression, and whether it is one too many.
func (w *watch) hasRoomFor(c *consumer, regex string) error {
	e, err := coordinator.CompilePattern(regex)
	if err != nil {
		return err
	}
	costs, sum := make(map[string]int, len(c.wantRegex)+1), e.Cost
	for other := range c.wantRegex {
		costs[other] = w.cost(other)
		sum += costs[other]
	}
	costs[regex], w.costs = e.Cost, costs
	if len(c.wantRegex) >= maxRegexes || sum > maxPrograms {
		return errors.New("too many expressions in the group")
	}
	return nil
}

// cost is about how many steps an expression takes for each byte; 0 if it cannot
// be used.
func (w *watch) cost(regex string) int {
	if cost, ok := w.costs[regex]; ok {
		return cost
	}
	e, err := coordinator.CompilePattern(regex)
	if err != nil {
		return 0
	}
	return e.Cost
}

// job is the work of resolving the expressions of one group.
type job struct {
	image       *metadata.Image
	version     int64
	at          int64 // When it began, in milliseconds since 1970.
	sees        func(topic string) bool
	names       []string               // The expressions, in order.
	expressions []*coordinator.Pattern // Nil where one cannot be used.
	found       [][]string
	next        string // The topic to go on with.
	timer       timer
	counted     int // What it takes, in bytes.
}

// lookForTopics begins to resolve the group's expressions, if it is time for
// that. What the client may see decides what is found.
func (m *Machine) lookForTopics(g *group, s *step, q *Request) {
	wanted := s.c.wantRegexWith(s.member, s.next)
	if m.jobs[g.id] != nil || len(wanted) == 0 {
		return
	}
	at, version, ever := s.c.lookedAt()
	tried := max(at, g.watch.tried)
	switch {
	case (ever || g.watch.tried > 0) && m.millis >= tried && m.millis <= tried+refreshPause:
		return
	case s.member.regex != s.next.regex && s.next.regex != "" && s.c.wantRegex[s.next.regex] == 0:
	case len(wanted) != len(s.c.regexes), version < m.newTopics, m.millis > at+m.settings.RegexRefresh.Milliseconds(), m.millis < at:
	default:
		return
	}
	j := &job{image: m.image, version: m.version(), at: m.millis, sees: q.Sees, names: sortedKeys(wanted), timer: timer{alarm: regexAlarm, group: g.id}}
	j.expressions, j.found = make([]*coordinator.Pattern, len(j.names)), make([][]string, len(j.names))
	for i, name := range j.names {
		if e, err := coordinator.CompilePattern(name); err == nil {
			j.expressions[i] = e
		} // What cannot be used matches nothing.
	}
	g.watch.tried = m.millis
	if m.grow(g, j, s.grownBy(g)) {
		m.jobs[g.id] = j
		m.timers.start(&j.timer, m.now)
	}
}

// grow counts what a job takes, if there is room for more of that beside what
// will be applied.
func (m *Machine) grow(g *group, j *job, beside int) bool {
	bytes := 0
	for i, e := range j.expressions {
		if e != nil {
			bytes += stepBytes*e.Cost + foundBytes*len(j.found[i])
		}
	}
	if more := bytes - j.counted; more > 0 && !m.hasMemory(g, more+beside) {
		return false
	}
	m.count(bytes - j.counted)
	j.counted = bytes
	return true
}

// endJob forgets what a group's expressions are resolved with.
func (m *Machine) endJob(id string) {
	if j := m.jobs[id]; j != nil {
		m.count(-j.counted)
		delete(m.jobs, id)
	}
}

// resolve goes on with a job.
func (m *Machine) resolve(g *group) {
	j := m.jobs[g.id]
	if j == nil {
		return
	}
	done := j.step()
	fits := m.grow(g, j, 0)
	if fits && !done {
		m.timers.start(&j.timer, m.now)
		return
	}
	m.endJob(g.id)
	if fits && g.consumer != nil {
		m.resolved(g, j)
	}
}

// step looks at some topics, and reports whether these were the last.
func (j *job) step() (done bool) {
	work := 0
	done = true
	j.image.Topics(j.next, func(t *metadata.Topic) bool {
		if work > maxWork {
			j.next, done = t.Name, false
			return false
		}
		seen, asked := false, j.sees == nil
		for i, e := range j.expressions {
			if e == nil {
				continue
			}
			work += e.Cost * (len(t.Name) + 1)
			if !e.MatchString(t.Name) {
				continue
			}
			if !asked {
				seen, asked = j.sees(t.Name), true
			}
			if seen || j.sees == nil {
				j.found[i] = append(j.found[i], t.Name)
			}
		}
		return true
	})
	return done
}

// resolved writes what was found. If it is something else than before, the group
// gets a new epoch.
func (m *Machine) resolved(g *group, j *job) {
	c, before := g.consumer, m.script.mark()
	counts := make(map[string]subscribers, len(c.subscribers))
	for topic, n := range c.subscribers {
		counts[topic] = n
	}
	bump, grown := false, 0
	for i, name := range j.names {
		if c.wantRegex[name] == 0 {
			continue
		}
		found := &resolved{j.found[i], j.version, j.at}
		m.script.regex(g.id, name, found)
		grown += found.bytesOf(name) - c.regexes[name].bytesOf(name)
		if old := c.regexes[name]; !found.same(old) {
			bump = true
			if old != nil {
				for _, topic := range old.topics {
					addSubscribers(counts, topic, subscribers{regexes: -1})
				}
			}
			for _, topic := range found.topics {
				addSubscribers(counts, topic, subscribers{regexes: 1})
			}
		}
	}
	hash := m.hashOf(counts)
	if bump || hash != c.hash {
		m.script.groupEpoch(g.id, c.epoch+1, hash)
	}
	if !m.eachFits() || !m.hasMemory(g, grown) {
		m.script.rewind(before) // More names than a record, or memory, can have. They are looked for again.
	}
}
