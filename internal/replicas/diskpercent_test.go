package replicas

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// percentWorld is one whose directories are file systems of their own.
func percentWorld(t *testing.T, percent int, paths ...string) (*world, map[string]*vfs.Mem) {
	mems := map[string]*vfs.Mem{}
	w := newWorld(t, nil, fmt.Sprintf("log.retention.disk.percent=%d", percent), "log.segment.delete.delay.ms=60000")
	w.paths, w.on = paths, map[string]vfs.FS{}
	for _, path := range paths {
		mems[path] = vfs.NewMem()
		w.on[path] = mems[path]
	}
	return w, mems
}

func (w *world) relieve() {
	for _, d := range w.disks {
		d.relieve(w.t.Context())
	}
}

// appendAt appends records of a time.
func (w *world) appendAt(topic string, index int32, bytes int, at time.Time) {
	w.t.Helper()
	now := w.now
	w.now = at
	w.mustAppend(topic, index, bytes, 1)
	w.now = now
}

func (w *world) starts(topic string) (starts []model.Offset) {
	for i := range w.tracker.Image().Topic(topic).Partitions {
		starts = append(starts, w.part(topic, int32(i)).Log().Start())
	}
	return starts
}

const small = "internal.segment.bytes=100000"

// The oldest sealed segments of a directory go, over all partitions, until the
// file system is not fuller than the mark; then nothing more.
func TestOldestGoFirst(t *testing.T) {
	w, mems := percentWorld(t, 50, "/a")
	w.start()
	w.create("x", 3, small)
	// Segments of one record each, in an order that no partition has.
	for n, i := range []int32{1, 0, 2, 2, 0, 1, 1, 2, 0, 0, 1, 2} {
		w.appendAt("x", i, 90_000, w.now.Add(time.Duration(n)*time.Second))
	}
	w.flush()
	mem := mems["/a"]
	f := func(overSegments float64, want ...model.Offset) {
		t.Helper()
		u, err := mem.DiskUsage("/")
		w.ok(err)
		mem.SetCapacity(2 * (u.Used - int64(overSegments*90_000)))
		w.relieve()
		if got := w.starts("x"); !slices.Equal(got, want) {
			t.Errorf("%v segments too much: %v, want %v", overSegments, got, want)
		}
		if u, _ := mem.DiskUsage("/"); u.Used*2 > u.Used+u.Free {
			t.Errorf("%d of %d bytes used", u.Used, u.Used+u.Free)
		}
	}
	f(0, 0, 0, 0)
	f(0.5, 0, 1, 0) // The first record.
	f(0, 0, 1, 0)
	f(1.5, 1, 1, 1) // The second and the third.
	f(0.1, 1, 1, 2)
	f(2.1, 2, 3, 2)
	if slices.ContainsFunc(w.files("/a"), func(n string) bool { return strings.Contains(n, ".deleted") }) {
		t.Error("files wait for file.delete.delay.ms")
	}
	w.mustAppend("x", 1, 10, 1) // Life goes on.
	d := w.disks[0]
	if n := d.brim.dropped.segments.Load(); n != 7 {
		t.Errorf("%d segments counted", n)
	}
	w.flush()
	w.drop()
	w.start()
	if got := w.starts("x"); !slices.Equal(got, []model.Offset{2, 3, 2}) {
		t.Errorf("after a restart: %v", got)
	}
}

// When no sealed segment is left, active ones are sealed, the largest first.
// Compacted and internal topics are left alone, whatever it takes.
func TestActiveGoLargestFirst(t *testing.T) {
	w, mems := percentWorld(t, 50, "/a")
	w.start()
	w.create("x", 3)
	w.create("compacted", 1, "cleanup.policy=compact", small)
	w.create("kept", 1, "cleanup.policy=", small)
	w.create("__consumer_offsets", 1, small)
	for i, bytes := range []int{300_000, 900_000, 500_000} {
		w.mustAppend("x", int32(i), bytes, 1)
	}
	for _, topic := range []string{"compacted", "kept", "__consumer_offsets"} {
		for range 4 {
			_, err := w.part(topic, 0).Append(w.keyed(80_000), true, w.now)
			w.ok(err)
		}
	}
	w.flush()
	over := func(bytes int64) {
		t.Helper()
		u, err := mems["/a"].DiskUsage("/")
		w.ok(err)
		mems["/a"].SetCapacity(2 * (u.Used - bytes))
		w.relieve()
	}
	f := func(want ...model.Offset) {
		t.Helper()
		if got := w.starts("x"); !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	over(10_000)
	f(0, 1, 0)
	over(10_000)
	f(0, 1, 1)
	if w.disks[0].brim.stuck.Load() {
		t.Error("stuck")
	}
	over(600_000)
	f(1, 1, 1)
	for _, topic := range []string{"compacted", "kept", "__consumer_offsets"} {
		if got := w.starts(topic)[0]; got != 0 {
			t.Errorf("%s starts at %d", topic, got)
		}
	}
	if !w.disks[0].brim.stuck.Load() || w.disks[0].brim.left() != brimStuck {
		t.Error("not stuck")
	}
	mems["/a"].SetCapacity(1 << 40)
	w.relieve()
	if w.disks[0].brim.stuck.Load() {
		t.Error("stuck for ever")
	}
}

// What waits for file.delete.delay.ms goes before any record does.
func TestDeletedGoesFirst(t *testing.T) {
	w, mems := percentWorld(t, 50, "/a")
	w.start()
	w.create("x", 1, small)
	w.create("gone", 1, small)
	w.create("retained", 1, small, "retention.bytes=1000")
	for range 5 {
		w.mustAppend("x", 0, 90_000, 1)
		w.mustAppend("gone", 0, 90_000, 1)
		w.mustAppend("retained", 0, 90_000, 1)
	}
	w.flush()
	w.ok(w.disks[0].retain())
	w.remove("gone")
	u, err := mems["/a"].DiskUsage("/")
	w.ok(err)
	mems["/a"].SetCapacity(2 * (u.Used - 800_000)) // Four segments of one, five of the other.
	w.relieve()
	if got := w.starts("x")[0]; got != 0 {
		t.Errorf("records were deleted up to %d", got)
	}
	if u, _ := mems["/a"].DiskUsage("/"); u.Percent() > 50 {
		t.Errorf("%v%%", u.Percent())
	}
}

// A file that somebody reads counts as removed for a while: one slow reader must
// not cost the next segment, too.
func TestReaderHoldsSpace(t *testing.T) {
	w, mems := percentWorld(t, 50, "/a")
	w.start()
	w.create("x", 1, small)
	for range 6 {
		w.mustAppend("x", 0, 90_000, 1)
	}
	w.flush()
	r, err := w.part("x", 0).Read(partition.Want{MaxBytes: 1 << 20, Believes: model.NoEpoch, LastEpoch: model.NoEpoch})
	w.ok(err)
	u, err := mems["/a"].DiskUsage("/")
	w.ok(err)
	// Memory frees what is removed, a disk does not while it is read: the limit
	// says what a disk would.
	w.disks[0].brim.percent.Store(50)
	mems["/a"].SetCapacity(2 * (u.Used - 10_000))
	w.relieve()
	l := w.part("x", 0).Log()
	if l.Start() != 1 || l.Held(w.now.Add(-brimHeld)) == 0 {
		t.Fatalf("start %d, held %d", l.Start(), l.Held(w.now.Add(-brimHeld)))
	}
	over, err := w.disks[0].over()
	w.ok(err)
	w.now = w.now.Add(brimHeld + time.Second)
	later, err := w.disks[0].over()
	w.ok(err)
	if held := later - over; held != int64(r.View.Size()) {
		t.Errorf("counted as free: %d, then nothing; the reader has %d", held, r.View.Size())
	}
	r.View.Close()
	if l.Held(time.Time{}) != 0 {
		t.Error("held after it was closed")
	}
}

// Two directories on two file systems work each for itself.
func TestEachDirectoryAlone(t *testing.T) {
	w, mems := percentWorld(t, 50, "/a", "/b")
	w.start()
	w.create("x", 2, small) // One on each.
	for i := range int32(2) {
		for range 6 {
			w.mustAppend("x", i, 90_000, 1)
		}
	}
	w.flush()
	for path, over := range map[string]int64{"/a": -1, "/b": 100_000} {
		u, err := mems[path].DiskUsage("/")
		w.ok(err)
		mems[path].SetCapacity(2 * (u.Used - over))
	}
	w.relieve()
	if got := w.starts("x"); !slices.Equal(got, []model.Offset{0, 2}) {
		t.Error(got)
	}
}

// Records that are not committed stay, however full it is, and go when they are.
func TestUncommittedStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, mems := percentWorld(t, 50, "/a")
		w.start()
		w.create("x", 1, small)
		for range 6 {
			w.mustAppend("x", 0, 90_000, 1)
		}
		u, err := mems["/a"].DiskUsage("/")
		w.ok(err)
		mems["/a"].SetCapacity(2 * (u.Used - 150_000))
		go func() {
			time.Sleep(5 * brimPending)
			if got := w.starts("x")[0]; got != 0 {
				t.Errorf("uncommitted records deleted up to %d", got)
			}
			w.flush()
		}()
		w.relieve()
		if got := w.starts("x")[0]; got != 2 {
			t.Error(got)
		}
	})
}

// A producer that is faster than deletion waits for it, so that the file system
// never holds more than two segments above the mark; nothing is refused.
func TestProducerCannotRunAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		slow := vfs.NewFaulty(mem, func(o vfs.Op) error {
			if o.Kind == vfs.OpRemove {
				time.Sleep(3 * time.Millisecond) // A disk that is slow to delete.
			}
			return nil
		})
		w := newWorld(t, nil, "log.retention.disk.percent=50")
		w.on = map[string]vfs.FS{"/a": slow}
		w.start()
		w.create("x", 4, "internal.segment.bytes=200000", "durability=os")
		capacity := int64(60 << 20)
		mem.SetCapacity(capacity)
		ctx, cancel := context.WithCancel(t.Context())
		var node, producers sync.WaitGroup
		node.Go(func() { w.Run(ctx) })
		most := int64(0)
		var mu sync.Mutex
		for i := range int32(4) {
			producers.Go(func() {
				for range 500 {
					if _, err := w.part("x", i).Append(w.batch(50_000), true, w.now); err != nil {
						t.Error(err)
						return
					}
					time.Sleep(100 * time.Microsecond)
					u, _ := mem.DiskUsage("/")
					mu.Lock()
					most = max(most, u.Used)
					mu.Unlock()
				}
			})
		}
		producers.Wait()
		cancel()
		node.Wait()
		if over := most - capacity/2; over > 2*200_000 || over < 0 {
			t.Errorf("%d bytes above the mark at most, two segments are %d", over, 2*200_000)
		}
		if n := w.disks[0].brim.dropped.segments.Load(); n < 100 {
			t.Errorf("only %d segments had to go", n)
		}
	})
}

// keyed is a batch that a compacted topic takes.
func (w *world) keyed(bytes int) record.Batch {
	w.t.Helper()
	b := record.NewBuilder(record.BuilderOptions{})
	w.ok(b.Add(record.Record{Timestamp: w.now.UnixMilli(), Key: []byte("k"), Value: make([]byte, bytes)}))
	_, batch, err := b.Build(nil)
	w.ok(err)
	return batch
}

// percentModel is a world of topics on two file systems that fill up, with a
// model of which segments have to go.
type percentModel struct{ *diskModel }

// TestPercentWorlds: the segments that go are those that the rule names, in
// every order of appends, syncs, restarts and crashes; and nothing else is lost.
func TestPercentWorlds(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		m := &percentModel{newDiskModel(t, seed, "log.retention.disk.percent=60", "log.segment.delete.delay.ms=60000")}
		m.boot()
		m.create("x", modelParts, small, "durability=os")
		m.create("y", modelParts, "internal.segment.bytes=30000")
		for range 60 {
			m.step()
			if m.crashed() {
				m.reboot()
			}
		}
		m.drop()
	})
}

func (m *percentModel) step() {
	switch m.rng.IntN(10) {
	default:
		m.appendSome()
	case 5, 6:
		m.flush()
		m.noteSafe()
	case 7, 8:
		m.flush()
		m.noteSafe()
		if !m.crashed() {
			m.fill()
		}
	case 9:
		if m.rng.IntN(3) == 0 {
			m.crashAfter(1 + m.rng.IntN(40))
		}
	}
}

// chunk is a segment as the files and the model's times tell.
type chunk struct {
	base, end model.Offset
	time      int64
	bytes     int64
}

// chunks lists the segments of a partition, the active one last.
func (m *percentModel) chunks(path string, p model.Partition) (list []chunk) {
	for _, name := range m.files(path, p) {
		if base, suffix, ok := commitlog.ParseFileName(name); ok && suffix == ".log" {
			info, err := m.mems[path].Stat(path + "/" + p.String() + "/" + name)
			m.ok(err)
			list = append(list, chunk{base: base, bytes: info.Size})
		}
	}
	for i := range list {
		list[i].end = model.Offset(len(m.times[p]))
		if i+1 < len(list) {
			list[i].end = list[i+1].base
		}
		for _, at := range m.times[p][list[i].base:list[i].end] {
			list[i].time = max(list[i].time, at)
		}
	}
	return list
}

func (m *percentModel) files(path string, p model.Partition) (names []string) {
	infos, err := m.mems[path].ReadDir(path + "/" + p.String())
	m.ok(err)
	for _, i := range infos {
		names = append(names, i.Name)
	}
	return names
}

// fill makes one file system a little too small, and compares what goes with
// what the rule says.
func (m *percentModel) fill() {
	path := m.paths[m.rng.IntN(2)]
	before := map[model.Partition][]chunk{}
	total := int64(0)
	m.eachPart(func(p model.Partition, x *partition.Partition) {
		if x.Owner().(*disk).dir.Path() == path {
			before[p] = m.chunks(path, p)
			for _, c := range before[p] {
				total += c.bytes
			}
		}
	})
	u, err := m.mems[path].DiskUsage("/")
	m.ok(err)
	mark := u.Used - m.rng.Int64N(total/2+1) + 10_000
	m.mems[path].SetCapacity(mark * 100 / 60)
	m.relieve()
	if m.crashed() {
		return
	}
	after, err := m.mems[path].DiskUsage("/")
	m.ok(err)
	if after.Above(60) > 0 {
		m.t.Errorf("%s: %d bytes used, the mark is %d", path, after.Used, mark)
	}
	m.mems[path].SetCapacity(0)
	m.relieve() // Appends know that there is room.
	m.compare(before, after.Used, mark)
	m.checkRecords()
}

// compare takes from the model as many segments as went, in the order of the
// rule, and compares where the logs start.
func (m *percentModel) compare(before map[model.Partition][]chunk, used, mark int64) {
	gone, largest := 0, int64(0)
	got, want := map[model.Partition]model.Offset{}, map[model.Partition]model.Offset{}
	for p, list := range before {
		got[p] = m.part(p.Topic, p.Index).Log().Start()
		want[p] = list[0].base
		for _, c := range list {
			if c.end <= got[p] && c.bytes > 0 {
				gone++
				largest = max(largest, c.bytes)
			}
		}
	}
	for range gone {
		p, c := m.next(before)
		before[p] = before[p][1:]
		if want[p] = c.end; len(before[p]) == 0 {
			before[p] = []chunk{{base: c.end, end: c.end}}
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		m.t.Errorf("%d segments went, in another order (-want +got):\n%s", gone, d)
	}
	if gone > 0 && used+largest+1000 < mark {
		m.t.Errorf("%d bytes used, the mark is %d: one segment too many went", used, mark)
	}
}

// next is the segment that has to go next.
func (m *percentModel) next(all map[model.Partition][]chunk) (first model.Partition, c chunk) {
	for p, list := range all {
		if len(list) > 1 && (c.end == 0 || list[0].time < c.time) {
			first, c = p, list[0]
		}
	}
	if c.end > 0 {
		return first, c
	}
	for p, list := range all { // None is sealed: the largest active one.
		if list[0].bytes > c.bytes {
			first, c = p, list[0]
		}
	}
	return first, c
}
