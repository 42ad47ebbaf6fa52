//go:build linux

package diskpercent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/barnabas-log/barnabas/tests/node"
)

func TestMain(m *testing.M) { node.Main(m) }

const (
	patience = time.Minute
	inside   = "BARNABAS_TEST_NAMESPACE" // Set in the process that has a mount namespace.

	percent = 60
	segment = 4 << 20
	small   = 192 << 20 // Of a file system.
	flood   = 12 * time.Second
)

// enter runs a test once more, in a mount namespace of its own, and reports
// whether this is that one.
func enter(t *testing.T) bool {
	if runtime.GOOS != "linux" {
		node.Missing(t, "a mount namespace (Linux)")
	}
	if os.Getenv(inside) != "" {
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		return true
	}
	again := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	again.Env = append(os.Environ(), inside+"=1")
	again.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := again.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		node.Missing(t, "the right to make a mount namespace (root)")
	}
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "--- SKIP") {
		t.Skip("skipped in its namespace: see above")
	}
	return false
}

// tmpfs makes a file system in memory.
func tmpfs(t *testing.T, bytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// start runs a broker with a data directory on each file system.
func start(t *testing.T, dirs []string, options ...string) (*node.Node, *kadm.Client) {
	t.Helper()
	var paths []string
	for _, d := range dirs {
		paths = append(paths, filepath.Join(d, "data"))
	}
	n := node.Start(t, append(options, "log.dirs="+strings.Join(paths, ","), fmt.Sprint("log.segment.bytes=", segment))...)
	c := client(t, n)
	return n, kadm.NewClient(c)
}

func client(t *testing.T, n *node.Node, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(n.Addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.NoCompression()),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func create(t *testing.T, admin *kadm.Client, topic string, partitions int32) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := admin.CreateTopic(ctx, partitions, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
}

// watch notes the most that a file system ever held, as often as it can.
type watch struct {
	dir  string
	most atomic.Int64
	end  chan struct{}
}

func watchFS(t *testing.T, dir string) *watch {
	w := &watch{dir: dir, end: make(chan struct{})}
	go func() {
		defer close(w.end)
		for t.Context().Err() == nil {
			if used, _ := w.usage(); used > w.most.Load() {
				w.most.Store(used)
			}
			time.Sleep(200 * time.Microsecond)
		}
	}()
	return w
}

func (w *watch) usage() (used, total int64) {
	var st syscall.Statfs_t
	if syscall.Statfs(w.dir, &st) != nil {
		return 0, 0
	}
	return int64(st.Blocks-st.Bfree) * st.Bsize, int64(st.Blocks) * st.Bsize
}

// check: the mark was never passed by more than two segments, and was reached.
func (w *watch) check(t *testing.T) {
	t.Helper()
	_, total := w.usage()
	mark := total * percent / 100
	over := float64(w.most.Load()-mark) / segment
	t.Logf("%s: at most %.2f segments above the mark of %d MiB", w.dir, over, mark>>20)
	if over > 2 {
		t.Errorf("%.2f segments above the mark, two are allowed", over)
	}
	if over < -1 {
		t.Errorf("the mark was not reached: %.2f segments below it", -over)
	}
}

// produce writes to partitions of a topic without end, all at once, and fails
// with the first record that is refused. It returns how many bytes were taken.
func produce(t *testing.T, n *node.Node, topic string, partitions []int32, until time.Time) (bytes int64) {
	t.Helper()
	c := client(t, n, kgo.RecordRetries(0), kgo.MaxBufferedRecords(2000))
	value := make([]byte, 32<<10)
	var taken atomic.Int64
	var failed atomic.Pointer[error]
	for i := 0; time.Now().Before(until) && failed.Load() == nil; i++ {
		c.Produce(t.Context(), &kgo.Record{Topic: topic, Partition: partitions[i%len(partitions)], Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.CompareAndSwap(nil, &err)
				return
			}
			taken.Add(int64(len(value)))
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.Flush(ctx); err != nil {
		t.Error(err)
	}
	if err := failed.Load(); err != nil {
		t.Errorf("produce was refused: %v", *err)
	}
	t.Logf("%s: %d MiB produced", topic, taken.Load()>>20)
	return taken.Load()
}

// read reads a topic from its start to what was its end, while it is written.
func read(t *testing.T, n *node.Node, topic string) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(n.Addr), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), flood/2)
	defer cancel()
	records := 0
	for ctx.Err() == nil {
		f := c.PollFetches(ctx)
		f.EachError(func(_ string, _ int32, err error) {
			// What is read may have gone; then it starts anew.
			if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, kerr.OffsetOutOfRange) {
				t.Errorf("read: %v", err)
			}
		})
		records += f.NumRecords()
	}
	t.Logf("%d records read meanwhile", records)
}

// TestProducerThatNeverStops: produce never fails, and the file system never
// holds more than two segments above the mark.
func TestProducerThatNeverStops(t *testing.T) {
	if !enter(t) {
		return
	}
	dir := tmpfs(t, small)
	n, admin := start(t, []string{dir}, fmt.Sprint("log.retention.disk.percent=", percent))
	create(t, admin, "bulk", 4)
	create(t, admin, "quiet", 1)
	produceSome(t, n, "quiet")
	w := watchFS(t, dir)
	go read(t, n, "bulk")
	until := time.Now().Add(flood)
	if taken := produce(t, n, "bulk", []int32{0, 1, 2, 3}, until); taken < 2*small {
		t.Errorf("only %d bytes were produced: too few to fill anything", taken)
	}
	w.check(t)
	// And after a restart, on a disk that stands at the mark.
	n.Kill()
	n.Again()
	produce(t, n, "bulk", []int32{0, 1, 2, 3}, time.Now().Add(flood/3))
	w.check(t)
}

// produceSome writes a few records that nobody overtakes.
func produceSome(t *testing.T, n *node.Node, topic string) {
	t.Helper()
	c := client(t, n)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for range 10 {
		if err := c.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("some")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// starts are the first offsets of a topic's partitions.
func starts(t *testing.T, admin *kadm.Client, topic string) map[int32]int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	listed, err := admin.ListStartOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	got := map[int32]int64{}
	listed.Each(func(o kadm.ListedOffset) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		got[o.Partition] = o.Offset
	})
	return got
}

// TestTwoFileSystems: each of two data directories is kept below the mark for
// itself.
func TestTwoFileSystems(t *testing.T) {
	if !enter(t) {
		return
	}
	dirs := []string{tmpfs(t, small), tmpfs(t, small)}
	n, admin := start(t, dirs, fmt.Sprint("log.retention.disk.percent=", percent))
	create(t, admin, "x", 2) // One in each.
	where := map[int32]int{}
	for i, d := range dirs {
		for p := range int32(2) {
			if _, err := os.Stat(filepath.Join(d, "data", fmt.Sprint("x-", p))); err == nil {
				where[p] = i
			}
		}
	}
	if len(where) != 2 || where[0] == where[1] {
		t.Fatalf("partitions lie in %v", where)
	}
	watches := []*watch{watchFS(t, dirs[0]), watchFS(t, dirs[1])}
	produce(t, n, "x", []int32{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, time.Now().Add(flood/2))
	watches[where[0]].check(t)
	if got := starts(t, admin, "x"); got[0] == 0 || got[1] != 0 && watches[where[1]].most.Load() < small*percent/100-segment {
		t.Errorf("the logs start at %v", got)
	}
	produce(t, n, "x", []int32{1}, time.Now().Add(flood/2))
	for _, w := range watches {
		w.check(t)
	}
}

// TestDirectoryFails: a file system that breaks takes its own partitions
// offline, and no others.
func TestDirectoryFails(t *testing.T) {
	if !enter(t) {
		return
	}
	f := func(what string, dir string, spoil func()) {
		t.Helper()
		n, admin := start(t, []string{tmpfs(t, small), dir})
		create(t, admin, "x", 2)
		good, bad := int32(0), int32(1)
		if _, err := os.Stat(filepath.Join(dir, "data", "x-0")); err == nil {
			good, bad = bad, good
		}
		c := client(t, n, kgo.RecordRetries(0), kgo.DisableIdempotentWrite())
		put := func(p int32) error {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			return c.ProduceSync(ctx, &kgo.Record{Topic: "x", Partition: p, Value: make([]byte, 10_000)}).FirstErr()
		}
		for _, p := range []int32{good, bad} {
			if err := put(p); err != nil {
				t.Fatal(err)
			}
		}
		spoil()
		until := time.Now().Add(patience)
		for put(bad) == nil && time.Now().Before(until) { // It may take until the next checkpoint.
			time.Sleep(100 * time.Millisecond)
		}
		leaderless(t, admin, what, bad)
		for range 20 {
			if err := put(good); err != nil {
				t.Errorf("%s: the good directory: %v", what, err)
			}
		}
		n.Stop()
	}
	dir := tmpfs(t, small)
	f("read-only", dir, func() {
		// Over what was there: a read-only disk that has lost everything.
		if err := syscall.Mount("tmpfs", filepath.Join(dir, "data"), "tmpfs", syscall.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
	})
	if disk, shutdown := ext4(t); disk != "" {
		f("input and output errors", disk, shutdown)
	}
}

// leaderless waits until clients are told that only one partition has no leader.
func leaderless(t *testing.T, admin *kadm.Client, what string, bad int32) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		m, err := admin.Metadata(ctx, "x")
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		ok := true
		for _, p := range m.Topics["x"].Partitions {
			ok = ok && (p.Leader < 0) == (p.Partition == bad) && (len(p.OfflineReplicas) > 0) == (p.Partition == bad)
		}
		if ok {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// ext4 makes a file system in a file, and returns what breaks it: from then on
// everything fails with an error of input or output. Where that is not possible
// it says so, and returns nothing.
func ext4(t *testing.T) (dir string, shutdown func()) {
	t.Helper()
	image, dir := filepath.Join(t.TempDir(), "image"), t.TempDir()
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 64<<20); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{{"mkfs.ext4", "-q", image}, {"mount", "-o", "loop", image, dir}} {
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("%s: %v: %s", command[0], err, out)
			}
			t.Logf("NOT RUN: a broken ext4: %s: %v: %s", command[0], err, out)
			return "", nil
		}
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, 0) })
	return dir, func() {
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := shutdownFS(f); err != nil {
			t.Fatal(err)
		}
	}
}
