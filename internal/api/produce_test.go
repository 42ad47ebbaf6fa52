package api

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// Answers to produce requests are used again: parked, committed, timed out and
// cancelled ones follow each other on one connection and tell of their own
// batches only. Run it with -race.
func TestProduceAnswersAreReused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "durability=fsync")
		n.topic("t", 4)
		c := n.dial()
		next := int64(0)
		for round := range 30 {
			inFlight := 1 + round%5
			for i := range inFlight {
				q := produce("t", 0, -1, batch(t, record.BuilderOptions{}, fmt.Sprint(round, i)))
				if i%2 == 1 { // Some answers are larger, and one of their partitions does not exist.
					q.TopicData[0].PartitionData = append(q.TopicData[0].PartitionData, wire.ProduceRequestPartitionProduceData{
						Index: 9, Records: batch(t, record.BuilderOptions{}, "lost"),
					})
				}
				c.write(q, 9)
			}
			synctest.Wait() // All are appended, none is committed.
			want := wire.None
			if round%3 == 2 {
				want = wire.RequestTimedOut
			} else {
				go n.sync(model.Partition{Topic: "t", Index: 0})
			}
			for i := range inFlight {
				p := decode[*wire.ProduceResponse](t, c.frame(), 9).Responses[0].PartitionResponses
				if wire.ErrorCode(p[0].ErrorCode) != want || p[0].BaseOffset != next || p[0].Index != 0 {
					t.Fatalf("round %d, answer %d: %+v, want offset %d and %v", round, i, p[0], next, want)
				}
				if wanted := 1 + i%2; len(p) != wanted || wanted == 2 && p[1].ErrorCode != int16(wire.UnknownTopicOrPartition) {
					t.Fatalf("round %d, answer %d: %+v", round, i, p)
				}
				next++
			}
			n.sync(model.Partition{Topic: "t", Index: 0})
		}
	})
}

// A connection that ends leaves nothing behind in the partitions it waits at.
func TestProduceIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "durability=fsync")
		n.topic("t", 1)
		for range 20 {
			c := n.dial()
			for range 5 {
				c.write(produce("t", 0, -1, batch(t, record.BuilderOptions{}, "v")), 9)
			}
			q := fetch("t", 0)
			q.MaxWaitMs, q.MinBytes = 60_000, 1<<20
			c.write(q, 12)
			synctest.Wait()
			c.conn.Close()
			synctest.Wait()
			n.sync(model.Partition{Topic: "t", Index: 0}) // Wakes nobody.
		}
		c := n.dial()
		if p := ask[*wire.FetchResponse](c, fetch("t", 0), 12).Responses[0].Partitions[0]; p.HighWatermark != 100 {
			t.Errorf("high watermark %d, want 100", p.HighWatermark)
		}
	})
}

// acks=0: no answer, and a closed connection where something is wrong.
func TestProduceWithoutAcks(t *testing.T) {
	n := newNode(t, "durability=os")
	n.topic("t", 1)
	c := n.dial()
	c.write(produce("t", 0, 0, batch(t, record.BuilderOptions{}, "v")), 9)
	if r := ask[*wire.FetchResponse](c, fetch("t", 0), 12); r.Responses[0].Partitions[0].HighWatermark != 1 {
		t.Errorf("%+v", r.Responses)
	}
	c.write(produce("nothing", 0, 0, batch(t, record.BuilderOptions{}, "v")), 9)
	if f := c.frame(); f != nil {
		t.Errorf("answered with %x", f)
	}
}

// A fetch that waits is answered when enough came, and at its end with what
// there is. A partition that does not exist ends no wait for others.
func TestFetchWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "durability=os")
		n.topic("t", 2)
		reader, writer := n.dial(), n.dial()
		f := func(what string, q *wire.FetchRequest, put int, after time.Duration, records bool) {
			t.Helper()
			q.MaxWaitMs = 1000
			began := time.Now()
			reader.write(q, 12)
			for range put {
				time.Sleep(100 * time.Millisecond)
				ask[*wire.ProduceResponse](writer, produce("t", 0, -1, batch(t, record.BuilderOptions{}, "v")), 9)
			}
			r := decode[*wire.FetchResponse](t, reader.frame(), 12)
			if took := time.Since(began); took != after {
				t.Errorf("%s: answered after %v, want %v", what, took, after)
			}
			if got := len(r.Responses[0].Partitions[0].Records) > 0; got != records {
				t.Errorf("%s: records: %v", what, got)
			}
		}
		f("nothing comes", fetch("t", 0, 1), 0, time.Second, false)
		f("nothing comes, and one is missing", fetch("t", 0, 7), 0, time.Second, false)
		f("only what is missing", fetch("t", 7), 0, 0, false)
		f("one record", fetch("t", 0, 1), 1, 100*time.Millisecond, true)
		more := fetch("t", 0)
		more.MinBytes, more.Topics[0].Partitions[0].FetchOffset = 200, 1 // A batch takes about 70.
		f("several records", more, 3, 300*time.Millisecond, true)
	})
}
