package clients

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/barnabas-log/barnabas/tests/node"
)

func TestSarama(t *testing.T) {
	t.Parallel()
	n := node.Start(t)
	t.Run("topics", func(t *testing.T) { saramaTopics(t, n) })
	for _, codec := range codecs {
		t.Run(codec, func(t *testing.T) { saramaProduce(t, n, codec) })
	}
	t.Run("read", func(t *testing.T) { saramaRead(t, n) })
	t.Run("restart", func(t *testing.T) { saramaRestart(t, n, n.Stop) })
	t.Run("kill", func(t *testing.T) { saramaRestart(t, n, n.Kill) })
}

func saramaConfig() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.MaxVersion
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Producer.Return.Successes = true
	c.Producer.Retry.Max = 100
	c.Metadata.Retry.Max = 100
	return c
}

func saramaTopics(t *testing.T, n *node.Node) {
	admin, err := sarama.NewClusterAdmin([]string{n.Addr}, saramaConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	retention := "7654321"
	detail := &sarama.TopicDetail{NumPartitions: 4, ReplicationFactor: 1, ConfigEntries: map[string]*string{"retention.ms": &retention}}
	if err := admin.CreateTopic("sarama-topic", detail, false); err != nil {
		t.Fatal(err)
	}
	if err := admin.CreateTopic("sarama-topic", detail, false); !errors.Is(err, sarama.ErrTopicAlreadyExists) {
		t.Errorf("created twice: %v", err)
	}
	topics, err := admin.ListTopics() // With configurations that are not defaults.
	if err != nil {
		t.Fatal(err)
	}
	got, ok := topics["sarama-topic"]
	if !ok || got.NumPartitions != 4 || got.ConfigEntries["retention.ms"] == nil || *got.ConfigEntries["retention.ms"] != retention {
		t.Errorf("listed as %+v", got)
	}
	described, err := admin.DescribeTopics([]string{"sarama-topic", "no-such-topic"})
	if err != nil {
		t.Fatal(err)
	}
	if len(described[0].Partitions) != 4 || !errors.Is(described[1].Err, sarama.ErrUnknownTopicOrPartition) {
		t.Errorf("described as %+v and %+v", described[0], described[1])
	}
	if err := admin.DeleteTopic("sarama-topic"); err != nil {
		t.Error(err)
	}
	if err := admin.DeleteTopic("sarama-topic"); !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		t.Errorf("deleted twice: %v", err)
	}
}

func saramaProduce(t *testing.T, n *node.Node, codec string) {
	f := func(name string, acks sarama.RequiredAcks, idempotent bool) {
		t.Helper()
		c := saramaConfig()
		if err := c.Producer.Compression.UnmarshalText([]byte(codec)); err != nil {
			t.Fatal(err)
		}
		c.Producer.RequiredAcks = acks
		if c.Producer.Idempotent = idempotent; idempotent {
			c.Net.MaxOpenRequests = 1
		}
		topic := fmt.Sprintf("sarama-%s-%s", codec, name)
		create(t, n, topic)
		saramaWrite(t, n, c, topic)
		wantSamples(t, n, topic)
	}
	f("0", sarama.NoResponse, false)
	f("1", sarama.WaitForLocal, false)
	f("all", sarama.WaitForAll, false)
	f("idempotent", sarama.WaitForAll, true)
}

// saramaWrite writes the samples in three calls.
func saramaWrite(t *testing.T, n *node.Node, c *sarama.Config, topic string) {
	t.Helper()
	p, err := sarama.NewSyncProducer([]string{n.Addr}, c)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for from := 0; from < samples; from += 20 {
		saramaSend(t, p, topic, from, from+20)
	}
}

func saramaSend(t *testing.T, p sarama.SyncProducer, topic string, from, to int) {
	t.Helper()
	var messages []*sarama.ProducerMessage
	for i := from; i < to; i++ {
		s := sample(i)
		m := &sarama.ProducerMessage{Topic: topic, Partition: s.Partition, Timestamp: s.Timestamp}
		if s.Key != nil {
			m.Key = sarama.ByteEncoder(s.Key)
		}
		if s.Value != nil {
			m.Value = sarama.ByteEncoder(s.Value)
		}
		for _, h := range s.Headers {
			m.Headers = append(m.Headers, sarama.RecordHeader{Key: []byte(h.Key), Value: h.Value})
		}
		messages = append(messages, m)
	}
	if err := p.SendMessages(messages); err != nil {
		t.Fatal(err)
	}
}

// saramaRead reads what franz-go wrote: all, from an offset, from a time.
func saramaRead(t *testing.T, n *node.Node) {
	const topic = "sarama-read"
	writeSamples(t, n, topic)
	client, err := sarama.NewClient([]string{n.Addr}, saramaConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	consumer, err := sarama.NewConsumerFromClient(client)
	if err != nil {
		t.Fatal(err)
	}
	defer consumer.Close()
	f := func(what string, partition int32, from int64, want []string) {
		t.Helper()
		pc, err := consumer.ConsumePartition(topic, partition, from)
		if err != nil {
			t.Fatal(err)
		}
		defer pc.Close()
		var got []string
		for late := time.After(patience); len(got) < len(want); {
			select {
			case m := <-pc.Messages():
				got = append(got, saramaRow(m))
			case <-late:
				t.Fatalf("%s: %d of %d records", what, len(got), len(want))
			}
		}
		wantRows(t, what, got, want)
	}
	rows := sampleRows()
	f("partition 0", 0, sarama.OffsetOldest, rows[:samples/2])
	f("partition 1", 1, sarama.OffsetOldest, rows[samples/2:])
	f("from offset 9", 0, 9, rows[9:samples/2])
	at, err := client.GetOffset(topic, 1, firstTime+20_001)
	if err != nil {
		t.Fatal(err)
	}
	f("from time", 1, at, rows[samples/2+10:])
	if _, err := consumer.ConsumePartition(topic, 0, 1000); !errors.Is(err, sarama.ErrOffsetOutOfRange) {
		t.Errorf("from an offset that does not exist: %v", err)
	}
}

func saramaRow(m *sarama.ConsumerMessage) string {
	r := &kgo.Record{Partition: m.Partition, Offset: m.Offset, Timestamp: m.Timestamp, Key: m.Key, Value: m.Value}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: string(h.Key), Value: h.Value})
	}
	return row(r)
}

// saramaRestart ends the broker in the life of a producer.
func saramaRestart(t *testing.T, n *node.Node, end func()) {
	topic := fmt.Sprintf("sarama-restart-%d", time.Now().UnixNano())
	create(t, n, topic)
	p, err := sarama.NewSyncProducer([]string{n.Addr}, saramaConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	saramaSend(t, p, topic, 0, samples/2)
	end()
	n.Again()
	saramaSend(t, p, topic, samples/2, samples)
	// Not idempotent: a record may come twice, none may lack, and firsts are in order.
	var got []string
	seen := map[string]bool{}
	for _, r := range readAtLeast(t, n, topic, samples) {
		r.Offset = 0
		if s := row(r); !seen[s] {
			seen[s] = true
			got = append(got, s)
		}
	}
	var want []string
	for p := range partitions {
		for i := range samples {
			if r := sample(i); int(r.Partition) == p {
				want = append(want, row(r))
			}
		}
	}
	if !slices.Equal(got, want) {
		wantRows(t, topic, got, want)
	}
}
