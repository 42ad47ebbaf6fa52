package quota

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/tests/node"
	"github.com/barnabas-log/barnabas/wire"
)

// client is one connection that does what it likes: it looks at no throttle time, so that only the broker can slow it down.
type client struct {
	t    *testing.T
	conn net.Conn
	id   string
	next int32
}

// patience is longer than any wait that a test asks for.
const patience = 2 * time.Minute

func dial(t *testing.T, n *node.Node, id string) *client {
	t.Helper()
	conn, err := net.DialTimeout("tcp", n.Addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &client{t: t, conn: conn, id: id}
}

// ask sends a request and returns its answer.
func ask[R wire.Response](c *client, q wire.Request, version int16) R {
	c.t.Helper()
	c.write(q, version)
	return read[R](c, q, version)
}

func (c *client) write(q wire.Request, version int16) {
	c.t.Helper()
	c.next++
	frame, err := wire.AppendRequest(nil, wire.RequestHeader{Version: version, CorrelationID: c.next, ClientID: &c.id}, q)
	if err != nil {
		c.t.Fatal(err)
	}
	c.conn.SetDeadline(time.Now().Add(patience))
	if _, err := c.conn.Write(frame); err != nil {
		c.t.Fatal(err)
	}
}

func read[R wire.Response](c *client, q wire.Request, version int16) R {
	c.t.Helper()
	size := make([]byte, wire.FrameSizeBytes)
	if _, err := io.ReadFull(c.conn, size); err != nil {
		c.t.Fatalf("%s: %v", q.Key(), err)
	}
	frame := make([]byte, binary.BigEndian.Uint32(size))
	if _, err := io.ReadFull(c.conn, frame); err != nil {
		c.t.Fatal(err)
	}
	r := wire.NewReader(frame)
	if _, err := wire.ReadResponseHeader(r, q.Key(), version); err != nil {
		c.t.Fatal(err)
	}
	resp := q.NewResponse().(R)
	if err := wire.ReadExactly(r, resp, version); err != nil {
		c.t.Fatal(err)
	}
	return resp
}

// topic makes a topic of one partition and waits until it can be written.
func topic(t *testing.T, n *node.Node, name string) {
	t.Helper()
	c := dial(t, n, "setup")
	q := wire.NewCreateTopicsRequest()
	x := wire.Extend(&q.Topics)
	x.Name, x.NumPartitions, x.ReplicationFactor, q.TimeoutMs = name, 1, 1, 10_000
	if r := ask[*wire.CreateTopicsResponse](c, q, 5); r.Topics[0].ErrorCode != 0 {
		t.Fatalf("%s: %v", name, wire.ErrorCode(r.Topics[0].ErrorCode))
	}
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		r := ask[*wire.ProduceResponse](c, produce(t, name, 1), 9)
		if e := wire.ErrorCode(r.Responses[0].PartitionResponses[0].ErrorCode); e == wire.None {
			return
		} else if time.Now().After(end) {
			t.Fatal(e)
		}
	}
}

// limit sets a quota of a client id, and waits until it is in force.
func limit(t *testing.T, n *node.Node, id, key string, v float64) {
	t.Helper()
	q := wire.NewAlterClientQuotasRequest()
	e := wire.Extend(&q.Entries)
	e.Entity = []wire.AlterClientQuotasRequestEntityData{{EntityType: "client-id", EntityName: &id}}
	e.Ops = []wire.AlterClientQuotasRequestOpData{{Key: key, Value: v}}
	alter(t, n, q)
}

func alter(t *testing.T, n *node.Node, q *wire.AlterClientQuotasRequest) {
	t.Helper()
	r := ask[*wire.AlterClientQuotasResponse](dial(t, n, "setup"), q, 1)
	if e := wire.ErrorCode(r.Entries[0].ErrorCode); e != wire.None {
		t.Fatalf("%v: %s", e, *r.Entries[0].ErrorMessage)
	}
	if node.Peer() { // It acts on it a little later than it answers.
		time.Sleep(time.Second)
	}
}

// produce is a request of about so many bytes.
func produce(t *testing.T, topic string, bytes int) *wire.ProduceRequest {
	t.Helper()
	b := record.NewBuilder(record.BuilderOptions{})
	if err := b.AddAt(record.Record{Timestamp: time.Now().UnixMilli(), Value: make([]byte, bytes)}); err != nil {
		t.Fatal(err)
	}
	_, batch, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	q := wire.NewProduceRequest()
	q.Acks, q.TimeoutMs = -1, 30_000
	q.TopicData = []wire.ProduceRequestTopicProduceData{{
		Name: topic, PartitionData: []wire.ProduceRequestPartitionProduceData{{Records: batch}},
	}}
	return q
}

// fetch reads from an offset, and waits for nothing.
func fetch(topic string, from int64) *wire.FetchRequest {
	q := wire.NewFetchRequest()
	q.MaxBytes, q.MinBytes, q.SessionEpoch = 1<<20, 1, -1
	p := wire.FetchRequestFetchPartition{}
	p.Reset()
	p.FetchOffset, p.PartitionMaxBytes = from, 1<<20
	q.Topics = []wire.FetchRequestFetchTopic{{Topic: topic, Partitions: []wire.FetchRequestFetchPartition{p}}}
	return q
}
