package partition

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// future begins a copy of a partition beside it.
func future(t testing.TB, fs vfs.FS, p *Partition) *Future {
	t.Helper()
	if err := fs.MkdirAll("/other/x-0"); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFuture(p, Options{FS: fs, Dir: "/other/x-0", ID: p.ID, Self: 1, Config: p.Config()})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// holeAtEnd is a log whose last offsets hold nothing: compaction took a tombstone,
// and a power cut what came behind it.
func holeAtEnd(t *testing.T) (vfs.FS, *Partition) {
	t.Helper()
	cfg := topicConfig(t, "durability", "os", "cleanup.policy", "compact", "delete.retention.ms", "0")
	mem := vfs.NewMem()
	p := open(t, mem, cfg)
	b := record.NewBuilder(record.BuilderOptions{})
	if err := b.Add(record.Record{Timestamp: now.UnixMilli(), Key: []byte("a")}); err != nil {
		t.Fatal(err)
	}
	_, tombstone, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []record.Batch{keyedBatch(t, record.BuilderOptions{}, "b=1"), tombstone} {
		if _, err := p.Append(b, true, now); err != nil {
			t.Fatal(err)
		}
	}
	compactAll(t, p)
	mark, err := p.Log().Checkpoint(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Append(keyedBatch(t, record.BuilderOptions{}, "c=1"), true, now); err != nil {
		t.Fatal(err)
	}
	om, err := commitlog.NewOffsetMap(1<<20, 0.9)
	if err != nil {
		t.Fatal(err)
	}
	d, ok, err := p.Dirt(now, model.NoOffset, mark)
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	if _, err := p.Clean(t.Context(), now, d, mark, CleanTools{Map: om}); err != nil {
		t.Fatal(err)
	}
	if got := left(t, p); got != "0:b=1 2:c=1" {
		t.Fatal(got)
	}
	for seed := range uint64(100) {
		clone := mem.CrashClone(rand.New(rand.NewPCG(seed, 1)))
		p := open(t, clone, cfg, func(o *Options) { o.Log.Mark = mark })
		if p.Log().End() == 2 && left(t, p) == "0:b=1" {
			return clone, p
		}
	}
	t.Fatal("no power cut took the last record")
	return nil, nil
}

// A copy ends where the log ends, if nothing is left of what was there: no offset
// is given twice.
func TestTakeHoleAtEnd(t *testing.T) {
	fs, p := holeAtEnd(t)
	f := future(t, fs, p)
	if _, err := f.Copy(1 << 20); err != nil {
		t.Fatal(err)
	}
	var taken *commitlog.Log
	for range 5 {
		if taken == nil {
			var err error
			if taken, err = f.Take(1 << 20); err != nil {
				t.Fatal(err)
			}
		}
	}
	if taken == nil {
		t.Fatalf("ends at %d, and never at %d", f.End(), p.Log().End())
	}
	defer taken.Close()
	if end := p.Log().End(); end != 2 {
		t.Errorf("ends at %d", end)
	}
	flush(t, p)
	mark, err := p.Log().Checkpoint(nil)
	if err != nil {
		t.Fatal(err)
	}
	if a, err := p.Append(keyedBatch(t, record.BuilderOptions{}, "d=1"), true, now); err != nil || a.Base != 2 {
		t.Errorf("offset %d given again, %v", a.Base, err)
	}
	if got := left(t, p); got != "0:b=1 [1,2) 2:d=1" {
		t.Error(got)
	}
	p.Close()
	l, err := commitlog.Open(fs, "/other/x-0", commitlog.Options{Mark: mark})
	if err != nil || l.End() != 3 {
		t.Error(l.End(), err)
	}
	l.Close()
}

// Retention that overtakes a copy does not make it look complete.
func TestCopyOvertaken(t *testing.T) {
	mem := vfs.NewMem()
	p := open(t, mem, topicConfig(t, "durability", "os"))
	for range 20_000 {
		add(t, p, "v")
	}
	f := future(t, mem, p)
	var all sync.WaitGroup
	all.Go(func() {
		for o := range model.Offset(20_000) {
			if err := p.Log().SetStart(o); err != nil {
				t.Error(err)
			}
		}
	})
	for f.End() < p.Log().End() {
		n, err := f.Copy(1)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 && f.End() < p.Log().End() {
			t.Fatalf("nothing to copy at %d of %d", f.End(), p.Log().End())
		}
	}
	all.Wait()
	f.Close()
}
