package formats

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/tests/kafka"
	"github.com/barnabas-log/barnabas/tests/node"
)

// Settings by which Kafka and we compact as soon as there is something.
var eager = []string{"log.cleaner.backoff.ms=100", "log.cleaner.min.cleanable.ratio=0.01"}

func kafkaWith(t *testing.T, dir string, further ...string) *kafka.Broker {
	t.Helper()
	var ports [2]int
	for i := range ports {
		var err error
		if ports[i], err = kafka.FreePort(); err != nil {
			t.Fatal(err)
		}
	}
	b, err := kafka.Start(dir, ports[0], kafka.Properties(dir, ports[0], ports[1], further...))
	if errors.Is(err, kafka.ErrMissing) {
		node.Missing(t, "Java or Maven")
	}
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func createCompacted(t *testing.T, addr string) {
	t.Helper()
	compact, size := "compact", "1048576"
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := kadm.NewClient(client(t, addr)).CreateTopic(ctx, 1, 1, map[string]*string{"cleanup.policy": &compact, "segment.bytes": &size}, topic); err != nil {
		t.Fatal(err)
	}
}

// writer produces keyed records and remembers the last of each key.
type writer struct {
	t    *testing.T
	rng  *rand.Rand
	last map[string]string
	n    int
}

// batch makes some records; tombstones have no value.
func (w *writer) batch(tombstones bool) (batch []*kgo.Record) {
	for range 1 + w.rng.IntN(8) {
		r := &kgo.Record{Key: fmt.Appendf(nil, "key-%d", w.rng.IntN(150))}
		if !tombstones || w.rng.IntN(5) > 0 {
			r.Value = fmt.Appendf(nil, "value %d %*s", w.n, w.rng.IntN(3000), "")
		}
		if w.rng.IntN(4) == 0 {
			r.Headers = []kgo.RecordHeader{{Key: "h", Value: []byte("x")}}
		}
		w.n++
		batch = append(batch, r)
	}
	return batch
}

func (w *writer) keep(batch []*kgo.Record) {
	for _, r := range batch {
		if delete(w.last, string(r.Key)); r.Value != nil {
			w.last[string(r.Key)] = string(r.Value)
		}
	}
}

// write produces some megabytes in turns: without a producer id, idempotently,
// and, where the broker can, in transactions, a third of which are aborted.
func (w *writer) write(addr string, codec kgo.CompressionCodec, tombstones, transactions bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	opts := []kgo.Opt{kgo.ProducerBatchCompression(codec), kgo.DefaultProduceTopic(topic)}
	plain := client(w.t, addr, append(opts, kgo.DisableIdempotentWrite())...)
	for round := range 4 {
		same := client(w.t, addr, opts...)
		txn := client(w.t, addr, append(opts, kgo.TransactionalID(fmt.Sprint("writer-", round)))...)
		for i := range 250 {
			b := w.batch(tombstones)
			switch {
			case transactions && i%3 == 2:
				w.transaction(ctx, txn, b)
				continue
			case i%3 == 1:
				w.produce(ctx, same, b)
			default:
				w.produce(ctx, plain, b)
			}
			w.keep(b)
		}
		same.Close()
		txn.Close()
	}
}

func (w *writer) produce(ctx context.Context, c *kgo.Client, b []*kgo.Record) {
	w.t.Helper()
	if err := c.ProduceSync(ctx, b...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *writer) transaction(ctx context.Context, c *kgo.Client, b []*kgo.Record) {
	w.t.Helper()
	if err := c.BeginTransaction(); err != nil {
		w.t.Fatal(err)
	}
	w.produce(ctx, c, b)
	commit := w.rng.IntN(3) > 0
	if err := c.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
		w.t.Fatal(err)
	}
	if commit {
		w.keep(b)
	}
}

// expect reads all that is committed and finds the last value of each key, at
// ascending offsets. It returns how many records there are.
func (w *writer) expect(addr string) (n int) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	cl := client(w.t, addr, kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListCommittedOffsets(ctx, topic)
	if err != nil {
		w.t.Fatal(err)
	}
	end, _ := ends.Lookup(topic, 0)
	// One more record, so that the reader knows when it has seen all before.
	fence := &kgo.Record{Topic: topic, Key: []byte("fence"), Value: fmt.Append(nil, w.n)}
	w.n++
	if err := cl.ProduceSync(ctx, fence).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
	w.keep([]*kgo.Record{fence})
	got, at := map[string]string{}, int64(-1)
	for at < end.Offset {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			w.t.Fatalf("after %d records: %v", n, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset <= at {
				w.t.Fatalf("offset %d after %d", r.Offset, at)
			}
			at = r.Offset
			n++
			if delete(got, string(r.Key)); r.Value != nil {
				got[string(r.Key)] = string(r.Value)
			}
			if r.Offset >= end.Offset {
				at = end.Offset
			}
		})
	}
	for k, v := range w.last {
		if got[k] != v {
			w.t.Errorf("%s is %.20q, want %.20q", k, got[k], v)
		}
	}
	if len(got) != len(w.last) {
		w.t.Errorf("%d keys, want %d", len(got), len(w.last))
	}
	return n
}

// cleanedTo is what the cleaner's checkpoint says of the topic, -1 if nothing.
func cleanedTo(t *testing.T, data string) int64 {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(data, "cleaner-offset-checkpoint"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, topic+" 0 "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return -1
}

// awaitCleaned waits until all sealed segments are compacted.
func awaitCleaned(t *testing.T, data string) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		bases := segments(t, filepath.Join(data, topic+"-0"))
		if at := cleanedTo(t, data); at > 0 && at == bases[len(bases)-1] {
			return
		}
	}
	t.Fatalf("compacted up to %d, segments at %v", cleanedTo(t, data), segments(t, filepath.Join(data, topic+"-0")))
}

// segments are the base offsets of the segments in a directory.
func segments(t *testing.T, dir string) (bases []int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		n, err := strconv.ParseInt(strings.TrimSuffix(filepath.Base(f), ".log"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		bases = append(bases, n)
	}
	slices.Sort(bases)
	return bases
}

// put copies a data directory to where a broker will look for it.
func put(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// TestCompactsLikeKafka gives the same directory, written by Kafka with
// transactions and tombstones, to Kafka and to us to compact. What is left is
// the same: the same segments, of the same batches, byte by byte but for the
// time of a delete horizon.
func TestCompactsLikeKafka(t *testing.T) {
	dir := t.TempDir()
	b := kafkaWith(t, dir, "log.cleaner.enable=false")
	createCompacted(t, b.Addr)
	w := &writer{t: t, rng: rand.New(rand.NewPCG(7, 7)), last: map[string]string{}}
	w.write(b.Addr, kgo.NoCompression(), true, true)
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
	before := filepath.Join(dir, "data")
	if n := len(segments(t, filepath.Join(before, topic+"-0"))); n < 4 {
		t.Fatalf("%d segments", n)
	}

	theirs := t.TempDir()
	put(t, before, filepath.Join(theirs, "data"))
	b = kafkaWith(t, theirs, eager...)
	awaitCleaned(t, filepath.Join(theirs, "data"))
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}

	n := node.Start(t, eager...)
	n.Stop()
	put(t, before, n.Data)
	n.Again()
	awaitCleaned(t, n.Data)
	n.Stop()

	checkCompacted(t, filepath.Join(theirs, "data", topic+"-0"))
	checkCompacted(t, filepath.Join(n.Data, topic+"-0"))
	sameSegments(t, filepath.Join(theirs, "data", topic+"-0"), filepath.Join(n.Data, topic+"-0"))
	n.Again()
	w.expect(n.Addr)
}

// sameSegments compares two compacted logs.
func sameSegments(t *testing.T, theirs, ours string) {
	t.Helper()
	want, got := segments(t, theirs), segments(t, ours)
	if !slices.Equal(got, want) {
		t.Fatalf("segments at %v, Kafka has them at %v", got, want)
	}
	batches, horizons, empty, identical := 0, 0, 0, 0
	for _, base := range want {
		name := fmt.Sprintf("%020d", base)
		a, b := readBatches(t, filepath.Join(theirs, name+".log")), readBatches(t, filepath.Join(ours, name+".log"))
		if len(a) != len(b) {
			t.Fatalf("segment %d has %d batches, Kafka's has %d", base, len(b), len(a))
		}
		for i := range a {
			batches++
			if a[i].Count() == 0 {
				empty++
			}
			switch {
			case bytes.Equal(a[i], b[i]):
				identical++
			case a[i].HasDeleteHorizon():
				horizons++
				if x, y := describe(t, a[i]), describe(t, b[i]); x != y {
					t.Errorf("segment %d:\n%s\nKafka:\n%s", base, y, x)
				}
			default:
				t.Errorf("segment %d: batch at %d\n     %x\nKafka %x", base, b[i].BaseOffset(), b[i], a[i])
			}
		}
		for _, suffix := range []string{".txnindex", ".index", ".timeindex"} {
			x, errx := os.ReadFile(filepath.Join(theirs, name+suffix))
			y, erry := os.ReadFile(filepath.Join(ours, name+suffix))
			if len(x) == 0 && len(y) == 0 && suffix == ".txnindex" {
				continue // Kafka leaves empty ones.
			}
			if base != want[len(want)-1] && (errx != nil || erry != nil || !bytes.Equal(x, y)) {
				t.Errorf("%s%s: %v %v\n     %x\nKafka %x", name, suffix, errx, erry, y, x)
			}
		}
	}
	t.Logf("%d batches: %d identical, %d with another delete horizon, %d empty", batches, identical, horizons, empty)
	if horizons == 0 || empty == 0 || identical < batches/2 {
		t.Error("it does not test what it should")
	}
}

func readBatches(t *testing.T, file string) (list []record.Batch) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		if err != nil || batch.CRC() != batch.ComputeCRC() {
			t.Fatalf("%s: %v", file, err)
		}
		list = append(list, batch)
		b = rest
	}
	return list
}

// describe says everything of a batch but when its delete horizon is.
func describe(t *testing.T, b record.Batch) string {
	t.Helper()
	s := fmt.Sprintf("[%d,%d] epoch %d attributes %b max %d producer %d/%d/%d count %d", b.BaseOffset(), b.LastOffset(), b.LeaderEpoch(),
		b.Attributes(), b.MaxTimestamp(), b.ProducerID(), b.ProducerEpoch(), b.BaseSequence(), b.Count())
	for r, err := range b.Records(0) {
		if err != nil {
			t.Fatal(err)
		}
		s += fmt.Sprintf("\n%d %d %q %q %v", r.Offset, r.Timestamp, r.Key, r.Value, r.Headers)
	}
	return s
}

// TestKafkaReadsCompacted: what we compacted Kafka's tools check, and a Kafka
// broker serves and compacts again; then it is ours once more.
func TestKafkaReadsCompacted(t *testing.T) {
	n := node.Start(t, eager...)
	createCompacted(t, n.Addr)
	w := &writer{t: t, rng: rand.New(rand.NewPCG(8, 8)), last: map[string]string{}}
	for _, codec := range []kgo.CompressionCodec{kgo.NoCompression(), kgo.ZstdCompression(), kgo.Lz4Compression(), kgo.SnappyCompression(), kgo.GzipCompression()} {
		w.write(n.Addr, codec, true, false)
	}
	awaitCleaned(t, n.Data)
	left := w.expect(n.Addr)
	if left > w.n/2 {
		t.Errorf("%d of %d records left", left, w.n)
	}
	n.Stop()
	checkCompacted(t, filepath.Join(n.Data, topic+"-0"))

	at := cleanedTo(t, n.Data)
	k := kafkaWith(t, filepath.Dir(n.Data), eager...)
	w.expect(k.Addr)
	w.write(k.Addr, kgo.NoCompression(), true, true)
	awaitCleaned(t, n.Data)
	w.expect(k.Addr)
	if err := k.Stop(); err != nil {
		t.Fatal(err)
	}
	if now := cleanedTo(t, n.Data); now <= at {
		t.Errorf("Kafka compacted up to %d, we up to %d", now, at)
	}
	n.Again()
	w.expect(n.Addr)
	w.write(n.Addr, kgo.ZstdCompression(), true, false)
	awaitCleaned(t, n.Data)
	w.expect(n.Addr)
}

// checkCompacted lets Kafka's DumpLogSegments read every file.
func checkCompacted(t *testing.T, dir string) {
	t.Helper()
	var files []string
	for _, pattern := range []string{"*.log", "*.index", "*.timeindex"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(found) == 0 {
			t.Fatal(pattern, err)
		}
		files = append(files, found...)
	}
	for _, flags := range [][]string{{"--index-sanity-check"}, {"--verify-index-only"}, {"--deep-iteration"}} {
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
		// Kafka's tool does not expect the batches without records that Kafka's
		// cleaner leaves: see sameSegments.
		said := strings.ReplaceAll(string(out), "Found timestamp mismatch in :", "")
		for line := range strings.Lines(said) {
			if strings.Contains(line, "Index timestamp:") && !strings.HasSuffix(line, "log timestamp: -1\n") {
				t.Errorf("%v says %s", flags, line)
			}
		}
		for _, bad := range []string{"isvalid: false", "Index position", "mismatch", "corrupt", "Exception", "out of order"} {
			if at := strings.Index(said, bad); at >= 0 {
				t.Errorf("%v says %.500q", flags, said[max(0, at-200):])
			}
		}
	}
}
