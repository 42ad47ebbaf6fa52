package group

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// worldLogs are the logs of worlds in which something happened.
func worldLogs(n int) (logs [][]logged) {
	for seed := 0; len(logs) < n; seed++ {
		w := newWorld(seed)
		for range 150 {
			if err := w.step(); err != nil {
				panic(err)
			}
		}
		if len(w.log) > 20 {
			logs = append(logs, w.log)
		}
	}
	return logs
}

// tape is hostile input: numbers and bytes, one after the other.
type tape []byte

func (t *tape) byte() byte {
	if len(*t) == 0 {
		return 0
	}
	b := (*t)[0]
	*t = (*t)[1:]
	return b
}

// bytes are preceded by their number; the highest is nil.
func (t *tape) bytes() []byte {
	n := int(t.byte())<<8 | int(t.byte())
	if n == 0xffff {
		return nil
	}
	n = min(n, len(*t))
	b := (*t)[:n:n]
	*t = (*t)[n:]
	return b
}

func appendBytes(to, b []byte) []byte {
	if b == nil {
		return append(to, 0xff, 0xff)
	}
	return append(binary.BigEndian.AppendUint16(to, uint16(len(b))), b...)
}

// What precedes a record or marker on a tape.
const (
	plainRecord = iota
	txnRecord
	commitMarker
	abortMarker
)

func tapeOf(log []logged) (t []byte) {
	for _, l := range log {
		switch {
		case l.marker != nil && l.marker.Committed:
			t = append(t, commitMarker, byte(l.producer.ID))
		case l.marker != nil:
			t = append(t, abortMarker, byte(l.producer.ID))
		}
		for _, r := range l.records {
			if l.producer != nil {
				t = append(t, txnRecord, byte(l.producer.ID))
			} else {
				t = append(t, plainRecord)
			}
			t = appendBytes(appendBytes(t, r.Key), r.Value)
		}
	}
	return t
}

// readLog reads a tape until a record is refused.
func readLog(t tape) (log []logged) {
	for len(t) > 0 {
		l := logged{at: 1_700_000_000_000}
		kind := t.byte() % 4
		if kind != plainRecord {
			l.producer = &record.Producer{ID: model.ProducerID(t.byte())}
		}
		switch kind {
		case commitMarker, abortMarker:
			l.marker = &coordinator.Marker{Committed: kind == commitMarker}
		default:
			l.records = []coordinator.Record{{Key: t.bytes(), Value: t.bytes()}}
		}
		log = append(log, l)
	}
	return log
}

// FuzzApply lets a machine load records that nobody in his senses wrote. It
// refuses them or stays whole: what it derives is right, a second load makes the
// same, and all that comes after is answered.
func FuzzApply(f *testing.F) {
	for _, log := range worldLogs(12) {
		f.Add(tapeOf(log))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := newStage(Options{Settings: quick()})
		s.cluster.grow("t", 5)
		s.cluster.grow("u", 2)
		m := s.replay(nil)
		for _, l := range readLog(data) {
			if err := l.play(m); err != nil {
				break
			}
			s.log = append(s.log, l)
		}
		if err := m.check(); err != nil {
			t.Fatal(err)
		}
		s.load(s.log)
		if diff := cmp.Diff(m.dump(), s.dump()); diff != "" {
			t.Fatal(diff)
		}
		for _, id := range sortedKeys(s.groups) {
			askAround(s, id)
		}
		s.wait(20 * time.Second)
		s.news(s.cluster.remove("u"))
		s.wait(20 * time.Minute)
		if err := s.check(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s.replay(s.log).dump(), s.dump()); diff != "" {
			t.Fatal(diff)
		}
	})
}

// askAround asks what everybody may ask of a group, and joins it both ways.
func askAround(s *stage, id string) {
	if len(id) > maxText {
		return
	}
	join := classicJoin(id, "", "range")
	beat := wire.NewConsumerGroupHeartbeatRequest()
	beat.GroupID, beat.MemberID, beat.RebalanceTimeoutMs, beat.SubscribedTopicNames = id, "stranger", 5000, []string{"t", "u"}
	beat.TopicPartitions = []wire.ConsumerGroupHeartbeatRequestTopicPartitions{}
	commit := &wire.OffsetCommitRequest{GroupID: id, GenerationIDOrMemberEpoch: -1, RetentionTimeMs: -1, Topics: []wire.OffsetCommitRequestTopic{{Name: "t", Partitions: []wire.OffsetCommitRequestPartition{{}}}}}
	s.ask(6, &wire.DescribeGroupsRequest{Groups: []string{id}})
	s.ask(1, &wire.ConsumerGroupDescribeRequest{GroupIDs: []string{id}})
	s.ask(9, &wire.OffsetFetchRequest{Groups: []wire.OffsetFetchRequestGroup{{GroupID: id, MemberEpoch: -1}}})
	s.ask(9, commit)
	s.ask(1, beat)
	s.ask(1, beat)
	s.ask(9, join)
	s.ask(5, &wire.ListGroupsRequest{})
	s.ask(2, &wire.DeleteGroupsRequest{GroupsNames: []string{id}})
}

func classicJoin(group, member, protocol string) *wire.JoinGroupRequest {
	return &wire.JoinGroupRequest{
		GroupID: group, MemberID: member, SessionTimeoutMs: 10_000, RebalanceTimeoutMs: 5000, ProtocolType: "consumer",
		Protocols: []wire.JoinGroupRequestProtocol{{Name: protocol, Metadata: subscription([]string{"t"}, nil)}},
	}
}

// What may happen on a tape of requests.
const (
	aRequest = iota
	timePasses
	topicsChange
	aMarker
	aFailover
	happenings
)

// groupAPIs are the requests that a machine knows.
var groupAPIs = []wire.Key{
	wire.JoinGroupKey, wire.SyncGroupKey, wire.HeartbeatKey, wire.LeaveGroupKey, wire.OffsetCommitKey, wire.OffsetFetchKey, wire.OffsetDeleteKey,
	wire.ListGroupsKey, wire.DescribeGroupsKey, wire.DeleteGroupsKey, wire.ConsumerGroupHeartbeatKey, wire.ConsumerGroupDescribeKey, wire.TxnOffsetCommitKey,
}

// recording is a world whose requests go to a tape.
func recording(seed int) (t []byte) {
	w := newWorld(seed)
	w.spy = func(in any) {
		switch in := in.(type) {
		case Request:
			for i, key := range groupAPIs {
				if key != in.Body.Key() {
					continue
				}
				b, err := in.Body.AppendTo(nil, in.Version)
				if err != nil {
					panic(err)
				}
				t = appendBytes(append(t, aRequest, byte(i), byte(in.Version)), b)
			}
		case Marker:
			t = append(t, aMarker, byte(in.Producer.ID), byte(in.Producer.ID%2))
		}
		t = append(t, timePasses, byte(w.IntN(8)))
	}
	for range 100 {
		if err := w.step(); err != nil {
			panic(err)
		}
	}
	return t
}

// FuzzRequests lets strangers ask anything. Whatever they say, they are answered
// once, with what can be written; batches are small enough, and the log says all
// that is known.
func FuzzRequests(f *testing.F) {
	for seed := range 12 {
		f.Add(recording(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := newStage(Options{Settings: quick(), MaxBatch: 64 << 10})
		s.strict = t
		s.cluster.grow("t", 5)
		s.news(nil)
		in := tape(data)
		for steps := 0; len(in) > 0 && steps < 400; steps++ {
			perform(s, &in)
			if steps%16 == 0 {
				if err := s.check(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := s.check(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s.replay(s.log).dump(), s.dump()); diff != "" {
			t.Fatal(diff)
		}
		s.wait(31 * time.Minute)
		if n := len(s.asked); n > 0 {
			t.Fatalf("%d wait for ever", n)
		}
	})
}

func perform(s *stage, in *tape) {
	switch in.byte() % happenings {
	case aRequest:
		api, _ := wire.LookupAPI(groupAPIs[int(in.byte())%len(groupAPIs)])
		version := api.MinVersion + (int16(in.byte())+256-api.MinVersion)%(api.MaxVersion-api.MinVersion+1)
		body := api.NewRequest()
		if wire.ReadExactly(wire.NewReader(in.bytes()), body, version) == nil {
			s.ask(version, body)
		}
	case timePasses:
		s.wait(time.Duration(in.byte()) * 100 * time.Millisecond)
	case topicsChange:
		switch n := in.byte(); {
		case s.cluster.image().Topic("u") == nil:
			s.news(s.cluster.grow("u", 1+int(n%4)))
		case n%2 == 0:
			s.news(s.cluster.grow("u", 1+int(n%8)))
		default:
			s.news(s.cluster.remove("u"))
		}
	case aMarker:
		s.give(Marker{Producer: record.Producer{ID: model.ProducerID(in.byte())}, Committed: in.byte()%2 == 0})
	case aFailover:
		s.load(s.log)
	}
}

// The fuzz targets' inputs are what they say.
func TestTapes(t *testing.T) {
	log := worldLogs(1)[0]
	o := Options{Settings: quick(), Rand: rand.New(rand.NewPCG(1, 1))}
	m, again := New(o), New(o)
	for i := range log {
		if err := log[i].play(m); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range readLog(tapeOf(log)) {
		if err := l.play(again); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(m.dump(), again.dump()); diff != "" || len(m.groups) == 0 {
		t.Fatalf("(-want +got)\n%s", diff)
	}
	batches := 0
	for seed := range 12 {
		s := newStage(Options{Settings: quick()})
		s.cluster.grow("t", 5)
		s.news(nil)
		for in := tape(recording(seed)); len(in) > 0; {
			perform(s, &in)
		}
		batches += len(s.log)
	}
	if batches < 50 {
		t.Fatalf("%d batches came of the recordings", batches)
	}
}
