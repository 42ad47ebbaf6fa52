package api

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// tally is what the counters say, in words.
func (n *node) tally() map[string]uint64 {
	out := map[string]uint64{}
	n.api.Stats().Errors(func(k wire.Key, e wire.ErrorCode, count uint64) {
		if count > 0 {
			out[fmt.Sprint(k, " ", e)] = count
		}
	})
	return out
}

// Every error that is answered is counted, by its API and code, whoever found
// it.
func TestErrorsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "durability=fsync")
		n.topic("t", 1)
		c := n.dial()
		ask[*wire.ProduceResponse](c, produce("missing", 0, -1, batch(t, record.BuilderOptions{}, "v")), 9)
		ask[*wire.ProduceResponse](c, produce("t", 0, -1, batch(t, record.BuilderOptions{}, "v")), 9) // Nobody syncs.
		ask[*wire.FetchResponse](c, fetch("missing", 0, 1), 11)
		q := fetch("t", 0)
		q.SessionID, q.SessionEpoch = 99, 5
		ask[*wire.FetchResponse](c, q, 11)
		m := wire.NewMetadataRequest()
		m.Topics = []wire.MetadataRequestTopic{{Name: new("missing")}, {Name: new("no good")}}
		m.AllowAutoTopicCreation = false
		ask[*wire.MetadataResponse](c, m, 9)
		want := map[string]uint64{
			"Produce UNKNOWN_TOPIC_OR_PARTITION":  1,
			"Produce REQUEST_TIMED_OUT":           1,
			"Fetch UNKNOWN_TOPIC_OR_PARTITION":    2,
			"Fetch FETCH_SESSION_ID_NOT_FOUND":    1,
			"Metadata UNKNOWN_TOPIC_OR_PARTITION": 1,
			"Metadata INVALID_TOPIC_EXCEPTION":    1,
		}
		if d := cmp.Diff(want, n.tally()); d != "" {
			t.Error(d)
		}
	})
}

// Times are told apart: the whole, the work, and the wait of those that waited;
// and what is not answered yet.
func TestTimesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "durability=fsync")
		n.topic("t", 1)
		c := n.dial()
		of := func(k wire.Key) (found APIStats) {
			n.api.Stats().APIs(func(x wire.Key, s *APIStats) {
				if x == k {
					found = *s
				}
			})
			return found
		}
		n.slow.Store(int64(2 * time.Second))
		c.write(produce("t", 0, -1, batch(t, record.BuilderOptions{}, "v")), 9)
		time.Sleep(5 * time.Second)
		if s := of(wire.ProduceKey); s.Received != 1 || s.Parked != 1 || s.Whole.Total() != 0 || s.AnswerBytes != 0 {
			t.Errorf("%+v", s)
		}
		n.slow.Store(0)
		n.sync(model.Partition{Topic: "t", Index: 0})
		answer := c.frame()
		s := of(wire.ProduceKey)
		if s.Parked != 0 || s.Whole.Total() != 1 || s.Whole.Sum != 5*time.Second || s.Worked.Sum != 2*time.Second || s.Waited.Sum != 3*time.Second {
			t.Errorf("whole %v, work %v, wait %v, %d parked", s.Whole.Sum, s.Worked.Sum, s.Waited.Sum, s.Parked)
		}
		if s.AnswerBytes != uint64(len(answer)+wire.FrameSizeBytes) || s.RequestBytes < 50 {
			t.Errorf("%d and %d bytes", s.RequestBytes, s.AnswerBytes)
		}
		ask[*wire.ApiVersionsResponse](c, wire.NewApiVersionsRequest(), 0)
		if s := of(wire.ApiVersionsKey); s.Whole.Total() != 1 || s.Worked.Total() != 1 || s.Waited.Total() != 0 {
			t.Errorf("%+v", s)
		}
		c.write(produce("t", 0, 0, batch(t, record.BuilderOptions{}, "v")), 9)
		q := fetch("t", 0)
		q.MaxWaitMs, q.Topics[0].Partitions[0].FetchOffset = 60_000, 1
		c.write(q, 11)
		synctest.Wait()
		if s := of(wire.ProduceKey); s.Received != 2 || s.Parked != 0 {
			t.Errorf("acks=0 waits: %+v", s)
		}
		if s := of(wire.FetchKey); s.Parked != 1 {
			t.Errorf("%+v", s)
		}
		c.conn.Close()
		synctest.Wait()
		if s := of(wire.FetchKey); s.Parked != 0 {
			t.Errorf("the connection is gone and its fetch waits: %+v", s)
		}
	})
}

// Requests of APIs that there are not are counted as no other's.
func TestStrangeKeysAreNobodys(t *testing.T) {
	var s Stats
	for _, k := range []wire.Key{-32768, -1, tallies, tallies + wire.MetadataKey, 32767} {
		s.received(k, 10)
		s.unanswered(k)
		s.failed(k, wire.UnknownServerError)
	}
	s.APIs(func(k wire.Key, a *APIStats) { t.Errorf("%v: %+v", k, a) })
	s.Errors(func(k wire.Key, e wire.ErrorCode, n uint64) {
		if n > 0 {
			t.Errorf("%v: %d %v", k, n, e)
		}
	})
}

// Errors of which one is worth an alert are shown before there is one: who looks
// at how they rise would miss the first.
func TestGraveErrorsBeginAtZero(t *testing.T) {
	var s Stats
	found := map[string]bool{}
	s.Errors(func(k wire.Key, e wire.ErrorCode, n uint64) {
		if n != 0 {
			t.Errorf("%v: %d %v", k, n, e)
		}
		found[fmt.Sprint(k, " ", e)] = true
	})
	for _, want := range []string{"Produce UNKNOWN_SERVER_ERROR", "Produce KAFKA_STORAGE_ERROR", "Fetch UNKNOWN_SERVER_ERROR", "PushTelemetry UNKNOWN_SERVER_ERROR"} {
		if !found[want] {
			t.Errorf("no %s", want)
		}
	}
	if len(found) != 2*len(operations()) {
		t.Errorf("%d", len(found))
	}
}
