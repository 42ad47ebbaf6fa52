package replicas

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

func (w *world) offlineTopic() *config.Topic {
	w.t.Helper()
	b, _, err := config.Load(config.Sources{Flags: map[string]string{"log.dirs": "/a"}, MemoryBytes: 1 << 30})
	w.ok(err)
	c, err := config.ResolveTopic(b, map[string]string{"cleanup.policy": "compact", "durability": "os", "internal.segment.bytes": "4000", "index.interval.bytes": "100"})
	w.ok(err)
	return &c
}

func (w *world) offline(dir string) *Offline {
	w.t.Helper()
	o, err := OpenOffline(w.fs, dir, w.offlineTopic())
	w.ok(err)
	return o
}

// stop ends the node cleanly.
func (w *world) stop() {
	w.t.Helper()
	w.ok(w.Close(3))
	w.Replicas = nil
}

// TestCompactOffline: what was compacted while the node was down is found
// compacted, and durable, after a clean stop, after a kill, and where Kafka's
// checkpoints count because there are no marks.
func TestCompactOffline(t *testing.T) {
	f := func(name string, end func(w *world)) {
		t.Helper()
		mem := vfs.NewMem()
		w := newWorld(t, mem)
		w.start()
		w.create("x", 1, compacted...)
		w.fill("x", 100, 7)
		w.put("x", "k3")
		w.flush()
		w.ok(w.disks[0].checkpointCommitted())
		end(w)
		o := w.offline("/a/x-0")
		if _, err := OpenOffline(w.fs, "/a/x-0", w.offlineTopic()); !errors.Is(err, vfs.ErrLocked) {
			t.Errorf("%s: opened twice: %v", name, err)
		}
		sum, passes, err := o.Compact(t.Context(), w.now, w.tools())
		if err != nil || passes != 1 || sum.End != 101 || sum.RecordsKept != 7 || sum.Freed <= 0 {
			t.Errorf("%s: %d passes, %+v, %v", name, passes, sum, err)
		}
		w.ok(o.Close())
		for _, n := range w.files("/a/x-0") {
			if strings.HasSuffix(n, ".deleted") {
				t.Errorf("%s: %s is left", name, n)
			}
		}
		w.fs = mem.CrashClone(rand.New(rand.NewPCG(1, 2))) // All of it is durable.
		w.start()
		if k := w.keys("x"); len(k) != 7 || !slices.Equal(k["k3"], []model.Offset{100}) || !slices.Equal(k["k0"], []model.Offset{98}) {
			t.Errorf("%s: %v", name, k)
		}
		if w.disks[0].cleanedTo(model.Partition{Topic: "x"}) != 101 {
			t.Errorf("%s: compacted up to %d", name, w.disks[0].cleanedTo(model.Partition{Topic: "x"}))
		}
		w.fill("x", 100, 7)
		w.part("x", 0).Log().Roll()
		if w.compact() != 1 {
			t.Errorf("%s: not compacted again", name)
		}
	}
	f("stopped", func(w *world) { w.stop() })
	f("killed", func(w *world) { w.drop() })
	f("killed with marks", func(w *world) { w.mark(); w.drop() })
	f("of Kafka", func(w *world) {
		w.stop()
		w.ok(w.fs.Remove("/a/" + datadir.MarksFile))
	})
}

// TestCompactOfflineCommitted: what only this replica is known to have stays as
// it is, and so do the records that it would replace.
func TestCompactOfflineCommitted(t *testing.T) {
	w := newWorld(t, vfs.NewMem())
	w.start()
	w.create("x", 1, compacted...)
	w.fill("x", 100, 7)
	p := model.Partition{Topic: "x"}
	w.stop()
	d, err := datadir.OpenAsIs(w.fs, "/a")
	w.ok(err)
	w.ok(d.WriteCheckpoint(datadir.HighWatermarkFile, datadir.Offsets{p: 50}))
	w.ok(d.Close())
	o := w.offline("/a/x-0")
	sum, _, err := o.Compact(t.Context(), w.now, w.tools())
	if err != nil || sum.End > 50 || sum.End < 30 {
		t.Errorf("%+v %v", sum, err)
	}
	w.ok(o.Close())
}

// TestCompactOfflineStopped: one that is stopped half way leaves a sound log,
// and is done the next time.
func TestCompactOfflineStopped(t *testing.T) {
	w := newWorld(t, vfs.NewMem())
	w.start()
	w.create("x", 1, compacted...)
	w.fill("x", 200, 100)
	w.stop()
	o := w.offline("/a/x-0")
	ctx, cancel := context.WithCancel(t.Context())
	tools := w.tools()
	n := 0
	tools.Pace = func(ctx context.Context, _ int) error {
		if n++; n == 30 {
			cancel()
		}
		return ctx.Err()
	}
	if _, _, err := o.Compact(ctx, w.now, tools); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	w.ok(o.Close())
	r, err := commitlog.Verify(w.fs, "/a/x-0")
	if err != nil || len(r.Problems) > 0 {
		t.Errorf("%v %v", r.Problems, err)
	}
	o = w.offline("/a/x-0")
	if sum, _, err := o.Compact(t.Context(), w.now, w.tools()); err != nil || sum.End != 200 {
		t.Errorf("%+v %v", sum, err)
	}
	w.ok(o.Close())
	w.start()
	if w.records("x") != 100 {
		t.Errorf("%d records", w.records("x"))
	}
}

// TestOfflineRefuses: what is no log, what has no keys, what a broker has.
func TestOfflineRefuses(t *testing.T) {
	w := newWorld(t, vfs.NewMem())
	w.start()
	w.create("x", 1, "durability=os")
	w.mustAppend("x", 0, 10, 3)
	f := func(dir string, want error) {
		t.Helper()
		if _, err := OpenOffline(w.fs, dir, w.offlineTopic()); !errors.Is(err, want) {
			t.Errorf("%s: %v", dir, err)
		}
	}
	f("/a/x-0", vfs.ErrLocked)
	w.ok(w.disks[0].checkpointCommitted())
	w.drop()
	f("/a", ErrNoLog)
	f("/a/x-1", fs.ErrNotExist)
	f("/a/meta.properties", ErrNoLog)
	o := w.offline("/a/x-0")
	tools := w.tools()
	tools.KeysRequired = true
	if _, _, err := o.Compact(t.Context(), w.now, tools); !errors.Is(err, commitlog.ErrNoKey) {
		t.Error(err)
	}
	w.ok(o.Close())
	w.start()
	if w.records("x") != 3 {
		t.Errorf("%d records", w.records("x"))
	}
}

// TestReindexOffline makes right indexes of wrong ones, also of aborted
// transactions, and the node starts as if nothing had been.
func TestReindexOffline(t *testing.T) {
	w := newWorld(t, vfs.NewMem())
	w.start()
	w.create("x", 1, "internal.segment.bytes=1000", "durability=os", "index.interval.bytes=100")
	w.fill("x", 30, 7)
	pr := record.Producer{ID: 7}
	p := w.part("x", 0)
	g, err := p.VerifyTransaction(pr, false, w.now)
	w.ok(err)
	b := record.NewBuilder(record.BuilderOptions{Producer: &pr, Transactional: true})
	w.ok(b.Add(record.Record{Key: []byte("t"), Value: []byte("aborted")}))
	_, batch, err := b.Build(nil)
	w.ok(err)
	_, err = p.AppendWith(batch, partition.AppendOptions{AcksAll: true, Guard: g}, w.now)
	w.ok(err)
	w.fill("x", 30, 7)
	_, err = p.AppendMarker(partition.Marker{ProducerID: 7}, w.now)
	w.ok(err)
	w.fill("x", 5, 5)
	aborted, err := p.Log().Aborted(0, 100)
	w.ok(err)
	w.stop()
	before := map[string]string{}
	damaged := 0
	for _, n := range w.files("/a/x-0") {
		if !strings.HasSuffix(n, "index") {
			continue
		}
		b, err := vfs.ReadFile(w.fs, "/a/x-0/"+n, 1<<20)
		w.ok(err)
		before[n] = string(b)
		file, err := w.fs.Create("/a/x-0/" + n)
		w.ok(err)
		_, err = file.WriteAt([]byte("nonsense, which no index is"), 0)
		w.ok(err)
		damaged++
	}
	if damaged < 9 || len(aborted) != 1 {
		t.Fatal(damaged, aborted)
	}
	o := w.offline("/a/x-0")
	read := 0
	done, err := o.Reindex(t.Context(), func(n int) { read += n })
	if err != nil || done.Aborted != 1 || done.Bytes != int64(read) || done.Batches != 67 || done.Offsets == 0 || done.Times == 0 {
		t.Errorf("%+v, read %d, %v", done, read, err)
	}
	w.ok(o.Close())
	for n, want := range before {
		b, err := vfs.ReadFile(w.fs, "/a/x-0/"+n, 1<<20)
		if err != nil || string(b) != want {
			t.Errorf("%s: %x, was %x, %v", n, b, want, err)
		}
	}
	w.start()
	got, err := w.part("x", 0).Log().Aborted(0, 100)
	if fmt.Sprint(got) != fmt.Sprint(aborted) || err != nil || w.records("x") != 67 {
		t.Errorf("%v %v, %d records", got, err, w.records("x"))
	}
	w.fill("x", 30, 7)
	w.stop()
	r, err := commitlog.Verify(w.fs, "/a/x-0")
	if err != nil || len(r.Problems) > 0 {
		t.Errorf("%v %v", r.Problems, err)
	}
}

// TestReindexStopped: what vouched for an index that is being replaced does not
// any more when the work is cut short.
func TestReindexStopped(t *testing.T) {
	mem := vfs.NewMem()
	w := newWorld(t, mem)
	w.start()
	w.create("x", 1, "durability=os", "index.interval.bytes=100")
	w.fill("x", 60, 7)
	w.stop()
	for n := 1; ; n++ {
		crashed := errors.New("crashed")
		left := n
		clone := mem.KillClone()
		o, err := OpenOffline(vfs.NewFaulty(clone, func(op vfs.Op) error {
			if op.Durable() {
				left--
			}
			if left <= 0 {
				return crashed
			}
			return nil
		}), "/a/x-0", w.offlineTopic())
		if err == nil {
			_, err = o.Reindex(t.Context(), func(int) {})
		}
		if err == nil {
			if n < 5 {
				t.Errorf("%d durable operations", n)
			}
			return
		}
		for seed := range uint64(2) {
			w.fs = clone.CrashClone(rand.New(rand.NewPCG(seed, uint64(n))))
			w.start()
			w.fill("x", 60, 7)
			if w.records("x") != 120 {
				t.Fatalf("crash %d: %d records", n, w.records("x"))
			}
			if _, err := w.part("x", 0).Log().OffsetForTime(w.now.Add(-time.Hour).UnixMilli()); err != nil {
				t.Fatalf("crash %d: %v", n, err)
			}
			w.stop()
			r, err := commitlog.Verify(w.fs, "/a/x-0")
			if err != nil || len(r.Problems) > 0 {
				t.Fatalf("crash %d: %v %v", n, r.Problems, err)
			}
		}
	}
}
