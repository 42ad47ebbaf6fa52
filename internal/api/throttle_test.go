package api

import (
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/quota"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// limit sets a quota of the client id that test clients have.
func (n *node) limit(kind quota.Kind, v float64) {
	n.t.Helper()
	n.change(func(*metadata.Image) ([]metadata.Record, error) {
		return []metadata.Record{{Message: metadata.QuotaRecord(quota.Entity{Client: quota.Named("test")}, kind.Key(), &v)}}, nil
	})
}

// frameBytes is what a request counts.
func frameBytes(t *testing.T, q wire.Request, version int16) float64 {
	t.Helper()
	b, err := wire.AppendRequest(nil, wire.RequestHeader{Version: version, CorrelationID: 1, ClientID: new("test")}, q)
	if err != nil {
		t.Fatal(err)
	}
	return float64(len(b) - wire.FrameSizeBytes)
}

// elapsed runs f and returns how long it took.
func elapsed(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

// A producer above its quota is answered at once and told how long to wait; its
// next request is served when the time is over. Others do not notice.
func TestProduceQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "durability=os")
		n.topic("t", 1)
		q := produce("t", 0, -1, batch(t, record.BuilderOptions{}, "v"))
		size := frameBytes(t, q, 9)
		n.limit(quota.Produce, size/10) // Over ten seconds, one request.
		c := n.dial()
		f := func(wait time.Duration) {
			t.Helper()
			r := ask[*wire.ProduceResponse](c, q, 9)
			if got := time.Duration(r.ThrottleTimeMs) * time.Millisecond; got != wait || r.Responses[0].PartitionResponses[0].ErrorCode != 0 {
				t.Errorf("throttled %v, want %v: %+v", got, wait, r)
			}
		}
		took := elapsed(func() { f(0); f(10 * time.Second) })
		if took != 0 {
			t.Errorf("the answers came after %v", took)
		}
		if took := elapsed(func() { f(20 * time.Second) }); took != 10*time.Second {
			t.Errorf("muted for %v", took)
		}
		other := n.dial()
		other.id = "other"
		if r := ask[*wire.ProduceResponse](other, q, 9); r.ThrottleTimeMs != 0 {
			t.Errorf("another client waits %d ms", r.ThrottleTimeMs)
		}
		if x := n.api.Throttled()[quota.Produce]; x.Answers != 2 || x.Wait != 30*time.Second || x.Clients != 1 {
			t.Errorf("%+v", x)
		}
	})
}

// Who asks for no answer is muted all the same.
func TestProduceQuotaWithoutAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "durability=os")
		n.topic("t", 1)
		q := produce("t", 0, 0, batch(t, record.BuilderOptions{}, "v"))
		n.limit(quota.Produce, frameBytes(t, q, 9)/10)
		c := n.dial()
		c.write(q, 9)
		c.write(q, 9)
		took := elapsed(func() { ask[*wire.ApiVersionsResponse](c, wire.NewApiVersionsRequest(), 0) })
		if took != 10*time.Second {
			t.Errorf("muted for %v", took)
		}
	})
}

// A fetch that would be above the quota gets nothing, now; after its time it
// gets all.
func TestFetchQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "durability=os")
		n.topic("t", 1)
		c := n.dial()
		ask[*wire.ProduceResponse](c, produce("t", 0, -1, batch(t, record.BuilderOptions{}, string(make([]byte, 1000)))), 9)
		const size = 1000
		n.limit(quota.Fetch, 2.5*size/10)
		q := fetch("t", 0)
		q.SessionEpoch = finalEpoch
		f := func(records, throttled bool) {
			t.Helper()
			r := ask[*wire.FetchResponse](c, q, 12)
			if (r.ThrottleTimeMs > 0) != throttled || (len(r.Responses) > 0) != records || r.ErrorCode != 0 {
				t.Errorf("throttled %d ms, %d topics, %d", r.ThrottleTimeMs, len(r.Responses), r.ErrorCode)
			}
		}
		took := elapsed(func() { f(true, false); f(true, false); f(false, true) })
		if took != 0 {
			t.Errorf("the answers came after %v", took)
		}
		took = elapsed(func() { f(false, true) }) // The samples are still there.
		if took < time.Second || took > 10*time.Second {
			t.Errorf("muted for %v", took)
		}
		time.Sleep(12 * time.Second)
		f(true, false)
		if x := n.api.Throttled()[quota.Fetch]; x.Answers != 2 {
			t.Errorf("%+v", x)
		}
	})
}

// A session does not begin with an answer of nothing; one that has begun goes
// on, and what was not given is given later.
func TestFetchQuotaInSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "durability=os")
		n.topic("t", 2)
		c := n.dial()
		for i := range int32(2) {
			ask[*wire.ProduceResponse](c, produce("t", i, -1, batch(t, record.BuilderOptions{}, string(make([]byte, 1000)))), 9)
		}
		n.limit(quota.Fetch, 120)
		q := fetch("t", 0)
		q.SessionEpoch = initialEpoch
		full := ask[*wire.FetchResponse](c, q, 12)
		if full.SessionID == 0 || full.ThrottleTimeMs != 0 {
			t.Fatalf("%+v", full)
		}
		more := fetch("t", 1)
		more.SessionID, more.SessionEpoch = full.SessionID, 1
		r := ask[*wire.FetchResponse](c, more, 12)
		if r.SessionID != full.SessionID || r.ThrottleTimeMs == 0 || len(r.Responses) != 0 {
			t.Errorf("%+v", r)
		}
		time.Sleep(30 * time.Second)
		more.SessionEpoch = 2
		r = ask[*wire.FetchResponse](c, more, 12)
		if r.ThrottleTimeMs != 0 || len(r.Responses) != 1 || r.ErrorCode != 0 {
			t.Errorf("the session lost its way: %+v", r)
		}
		r = ask[*wire.FetchResponse](c, q, 12)
		if r.SessionID != 0 || r.ThrottleTimeMs == 0 || n.api.FetchSessions() != 1 {
			t.Errorf("session %d began with nothing, of %d", r.SessionID, n.api.FetchSessions())
		}
	})
}

// No fetch is given more than the quota lets pass at once: more would never
// pass.
func TestFetchQuotaBoundsAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "durability=os")
		n.topic("t", 1)
		c := n.dial()
		for range 20 {
			ask[*wire.ProduceResponse](c, produce("t", 0, -1, batch(t, record.BuilderOptions{}, string(make([]byte, 1000)))), 9)
		}
		n.limit(quota.Fetch, 500)
		q := fetch("t", 0)
		q.MinBytes = 10_000
		r := ask[*wire.FetchResponse](c, q, 11)
		if r.ThrottleTimeMs != 0 || len(r.Responses) == 0 {
			t.Fatalf("%+v", r)
		}
		if got := len(r.Responses[0].Partitions[0].Records); got == 0 || got > 5000 {
			t.Errorf("%d bytes at 500 a second over ten seconds", got)
		}
	})
}

// Time that the node spends for a client counts, of any request; the wait is
// one second at most.
func TestRequestQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "durability=os")
		n.topic("t", 1)
		n.limit(quota.Request, 1) // Percent: a tenth of a second in ten.
		c := n.dial()
		q := produce("t", 0, -1, batch(t, record.BuilderOptions{}, "v"))
		f := func(slow, want time.Duration) {
			t.Helper()
			n.slow.Store(int64(slow))
			r := ask[*wire.ProduceResponse](c, q, 9)
			if got := time.Duration(r.ThrottleTimeMs) * time.Millisecond; got != want {
				t.Errorf("%v of work: throttled %v, want %v", slow, got, want)
			}
		}
		f(90*time.Millisecond, 0)
		f(20*time.Millisecond, 980*time.Millisecond)
		if took := elapsed(func() { f(0, time.Second) }); took != 980*time.Millisecond {
			t.Errorf("muted for %v", took)
		}
		time.Sleep(time.Minute)
		f(200*time.Millisecond, time.Second)
		r := ask[*wire.MetadataResponse](c, wire.NewMetadataRequest(), 9)
		if r.ThrottleTimeMs == 0 {
			t.Error("other requests do not wait")
		}
	})
}

// Waiting is not working: neither for a sync, nor for more records, nor for the
// metadata log.
func TestRequestQuotaForgivesWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "durability=fsync")
		n.topic("t", 1)
		n.limit(quota.Request, 0.1)
		c := n.dial()
		q := fetch("t", 0)
		q.MaxWaitMs = 5000
		r := ask[*wire.FetchResponse](c, q, 11)
		if r.ThrottleTimeMs != 0 {
			t.Errorf("a fetch that waited is throttled %d ms", r.ThrottleTimeMs)
		}
		c.write(produce("t", 0, -1, batch(t, record.BuilderOptions{}, "v")), 9)
		time.Sleep(3 * time.Second)
		n.sync(model.Partition{Topic: "t", Index: 0})
		if r := decode[*wire.ProduceResponse](t, c.frame(), 9); r.ThrottleTimeMs != 0 {
			t.Errorf("a produce that waited is throttled %d ms", r.ThrottleTimeMs)
		}
		n.slowLog.Store(int64(3 * time.Second))
		if r := ask[*wire.CreateTopicsResponse](c, createTopics(1, "new"), 5); r.ThrottleTimeMs != 0 {
			t.Errorf("a change that waited is throttled %d ms", r.ThrottleTimeMs)
		}
	})
}

// slowCoordinator is the only shard of a coordinator, and takes its time.
type slowCoordinator struct {
	answer any
	takes  time.Duration
}

func (s *slowCoordinator) Shards() []int32 { return []int32{0} }

func (s *slowCoordinator) Submit(_ int32, _ any, done coordinator.Done) error {
	time.AfterFunc(s.takes, func() { done(s.answer, nil) })
	return nil
}

// Nor is waiting for a coordinator: a member of a group waits for the others. A
// client that leaves meanwhile does not stay among those that wait.
func TestRequestQuotaForgivesCoordinators(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.topic("__consumer_offsets", 1)
		n.limit(quota.Request, 0.1)
		n.api.opts.Groups = &slowCoordinator{wire.NewHeartbeatResponse(), 3 * time.Second}
		c := n.dial()
		q := wire.NewHeartbeatRequest()
		q.GroupID = "g"
		if r := ask[*wire.HeartbeatResponse](c, q, 4); r.ErrorCode != 0 || r.ThrottleTimeMs != 0 {
			t.Errorf("%+v", r)
		}
		of := func() (found APIStats) {
			n.api.Stats().APIs(func(k wire.Key, s *APIStats) {
				if k == wire.HeartbeatKey {
					found = *s
				}
			})
			return found
		}
		if s := of(); s.Waited.Sum != 3*time.Second || s.Worked.Sum != 0 {
			t.Errorf("waited %v, worked %v", s.Waited.Sum, s.Worked.Sum)
		}
		c.write(q, 4)
		synctest.Wait()
		if s := of(); s.Parked != 1 {
			t.Errorf("%d wait", s.Parked)
		}
		c.conn.Close()
		synctest.Wait()
		if s := of(); s.Parked != 0 {
			t.Errorf("the connection is gone and %d wait", s.Parked)
		}
		time.Sleep(5 * time.Second)
	})
}

// Nor is the wait of a transaction's first batch for the transaction's
// coordinator, though the request is not parked meanwhile.
func TestRequestQuotaForgivesVerification(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "durability=os")
		n.topic("__transaction_state", 1)
		n.topic("t", 1)
		n.limit(quota.Request, 0.1)
		added := wire.NewAddPartitionsToTxnResponse()
		wire.Extend(&wire.Extend(&wire.Extend(&added.ResultsByTransaction).TopicResults).ResultsByPartition).PartitionIndex = 0
		n.api.opts.Transactions = &slowCoordinator{added, 3 * time.Second}
		c := n.dial()
		q := produce("t", 0, -1, batch(t, record.BuilderOptions{Producer: &record.Producer{ID: 1}, Transactional: true}, "v"))
		q.TransactionalID = new("x")
		var r *wire.ProduceResponse
		if took := elapsed(func() { r = ask[*wire.ProduceResponse](c, q, 12) }); took != 3*time.Second {
			t.Errorf("verified in %v", took)
		}
		if r.ThrottleTimeMs != 0 || r.Responses[0].PartitionResponses[0].ErrorCode != 0 {
			t.Errorf("%+v", r)
		}
	})
}

func createTopics(partitions int32, names ...string) *wire.CreateTopicsRequest {
	q := wire.NewCreateTopicsRequest()
	q.TimeoutMs = 10_000
	for _, name := range names {
		x := wire.Extend(&q.Topics)
		x.Name, x.NumPartitions, x.ReplicationFactor = name, partitions, 1
	}
	return q
}

func deleteTopics(names ...string) *wire.DeleteTopicsRequest {
	q := wire.NewDeleteTopicsRequest()
	q.TopicNames, q.TimeoutMs = names, 10_000
	return q
}

// From some version on changes above the quota are refused, before they are
// done and made up for.
func TestMutationQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "durability=os")
		n.limit(quota.Mutation, 1) // A bucket of eleven.
		c := n.dial()
		create := func(version int16, partitions int32, name string, want wire.ErrorCode, wait time.Duration) {
			t.Helper()
			r := ask[*wire.CreateTopicsResponse](c, createTopics(partitions, name), version)
			if got := wire.ErrorCode(r.Topics[0].ErrorCode); got != want || time.Duration(r.ThrottleTimeMs)*time.Millisecond != wait {
				t.Errorf("%s: %v, throttled %d ms", name, got, r.ThrottleTimeMs)
			}
			if made := n.Image().Topic(name) != nil; made != (want == wire.None) {
				t.Errorf("%s: made is %v", name, made)
			}
		}
		create(6, 10, "ten", wire.None, 0)
		create(6, 5, "five", wire.None, 0) // Overdraws.
		create(6, 1, "one", wire.ThrottlingQuotaExceeded, 4*time.Second)
		took := elapsed(func() { create(5, 1, "old", wire.None, time.Second) })
		if took != 4*time.Second {
			t.Errorf("muted for %v", took)
		}
		time.Sleep(time.Minute)
		remove := func(name string, want wire.ErrorCode, wait time.Duration) {
			t.Helper()
			r := ask[*wire.DeleteTopicsResponse](c, deleteTopics(name), 5)
			if got := wire.ErrorCode(r.Responses[0].ErrorCode); got != want || time.Duration(r.ThrottleTimeMs)*time.Millisecond != wait {
				t.Errorf("%s: %v, throttled %d ms", name, got, r.ThrottleTimeMs)
			}
		}
		more := wire.NewCreatePartitionsRequest()
		more.TimeoutMs, more.Topics = 10_000, []wire.CreatePartitionsRequestCreatePartitionsTopic{{Name: "old", Count: 2}}
		if r := ask[*wire.CreatePartitionsResponse](c, more, 3); r.Results[0].ErrorCode != 0 || r.ThrottleTimeMs != 0 {
			t.Errorf("%+v", r)
		}
		more.Topics[0].Count = 20
		if r := ask[*wire.CreatePartitionsResponse](c, more, 3); r.Results[0].ErrorCode != 0 || r.ThrottleTimeMs != 0 {
			t.Errorf("%+v", r)
		}
		more.Topics[0].Count = 21
		r := ask[*wire.CreatePartitionsResponse](c, more, 3)
		if wire.ErrorCode(r.Results[0].ErrorCode) != wire.ThrottlingQuotaExceeded || r.ThrottleTimeMs != 8000 {
			t.Errorf("%+v", r)
		}
		time.Sleep(time.Minute)
		remove("ten", wire.None, 0)
		remove("five", wire.None, 0)
		remove("old", wire.ThrottlingQuotaExceeded, 4*time.Second)
		time.Sleep(4 * time.Second)
		remove("old", wire.None, 0)
		q := wire.NewMetadataRequest()
		q.Topics, q.AllowAutoTopicCreation = []wire.MetadataRequestTopic{{Name: new("auto")}}, true
		time.Sleep(time.Minute)
		create(6, 30, "thirty", wire.None, 0)
		if r := ask[*wire.MetadataResponse](c, q, 9); wire.ErrorCode(r.Topics[0].ErrorCode) != wire.UnknownTopicOrPartition {
			t.Errorf("created above the quota: %+v", r.Topics[0])
		}
	})
}

// Every answer that has a place for it can tell how long to wait, in every
// version.
func TestEveryAnswerTells(t *testing.T) {
	for _, op := range operations() {
		for v := op.min; v <= op.max; v++ {
			api, _ := wire.LookupAPI(op.key)
			r := api.NewRequest().NewResponse()
			r.Reset()
			c := call{wait: 1234 * time.Millisecond}
			c.tell(r)
			b, err := r.AppendTo(nil, v)
			if err != nil {
				t.Errorf("%s, version %d: %v", op.key, v, err)
				continue
			}
			again := api.NewRequest().NewResponse()
			again.Reset()
			if err := wire.ReadExactly(wire.NewReader(b), again, v); err != nil {
				t.Errorf("%s, version %d: %v", op.key, v, err)
			}
			if v == op.max && !told(again) {
				t.Errorf("%s does not tell", op.key)
			}
		}
	}
}

// told reports whether an answer has 1234 ms in it, or no place for them.
func told(r wire.Response) bool {
	f := reflect.ValueOf(r).Elem().FieldByName("ThrottleTimeMs")
	return !f.IsValid() || f.Int() == 1234
}

// Without quotas nothing is allocated, and next to nothing done.
func TestNoQuotaCostsNothing(t *testing.T) {
	n := newNode(t)
	s := &session{API: n.api}
	c := &call{client: "somebody", bytes: 100, began: time.Now()}
	now := c.began
	if a := testing.AllocsPerRun(100, func() { s.quotaChecks(c, now) }); a != 0 {
		t.Errorf("%v allocations", a)
	}
}

// quotaChecks are those that a Produce meets.
func (s *session) quotaChecks(c *call, now time.Time) {
	s.chargeProduce(c)
	s.named(c.client)
	s.chargeTime(c, now)
	c.tell(nil)
}

func BenchmarkNoQuota(b *testing.B) {
	n := newNode(b)
	s := &session{API: n.api}
	c := &call{client: "somebody", bytes: 100, began: time.Now()}
	now := c.began
	b.ReportAllocs()
	for b.Loop() {
		s.quotaChecks(c, now)
	}
}
