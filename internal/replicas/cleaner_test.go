package replicas

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// compacted are the configs of a topic whose segments hold some ten records.
var compacted = []string{"cleanup.policy=compact", "internal.segment.bytes=1000", "durability=os"}

// put appends records key=value, or key for a tombstone, one batch each.
func (w *world) put(topic string, items ...string) {
	w.t.Helper()
	for _, item := range items {
		k, v, ok := strings.Cut(item, "=")
		r := record.Record{Timestamp: w.now.UnixMilli(), Key: []byte(k)}
		if ok {
			r.Value = []byte(v)
		}
		b := record.NewBuilder(record.BuilderOptions{})
		w.ok(b.Add(r))
		_, batch, err := b.Build(nil)
		w.ok(err)
		_, err = w.part(topic, 0).Append(batch, true, w.now)
		w.ok(err)
	}
}

// fill appends n records of some keys.
func (w *world) fill(topic string, n, keys int) {
	w.t.Helper()
	for i := range n {
		w.put(topic, fmt.Sprintf("k%d=%010d", i%keys, i))
	}
}

// mark keeps marks of everything, durably.
func (w *world) mark() {
	w.t.Helper()
	for _, d := range w.disks {
		var all []*replica
		d.each(func(x *replica) { all = append(all, x) })
		w.ok(d.mark(all, markTogether))
		w.ok(d.writeMarks(false))
	}
}

func (w *world) tools() partition.CleanTools {
	w.t.Helper()
	m, err := commitlog.NewOffsetMap(1<<20, 0.9)
	w.ok(err)
	return partition.CleanTools{Map: m}
}

// compact marks everything and cleans until nothing is due; it returns the
// number of passes.
func (w *world) compact() (passes int) {
	w.t.Helper()
	w.mark()
	for w.cleaner.cleanOne(w.t.Context(), w.tools()) {
		if passes++; passes > 100 {
			w.t.Fatal("it never ends")
		}
	}
	return passes
}

// keys are the offsets that the log has of each key.
func (w *world) keys(topic string) map[string][]model.Offset {
	w.t.Helper()
	keys := map[string][]model.Offset{}
	l := w.part(topic, 0).Log()
	w.ok(l.Scan(l.Start(), func(b record.Batch) error {
		for r, err := range b.Records(0) {
			w.ok(err)
			keys[string(r.Key)] = append(keys[string(r.Key)], r.Offset)
		}
		return nil
	}))
	return keys
}

func (w *world) records(topic string) (n int) {
	w.t.Helper()
	for _, offsets := range w.keys(topic) {
		n += len(offsets)
	}
	return n
}

func TestCompaction(t *testing.T) {
	mem := vfs.NewMem()
	w := newWorld(t, mem)
	w.start()
	w.create("x", 1, compacted...)
	w.create("plain", 1, "internal.segment.bytes=1000", "durability=os")
	w.fill("x", 100, 7)
	w.fill("plain", 100, 7)
	if w.cleaner.cleanOne(t.Context(), w.tools()) {
		t.Error("compacted what no mark vouches for")
	}
	if w.compact() != 1 || w.records("plain") != 100 {
		t.Errorf("%d records are left of the other topic", w.records("plain"))
	}
	p := w.part("x", 0)
	p.Log().Roll()
	sealed := w.records("x")
	if sealed >= 100 || sealed < 7 {
		t.Errorf("%d records left", sealed)
	}
	s := w.CleanerStats()
	if s.Passes.Load() != 1 || s.RecordsRemoved.Load() == 0 || s.BytesRead.Load() == 0 || s.BytesWritten.Load() == 0 || s.BytesFreed.Load() == 0 {
		t.Errorf("%+v", s)
	}
	kept, err := w.disks[0].dir.Checkpoint(datadir.CleanerFile)
	w.ok(err)
	if o := kept[p.ID]; len(kept) != 1 || o <= 0 || o > 100 {
		t.Errorf("kept %v", kept)
	}
	w.drop()
	w.start()
	if o := w.disks[0].cleanedTo(p.ID); o != kept[p.ID] {
		t.Errorf("after a restart %d, kept %v", o, kept)
	}
	if w.records("x") != sealed {
		t.Errorf("%d records after a restart, %d before", w.records("x"), sealed)
	}
	// All that was sealed since is dirty, and now also what was active then.
	w.fill("x", 100, 7)
	w.part("x", 0).Log().Roll()
	w.compact()
	for k, offsets := range w.keys("x") {
		if len(offsets) != 1 || offsets[0] < 193 {
			t.Errorf("key %s at %v", k, offsets)
		}
	}
	// The files of what was replaced go in time.
	deleted := func() bool {
		return slices.ContainsFunc(w.files("/a/x-0"), func(n string) bool { return strings.HasSuffix(n, ".deleted") })
	}
	w.ok(w.disks[0].removeRetired())
	if !deleted() {
		t.Error("nothing waits for file.delete.delay.ms")
	}
	w.now = w.now.Add(time.Minute)
	w.ok(w.disks[0].removeRetired())
	if deleted() {
		t.Error(w.files("/a/x-0"))
	}
}

// TestCompactionSettings: each setting of a topic decides what is compacted.
func TestCompactionSettings(t *testing.T) {
	f := func(name string, want bool, configs []string, prepare func(w *world)) {
		t.Helper()
		w := newWorld(t, vfs.NewMem())
		w.start()
		w.create("x", 1, append(slices.Clone(compacted), configs...)...)
		prepare(w)
		n := w.records("x")
		if passes := w.compact(); passes > 0 != want || w.records("x") < n != want {
			t.Errorf("%s: %d passes, %d of %d records", name, passes, w.records("x"), n)
		}
	}
	hundred := func(w *world) { w.fill("x", 100, 7) }
	f("defaults", true, nil, hundred)
	f("ratio of all", false, []string{"min.cleanable.dirty.ratio=1"}, hundred)
	f("young", false, []string{"min.compaction.lag.ms=1000"}, hundred)
	f("not so young", true, []string{"min.compaction.lag.ms=1000"}, func(w *world) {
		w.fill("x", 100, 7)
		w.now = w.now.Add(time.Second)
	})
	half := func(later time.Duration) func(w *world) {
		return func(w *world) {
			w.fill("x", 100, 90)
			w.part("x", 0).Log().Roll()
			w.compact()
			w.fill("x", 40, 40)
			w.part("x", 0).Log().Roll()
			w.now = w.now.Add(later)
		}
	}
	f("a little dirt", false, []string{"min.cleanable.dirty.ratio=0.6"}, half(time.Second))
	f("more than the ratio", true, []string{"min.cleanable.dirty.ratio=0.2"}, half(time.Second))
	f("waits too long", true, []string{"min.cleanable.dirty.ratio=0.6", "max.compaction.lag.ms=900"}, half(time.Second))
	f("does not", false, []string{"min.cleanable.dirty.ratio=0.6", "max.compaction.lag.ms=1000"}, half(time.Second))
}

// TestMaxCompactionLag: whatever arrives is in a sealed segment by then, if more
// arrives.
func TestMaxCompactionLag(t *testing.T) {
	w := newWorld(t, vfs.NewMem())
	w.start()
	w.create("x", 1, append(slices.Clone(compacted), "max.compaction.lag.ms=5000", "min.cleanable.dirty.ratio=1")...)
	w.put("x", "a=1", "a=2")
	w.now = w.now.Add(6 * time.Second)
	w.put("x", "b=1")
	if w.compact() != 1 || w.records("x") != 2 {
		t.Errorf("%v", w.keys("x"))
	}
	if delay := w.CleanerStats().DelayMillis.Load(); delay != 0 {
		t.Errorf("delay %d after it was compacted", delay)
	}
}

// TestMarkedForCompaction: a log whose appends are not synced is marked soon if
// compaction waits for it, and only then.
func TestMarkedForCompaction(t *testing.T) {
	w := newWorld(t, vfs.NewMem())
	w.start()
	w.create("x", 1, compacted...)
	w.create("y", 1, "internal.segment.bytes=1000", "durability=os")
	w.mark()
	f := func(name string, n int, marked bool) {
		t.Helper()
		w.fill(name, n, 7)
		w.ok(w.disks[0].markGrown())
		p := model.Partition{Topic: name}
		if got := w.disks[0].writtenMark(p).Offset == w.part(name, 0).Log().End(); got != marked {
			t.Errorf("%d more records of %s: marked %v", n, name, got)
		}
	}
	f("x", 3, false)
	f("y", 100, false)
	f("x", 100, true)
	f("x", 3, false)
}

func TestDeleteRetention(t *testing.T) {
	w := newWorld(t, vfs.NewMem())
	w.start()
	w.create("x", 1, append(slices.Clone(compacted), "delete.retention.ms=60000", "min.cleanable.dirty.ratio=0")...)
	pass := func() map[string][]model.Offset {
		w.put("x", "other=1")
		w.part("x", 0).Log().Roll()
		w.compact()
		return w.keys("x")
	}
	w.put("x", "a=1", "a")
	if k := pass(); !slices.Equal(k["a"], []model.Offset{1}) {
		t.Error(k)
	}
	w.now = w.now.Add(time.Minute - time.Millisecond)
	if k := pass(); !slices.Equal(k["a"], []model.Offset{1}) {
		t.Error(k)
	}
	w.now = w.now.Add(time.Millisecond)
	if k := pass(); len(k["a"]) != 0 {
		t.Error(k)
	}
}

// TestPolicyChanges: compaction begins and ends with the topic's policy, and
// goes together with deletion.
func TestPolicyChanges(t *testing.T) {
	w := newWorld(t, vfs.NewMem())
	w.start()
	w.create("x", 1, "internal.segment.bytes=1000", "durability=os")
	policy := func(p string) {
		w.apply(metadata.Record{Message: metadata.ConfigRecord(metadata.Resource{Type: metadata.ResourceTopic, Name: "x"}, "cleanup.policy", &p)})
	}
	w.fill("x", 100, 7)
	if w.compact() != 0 {
		t.Error("compacted with cleanup.policy=delete")
	}
	policy("")
	if w.compact() != 0 {
		t.Error("compacted without a policy")
	}
	policy("compact,delete")
	if w.compact() != 1 {
		t.Error("not compacted with cleanup.policy=compact,delete")
	}
	left := w.records("x")
	w.now = w.now.Add(8 * 24 * time.Hour)
	w.ok(w.disks[0].retain())
	if n := w.records("x"); n >= left {
		t.Errorf("%d of %d records are kept for ever", n, left)
	}
	policy("compact")
	w.fill("x", 100, 7)
	w.now = w.now.Add(8 * 24 * time.Hour)
	left = w.records("x")
	w.disks[0].touch(w.part("x", 0))
	w.ok(w.disks[0].retain())
	if n := w.records("x"); n != left {
		t.Errorf("%d of %d records with cleanup.policy=compact", n, left)
	}
	w.compact()
	if n := w.records("x"); n >= left {
		t.Errorf("%d of %d records, not compacted", n, left)
	}
}

// TestDirtiestFirst: the log with the greatest share of dirt comes first.
func TestDirtiestFirst(t *testing.T) {
	w := newWorld(t, vfs.NewMem())
	w.start()
	for _, name := range []string{"a", "b", "c"} {
		w.create(name, 1, append(slices.Clone(compacted), "min.cleanable.dirty.ratio=0.01")...)
		w.fill(name, 100, 90)
		w.part(name, 0).Log().Roll()
	}
	w.compact()
	for name, n := range map[string]int{"a": 40, "b": 80, "c": 60} {
		w.fill(name, n, n)
		w.part(name, 0).Log().Roll()
	}
	w.mark()
	var order []string
	for range 3 {
		x, _, ok := w.cleaner.take(t.Context())
		if !ok {
			t.Fatal(order)
		}
		order = append(order, x.ID.Topic)
		if len(order) == 1 {
			if got := w.CleanerStats().DirtyPercent.Load(); got < 40 || got > 60 {
				t.Errorf("the dirtiest has %d%%", got)
			}
		}
	}
	if !slices.Equal(order, []string{"b", "c", "a"}) {
		t.Error(order)
	}
	if _, _, ok := w.cleaner.take(t.Context()); ok {
		t.Error("took one that is being cleaned")
	}
}

// TestUncleanable: a damaged log is left alone, which is said once; others go
// on; it is tried again when its configuration changes.
func TestUncleanable(t *testing.T) {
	mem := vfs.NewMem()
	w := newWorld(t, mem)
	w.start()
	var said bytes.Buffer
	w.opts.Log = slog.New(slog.NewTextHandler(&said, nil))
	w.create("x", 1, compacted...)
	w.create("y", 1, compacted...)
	w.fill("x", 100, 7)
	w.fill("y", 100, 7)
	f, err := mem.OpenWrite("/a/x-0/00000000000000000000.log")
	w.ok(err)
	var good [1]byte
	f.ReadAt(good[:], 100)
	f.WriteAt([]byte{good[0] ^ 1}, 100)
	for range 3 {
		w.compact()
	}
	errs := func() int { return strings.Count(said.String(), "level=ERROR") }
	if w.records("x") != 100 || w.records("y") >= 100 || w.CleanerStats().Uncleanable.Load() != 1 || w.CleanerStats().Failed.Load() != 1 || errs() != 1 {
		t.Errorf("%d and %d records, %+v, said:\n%s", w.records("x"), w.records("y"), w.CleanerStats(), &said)
	}
	if !strings.Contains(said.String(), "00000000000000000000.log: byte 80: record: batch corrupt") {
		t.Errorf("it does not say where: %s", &said)
	}
	again := func() {
		v := "100"
		w.apply(metadata.Record{Message: metadata.ConfigRecord(metadata.Resource{Type: metadata.ResourceTopic, Name: "x"}, "delete.retention.ms", &v)})
	}
	if again(); w.compact() != 1 || errs() != 2 {
		t.Errorf("%d errors", errs())
	}
	f.WriteAt(good[:], 100)
	if again(); w.compact() != 1 || w.records("x") >= 100 || w.CleanerStats().Uncleanable.Load() != 0 || errs() != 2 {
		t.Errorf("%d records, %+v", w.records("x"), w.CleanerStats())
	}
}

// TestNoRoomToCompact: without space it is tried again later, which is said
// once; a disk that breaks fails.
func TestNoRoomToCompact(t *testing.T) {
	mem := vfs.NewMem()
	var failure error
	w := newWorld(t, vfs.NewFaulty(mem, func(o vfs.Op) error {
		if o.Matches(vfs.OpWrite, "*.cleaned") {
			return failure
		}
		return nil
	}), "log.cleaner.backoff.ms=1000")
	w.start()
	var said bytes.Buffer
	w.opts.Log = slog.New(slog.NewTextHandler(&said, nil))
	w.create("x", 1, compacted...)
	w.fill("x", 100, 7)
	failure = syscall.ENOSPC
	for range 3 {
		w.compact()
		w.now = w.now.Add(time.Second)
	}
	if n := strings.Count(said.String(), "level=WARN"); n != 1 || w.CleanerStats().Failed.Load() != 3 || w.CleanerStats().Uncleanable.Load() != 0 {
		t.Errorf("%+v, %s", w.CleanerStats(), &said)
	}
	w.mark()
	w.cleaner.cleanOne(t.Context(), w.tools())
	if w.cleaner.cleanOne(t.Context(), w.tools()) {
		t.Error("tried again at once")
	}
	// A disk that has nearly no space is not filled by compaction.
	failure = nil
	w.now = w.now.Add(time.Second)
	mem.SetCapacity(cleanMargin + 40<<20)
	mem.SetCapacity(cleanMargin)
	left := w.records("x")
	if w.compact(); w.records("x") != left {
		t.Error("compacted on a full disk")
	}
	mem.SetCapacity(0)
	w.now = w.now.Add(time.Second)
	if w.compact(); w.records("x") >= left {
		t.Error("not compacted when there was space")
	}
	w.fill("x", 100, 7)
	failure = syscall.EIO
	w.compact()
	if !errors.Is(w.part("x", 0).Err(), partition.ErrOffline) {
		t.Errorf("the disk goes on: %v", w.part("x", 0).Err())
	}
}

// TestCleanedDiesWithItsLog: a topic that is made under the name of another one
// is compacted from its beginning, also after a crash.
func TestCleanedDiesWithItsLog(t *testing.T) {
	w := newWorld(t, vfs.NewMem())
	w.start()
	w.create("x", 1, compacted...)
	w.create("y", 1, compacted...)
	w.fill("x", 100, 7)
	w.fill("y", 100, 7)
	w.compact()
	p := model.Partition{Topic: "x"}
	if w.disks[0].cleanedTo(p) <= 0 {
		t.Fatal("not compacted")
	}
	w.remove("x")
	w.create("x", 1, compacted...)
	if o := w.disks[0].cleanedTo(p); o != model.NoOffset {
		t.Errorf("a new log is compacted up to %d", o)
	}
	w.drop()
	w.start()
	if o := w.disks[0].cleanedTo(p); o != model.NoOffset {
		t.Errorf("after a crash it is compacted up to %d", o)
	}
	if o := w.disks[0].cleanedTo(model.Partition{Topic: "y"}); o <= 0 {
		t.Errorf("the other one is compacted up to %d", o)
	}
	// A checkpoint beyond the end, or one that is no checkpoint, says nothing.
	w.disks[0].cleaned.offsets[p] = 1000
	w.fill("x", 100, 7)
	if w.compact(); w.records("x") >= 100 {
		t.Error("an impossible checkpoint was believed")
	}
	w.drop()
	f, err := w.fs.Create("/a/" + datadir.CleanerFile)
	w.ok(err)
	f.WriteAt([]byte("7\nnonsense"), 0)
	w.start()
	if o := w.disks[0].cleanedTo(p); o != model.NoOffset {
		t.Errorf("compacted up to %d, says nonsense", o)
	}
}

// TestMovingIsNotCompacted: neither while a copy is made, nor by a pass that
// began before.
func TestMovingIsNotCompacted(t *testing.T) {
	w := newWorld(t, vfs.NewMem())
	w.paths = []string{"/a", "/b"}
	w.start()
	w.create("x", 1, compacted...)
	w.fill("x", 100, 7)
	w.mark()
	tools := w.tools()
	var once sync.Once
	began, moved := make(chan struct{}), make(chan struct{})
	tools.Pace = func(ctx context.Context, _ int) error {
		once.Do(func() { close(began) })
		<-ctx.Done() // Until the move stops it.
		return ctx.Err()
	}
	go func() {
		defer close(moved)
		<-began
		w.Move(model.Partition{Topic: "x"}, "/b")
	}()
	if !w.cleaner.cleanOne(t.Context(), tools) {
		t.Fatal("nothing to clean")
	}
	<-moved
	w.now = w.now.Add(time.Hour)
	if w.compact() != 0 || w.records("x") != 100 {
		t.Error("compacted while it moves")
	}
	if w.CleanerStats().Failed.Load() != 0 || w.CleanerStats().Uncleanable.Load() != 0 {
		t.Errorf("%+v", w.CleanerStats())
	}
	m := w.nextMove()
	w.carryOut(t.Context(), m)
	if w.entry(model.Partition{Topic: "x"}).disk != w.disks[1] {
		t.Fatal("not moved")
	}
	if w.compact() != 1 || w.records("x") >= 100 {
		t.Error("not compacted where it is now")
	}
	if w.disks[1].cleanedTo(model.Partition{Topic: "x"}) <= 0 {
		t.Error("nothing kept")
	}
}

// TestPacer: all workers together keep to the rate.
func TestPacer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pacer
		p.setRate(1e6)
		began := time.Now()
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				for range 100 {
					if err := p.pace(t.Context(), 10_000); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		if took := time.Since(began).Seconds(); took < 2.9 || took > 3.1 {
			t.Errorf("3 MB in %.2f s at 1 MB/s", took)
		}
		p.setRate(math.Inf(1))
		began = time.Now()
		for range 1000 {
			if err := p.pace(t.Context(), 1<<30); err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("%v without a rate", took)
		}
		p.setRate(0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := p.pace(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

// TestManners: as long as records come, a worker rests three times as long as
// it worked and no longer, unless more comes than it cleans.
func TestManners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, toCompact := int64(0), int64(0)
		m := manners{appended: func() (int64, int64) { return all, toCompact }}
		pieces := func(n int, work, rate time.Duration) time.Duration {
			began := time.Now()
			m.begin()
			for range n {
				time.Sleep(work)
				ended := time.Now()
				time.Sleep(rate) // What the pacer waits is rest, too.
				m.giveWay(t.Context(), 1000, ended)
			}
			return time.Since(began)
		}
		want := func(what string, got, want time.Duration) {
			t.Helper()
			if got != want {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
		}
		const ms = time.Millisecond
		want("alone", pieces(10, ms, 0), 10*ms)
		all++
		want("beside appends", pieces(100, ms, 0), 400*ms)
		want("at a low rate", pieces(10, ms, 5*ms), 60*ms)
		want("at a higher rate", pieces(10, 4*ms, ms), 160*ms)
		time.Sleep(mannersLast)
		want("when they ended", pieces(10, ms, 0), 10*ms)

		m.begin()
		all, toCompact = all+1001, toCompact+1001
		for i := range 10 {
			began := time.Now()
			m.began = began.Add(-ms)
			m.giveWay(t.Context(), 1000, began)
			if rested := time.Since(began) > 0; rested != (i > 7) {
				t.Errorf("rested %v after %d bytes for %d", rested, m.moved, toCompact)
			}
		}

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		began := time.Now()
		m.began = began.Add(-time.Hour)
		m.giveWay(ctx, 1000, began)
		want("when the pass is to end", time.Since(began), 0)
	})
}

// running starts the cleaner of a world in a bubble; what it returns ends it.
func (w *world) running() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.cleaner.run(ctx)
	}()
	return func() { cancel(); <-done }
}

// reconfigured is what the node runs with when these options change.
func (w *world) reconfigured(options map[string]string) {
	w.t.Helper()
	cfg, err := w.config.Load().WithDynamic(options, nil)
	w.ok(err)
	w.Reconfigure(cfg)
}

// TestCleanerSettings: each setting of the cleaner does what it says, and can
// be changed while it runs.
func TestCleanerSettings(t *testing.T) {
	// bubble runs a world whose topic x is dirty.
	bubble := func(options []string, f func(w *world)) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, vfs.NewMem(), options...)
			w.now = time.Now()
			w.start()
			w.create("x", 1, compacted...)
			w.fill("x", 100, 7)
			w.mark()
			f(w)
		})
	}
	sleep := func(d time.Duration) {
		time.Sleep(d)
		synctest.Wait()
	}
	bubble(nil, func(w *world) {
		defer w.running()()
		if sleep(time.Second); w.records("x") >= 100 {
			t.Error("not compacted at once")
		}
	})
	bubble([]string{"log.cleaner.enable=false"}, func(w *world) {
		defer w.running()()
		if sleep(time.Hour); w.records("x") != 100 {
			t.Error("log.cleaner.enable=false and compacted")
		}
	})
	bubble([]string{"log.cleaner.backoff.ms=60000"}, func(w *world) {
		defer w.running()()
		sleep(time.Second)
		w.fill("x", 200, 7)
		w.mark()
		left := w.records("x")
		if sleep(58 * time.Second); w.records("x") != left {
			t.Error("looked before log.cleaner.backoff.ms")
		}
		if sleep(2 * time.Second); w.records("x") == left {
			t.Error("did not look after log.cleaner.backoff.ms")
		}
	})
	bubble([]string{"log.cleaner.io.max.bytes.per.second=1000"}, func(w *world) {
		defer w.running()()
		if sleep(5 * time.Second); w.CleanerStats().Passes.Load() != 0 {
			t.Error("faster than log.cleaner.io.max.bytes.per.second")
		}
		w.reconfigured(map[string]string{"log.cleaner.io.max.bytes.per.second": "1e9"})
		if sleep(time.Second); w.CleanerStats().Passes.Load() != 1 {
			t.Error("not faster after it was changed")
		}
	})
	// Two workers are at work on two logs, held up by a rate.
	busy := busyNow
	bubble([]string{"log.cleaner.io.max.bytes.per.second=1"}, func(w *world) {
		w.create("y", 1, compacted...)
		w.fill("y", 100, 7)
		w.mark()
		defer w.running()()
		if sleep(time.Second); busy(w) != 1 {
			t.Errorf("%d logs at a time with one thread", busy(w))
		}
		w.reconfigured(map[string]string{"log.cleaner.threads": "2", "log.cleaner.io.max.bytes.per.second": "1"})
		if sleep(time.Second); busy(w) != 2 {
			t.Errorf("%d logs at a time with two threads", busy(w))
		}
		w.remove("y") // Ends its pass.
		if sleep(time.Second); busy(w) != 1 {
			t.Errorf("%d logs at a time when one is deleted", busy(w))
		}
	})
}

// TestCleanerMemory: the map and the buffers take what the settings say, shared
// by the threads.
func TestCleanerMemory(t *testing.T) {
	reads := 0
	mem := vfs.NewMem()
	w := newWorld(t, vfs.NewFaulty(mem, func(o vfs.Op) error {
		if o.Matches(vfs.OpRead, "*.log") {
			reads++
		}
		return nil
	}))
	w.start()
	w.create("x", 1, "cleanup.policy=compact", "durability=os", "min.cleanable.dirty.ratio=0.01")
	pass := func(cfg config.Cleaner) (passes, n int) {
		w.fill("x", 3000, 2900)
		w.part("x", 0).Log().Roll()
		w.mark()
		reads = 0
		before := w.CleanerStats().Passes.Load()
		ctx, cancel := context.WithCancel(t.Context())
		cfg.Backoff = time.Hour
		done := make(chan struct{})
		go func() { w.cleaner.work(ctx, cfg); close(done) }()
		for d := time.Now().Add(3 * time.Second); time.Now().Before(d); time.Sleep(time.Millisecond) {
			w.cleaner.choosing.Lock()
			_, more := w.cleaner.dirtiest()
			w.cleaner.choosing.Unlock()
			if !more && busyNow(w) == 0 {
				break
			}
		}
		cancel()
		<-done
		return int(w.CleanerStats().Passes.Load() - before), reads
	}
	plain := config.Cleaner{Threads: 1, MapBytes: 1 << 20, MapLoad: 0.9, BufferBytes: 1 << 20}
	passes, large := pass(plain)
	if passes != 1 {
		t.Errorf("%d passes", passes)
	}
	small := plain
	small.BufferBytes = 4 << 10
	if _, n := pass(small); n < 4*large {
		t.Errorf("log.cleaner.io.buffer.size: %d reads with small buffers, %d with large ones", n, large)
	}
	f := func(name string, change func(*config.Cleaner)) {
		t.Helper()
		c := plain
		change(&c)
		if passes, _ := pass(c); passes < 2 {
			t.Errorf("%s: %d passes", name, passes)
		}
	}
	f("log.cleaner.dedupe.buffer.size", func(c *config.Cleaner) { c.MapBytes = 1000 * 24 })
	f("log.cleaner.io.buffer.load.factor", func(c *config.Cleaner) { c.MapBytes, c.MapLoad = 4000*24, 0.2 })
	f("log.cleaner.threads", func(c *config.Cleaner) { c.MapBytes, c.Threads = 4000*24, 4 })
}

func busyNow(w *world) int {
	w.cleaner.mu.Lock()
	defer w.cleaner.mu.Unlock()
	return len(w.cleaner.mu.busy)
}
