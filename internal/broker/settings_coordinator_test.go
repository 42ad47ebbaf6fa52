package broker

import (
	"strings"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// Kinds of coordinators.
const (
	ofGroup       = 0
	ofTransaction = 1
)

// find waits until there is a coordinator.
func (w *world) find(kind int8, key string) {
	w.t.Helper()
	for range 10 {
		q := wire.NewFindCoordinatorRequest()
		q.KeyType, q.CoordinatorKeys = kind, []string{key}
		if ask[*wire.FindCoordinatorResponse](w.main(), q).Coordinators[0].ErrorCode == 0 {
			time.Sleep(time.Second) // It loads.
			return
		}
		time.Sleep(time.Second)
	}
	w.t.Fatalf("no coordinator for %s", key)
}

// join asks to be a member of group g, in the protocol of KIP-848's
// predecessors, on a connection of its own.
func (w *world) join(session time.Duration) *wire.JoinGroupResponse {
	w.t.Helper()
	w.find(ofGroup, "g")
	c := w.dial()
	q := wire.NewJoinGroupRequest()
	q.GroupID, q.ProtocolType, q.SessionTimeoutMs, q.RebalanceTimeoutMs = "g", "consumer", int32(session.Milliseconds()), 60_000
	subscription := []byte{0, 0, 0, 0, 0, 1, 0, 1, 't', 255, 255, 255, 255} // Of a consumer to topic t.
	q.Protocols = []wire.JoinGroupRequestProtocol{{Name: "range", Metadata: subscription}}
	r := ask[*wire.JoinGroupResponse](c, q)
	if r.ErrorCode == int16(wire.MemberIDRequired) {
		q.MemberID = r.MemberID
		r = ask[*wire.JoinGroupResponse](c, q)
	}
	return r
}

// commit makes topic t and commits offset 5 of its partition 0 for group g.
func (w *world) commit(metadata string) int16 {
	w.t.Helper()
	w.create("t")
	w.find(ofGroup, "g")
	return w.commitAgain(metadata)
}

func (w *world) commitAgain(metadata string) int16 {
	w.t.Helper()
	q := wire.NewOffsetCommitRequest()
	q.GroupID = "g"
	q.Topics = []wire.OffsetCommitRequestTopic{{Name: "t", Partitions: []wire.OffsetCommitRequestPartition{{CommittedOffset: 5, CommittedMetadata: &metadata}}}}
	return askAt[*wire.OffsetCommitResponse](w.main(), q, 9).Topics[0].Partitions[0].ErrorCode
}

func (w *world) committed() int64 {
	w.t.Helper()
	q := wire.NewOffsetFetchRequest()
	q.Groups = []wire.OffsetFetchRequestGroup{{GroupID: "g", Topics: []wire.OffsetFetchRequestTopics{{Name: "t", PartitionIndexes: []int32{0}}}}}
	return askAt[*wire.OffsetFetchResponse](w.main(), q, 9).Groups[0].Topics[0].Partitions[0].CommittedOffset
}

func TestOffsetSettings(t *testing.T) {
	decidesBroker(t, "offset.metadata.max.bytes=5", 0, int16(wire.OffsetMetadataTooLarge), func(w *world) int16 { return w.commit("longer") })
	later := func(w *world) int64 {
		w.commit("")
		time.Sleep(25 * time.Minute)
		return w.committed()
	}
	decidesBroker(t, "offsets.retention.minutes=5", 5, -1, later)
	decidesBroker(t, "offsets.retention.check.interval.ms=3600000", -1, 5, later, "offsets.retention.minutes=5")
	decidesBroker(t, "offsets.topic.compression.codec=1", record.None, record.Gzip, func(w *world) (codec record.Codec) {
		w.commit("")
		for i := range w.b.quorum.Image().Topic("__consumer_offsets").Partitions {
			w.part("__consumer_offsets", int32(i)).Log().Scan(0, func(b record.Batch) error { codec = b.Codec(); return nil })
		}
		return codec
	})
}

// TestCommitTimeoutSettings: a commit waits for a disk that hangs, but not for
// ever.
func TestCommitTimeoutSettings(t *testing.T) {
	decidesBroker(t, "offsets.commit.timeout.ms=20000", 5*time.Second, 20*time.Second, func(w *world) time.Duration {
		w.commit("")
		hangs := make(chan struct{})
		defer close(hangs)
		w.mu.Lock()
		w.mu.hook = func(o vfs.Op) error {
			if o.Kind == vfs.OpSync && strings.HasPrefix(o.Path, "/a/__consumer_offsets-") {
				<-hangs
			}
			return nil
		}
		w.mu.Unlock()
		began := time.Now()
		if code := w.commitAgain(""); code != int16(wire.CoordinatorNotAvailable) {
			t.Errorf("error %d", code)
		}
		return time.Since(began)
	})
}

func TestClassicGroupSettings(t *testing.T) {
	decidesBroker(t, "group.initial.rebalance.delay.ms=20000", 3*time.Second, 20*time.Second, func(w *world) time.Duration {
		w.find(ofGroup, "g")
		began := time.Now().Add(time.Second)
		w.join(10 * time.Second)
		return time.Since(began)
	})
	joins := func(session time.Duration) func(w *world) int16 {
		return func(w *world) int16 { return w.join(session).ErrorCode }
	}
	decidesBroker(t, "group.min.session.timeout.ms=60000", 0, int16(wire.InvalidSessionTimeout), joins(30*time.Second))
	decidesBroker(t, "group.max.session.timeout.ms=20000", 0, int16(wire.InvalidSessionTimeout), joins(30*time.Second))
	decidesBroker(t, "group.max.size=1", 0, int16(wire.GroupMaxSizeReached), func(w *world) int16 {
		w.find(ofGroup, "g")
		go w.join(30 * time.Second)
		time.Sleep(2 * time.Second)
		return w.join(30 * time.Second).ErrorCode
	})
}

// heartbeat is that of a consumer who joins group g.
func heartbeat(member string) *wire.ConsumerGroupHeartbeatRequest {
	q := wire.NewConsumerGroupHeartbeatRequest()
	q.GroupID, q.MemberID, q.RebalanceTimeoutMs = "g", member, 60_000
	q.SubscribedTopicNames, q.TopicPartitions = []string{"t"}, []wire.ConsumerGroupHeartbeatRequestTopicPartitions{}
	return q
}

func (w *world) beat(q *wire.ConsumerGroupHeartbeatRequest) *wire.ConsumerGroupHeartbeatResponse {
	w.t.Helper()
	w.find(ofGroup, "g")
	return ask[*wire.ConsumerGroupHeartbeatResponse](w.main(), q)
}

// setGroup gives group g a config and returns the error.
func (w *world) setGroup(key, value string) int16 {
	w.t.Helper()
	q := wire.NewIncrementalAlterConfigsRequest()
	q.Resources = []wire.IncrementalAlterConfigsRequestAlterConfigsResource{{
		ResourceType: 32, ResourceName: "g", Configs: []wire.IncrementalAlterConfigsRequestAlterableConfig{{Name: key, Value: &value}},
	}}
	return ask[*wire.IncrementalAlterConfigsResponse](w.main(), q).Responses[0].ErrorCode
}

// Two members.
const one, two = "AAAAAAAAAAAAAAAAAAAAAQ", "AAAAAAAAAAAAAAAAAAAAAg"

func (w *world) describeGroup() wire.ConsumerGroupDescribeResponseDescribedGroup {
	w.t.Helper()
	q := wire.NewConsumerGroupDescribeRequest()
	q.GroupIDs = []string{"g"}
	return ask[*wire.ConsumerGroupDescribeResponse](w.main(), q).Groups[0]
}

// membersAfter is how many members a group has when its only one was silent
// for a while.
func membersAfter(d time.Duration) func(w *world) int {
	return func(w *world) int {
		w.beat(heartbeat(one))
		time.Sleep(d)
		return len(w.describeGroup().Members)
	}
}

// assignedSoon reports whether a second member gets its share a few seconds
// after the first one had all.
func assignedSoon(w *world) bool {
	w.create("t")
	w.beat(heartbeat(one))
	w.beat(heartbeat(two))
	time.Sleep(5 * time.Second)
	again := heartbeat(two)
	again.MemberEpoch = 2
	w.beat(again)
	g := w.describeGroup()
	return g.GroupEpoch == g.AssignmentEpoch
}

func TestConsumerGroupSettings(t *testing.T) {
	decidesBroker(t, "group.coordinator.rebalance.protocols=classic", 0, int16(wire.UnsupportedVersion), func(w *world) int16 {
		return w.beat(heartbeat(one)).ErrorCode
	})
	decidesBroker(t, "group.consumer.max.size=1", 0, int16(wire.GroupMaxSizeReached), func(w *world) int16 {
		w.beat(heartbeat(one))
		return w.beat(heartbeat(two)).ErrorCode
	})
	decidesBroker(t, "group.consumer.heartbeat.interval.ms=7000", 5000, 7000, func(w *world) int32 {
		return w.beat(heartbeat(one)).HeartbeatIntervalMs
	})
	decidesBroker(t, "group.consumer.session.timeout.ms=50000", 0, 1, membersAfter(47*time.Second))
	decidesBroker(t, "group.consumer.assignors=range", 0, int16(wire.UnsupportedAssignor), func(w *world) int16 {
		q := heartbeat(one)
		uniform := "uniform"
		q.ServerAssignor = &uniform
		return w.beat(q).ErrorCode
	})
	decidesBroker(t, "group.consumer.migration.policy=disabled", 0, int16(wire.GroupIDNotFound), func(w *world) int16 {
		w.create("t")
		w.join(30 * time.Second)
		return w.beat(heartbeat(one)).ErrorCode
	})
	decidesBroker(t, "group.consumer.assignment.interval.ms=15000", true, false, assignedSoon)
	decidesBroker(t, "group.consumer.regex.refresh.interval.ms=20000", false, true, func(w *world) bool {
		w.create("t")
		q := heartbeat(one)
		any := "t.*"
		q.SubscribedTopicNames, q.SubscribedTopicRegex = nil, &any
		written := func() (n int) {
			for i := range w.b.quorum.Image().Topic("__consumer_offsets").Partitions {
				n += int(w.part("__consumer_offsets", int32(i)).Log().End())
			}
			return n
		}
		var at int
		for i := range 60 {
			q.MemberEpoch = w.beat(q).MemberEpoch
			time.Sleep(4 * time.Second)
			if i == 5 {
				at = written() // Joined and assigned.
			}
		}
		return written() > at
	})
	bound := func(key, value string) func(w *world) int16 {
		return func(w *world) int16 { return w.setGroup(key, value) }
	}
	bad := int16(wire.InvalidConfig)
	decidesBroker(t, "group.consumer.min.session.timeout.ms=40000", bad, 0, bound("consumer.session.timeout.ms", "44000"))
	decidesBroker(t, "group.consumer.max.session.timeout.ms=90000", bad, 0, bound("consumer.session.timeout.ms", "80000"))
	decidesBroker(t, "group.consumer.min.heartbeat.interval.ms=3000", bad, 0, bound("consumer.heartbeat.interval.ms", "4000"))
	decidesBroker(t, "group.consumer.max.heartbeat.interval.ms=30000", bad, 0, bound("consumer.heartbeat.interval.ms", "20000"))
	decidesBroker(t, "group.consumer.min.assignment.interval.ms=500", 0, bad, bound("consumer.assignment.interval.ms", "400"))
	decidesBroker(t, "group.consumer.max.assignment.interval.ms=30000", bad, 0, bound("consumer.assignment.interval.ms", "20000"))
}

// TestGroupsOwnSettings: what is set for a group counts for it, and before what
// is set for brokers.
func TestGroupsOwnSettings(t *testing.T) {
	own := func(w *world, key, value string) {
		w.t.Helper()
		if code := w.setGroup(key, value); code != 0 {
			w.t.Fatalf("%s=%s: error %d", key, value, code)
		}
	}
	inWorld(t, []string{"group.consumer.heartbeat.interval.ms=6000"}, func(w *world) {
		own(w, "consumer.heartbeat.interval.ms", " 7000 ") // Stored as it came, as Kafka does.
		if got := w.beat(heartbeat(one)).HeartbeatIntervalMs; got != 7000 {
			t.Errorf("heartbeats each %d ms", got)
		}
	})
	inWorld(t, nil, func(w *world) {
		own(w, "consumer.session.timeout.ms", "50000")
		if n := membersAfter(47 * time.Second)(w); n != 1 {
			t.Errorf("%d members", n)
		}
	})
	inWorld(t, nil, func(w *world) {
		own(w, "consumer.assignment.interval.ms", "15000")
		if assignedSoon(w) {
			t.Error("assigned too soon")
		}
	})
}

// begin makes transactional id x a producer.
func (w *world) begin(timeout time.Duration) (record.Producer, int16) {
	w.t.Helper()
	w.find(ofTransaction, "x")
	q := wire.NewInitProducerIDRequest()
	id := "x"
	q.TransactionalID, q.TransactionTimeoutMs = &id, int32(timeout.Milliseconds())
	for range 10 {
		r := askAt[*wire.InitProducerIDResponse](w.main(), q, 5)
		if r.ErrorCode != int16(wire.ConcurrentTransactions) && r.ErrorCode != int16(wire.CoordinatorLoadInProgress) {
			return record.Producer{ID: model.ProducerID(r.ProducerID), Epoch: r.ProducerEpoch}, r.ErrorCode
		}
		time.Sleep(time.Second)
	}
	w.t.Fatal("no producer id")
	return record.Producer{}, 0
}

func (w *world) enlist(p record.Producer) int16 {
	w.t.Helper()
	q := wire.NewAddPartitionsToTxnRequest()
	q.V3AndBelowTransactionalID, q.V3AndBelowProducerID, q.V3AndBelowProducerEpoch = "x", int64(p.ID), p.Epoch
	q.V3AndBelowTopics = []wire.AddPartitionsToTxnRequestAddPartitionsToTxnTopic{{Name: "t", Partitions: []int32{0}}}
	return askAt[*wire.AddPartitionsToTxnResponse](w.main(), q, 3).ResultsByTopicV3AndBelow[0].ResultsByPartition[0].PartitionErrorCode
}

func (w *world) transaction() wire.DescribeTransactionsResponseTransactionState {
	w.t.Helper()
	q := wire.NewDescribeTransactionsRequest()
	q.TransactionalIDs = []string{"x"}
	return ask[*wire.DescribeTransactionsResponse](w.main(), q).TransactionStates[0]
}

func TestTransactionSettings(t *testing.T) {
	decidesBroker(t, "transaction.max.timeout.ms=5000", 0, int16(wire.InvalidTransactionTimeout), func(w *world) int16 {
		_, code := w.begin(10 * time.Second)
		return code
	})
	after := func(d time.Duration) func(w *world) int16 {
		return func(w *world) int16 {
			w.begin(10 * time.Second)
			time.Sleep(d)
			return w.transaction().ErrorCode
		}
	}
	gone := int16(wire.TransactionalIDNotFound)
	decidesBroker(t, "transactional.id.expiration.ms=60000", 0, gone, after(2*time.Hour+5*time.Minute))
	decidesBroker(t, "transaction.remove.expired.transaction.cleanup.interval.ms=36000000", gone, 0, after(2*time.Hour+5*time.Minute), "transactional.id.expiration.ms=60000")
	decidesBroker(t, "transaction.abort.timed.out.transaction.cleanup.interval.ms=600000", "CompleteAbort", "Ongoing", func(w *world) string {
		w.create("t")
		time.Sleep(time.Minute) // The first look.
		p, _ := w.begin(10 * time.Second)
		if code := w.enlist(p); code != 0 {
			t.Errorf("enlisted: error %d", code)
		}
		time.Sleep(time.Minute)
		return w.transaction().TransactionState
	})
	decidesBroker(t, "transaction.partition.verification.enable=false", int16(wire.InvalidTxnState), 0, func(w *world) int16 {
		w.create("t")
		p, _ := w.begin(10 * time.Second)
		b := w.records(record.BuilderOptions{Producer: &p, Transactional: true}, "x")
		q := produceTo("t", b)
		id := "x"
		q.TransactionalID = &id
		return askAt[*wire.ProduceResponse](w.main(), q, 9).Responses[0].PartitionResponses[0].ErrorCode
	})
}

// Without memory for more, groups that are not there yet are not made.
func TestCoordinatorMemory(t *testing.T) {
	decidesBroker(t, "coordinator.memory.max.bytes=1300", [2]int16{}, [2]int16{0, int16(wire.InvalidCommitOffsetSize)}, func(w *world) (codes [2]int16) {
		codes[0] = w.commit("")
		q := wire.NewOffsetCommitRequest()
		q.GroupID = "another"
		q.Topics = []wire.OffsetCommitRequestTopic{{Name: "t", Partitions: []wire.OffsetCommitRequestPartition{{CommittedOffset: 5}}}}
		codes[1] = askAt[*wire.OffsetCommitResponse](w.main(), q, 9).Topics[0].Partitions[0].ErrorCode
		return codes
	})
}
