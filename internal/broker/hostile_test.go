package broker

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// write appends a transactional batch to partition 0 of a topic, for
// transactional id x.
func (w *world) write(topic string, p record.Producer, value string) int16 {
	w.t.Helper()
	id := "x"
	q := produceTo(topic, w.records(record.BuilderOptions{Producer: &p, Transactional: true}, value))
	q.TransactionalID = &id
	return askAt[*wire.ProduceResponse](w.main(), q, 9).Responses[0].PartitionResponses[0].ErrorCode
}

func (w *world) end(p record.Producer, commit bool) int16 {
	w.t.Helper()
	q := wire.NewEndTxnRequest()
	q.TransactionalID, q.ProducerID, q.ProducerEpoch, q.Committed = "x", int64(p.ID), p.Epoch, commit
	return askAt[*wire.EndTxnResponse](w.main(), q, 4).ErrorCode
}

func (w *world) remove(topic string) {
	w.t.Helper()
	q := wire.NewDeleteTopicsRequest()
	q.TimeoutMs = 30_000
	q.Topics = []wire.DeleteTopicsRequestDeleteTopicState{{Name: &topic}}
	if code := ask[*wire.DeleteTopicsResponse](w.main(), q).Responses[0].ErrorCode; code != 0 {
		w.t.Fatalf("delete %s: error %d", topic, code)
	}
}

// A topic that is deleted under a transaction takes nothing along: the
// transaction ends, what it wrote elsewhere is committed, and the next begins.
func TestTransactionOverDeletedTopic(t *testing.T) {
	f := func(end func(w *world, p record.Producer), want string, restart bool) {
		t.Helper()
		inWorld(t, nil, func(w *world) {
			w.create("t")
			p, _ := w.begin(10 * time.Second)
			if code := w.enlist(p); code != 0 {
				t.Fatalf("enlisted: error %d", code)
			}
			if code := w.write("t", p, "lost"); code != 0 {
				t.Fatalf("written: error %d", code)
			}
			w.remove("t")
			if restart {
				w.restart()
				time.Sleep(5 * time.Second)
			}
			if code := wire.ErrorCode(w.enlist(p)); code != wire.UnknownTopicOrPartition {
				t.Errorf("enlisted what is no more: %v", code)
			}
			end(w, p)
			time.Sleep(30 * time.Second)
			if got := w.transaction(); got.TransactionState != want || len(got.Topics) > 0 {
				t.Errorf("%+v, want %s", got, want)
			}
			w.create("t") // Another of its name, with which the transaction has nothing to do.
			if p, _ = w.begin(10 * time.Second); w.enlist(p) != 0 || w.write("t", p, "kept") != 0 || w.end(p, true) != 0 {
				t.Error("the next transaction cannot be")
			}
			time.Sleep(5 * time.Second)
			if got := w.transaction().TransactionState; got != "CompleteCommit" {
				t.Errorf("the next transaction is %s", got)
			}
		})
	}
	commits := func(w *world, p record.Producer) {
		w.t.Helper()
		if code := w.end(p, true); code != 0 {
			w.t.Errorf("committed: error %d", code)
		}
	}
	f(commits, "CompleteCommit", false)
	f(commits, "CompleteCommit", true)
	f(func(*world, record.Producer) {}, "CompleteAbort", false) // It times out.
}

// Ids as long as a string can be work as others do, also after a restart.
func TestLongIDs(t *testing.T) {
	id := strings.Repeat("x", 1<<15-1)
	inWorld(t, nil, func(w *world) {
		w.find(ofTransaction, id)
		w.find(ofGroup, id)
		w.create("t")
		init := wire.NewInitProducerIDRequest()
		init.TransactionalID, init.TransactionTimeoutMs = &id, 10_000
		first := askAt[*wire.InitProducerIDResponse](w.main(), init, 5)
		for range 10 {
			if first.ErrorCode != int16(wire.CoordinatorLoadInProgress) {
				break
			}
			time.Sleep(time.Second)
			first = askAt[*wire.InitProducerIDResponse](w.main(), init, 5)
		}
		commit := wire.NewOffsetCommitRequest()
		commit.GroupID = id
		commit.Topics = []wire.OffsetCommitRequestTopic{{Name: "t", Partitions: []wire.OffsetCommitRequestPartition{{CommittedOffset: 5}}}}
		if code := askAt[*wire.OffsetCommitResponse](w.main(), commit, 9).Topics[0].Partitions[0].ErrorCode; first.ErrorCode != 0 || code != 0 {
			t.Fatalf("errors %d and %d", first.ErrorCode, code)
		}
		w.restart()
		w.find(ofTransaction, id)
		w.find(ofGroup, id)
		again := askAt[*wire.InitProducerIDResponse](w.main(), init, 5)
		if again.ErrorCode != 0 || again.ProducerID != first.ProducerID || again.ProducerEpoch != first.ProducerEpoch+1 {
			t.Errorf("%+v after %+v", again, first)
		}
		fetch := wire.NewOffsetFetchRequest()
		fetch.Groups = []wire.OffsetFetchRequestGroup{{GroupID: id, MemberEpoch: -1}}
		if got := askAt[*wire.OffsetFetchResponse](w.main(), fetch, 9).Groups[0]; len(got.Topics) != 1 || got.Topics[0].Partitions[0].CommittedOffset != 5 {
			t.Errorf("%+v", got)
		}
	})
}

// One client that joins and joins, by itself and in ever other groups, is told
// so many ids as there is room for, and other groups notice nothing.
func TestThousandsOfJoins(t *testing.T) {
	inWorld(t, []string{"group.initial.rebalance.delay.ms=0"}, func(w *world) {
		good := w.join(10 * time.Second)
		if good.ErrorCode != 0 {
			t.Fatalf("joined: error %d", good.ErrorCode)
		}
		beats := func() int16 {
			q := wire.NewHeartbeatRequest()
			q.GroupID, q.GenerationID, q.MemberID = "g", good.GenerationID, good.MemberID
			return ask[*wire.HeartbeatResponse](w.main(), q).ErrorCode
		}
		codes := map[wire.ErrorCode]int{}
		bad := w.dial()
		for i := range 16_000 {
			q := wire.NewJoinGroupRequest()
			q.GroupID, q.ProtocolType, q.SessionTimeoutMs, q.RebalanceTimeoutMs = "flood", "consumer", 1_800_000, 60_000
			q.Protocols = []wire.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte("m")}}
			if i%4 == 0 {
				q.GroupID = fmt.Sprint("flood-", i)
			}
			codes[wire.ErrorCode(ask[*wire.JoinGroupResponse](bad, q).ErrorCode)]++
			if i%1000 == 0 {
				if code := beats(); code != 0 {
					t.Fatalf("heartbeat: error %d", code)
				}
				time.Sleep(time.Second)
			}
		}
		if codes[wire.MemberIDRequired] == 0 || codes[wire.GroupMaxSizeReached] == 0 || len(codes) > 2 {
			t.Errorf("%v", codes)
		}
	})
}

// Patterns that engines with backtracking never come to an end with are matched
// like others, or refused; bad ones are told as such.
func TestListTransactionsByPattern(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.begin(10 * time.Second)
		f := func(pattern string, code wire.ErrorCode, ids int) {
			t.Helper()
			q := wire.NewListTransactionsRequest()
			q.TransactionalIDPattern = &pattern
			r := ask[*wire.ListTransactionsResponse](w.main(), q)
			if wire.ErrorCode(r.ErrorCode) != code || len(r.TransactionStates) != ids {
				t.Errorf("%.40s: %+v", pattern, r)
			}
		}
		f("", wire.None, 1)
		f("x", wire.None, 1)
		f("x?x?x", wire.None, 1)
		f("y|z", wire.None, 0)
		f("(x*)*y", wire.None, 0)
		f("[", wire.InvalidRegularExpression, 0)
		f("(?:"+strings.Repeat("x?", 2000)+"){900}", wire.InvalidRegularExpression, 0)
		f(strings.Repeat("x", 1<<15-1), wire.InvalidRegularExpression, 0)
	})
}

// A request that waits for others holds no more than what it says: the rest of
// its frame, as fields that nobody knows, is let go.
func TestWaitingJoinsHoldNoFrames(t *testing.T) {
	const joins, junk = 20, 4 << 20
	inWorld(t, nil, func(w *world) {
		w.find(ofGroup, "g")
		heap := func() uint64 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		before := heap()
		for range joins {
			c, q := w.dial(), wire.NewJoinGroupRequest()
			q.GroupID, q.ProtocolType, q.SessionTimeoutMs, q.RebalanceTimeoutMs = "g", "consumer", 10_000, 60_000
			q.Protocols = []wire.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte("m")}}
			q.MemberID = ask[*wire.JoinGroupResponse](c, q).MemberID
			frame, err := wire.AppendRequest(nil, wire.RequestHeader{Version: 9, CorrelationID: 9}, q)
			if err != nil {
				t.Fatal(err)
			}
			frame = append(frame[:len(frame)-1], 1, 100) // One field, with tag 100.
			frame = append(binary.AppendUvarint(frame, junk), make([]byte, junk)...)
			binary.BigEndian.PutUint32(frame, uint32(len(frame)-wire.FrameSizeBytes))
			if _, err := c.conn.Write(frame); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if grown := int64(heap() - before); grown > joins*junk/4 {
			t.Errorf("%d joins that wait hold %d MiB", joins, grown>>20)
		}
		q := wire.NewDescribeGroupsRequest()
		q.Groups = []string{"g"}
		if g := ask[*wire.DescribeGroupsResponse](w.main(), q).Groups[0]; g.GroupState != "PreparingRebalance" || len(g.Members) != joins {
			t.Errorf("%s with %d members", g.GroupState, len(g.Members))
		}
	})
}

// Offsets that a transaction commits for a topic which is deleted before its end
// are gone with the topic; they are none of another topic of its name.
func TestPendingOffsetsOfDeletedTopic(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.create("t")
		w.find(ofGroup, "g")
		p, _ := w.begin(time.Minute)
		add := wire.NewAddOffsetsToTxnRequest()
		add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.GroupID = "x", int64(p.ID), p.Epoch, "g"
		if code := askAt[*wire.AddOffsetsToTxnResponse](w.main(), add, 3).ErrorCode; code != 0 {
			t.Fatalf("added: error %d", code)
		}
		q := wire.NewTxnOffsetCommitRequest()
		q.TransactionalID, q.GroupID, q.ProducerID, q.ProducerEpoch = "x", "g", int64(p.ID), p.Epoch
		q.Topics = []wire.TxnOffsetCommitRequestTopic{{Name: "t", Partitions: []wire.TxnOffsetCommitRequestPartition{{CommittedOffset: 7}}}}
		if code := askAt[*wire.TxnOffsetCommitResponse](w.main(), q, 3).Topics[0].Partitions[0].ErrorCode; code != 0 {
			t.Fatalf("committed: error %d", code)
		}
		w.remove("t")
		time.Sleep(time.Second)
		if code := w.end(p, true); code != 0 {
			t.Errorf("ended: error %d", code)
		}
		time.Sleep(10 * time.Second)
		if got := w.transaction().TransactionState; got != "CompleteCommit" {
			t.Errorf("the transaction is %s", got)
		}
		w.create("t")
		if got := w.committed(); got != -1 {
			t.Errorf("the new topic has offset %d", got)
		}
		w.restart()
		w.find(ofGroup, "g")
		if got := w.committed(); got != -1 {
			t.Errorf("after a restart the new topic has offset %d", got)
		}
	})
}

// Who names a thing a thousand times is told of it once: a small request must
// not have an answer of gigabytes.
func TestNamedAgainAndAgain(t *testing.T) {
	const times = 1000
	inWorld(t, nil, func(w *world) {
		if code := w.commit(strings.Repeat("m", 4096)); code != 0 {
			t.Fatalf("committed: error %d", code)
		}
		w.begin(time.Minute)
		f := func(version int16, q wire.Request) {
			t.Helper()
			c := w.dial()
			if !c.send(q, version) {
				t.Fatal("the connection is closed")
			}
			if b := c.frame(); len(b) < 20 || len(b) > 10_000 {
				t.Errorf("%s version %d is answered with %d bytes", q.Key(), version, len(b))
			}
		}
		again := func(s string) (list []string) {
			for range times {
				list = append(list, s)
			}
			return list
		}
		old := wire.NewOffsetFetchRequest()
		old.GroupID = "g"
		many := wire.NewOffsetFetchRequest()
		for range times {
			old.Topics = append(old.Topics, wire.OffsetFetchRequestTopic{Name: "t", PartitionIndexes: make([]int32, 10)})
			many.Groups = append(many.Groups, wire.OffsetFetchRequestGroup{
				GroupID: "g", MemberEpoch: -1, Topics: []wire.OffsetFetchRequestTopics{{Name: "t", PartitionIndexes: make([]int32, 100)}},
			})
		}
		old.Topics = old.Topics[:100]
		f(7, old)
		f(9, many)
		groups := wire.NewDescribeGroupsRequest()
		groups.Groups = again("g")
		f(5, groups)
		consumers := wire.NewConsumerGroupDescribeRequest()
		consumers.GroupIDs = again("g")
		f(1, consumers)
		ids := wire.NewDescribeTransactionsRequest()
		ids.TransactionalIDs = again("x")
		f(0, ids)
	})
}
