package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/barnabas-log/barnabas/tests/node"
)

func TestMain(m *testing.M) { node.Main(m) }

const (
	partitions = 4
	keys       = 200                   // Of the compacted topic.
	pace       = 20 * time.Millisecond // Between two batches of a writer: there is to be more than one segment, not gigabytes.
	patience   = 90 * time.Second
)

// A copy of a live directory has every record that was acknowledged before the
// copy began: of topics that are deleted from, whose order and offsets stay,
// and of topics that are compacted at the same time, whose keys stay.
func TestCopyWhileWritten(t *testing.T) {
	t.Parallel()
	f := func(name, durability string, copy func(t *testing.T, from, to string)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range rounds() {
				copyOnce(t, durability, copy)
			}
		})
	}
	f("cp", "fsync", copyFast)
	f("cp from the page cache", "os", copyFast)
	f("slowly", "fsync", copySlowly)
}

func rounds() int {
	n, err := strconv.Atoi(os.Getenv("BARNABAS_ROUNDS"))
	if err != nil {
		return 1
	}
	return max(1, n/50) // Hundreds are asked for where a round takes milliseconds.
}

func copyOnce(t *testing.T, durability string, copy func(t *testing.T, from, to string)) {
	t.Helper()
	n := node.Start(t, "durability="+durability, "log.cleaner.backoff.ms=100")
	w := newWorld(t, n)
	w.run(t, n)
	before := w.acknowledged()
	copied := filepath.Join(t.TempDir(), "copy")
	copy(t, n.Data, copied)
	after := w.acknowledged()
	w.stop()
	if after.plain[0] == before.plain[0] && after.keyed[0] == before.keyed[0] {
		t.Log("nothing was written while it was copied")
	}
	n.Kill()
	restore(t, n, copied)
	w.check(t, n, before)
	n.Stop()
}

// again copies until no file went away meanwhile, as docs/operating/backup.md
// tells to.
func again(t *testing.T, to string, copy func() error) {
	t.Helper()
	for attempt := 1; ; attempt++ {
		err := copy()
		if err == nil {
			return
		}
		t.Logf("attempt %d: %v", attempt, err)
		if attempt == 50 || !strings.Contains(err.Error(), "No such file") && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
	}
}

func copyFast(t *testing.T, from, to string) {
	t.Helper()
	again(t, to, func() error {
		out, err := exec.CommandContext(t.Context(), "cp", "-a", from, to).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// restore puts a copy in the place of a broker's directory and starts it there.
func restore(t *testing.T, n *node.Node, copied string) {
	t.Helper()
	if err := os.RemoveAll(n.Data); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(copied, n.Data); err != nil {
		t.Fatal(err)
	}
	n.Again()
}

// world is a broker under writers.
type world struct {
	client *kgo.Client
	cancel context.CancelFunc
	ended  sync.WaitGroup
	plain  [partitions]atomic.Int64 // Offsets up to which all is acknowledged.
	keyed  [keys]atomic.Int64       // Values acknowledged.
}

// state is what was acknowledged at one time.
type state struct {
	plain [partitions]int64
	keyed [keys]int64
}

func newWorld(t *testing.T, n *node.Node) *world {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(n.Addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	admin := kadm.NewClient(client)
	create := func(topic string, partitions int32, configs ...string) {
		t.Helper()
		set := map[string]*string{"segment.bytes": new("1048576")}
		for _, c := range configs {
			key, value, _ := strings.Cut(c, "=")
			set[key] = &value
		}
		if _, err := admin.CreateTopic(t.Context(), partitions, 1, set, topic); err != nil {
			t.Fatal(err)
		}
	}
	create("plain", partitions)
	create("keyed", 1, "cleanup.policy=compact", "min.cleanable.dirty.ratio=0.01", "min.compaction.lag.ms=0", "file.delete.delay.ms=0")
	return &world{client: client}
}

// run begins to write, and returns when there is something to copy, and files
// are being replaced.
func (w *world) run(t *testing.T, n *node.Node) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w.cancel = cancel
	for p := range partitions {
		w.ended.Go(func() { w.writePlain(ctx, p) })
	}
	w.ended.Go(func() { w.writeKeyed(ctx) })
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if s := w.acknowledged(); s.plain[0] > 3000 && compacted(n) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("too little was written: %v", w.acknowledged())
		}
	}
}

// compacted reports that the first segment of the compacted topic is no longer
// what was written.
func compacted(n *node.Node) bool {
	info, err := os.Stat(filepath.Join(n.Data, "keyed-0", "00000000000000000000.log"))
	return err == nil && info.Size() < 500_000
}

// writePlain writes records whose value is their offset.
func (w *world) writePlain(ctx context.Context, partition int) {
	pad := strings.Repeat(".", 500)
	for next := int64(0); ctx.Err() == nil; time.Sleep(pace) {
		var batch []*kgo.Record
		for range 50 {
			batch = append(batch, &kgo.Record{Topic: "plain", Partition: int32(partition), Value: fmt.Appendf(nil, "%d%s", next, pad)})
			next++
		}
		if w.client.ProduceSync(ctx, batch...).FirstErr() == nil {
			w.plain[partition].Store(next)
		}
	}
}

// writeKeyed writes each key again and again, with a value that rises.
func (w *world) writeKeyed(ctx context.Context) {
	pad := strings.Repeat(".", 500)
	for value := int64(1); ctx.Err() == nil; time.Sleep(pace) {
		var batch []*kgo.Record
		for k := range keys {
			batch = append(batch, &kgo.Record{Topic: "keyed", Key: fmt.Append(nil, k), Value: fmt.Appendf(nil, "%d%s", value, pad)})
		}
		if w.client.ProduceSync(ctx, batch...).FirstErr() != nil {
			continue
		}
		for k := range keys {
			w.keyed[k].Store(value)
		}
		value++
	}
}

func (w *world) acknowledged() (s state) {
	for p := range s.plain {
		s.plain[p] = w.plain[p].Load()
	}
	for k := range s.keyed {
		s.keyed[k] = w.keyed[k].Load()
	}
	return s
}

func (w *world) stop() {
	w.cancel()
	w.ended.Wait()
	w.client.Close()
}

// check reads all that the copy has, and compares it with what was acknowledged
// before the copy began.
func (w *world) check(t *testing.T, n *node.Node, before state) {
	t.Helper()
	var plain [partitions]int64
	readAll(t, n, "plain", func(r *kgo.Record) {
		if r.Offset != plain[r.Partition] || number(r.Value) != r.Offset {
			t.Fatalf("plain-%d: offset %d has %.20s, want offset %d", r.Partition, r.Offset, r.Value, plain[r.Partition])
		}
		plain[r.Partition]++
	})
	for p, end := range plain {
		if end < before.plain[p] {
			t.Errorf("plain-%d ends at %d, %d were acknowledged before the copy", p, end, before.plain[p])
		}
	}
	var keyed [keys]int64
	readAll(t, n, "keyed", func(r *kgo.Record) {
		keyed[number(r.Key)] = number(r.Value)
	})
	for k, value := range keyed {
		if value < before.keyed[k] {
			t.Errorf("key %d has %d, %d was acknowledged before the copy", k, value, before.keyed[k])
		}
	}
}

// readAll reads a topic from its beginning to its end.
func readAll(t *testing.T, n *node.Node, topic string, each func(*kgo.Record)) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(n.Addr), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ends, err := kadm.NewClient(c).ListEndOffsets(ctx, topic)
	if err != nil || ends.Error() != nil {
		t.Fatal(errors.Join(err, ends.Error()))
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) { left[o.Partition] = o.Offset })
	for len(left) > 0 {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%s: left %v: %v", topic, left, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			each(r)
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
		for p, end := range left {
			if end == 0 {
				delete(left, p)
			}
		}
	}
}

func number(b []byte) int64 {
	n, err := strconv.ParseInt(strings.TrimRight(string(b), "."), 10, 64)
	if err != nil {
		return -1
	}
	return n
}
