package clients

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/barnabas-log/barnabas/tests/node"
)

// Clients copy numbers from a topic to another in transactions, as members of a
// group that has the topic's name, and the broker is killed amid their work.

const numbers = 120

// writeNumbers makes a topic with the numbers, each in the partition that it is
// modulo their count, and one for the copies.
func writeNumbers(t *testing.T, n *node.Node, name string) {
	t.Helper()
	create(t, n, name)
	create(t, n, name+".out")
	var records []*kgo.Record
	for i := range numbers {
		records = append(records, &kgo.Record{Topic: name, Partition: int32(i % partitions), Value: fmt.Append(nil, i)})
	}
	produceAll(t, oracle(t, n, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(1000)), records)
}

// wantCopied checks that the copies that are committed are the numbers, once
// and in order, that nothing is open, and where the group is.
func wantCopied(t *testing.T, n *node.Node, name string) {
	t.Helper()
	wantAtEnd(t, n, name)
	c := oracle(t, n, kgo.ConsumeTopics(name+".out"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	awaitStable(ctx, t, c, name+".out")
	var next [partitions]int
	for p := range next {
		next[p] = p
	}
	for read := 0; read < numbers; {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%s: %d copies: %v", name, read, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if want := fmt.Sprint(next[r.Partition]); string(r.Value) != want {
				t.Errorf("%s: partition %d offset %d is a copy of %s, want %s", name, r.Partition, r.Offset, r.Value, want)
			}
			next[r.Partition] += partitions
			read++
		})
	}
	surplus, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	if n := c.PollFetches(surplus).NumRecords(); n != 0 {
		t.Errorf("%s: %d surplus copies", name, n)
	}
}

// wantAtEnd waits until a group has committed that it has read all numbers:
// the marker comes after the answer.
func wantAtEnd(t *testing.T, n *node.Node, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	admin := kadm.NewClient(oracle(t, n))
	for {
		offsets, err := admin.FetchOffsets(ctx, name)
		o0, _ := offsets.Lookup(name, 0)
		o1, _ := offsets.Lookup(name, 1)
		if err == nil && o0.At == numbers/partitions && o1.At == numbers/partitions {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%s: committed %+v, %v", name, offsets, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func awaitStable(ctx context.Context, t *testing.T, c *kgo.Client, topic string) {
	t.Helper()
	admin := kadm.NewClient(c)
	for {
		ends, err := admin.ListEndOffsets(ctx, topic)
		stable, err2 := admin.ListCommittedOffsets(ctx, topic)
		isStable := true
		ends.Each(func(o kadm.ListedOffset) {
			s, ok := stable.Lookup(topic, o.Partition)
			isStable = isStable && ok && s.Offset == o.Offset
		})
		if err = errors.Join(err, err2); err == nil && isStable {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%s: ends %v, stable ends %v, %v", topic, ends, stable, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestKafkaJSGroups drives KafkaJS with groups and transactions.
func TestKafkaJSGroups(t *testing.T) {
	t.Parallel()
	js, npm := node.Tool(t, "node"), node.Tool(t, "npm")
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("kafkajs")); err != nil {
		t.Fatal(err)
	}
	run(t, "", npm, "ci", "--prefix", dir, "--no-audit", "--no-fund", "--loglevel", "error")
	n := node.Start(t, quickGroups...)
	writeNumbers(t, n, "js")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	overRestart(t, exec.CommandContext(ctx, js, filepath.Join(dir, "groups.js"), n.Addr), n, n.Kill)
	wantCopied(t, n, "js")
}

// TestPythonGroups drives kafka-python with groups and transactions.
func TestPythonGroups(t *testing.T) {
	t.Parallel()
	python := node.Tool(t, "python3")
	if err := exec.Command(python, "-c", "import kafka").Run(); err != nil {
		node.Missing(t, "kafka-python (pip install kafka-python)")
	}
	n := node.Start(t, quickGroups...)
	writeNumbers(t, n, "python")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	overRestart(t, exec.CommandContext(ctx, python, "python/groups.py", n.Addr), n, n.Kill)
	wantCopied(t, n, "python")
}

// TestKcatGroup lets one member of librdkafka's go on where another was when
// the broker was killed.
func TestKcatGroup(t *testing.T) {
	t.Parallel()
	kcat := node.Tool(t, "kcat")
	n := node.Start(t, quickGroups...)
	writeNumbers(t, n, "kcat")
	read := func(count int, strategy string) []string {
		t.Helper()
		out := run(t, "", kcat, "-b", n.Addr, "-q", "-G", "kcat", "-c", fmt.Sprint(count), "-u", "-f", "%s\n", "-X", "auto.offset.reset=earliest",
			"-X", "partition.assignment.strategy="+strategy, "kcat")
		return strings.Fields(out)
	}
	got := read(numbers/3, "range")
	n.Kill()
	n.Again()
	got = append(got, read(numbers-numbers/3, "cooperative-sticky")...)
	slices.Sort(got)
	if len(slices.Compact(got)) != numbers || len(got) != numbers {
		t.Errorf("read %d records, %d different ones, want %d once each", len(got), len(slices.Compact(got)), numbers)
	}
	wantAtEnd(t, n, "kcat")
}

// TestSaramaGroup drives two members of Sarama's with a transactional producer
// each.
func TestSaramaGroup(t *testing.T) {
	t.Parallel()
	n := node.Start(t, quickGroups...)
	writeNumbers(t, n, "sarama")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	copier := &saramaCopier{done: make(chan struct{}), half: make(chan struct{}), restarted: make(chan struct{})}
	var members sync.WaitGroup
	for i := range 2 {
		group, err := sarama.NewConsumerGroup([]string{n.Addr}, "sarama", saramaGroupConfig(""))
		if err != nil {
			t.Fatal(err)
		}
		producer, err := sarama.NewSyncProducer([]string{n.Addr}, saramaGroupConfig(fmt.Sprint("sarama-", i)))
		if err != nil {
			t.Fatal(err)
		}
		m := &saramaMember{saramaCopier: copier, producer: producer}
		members.Go(func() {
			defer producer.Close()
			defer group.Close()
			for ctx.Err() == nil && !copier.isDone() {
				_ = group.Consume(ctx, []string{"sarama"}, m) // It ends with each rebalance.
			}
		})
	}
	select {
	case <-copier.half:
	case <-ctx.Done():
		t.Fatal("half of the numbers were not copied in time")
	}
	n.Kill()
	n.Again()
	close(copier.restarted)
	select {
	case <-copier.done:
	case <-ctx.Done():
		t.Fatal("the numbers were not copied in time")
	}
	cancel()
	members.Wait()
	wantCopied(t, n, "sarama")
}

func saramaGroupConfig(transactionalID string) *sarama.Config {
	c := saramaConfig()
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false
	c.Consumer.MaxWaitTime = 100 * time.Millisecond
	c.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	c.Metadata.Retry.Backoff = 50 * time.Millisecond
	if transactionalID != "" {
		c.Producer.Idempotent, c.Producer.RequiredAcks, c.Net.MaxOpenRequests = true, sarama.WaitForAll, 1
		c.Producer.Transaction.ID = transactionalID
		c.Producer.Transaction.Retry.Max = 100
	}
	return c
}

// saramaCopier is what the members have in common.
type saramaCopier struct {
	done, half, restarted chan struct{}
	mu                    sync.Mutex
	copied, turns         int
}

func (c *saramaCopier) isDone() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// count takes note of copies that are committed.
func (c *saramaCopier) count(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.copied
	c.copied += n
	if before < numbers/2 && c.copied >= numbers/2 {
		close(c.half)
	}
	if before < numbers && c.copied >= numbers {
		close(c.done)
	}
}

// abort tells whether this transaction is to be aborted.
func (c *saramaCopier) abort() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turns++
	return c.turns%3 == 0
}

type saramaMember struct {
	*saramaCopier
	producer sarama.SyncProducer
	busy     sync.Mutex // One transaction at a time.
}

func (*saramaMember) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (*saramaMember) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// ConsumeClaim copies message by message. What is aborted ends the session, so
// that the next begins at what is committed.
func (m *saramaMember) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			if err := m.copy(s, message); err != nil {
				return err
			}
		case <-s.Context().Done():
			return nil
		case <-m.done:
			return nil
		}
	}
}

func (m *saramaMember) copy(s sarama.ConsumerGroupSession, message *sarama.ConsumerMessage) error {
	m.busy.Lock()
	defer m.busy.Unlock()
	select {
	case <-m.half:
		<-m.restarted
	default:
	}
	for m.abort() {
		if err := m.transact(s, message, m.producer.AbortTxn); err != nil {
			return err
		}
	}
	if err := m.transact(s, message, m.producer.CommitTxn); err != nil {
		return err
	}
	m.count(1)
	return nil
}

func (m *saramaMember) transact(s sarama.ConsumerGroupSession, message *sarama.ConsumerMessage, end func() error) error {
	if err := m.producer.BeginTxn(); err != nil {
		return err
	}
	copied := &sarama.ProducerMessage{Topic: message.Topic + ".out", Partition: message.Partition, Value: sarama.ByteEncoder(message.Value)}
	if _, _, err := m.producer.SendMessage(copied); err != nil {
		return errors.Join(err, m.producer.AbortTxn())
	}
	metadata := &sarama.ConsumerGroupMetadata{GroupID: "sarama", GenerationID: s.GenerationID(), MemberID: s.MemberID()}
	if err := m.producer.AddMessageToTxnWithGroupMetadata(message, metadata, nil); err != nil {
		return errors.Join(err, m.producer.AbortTxn())
	}
	return end()
}
