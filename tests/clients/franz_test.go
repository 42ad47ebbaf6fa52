package clients

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/barnabas-log/barnabas/tests/node"
)

func TestFranz(t *testing.T) {
	t.Parallel()
	n := node.Start(t)
	t.Run("topics", func(t *testing.T) { franzTopics(t, n) })
	for _, codec := range codecs {
		t.Run(codec, func(t *testing.T) { franzProduce(t, n, codec) })
	}
	t.Run("offsets", func(t *testing.T) { franzOffsets(t, n) })
	t.Run("many partitions", func(t *testing.T) { franzManyPartitions(t, n) })
	t.Run("too large", func(t *testing.T) { franzTooLarge(t, n) })
	t.Run("restart", func(t *testing.T) { franzRestart(t, n, n.Stop) })
	t.Run("kill", func(t *testing.T) { franzRestart(t, n, n.Kill) })
}

func franzTopics(t *testing.T, n *node.Node) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	admin := kadm.NewClient(oracle(t, n))
	value := "12345678"
	if _, err := admin.CreateTopic(ctx, 3, 1, map[string]*string{"retention.ms": &value}, "franz-topic"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CreateTopic(ctx, 3, 1, nil, "franz-topic"); !errors.Is(err, kerr.TopicAlreadyExists) {
		t.Errorf("created twice: %v", err)
	}
	if _, err := admin.CreateTopic(ctx, 3, 1, nil, "no/such/name"); !errors.Is(err, kerr.InvalidTopicException) {
		t.Errorf("an illegal name: %v", err)
	}
	topics, err := admin.ListTopics(ctx)
	if err != nil {
		t.Fatal(err)
	}
	d := topics["franz-topic"]
	if d.Err != nil || len(d.Partitions) != 3 || d.ID == (kadm.TopicID{}) || d.Partitions[2].Leader != 1 {
		t.Errorf("described as %+v", d)
	}
	configs, err := admin.DescribeTopicConfigs(ctx, "franz-topic")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(configs[0].Configs, func(c kadm.Config) bool { return c.Key == "retention.ms" })
	if i < 0 || configs[0].Configs[i].MaybeValue() != value {
		t.Errorf("configs are %+v", configs[0].Configs)
	}
	brokers, err := admin.BrokerMetadata(ctx)
	if err != nil || len(brokers.Brokers) != 1 || brokers.Cluster == "" {
		t.Errorf("brokers are %+v, %v", brokers, err)
	}
	if _, err := admin.DeleteTopic(ctx, "franz-topic"); err != nil {
		t.Error(err)
	}
	if _, err := admin.DeleteTopic(ctx, "franz-topic"); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("deleted twice: %v", err)
	}
	if topics, err = kadm.NewClient(oracle(t, n)).ListTopics(ctx); err != nil || topics.Has("franz-topic") {
		t.Errorf("deleted, and listed: %v, %v", topics.Names(), err)
	}
	// A name is free again, and what comes back is empty.
	create(t, n, "franz-topic")
	readAll(t, n, "franz-topic", 0)
}

func franzProduce(t *testing.T, n *node.Node, codec string) {
	f := func(name string, opts ...kgo.Opt) {
		t.Helper()
		topic := fmt.Sprintf("franz-%s-%s", codec, name)
		create(t, n, topic)
		c := oracle(t, n, append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(franzCodec(codec)))...)
		for from := 0; from < samples; from += 20 {
			produceFranz(t, c, topic, from, from+20)
		}
		wantSamples(t, n, topic)
	}
	f("0", kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	f("1", kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	f("all", kgo.RequiredAcks(kgo.AllISRAcks()), kgo.DisableIdempotentWrite())
	f("idempotent")
}

func franzOffsets(t *testing.T, n *node.Node) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	const topic = "franz-offsets"
	writeSamples(t, n, topic)
	admin := kadm.NewClient(oracle(t, n))
	f := func(what string, listed kadm.ListedOffsets, err error, want0, want1 int64) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		o0, _ := listed.Lookup(topic, 0)
		o1, _ := listed.Lookup(topic, 1)
		if o0.Err != nil || o1.Err != nil || o0.Offset != want0 || o1.Offset != want1 {
			t.Errorf("%s: %+v and %+v, want %d and %d", what, o0, o1, want0, want1)
		}
	}
	listed, err := admin.ListStartOffsets(ctx, topic)
	f("start", listed, err, 0, 0)
	listed, err = admin.ListEndOffsets(ctx, topic)
	f("end", listed, err, samples/2, samples/2)
	// Record 21 is the 11th of partition 1, record 22 the 12th of partition 0.
	listed, err = admin.ListOffsetsAfterMilli(ctx, firstTime+20_001, topic)
	f("time", listed, err, 11, 10)
	listed, err = admin.ListMaxTimestampOffsets(ctx, topic)
	f("greatest time", listed, err, samples/2-1, samples/2-1)

	// From an offset in the middle of a batch, and from a time.
	want := sampleRows()
	g := func(what string, at kgo.Offset, want []string) {
		t.Helper()
		c := oracle(t, n, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {1: at}}))
		var got []string
		for len(got) < len(want) {
			fetches := c.PollFetches(ctx)
			if err := fetches.Err(); err != nil {
				t.Fatal(err)
			}
			got = append(got, rowsOf(fetches.Records())...)
		}
		wantRows(t, what, got, want)
	}
	g("from offset 7", kgo.NewOffset().At(7), want[samples/2+7:])
	g("from time", kgo.NewOffset().AfterMilli(firstTime+20_001), want[samples/2+10:])
	g("last three", kgo.NewOffset().AtEnd().Relative(-3), want[samples-3:])
}

func franzManyPartitions(t *testing.T, n *node.Node) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	const topic, many, each = "franz-many", 200, 5
	c := oracle(t, n, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if _, err := kadm.NewClient(c).CreateTopic(ctx, many, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	var records []*kgo.Record
	for i := range many * each {
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(i % many), Value: fmt.Append(nil, i)})
	}
	produceAll(t, c, records)
	for _, r := range readAll(t, n, topic, many*each) {
		if want := fmt.Append(nil, int(r.Offset)*many+int(r.Partition)); !bytes.Equal(r.Value, want) {
			t.Fatalf("partition %d offset %d has %s, want %s", r.Partition, r.Offset, r.Value, want)
		}
	}
}

func franzTooLarge(t *testing.T, n *node.Node) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	create(t, n, "franz-large")
	c := oracle(t, n, kgo.ProducerBatchMaxBytes(4<<20), kgo.ProducerBatchCompression(kgo.NoCompression()))
	err := c.ProduceSync(ctx, &kgo.Record{Topic: "franz-large", Value: make([]byte, 2<<20)}).FirstErr()
	if !errors.Is(err, kerr.MessageTooLarge) {
		t.Errorf("2 MiB were answered with %v", err)
	}
	readAll(t, n, "franz-large", 0)
}

// franzRestart ends the broker while an idempotent producer and a consumer are
// at work; both go on with what comes back.
func franzRestart(t *testing.T, n *node.Node, end func()) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	topic := fmt.Sprintf("franz-restart-%d", time.Now().UnixNano())
	create(t, n, topic)
	c := oracle(t, n, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	produceFranz(t, c, topic, 0, samples/2)
	read := 0
	for read < samples/2 {
		read += c.PollFetches(ctx).NumRecords()
	}
	end()
	n.Again()
	produceFranz(t, c, topic, samples/2, samples)
	for read < samples {
		read += c.PollFetches(ctx).NumRecords() // Errors of the lost connection are retried.
		if ctx.Err() != nil {
			t.Fatalf("read %d records after the restart", read)
		}
	}
	if read != samples {
		t.Errorf("read %d records over the restart", read)
	}
	wantSamples(t, n, topic)
}
