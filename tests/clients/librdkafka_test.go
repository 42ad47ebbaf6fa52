//go:build cgo

package clients

import (
	"fmt"
	"testing"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"github.com/barnabas-log/barnabas/tests/node"
)

// TestLibrdkafka drives librdkafka, as confluent-kafka-go has it: a member of a
// group of either protocol copies in transactions, and the broker is killed.
func TestLibrdkafka(t *testing.T) {
	t.Parallel()
	n := node.Start(t, quickGroups...)
	names := map[string]kafka.ConfigMap{
		"rdkafka-classic":     {"group.protocol": "classic", "partition.assignment.strategy": "range", "heartbeat.interval.ms": 300},
		"rdkafka-cooperative": {"group.protocol": "classic", "partition.assignment.strategy": "cooperative-sticky", "heartbeat.interval.ms": 300},
		"rdkafka-consumer":    {"group.protocol": "consumer"},
	}
	var copiers []*rdkafkaCopier
	for name, settings := range names {
		writeNumbers(t, n, name)
		copiers = append(copiers, newRdkafkaCopier(t, n, name, settings))
	}
	for _, c := range copiers {
		c.copyUntil(numbers / 2)
		c.begin()
	}
	n.Kill()
	n.Again()
	for _, c := range copiers {
		c.end(true)
		c.copyUntil(numbers)
		c.close()
		wantCopied(t, n, c.name)
	}
}

type rdkafkaCopier struct {
	t        *testing.T
	name     string
	consumer *kafka.Consumer
	producer *kafka.Producer
	next     []kafka.TopicPartition // Offsets of the transaction.
	pending  int
	copied   int
	turns    int
}

func newRdkafkaCopier(t *testing.T, n *node.Node, name string, settings kafka.ConfigMap) *rdkafkaCopier {
	t.Helper()
	all := kafka.ConfigMap{"bootstrap.servers": n.Addr, "group.id": name, "auto.offset.reset": "earliest", "enable.auto.commit": false, "fetch.wait.max.ms": 50, "log_level": 0}
	for k, v := range settings {
		all[k] = v
	}
	consumer, err := kafka.NewConsumer(&all)
	if err != nil {
		t.Fatal(err)
	}
	producer, err := kafka.NewProducer(&kafka.ConfigMap{"bootstrap.servers": n.Addr, "transactional.id": name, "go.delivery.reports": false, "linger.ms": 0, "log_level": 0})
	if err != nil {
		t.Fatal(err)
	}
	c := &rdkafkaCopier{t: t, name: name, consumer: consumer, producer: producer}
	c.must(producer.InitTransactions(t.Context()))
	c.must(consumer.Subscribe(name, nil))
	return c
}

func (c *rdkafkaCopier) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("%s: %v", c.name, err)
	}
}

// copyUntil copies some at a time; each third transaction is aborted.
func (c *rdkafkaCopier) copyUntil(count int) {
	c.t.Helper()
	for c.copied < count {
		c.begin()
		c.turns++
		c.end(c.turns%3 != 0)
	}
}

// begin copies up to nine records in a transaction and leaves it open.
func (c *rdkafkaCopier) begin() {
	c.t.Helper()
	c.must(c.producer.BeginTransaction())
	offsets := map[int32]kafka.Offset{}
	c.pending = 0
	for end := time.Now().Add(patience); c.pending == 0 || c.pending < 9 && c.copied+c.pending < numbers; {
		if time.Now().After(end) {
			c.t.Fatalf("%s: no more than %d records", c.name, c.copied+c.pending)
		}
		m, ok := c.consumer.Poll(100).(*kafka.Message)
		if !ok || m.TopicPartition.Error != nil {
			continue
		}
		out := c.name + ".out"
		c.must(c.producer.Produce(&kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &out, Partition: m.TopicPartition.Partition}, Value: m.Value}, nil))
		offsets[m.TopicPartition.Partition] = m.TopicPartition.Offset + 1
		c.pending++
	}
	c.next = nil
	for p, o := range offsets {
		c.next = append(c.next, kafka.TopicPartition{Topic: &c.name, Partition: p, Offset: o})
	}
}

func (c *rdkafkaCopier) end(commit bool) {
	c.t.Helper()
	metadata, err := c.consumer.GetConsumerGroupMetadata()
	c.must(err)
	c.must(c.producer.SendOffsetsToTransaction(c.t.Context(), c.next, metadata))
	if commit {
		c.must(c.producer.CommitTransaction(c.t.Context()))
		c.copied += c.pending
		return
	}
	c.must(c.producer.AbortTransaction(c.t.Context()))
	assigned, err := c.consumer.Assignment()
	c.must(err)
	at, err := c.consumer.Committed(assigned, int(patience.Milliseconds()))
	c.must(err)
	for _, p := range at {
		if p.Offset < 0 {
			p.Offset = 0
		}
		c.must(c.consumer.Seek(p, 0))
	}
}

func (c *rdkafkaCopier) close() {
	c.t.Helper()
	c.must(c.consumer.Close())
	c.producer.Close()
	if c.copied != numbers {
		c.t.Errorf("%s: copied %s", c.name, fmt.Sprint(c.copied))
	}
}
