// Package formats holds our files against a real Apache Kafka: its tools read
// them, its broker serves them, and we take over what it wrote.
//
// It must never know how the files are made.
package formats

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/barnabas-log/barnabas/tests/kafka"
	"github.com/barnabas-log/barnabas/tests/node"
)

func TestMain(m *testing.M) { node.Main(m) }

const (
	topic    = "letters"
	records  = 600
	patience = 2 * time.Minute
)

// settings make a topic of several segments and dense indexes.
var settings = map[string]string{"segment.bytes": "1048576", "index.interval.bytes": "300"}

func client(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(addr))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func create(t *testing.T, addr string) {
	t.Helper()
	configs := map[string]*string{}
	for k, v := range settings {
		configs[k] = &v
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := kadm.NewClient(client(t, addr)).CreateTopic(ctx, 1, 1, configs, topic); err != nil {
		t.Fatal(err)
	}
}

func value(i int) string { return fmt.Sprintf("letter %d %s", i, strings.Repeat("x", i*17%9000)) }

// produce writes the letters with every codec in turn.
func produce(t *testing.T, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(), kgo.NoCompression()}
	share := records / len(codecs)
	for c, codec := range codecs {
		cl := client(t, addr, kgo.ProducerBatchCompression(codec), kgo.DefaultProduceTopic(topic))
		for i := c * share; i < (c+1)*share; i += 5 {
			var batch []*kgo.Record
			for k := range 5 {
				batch = append(batch, &kgo.Record{Key: fmt.Append(nil, i+k), Value: []byte(value(i + k))})
			}
			if err := cl.ProduceSync(ctx, batch...).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// consume reads the letters back, each in its place.
func consume(t *testing.T, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cl := client(t, addr, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	for n := 0; n < records; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d records: %v", n, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if string(r.Value) != value(n) || r.Offset != int64(n) {
				t.Fatalf("record %d has offset %d and begins %.20q", n, r.Offset, r.Value)
			}
			n++
		})
	}
}

func startKafka(t *testing.T, dir string) *kafka.Broker {
	t.Helper()
	port, err := kafka.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	controller, err := kafka.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	b, err := kafka.Start(dir, port, kafka.Properties(dir, port, controller))
	if errors.Is(err, kafka.ErrMissing) {
		node.Missing(t, "Java or Maven")
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestKafkaReadsOurs lets Kafka's DumpLogSegments check a partition of ours,
// and a Kafka broker serve it after a crash, which makes it read every batch.
func TestKafkaReadsOurs(t *testing.T) {
	n := node.Start(t)
	create(t, n.Addr)
	produce(t, n.Addr)
	consume(t, n.Addr)
	n.Stop()
	ours := filepath.Join(n.Data, topic+"-0")
	t.Run("tools", func(t *testing.T) { dump(t, ours) })
	t.Run("broker", func(t *testing.T) { serve(t, ours) })
}

func dump(t *testing.T, dir string) {
	var files []string
	for _, pattern := range []string{"*.log", "*.index", "*.timeindex", "*.snapshot"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(found) == 0 {
			t.Fatal(pattern, err)
		}
		files = append(files, found...)
	}
	for _, flags := range [][]string{{"--index-sanity-check"}, {"--verify-index-only"}, {"--deep-iteration", "--print-data-log"}} {
		cmd, err := kafka.Java(kafka.Tools, "org.apache.kafka.tools.DumpLogSegments", append([]string{"--files", strings.Join(files, ",")}, flags...)...)
		if errors.Is(err, kafka.ErrMissing) {
			node.Missing(t, "Java or Maven")
		}
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, bad := range []string{"isvalid: false", "Index position", "mismatch", "corrupt", "Non-consecutive", "Exception", "Found timestamp"} {
			if strings.Contains(string(out), bad) {
				t.Errorf("%v says %q", flags, bad)
			}
		}
		if flags[0] == "--deep-iteration" && strings.Count(string(out), "payload: letter ") != records {
			t.Errorf("%d records, want %d", strings.Count(string(out), "payload: letter "), records)
		}
	}
}

// serve puts our files in the place of a topic's of Kafka, under its topic id.
func serve(t *testing.T, ours string) {
	dir := t.TempDir()
	b := startKafka(t, dir)
	create(t, b.Addr)
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
	theirs := filepath.Join(dir, "data", topic+"-0")
	id, err := os.ReadFile(filepath.Join(theirs, "partition.metadata"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(theirs); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(theirs, os.DirFS(ours)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(theirs, "partition.metadata"), id, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "data", ".kafka_cleanshutdown")); err != nil {
		t.Fatal(err)
	}
	b = startKafka(t, dir)
	consume(t, b.Addr)
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
}

// TestTakeOver gives the whole data directory of a Kafka to us: after a clean
// shutdown, and after a kill.
func TestTakeOver(t *testing.T) {
	t.Run("clean", func(t *testing.T) { takeOver(t, (*kafka.Broker).Stop) })
	t.Run("killed", func(t *testing.T) { takeOver(t, (*kafka.Broker).Kill) })
}

func takeOver(t *testing.T, end func(*kafka.Broker) error) {
	dir := t.TempDir()
	b := startKafka(t, dir)
	create(t, b.Addr)
	produce(t, b.Addr)
	if err := end(b); err != nil {
		t.Fatal(err)
	}
	n := node.Start(t)
	n.Stop()
	if err := os.RemoveAll(n.Data); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(n.Data, os.DirFS(filepath.Join(dir, "data"))); err != nil {
		t.Fatal(err)
	}
	n.Again()
	consume(t, n.Addr)
	n.Stop()
	n.Again()
	consume(t, n.Addr)
}

// TestKafkaTakesOver starts a real Kafka on a whole data directory of ours,
// metadata log included: whoever tries Barnabas can go back. Then Barnabas
// takes the directory over again.
func TestKafkaTakesOver(t *testing.T) {
	n := node.Start(t)
	create(t, n.Addr)
	produce(t, n.Addr)
	n.Stop()
	k := startKafka(t, filepath.Dir(n.Data))
	consume(t, k.Addr)
	cl := client(t, k.Addr, kgo.DefaultProduceTopic(topic))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := cl.ProduceSync(ctx, &kgo.Record{Value: []byte(value(records))}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := k.Stop(); err != nil {
		t.Fatal(err)
	}
	n.Again()
	consume(t, n.Addr)
	ends, err := kadm.NewClient(client(t, n.Addr)).ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	if end, _ := ends.Lookup(topic, 0); end.Offset != records+1 {
		t.Errorf("the log ends at %d, want %d", end.Offset, records+1)
	}
}
