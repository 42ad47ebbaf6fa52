package group

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// cluster makes images.
type cluster struct {
	tracker *metadata.Tracker
	made    byte                     // Topics so far.
	ids     map[string]model.TopicID // Of topics that get ids of elsewhere.
}

func newCluster() *cluster {
	c := &cluster{tracker: metadata.NewTracker(metadata.Empty())}
	c.apply(metadata.FeatureRecord("group.version", 1))
	return c
}

func (c *cluster) image() *metadata.Image { return c.tracker.Image() }

func (c *cluster) apply(records ...wire.MetadataRecord) *metadata.Delta {
	list := make([]metadata.Record, len(records))
	for i, r := range records {
		list[i] = metadata.Record{Message: r}
		if _, ok := r.(*wire.PartitionRecord); ok {
			list[i].Version = 1
		}
	}
	d, err := c.tracker.Apply(c.image().End(), list)
	if err != nil {
		panic(err)
	}
	return d
}

// grow makes a topic, or gives it more partitions.
func (c *cluster) grow(name string, partitions int) *metadata.Delta {
	var records []wire.MetadataRecord
	have := 0
	var id model.TopicID
	if t := c.image().Topic(name); t != nil {
		have, id = len(t.Partitions), t.ID
	} else {
		c.made++
		id[0], id[15] = 0x54, c.made
		if other, ok := c.ids[name]; ok {
			id = other
		}
		records = append(records, &wire.TopicRecord{Name: name, TopicID: id})
	}
	for n := have; n < partitions; n++ {
		p := wire.NewPartitionRecord()
		p.PartitionID, p.TopicID, p.Replicas, p.Isr, p.Leader = int32(n), id, []int32{1}, []int32{1}, 1
		p.Directories = []wire.UUID{{1}}
		records = append(records, p)
	}
	return c.apply(records...)
}

func (c *cluster) remove(name string) *metadata.Delta {
	return c.apply(&wire.RemoveTopicRecord{TopicID: c.image().Topic(name).ID})
}

func (c *cluster) configure(group, key, value string) *metadata.Delta {
	return c.apply(&wire.ConfigRecord{ResourceType: int8(metadata.ResourceGroup), ResourceName: group, Name: key, Value: &value})
}

// logged is a batch of the log.
type logged struct {
	at       int64
	producer *record.Producer
	marker   *coordinator.Marker
	records  []coordinator.Record
}

func (l *logged) origin() coordinator.Origin {
	o := coordinator.Origin{Timestamp: l.at, Producer: l.producer}
	if l.marker != nil {
		o.CoordinatorEpoch = l.marker.CoordinatorEpoch
	}
	return o
}

// play lets a machine take the batch in.
func (l *logged) play(m *Machine) error {
	if l.marker != nil {
		return m.ApplyMarker(l.origin(), l.marker.Committed)
	}
	for _, r := range l.records {
		if err := m.Apply(l.origin(), r.Key, r.Value); err != nil {
			return err
		}
	}
	return nil
}

func logOf(b coordinator.Batch, at int64) logged {
	l := logged{at: at, marker: b.Marker}
	if b.Producer != nil {
		p := *b.Producer
		l.producer = &p
	}
	for _, r := range b.Records {
		l.records = append(l.records, coordinator.Record{Key: bytes.Clone(r.Key), Value: bytes.Clone(r.Value)})
	}
	return l
}

// stage is a machine over a log that commits at once.
type stage struct {
	*Machine
	cluster *cluster
	opts    Options
	now     time.Time
	log     []logged
	fresh   int // From here on the log was not shown.
	token   coordinator.Token
	answers map[coordinator.Token]any
	seed    uint64
	strict  testing.TB // Holds batches and answers to what they must be.
	asked   map[coordinator.Token]Request
}

// quick settings make scripts short.
func quick() config.Groups {
	return config.Groups{
		InitialDelay: 3 * time.Second, MinSessionTimeout: 6 * time.Second, MaxSessionTimeout: 30 * time.Minute,
		MinConsumerSession: 6 * time.Second, MaxConsumerSession: 10 * time.Minute, MinHeartbeat: time.Second,
		Protocols: []string{"classic", "consumer", "streams"},
	}
}

func newStage(o Options) *stage {
	s := &stage{cluster: newCluster(), opts: o, now: time.UnixMilli(1_700_000_000_000).UTC(), answers: map[coordinator.Token]any{}, asked: map[coordinator.Token]Request{}}
	s.load(nil)
	return s
}

// load makes a machine of a log.
func (s *stage) load(log []logged) {
	s.seed++
	clear(s.asked) // They are told that the shard is lost.
	s.opts.Memory.Release()
	s.Machine = s.replayWith(s.opts.Memory, log)
	s.Loaded(s.now)
}

// replay is what another machine makes of a log.
func (s *stage) replay(log []logged) *Machine { return s.replayWith(nil, log) }

func (s *stage) replayWith(memory *coordinator.Share, log []logged) *Machine {
	o := s.opts
	o.Memory = memory
	o.Image, o.Rand = s.cluster.image(), rand.New(rand.NewPCG(s.seed, 7))
	m := New(o)
	for i := range log {
		if err := log[i].play(m); err != nil {
			panic(err)
		}
	}
	return m
}

// give hands an input over and returns its token.
func (s *stage) give(in any) coordinator.Token {
	s.token++
	s.obey(s.Handle(s.now, s.token, in))
	return s.token
}

// news hands over what the cluster is now.
func (s *stage) news(d *metadata.Delta) {
	s.obey(s.Handle(s.now, 0, News{Image: s.cluster.image(), Delta: d}))
}

// ask hands a request over and returns the answer, nil if there is none yet.
func (s *stage) ask(version int16, body wire.Request) any {
	in := Request{Body: body, Version: version, ClientID: "client", ClientHost: "/127.0.0.1"}
	s.asked[s.token+1] = in
	to := s.give(in)
	a := s.answers[to]
	delete(s.answers, to)
	return a
}

func (s *stage) obey(e coordinator.Effects) {
	for _, b := range e.Batches {
		l := logOf(b, s.now.UnixMilli())
		if size := l.size(); s.strict != nil && size > s.Machine.opts.MaxBatch {
			s.strict.Fatalf("a batch of %d bytes", size)
		}
		if err := l.play(s.Machine); err != nil {
			panic(err)
		}
		s.log = append(s.log, l)
	}
	for _, r := range e.Replies {
		if _, twice := s.answers[r.To]; twice || r.To == 0 {
			panic(fmt.Sprintf("token %d is answered twice", r.To))
		}
		if q, ok := s.asked[r.To]; ok && s.strict != nil {
			s.inspect(q, r.Answer)
		}
		delete(s.asked, r.To)
		s.answers[r.To] = r.Answer
	}
}

// inspect holds an answer to its request.
func (s *stage) inspect(q Request, answer any) {
	a, ok := answer.(wire.Response)
	if !ok || reflect.TypeOf(a) != reflect.TypeOf(q.Body.NewResponse()) {
		s.strict.Fatalf("%T is answered with %T %v", q.Body, answer, answer)
	}
	if _, err := a.AppendTo(nil, q.Version); err != nil {
		s.strict.Fatalf("%s is answered with %s: %v", show(q.Body), show(a), err)
	}
}

// wait lets time pass.
func (s *stage) wait(d time.Duration) {
	end := s.now.Add(d)
	for n := 0; ; n++ {
		at := s.Deadline()
		if at.IsZero() || at.After(end) {
			break
		}
		if at.After(s.now) {
			s.now, n = at, 0
		}
		if n > 100_000 {
			panic("a deadline does not pass")
		}
		s.obey(s.Handle(s.now, 0, nil))
	}
	s.now = end
}

// dump writes down the hard state of a machine.
func (m *Machine) dump() string {
	var b strings.Builder
	for _, id := range sortedKeys(m.groups) {
		g := m.groups[id]
		if !g.kept() {
			continue
		}
		fmt.Fprintf(&b, "group %s\n", id)
		dumpOffsets(&b, "  ", g.offsets)
		for _, topic := range sortedKeys(g.open) {
			for _, n := range sortedPartitions(g.open[topic]) {
				list := slices.Clone(g.open[topic][n])
				slices.Sort(list)
				fmt.Fprintf(&b, "  %s-%d is held by %v\n", topic, n, list)
			}
		}
		if g.record != nil {
			fmt.Fprintf(&b, "  classic %s\n", show(g.record))
		}
		if g.consumer != nil {
			dumpConsumer(&b, g.consumer)
		}
	}
	pids := make([]model.ProducerID, 0, len(m.pending))
	for id, txn := range m.pending {
		if len(txn) > 0 {
			pids = append(pids, id)
		}
	}
	slices.Sort(pids)
	for _, id := range pids {
		fmt.Fprintf(&b, "transaction of %d\n", id)
		for _, group := range sortedKeys(m.pending[id]) {
			fmt.Fprintf(&b, "  group %s\n", group)
			dumpOffsets(&b, "    ", m.pending[id][group])
		}
	}
	return b.String()
}

func dumpOffsets(b *strings.Builder, indent string, o offsets) {
	for _, topic := range o.topics() {
		for _, c := range o[topic].sorted() {
			fmt.Fprintf(b, "%s%s-%d is at %d epoch %d %q, since %d until %d, topic %s\n",
				indent, topic, c.partition, c.offset, c.leaderEpoch, c.metadata, c.at, c.expires, c.topicID)
		}
	}
}

func dumpConsumer(b *strings.Builder, c *consumer) {
	fmt.Fprintf(b, "  consumer epoch %d hash %d, assigned %d at %d, old %v\n", c.epoch, c.hash, c.assignmentEpoch, c.assignedAt, c.oldTopics)
	for _, id := range c.ids() {
		m := c.members[id]
		fmt.Fprintf(b, "    member %s %q %q %q %q %q %q %q %d %d %d %d %v %v", id, textOf(m.instance), textOf(m.rack), textOf(m.assignor),
			m.clientID, m.clientHost, m.topics, m.regex, m.rebalanceTimeout, m.epoch, m.previous, m.state, m.assigned, m.revoking)
		if m.classic != nil {
			fmt.Fprintf(b, " classic %d %q", m.classic.session, m.classic.protocols)
		}
		b.WriteString("\n")
	}
	for _, id := range sortedKeys(c.targets) {
		fmt.Fprintf(b, "    target of %s %v\n", id, c.targets[id])
	}
	for _, regex := range sortedKeys(c.regexes) {
		fmt.Fprintf(b, "    regex %s %q %d %d\n", regex, c.regexes[regex].topics, c.regexes[regex].version, c.regexes[regex].at)
	}
}

// check holds a machine's hard state to what follows from it.
func (m *Machine) check() error {
	for id, g := range m.groups {
		if c := g.consumer; c != nil {
			again := newConsumer()
			for _, member := range c.ids() {
				again.setMember(c.members[member])
			}
			for regex, r := range c.regexes {
				again.setRegex(regex, r)
			}
			type derived struct {
				Subscribers                            map[string]string
				WantRegex, Assignors, Protocols, Count map[string]int
				Holders                                map[model.TopicID]map[int32]int32
			}
			of := func(c *consumer) derived {
				d := derived{map[string]string{}, c.wantRegex, c.assignors, c.protocols, map[string]int{"classic": c.classics}, c.holders}
				for topic, n := range c.subscribers {
					d.Subscribers[topic] = fmt.Sprint(n)
				}
				return d
			}
			for instance, member := range c.static { // Of two members it has the later.
				if of := c.members[member]; of == nil || textOf(of.instance) != instance {
					return fmt.Errorf("group %s: instance %s is %s", id, instance, show(of))
				}
			}
			if want, got := of(again), of(c); !reflect.DeepEqual(want, got) {
				return fmt.Errorf("group %s: what follows from its members (-want +got)\n%s", id, cmp.Diff(want, got))
			}
		}
		for topic, t := range g.open {
			for n, ids := range t {
				for _, pid := range ids {
					if m.pending[pid][id].get(topic, n) == nil {
						return fmt.Errorf("group %s: %s-%d is held by %d, which does not know", id, topic, n, pid)
					}
				}
			}
		}
	}
	for pid, txn := range m.pending {
		for id, held := range txn {
			for topic, t := range held {
				for _, c := range t.list {
					if g := m.groups[id]; g == nil || !slices.Contains(g.open[topic][c.partition], pid) {
						return fmt.Errorf("group %s: %s-%d is held by %d in secret", id, topic, c.partition, pid)
					}
				}
			}
		}
	}
	return nil
}

// owned finds a partition that two members have.
func (m *Machine) owned() error {
	for id, g := range m.groups {
		if g.consumer == nil {
			continue
		}
		for topic, counts := range g.consumer.holders {
			for n, count := range counts {
				if count > 1 {
					return fmt.Errorf("group %s: partition %d of %s has %d owners", id, n, topic, count)
				}
			}
		}
	}
	return nil
}

// topicNumbers are those of topics whose ids do not end in them.
var topicNumbers = map[model.UUID]byte{}

// show writes a message with the fields that are not zero.
func show(v any) string {
	var b strings.Builder
	showValue(&b, reflect.ValueOf(v))
	return b.String()
}

func showValue(b *strings.Builder, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			b.WriteString("null")
			return
		}
		showValue(b, v.Elem())
	case reflect.Struct:
		b.WriteString("{")
		first := true
		for i := range v.NumField() {
			f, name := v.Field(i), v.Type().Field(i).Name
			if f.IsZero() || name == "AuthorizedOperations" || name == "ClientHost" {
				continue
			}
			if !first {
				b.WriteString(" ")
			}
			first = false
			showField(b, name, f)
		}
		b.WriteString("}")
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			fmt.Fprintf(b, "%q", v.Bytes())
			return
		}
		b.WriteString("[")
		for i := range v.Len() {
			if i > 0 {
				b.WriteString(" ")
			}
			showValue(b, v.Index(i))
		}
		b.WriteString("]")
	case reflect.Array:
		if id, ok := v.Interface().(model.UUID); ok {
			n, ok := topicNumbers[id]
			if !ok {
				n = id[15]
			}
			fmt.Fprintf(b, "T%d", n)
			return
		}
		fmt.Fprint(b, v.Interface())
	case reflect.String:
		b.WriteString(v.String())
	default:
		fmt.Fprint(b, v.Interface())
	}
}

// showField writes a field; codes by their names, and what consumers embed as
// what it says.
func showField(b *strings.Builder, name string, f reflect.Value) {
	if name == "ErrorCode" {
		b.WriteString(wire.ErrorCode(f.Int()).Error())
		return
	}
	b.WriteString(name + ":")
	if f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Uint8 {
		if text, ok := showEmbedded(name, f.Bytes()); ok {
			b.WriteString(text)
			return
		}
	}
	showValue(b, f)
}

func showEmbedded(name string, data []byte) (string, bool) {
	switch name {
	case "Metadata", "Subscription", "MemberMetadata":
		if s, ok := readSubscription(data); ok {
			return "<" + strings.Join(s.Topics, " ") + ">", true
		}
	case "Assignment", "MemberAssignment":
		if a, ok := readAssignment(data); ok {
			var list []string
			for _, t := range a.AssignedPartitions {
				list = append(list, fmt.Sprint(t.Topic, t.Partitions))
			}
			return "<" + strings.Join(list, " ") + ">", true
		}
	}
	return "", false
}

// showRecord writes a record of the log.
func showRecord(r coordinator.Record) string {
	key, err := wire.ReadCoordinatorKey(r.Key, wire.NewGroupKey)
	if err != nil {
		return err.Error()
	}
	name := strings.TrimSuffix(reflect.TypeOf(key).Elem().Name(), "RecordKey")
	if r.Value == nil {
		return fmt.Sprintf("%s %s tombstone", name, show(key))
	}
	value := wire.NewGroupValue(key.CoordinatorRecordType())
	version, err := wire.ReadCoordinatorValue(r.Value, value)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s %s v%d %s", name, show(key), version, show(value))
}
