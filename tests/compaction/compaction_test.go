package compaction

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/barnabas-log/barnabas/tests/node"
)

func TestMain(m *testing.M) { node.Main(m) }

const (
	topic = "keys"
	// recordBytes is what a record takes in the log: each key is written twice.
	recordBytes = 86
	// mapBytes is log.cleaner.dedupe.buffer.size, and slack what a broker may need
	// besides.
	mapBytes = 128 << 20
	slack    = 160 << 20
)

// size is how many bytes the topic gets: 8 GiB hold 50 million keys.
func size(t *testing.T) int64 {
	t.Helper()
	if s := os.Getenv("BARNABAS_SLOW_BYTES"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if os.Getenv("BARNABAS_SLOW") == "" {
		return 24 << 20
	}
	return 8 << 30
}

func client(t *testing.T, addr string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(addr))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestManyKeys writes each key twice, half of them in another order, compacts
// with a map that holds a fraction of them, and finds each key once, with what
// was written last. The memory does not depend on how many keys there are.
func TestManyKeys(t *testing.T) {
	bytes := size(t)
	keys := uint64(bytes / 2 / recordBytes)
	// As many passes as with 8 GiB and Kafka's default.
	buffer := max(2<<20, min(mapBytes, bytes/64))
	n := node.Start(t, fmt.Sprintf("log.cleaner.dedupe.buffer.size=%d", buffer), "log.cleaner.backoff.ms=100",
		"log.cleaner.min.cleanable.ratio=0", fmt.Sprintf("log.segment.bytes=%d", max(1<<20, min(1<<30, bytes/16))), "log.segment.delete.delay.ms=0")
	admin := kadm.NewClient(client(t, n.Addr))
	if _, err := admin.CreateTopic(t.Context(), 1, 1, map[string]*string{"durability": kadm.StringPtr("os")}, topic); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	write(t, n.Addr, keys)
	seal(t, n.Addr, admin)
	dir := filepath.Join(n.Data, topic+"-0")
	t.Logf("%d keys, %d MiB written in %v", keys, du(t, dir)>>20, time.Since(began).Round(time.Second))

	resetPeak(t, n.PID())
	compact := kadm.AlterConfig{Op: kadm.SetConfig, Name: "cleanup.policy", Value: kadm.StringPtr("compact")}
	if _, err := admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{compact}, topic); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	await(t, n.Data, dir)
	took := time.Since(began)
	peak := peakBytes(t, n.PID())
	t.Logf("compacted to %d MiB in %v, at most %d MiB of memory, %d MiB of them for keys", du(t, dir)>>20, took.Round(time.Second), peak>>20, buffer>>20)
	if peak > buffer+slack {
		t.Errorf("%d MiB of memory", peak>>20)
	}
	read(t, n.Addr, keys)
}

// place spreads the second round of keys.
func place(i, keys uint64) uint64 { return i * 2654435761 % keys }

// coprime makes place a permutation.
func coprime(keys uint64) uint64 {
	for keys%2654435761 == 0 {
		keys--
	}
	return keys
}

func value(key uint64, round byte) []byte {
	v := make([]byte, 64)
	binary.BigEndian.PutUint64(v, ^key)
	v[63] = round
	return v
}

// write produces every key with round 1, and then, in another order, with
// round 2.
func write(t *testing.T, addr string, keys uint64) {
	t.Helper()
	keys = coprime(keys)
	cl := client(t, addr, kgo.DefaultProduceTopic(topic), kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.LeaderAck()),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(1000_000), kgo.MaxBufferedRecords(100_000), kgo.ProducerLinger(5*time.Millisecond))
	failed := make(chan error, 1)
	done := func(_ *kgo.Record, err error) {
		if err != nil {
			select {
			case failed <- err:
			default:
			}
		}
	}
	for round := range byte(2) {
		for i := range keys {
			k := i
			if round == 1 {
				k = place(i, keys)
			}
			cl.Produce(t.Context(), &kgo.Record{Key: binary.BigEndian.AppendUint64(nil, k), Value: value(k, round+1)}, done)
		}
	}
	if err := cl.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-failed:
		t.Fatal(err)
	default:
	}
}

// seal closes the last segment.
func seal(t *testing.T, addr string, admin *kadm.Client) {
	t.Helper()
	old := kadm.AlterConfig{Op: kadm.SetConfig, Name: "segment.ms", Value: kadm.StringPtr("1")}
	if _, err := admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{old}, topic); err != nil {
		t.Fatal(err)
	}
	r := &kgo.Record{Key: []byte("end"), Value: []byte{}, Timestamp: time.Now().Add(time.Minute)}
	if err := client(t, addr, kgo.DefaultProduceTopic(topic)).ProduceSync(t.Context(), r).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// read finds each key once.
func read(t *testing.T, addr string, keys uint64) {
	t.Helper()
	keys = coprime(keys)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	cl := client(t, addr, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}), kgo.FetchMaxPartitionBytes(8<<20))
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup(topic, 0)
	seen := make([]byte, keys)
	for at := int64(-1); at < end.Offset-1; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset <= at {
				t.Fatalf("offset %d after %d", r.Offset, at)
			}
			at = r.Offset
			if len(r.Key) != 8 {
				return
			}
			k := binary.BigEndian.Uint64(r.Key)
			if k >= keys || string(r.Value) != string(value(k, r.Value[63])) {
				t.Fatalf("record %d is not one", r.Offset)
			}
			seen[k] |= r.Value[63]
		})
	}
	wrong := 0
	for k, rounds := range seen {
		if rounds != 2 {
			if wrong++; wrong < 10 {
				t.Errorf("key %d: rounds %b", k, rounds)
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d keys are wrong", wrong, keys)
	}
}

// await waits until everything that is sealed is compacted.
func await(t *testing.T, data, dir string) {
	t.Helper()
	for end := time.Now().Add(2 * time.Hour); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		b, err := os.ReadFile(filepath.Join(data, "cleaner-offset-checkpoint"))
		if err != nil {
			continue
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.log"))
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		slices.Sort(files)
		active, err := strconv.ParseInt(strings.TrimSuffix(filepath.Base(files[len(files)-1]), ".log"), 10, 64)
		if err == nil && strings.Contains(string(b), fmt.Sprintf("%s 0 %d\n", topic, active)) {
			return
		}
	}
	t.Fatal("not compacted after two hours")
}

// du is how many bytes the segments in a directory have.
func du(t *testing.T, dir string) (n int64) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if info, err := os.Stat(f); err == nil {
			n += info.Size()
		}
	}
	return n
}

// resetPeak forgets how much memory a process had at most.
func resetPeak(t *testing.T, pid int) {
	t.Helper()
	if node.Peer() {
		return
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		node.Missing(t, "/proc")
	}
}

// peakBytes is how much memory a process had at most since resetPeak.
func peakBytes(t *testing.T, pid int) int64 {
	t.Helper()
	if node.Peer() {
		return 0
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}
