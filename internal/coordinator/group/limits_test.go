package group

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/wire"
)

func quickStage(t testing.TB, o Options) *stage {
	t.Helper()
	o.Settings = quick()
	s := newStage(o)
	s.strict = t
	s.news(s.cluster.grow("t", 4))
	return s
}

func (s *stage) joins(q *wire.JoinGroupRequest) *wire.JoinGroupResponse {
	r, _ := s.ask(9, q).(*wire.JoinGroupResponse)
	return r
}

// Strangers who ask for member ids of ever other groups fill no memory: the
// oldest groups are forgotten, and who comes back late is told to begin anew.
func TestShellsAreForgotten(t *testing.T) {
	s := quickStage(t, Options{})
	name := func(i int) string { return fmt.Sprint("g", i) }
	var first, last string
	for i := range maxShells + 50 {
		r := s.joins(classicJoin(name(i), "", "range"))
		if wire.ErrorCode(r.ErrorCode) != wire.MemberIDRequired {
			t.Fatal(show(r))
		}
		if last = r.MemberID; i == 0 {
			first = last
		}
	}
	if len(s.groups) != maxShells {
		t.Errorf("%d groups", len(s.groups))
	}
	if r := s.joins(classicJoin(name(0), first, "range")); wire.ErrorCode(r.ErrorCode) != wire.UnknownMemberID {
		t.Errorf("the first: %s", show(r))
	}
	if r := s.joins(classicJoin(name(maxShells+49), last, "range")); r != nil {
		t.Errorf("the last: %s", show(r))
	}
	// Ids that nobody used go with their session, and their groups with the sweep.
	s.wait(11 * time.Minute)
	if len(s.groups) > 0 || len(s.log) == 0 {
		t.Errorf("%d groups, %d batches", len(s.groups), len(s.log))
	}
	if n := len(s.timers.heap); n > 10 {
		t.Errorf("%d timers", n)
	}
}

// A group whose members wait for their first generation stays when others are
// forgotten.
func TestShellsWithMembersStay(t *testing.T) {
	s := quickStage(t, Options{})
	q := classicJoin("waits", "", "range")
	q.MemberID = s.joins(q).MemberID
	if r := s.joins(q); r != nil {
		t.Fatal(show(r))
	}
	for i := range 2 * maxShells {
		s.joins(classicJoin(fmt.Sprint("g", i), "", "range"))
	}
	s.wait(4 * time.Second)
	if len(s.asked) > 0 || s.groups["waits"] == nil {
		t.Errorf("%d wait, group %v", len(s.asked), s.groups["waits"])
	}
}

func TestPendingMembersAreBounded(t *testing.T) {
	s := quickStage(t, Options{})
	codes := map[wire.ErrorCode]int{}
	for range maxPending + 7 {
		codes[wire.ErrorCode(s.joins(classicJoin("g", "", "range")).ErrorCode)]++
	}
	if codes[wire.MemberIDRequired] != maxPending || codes[wire.GroupMaxSizeReached] != 7 {
		t.Errorf("%v", codes)
	}
	s.wait(time.Minute)
	if r := s.joins(classicJoin("g", "", "range")); wire.ErrorCode(r.ErrorCode) != wire.MemberIDRequired {
		t.Error(show(r))
	}
}

// What a classic group's members say of themselves has to fit a record.
func TestSubscriptionsAreBounded(t *testing.T) {
	s := quickStage(t, Options{MaxBatch: 10_000})
	join := func(size int) *wire.JoinGroupResponse {
		q := classicJoin("g", "", "range")
		q.Protocols[0].Metadata = make([]byte, size)
		r := s.joins(q)
		if wire.ErrorCode(r.ErrorCode) != wire.MemberIDRequired {
			return r
		}
		q.MemberID = r.MemberID
		return s.joins(q)
	}
	for i := range 3 {
		if r := join(3000); r != nil {
			t.Fatalf("%d: %s", i, show(r))
		}
	}
	if r := join(3000); r == nil || wire.ErrorCode(r.ErrorCode) != wire.GroupMaxSizeReached {
		t.Fatalf("one too many: %s", show(r))
	}
	s.wait(5 * time.Second)
	if len(s.asked) > 0 {
		t.Errorf("%d wait", len(s.asked))
	}
}

// Protocols that are not chosen are not written, and kept nevertheless: they are
// bounded, too, also for one who joins again.
func TestProtocolsAreBounded(t *testing.T) {
	s := quickStage(t, Options{MaxBatch: 10_000})
	join := func(q *wire.JoinGroupRequest, protocols int) wire.ErrorCode {
		q.Protocols = nil
		for i := range protocols {
			q.Protocols = append(q.Protocols, wire.JoinGroupRequestProtocol{Name: fmt.Sprint("p", i), Metadata: make([]byte, 1000)})
		}
		r := s.joins(q)
		if r != nil && wire.ErrorCode(r.ErrorCode) == wire.MemberIDRequired {
			q.MemberID = r.MemberID
			r = s.joins(q)
		}
		if r == nil {
			return wire.None // It waits.
		}
		return wire.ErrorCode(r.ErrorCode)
	}
	first, second := classicJoin("g", "", "range"), classicJoin("g", "", "range")
	if code := join(first, 40); code != wire.None {
		t.Fatal(code)
	}
	if code := join(second, 40); code != wire.GroupMaxSizeReached {
		t.Errorf("another as large: %v", code)
	}
	if code := join(second, 20); code != wire.None {
		t.Errorf("a smaller one: %v", code)
	}
	if code := join(second, 60); code != wire.GroupMaxSizeReached {
		t.Errorf("it grows: %v", code)
	}
	s.wait(time.Minute) // Their sessions are over.
	if c := s.groups["g"].classic; c != nil && c.held != 0 {
		t.Errorf("%d bytes are held by nobody", c.held)
	}
}

// So are the members of all groups together, for a stranger can name ever other
// groups; who is there already stays, and who goes makes room.
func TestMembersOfAllGroupsAreBounded(t *testing.T) {
	s := quickStage(t, Options{Memory: coordinator.NewMemory(270_000).Share()})
	var last *wire.JoinGroupRequest
	refused := 0
	for i := range 20 {
		q := classicJoin(fmt.Sprint("g", i), "", "range")
		q.Protocols[0].Metadata = make([]byte, 9_000)
		q.MemberID = s.joins(q).MemberID
		if r := s.joins(q); r == nil {
			last = q
		} else if refused++; wire.ErrorCode(r.ErrorCode) != wire.GroupMaxSizeReached {
			t.Fatal(show(r))
		}
	}
	if refused != 10 || s.bytes > 270_000 {
		t.Errorf("%d refused, %d bytes held", refused, s.bytes)
	}
	if r := s.joins(last); r != nil {
		t.Errorf("one who is there: %s", show(r))
	}
	s.wait(10 * time.Minute) // Their sessions are over.
	if s.bytes != 0 {
		t.Errorf("%d bytes are held by nobody", s.bytes)
	}
	if r := s.joins(classicJoin("another", "", "range")); wire.ErrorCode(r.ErrorCode) != wire.MemberIDRequired {
		t.Error(show(r))
	}
}

// An assignment that is too large to write is refused with Kafka's code, and the
// group goes on.
func TestLargeAssignmentIsRefused(t *testing.T) {
	s := quickStage(t, Options{MaxBatch: 10_000})
	q := classicJoin("g", "", "range")
	q.MemberID = s.joins(q).MemberID
	s.joins(q)
	s.wait(4 * time.Second)
	sync := &wire.SyncGroupRequest{GroupID: "g", GenerationID: 1, MemberID: q.MemberID}
	sync.Assignments = []wire.SyncGroupRequestAssignment{{MemberID: q.MemberID, Assignment: make([]byte, 20_000)}}
	if r := s.ask(3, sync).(*wire.SyncGroupResponse); wire.ErrorCode(r.ErrorCode) != wire.UnknownServerError {
		t.Fatal(show(r))
	}
	s.joins(q)
	s.wait(4 * time.Second)
	sync.GenerationID, sync.Assignments[0].Assignment = 2, []byte("small")
	if r := s.ask(3, sync).(*wire.SyncGroupResponse); r.ErrorCode != 0 || string(r.Assignment) != "small" {
		t.Fatal(show(r))
	}
}

func commitOf(group string, partitions int, metadata string) *wire.OffsetCommitRequest {
	q := &wire.OffsetCommitRequest{GroupID: group, GenerationIDOrMemberEpoch: -1, RetentionTimeMs: -1, Topics: []wire.OffsetCommitRequestTopic{{Name: "t"}}}
	for n := range partitions {
		q.Topics[0].Partitions = append(q.Topics[0].Partitions, wire.OffsetCommitRequestPartition{
			PartitionIndex: int32(n), CommittedOffset: int64(100 + n), CommittedLeaderEpoch: 7, CommittedMetadata: &metadata,
		})
	}
	return q
}

// A commit is one batch, or nothing.
func TestLargeCommitIsRefused(t *testing.T) {
	s := quickStage(t, Options{MaxBatch: 10_000})
	s.news(s.cluster.grow("t", 200))
	before := len(s.log)
	r := s.ask(9, commitOf("g", 200, "metadata of some length")).(*wire.OffsetCommitResponse)
	for _, p := range r.Topics[0].Partitions {
		if wire.ErrorCode(p.ErrorCode) != wire.UnknownServerError {
			t.Fatal(show(p))
		}
	}
	if len(s.log) > before || s.groups["g"] != nil {
		t.Errorf("%d batches, group %v", len(s.log)-before, s.groups["g"])
	}
}

// The end of many offsets is written in batches that fit.
func TestLargeDeletionsAreCut(t *testing.T) {
	s := quickStage(t, Options{MaxBatch: 10_000})
	s.news(s.cluster.grow("t", 400))
	for n := range 4 {
		q := commitOf("g", 400, "")
		q.Topics[0].Partitions = q.Topics[0].Partitions[100*n : 100*(n+1)]
		s.ask(9, q)
	}
	if got := len(s.groups["g"].offsets["t"].list); got != 400 {
		t.Fatalf("%d offsets", got)
	}
	before := len(s.log)
	if r := s.ask(2, &wire.DeleteGroupsRequest{GroupsNames: []string{"g"}}).(*wire.DeleteGroupsResponse); r.Results[0].ErrorCode != 0 {
		t.Fatal(show(r))
	}
	if len(s.log)-before < 2 || s.groups["g"] != nil {
		t.Errorf("%d batches, group %v", len(s.log)-before, s.groups["g"])
	}
}

// Sweeps of topics and of what expired are done bit by bit, too.
func TestSweepsAreCut(t *testing.T) {
	f := func(name string, end func(s *stage)) {
		t.Run(name, func(t *testing.T) {
			s := quickStage(t, Options{MaxBatch: 4000})
			s.news(s.cluster.grow("t", 20))
			for i := range 300 {
				s.ask(9, commitOf(fmt.Sprint("g", i), 20, ""))
			}
			before := len(s.log)
			end(s)
			if len(s.groups) > 0 || len(s.log)-before < 10 {
				t.Errorf("%d groups, %d batches", len(s.groups), len(s.log)-before)
			}
		})
	}
	f("topic", func(s *stage) { s.news(s.cluster.remove("t")); s.wait(11 * time.Minute) })
	f("expired", func(s *stage) {
		s.settings.OffsetsRetention = time.Hour
		s.wait(2 * time.Hour)
	})
}

func beatOf(group, member string, epoch int32) *wire.ConsumerGroupHeartbeatRequest {
	q := wire.NewConsumerGroupHeartbeatRequest()
	q.GroupID, q.MemberID, q.MemberEpoch = group, member, epoch
	if epoch == joinEpoch {
		q.RebalanceTimeoutMs, q.TopicPartitions = 5000, []wire.ConsumerGroupHeartbeatRequestTopicPartitions{}
	}
	return q
}

// Expressions made to cost a lot are refused, or take bits of time.
func TestRegexesAreBounded(t *testing.T) {
	s := quickStage(t, Options{})
	beat := func(member, regex string) (wire.ErrorCode, string) {
		q := beatOf("g", member, joinEpoch)
		q.SubscribedTopicRegex = &regex
		r := s.ask(1, q).(*wire.ConsumerGroupHeartbeatResponse)
		return wire.ErrorCode(r.ErrorCode), textOf(r.ErrorMessage)
	}
	f := func(regex, want string) {
		t.Helper()
		if code, message := beat("a", regex); code != wire.InvalidRegularExpression || !strings.Contains(message, want) {
			t.Errorf("%.30s: %v %.200s", regex, code, message)
		}
	}
	f(strings.Repeat("a", 4097), "expression too long")
	f("((a{31}){32}b)*", "expression too large")
	f("((a{100}){100})", "invalid repeat count")
	f("a(b", "missing closing )")
	f(`(a)\1`, "invalid escape sequence")
	f("a)|(?:b", "unexpected )")
	f(strings.Repeat("(", 2000)+strings.Repeat(")", 2000), "expression nests too deeply")
	if code, message := beat("a", "(a*)*b"); code != wire.None {
		t.Fatalf("%v %s", code, message)
	}
	used := 0
	for i := range maxRegexes + 10 {
		if code, _ := beat(fmt.Sprint("m", i), fmt.Sprintf("((a{20}){4}b)*%d", i)); code == wire.None {
			used++
		}
	}
	if used < 50 || used > 150 { // Of about 90 instructions each.
		t.Errorf("%d expressions", used)
	}
	for i := range maxRegexes + 10 {
		if code, _ := beat(fmt.Sprint("m", i), fmt.Sprint(i)); code != wire.None && len(s.groups["g"].consumer.wantRegex) < maxRegexes {
			t.Fatalf("expression %d: %v", i, code)
		}
	}
	if n := len(s.groups["g"].consumer.wantRegex); n != maxRegexes {
		t.Errorf("%d expressions", n)
	}
}

// Many expressions over many topics are resolved in steps, between which other
// requests are answered.
func TestRegexesAreResolvedInSteps(t *testing.T) {
	s := quickStage(t, Options{})
	for i := range 250 {
		s.cluster.grow(fmt.Sprint("topic-", i), 1)
	}
	s.news(nil)
	for i := range 60 {
		q, regex := beatOf("g", fmt.Sprint("m", i), joinEpoch), fmt.Sprintf("((a{20}){4}b)*topic-%d.*", i)
		q.SubscribedTopicRegex = &regex
		if r := s.ask(1, q).(*wire.ConsumerGroupHeartbeatResponse); r.ErrorCode != 0 {
			t.Fatal(show(r))
		}
	}
	s.wait(11 * time.Second)
	q := beatOf("g", "m0", s.groups["g"].consumer.members["m0"].epoch)
	s.ask(1, q)
	steps := 0
	for ; s.jobs["g"] != nil; steps++ {
		s.obey(s.Handle(s.now, 0, nil))
	}
	if steps < 5 {
		t.Errorf("%d steps", steps)
	}
	f := func(regex string, want int) {
		t.Helper()
		if got := s.groups["g"].consumer.regexes[regex]; got == nil || len(got.topics) != want {
			t.Errorf("%s: %s", regex, show(got))
		}
	}
	f("((a{20}){4}b)*topic-1.*", 1+10+100)
	f("((a{20}){4}b)*topic-25.*", 1)
}

// What a member says stays, whatever becomes of the frames that its requests
// came in: a member would hold the whole frame else, with all that a stranger
// put into it.
func TestMembersHoldNoFrames(t *testing.T) {
	s := quickStage(t, Options{})
	var frames [][]byte
	framed := func(q wire.Request) wire.Request {
		frame, err := q.AppendTo(nil, 5)
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, frame)
		api, _ := wire.LookupAPI(q.Key())
		read := api.NewRequest()
		if err := read.ReadFrom(wire.NewReader(frame), 5); err != nil {
			t.Fatal(err)
		}
		return read
	}
	q := classicJoin("g", "", "range")
	q.GroupInstanceID, q.Protocols[0].Metadata = new("instance"), []byte("subscription")
	s.ask(5, framed(q))
	s.wait(4 * time.Second)
	c := s.groups["g"].classic
	id := c.leader
	sync := wire.NewSyncGroupRequest()
	sync.GroupID, sync.GenerationID, sync.MemberID, sync.ProtocolType, sync.ProtocolName = "g", c.generation, id, new("consumer"), new("range")
	sync.GroupInstanceID = new("instance")
	sync.Assignments = []wire.SyncGroupRequestAssignment{{MemberID: id, Assignment: []byte("assignment")}}
	s.ask(5, framed(sync))
	for _, f := range frames {
		for i := range f {
			f[i] = 'X'
		}
	}
	m := c.members[id]
	if m == nil || *m.instance != "instance" || c.static["instance"] != id || m.protocols[0].Name != "range" || string(m.protocols[0].Metadata) != "subscription" ||
		string(m.assignment) != "assignment" || c.protocolType != "consumer" || *c.protocol != "range" || s.groups["g"].id != "g" || c.state != settled {
		t.Errorf("%+v in %+v", m, c)
	}
}
