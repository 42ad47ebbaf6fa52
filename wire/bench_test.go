package wire_test

import (
	"fmt"
	"testing"

	"github.com/barnabas-log/barnabas/wire"
)

func produceRequest(partitions int) *wire.ProduceRequest {
	m := wire.NewProduceRequest()
	m.Acks, m.TimeoutMs = -1, 30_000
	topic := wire.Extend(&m.TopicData)
	topic.Name = "a-topic-of-some-length"
	for i := range partitions {
		p := wire.Extend(&topic.PartitionData)
		p.Index, p.Records = int32(i), make([]byte, 100)
	}
	return m
}

func fetchRequest(partitions int) *wire.FetchRequest {
	m := wire.NewFetchRequest()
	m.MaxWaitMs, m.MinBytes = 500, 1
	topic := wire.Extend(&m.Topics)
	topic.TopicID = wire.UUID{1}
	for i := range partitions {
		p := wire.Extend(&topic.Partitions)
		p.Partition, p.FetchOffset, p.PartitionMaxBytes = int32(i), int64(i)*1000, 1<<20
	}
	return m
}

func fetchResponse(m *wire.FetchResponse, partitions int) {
	m.Reset()
	topic := wire.Extend(&m.Responses)
	topic.TopicID = wire.UUID{1}
	for i := range partitions {
		p := wire.Extend(&topic.Partitions)
		p.PartitionIndex, p.HighWatermark, p.LastStableOffset, p.LogStartOffset = int32(i), 1000, 1000, 0
		p.AbortedTransactions = nil
	}
}

func metadataResponse(m *wire.MetadataResponse, topics, partitions int) {
	m.Reset()
	for i := range 3 {
		b := wire.Extend(&m.Brokers)
		b.NodeID, b.Host, b.Port = int32(i), "broker.example.org", 9092
	}
	name := "a-topic-of-some-length"
	for range topics {
		topic := wire.Extend(&m.Topics)
		topic.Name, topic.TopicID = &name, wire.UUID{1}
		for i := range partitions {
			p := wire.Extend(&topic.Partitions)
			p.PartitionIndex, p.LeaderID = int32(i), 1
			p.ReplicaNodes = append(p.ReplicaNodes, 0, 1, 2)
			p.IsrNodes = append(p.IsrNodes, 0, 1, 2)
		}
	}
}

func encoded(tb testing.TB, m wire.Message, version int16) []byte {
	tb.Helper()
	b, err := m.AppendTo(nil, version)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func benchmarkRead(b *testing.B, m wire.Message, version int16) {
	frame := encoded(b, m, version)
	var r wire.Reader
	b.ReportAllocs()
	b.SetBytes(int64(len(frame)))
	for b.Loop() {
		r.Reset(frame)
		if err := wire.ReadExactly(&r, m, version); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkAppend(b *testing.B, m wire.Message, version int16, fill func()) {
	fill()
	frame := encoded(b, m, version)
	b.ReportAllocs()
	b.SetBytes(int64(len(frame)))
	for b.Loop() {
		fill()
		if _, err := m.AppendTo(frame[:0], version); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadProduceRequest(b *testing.B) {
	for _, n := range []int{1, 64} {
		for _, version := range []int16{3, 12} {
			b.Run(fmt.Sprintf("partitions=%d/v%d", n, version), func(b *testing.B) { benchmarkRead(b, produceRequest(n), version) })
		}
	}
}

func BenchmarkReadFetchRequest(b *testing.B) {
	b.Run("partitions=256/v17", func(b *testing.B) { benchmarkRead(b, fetchRequest(256), 17) })
}

func BenchmarkReadRequestHeader(b *testing.B) {
	id := "client"
	frame := wire.AppendRequestHeader(nil, wire.RequestHeader{Key: wire.ProduceKey, Version: 12, ClientID: &id})
	var r wire.Reader
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(frame)
		if _, err := wire.ReadRequestHeader(&r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendFetchResponse(b *testing.B) {
	for _, version := range []int16{11, 17} {
		b.Run(fmt.Sprintf("partitions=64/v%d", version), func(b *testing.B) {
			m := wire.NewFetchResponse()
			benchmarkAppend(b, m, version, func() { fetchResponse(m, 64) })
		})
	}
}

func BenchmarkAppendMetadataResponse(b *testing.B) {
	b.Run("topics=10/partitions=10/v12", func(b *testing.B) {
		m := wire.NewMetadataResponse()
		benchmarkAppend(b, m, 12, func() { metadataResponse(m, 10, 10) })
	})
}

// The hot messages allocate nothing once their memory is there.
func TestNoAllocations(t *testing.T) {
	f := func(what string, run func()) {
		t.Helper()
		if n := testing.AllocsPerRun(50, run); n != 0 {
			t.Errorf("%s: %v allocations", what, n)
		}
	}
	var r wire.Reader
	read := func(m wire.Message, version int16) func() {
		frame := encoded(t, m, version)
		return func() {
			r.Reset(frame)
			if err := wire.ReadExactly(&r, m, version); err != nil {
				t.Error(err)
			}
		}
	}
	f("read Produce", read(produceRequest(64), 12))
	f("read Produce, classic", read(produceRequest(64), 8))
	f("read Fetch", read(fetchRequest(256), 17))
	fetched := wire.NewFetchResponse()
	fetchResponse(fetched, 64)
	f("read Fetch answer", read(fetched, 17))
	buf := make([]byte, 0, 64<<10)
	appended := func(m wire.Message, version int16, fill func()) func() {
		return func() {
			fill()
			if _, err := m.AppendTo(buf, version); err != nil {
				t.Error(err)
			}
		}
	}
	f("append Fetch answer", appended(fetched, 17, func() { fetchResponse(fetched, 64) }))
	metadata := wire.NewMetadataResponse()
	// Reset gives each topic a name of its own, since Kafka's default is "" and
	// not null; so count the encoding alone.
	metadataResponse(metadata, 10, 10)
	f("append Metadata answer", appended(metadata, 12, func() {}))
	produced := wire.NewProduceResponse()
	f("append Produce answer", appended(produced, 12, func() {
		produced.Reset()
		topic := wire.Extend(&produced.Responses)
		for i := range 64 {
			p := wire.Extend(&topic.PartitionResponses)
			p.Index, p.BaseOffset = int32(i), 1<<40
		}
	}))
}
