package txn

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// run is Handle and Apply, without a log.
func run(b *testing.B, m *Machine, now time.Time, to coordinator.Token, in any) coordinator.Effects {
	e := m.Handle(now, to, in)
	for _, x := range e.Batches {
		for _, r := range x.Records {
			if err := m.Apply(coordinator.Origin{}, r.Key, r.Value); err != nil {
				b.Fatal(err)
			}
		}
	}
	return e
}

// A transaction over ten partitions: they are joined in one request, then EndTxn,
// then its markers.
func BenchmarkTransaction(b *testing.B) {
	m := New(Options{Settings: settings(), TransactionVersion: 2})
	now := time.UnixMilli(1_700_000_000_000)
	m.Loaded(now)
	run(b, m, now, 0, ProducerIDs{1, 1 << 40})
	id := "a-transactional-id"
	run(b, m, now, 1, Request{Body: &wire.InitProducerIDRequest{TransactionalID: &id, TransactionTimeoutMs: 1000, ProducerID: -1, ProducerEpoch: -1}, Version: 5})
	e := m.ids[id]
	topics := wanted([]topicArg{{"first", []int32{0, 1, 2, 3, 4}}, {"second", []int32{0, 1, 2, 3, 4}}})
	join := &wire.AddPartitionsToTxnRequest{Transactions: []wire.AddPartitionsToTxnRequestAddPartitionsToTxnTransaction{{TransactionalID: id, Topics: topics}}}
	end := &wire.EndTxnRequest{TransactionalID: id, Committed: true}
	b.ReportAllocs()
	for b.Loop() {
		join.Transactions[0].ProducerID, join.Transactions[0].ProducerEpoch = int64(e.producer), e.epoch
		run(b, m, now, 1, Request{Body: join, Version: 5})
		end.ProducerID, end.ProducerEpoch = int64(e.producer), e.epoch
		sent := run(b, m, now, 1, Request{Body: end, Version: 5}).Sends[0].(WriteMarkers)
		run(b, m, now, 0, MarkersWritten{sent.TransactionalID, sent.Attempt, sent.Partitions})
		if e.status != completeCommit {
			b.Fatal(e.status)
		}
	}
}

// EndTxn and the markers of one partition, which version 1 clients begin anew
// with each transaction.
func BenchmarkEndTxn(b *testing.B) {
	m := New(Options{Settings: settings(), TransactionVersion: 2})
	now := time.UnixMilli(1_700_000_000_000)
	m.Loaded(now)
	t := transaction{
		producer: 7, previous: 7, next: model.NoProducer, status: ongoing,
		topics: topics{{Topic: "first", PartitionIDs: []int32{0}}}, timeout: 1000,
	}
	set := func() {
		m.out, m.records, m.memory = coordinator.Effects{}, m.records[:0], m.memory[:0]
		m.write("a-transactional-id", &t)
		if err := m.Apply(coordinator.Origin{}, m.records[0].Key, m.records[0].Value); err != nil {
			b.Fatal(err)
		}
	}
	end := &wire.EndTxnRequest{TransactionalID: "a-transactional-id", ProducerID: 7, Committed: true}
	b.ReportAllocs()
	for b.Loop() {
		set()
		sent := run(b, m, now, 1, Request{Body: end, Version: 4}).Sends[0].(WriteMarkers)
		run(b, m, now, 0, MarkersWritten{sent.TransactionalID, sent.Attempt, sent.Partitions})
	}
}

// What a hundred thousand transactional ids take.
func BenchmarkMemory(b *testing.B) {
	const ids = 100_000
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		m := New(Options{Settings: settings(), TransactionVersion: 2})
		for i := range ids {
			m.memory, m.records, m.out = m.memory[:0], m.records[:0], coordinator.Effects{}
			id := fmt.Sprintf("transactional-id-%08d", i)
			m.write(id, &transaction{producer: 7, status: completeCommit, started: 1, updated: 2})
			if err := m.Apply(coordinator.Origin{}, m.records[0].Key, m.records[0].Value); err != nil {
				b.Fatal(err)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/ids, "B/id")
		b.ReportMetric(float64(m.bytes)/ids, "counted-B/id")
	}
}

// A shard of a million records is read again.
func BenchmarkLoad(b *testing.B) {
	m := New(Options{})
	var log []coordinator.Record
	for i := range 1000 {
		m.memory, m.records = nil, nil
		m.write(fmt.Sprintf("transactional-id-%08d", i), &transaction{
			producer: 7, status: ongoing, topics: topics{{Topic: "first", PartitionIDs: []int32{0, 1, 2}}, {Topic: "second", PartitionIDs: []int32{4}}},
		})
		log = append(log, m.records[0])
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, r := range log {
			if err := m.Apply(coordinator.Origin{}, r.Key, r.Value); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(log)), "ns/record")
}
