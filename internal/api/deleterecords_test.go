package api

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/barnabas-log/barnabas/internal/replicas"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// deleteRecords asks for the records of partition 0 of topics before an offset
// to be deleted.
func deleteRecords(offset int64, topics ...string) *wire.DeleteRecordsRequest {
	q := wire.NewDeleteRecordsRequest()
	for _, name := range topics {
		t := wire.Extend(&q.Topics)
		t.Name = name
		wire.Extend(&t.Partitions).Offset = offset
	}
	return q
}

// A fetch that waits at the end is not disturbed for long by a deletion; one
// below the new start is refused. The records of internal topics stay.
func TestDeleteRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t, "durability=os")
		n.topic("t", 1)
		n.topic("__consumer_offsets", 1)
		reader, admin := n.dial(), n.dial()
		for range 3 {
			ask[*wire.ProduceResponse](admin, produce("t", 0, -1, batch(t, record.BuilderOptions{}, "v")), 9)
		}
		q := fetch("t", 0)
		q.MaxWaitMs, q.Topics[0].Partitions[0].FetchOffset = 1000, 3
		began := time.Now()
		reader.write(q, 12)
		time.Sleep(100 * time.Millisecond)
		r := ask[*wire.DeleteRecordsResponse](admin, deleteRecords(-1, "t", "__consumer_offsets", "unknown"), 2)
		f := func(topic int, low int64, code wire.ErrorCode) {
			t.Helper()
			p := r.Topics[topic].Partitions[0]
			if p.LowWatermark != low || p.ErrorCode != int16(code) {
				t.Errorf("%s: %+v, want %d %v", r.Topics[topic].Name, p, low, code)
			}
		}
		f(0, 3, wire.None)
		f(1, invalidLowWatermark, wire.InvalidTopicException)
		f(2, invalidLowWatermark, wire.UnknownTopicOrPartition)
		got := decode[*wire.FetchResponse](t, reader.frame(), 12).Responses[0].Partitions[0]
		if took := time.Since(began); took != time.Second || got.ErrorCode != 0 || got.LogStartOffset != 3 {
			t.Errorf("after %v: %+v", took, got)
		}
		q.Topics[0].Partitions[0].FetchOffset = 2
		got = ask[*wire.FetchResponse](reader, q, 12).Responses[0].Partitions[0]
		if got.ErrorCode != int16(wire.OffsetOutOfRange) {
			t.Errorf("%+v", got)
		}
	})
}

// What cannot be made durable is not said to be deleted.
func TestDeletionNotDurable(t *testing.T) {
	n := newNode(t, "durability=os")
	n.topic("good", 1)
	n.topic("bad", 1)
	n.api.opts.Disks = badDisk{n}
	c := n.dial()
	r := ask[*wire.DeleteRecordsResponse](c, deleteRecords(0, "bad", "unknown", "good"), 2)
	for i, want := range []wire.ErrorCode{wire.KafkaStorageError, wire.UnknownTopicOrPartition, wire.None} {
		if got := r.Topics[i].Partitions[0]; got.ErrorCode != int16(want) || (got.LowWatermark == 0) != (want == wire.None) {
			t.Errorf("%s: %+v", r.Topics[i].Name, got)
		}
	}
}

// badDisk loses what it is told of the topic "bad".
type badDisk struct{ *node }

func (d badDisk) KeepStarts(ps []model.Partition) []error {
	errs := make([]error, len(ps))
	for i, p := range ps {
		if p.Topic == "bad" {
			errs[i] = replicas.ErrDirFailed
		}
	}
	return errs
}
