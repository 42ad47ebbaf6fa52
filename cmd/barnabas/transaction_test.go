package main

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/barnabas-log/barnabas/cluster"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// transaction is a command of scripts, for what no command of ours does: it
// writes values to one partition, all in a transaction of its own, and ends
// that, leaves it open, or lets it hang: writes, in a version of old, what no
// coordinator knows of, to a broker that does not verify that.
//
//	transaction ID commit|abort|open|hang TOPIC PARTITION VALUE…
func transaction(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 5 {
		ts.Fatalf("usage: transaction ID commit|abort|open|hang TOPIC PARTITION VALUE...")
	}
	partition, err := strconv.ParseInt(args[3], 10, 32)
	ts.Check(err)
	f := clientFlags{brokers: []string{ts.Getenv("BARNABAS_BROKERS")}, timeout: 30 * time.Second}
	m := f.open()
	defer m.Close()
	ctx, cancel := f.bounded(context.Background())
	defer cancel()
	t := txnWriter{ctx: ctx, m: m, id: args[0]}
	ts.Check(retry(ctx, t.init))
	switch args[1] {
	case "hang":
		ts.Check(t.hang(f.brokers[0], args[2], int32(partition), args[4:]))
		return
	case "commit", "abort", "open":
		ts.Check(retry(ctx, func() error { return t.produce(args[2], int32(partition), args[4:]) }))
	}
	if args[1] != "open" {
		ts.Check(retry(ctx, func() error { return t.end(args[1] == "commit") }))
		ts.Check(retry(ctx, t.ended))
	}
}

// ended fails until the partitions have their markers, which are written after
// the answer.
func (t *txnWriter) ended() error {
	v, err := describeTxn(t.ctx, t.m, t.id)
	if err == nil && !strings.HasPrefix(v.State, "Complete") {
		err = wire.ConcurrentTransactions
	}
	return err
}

// txnWriter is a transactional producer of the second version (KIP-890).
type txnWriter struct {
	ctx      context.Context
	m        *cluster.Map
	id       string
	broker   cluster.Broker // The coordinator.
	producer record.Producer
}

func (t *txnWriter) init() (err error) {
	if t.broker, err = coordinator(t.ctx, t.m, coordinatorOfTxn, t.id); err != nil {
		return err
	}
	req := wire.NewInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMs = &t.id, 900_000
	resp, err := ask[*wire.InitProducerIDResponse](t.ctx, t.broker, req)
	if err != nil {
		return err
	}
	t.producer = record.Producer{ID: model.ProducerID(resp.ProducerID), Epoch: resp.ProducerEpoch}
	return refusal(resp.ErrorCode, nil)
}

// request is to write values to a partition.
func (t *txnWriter) request(topic cluster.Topic, partition int32, values []string) (*wire.ProduceRequest, error) {
	b := record.NewBuilder(record.BuilderOptions{LeaderEpoch: model.NoEpoch, Producer: &t.producer, Transactional: true})
	for _, v := range values {
		if err := b.Add(record.Record{Timestamp: time.Now().UnixMilli(), Value: []byte(v)}); err != nil {
			return nil, err
		}
	}
	_, batch, err := b.Build(nil)
	if err != nil {
		return nil, err
	}
	req := wire.NewProduceRequest()
	req.TransactionalID, req.Acks, req.TimeoutMs = &t.id, -1, 30_000
	x := wire.Extend(&req.TopicData)
	x.Name, x.TopicID = topic.Name, wire.UUID(topic.ID)
	p := wire.Extend(&x.PartitionData)
	p.Index, p.Records = partition, batch
	return req, nil
}

// hang writes as a client that has added no partition to its transaction.
func (t *txnWriter) hang(broker, topic string, partition int32, values []string) error {
	const version = 9
	req, err := t.request(cluster.Topic{Name: topic}, partition, values)
	if err != nil {
		return err
	}
	frame, err := wire.AppendRequest(nil, wire.RequestHeader{Version: version, CorrelationID: 1}, req)
	if err != nil {
		return err
	}
	c, err := net.Dial("tcp", broker)
	if err != nil {
		return err
	}
	defer c.Close()
	answer := make([]byte, wire.FrameSizeBytes)
	if _, err = c.Write(frame); err == nil {
		_, err = io.ReadFull(c, answer)
	}
	if err != nil {
		return err
	}
	answer = make([]byte, binary.BigEndian.Uint32(answer))
	if _, err := io.ReadFull(c, answer); err != nil {
		return err
	}
	r, resp := wire.NewReader(answer), wire.NewProduceResponse()
	if _, err := wire.ReadResponseHeader(r, wire.ProduceKey, version); err != nil {
		return err
	}
	if err := wire.ReadExactly(r, resp, version); err != nil {
		return err
	}
	return refusal(resp.Responses[0].PartitionResponses[0].ErrorCode, nil)
}

func (t *txnWriter) produce(topic string, partition int32, values []string) error {
	known, err := t.m.Topic(t.ctx, topic)
	if err != nil {
		return err
	}
	leader, err := t.m.Leader(t.ctx, topic, partition)
	if err != nil {
		return err
	}
	req, err := t.request(known, partition, values)
	if err != nil {
		return err
	}
	resp, err := ask[*wire.ProduceResponse](t.ctx, leader, req)
	if err != nil {
		return err
	}
	q := &resp.Responses[0].PartitionResponses[0]
	return refusal(q.ErrorCode, q.ErrorMessage)
}

func (t *txnWriter) end(commit bool) error {
	req := wire.NewEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Committed = t.id, int64(t.producer.ID), t.producer.Epoch, commit
	resp, err := ask[*wire.EndTxnResponse](t.ctx, t.broker, req)
	if err != nil {
		return err
	}
	return refusal(resp.ErrorCode, nil)
}

// A reader of committed records drops what the answer lists as aborted, from
// where each transaction begins to its marker, and nothing else: not what the
// same producer wrote before and after, not what others wrote in between.
func TestAborts(t *testing.T) {
	batch := func(base model.Offset, producer model.ProducerID, transactional bool, count int) record.Batch {
		o := record.BuilderOptions{BaseOffset: base, Transactional: transactional}
		if producer >= 0 {
			o.Producer = &record.Producer{ID: producer}
		}
		b := record.NewBuilder(o)
		for range count {
			if err := b.Add(record.Record{Value: []byte("v")}); err != nil {
				t.Fatal(err)
			}
		}
		_, out, err := b.Build(nil)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	marker := func(base model.Offset, producer model.ProducerID, c record.ControlType) record.Batch {
		b := record.EndTxnMarker(producer, 0, 0, c, 0)
		b.SetBaseOffset(base)
		return b
	}
	p := &wire.FetchResponsePartitionData{
		AbortedTransactions: []wire.FetchResponseAbortedTransaction{
			{ProducerID: 2, FirstOffset: 5}, {ProducerID: 1, FirstOffset: 2}, {ProducerID: 1, FirstOffset: 12}, // In no order.
		},
	}
	for _, b := range []record.Batch{
		batch(0, 1, true, 1), marker(1, 1, record.Commit),
		batch(2, 1, true, 2), batch(4, -1, false, 1), batch(5, 2, true, 1), batch(6, 3, true, 1), marker(7, 1, record.Abort),
		batch(8, 1, true, 1), marker(9, 1, record.Commit), batch(10, 2, true, 1), marker(11, 2, record.Abort),
		batch(12, 1, true, 1), marker(13, 1, record.Abort), marker(14, 3, record.Commit), batch(15, 2, false, 1),
	} {
		p.Records = append(p.Records, b...)
	}
	read := func(from model.Offset) (seen []model.Offset) {
		t.Helper()
		r := newReader(nil, "letters", map[int32]model.Offset{0: from}, nil)
		r.level = readCommitted
		if _, err := r.take(p, func(rec partitionRecord) error { seen = append(seen, rec.Offset); return nil }); err != nil {
			t.Fatal(err)
		}
		if r.next[0] != 16 {
			t.Errorf("from %d: the next is %d", from, r.next[0])
		}
		return seen
	}
	f := func(from model.Offset, want ...model.Offset) {
		t.Helper()
		if got := read(from); !slices.Equal(got, want) {
			t.Errorf("from %d: %v, want %v", from, got, want)
		}
	}
	f(0, 0, 4, 6, 8, 15)
	f(3, 4, 6, 8, 15)
}
