package group

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// benchLog commits at once what it is given, and forgets it: it replays only
// what it was made with.
type benchLog struct {
	batches []record.Batch
	end     model.Offset
}

func (l *benchLog) Append(_ model.Epoch, b record.Batch) (model.Offset, error) {
	l.end += model.Offset(b.Count())
	return l.end, nil
}

func (l *benchLog) Acknowledged(model.Offset, model.Epoch) (bool, error) { return true, nil }

func (l *benchLog) AwaitCommitted(model.Offset, model.Epoch, coordinator.Waker) bool { return false }

func (l *benchLog) Replay(each func(record.Batch) error) (model.Offset, error) {
	for _, b := range l.batches {
		if err := each(b); err != nil {
			return 0, err
		}
	}
	return l.end, nil
}

// offsetsLog has committed offsets of 100 groups: each partition's is there ten
// times, as in a log that is due for compaction.
func offsetsLog(b *testing.B, records int) *benchLog {
	var l benchLog
	var s script
	builder := record.NewBuilder(record.BuilderOptions{})
	for n := 0; n < records; {
		s.reset()
		group := fmt.Sprint("group-", n/100%100)
		for range 100 {
			s.offset(group, fmt.Sprint("topic-", n%10), &committed{partition: int32(n / 10000 % 100), leaderEpoch: 3, offset: int64(n), at: 1_700_000_000_000 + int64(n), topicID: model.TopicID{1}})
			n++
		}
		builder.Reset(record.BuilderOptions{BaseOffset: l.end})
		for _, r := range s.records {
			if err := builder.Add(record.Record{Timestamp: 1_700_000_000_000, Key: r.Key, Value: r.Value}); err != nil {
				b.Fatal(err)
			}
		}
		_, batch, err := builder.BuildAs(nil, record.BuilderOptions{BaseOffset: l.end})
		if err != nil {
			b.Fatal(err)
		}
		l.batches = append(l.batches, batch)
		l.end += model.Offset(batch.Count())
	}
	return &l
}

func benchCluster() *cluster {
	c := newCluster()
	c.grow("t", 100)
	return c
}

func benchOptions(c *cluster) Options {
	s := quick()
	s.AssignmentInterval = 0
	return Options{Settings: s, Image: c.image(), Rand: rand.New(rand.NewPCG(1, 2)), MaxBatch: 1 << 20}
}

// A million offsets are loaded: below a second.
func BenchmarkLoad(b *testing.B) {
	const records = 1_000_000
	l, c := offsetsLog(b, records), benchCluster()
	b.ReportAllocs()
	for b.Loop() {
		r := coordinator.NewRuntime(coordinator.Options{New: func(int32, *coordinator.Share) coordinator.Machine { return New(benchOptions(c)) }, Now: time.Now, MaxBatch: 1 << 20})
		r.Lead(0, 1, l)
		for r.Stats().Loads.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		r.Close()
	}
	b.ReportMetric(float64(records)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// One consumer of a hundred commits the offset of one partition, through the
// runtime; all hundred do that at once.
func BenchmarkCommit(b *testing.B) {
	c := benchCluster()
	r := coordinator.NewRuntime(coordinator.Options{New: func(int32, *coordinator.Share) coordinator.Machine { return New(benchOptions(c)) }, Now: time.Now, MaxBatch: 1 << 20})
	defer r.Close()
	r.Lead(0, 1, &benchLog{})
	for r.Stats().Loads.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	const clients = 100
	var done sync.WaitGroup
	left := make(chan struct{}, b.N)
	for range b.N {
		left <- struct{}{}
	}
	close(left)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range clients {
		done.Go(func() {
			q := &wire.OffsetCommitRequest{GroupID: fmt.Sprint("g", i), GenerationIDOrMemberEpoch: -1, RetentionTimeMs: -1, Topics: []wire.OffsetCommitRequestTopic{{Name: "t", Partitions: []wire.OffsetCommitRequestPartition{{PartitionIndex: int32(i)}}}}}
			answered := make(chan any, 1)
			answer := func(a any, _ error) { answered <- a }
			for range left {
				q.Topics[0].Partitions[0].CommittedOffset++
				if err := r.Submit(0, Request{Body: q, Version: 9}, answer); err != nil {
					b.Error(err)
					return
				}
				if a := (<-answered).(*wire.OffsetCommitResponse); a.Topics[0].Partitions[0].ErrorCode != 0 {
					b.Error(show(a))
				}
			}
		})
	}
	done.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
}

// run is Handle and Apply, without a log.
func run(b *testing.B, m *Machine, now time.Time, in any) coordinator.Effects {
	e := m.Handle(now, 1, in)
	for _, x := range e.Batches {
		for _, r := range x.Records {
			if err := m.Apply(coordinator.Origin{}, r.Key, r.Value); err != nil {
				b.Fatal(err)
			}
		}
	}
	return e
}

// What the machine alone takes for a commit.
func BenchmarkCommitAlone(b *testing.B) {
	m, now := New(benchOptions(benchCluster())), time.Now()
	m.Loaded(now)
	q := Request{Body: commitOf("g", 1, ""), Version: 9}
	b.ReportAllocs()
	for b.Loop() {
		run(b, m, now, q)
	}
}

func BenchmarkFetchAlone(b *testing.B) {
	m, now := New(benchOptions(benchCluster())), time.Now()
	m.Loaded(now)
	run(b, m, now, Request{Body: commitOf("g", 10, ""), Version: 9})
	q := wire.NewOffsetFetchRequest()
	q.Groups = []wire.OffsetFetchRequestGroup{{GroupID: "g", MemberEpoch: -1, Topics: []wire.OffsetFetchRequestTopics{{Name: "t", PartitionIndexes: []int32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}}}}}
	b.ReportAllocs()
	for b.Loop() {
		run(b, m, now, Request{Body: q, Version: 9})
	}
}

// consumers is a machine with a group of many, that is stable.
func consumers(b *testing.B, members, partitions int) (*Machine, time.Time) {
	c := newCluster()
	for n := 0; n < partitions; n += 100 {
		c.grow(fmt.Sprint("topic-", n/100), 100)
	}
	m, now := New(benchOptions(c)), time.Now()
	m.Loaded(now)
	owned := make([][]wire.ConsumerGroupHeartbeatRequestTopicPartitions, members)
	for range 4 {
		for i := range members {
			now = now.Add(time.Millisecond)
			q := beatOf("g", fmt.Sprint("m", i), joinEpoch)
			q.SubscribedTopicNames = make([]string, 0, 10)
			for n := 0; n < partitions; n += 100 {
				q.SubscribedTopicNames = append(q.SubscribedTopicNames, fmt.Sprint("topic-", n/100))
			}
			if g := m.groups["g"]; g != nil && g.consumer.members[q.MemberID] != nil {
				q = beatOf("g", q.MemberID, g.consumer.members[q.MemberID].epoch)
				q.TopicPartitions = owned[i]
			}
			r := run(b, m, now, Request{Body: q, Version: 1}).Replies[0].Answer.(*wire.ConsumerGroupHeartbeatResponse)
			if r.ErrorCode != 0 {
				b.Fatal(show(r))
			}
			if r.Assignment != nil {
				owned[i] = []wire.ConsumerGroupHeartbeatRequestTopicPartitions{}
				for _, t := range r.Assignment.TopicPartitions {
					owned[i] = append(owned[i], wire.ConsumerGroupHeartbeatRequestTopicPartitions(t))
				}
			}
		}
	}
	if s := m.groups["g"].listed(); s.GroupState != "Stable" {
		b.Fatal(show(s))
	}
	return m, now
}

// A heartbeat that changes nothing costs the same however large the group is.
func BenchmarkHeartbeat(b *testing.B) {
	for _, members := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(members), func(b *testing.B) {
			m, now := consumers(b, members, 1000)
			q := Request{Body: beatOf("g", "m0", m.groups["g"].consumer.members["m0"].epoch), Version: 1}
			b.ReportAllocs()
			for b.Loop() {
				if e := run(b, m, now, q); len(e.Batches) > 0 {
					b.Fatal("it writes")
				}
			}
		})
	}
}

// A hundred members join over a thousand partitions, one after the other, until
// all have what they should.
func BenchmarkJoin(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		consumers(b, 100, 1000)
	}
}

// The same with the classic protocol: a hundred members join and sync.
func BenchmarkClassicJoin(b *testing.B) {
	c := benchCluster()
	b.ReportAllocs()
	for b.Loop() {
		m, now := New(benchOptions(c)), time.Now()
		m.Loaded(now)
		joined := map[string]*wire.JoinGroupResponse{}
		var ids []string
		for range 100 {
			a := run(b, m, now, Request{Body: classicJoin("g", "", "range"), Version: 9}).Replies[0].Answer.(*wire.JoinGroupResponse)
			ids = append(ids, a.MemberID)
			run(b, m, now, Request{Body: classicJoin("g", a.MemberID, "range"), Version: 9})
		}
		for len(joined) < len(ids) {
			now = now.Add(time.Second)
			e := run(b, m, now, nil)
			for _, r := range e.Replies {
				a := r.Answer.(*wire.JoinGroupResponse)
				joined[a.MemberID] = a
			}
		}
		for _, id := range ids {
			sync := &wire.SyncGroupRequest{GroupID: "g", GenerationID: 1, MemberID: id}
			if joined[id].Leader == id {
				for _, other := range ids {
					sync.Assignments = append(sync.Assignments, wire.SyncGroupRequestAssignment{MemberID: other, Assignment: make([]byte, 100)})
				}
			}
			run(b, m, now, Request{Body: sync, Version: 3})
		}
		if s := m.groups["g"].listed(); s.GroupState != "Stable" {
			b.Fatal(show(s))
		}
	}
}

// What ten thousand idle groups take: below 100 MB. Each has ten offsets; those
// with members have one.
func BenchmarkMemory(b *testing.B) {
	const groups = 10_000
	f := func(name string, make func(m *Machine, now time.Time, id string)) {
		b.Run(name, func(b *testing.B) {
			var took uint64
			for b.Loop() {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				m, now := New(benchOptions(benchCluster())), time.Now()
				m.Loaded(now)
				for i := range groups {
					id := fmt.Sprint("group-", i)
					make(m, now, id)
					q := commitOf(id, 10, "")
					if g := m.groups[id]; g != nil && g.consumer != nil {
						q.MemberID, q.GenerationIDOrMemberEpoch = "m", g.consumer.epoch
					} else if g != nil && g.classic != nil {
						q.MemberID, q.GenerationIDOrMemberEpoch = g.classic.ids()[0], g.classic.generation
					}
					a := run(b, m, now, Request{Body: q, Version: 9}).Replies[0].Answer.(*wire.OffsetCommitResponse)
					if a.Topics[0].Partitions[0].ErrorCode != 0 {
						b.Fatal(show(a))
					}
				}
				runtime.GC()
				runtime.ReadMemStats(&after)
				took = after.HeapAlloc - before.HeapAlloc
				runtime.KeepAlive(m)
			}
			b.ReportMetric(float64(took)/(1<<20), "MB")
		})
	}
	f("simple", func(*Machine, time.Time, string) {})
	f("classic", func(m *Machine, now time.Time, id string) {
		a := run(b, m, now, Request{Body: classicJoin(id, "", "range"), Version: 9}).Replies[0].Answer.(*wire.JoinGroupResponse)
		run(b, m, now, Request{Body: classicJoin(id, a.MemberID, "range"), Version: 9})
		for m.groups[id].classic.generation == 0 {
			now = now.Add(time.Second)
			run(b, m, now, nil)
		}
		run(b, m, now, Request{Body: &wire.SyncGroupRequest{GroupID: id, GenerationID: 1, MemberID: a.MemberID, Assignments: []wire.SyncGroupRequestAssignment{{MemberID: a.MemberID, Assignment: bytes.Repeat([]byte{1}, 50)}}}, Version: 3})
	})
	f("consumer", func(m *Machine, now time.Time, id string) {
		q := beatOf(id, "m", joinEpoch)
		q.SubscribedTopicNames = slices.Clone([]string{"t"})
		run(b, m, now, Request{Body: q, Version: 1, ClientID: "a-client", ClientHost: "/127.0.0.1"})
	})
}
