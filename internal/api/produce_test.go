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
			want, began := wire.None, time.Now()
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
			if took := time.Since(began); want != wire.None && took != leastProduceWait {
				t.Errorf("timed out after %v: the disk has %v, whatever the client says", took, leastProduceWait)
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

// Of a partition that a request names twice the last batch counts, under one
// answer; of a topic, all partitions come together.
func TestProduceMergesDuplicates(t *testing.T) {
	n := newNode(t, "durability=os")
	n.topic("t", 40)
	c := n.dial()
	q := produce("t", 0, -1, batch(t, record.BuilderOptions{}, "first"))
	for i := range int32(40) { // More than are searched one by one.
		q.TopicData = append(q.TopicData, produce("t", i, -1, batch(t, record.BuilderOptions{}, "second")).TopicData...)
	}
	r := ask[*wire.ProduceResponse](c, q, 9)
	if len(r.Responses) != 1 || len(r.Responses[0].PartitionResponses) != 40 {
		t.Fatalf("%+v", r.Responses)
	}
	for i, p := range r.Responses[0].PartitionResponses {
		if p.Index != int32(i) || p.ErrorCode != 0 || p.BaseOffset != 0 {
			t.Errorf("%d: %+v", i, p)
		}
	}
	records := record.Batch(ask[*wire.FetchResponse](c, fetch("t", 0), 12).Responses[0].Partitions[0].Records)
	for x, err := range records.Records(0) {
		if err != nil || string(x.Value) != "second" {
			t.Errorf("%q, %v", x.Value, err)
		}
	}
}
