package diskfull

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"runtime"
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
	size     = "64m"
	inside   = "BARNABAS_TEST_NAMESPACE" // Set in the process that has a mount namespace.
)

func TestDiskFull(t *testing.T) {
	if runtime.GOOS != "linux" {
		node.Missing(t, "a mount namespace (Linux)")
	}
	if os.Getenv(inside) == "" {
		enter(t)
		return
	}
	mount(t)
	scenario(t)
}

// enter runs this test once more, in a mount namespace of its own.
func enter(t *testing.T) {
	again := exec.Command(os.Args[0], "-test.run=^TestDiskFull$", "-test.v")
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
}

// mount puts the test's temporary directory on a small tmpfs.
func mount(t *testing.T) {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "barnabas-full-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) })
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	// The first TempDir decides where all of them are; binaries are built
	// elsewhere.
	old := os.Getenv("TMPDIR")
	if err := os.Setenv("TMPDIR", dir); err != nil {
		t.Fatal(err)
	}
	t.TempDir()
	if err := os.Setenv("TMPDIR", old); err != nil {
		t.Fatal(err)
	}
}

func scenario(t *testing.T) {
	n := node.Start(t)
	w := newWriter(t, n)
	w.create("bulk")
	w.create("other")
	w.mustProduce("other", 100, 1000)

	w.fill("bulk")
	w.check("bulk")
	w.check("other")
	w.delete("bulk")
	w.produceAgain("other")

	w.create("more")
	w.fill("more")
	n.Kill() // Full as it is.
	n.Again()
	w.check("more")
	w.check("other")
	w.delete("more")
	w.produceAgain("other")
	n.Stop()
	n.Again()
	w.check("other")
}

// writer produces without retries and remembers what was acknowledged.
type writer struct {
	t      *testing.T
	n      *node.Node
	c      *kgo.Client
	admin  *kadm.Client
	acked  map[string]map[int64][]byte
	number uint64
}

func newWriter(t *testing.T, n *node.Node) *writer {
	c, err := kgo.NewClient(kgo.SeedBrokers(n.Addr), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.DisableIdempotentWrite(), kgo.RecordRetries(0), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &writer{t: t, n: n, c: c, admin: kadm.NewClient(c), acked: map[string]map[int64][]byte{}}
}

func (w *writer) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(w.t.Context(), patience)
}

func (w *writer) create(topic string) {
	w.t.Helper()
	ctx, cancel := w.context()
	defer cancel()
	if _, err := w.admin.CreateTopic(ctx, 1, 1, nil, topic); err != nil {
		w.t.Fatal(err)
	}
	w.acked[topic] = map[int64][]byte{}
}

func (w *writer) delete(topic string) {
	w.t.Helper()
	ctx, cancel := w.context()
	defer cancel()
	if r, err := w.admin.DeleteTopic(ctx, topic); err != nil || r.Err != nil {
		w.t.Fatal(err, r.Err)
	}
}

func (w *writer) produce(topic string, bytesEach int) error {
	w.number++
	value := bytes.Repeat(binary.BigEndian.AppendUint64(nil, w.number), bytesEach/8)
	ctx, cancel := w.context()
	defer cancel()
	r, err := w.c.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: value}).First()
	if err == nil {
		w.acked[topic][r.Offset] = value
	}
	return err
}

func (w *writer) mustProduce(topic string, times, bytesEach int) {
	w.t.Helper()
	for range times {
		if err := w.produce(topic, bytesEach); err != nil {
			w.t.Fatal(err)
		}
	}
}

// fill produces until the disk is full, and no other error comes; small records
// come last, so that next to nothing is left.
func (w *writer) fill(topic string) {
	w.t.Helper()
	for _, each := range []int{900_000, 8000, 200} {
		for refused := 0; refused < 3; {
			err := w.produce(topic, each)
			switch {
			case errors.Is(err, kerr.KafkaStorageError):
				refused++
			case err != nil:
				w.t.Fatalf("%d bytes: %v", each, err)
			}
		}
	}
	w.t.Logf("%s: full after %d records", topic, len(w.acked[topic]))
	if len(w.acked[topic]) < 20 {
		w.t.Error("full too early")
	}
}

// produceAgain waits until produce works, which must not take a restart, nor
// file.delete.delay.ms, which is a minute.
func (w *writer) produceAgain(topic string) {
	w.t.Helper()
	end := time.Now().Add(patience / 2)
	for done := 0; done < 20; {
		err := w.produce(topic, 900_000)
		switch {
		case err == nil:
			done++
		case !errors.Is(err, kerr.KafkaStorageError) && !errors.Is(err, kgo.ErrRecordRetries) || time.Now().After(end):
			w.t.Fatalf("after a topic was deleted: %v", err)
		default:
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// check reads a topic: every acknowledged record is there.
func (w *writer) check(topic string) {
	w.t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(w.n.Addr), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		topic: {0: kgo.NewOffset().AtStart()},
	}))
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := w.context()
	defer cancel()
	missing := make(map[int64][]byte, len(w.acked[topic]))
	for o, v := range w.acked[topic] {
		missing[o] = v
	}
	for len(missing) > 0 {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			w.t.Fatalf("%s: %d records missing: %v", topic, len(missing), err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if want, ok := missing[r.Offset]; ok && !bytes.Equal(r.Value, want) {
				w.t.Errorf("%s: another value at offset %d", topic, r.Offset)
			}
			delete(missing, r.Offset)
		})
	}
}
