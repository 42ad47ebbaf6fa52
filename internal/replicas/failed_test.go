package replicas

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// cluster lets replicas propose: what they want is applied at once.
func (w *world) cluster() {
	w.change = append(w.change, func(o *Options) {
		o.Propose = func(_ context.Context, decide func(*metadata.Image) ([]metadata.Record, error)) error {
			w.proposing.Lock()
			defer w.proposing.Unlock()
			records, err := decide(w.tracker.Image())
			if err != nil || len(records) == 0 {
				return err
			}
			d, err := w.tracker.Apply(w.tracker.Image().End(), records)
			if err == nil {
				w.Publish(d, w.tracker.Image())
			}
			return err
		}
	})
}

// broken fails operations on a directory once it is told to.
type broken struct {
	kind vfs.OpKind
	dir  string
	err  error
}

func (b *broken) hook(o vfs.Op) error {
	if b.err != nil && (b.kind == "" || o.Kind == b.kind) && strings.HasPrefix(o.Path, b.dir) {
		return b.err
	}
	return nil
}

// However a directory fails, it takes its own partitions offline, all of them
// and no others; the cluster is told, and new partitions go elsewhere.
func TestDirectoryFails(t *testing.T) {
	f := func(what string, kind vfs.OpKind, err error, use func(w *world)) {
		t.Helper()
		b := &broken{kind: kind, dir: "/b"}
		w := newWorld(t, vfs.NewFaulty(vfs.NewMem(), b.hook))
		w.paths = []string{"/a", "/b"}
		var fatal error
		w.change = append(w.change, func(o *Options) { o.Fatal, o.MetadataDir = func(err error) { fatal = err }, "/a" })
		w.cluster()
		w.start()
		w.create("x", 4) // 1 and 3 are on b.
		for i := range int32(4) {
			w.mustAppend("x", i, 100, 3)
		}
		w.flush()
		b.err = err
		use(w)
		for i := range int32(4) {
			err := w.append("x", i, 100)
			if offline := errors.Is(err, partition.ErrOffline); offline != (i%2 == 1) {
				t.Errorf("%s: x-%d: %v", what, i, err)
			}
		}
		w.tellFailures(t.Context())
		for i, p := range w.tracker.Image().Topic("x").Partitions {
			if online := p.Leader == 1; online != (i%2 == 0) {
				t.Errorf("%s: x-%d is led by %d", what, i, p.Leader)
			}
		}
		if got := w.tracker.Image().Broker(1); got != nil {
			t.Error(got) // Nobody has registered in this world.
		}
		w.place = true
		w.create("new", 3)
		for i := range int32(3) {
			w.mustAppend("new", i, 100, 1)
		}
		w.flush()
		if got := w.committed("x", 0); got != 4 || fatal != nil {
			t.Errorf("%s: committed %d, fatal %v", what, got, fatal)
		}
		dirs := w.LogDirs()
		if dirs[0].Err != nil || len(dirs[0].Logs) != 5 || !errors.Is(dirs[1].Err, ErrDirFailed) || dirs[1].Logs != nil {
			t.Errorf("%s: %+v", what, dirs)
		}
		w.ok(w.Close(1))
		w.Replicas = nil
	}
	write := func(w *world) { _ = w.append("x", 1, 100) }
	flush := func(w *world) { w.mustAppend("x", 1, 100, 1); w.flush() }
	f("writing", vfs.OpWrite, syscall.EIO, write)
	f("read-only", vfs.OpWrite, syscall.EROFS, write)
	f("syncing", vfs.OpSync, syscall.EIO, flush)
	f("all of it", "", syscall.EIO, write)
	f("reading", vfs.OpRead, syscall.EIO, func(w *world) {
		r, err := w.part("x", 3).Read(partition.Want{From: 1, MaxBytes: 1, AtLeast: true, Believes: model.NoEpoch, LastEpoch: model.NoEpoch})
		r.View.Close()
		if !errors.Is(err, partition.ErrOffline) {
			t.Errorf("reading: %v", err)
		}
	})
	f("a checkpoint", vfs.OpRename, syscall.EIO, func(w *world) {
		w.disks[1].runDue([]*job{{every: time.Second, do: w.disks[1].checkpointCommitted}})
	})
	f("taken away", "", syscall.ENOENT, func(w *world) {
		w.disks[1].runDue([]*job{{every: time.Second, do: w.disks[1].checkpointCommitted}})
	})
}

// A file that is missing is the misfortune of its partition alone, and a full
// disk is none.
func TestFileIsNoDirectory(t *testing.T) {
	b := &broken{dir: "/b/x-1/"}
	w := newWorld(t, vfs.NewFaulty(vfs.NewMem(), b.hook))
	w.paths = []string{"/a", "/b"}
	w.start()
	w.create("x", 4)
	b.err = syscall.ENOSPC
	if err := w.append("x", 1, 100); !errors.Is(err, partition.ErrDiskFull) {
		t.Error(err)
	}
	b.err = nil
	w.mustAppend("x", 1, 100, 1)
	b.err = syscall.ENOENT
	w.part("x", 1).Fail(syscall.ENOENT)
	b.err = nil
	if err := w.append("x", 1, 100); !errors.Is(err, partition.ErrOffline) {
		t.Error(err)
	}
	w.mustAppend("x", 3, 100, 1)
	if err := w.disks[1].hasFailed(); err != nil {
		t.Error(err)
	}
}

// The directory of the metadata log, and the last of all, end the node.
func TestNodeCannotGoOn(t *testing.T) {
	f := func(metadata string, fail []int, want string) {
		t.Helper()
		w := newWorld(t, vfs.NewMem())
		w.paths = []string{"/a", "/b"}
		fatal := []string{}
		w.change = append(w.change, func(o *Options) {
			o.Fatal, o.MetadataDir = func(err error) { fatal = append(fatal, err.Error()) }, metadata
		})
		w.start()
		w.create("x", 2)
		for _, i := range fail {
			w.disks[i].fail(syscall.EIO)
			w.disks[i].fail(syscall.EIO) // Told once.
		}
		if got := strings.Join(fatal, "; "); !strings.Contains(got, want) || want == "" && got != "" || len(fatal) > 1 {
			t.Errorf("metadata in %s, %v fail: %q", metadata, fail, got)
		}
	}
	f("/a", []int{1}, "")
	f("/a", []int{0}, "/a: input/output error; it holds the metadata log")
	f("/elsewhere", []int{0}, "")
	f("/elsewhere", []int{0, 1}, "all data directories have failed")
	f("/elsewhere", []int{1, 0}, "all data directories have failed")
}

// Who cannot tell the cluster in time ends: clients would be sent to partitions
// that nobody serves.
func TestFailureNotTold(t *testing.T) {
	w := newWorld(t, vfs.NewMem(), "log.dir.failure.timeout.ms=1")
	w.paths = []string{"/a", "/b"}
	var fatal error
	w.change = append(w.change, func(o *Options) {
		o.Fatal = func(err error) { fatal = err }
		o.Propose = func(ctx context.Context, _ func(*metadata.Image) ([]metadata.Record, error)) error {
			<-ctx.Done()
			return ctx.Err()
		}
	})
	w.start()
	w.disks[1].fail(syscall.EIO)
	w.tellFailures(t.Context())
	if !errors.Is(fatal, errNotTold) {
		t.Error(fatal)
	}
}

// A directory that cannot be read at the start takes its partitions offline, no
// more; what is missing may be there.
func TestDirectoryUnreadableAtStart(t *testing.T) {
	b := &broken{kind: vfs.OpReadDir, dir: "/b"}
	w := newWorld(t, vfs.NewFaulty(vfs.NewMem(), b.hook))
	w.paths = []string{"/a", "/b"}
	w.start()
	w.create("x", 2)
	w.mustAppend("x", 0, 10, 1)
	w.mustAppend("x", 1, 10, 1)
	w.flush()
	w.drop()
	b.err = syscall.EIO
	w.start()
	w.mustAppend("x", 0, 10, 1)
	if _, err := w.Partition(model.Partition{Topic: "x", Index: 1}); err == nil {
		t.Error("served from a directory that cannot be read")
	}
	w.drop()
	b.err = nil
	w.start()
	w.mustAppend("x", 1, 10, 1)
	w.flush()
	if got := w.committed("x", 1); got != 2 {
		t.Error(got)
	}
}

// A directory that could not be opened keeps its partitions from being made
// elsewhere, whether the cluster knows where they are or not.
func TestUnusableDirectory(t *testing.T) {
	w := newWorld(t, vfs.NewMem())
	w.paths = []string{"/a", "/b"}
	w.start()
	w.create("x", 2)
	w.mustAppend("x", 1, 10, 1)
	w.drop()
	w.paths = []string{"/a"}
	w.change = []func(*Options){func(o *Options) { o.Unusable = []Unusable{{"/b", syscall.EIO}} }}
	w.start()
	if _, err := w.Partition(model.Partition{Topic: "x", Index: 1}); !errors.Is(err, ErrMissing) {
		t.Error(err)
	}
	dirs := w.LogDirs()
	if len(dirs) != 2 || dirs[1].Path != "/b" || !errors.Is(dirs[1].Err, ErrDirFailed) {
		t.Errorf("%+v", dirs)
	}
	if err := w.Move(model.Partition{Topic: "x"}, "/b"); !errors.Is(err, ErrDirFailed) {
		t.Error(err)
	}
	w.place = true
	w.create("y", 2)
	w.mustAppend("y", 1, 10, 1)
}

// Partitions of one request are spread over the directories, new ones over those
// that have fewest; nothing goes to one that is cordoned.
func TestPlaces(t *testing.T) {
	w := newWorld(t, vfs.NewMem())
	w.paths = []string{"/a", "/b", "/c"}
	w.place = true
	count := func() (n [3]int) {
		for i, d := range w.LogDirs() {
			n[i] = len(d.Logs)
		}
		return n
	}
	f := func(want [3]int) {
		t.Helper()
		if got := count(); got != want {
			t.Errorf("%v, want %v", got, want)
		}
	}
	w.start()
	w.create("x", 7)
	f([3]int{3, 2, 2})
	w.create("y", 2)
	f([3]int{3, 3, 3})
	w.remove("y")
	f([3]int{3, 2, 2})
	// What was only thought of does not count for ever.
	for i := range int32(5) {
		w.Place(model.Partition{Topic: "never", Index: i})
	}
	w.apply(metadata.Record{Message: wire.NewNoOpRecord()})
	w.create("z", 2)
	f([3]int{3, 3, 3})
	w.drop()
	w.options = []string{"cordoned.log.dirs=/a,/c"}
	w.start()
	w.create("cordoned", 4)
	f([3]int{3, 7, 3})
	if w.Cordoned() {
		t.Error("there is one left")
	}
	w.drop()
	w.options = []string{"cordoned.log.dirs=*"}
	w.start()
	if !w.Cordoned() || !w.Place(model.Partition{Topic: "nowhere"}).IsZero() {
		t.Error("there is none left")
	}
	if !w.LogDirs()[1].Cordoned {
		t.Error("not described as cordoned")
	}
}

// Partitions for which there was no space at the start come back when there is,
// without another start.
func TestSpaceComesBack(t *testing.T) {
	var full bool
	mem := vfs.NewMem()
	w := newWorld(t, vfs.NewFaulty(mem, func(o vfs.Op) error {
		inLog := strings.HasPrefix(o.Path, "/a/x-") && (o.Kind == vfs.OpCreate || o.Kind == vfs.OpWrite || o.Kind == vfs.OpMkdir)
		if full && (inLog || strings.HasSuffix(o.Path, datadir.ReserveFile)) {
			return syscall.ENOSPC
		}
		return nil
	}))
	w.start()
	w.create("x", 3)
	for i := range int32(3) {
		w.mustAppend("x", i, 1000, 5)
	}
	w.flush()
	w.drop()
	// Without its index a log has to write when it is opened.
	w.ok(mem.Remove("/a/x-1/00000000000000000000.index"))
	full = true
	w.start()
	w.create("x-later", 1)
	if _, err := w.Partition(model.Partition{Topic: "x", Index: 1}); !errors.Is(err, ErrDiskFull) {
		t.Fatal(err)
	}
	if _, err := w.Partition(model.Partition{Topic: "x-later"}); !errors.Is(err, ErrDiskFull) {
		t.Fatal(err)
	}
	w.ok(w.disks[0].restore())
	if _, err := w.Partition(model.Partition{Topic: "x", Index: 1}); err == nil {
		t.Fatal("opened without space")
	}
	full = false
	w.ok(w.disks[0].restore())
	w.ok(w.disks[0].restore())
	w.mustAppend("x", 1, 10, 1)
	w.mustAppend("x-later", 0, 10, 1)
	w.flush()
	if got := w.committed("x", 1); got != 6 {
		t.Errorf("committed %d", got)
	}
	w.ok(w.Close(1))
	w.Replicas = nil
	w.start()
	if got := w.committed("x", 1); got != 6 {
		t.Errorf("committed %d after a restart", got)
	}
}

// The deletion of a topic that a crash interrupted is finished at the start; what
// the metadata log does not know of is kept, under another name.
func TestStrays(t *testing.T) {
	kinds := func(w *world) map[string]datadir.DirKind {
		got := map[string]datadir.DirKind{}
		for _, name := range w.files("/a") {
			if l, ok := datadir.ParseLogDir(name); ok {
				got[l.Partition.Topic] = l.Kind
			}
		}
		return got
	}
	w := newWorld(t, vfs.NewMem())
	w.start()
	for _, topic := range []string{"deleted", "unknown", "again"} {
		w.create(topic, 1)
		w.mustAppend(topic, 0, 10, 1)
	}
	r := w.Replicas
	w.Replicas = nil // It does not see what comes now.
	w.removed = map[model.TopicID]struct{}{w.id("deleted"): {}, w.id("again"): {}}
	for _, topic := range []string{"deleted", "unknown", "again"} {
		w.remove(topic)
	}
	w.create("again", 1)
	w.Replicas = r
	w.drop()
	w.start()
	want := map[string]datadir.DirKind{"deleted": datadir.Deleted, "unknown": datadir.Stray, "again": datadir.Live}
	got := kinds(w)
	got["again"] = datadir.Live // Both are there.
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if end := w.part("again", 0).Log().End(); end != 0 {
		t.Error("an old log serves a new topic")
	}
	w.now = w.now.Add(time.Minute)
	w.ok(w.disks[0].removeRetired())
	if d := cmp.Diff(map[string]datadir.DirKind{"unknown": datadir.Stray, "again": datadir.Live}, kinds(w)); d != "" {
		t.Error(d)
	}
	// Later it is known, too.
	w.drop()
	w.removed[w.id("unknown")] = struct{}{}
	w.start()
	w.now = w.now.Add(time.Minute)
	w.ok(w.disks[0].removeRetired())
	if d := cmp.Diff(map[string]datadir.DirKind{"again": datadir.Live}, kinds(w)); d != "" {
		t.Error(d)
	}
}

// Topics follow the effective configuration of the broker, at once.
func TestReconfigure(t *testing.T) {
	w := newWorld(t, vfs.NewMem())
	w.start()
	w.create("follows", 1)
	w.create("own", 1, "retention.ms=5000")
	if a, b := w.part("follows", 0).Config(), &w.config.Load().Topic; a != b {
		t.Error("topics without a configuration do not share one")
	}
	b, err := w.config.Load().WithDynamic(nil, map[string]string{
		"log.retention.ms": "1000", "log.segment.bytes": "2097152", "log.retention.disk.percent": "80", "producer.id.expiration.ms": "7000",
	})
	w.ok(err)
	w.Reconfigure(b)
	f := func(topic string, retention time.Duration) {
		t.Helper()
		c := w.part(topic, 0).Config()
		if c.Retention != retention || c.SegmentBytes != 2<<20 {
			t.Errorf("%s: %v %d", topic, c.Retention, c.SegmentBytes)
		}
	}
	f("follows", time.Second)
	f("own", 5*time.Second)
	if w.disks[0].brim.percent.Load() != 80 {
		t.Error("the mark has not changed")
	}
	w.create("later", 1)
	f("later", time.Second)
	value := "9000"
	w.apply(metadata.Record{Message: metadata.ConfigRecord(metadata.Resource{Type: metadata.ResourceTopic, Name: "follows"}, "retention.ms", &value)})
	f("follows", 9*time.Second)
	// Retention goes by it without waiting for a touch.
	w.mustAppend("later", 0, 100, 1)
	w.flush()
	w.now = w.now.Add(2 * time.Second)
	w.ok(w.disks[0].retain())
	if l := w.part("later", 0).Log(); l.Start() != 1 {
		t.Errorf("starts at %d", l.Start())
	}
}
