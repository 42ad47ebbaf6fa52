package clients

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/barnabas-log/barnabas/tests/node"
)

func TestMain(m *testing.M) { node.Main(m) }

const (
	samples    = 60            // Records that every client writes.
	largeIndex = 50            // This one has a value of largeBytes.
	largeBytes = 900_000       // Below max.message.bytes.
	firstTime  = 1700000000000 // Of record 0, in milliseconds; each next is a second later.
	partitions = 2
	patience   = 90 * time.Second // For one step on a busy machine.
)

// sample is the i-th record: null, empty and usual keys and values, headers,
// one large value. Programs in other languages make the same ones.
func sample(i int) *kgo.Record {
	r := &kgo.Record{Partition: int32(i % partitions), Timestamp: time.UnixMilli(firstTime + int64(i)*1000)}
	switch i % 3 {
	case 1:
		r.Key = []byte{}
	case 2:
		r.Key = fmt.Appendf(nil, "k%d", i)
	}
	switch {
	case i == largeIndex:
		r.Value = make([]byte, largeBytes)
		for j := range r.Value {
			r.Value[j] = byte(j * j % 251)
		}
	case i%4 == 1:
		r.Value = []byte{}
	case i%4 == 2:
		r.Value = fmt.Appendf(nil, "v%d", i)
	case i%4 == 3:
		r.Value = bytes.Repeat([]byte{byte('a' + i%26)}, i*37%5000)
	}
	if i%2 == 1 {
		r.Headers = []kgo.RecordHeader{{Key: "h", Value: fmt.Append(nil, i)}, {Key: "empty", Value: []byte{}}}
	}
	return r
}

// row is the form in which all clients print a record: partition, offset,
// time, digest of key and value, headers.
func row(r *kgo.Record) string {
	var headers []string
	for _, h := range r.Headers {
		headers = append(headers, h.Key+"="+digest(h.Value))
	}
	return fmt.Sprintf("%d %d %d %s %s [%s]", r.Partition, r.Offset, r.Timestamp.UnixMilli(), digest(r.Key), digest(r.Value), strings.Join(headers, ","))
}

// digest is "-" for null, else length and the first four bytes of the SHA-256.
func digest(b []byte) string {
	if b == nil {
		return "-"
	}
	sum := sha256.Sum256(b)
	return fmt.Sprintf("%d:%x", len(b), sum[:4])
}

// sampleRows are the rows of a topic that holds the samples once, by partition
// and offset.
func sampleRows() []string {
	var rows []string
	var next [partitions]int64
	for p := range partitions {
		for i := range samples {
			if r := sample(i); int(r.Partition) == p {
				r.Offset = next[p]
				next[p]++
				rows = append(rows, row(r))
			}
		}
	}
	return rows
}

// codecs by the name that all clients know.
var codecs = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// oracle is a franz-go client: it judges what the others wrote.
func oracle(t *testing.T, n *node.Node, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(n.Addr), kgo.AlwaysRetryEOF()}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// create makes a topic and waits until its partitions answer: Kafka says that
// a topic is created before they do, and drops what comes with acks=0.
func create(t *testing.T, n *node.Node, topic string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	admin := kadm.NewClient(oracle(t, n))
	forever := "-1" // The samples are years old.
	if _, err := admin.CreateTopic(ctx, partitions, 1, map[string]*string{"retention.ms": &forever}, topic); err != nil {
		t.Fatal(err)
	}
	for {
		listed, err := admin.ListEndOffsets(ctx, topic)
		if err == nil && listed.Error() == nil && len(listed[topic]) == partitions {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%s is not ready: %v, %v", topic, err, listed.Error())
		}
	}
}

// readAll reads a topic from its beginning to its end and returns the records
// by partition and offset. There have to be want of them.
func readAll(t *testing.T, n *node.Node, topic string, want int) []*kgo.Record {
	t.Helper()
	got := readAtLeast(t, n, topic, want)
	if len(got) != want {
		t.Errorf("%s: %d records, want %d", topic, len(got), want)
	}
	return got
}

// readAtLeast waits until a topic has want records, and reads it to the end.
func readAtLeast(t *testing.T, n *node.Node, topic string, want int) []*kgo.Record {
	t.Helper()
	c := oracle(t, n, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var got []*kgo.Record
	for total := want; len(got) < total; {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%s: %d of %d records: %v", topic, len(got), total, err)
		}
		got = append(got, fetches.Records()...)
		if len(got) >= want {
			total = ends(ctx, t, c, topic)
		}
	}
	if total := ends(ctx, t, c, topic); len(got) != total {
		t.Errorf("%s: read %d records, its ends say %d", topic, len(got), total)
	}
	slices.SortFunc(got, func(a, b *kgo.Record) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	return got
}

// ends is the sum of all partitions' ends.
func ends(ctx context.Context, t *testing.T, c *kgo.Client, topic string) int {
	t.Helper()
	listed, err := kadm.NewClient(c).ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	listed.Each(func(o kadm.ListedOffset) { total += o.Offset })
	return int(total)
}

func rowsOf(records []*kgo.Record) []string {
	rows := make([]string, len(records))
	for i, r := range records {
		rows[i] = row(r)
	}
	return rows
}

// wantSamples checks that a topic holds the samples, once and in order.
func wantSamples(t *testing.T, n *node.Node, topic string) {
	t.Helper()
	wantRows(t, topic, rowsOf(readAll(t, n, topic, samples)), sampleRows())
}

func wantRows(t *testing.T, what string, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	t.Errorf("%s: %d records, want %d", what, len(got), len(want))
	for i := range max(len(got), len(want)) {
		g, w := "nothing", "nothing"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("%s: record %d is %s\nwant %s", what, i, g, w)
			return
		}
	}
}

// writeSamples makes a topic with the samples, several batches of every codec,
// for other clients to read.
func writeSamples(t *testing.T, n *node.Node, topic string) {
	t.Helper()
	create(t, n, topic)
	for k, codec := range codecs {
		from, to := k*samples/len(codecs), (k+1)*samples/len(codecs)
		c := oracle(t, n, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(franzCodec(codec)))
		for _, half := range [][2]int{{from, (from + to) / 2}, {(from + to) / 2, to}} {
			produceFranz(t, c, topic, half[0], half[1])
		}
	}
}

// produceFranz writes samples from to to and waits for them.
func produceFranz(t *testing.T, c *kgo.Client, topic string, from, to int) {
	t.Helper()
	var records []*kgo.Record
	for i := from; i < to; i++ {
		r := sample(i)
		r.Topic = topic
		records = append(records, r)
	}
	produceAll(t, c, records)
}

// produceAll waits for its records, but not for ever: an idempotent producer
// would, for a broker that answers nothing.
func produceAll(t *testing.T, c *kgo.Client, records []*kgo.Record) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- c.ProduceSync(t.Context(), records...).FirstErr() }()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatalf("%d records are not acknowledged after %v", len(records), patience)
	}
}

func franzCodec(name string) kgo.CompressionCodec {
	switch name {
	case "gzip":
		return kgo.GzipCompression()
	case "snappy":
		return kgo.SnappyCompression()
	case "lz4":
		return kgo.Lz4Compression()
	case "zstd":
		return kgo.ZstdCompression()
	}
	return kgo.NoCompression()
}
