package group

import (
	"fmt"
	"slices"
	"time"

	"github.com/barnabas-log/barnabas/internal/coordinator/group/assign"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// newborn is when a dead client comes back, if ever.
func (w *world) newborn() time.Time {
	return w.now.Add(time.Duration(w.IntN(20_000)) * time.Millisecond)
}

// classicActor is a consumer with the classic protocol. It gives up all it has
// before it joins (an eager one).
type classicActor struct {
	group, who string
	instance   *string
	id         string
	generation int32
	protocol   string
	state      string                         // joining, syncing, stable
	roll       []wire.JoinGroupResponseMember // Of a leader.
	skip       bool                           // It has nothing to deal out.
	saw        string                         // The topics that it dealt out.
	busy       int                            // Counts lives and requests, so that late answers are known.
	waits      bool
	owned      map[string][]int32
	deadUntil  time.Time
	dead, gone bool
	beatAt     time.Time
	topics     []string
}

func newClassicActor(w *world, i int, group string) *classicActor {
	c := &classicActor{group: group, who: fmt.Sprint("c", i), state: "joining", topics: []string{"t"}}
	if w.IntN(3) == 0 {
		instance := fmt.Sprint("ci", i)
		c.instance = &instance
	}
	if w.IntN(3) == 0 {
		c.topics = []string{"t", "u"}
	}
	return c
}

func (c *classicActor) name() (string, string)         { return c.group, c.who }
func (c *classicActor) alive() bool                    { return !c.dead && !c.gone }
func (c *classicActor) wants() []string                { return c.topics }
func (c *classicActor) owns(*world) map[string][]int32 { return c.owned }
func (c *classicActor) check(*world) error             { return nil }

func (c *classicActor) settled(w *world) error {
	if c.alive() && c.state != "stable" {
		return fmt.Errorf("classic member %s of %s is %s", c.who, c.group, c.state)
	}
	return nil
}

func (c *classicActor) act(w *world) {
	switch {
	case c.gone:
		return
	case c.dead:
		if w.now.After(c.deadUntil) || !w.trouble {
			c.reset()
			c.dead = false
		}
		return
	case w.trouble && w.IntN(25) == 0:
		w.say("%s of %s dies", c.who, c.group)
		c.reset()
		c.dead, c.deadUntil = true, w.newborn()
		return
	case w.trouble && w.IntN(25) == 0:
		c.leave(w)
		return
	case c.waits:
		return
	}
	switch c.state {
	case "joining":
		c.join(w)
	case "syncing":
		c.sync(w)
	default:
		if w.now.After(c.beatAt) {
			c.beat(w)
		}
	}
}

// reset forgets all.
func (c *classicActor) reset() {
	c.busy++
	c.id, c.generation, c.state, c.saw, c.owned, c.waits = "", 0, "joining", "", nil, false
}

func (c *classicActor) rejoin() { c.state, c.owned = "joining", nil }

// call sends a request; done is called unless the client died, or the answer got
// lost and it asks again.
func (c *classicActor) call(w *world, version int16, body wire.Request, done func(any)) {
	c.busy++
	life := c.busy
	c.waits = true
	w.send(version, body, c.who, func(a any, err error) {
		if c.busy != life {
			return
		}
		c.waits = false
		switch {
		case err != nil:
			if c.state != "stable" {
				c.rejoin()
			}
		case w.trouble && w.IntN(30) == 0:
			w.say("%s does not get %s", c.who, shown{a})
			if c.state != "stable" {
				c.rejoin()
			}
		default:
			w.say("%s gets %s", c.who, shown{a})
			done(a)
		}
	})
}

func (c *classicActor) join(w *world) {
	r := &wire.JoinGroupRequest{
		GroupID: c.group, SessionTimeoutMs: 8000, RebalanceTimeoutMs: 6000, MemberID: c.id, GroupInstanceID: c.instance, ProtocolType: "consumer",
		Protocols: []wire.JoinGroupRequestProtocol{{Name: "range", Metadata: subscription(c.topics, nil)}},
	}
	c.call(w, 9, r, func(a any) {
		r := a.(*wire.JoinGroupResponse)
		switch code := wire.ErrorCode(r.ErrorCode); code {
		case wire.None:
			c.id, c.generation, c.protocol, c.roll = r.MemberID, r.GenerationID, textOf(r.ProtocolName), nil
			if r.Leader == r.MemberID {
				c.roll, c.skip = r.Members, r.SkipAssignment
			}
			c.state = "syncing"
		case wire.MemberIDRequired:
			c.id = r.MemberID
		case wire.UnknownMemberID, wire.FencedInstanceID:
			c.id = ""
			if code == wire.FencedInstanceID {
				c.reset()
			}
		case wire.RebalanceInProgress, wire.InconsistentGroupProtocol:
		default:
			w.refused(code, fmt.Errorf("%s: JoinGroup: %v", c.who, code))
		}
	})
}

func (c *classicActor) sync(w *world) {
	protocolType := "consumer"
	r := &wire.SyncGroupRequest{GroupID: c.group, GenerationID: c.generation, MemberID: c.id, GroupInstanceID: c.instance, ProtocolType: &protocolType, ProtocolName: &c.protocol}
	if c.roll != nil && !c.skip {
		r.Assignments = assignAll(w, c.roll)
		c.saw = c.look(w)
	}
	c.call(w, 5, r, func(a any) {
		r := a.(*wire.SyncGroupResponse)
		switch code := wire.ErrorCode(r.ErrorCode); code {
		case wire.None:
			c.state, c.owned, c.beatAt = "stable", map[string][]int32{}, w.now
			if assignment, ok := readAssignment(r.Assignment); ok {
				for _, t := range assignment.AssignedPartitions {
					c.owned[t.Topic] = t.Partitions
				}
			}
		default:
			c.failed(w, code)
		}
	})
}

// assignAll is what a leader does: it deals partitions out in turn to those who
// want the topic.
func assignAll(w *world, roll []wire.JoinGroupResponseMember) []wire.SyncGroupRequestAssignment {
	takers := map[string][]int{}
	for i, member := range roll {
		s, ok := readSubscription(member.Metadata)
		if !ok {
			panic("a subscription was changed on its way")
		}
		for _, topic := range s.Topics {
			takers[topic] = append(takers[topic], i)
		}
	}
	shares := make([]map[string][]int32, len(roll))
	for _, topic := range sortedKeys(takers) {
		t := w.cluster.image().Topic(topic)
		if t == nil {
			continue
		}
		for n := range t.Partitions {
			i := takers[topic][n%len(takers[topic])]
			if shares[i] == nil {
				shares[i] = map[string][]int32{}
			}
			shares[i][topic] = append(shares[i][topic], int32(n))
		}
	}
	var list []wire.SyncGroupRequestAssignment
	for i, member := range roll {
		a := wire.NewConsumerProtocolAssignment()
		for _, topic := range sortedKeys(shares[i]) {
			a.AssignedPartitions = append(a.AssignedPartitions, wire.ConsumerProtocolAssignmentTopicPartition{Topic: topic, Partitions: shares[i][topic]})
		}
		b, err := a.AppendTo([]byte{0, 1}, 1)
		if err != nil {
			panic(err)
		}
		list = append(list, wire.SyncGroupRequestAssignment{MemberID: member.MemberID, Assignment: b})
	}
	return list
}

func (c *classicActor) failed(w *world, code wire.ErrorCode) {
	switch code {
	case wire.UnknownMemberID:
		c.id = ""
	case wire.FencedInstanceID:
		c.reset() // Another life of its own did that.
	case wire.RebalanceInProgress, wire.IllegalGeneration:
	default:
		w.refused(code, fmt.Errorf("%s: %v", c.who, code))
	}
	c.rejoin()
}

func (c *classicActor) beat(w *world) {
	c.beatAt = w.now.Add(2 * time.Second)
	r := &wire.HeartbeatRequest{GroupID: c.group, GenerationID: c.generation, MemberID: c.id, GroupInstanceID: c.instance}
	c.call(w, 4, r, func(a any) {
		if code := wire.ErrorCode(a.(*wire.HeartbeatResponse).ErrorCode); code != wire.None {
			c.failed(w, code)
			return
		}
		// The leader looks after its topics.
		if c.roll != nil && c.stale(w) {
			c.rejoin()
		}
	})
}

// stale reports whether what the leader dealt out is not what there is.
func (c *classicActor) stale(w *world) bool { return c.saw != c.look(w) }

// look sums up the topics that the members want.
func (c *classicActor) look(w *world) (sum string) {
	for _, topic := range []string{"t", "u"} {
		wanted := slices.ContainsFunc(c.roll, func(m wire.JoinGroupResponseMember) bool {
			s, _ := readSubscription(m.Metadata)
			return slices.Contains(s.Topics, topic)
		})
		if t := w.cluster.image().Topic(topic); t != nil && wanted {
			sum += fmt.Sprint(t.ID, len(t.Partitions))
		}
	}
	return sum
}

func (c *classicActor) leave(w *world) {
	r := &wire.LeaveGroupRequest{GroupID: c.group, Members: []wire.LeaveGroupRequestMemberIdentity{{MemberID: c.id, GroupInstanceID: c.instance}}}
	c.call(w, 5, r, func(any) {})
	c.reset()
	c.dead, c.deadUntil = true, w.newborn()
}

// consumerActor is a consumer with the protocol of KIP-848.
type consumerActor struct {
	group, who string
	instance   *string
	id         string
	epoch      int32
	lives      int
	owned      map[model.TopicID][]int32
	target     map[model.TopicID][]int32
	busy       int
	waits      bool
	dead       bool
	deadUntil  time.Time
	beatAt     time.Time
	topics     []string
	regex      *string
	full       bool // The next heartbeat says all.
	told       bool // What it owns it has said.
}

func newConsumerActor(w *world, i int, group string) *consumerActor {
	c := &consumerActor{group: group, who: fmt.Sprint("n", i), topics: []string{"t"}}
	if w.IntN(3) == 0 {
		instance := fmt.Sprint("i", i)
		c.instance = &instance
	}
	switch w.IntN(4) {
	case 0:
		c.topics = []string{"t", "u"}
	case 1:
		regex := []string{"t", "[tu]", "u|t"}[w.IntN(3)]
		c.regex, c.topics = &regex, nil
	}
	c.born()
	return c
}

// born begins a new life.
func (c *consumerActor) born() {
	c.lives++
	c.busy++
	c.id, c.epoch, c.owned, c.target, c.waits = fmt.Sprintf("%s.%d", c.who, c.lives), 0, nil, nil, false
}

func (c *consumerActor) name() (string, string) { return c.group, c.who }
func (c *consumerActor) alive() bool            { return !c.dead }

func (c *consumerActor) wants() []string {
	if c.regex != nil {
		if *c.regex == "t" {
			return []string{"t"}
		}
		return []string{"t", "u"}
	}
	return c.topics
}

func (c *consumerActor) owns(w *world) map[string][]int32 {
	m := map[string][]int32{}
	for id, list := range c.owned {
		if t := w.image.TopicByID(id); t != nil {
			m[t.Name] = list
		}
	}
	return m
}

func (c *consumerActor) settled(w *world) error {
	if c.alive() && c.epoch <= 0 {
		return fmt.Errorf("member %s of %s is at epoch %d", c.who, c.group, c.epoch)
	}
	return nil
}

// check: what a member believes to own is its own, as long as it is a member.
func (c *consumerActor) check(w *world) error {
	g := w.groups[c.group]
	if c.dead || c.epoch <= 0 || g == nil || g.consumer == nil {
		return nil
	}
	member := g.consumer.members[c.id]
	if member == nil || member.epoch < 0 {
		return nil
	}
	for id, list := range c.owned {
		for _, n := range list {
			_, has := member.assigned.epoch(id, n)
			_, had := member.revoking.epoch(id, n)
			if !has && !had {
				return fmt.Errorf("%s of %s at epoch %d believes to own %v-%d: %+v", c.who, c.group, c.epoch, id, n, *member)
			}
		}
	}
	return nil
}

func (c *consumerActor) act(w *world) {
	switch {
	case c.dead:
		if w.now.After(c.deadUntil) || !w.trouble {
			c.born()
			c.dead = false
		}
		return
	case w.trouble && w.IntN(25) == 0:
		w.say("%s of %s dies", c.id, c.group)
		c.born()
		c.dead, c.deadUntil = true, w.newborn()
		return
	case w.trouble && w.IntN(25) == 0:
		c.leave(w)
		return
	case c.waits || w.now.Before(c.beatAt):
		return
	}
	// What is not its own any more it gives up, sooner or later.
	if w.IntN(3) > 0 || !w.trouble {
		c.reconcile()
	}
	c.beat(w)
}

// reconcile makes what is owned what was assigned.
func (c *consumerActor) reconcile() {
	if c.target == nil {
		return
	}
	owned := map[model.TopicID][]int32{}
	for id, list := range c.target {
		owned[id] = slices.Clone(list)
	}
	c.owned, c.target, c.told = owned, nil, false
}

func (c *consumerActor) beat(w *world) {
	r := wire.NewConsumerGroupHeartbeatRequest()
	r.GroupID, r.MemberID, r.MemberEpoch, r.InstanceID = c.group, c.id, c.epoch, c.instance
	said := c.told && !c.full && c.epoch != 0
	if c.epoch == 0 || c.full {
		// An assignment that it has not made its own may not be meant any more: the
		// answer has one.
		c.target = nil
		r.RebalanceTimeoutMs, r.SubscribedTopicNames, r.SubscribedTopicRegex = 5000, slices.Clone(c.topics), c.regex
		if r.SubscribedTopicNames == nil && c.regex == nil {
			r.SubscribedTopicNames = []string{}
		}
	}
	r.TopicPartitions = []wire.ConsumerGroupHeartbeatRequestTopicPartitions{}
	ids := make([]model.TopicID, 0, len(c.owned))
	for id := range c.owned {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, assign.Compare)
	for _, id := range ids {
		r.TopicPartitions = append(r.TopicPartitions, wire.ConsumerGroupHeartbeatRequestTopicPartitions{TopicID: id, Partitions: slices.Clone(c.owned[id])})
	}
	if said {
		r.TopicPartitions = nil // As before: the coordinator must not think that it gave something up.
	}
	c.full, c.told = false, true
	c.busy++
	life := c.busy
	c.waits = true
	w.send(1, r, c.who, func(a any, err error) {
		if c.busy != life {
			return
		}
		c.waits = false
		c.beatAt = w.now.Add(time.Second)
		if err != nil || w.trouble && w.IntN(30) == 0 {
			c.full = true
			return
		}
		c.answered(w, a.(*wire.ConsumerGroupHeartbeatResponse))
	})
}

func (c *consumerActor) answered(w *world, r *wire.ConsumerGroupHeartbeatResponse) {
	w.say("%s gets %s", c.id, shown{r})
	switch code := wire.ErrorCode(r.ErrorCode); code {
	case wire.None:
		c.epoch = r.MemberEpoch
		if r.Assignment != nil {
			c.target = map[model.TopicID][]int32{}
			for _, t := range r.Assignment.TopicPartitions {
				c.target[t.TopicID] = t.Partitions
			}
		}
	case wire.UnknownMemberID, wire.FencedMemberEpoch:
		c.epoch, c.owned, c.target = 0, nil, nil
	case wire.FencedInstanceID:
		c.born()
	case wire.UnreleasedInstanceID, wire.GroupIDNotFound, wire.CoordinatorLoadInProgress:
		if code == wire.GroupIDNotFound {
			c.epoch, c.owned, c.target = 0, nil, nil
		}
	default:
		w.refused(code, fmt.Errorf("%s: heartbeat: %v %s", c.who, code, textOf(r.ErrorMessage)))
		c.full = true
	}
}

func (c *consumerActor) leave(w *world) {
	if c.epoch > 0 {
		epoch := int32(leaveEpoch)
		if c.instance != nil && w.IntN(2) == 0 {
			epoch = leaveStaticEpoch
		}
		r := wire.NewConsumerGroupHeartbeatRequest()
		r.GroupID, r.MemberID, r.MemberEpoch, r.InstanceID = c.group, c.id, epoch, c.instance
		w.send(1, r, c.who, func(any, error) {})
	}
	c.born()
	c.dead, c.deadUntil = true, w.newborn()
}
