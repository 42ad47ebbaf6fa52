package replicas

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// world is the replicas of one node on disks in memory, with a clock and a
// cluster that the test moves.
type world struct {
	*Replicas
	t       *testing.T
	fs      vfs.FS
	paths   []string
	options []string
	now     time.Time
	tracker *metadata.Tracker
	// proposing is held by who changes the cluster.
	proposing sync.Mutex
	ids       map[string]byte // How often a name was made.
	dirs      []*datadir.Dir
	random    *rand.ChaCha8

	on      map[string]vfs.FS // By path, where not all are on fs.
	change  []func(*Options)  // Further options.
	removed map[model.TopicID]struct{}
	place   bool // Partitions go where Place says.
}

func (w *world) fsOf(path string) vfs.FS {
	if fs := w.on[path]; fs != nil {
		return fs
	}
	return w.fs
}

func newWorld(t *testing.T, fs vfs.FS, options ...string) *world {
	w := &world{
		t: t, fs: fs, paths: []string{"/a"}, options: options, now: time.UnixMilli(1_700_000_000_000),
		tracker: metadata.NewTracker(metadata.Empty()), ids: map[string]byte{}, random: rand.NewChaCha8([32]byte{5}),
	}
	t.Cleanup(func() { w.drop() })
	return w
}

// start opens the replicas; drop forgets them, as a kill does.
func (w *world) start() {
	w.t.Helper()
	cfg, _, err := config.Load(config.Sources{
		Flags: map[string]string{"log.dirs": strings.Join(w.paths, ",")}, Options: w.options, MemoryBytes: 1 << 30,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.dirs = nil
	for _, path := range w.paths {
		d, err := datadir.Open(w.fsOf(path), path, datadir.Identity{Node: 1}, w.random)
		if err != nil {
			w.t.Fatal(err)
		}
		w.dirs = append(w.dirs, d)
	}
	o := Options{
		Self: 1, Dirs: w.dirs, Config: cfg, Now: func() time.Time { return w.now }, Log: slog.New(slog.DiscardHandler), Random: w.random,
		Removed: w.removed,
	}
	for _, change := range w.change {
		change(&o)
	}
	w.Replicas, err = Open(o, w.tracker.Image())
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) drop() {
	if w.Replicas == nil {
		return
	}
	w.Abandon()
	for _, d := range w.dirs {
		d.Close()
	}
	w.Replicas = nil
}

func (w *world) apply(records ...metadata.Record) {
	w.t.Helper()
	w.proposing.Lock()
	defer w.proposing.Unlock()
	d, err := w.tracker.Apply(w.tracker.Image().End(), records)
	if err != nil {
		w.t.Fatal(err)
	}
	if w.Replicas != nil {
		w.Publish(d, w.tracker.Image())
	}
}

func (w *world) id(name string) (id model.TopicID) {
	copy(id[:], name)
	id[15] = w.ids[name]
	return id
}

// create makes a topic; configs are key=value.
func (w *world) create(name string, partitions int, configs ...string) {
	w.t.Helper()
	w.ids[name]++
	topic := wire.NewTopicRecord()
	topic.Name, topic.TopicID = name, w.id(name)
	records := []metadata.Record{{Message: wire.NewBeginTransactionRecord()}, {Message: topic}}
	for i := range partitions {
		p := wire.NewPartitionRecord()
		p.TopicID, p.PartitionID, p.Leader, p.LeaderEpoch = w.id(name), int32(i), 1, 0
		p.Replicas, p.Isr = []int32{1}, []int32{1}
		if w.Replicas != nil {
			p.Directories = []model.UUID{w.disks[i%len(w.disks)].dir.Meta().Directory}
			if w.place {
				p.Directories[0] = w.Place(model.Partition{Topic: name, Index: int32(i)})
			}
		}
		records = append(records, metadata.Record{Message: p, Version: metadata.PartitionRecordVersion})
	}
	for _, c := range configs {
		k, v, _ := strings.Cut(c, "=")
		records = append(records, metadata.Record{Message: metadata.ConfigRecord(
			metadata.Resource{Type: metadata.ResourceTopic, Name: name}, k, &v)})
	}
	w.apply(append(records, metadata.Record{Message: wire.NewEndTransactionRecord()})...)
}

func (w *world) remove(name string) {
	w.t.Helper()
	m := wire.NewRemoveTopicRecord()
	m.TopicID = w.id(name)
	w.apply(metadata.Record{Message: m})
}

func (w *world) part(topic string, index int32) *partition.Partition {
	w.t.Helper()
	p, err := w.Partition(model.Partition{Topic: topic, Index: index})
	if err != nil {
		w.t.Fatalf("%s-%d: %v", topic, index, err)
	}
	return p
}

func (w *world) batch(bytes int) record.Batch {
	w.t.Helper()
	b := record.NewBuilder(record.BuilderOptions{})
	if err := b.Add(record.Record{Timestamp: w.now.UnixMilli(), Value: make([]byte, bytes)}); err != nil {
		w.t.Fatal(err)
	}
	_, batch, err := b.Build(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return batch
}

func (w *world) append(topic string, index int32, bytes int) error {
	w.t.Helper()
	_, err := w.part(topic, index).Append(w.batch(bytes), true, w.now)
	return err
}

func (w *world) mustAppend(topic string, index int32, bytes, times int) {
	w.t.Helper()
	for range times {
		if err := w.append(topic, index, bytes); err != nil {
			w.t.Fatalf("%s-%d: %v", topic, index, err)
		}
	}
}

// flush syncs what is dirty, as the flushers do.
func (w *world) flush() {
	for _, d := range w.disks {
		d.flusher.flush()
	}
}

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) committed(topic string, index int32) model.Offset {
	w.t.Helper()
	s, err := w.part(topic, index).State(model.NoEpoch)
	w.ok(err)
	return s.Committed
}

func (w *world) files(dir string) (names []string) {
	infos, err := w.fsOf("/" + strings.Split(dir, "/")[1]).ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, i := range infos {
		names = append(names, i.Name)
	}
	return names
}

// What a deleted topic's log was marked with says nothing of a topic that is
// made under the same name: not in this run, not after a crash.
func TestMarksDieWithTheirLogs(t *testing.T) {
	f := func(name string, between func(w *world, mem *vfs.Mem)) {
		t.Helper()
		mem := vfs.NewMem()
		w := newWorld(t, mem, "log.segment.bytes=1048576")
		w.start()
		w.create("x", 1)
		w.mustAppend("x", 0, 400_000, 4) // Two segments.
		w.flush()
		w.ok(w.disks[0].markGrown())
		between(w, mem)
		w.create("x", 1)
		p := w.part("x", 0)
		if p.Log().Start() != 0 || p.Log().End() != 0 {
			t.Errorf("%s: a new log is [%d,%d)", name, p.Log().Start(), p.Log().End())
		}
		w.mustAppend("x", 0, 400_000, 4)
		w.flush()
		w.drop()
		// A byte of the first segment turns: recovery has to see it.
		path := "/a/x-0/00000000000000000000.log"
		file, err := mem.OpenWrite(path)
		w.ok(err)
		_, err = file.WriteAt([]byte{0xff}, 100)
		w.ok(err)
		w.start()
		if end := w.part("x", 0).Log().End(); end != 0 {
			t.Errorf("%s: an old mark vouched for %d records", name, end)
		}
	}
	f("in one run", func(w *world, _ *vfs.Mem) { w.remove("x") })
	f("after a restart", func(w *world, _ *vfs.Mem) {
		w.drop()
		w.start()
		w.remove("x")
	})
	f("deleted while down", func(w *world, _ *vfs.Mem) {
		r := w.Replicas
		w.Replicas = nil
		w.remove("x")
		w.Replicas = r
		w.drop()
		w.start()
	})
}

// A marking that began before its topic was deleted leaves no mark behind, and
// nothing in the directory of the next one.
func TestDeletedWhileMarking(t *testing.T) {
	mem := vfs.NewMem()
	w := newWorld(t, mem)
	w.start()
	w.create("x", 1)
	w.mustAppend("x", 0, 100, 3)
	x := w.entry(model.Partition{Topic: "x"})
	m, err := x.BeginMark()
	w.ok(err)
	closed := make(chan struct{})
	go func() { w.remove("x"); close(closed) }()
	for x.Log().Err() == nil { // Until the log is closing.
	}
	select {
	case <-closed:
		t.Error("the directory was put away during a marking")
	default:
	}
	mark, err := m.Finish()
	w.ok(err)
	<-closed
	x.disk.keepMark(x, mark)
	if len(x.disk.mu.marks) != 0 {
		t.Error("a mark of a deleted log was kept")
	}
}

// While the reserve is spent records are refused, reading and deleting go on,
// and freed space is used without waiting for file.delete.delay.ms.
func TestFullDisk(t *testing.T) {
	mem := vfs.NewMem()
	mem.SetCapacity(64 << 20)
	w := newWorld(t, mem)
	w.start()
	w.create("big", 1)
	w.create("small", 1)
	w.mustAppend("small", 0, 1000, 1)
	var err error
	for err == nil {
		err = w.append("big", 0, 900_000)
	}
	if !errors.Is(err, partition.ErrDiskFull) {
		t.Fatal(err)
	}
	w.flush()
	big := w.committed("big", 0)
	// Metadata takes the rest.
	w.ok(w.dirs[0].Spend(func() error {
		return vfs.WriteFile(mem, "/a/metadata", make([]byte, 1<<20))
	}))
	if err := w.append("small", 0, 10); !errors.Is(err, partition.ErrDiskFull) {
		t.Errorf("while the reserve is spent: %v", err)
	}
	if got := w.committed("big", 0); got != big || got == 0 {
		t.Errorf("committed %d, then %d", big, got)
	}
	var said strings.Builder
	w.Replicas.opts.Log = slog.New(slog.NewTextHandler(&said, nil))
	w.ok(w.disks[0].restore())
	w.ok(w.disks[0].restore())
	if !w.dirs[0].Full() {
		t.Error("the reserve came back without space")
	}
	if strings.Count(said.String(), "disk full, records are refused") != 1 {
		t.Errorf("said %q", said.String())
	}
	w.remove("big")
	w.ok(w.disks[0].removeRetired())
	w.ok(w.disks[0].restore())
	w.mustAppend("small", 0, 1000, 10)
	w.flush()
	if got := w.committed("small", 0); got != 11 {
		t.Errorf("committed %d, want 11", got)
	}
}

// Retention by size and time rolls what is old and frees it after the delay.
func TestRetention(t *testing.T) {
	w := newWorld(t, vfs.NewMem(), "log.segment.bytes=1048576", "log.segment.delete.delay.ms=60000")
	w.start()
	w.create("bytes", 1, "retention.bytes=2000000")
	w.create("time", 1, "retention.ms=3600000")
	w.create("keep", 1, "cleanup.policy=compact")
	for _, topic := range []string{"bytes", "time"} {
		w.mustAppend(topic, 0, 500_000, 10)
	}
	w.ok(w.disks[0].retain())
	if p := w.part("bytes", 0); p.Log().Start() != 0 {
		t.Error("uncommitted records were deleted")
	}
	w.flush()
	w.ok(w.disks[0].retain())
	if l := w.part("bytes", 0).Log(); l.Start() == 0 || l.Size() < 2_000_000 || l.Size() > 3_100_000 {
		t.Errorf("retention.bytes: start %d, %d bytes", l.Start(), l.Size())
	}
	if l := w.part("time", 0).Log(); l.Start() != 0 {
		t.Errorf("retention.ms: start %d", l.Start())
	}
	w.now = w.now.Add(2 * time.Hour)
	w.ok(w.disks[0].retain())
	if l := w.part("time", 0).Log(); l.Start() != 10 || l.End() != 10 || l.Size() != 0 {
		t.Errorf("retention.ms: [%d,%d) %d bytes", l.Start(), l.End(), l.Size())
	}
	deleted := func() bool {
		return slices.ContainsFunc(w.files("/a/time-0"), func(n string) bool { return strings.HasSuffix(n, ".deleted") })
	}
	w.ok(w.disks[0].removeRetired())
	if !deleted() {
		t.Error("freed before file.delete.delay.ms")
	}
	w.now = w.now.Add(time.Minute)
	w.ok(w.disks[0].removeRetired())
	if deleted() || len(w.disks[0].mu.deleting) != 0 {
		t.Error("not freed after file.delete.delay.ms")
	}
	w.mustAppend("time", 0, 100, 1)
	w.flush()
	w.drop()
	w.start()
	if l := w.part("time", 0).Log(); l.Start() != 10 || l.End() != 11 {
		t.Errorf("after a restart: [%d,%d)", l.Start(), l.End())
	}
}

// A deleted topic's directory is renamed at once and removed after the delay;
// the name can be used again at once.
func TestDelete(t *testing.T) {
	w := newWorld(t, vfs.NewMem(), "log.segment.delete.delay.ms=60000")
	w.start()
	w.create("x", 2)
	w.mustAppend("x", 1, 10, 1)
	old := w.tracker.Image().Topic("x").ID
	if x, err := w.PartitionOf(old, model.Partition{Topic: "x", Index: 1}); err != nil || x != w.part("x", 1) {
		t.Error(err)
	}
	w.remove("x")
	if _, err := w.Partition(model.Partition{Topic: "x"}); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
	w.create("x", 2)
	if _, err := w.PartitionOf(old, model.Partition{Topic: "x", Index: 1}); !errors.Is(err, ErrUnknown) {
		t.Errorf("another topic's partition: %v", err)
	}
	count := func() (live, gone int) {
		for _, name := range w.files("/a") {
			if l, ok := datadir.ParseLogDir(name); ok && l.Kind == datadir.Live {
				live++
			} else if ok {
				gone++
			}
		}
		return live, gone
	}
	if live, gone := count(); live != 2 || gone != 2 {
		t.Error(live, gone)
	}
	w.drop()
	w.start() // What was put away before a restart is removed as well.
	w.now = w.now.Add(time.Minute)
	w.ok(w.disks[0].removeRetired())
	if live, gone := count(); live != 2 || gone != 0 {
		t.Error(live, gone)
	}
	if end := w.part("x", 1).Log().End(); end != 0 {
		t.Error(end)
	}
}

// A partition whose directory vanished is offline, never an empty log; one that
// was decided while the node was down is made.
func TestMissingDirectory(t *testing.T) {
	mem := vfs.NewMem()
	w := newWorld(t, mem)
	w.start()
	w.create("x", 2)
	w.mustAppend("x", 0, 10, 1)
	w.drop()
	w.ok(mem.RemoveAll("/a/x-0"))
	w.create("later", 1)
	w.start()
	if _, err := w.Partition(model.Partition{Topic: "x"}); !errors.Is(err, ErrMissing) {
		t.Error(err)
	}
	if got := w.Totals(); got.Offline != 1 || got.Partitions != 3 {
		t.Errorf("%+v", got)
	}
	w.mustAppend("x", 1, 10, 1)
	w.mustAppend("later", 0, 10, 1)
	if slices.Contains(w.files("/a"), "x-0") {
		t.Error("an empty log took the place of one that is missing")
	}
	w.drop()
	// Who does not know what was made takes nothing that is missing for new.
	w.ok(vfs.WriteFile(mem, "/a/"+appliedFile, []byte("0\n7\n")))
	w.start()
	if _, err := w.Partition(model.Partition{Topic: "x"}); !errors.Is(err, ErrMissing) {
		t.Error(err)
	}
	w.remove("x")
	w.create("x", 2) // Nothing stands in the way of a new one.
	w.mustAppend("x", 0, 10, 1)
}

// A topic with an offline partition can be deleted and made again.
func TestDeleteOffline(t *testing.T) {
	mem := vfs.NewMem()
	w := newWorld(t, mem)
	w.start()
	w.create("x", 1)
	w.drop()
	w.ok(vfs.WriteFile(mem, "/a/x-0/partition.metadata", []byte("rubbish")))
	w.start()
	if _, err := w.Partition(model.Partition{Topic: "x"}); !errors.Is(err, partition.ErrOffline) {
		t.Fatal(err)
	}
	w.remove("x")
	w.create("x", 1)
	w.mustAppend("x", 0, 10, 1)
}

// A failing disk takes its own partitions offline, and a clean stop is not
// claimed for it.
func TestOneDiskFails(t *testing.T) {
	broken := false
	mem := vfs.NewMem()
	w := newWorld(t, vfs.NewFaulty(mem, func(o vfs.Op) error {
		if broken && strings.HasPrefix(o.Path, "/b/") && (o.Kind == vfs.OpSync || o.Kind == vfs.OpSyncFS) {
			return syscall.EIO
		}
		return nil
	}))
	w.paths = []string{"/a", "/b"}
	w.start()
	w.create("x", 2) // One on each.
	for i := range int32(2) {
		w.mustAppend("x", i, 10, 1)
		w.flush()
		broken = true
		w.mustAppend("x", i, 10, 1)
		w.flush()
		broken = false
	}
	if w.committed("x", 0) != 2 {
		t.Error("the healthy disk does not commit")
	}
	if err := w.append("x", 1, 10); !errors.Is(err, partition.ErrOffline) {
		t.Errorf("failed disk: %v", err)
	}
	w.flush() // It is never retried, even if it would work now.
	if err := w.append("x", 1, 10); !errors.Is(err, partition.ErrOffline) {
		t.Errorf("failed disk, later: %v", err)
	}
	w.mustAppend("x", 0, 10, 1)
	w.flush()
	w.ok(w.Close(1))
	w.Replicas = nil
	if !slices.Contains(w.files("/a"), datadir.CleanFile) || slices.Contains(w.files("/b"), datadir.CleanFile) {
		t.Error("clean:", w.files("/a"), w.files("/b"))
	}
	w.start()
	if w.committed("x", 0) != 3 {
		t.Error(w.committed("x", 0))
	}
}

// Only what has grown is marked, soon where appends are synced, seldom where a
// mark costs a sync; and a close marks nothing that is marked.
func TestMarkWhatGrew(t *testing.T) {
	syncs := map[string]int{}
	w := newWorld(t, vfs.NewFaulty(vfs.NewMem(), func(o vfs.Op) error {
		if o.Kind == vfs.OpSync || o.Kind == vfs.OpSyncDir || o.Kind == vfs.OpSyncFS {
			parts := strings.Split(o.Path, "/")
			syncs[parts[min(2, len(parts)-1)]]++
		}
		return nil
	}))
	w.start()
	for i := range 20 {
		w.create(fmt.Sprintf("idle-%d", i), 1)
	}
	w.create("fsync", 1)
	w.create("os", 1, "durability=os")
	w.now = w.now.Add(10 * time.Second)
	w.mustAppend("fsync", 0, 10, 1)
	w.mustAppend("os", 0, 10, 1)
	w.flush()
	clear(syncs)
	w.ok(w.disks[0].markGrown())
	if syncs["fsync-0"] == 0 || syncs["os-0"] != 0 || len(w.disks[0].mu.marks) != 1 {
		t.Errorf("after 10 s: %v", syncs)
	}
	w.now = w.now.Add(time.Minute)
	w.ok(w.disks[0].markGrown())
	if syncs["os-0"] == 0 {
		t.Errorf("after a minute: %v", syncs)
	}
	clear(syncs)
	w.ok(w.disks[0].markGrown())
	if len(syncs) != 0 {
		t.Errorf("nothing grew: %v", syncs)
	}
	w.mustAppend("os", 0, 10, 1)
	clear(syncs)
	w.ok(w.Close(1))
	w.Replicas = nil
	if syncs["os-0"] == 0 || syncs["fsync-0"] != 0 || syncs["idle-3-0"] != 0 {
		t.Errorf("close: %v", syncs)
	}
}

// 64 MiB of synced appends call for marks before their time.
func TestMarksComeEarly(t *testing.T) {
	w := newWorld(t, vfs.NewMem())
	w.start()
	w.create("x", 1)
	early := func() bool {
		select {
		case <-w.disks[0].early:
			return true
		default:
			return false
		}
	}
	for n := 0; n < 64<<20-1<<20; n += 1 << 20 {
		w.mustAppend("x", 0, 1<<20-1000, 1)
		w.flush()
	}
	if early() {
		t.Error("too early")
	}
	w.mustAppend("x", 0, 1<<20-1000, 2)
	w.flush()
	if !early() {
		t.Error("not called for")
	}
	w.ok(w.disks[0].markGrown())
	if w.disks[0].unmarked.Load() != 0 {
		t.Error("counted on")
	}
}

// Checkpoints are written when something has changed.
func TestCheckpointWhenChanged(t *testing.T) {
	written := 0
	w := newWorld(t, vfs.NewFaulty(vfs.NewMem(), func(o vfs.Op) error {
		if o.Kind == vfs.OpRename && strings.Contains(o.Path, "offset-checkpoint") {
			written++
		}
		return nil
	}))
	w.start()
	w.create("x", 1)
	f := func(want int) {
		t.Helper()
		written = 0
		w.ok(errors.Join(w.disks[0].checkpointCommitted(), w.disks[0].checkpointStarts()))
		if written != want {
			t.Errorf("%d written, want %d", written, want)
		}
	}
	f(2)
	f(0)
	w.mustAppend("x", 0, 10, 1)
	w.flush()
	f(1)
	f(0)
	got, err := w.dirs[0].Checkpoint(datadir.HighWatermarkFile)
	w.ok(err)
	if got[model.Partition{Topic: "x"}] != 1 {
		t.Error(got)
	}
}

// flush.messages and flush.ms make partitions of durability=os durable too.
func TestFlushSettings(t *testing.T) {
	w := newWorld(t, vfs.NewMem())
	w.start()
	w.create("count", 1, "durability=os", "flush.messages=3")
	w.create("time", 1, "durability=os", "flush.ms=5000")
	w.mustAppend("count", 0, 10, 2)
	w.mustAppend("time", 0, 10, 1)
	f := func(count, timed model.Offset) {
		t.Helper()
		w.ok(w.disks[0].flushDue())
		w.flush()
		if got := w.part("count", 0).Log().SyncedEnd(); got != count {
			t.Errorf("flush.messages: synced %d, want %d", got, count)
		}
		if got := w.part("time", 0).Log().SyncedEnd(); got != timed {
			t.Errorf("flush.ms: synced %d, want %d", got, timed)
		}
	}
	f(0, 0)
	w.mustAppend("count", 0, 10, 1)
	f(3, 0)
	w.now = w.now.Add(5 * time.Second)
	f(3, 1)
}

// What a kill leaves above the marks is synced before it is served.
func TestRecoveredIsDurable(t *testing.T) {
	mem := vfs.NewMem()
	w := newWorld(t, mem)
	w.start()
	w.create("x", 9)
	for i := range int32(9) {
		w.mustAppend("x", i, 100, int(i))
	}
	w.drop()
	w.start()
	for i := range int32(9) {
		if got := w.committed("x", i); got != model.Offset(i) {
			t.Errorf("x-%d: committed %d", i, got)
		}
	}
	lost := mem.CrashClone(rand.New(rand.NewPCG(1, 2)))
	a, err := vfs.ReadFile(mem, "/a/x-8/00000000000000000000.log", 1<<20)
	w.ok(err)
	b, err := vfs.ReadFile(lost, "/a/x-8/00000000000000000000.log", 1<<20)
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("served and not durable: %d of %d bytes, %v", len(b), len(a), err)
	}
}

// Directories that were made and not yet synced when the node was killed are
// durable before it says that it made them.
func TestKilledWhileMaking(t *testing.T) {
	mem := vfs.NewMem()
	var killed *vfs.Mem
	w := newWorld(t, vfs.NewFaulty(mem, func(o vfs.Op) error {
		if o.Kind == vfs.OpSyncFS && killed == nil {
			killed = mem.KillClone()
		}
		return nil
	}))
	w.start()
	w.create("x", fewMade+1)
	w.drop()
	for seed := range uint64(5) {
		w.fs = killed.KillClone()
		w.start()
		mem := w.fs.(*vfs.Mem)
		w.drop()
		w.fs = mem.CrashClone(rand.New(rand.NewPCG(seed, 1)))
		w.start()
		for i := range int32(fewMade + 1) {
			if _, err := w.Partition(model.Partition{Topic: "x", Index: i}); err != nil {
				t.Errorf("seed %d: x-%d: %v", seed, i, err)
			}
		}
		w.drop()
	}
}

// A partition for which there was no space, of names or of bytes, is made at
// the next start: nothing was lost that was ever there.
func TestNoSpaceToMake(t *testing.T) {
	for room := range int64(5) {
		mem := vfs.NewMem()
		w := newWorld(t, mem)
		w.start()
		w.create("first", 1)
		mem.SetCapacity(1 << 40)
		u, err := mem.DiskUsage("/")
		w.ok(err)
		w.ok(mem.Remove("/a/" + datadir.ReserveFile))
		mem.SetCapacity(u.Used - 16<<20 + 30*room)
		w.create("x", fewMade+1)
		mem.SetCapacity(0)
		w.create("later", 1)
		w.drop()
		w.start()
		for i := range int32(fewMade + 1) {
			w.mustAppend("x", i, 10, 1)
		}
		w.mustAppend("later", 0, 10, 1)
		w.drop()
	}
}

// A directory is ours from its first start on: what a power cut tears out of
// the middle of a log is a loss, after which nothing is read, and no gap.
func TestNoGapsInOurOwnLogs(t *testing.T) {
	mem := vfs.NewMem()
	w := newWorld(t, mem)
	w.start()
	w.create("x", 1, "durability=os", "internal.segment.bytes=1000")
	w.mustAppend("x", 0, 600, 9)
	w.drop()
	// Before any mark was due, the power takes half of the second segment.
	f, err := mem.OpenWrite("/a/x-0/00000000000000000001.log")
	w.ok(err)
	w.ok(f.Truncate(300))
	w.start()
	if l := w.part("x", 0).Log(); l.End() != 1 {
		t.Errorf("the log ends at %d", l.End())
	}
}
