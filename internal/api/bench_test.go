package api

import (
	"fmt"
	"testing"

	"go.uber.org/goleak"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// exchange sends a whole frame and reads the answer into buf.
func (c *client) exchange(b *testing.B, frame, buf []byte) {
	if _, err := c.conn.Write(frame); err != nil {
		b.Fatal(err)
	}
	for got, size := 0, 4; got < size; {
		n, err := c.conn.Read(buf[got:])
		if err != nil {
			b.Fatal(err)
		}
		if got += n; got >= 4 && size == 4 {
			size = 4 + int(buf[0])<<24 + int(buf[1])<<16 + int(buf[2])<<8 + int(buf[3])
		}
	}
}

// BenchmarkProduce appends a batch to each of some partitions.
func BenchmarkProduce(b *testing.B) {
	for _, parts := range []int{1, 16} {
		for _, records := range []int{1, 100} {
			b.Run(fmt.Sprintf("partitions=%d/records=%d", parts, records), func(b *testing.B) {
				n := newNode(b, "durability=os")
				n.topic("t", int32(parts))
				values := make([]string, records)
				q := produce("t", 0, -1, nil)
				q.TopicData[0].PartitionData = nil
				for i := range parts {
					q.TopicData[0].PartitionData = append(q.TopicData[0].PartitionData, wire.ProduceRequestPartitionProduceData{
						Index: int32(i), Records: batch(b, record.BuilderOptions{}, values...),
					})
				}
				run(b, n, q, 9)
			})
		}
	}
}

// BenchmarkFetch reads what is at the end of some partitions: nothing but one
// batch of the first.
func BenchmarkFetch(b *testing.B) {
	for _, parts := range []int{1, 16} {
		b.Run(fmt.Sprintf("partitions=%d", parts), func(b *testing.B) {
			n := newNode(b, "durability=os")
			n.topic("t", int32(parts))
			c := n.dial()
			ask[*wire.ProduceResponse](c, produce("t", 0, -1, batch(b, record.BuilderOptions{}, "v")), 9)
			indexes := make([]int32, parts)
			for i := range indexes {
				indexes[i] = int32(i)
			}
			run(b, n, fetch("t", indexes...), 12)
		})
	}
}

// BenchmarkListOffsets asks for the ends of 10,000 partitions.
func BenchmarkListOffsets(b *testing.B) {
	n := newNode(b, "durability=os")
	n.maxPartitions = 20_000
	n.topic("t", 9_000)
	q := wire.NewListOffsetsRequest()
	q.ReplicaID = -1
	t := wire.Extend(&q.Topics)
	t.Name = "t"
	for i := range int32(9_000) {
		p := wire.Extend(&t.Partitions)
		p.PartitionIndex, p.Timestamp, p.CurrentLeaderEpoch = i, -1, int32(model.NoEpoch)
	}
	run(b, n, q, 7)
}

func run(b *testing.B, n *node, q wire.Request, version int16) {
	b.Helper()
	frame, err := wire.AppendRequest(nil, wire.RequestHeader{Version: version, CorrelationID: 1, ClientID: new("bench")}, q)
	if err != nil {
		b.Fatal(err)
	}
	c, buf := n.dial(), make([]byte, 16<<20)
	c.exchange(b, frame, buf)
	b.ReportAllocs()
	for b.Loop() {
		c.exchange(b, frame, buf)
	}
}

// BenchmarkDescribeConfigs asks for all configs of 1,000 topics.
func BenchmarkDescribeConfigs(b *testing.B) {
	n := newNode(b)
	q := wire.NewDescribeConfigsRequest()
	q.IncludeSynonyms = true
	for i := range 1000 {
		name := fmt.Sprintf("topic-%d", i)
		var own []config.Override
		if i%2 == 0 {
			own = []config.Override{{Name: "retention.ms", Value: new("1000")}, {Name: "cleanup.policy", Value: new("compact")}}
		}
		n.topic(name, 1, own...)
		x := wire.Extend(&q.Resources)
		x.ResourceType, x.ResourceName, x.ConfigurationKeys = int8(metadata.ResourceTopic), name, nil
	}
	run(b, n, q, 4)
}
