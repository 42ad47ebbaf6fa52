package replicas

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// carryAll carries out the moves that wait.
func (w *world) carryAll(ctx context.Context) {
	for m := w.nextMove(); m != nil; m = w.nextMove() {
		w.carryOut(ctx, m)
	}
}

// where lists the directories of a partition's logs: /a/x-0, /b/x-0-future.
func (w *world) where(p model.Partition) (found []string) {
	for _, path := range w.paths {
		for _, name := range w.files(path) {
			l, ok := datadir.ParseLogDir(name)
			if !ok || l.Partition != p {
				continue
			}
			switch l.Kind {
			case datadir.Live:
				found = append(found, path)
			case datadir.Future:
				found = append(found, path+"-future")
			case datadir.Stray:
				found = append(found, path+"-stray")
			}
		}
	}
	return found
}

func (w *world) readAll(p model.Partition) (values []string) {
	w.t.Helper()
	l := w.part(p.Topic, p.Index).Log()
	w.ok(l.Scan(l.Start(), func(b record.Batch) error {
		for r, err := range b.Records(1 << 20) {
			if err != nil {
				return err
			}
			values = append(values, fmt.Sprintf("%d:%d", r.Offset, len(r.Value)))
		}
		return nil
	}))
	return values
}

func x0() model.Partition { return model.Partition{Topic: "x"} }

// A partition moves with all that it has: records, start, producers, and who
// waits; before, in between and after it can be used.
func TestMove(t *testing.T) {
	w := newWorld(t, vfs.NewMem(), "log.segment.delete.delay.ms=60000")
	w.paths = []string{"/a", "/b"}
	w.cluster()
	w.start()
	w.create("x", 1, "internal.segment.bytes=5000")
	for i := range 20 {
		w.mustAppend("x", 0, 100*i, 1)
	}
	w.flush()
	p := w.part("x", 0)
	if start, err := p.Trim(7); start != 7 || err != nil {
		t.Fatal(start, err)
	}
	w.ok(errors.Join(w.KeepStarts([]model.Partition{x0()})...))
	w.ok(w.disks[0].dropTrimmed())
	w.ok(w.disks[0].markGrown())
	before := w.readAll(x0())

	w.ok(w.Move(x0(), "/b"))
	if got := w.where(x0()); !slices.Equal(got, []string{"/a", "/b-future"}) {
		t.Error(got)
	}
	logs := w.LogDirs()[1].Logs
	if len(logs) != 1 || !logs[0].Future || logs[0].Lag != 20 || logs[0].Bytes != 0 {
		t.Errorf("%+v", logs)
	}
	w.mustAppend("x", 0, 10, 1)
	parked := &wakes{}
	s, err := p.State(model.NoEpoch)
	w.ok(err)
	if !p.AwaitCommitted(s.End, s.Epoch, parked) {
		t.Fatal("nothing to wait for")
	}
	w.carryAll(t.Context())
	if got := w.where(x0()); !slices.Equal(got, []string{"/b"}) {
		t.Error(got)
	}
	if w.part("x", 0) != p || p.Owner() != w.disks[1] || parked.n == 0 {
		t.Errorf("another partition, or who waited was not told (%d)", parked.n)
	}
	if got := w.readAll(x0()); !slices.Equal(got, append(before, "20:10")) {
		t.Errorf("%v, want %v", got, before)
	}
	if l := p.Log(); l.Start() != 7 {
		t.Errorf("starts at %d", l.Start())
	}
	if got := w.believes(x0()); got != w.disks[1].id() {
		t.Error("the cluster does not know where it is")
	}
	w.mustAppend("x", 0, 11, 3)
	w.flush()
	if got := w.committed("x", 0); got != 24 {
		t.Errorf("committed %d", got)
	}
	if dirs := w.LogDirs(); len(dirs[0].Logs) != 0 || len(dirs[1].Logs) != 1 || dirs[1].Logs[0].Future {
		t.Errorf("%+v", dirs)
	}
	if a, b := w.disks[0].placed.Load(), w.disks[1].placed.Load(); a != 0 || b != 1 {
		t.Errorf("%d and %d partitions placed", a, b)
	}
	// There and back again, over a restart.
	w.ok(w.Close(1))
	w.Replicas = nil
	w.start()
	w.ok(w.Move(x0(), "/a"))
	w.carryAll(t.Context())
	if got := w.where(x0()); !slices.Equal(got, []string{"/a"}) {
		t.Error(got)
	}
	if got := w.readAll(x0()); len(got) != len(before)+4 {
		t.Error(got)
	}
	w.now = w.now.Add(time.Minute)
	for _, d := range w.disks {
		w.ok(d.removeRetired())
	}
	if got := w.files("/b"); slices.ContainsFunc(got, func(n string) bool { return strings.HasPrefix(n, "x-") }) {
		t.Error(got)
	}
}

type wakes struct{ n int }

func (w *wakes) Wake() { w.n++ }

// What cannot be moved, and what is already there.
func TestMoveRefused(t *testing.T) {
	w := newWorld(t, vfs.NewMem(), "cordoned.log.dirs=/c")
	w.paths = []string{"/a", "/b", "/c", "/d"}
	w.start()
	w.create("x", 2)
	f := func(p model.Partition, path string, want error) {
		t.Helper()
		if err := w.Move(p, path); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%s to %s: %v, want %v", p, path, err, want)
		}
	}
	w.disks[3].fail(syscall.EIO)
	f(x0(), "/nowhere", ErrNoDir)
	f(x0(), "b", ErrNoDir)
	f(x0(), "/c", ErrCordoned)
	f(x0(), "/d", ErrDirFailed)
	f(model.Partition{Topic: strings.Repeat("n", 220)}, "/b", ErrLongName)
	f(model.Partition{Topic: "x", Index: 7}, "/b", ErrUnknown)
	f(x0(), "/a", nil)
	if m := w.nextMove(); m != nil {
		t.Error("moves to where it is")
	}
	w.part("x", 1).Fail(errors.New("broken"))
	f(model.Partition{Topic: "x", Index: 1}, "/a", partition.ErrOffline)
	// Where a partition is to go that does not exist is remembered.
	w.place = true
	for range 3 {
		f(model.Partition{Topic: "later", Index: 1}, "/b", ErrUnknown)
	}
	w.create("later", 2)
	if p := w.part("later", 1); p.Owner() != w.disks[1] {
		t.Error("the wish was forgotten")
	}
	if len(w.mu.preferred) != 1 { // x-7.
		t.Error(w.mu.preferred)
	}
	for i := range int32(maxPreferred + 10) {
		f(model.Partition{Topic: "never", Index: i}, "/b", ErrUnknown)
	}
	if n := len(w.mu.preferred); n != maxPreferred {
		t.Errorf("%d wishes remembered", n)
	}
}

// A move that is under way can go elsewhere, or not at all; and its topic can be
// deleted and made again.
func TestMoveChangesItsMind(t *testing.T) {
	w := newWorld(t, vfs.NewMem(), "log.segment.delete.delay.ms=0")
	w.paths = []string{"/a", "/b", "/c"}
	w.cluster()
	w.start()
	f := func(what string, want []string, do func()) {
		t.Helper()
		w.create("x", 1)
		w.mustAppend("x", 0, 100, 3)
		w.flush()
		do()
		w.carryAll(t.Context())
		for _, d := range w.disks {
			w.ok(d.removeRetired())
		}
		if got := w.where(x0()); !slices.Equal(got, want) {
			t.Errorf("%s: in %v, want %v", what, got, want)
		}
		if len(w.moves.under)+len(w.moves.settling)+len(w.moves.queue) != 0 {
			t.Errorf("%s: moves are left", what)
		}
		if end := w.part("x", 0).Log().End(); end != 3 {
			t.Errorf("%s: ends at %d", what, end)
		}
		w.remove("x")
		for i, d := range w.disks {
			w.ok(d.removeRetired())
			if n := d.placed.Load(); n != 0 {
				t.Errorf("%s: disk %d believes to have %d partitions", what, i, n)
			}
		}
	}
	move := func(path string) { w.ok(w.Move(x0(), path)) }
	f("to b", []string{"/b"}, func() { move("/b") })
	f("twice to b", []string{"/b"}, func() { move("/b"); move("/b") })
	f("to b, no, c", []string{"/c"}, func() { move("/b"); move("/c") })
	f("to b, no, stay", []string{"/a"}, func() { move("/b"); move("/a") })
	f("to b, no, stay, yes, b", []string{"/b"}, func() { move("/b"); move("/a"); move("/b") })
	f("deleted on the way", []string{"/a"}, func() {
		move("/b")
		w.remove("x")
		w.create("x", 1)
		w.mustAppend("x", 0, 100, 3)
		w.flush()
	})
}

// A topic that is deleted between the switch and the end of a move leaves
// nothing in the way of another of its name.
func TestDeletedWhileSettling(t *testing.T) {
	w := newWorld(t, vfs.NewMem())
	w.paths = []string{"/a", "/b"}
	settling := false
	w.change = append(w.change, func(o *Options) { o.Propose = w.refuse(&settling) })
	w.start()
	w.create("x", 1)
	w.mustAppend("x", 0, 100, 3)
	w.flush()
	w.ok(w.Move(x0(), "/b"))
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { w.carryAll(ctx) })
	for !func() bool { w.moves.Lock(); defer w.moves.Unlock(); return w.moves.settling[x0()] != nil }() {
		time.Sleep(time.Millisecond)
	}
	if got := w.where(x0()); !slices.Equal(got, []string{"/a", "/b"}) {
		t.Error(got)
	}
	w.remove("x")
	w.create("x", 1)
	cancel()
	all.Wait()
	w.mustAppend("x", 0, 100, 1)
	if got := w.where(x0()); !slices.Equal(got, []string{"/a"}) {
		t.Error(got)
	}
}

// refuse is a cluster that does not listen.
func (w *world) refuse(asked *bool) func(context.Context, func(*metadata.Image) ([]metadata.Record, error)) error {
	return func(context.Context, func(*metadata.Image) ([]metadata.Record, error)) error {
		*asked = true
		return errors.New("not now")
	}
}

// A broken copy, or a target without space, does no harm to the partition.
func TestMoveFails(t *testing.T) {
	f := func(what string, err error, kind vfs.OpKind, want []string, failed bool) {
		t.Helper()
		b := &broken{kind: kind, dir: "/b/x-0."}
		w := newWorld(t, vfs.NewFaulty(vfs.NewMem(), b.hook))
		w.paths = []string{"/a", "/b"}
		w.cluster()
		w.start()
		w.create("x", 1)
		w.mustAppend("x", 0, 1000, 5)
		w.flush()
		w.ok(w.Move(x0(), "/b"))
		b.err = err
		w.carryAll(t.Context())
		b.err = nil
		w.mustAppend("x", 0, 1000, 1)
		w.flush()
		if got := w.committed("x", 0); got != 6 || w.part("x", 0).Owner() != w.disks[0] {
			t.Errorf("%s: committed %d", what, got)
		}
		if got := w.where(x0()); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
		if (w.disks[1].hasFailed() != nil) != failed {
			t.Errorf("%s: %v", what, w.disks[1].hasFailed())
		}
	}
	f("write", syscall.EIO, vfs.OpWrite, []string{"/a", "/b-future"}, true)
	f("sync", syscall.EIO, vfs.OpSync, []string{"/a", "/b-future"}, true)
	f("missing", syscall.ENOENT, vfs.OpCreate, []string{"/a"}, false)
}

// If the log itself breaks, its copy is kept: it may be all that there is.
func TestCopyOutlivesBrokenLog(t *testing.T) {
	b := &broken{kind: vfs.OpRead, dir: "/a/x-0"}
	w := newWorld(t, vfs.NewFaulty(vfs.NewMem(), b.hook))
	w.paths = []string{"/a", "/b"}
	w.cluster()
	w.start()
	w.create("x", 1)
	w.mustAppend("x", 0, 1000, 5)
	w.flush()
	w.ok(w.Move(x0(), "/b"))
	b.err = syscall.EIO
	w.part("x", 0).Fail(syscall.EIO)
	w.carryAll(t.Context())
	if got := w.where(x0()); !slices.Equal(got, []string{"/a", "/b-future"}) {
		t.Error(got)
	}
}

// Moves keep to replica.alter.log.dirs.io.max.bytes.per.second, all together,
// and stand still at 0.
func TestMoveThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, vfs.NewMem(), "replica.alter.log.dirs.io.max.bytes.per.second=100000")
		w.paths = []string{"/a", "/b"}
		w.cluster()
		w.start()
		w.create("x", 3)
		for _, i := range []int32{0, 2} {
			w.mustAppend("x", i, 10_000, 50)
		}
		w.flush()
		w.ok(w.Move(x0(), "/b"))
		w.ok(w.Move(model.Partition{Topic: "x", Index: 2}, "/b"))
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		began := time.Now()
		for range 2 {
			all.Go(func() { w.carryMoves(ctx) })
		}
		for len(w.where(x0())) != 1 || len(w.where(model.Partition{Topic: "x", Index: 2})) != 1 {
			time.Sleep(100 * time.Millisecond)
		}
		// A megabyte; what is left at the end of each move is not held up.
		if took := time.Since(began); took < 8*time.Second || took > 11*time.Second {
			t.Errorf("a megabyte at 100,000 bytes a second took %v", took)
		}
		b, err := w.config.Load().WithDynamic(map[string]string{"replica.alter.log.dirs.io.max.bytes.per.second": "0"}, nil)
		w.ok(err)
		w.Reconfigure(b)
		w.ok(w.Move(x0(), "/a"))
		time.Sleep(time.Minute)
		if got := w.where(x0()); !slices.Equal(got, []string{"/a-future", "/b"}) {
			t.Error(got)
		}
		b, err = w.config.Load().WithDynamic(nil, nil)
		w.ok(err)
		w.Reconfigure(b)
		time.Sleep(time.Minute)
		if got := w.where(x0()); !slices.Equal(got, []string{"/a"}) {
			t.Error(got)
		}
		cancel()
		all.Wait()
	})
}

// Of two directories of one partition the one with more records is it; the other
// one is kept under another name, unless a move explains it.
func TestTwoDirectories(t *testing.T) {
	w := newWorld(t, vfs.NewMem())
	w.paths = []string{"/a", "/b"}
	w.cluster()
	w.start()
	w.create("x", 1)
	w.mustAppend("x", 0, 100, 5)
	w.flush()
	w.ok(w.Close(1))
	w.Replicas = nil
	mem := w.fs.(*vfs.Mem)
	w.copyDir(mem, "/a/x-0", "/b/x-0")
	w.start()
	w.mustAppend("x", 0, 100, 1)
	if got := w.where(x0()); !slices.Equal(got, []string{"/a", "/b-stray"}) {
		t.Error(got)
	}
	w.drop()
	w.copyDir(mem, "/a/x-0", "/b/x-0")
	f, err := mem.OpenWrite("/a/x-0/00000000000000000000.log")
	w.ok(err)
	w.ok(f.Truncate(200))
	w.start()
	if end := w.part("x", 0).Log().End(); end != 6 {
		t.Errorf("ends at %d", end)
	}
	w.tellPlaces(t.Context())
	if w.believes(x0()) != w.disks[1].id() {
		t.Error("the cluster does not know where it is")
	}
}

func (w *world) copyDir(mem *vfs.Mem, from, to string) {
	w.t.Helper()
	w.ok(mem.MkdirAll(to))
	for _, name := range w.files(from) {
		b, err := vfs.ReadFile(mem, from+"/"+name, 1<<20)
		w.ok(err)
		w.ok(vfs.WriteFile(mem, to+"/"+name, b))
	}
}

// A log that was left behind in a good directory is not the partition when the
// cluster knows that it is in a directory that cannot be used.
func TestStaleDirectoryIsNotServed(t *testing.T) {
	w := newWorld(t, vfs.NewMem())
	w.paths = []string{"/a", "/b"}
	w.cluster()
	w.start()
	w.create("x", 2) // x-1 is in b.
	w.mustAppend("x", 1, 100, 5)
	w.flush()
	w.drop()
	w.copyDir(w.fs.(*vfs.Mem), "/b/x-1", "/a/x-1")
	w.paths = []string{"/a"}
	w.change = append(w.change, func(o *Options) { o.Unusable = []Unusable{{"/b", syscall.EIO}} })
	w.start()
	if _, err := w.Partition(model.Partition{Topic: "x", Index: 1}); !errors.Is(err, ErrMissing) {
		t.Error(err)
	}
	w.drop()
	// The administrator gives up the other directory.
	w.change = append(w.change, func(o *Options) { o.Unusable = nil })
	w.start()
	w.mustAppend("x", 1, 100, 1)
	if end := w.part("x", 1).Log().End(); end != 6 {
		t.Error(end)
	}
}

// moveModel is a world in which partitions move between two directories while
// they are written and trimmed, and everything crashes now and then.
type moveModel struct {
	*diskModel
	trimmed map[model.Partition]model.Offset // What somebody was told, at least.
}

// TestMoveWorlds: whatever happens in whatever order, what was committed is
// there, what was deleted is not, and at the end every partition is in one
// directory, the one that the cluster believes in.
func TestMoveWorlds(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		m := &moveModel{newDiskModel(t, seed, "log.segment.delete.delay.ms=0"), map[model.Partition]model.Offset{}}
		m.cluster()
		m.boot()
		m.create("x", modelParts, small, "durability=os")
		m.create("y", modelParts, "internal.segment.bytes=30000")
		for range 4 {
			m.life(30)
			if m.crashed() || m.Replicas == nil {
				m.reboot()
			}
			m.checkStarts()
		}
		m.settleAll()
		m.drop()
	})
}

// life lets movers work while things happen, until a crash or a clean stop.
func (m *moveModel) life(steps int) {
	ctx, cancel := context.WithCancel(m.t.Context())
	var movers sync.WaitGroup
	for range 2 {
		movers.Go(func() { m.carryMoves(ctx) })
	}
	if m.rng.IntN(4) > 0 {
		m.crashAfter(1 + m.rng.IntN(250))
	}
	for range steps {
		if m.step(); m.crashed() {
			break
		}
	}
	cancel()
	movers.Wait()
	m.crashAfter(0)
	if !m.crashed() {
		if err := m.Close(1); err != nil {
			m.t.Error(err)
		}
		m.Replicas = nil
	}
}

func (m *moveModel) step() {
	switch m.rng.IntN(12) {
	default:
		m.appendSome()
	case 6, 7:
		m.flush()
		m.noteSafe()
	case 8:
		m.trim()
	case 9, 10:
		err := m.Move(m.anyPart(), m.paths[m.rng.IntN(2)])
		if err != nil && !m.crashed() {
			m.t.Error(err)
		}
	case 11:
		for _, d := range m.disks {
			err := errors.Join(d.markGrown(), d.dropTrimmed(), d.removeRetired())
			if err != nil && !m.crashed() {
				m.t.Error(err)
			}
		}
	}
	time.Sleep(time.Duration(m.rng.IntN(300)) * time.Microsecond)
}

// trim deletes records of a few partitions; what is answered holds from then on.
func (m *moveModel) trim() {
	var ps []model.Partition
	var starts []model.Offset
	for range 3 {
		p := m.anyPart()
		x := m.part(p.Topic, p.Index)
		s, _ := x.State(model.NoEpoch)
		start, err := x.Trim(s.Start + model.Offset(m.rng.Int64N(int64(s.Committed-s.Start)/2+1)))
		if err == nil {
			ps, starts = append(ps, p), append(starts, start)
		}
	}
	errs := m.KeepStarts(ps)
	if m.crashed() {
		return
	}
	for i, err := range errs {
		if err == nil {
			m.trimmed[ps[i]] = max(m.trimmed[ps[i]], starts[i])
		} else if !errors.Is(err, ErrUnknown) { // It moved in that moment.
			m.t.Errorf("%s: %v", ps[i], err)
		}
	}
}

func (m *moveModel) checkStarts() {
	m.eachPart(func(p model.Partition, x *partition.Partition) {
		if l := x.Log(); l.Start() < m.trimmed[p] {
			m.t.Errorf("%s starts at %d; somebody was told %d", p, l.Start(), m.trimmed[p])
		}
		m.start[p] = 0 // A start that nobody was told may fall back.
	})
}

// settleAll lets all moves end.
func (m *moveModel) settleAll() {
	m.carryAll(m.t.Context())
	m.tellPlaces(m.t.Context())
	for _, d := range m.disks {
		m.ok(d.removeRetired())
	}
	m.eachPart(func(p model.Partition, x *partition.Partition) {
		want := []string{x.Owner().(*disk).dir.Path()}
		if got := m.where(p); !slices.Equal(got, want) {
			m.t.Errorf("%s: directories in %v, it lies in %v", p, got, want)
		}
		if m.believes(p) != x.Owner().(*disk).id() {
			m.t.Errorf("%s: the cluster believes it elsewhere", p)
		}
	})
	m.checkRecords()
}
