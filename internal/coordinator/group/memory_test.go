package group

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// weigh counts all that the machine keeps anew.
func (m *Machine) weigh() (n int) {
	for _, g := range m.groups {
		n += g.bytes() + g.mostHeld + g.offsets.bytes() + recordBytes(g.record)
		if c := g.classic; c != nil {
			n += classicBytes + topicBytes*len(c.topics)
			for _, member := range c.members {
				n += member.bytes()
			}
			for id := range c.pending {
				n += pendingBytes + len(id)
			}
		}
		if c := g.consumer; c != nil {
			n += consumerBytes
			for _, member := range c.members {
				n += member.bytes()
			}
			for id, target := range c.targets {
				n += bytesOfTarget(id, target)
			}
			for regex, r := range c.regexes {
				n += r.bytesOf(regex)
			}
		}
	}
	for _, j := range m.jobs {
		n += j.counted
	}
	return n
}

// counted holds what was counted change by change to what there is.
func (m *Machine) countedRight() error {
	if n := m.weigh(); n != m.bytes {
		return fmt.Errorf("%d bytes are kept, %d were counted", n, m.bytes)
	}
	held := map[string]int{}
	for _, t := range m.pending {
		for id, o := range t {
			held[id] += transactionBytes + 2*o.bytes()
		}
	}
	for id, g := range m.groups {
		if held[id] != g.held || g.held > g.mostHeld {
			return fmt.Errorf("transactions hold %d bytes of %s, %d were counted, %d at most", held[id], id, g.held, g.mostHeld)
		}
	}
	return nil
}

// inUse is how much memory is in use.
func inUse() int {
	var s runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&s)
	return int(s.HeapAlloc)
}

// What is counted is about what is used, never far less: a limit that a stranger
// can stretch is none. Not parallel: others would be counted.
func TestMemoryIsCounted(t *testing.T) {
	f := func(name string, fill func(s *stage)) {
		t.Run(name, func(t *testing.T) {
			s := newStage(Options{Settings: quick()})
			s.news(s.cluster.grow("t", 20))
			before, counted := inUse(), s.bytes
			fill(s)
			s.log, s.token = nil, 0
			clear(s.asked)
			used := inUse() - before
			counted = s.bytes - counted
			t.Logf("%d used, %d counted: %.2f", used, counted, float64(counted)/float64(used))
			if counted < used*3/4 || counted > 4*used {
				t.Errorf("%d bytes are used, %d counted", used, counted)
			}
			if err := s.countedRight(); err != nil {
				t.Error(err)
			}
		})
	}
	// quietly asks, and keeps nothing of what is written.
	quietly := func(s *stage, version int16, q wire.Request) {
		s.ask(version, q)
		s.log = s.log[:0]
	}
	name := func(i int) string { return fmt.Sprintf("some-group-%06d", i) }
	f("groups of one offset", func(s *stage) {
		for i := range 5000 {
			quietly(s, 9, commitOf(name(i), 1, ""))
		}
	})
	f("groups of 20 offsets", func(s *stage) {
		for i := range 1000 {
			quietly(s, 9, commitOf(name(i), 20, strings.Repeat("x", 100)))
		}
	})
	f("offsets in transactions", func(s *stage) {
		for i := range 3000 {
			q := &wire.TxnOffsetCommitRequest{GroupID: name(i), ProducerID: int64(i), GenerationIDOrMemberEpoch: -1, TransactionalID: "x"}
			q.Topics = []wire.TxnOffsetCommitRequestTopic{{Name: "t", Partitions: []wire.TxnOffsetCommitRequestPartition{{PartitionIndex: 3}}}}
			quietly(s, 3, q)
		}
	})
	f("ids that were given out", func(s *stage) {
		for range maxPending {
			quietly(s, 9, classicJoin("g", "", "range"))
		}
	})
	f("classic groups", func(s *stage) {
		for i := range 2000 {
			q := classicJoin(name(i), "", "range")
			q.Protocols[0].Metadata = subscription([]string{"t", "u"}, nil)
			quietly(s, 3, q)
		}
		s.wait(4 * time.Second)
		s.log = nil
	})
	f("classic groups that want much", func(s *stage) {
		var topics []string
		for i := range 5000 {
			topics = append(topics, fmt.Sprint(i))
		}
		for i := range 30 {
			q := classicJoin(name(i), "", "range")
			q.Protocols[0].Metadata = subscription(topics, nil)
			quietly(s, 3, q)
		}
		s.wait(4 * time.Second)
		s.log = nil
	})
	f("consumer groups", func(s *stage) {
		for i := range 2000 {
			q := beatOf(name(i), "a-member-with-a-uuid-of-36-characters", joinEpoch)
			q.SubscribedTopicNames = []string{"t"}
			quietly(s, 1, q)
		}
	})
	f("consumers that want much", func(s *stage) {
		for i := range 50 {
			q := beatOf(name(i), "m", joinEpoch)
			for n := range 2000 {
				q.SubscribedTopicNames = append(q.SubscribedTopicNames, fmt.Sprint(n))
			}
			quietly(s, 1, q)
		}
	})
	f("a large consumer group", func(s *stage) {
		s.news(s.cluster.grow("large", 4000))
		for i := range 1000 {
			q := beatOf("g", name(i), joinEpoch)
			q.SubscribedTopicNames = []string{"large"}
			quietly(s, 1, q)
			s.wait(10 * time.Millisecond)
		}
		for range 3 {
			s.wait(2 * time.Second)
			for id, m := range s.groups["g"].consumer.members {
				quietly(s, 1, beatOf("g", id, m.epoch))
			}
		}
	})
}

// small is a stage with so many bytes.
func smallStage(t *testing.T, bytes int64) (*stage, *coordinator.Memory) {
	m := coordinator.NewMemory(bytes)
	return quickStage(t, Options{Memory: m.Share()}), m
}

// Strangers who name ever other groups, partitions, members and transactions fill
// the memory that there is, and no more. Those who were there go on.
func TestStrangersFillNoMemory(t *testing.T) {
	const limit = 300_000
	s, memory := smallStage(t, limit)
	s.strict = t
	s.news(s.cluster.grow("t", 50))

	// Those who were there.
	s.ask(9, commitOf("known", 10, "usual metadata"))
	consumer := beatOf("new", "m", joinEpoch)
	consumer.SubscribedTopicNames = []string{"t"}
	s.ask(1, consumer)
	classic := classicJoin("old", "", "range")
	classic.MemberID = s.joins(classic).MemberID
	s.joins(classic)
	s.wait(4 * time.Second)
	sync := &wire.SyncGroupRequest{GroupID: "old", GenerationID: 1, MemberID: classic.MemberID}
	sync.Assignments = []wire.SyncGroupRequestAssignment{{MemberID: classic.MemberID, Assignment: []byte("mine")}}
	s.ask(3, sync)

	txnCommit := func(group string, id int64) wire.ErrorCode {
		q := &wire.TxnOffsetCommitRequest{GroupID: group, ProducerID: id, GenerationIDOrMemberEpoch: -1, TransactionalID: "x"}
		q.Topics = []wire.TxnOffsetCommitRequestTopic{{Name: "t", Partitions: []wire.TxnOffsetCommitRequestPartition{{PartitionIndex: 3}}}}
		return wire.ErrorCode(s.ask(3, q).(*wire.TxnOffsetCommitResponse).Topics[0].Partitions[0].ErrorCode)
	}
	if code := txnCommit("eos", 1_000_000); code != wire.None {
		t.Fatal(code)
	}
	s.obey(s.Handle(s.now, 0, Marker{Producer: recordProducer(1_000_000), Committed: true}))
	codes := map[string]map[wire.ErrorCode]int{}
	saw := func(what string, code wire.ErrorCode) {
		if codes[what] == nil {
			codes[what] = map[wire.ErrorCode]int{}
		}
		codes[what][code]++
	}
	for i := range 3000 {
		name := fmt.Sprint("stranger-", i)
		switch i % 6 {
		case 0:
			for _, p := range s.ask(9, commitOf(name, 3, strings.Repeat("m", 3000))).(*wire.OffsetCommitResponse).Topics[0].Partitions {
				saw("commit", wire.ErrorCode(p.ErrorCode))
			}
		case 1:
			saw("transaction", txnCommit(name, int64(i)))
		case 2:
			saw("join", wire.ErrorCode(s.joins(classicJoin(name, "", "range")).ErrorCode))
		case 3:
			q := beatOf(name, "m", joinEpoch)
			for n := range 100 {
				q.SubscribedTopicNames = append(q.SubscribedTopicNames, fmt.Sprint(name, n))
			}
			saw("consumer", wire.ErrorCode(s.ask(1, q).(*wire.ConsumerGroupHeartbeatResponse).ErrorCode))
		case 4:
			q, regex := beatOf(name, "m", joinEpoch), fmt.Sprint(".*|", i)
			q.SubscribedTopicRegex = &regex
			saw("regex", wire.ErrorCode(s.ask(1, q).(*wire.ConsumerGroupHeartbeatResponse).ErrorCode))
		case 5:
			q := commitOf("known", 50, strings.Repeat("m", 50+i))
			for _, p := range s.ask(9, q).(*wire.OffsetCommitResponse).Topics[0].Partitions {
				saw("metadata", wire.ErrorCode(p.ErrorCode))
			}
		}
		if i%100 == 0 {
			if err := s.countedRight(); err != nil {
				t.Fatal(err)
			}
		}
		if memory.Held() > limit {
			t.Fatalf("%d bytes are held", memory.Held())
		}
	}
	f := func(what string, want wire.ErrorCode, ok wire.ErrorCode) {
		t.Helper()
		if codes[what][want] == 0 || len(codes[what]) > 2 || len(codes[what]) == 2 && codes[what][ok] == 0 {
			t.Errorf("%s: %v", what, codes[what])
		}
	}
	f("commit", wire.InvalidCommitOffsetSize, wire.None)
	f("transaction", wire.InvalidCommitOffsetSize, wire.None)
	f("join", wire.GroupMaxSizeReached, wire.MemberIDRequired)
	f("consumer", wire.GroupMaxSizeReached, wire.None)
	f("regex", wire.GroupMaxSizeReached, wire.None)
	f("metadata", wire.InvalidCommitOffsetSize, wire.None)
	if memory.Refused() == 0 {
		t.Error("nobody was refused")
	}

	// Who is known goes on, also when there is nothing left at all.
	s.opts.Memory.Add(limit)
	for i := range 10 {
		for _, p := range s.ask(9, commitOf("known", 10, fmt.Sprint("usual metadata ", i))).(*wire.OffsetCommitResponse).Topics[0].Partitions {
			if p.ErrorCode != 0 {
				t.Fatalf("a commit to a known partition: %v", wire.ErrorCode(p.ErrorCode))
			}
		}
	}
	if code := txnCommit("eos", 1_000_001); code != wire.None {
		t.Errorf("the next transaction of a known group: %v", code)
	}
	s.obey(s.Handle(s.now, 0, Marker{Producer: recordProducer(1_000_001), Committed: true}))
	m := s.groups["new"].consumer.members["m"]
	if r := s.ask(1, beatOf("new", "m", m.epoch)).(*wire.ConsumerGroupHeartbeatResponse); r.ErrorCode != 0 {
		t.Errorf("a known member: %s", show(r))
	}
	beat := &wire.HeartbeatRequest{GroupID: "old", GenerationID: 1, MemberID: classic.MemberID}
	if r := s.ask(4, beat).(*wire.HeartbeatResponse); r.ErrorCode != 0 {
		t.Errorf("a known classic member: %s", show(r))
	}
	s.joins(classic) // The leader asks for a rebalance.
	s.wait(4 * time.Second)
	sync.GenerationID = 2
	if r := s.ask(3, sync).(*wire.SyncGroupResponse); r.ErrorCode != 0 || string(r.Assignment) != "mine" {
		t.Errorf("a rebalance of those who are there: %s", show(r))
	}
	// Topics grow: a member keeps what it has until there is room.
	s.news(s.cluster.grow("t", 500))
	for range 2 {
		s.wait(2 * time.Second)
		if r := s.ask(1, beatOf("new", "m", m.epoch)).(*wire.ConsumerGroupHeartbeatResponse); wire.ErrorCode(r.ErrorCode) != wire.CoordinatorLoadInProgress {
			t.Errorf("a topic grew: %s", show(r))
		}
	}
	s.wait(40 * time.Second)
	if got := s.groups["new"].consumer.members["m"]; got != m {
		t.Errorf("who waits for memory is %+v", got)
	}
	s.opts.Memory.Add(-limit)

	// The end of what there is makes room.
	for i := range 3000 {
		s.obey(s.Handle(s.now, 0, Marker{Producer: recordProducer(i)}))
	}
	var names []string
	for name := range s.groups {
		names = append(names, name)
	}
	s.wait(2 * time.Minute) // Sessions are over.
	for _, name := range names {
		s.ask(2, &wire.DeleteGroupsRequest{GroupsNames: []string{name}})
	}
	if len(s.groups) > 0 || s.bytes != 0 || memory.Held() != 0 {
		t.Errorf("%d groups, %d bytes, %d are held", len(s.groups), s.bytes, memory.Held())
	}
	if r := s.ask(1, consumer).(*wire.ConsumerGroupHeartbeatResponse); r.ErrorCode != 0 {
		t.Errorf("there is room again: %s", show(r))
	}
}

// A log is loaded whatever it takes.
func TestLoadRefusesNothing(t *testing.T) {
	s := quickStage(t, Options{})
	for i := range 100 {
		s.ask(9, commitOf(fmt.Sprint("g", i), 4, ""))
		q := beatOf(fmt.Sprint("c", i), "m", joinEpoch)
		q.SubscribedTopicNames = []string{"t"}
		s.ask(1, q)
	}
	memory := coordinator.NewMemory(1000)
	s.opts.Memory = memory.Share()
	before := s.dump()
	s.load(s.log)
	if got := s.dump(); got != before {
		t.Error("the log says something else than the machine")
	}
	if memory.Held() != int64(s.bytes) || s.weigh() != s.bytes {
		t.Errorf("%d bytes are held, %d were counted, %d are there", memory.Held(), s.bytes, s.weigh())
	}
	if r := s.ask(9, commitOf("g7", 4, "")).(*wire.OffsetCommitResponse); r.Topics[0].Partitions[3].ErrorCode != 0 {
		t.Error(show(r))
	}
	if r := s.ask(9, commitOf("another", 4, "")).(*wire.OffsetCommitResponse); wire.ErrorCode(r.Topics[0].Partitions[3].ErrorCode) != wire.InvalidCommitOffsetSize {
		t.Error(show(r))
	}
}

func recordProducer(i int) (p record.Producer) {
	p.ID, p.Epoch = model.ProducerID(i), 0
	return p
}

// An expression that matches more than there is memory for matches nothing, until
// there is.
func TestRegexesWaitForMemory(t *testing.T) {
	s, memory := smallStage(t, 15_000)
	for i := range 200 {
		s.cluster.grow(fmt.Sprint("topic-", i), 1)
	}
	s.news(nil)
	q, regex := beatOf("g", "m", joinEpoch), "topic-.*"
	q.SubscribedTopicRegex = &regex
	beat := func() (wire.ErrorCode, int) {
		r := s.ask(1, q).(*wire.ConsumerGroupHeartbeatResponse)
		q = beatOf("g", "m", r.MemberEpoch)
		s.wait(6 * time.Second)
		n := 0
		if m := s.groups["g"].consumer.members["m"]; m != nil {
			n = len(m.assigned)
		}
		if err := s.countedRight(); err != nil {
			t.Error(err)
		}
		if memory.Held() > memory.Limit() {
			t.Errorf("%d bytes are held", memory.Held())
		}
		return wire.ErrorCode(r.ErrorCode), n
	}
	for range 10 {
		if code, n := beat(); code != wire.None || n > 0 {
			t.Fatalf("%v, %d topics", code, n)
		}
	}
	if memory.Refused() < 2 || memory.Refused() > 10 { // Once in ten seconds.
		t.Errorf("refused %d times", memory.Refused())
	}
	s.opts.Memory.Add(-1_000_000)
	for range 10 {
		beat()
	}
	if code, n := beat(); code != wire.None || n != 200 {
		t.Errorf("%v, %d topics when there is room", code, n)
	}
}
