package datadir

import (
	"bytes"
	"crypto/rand"
	"errors"
	iofs "io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
)

func mustOpen(t *testing.T, fs vfs.FS, want Identity) *Dir {
	t.Helper()
	d, err := Open(fs, "/data", want, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestIdentity(t *testing.T) {
	fs := vfs.NewMem()
	d := mustOpen(t, fs, Identity{Node: model.NoNode, DefaultNode: 7})
	if d.Meta().Node != 7 || d.Meta().Cluster == "" || d.Meta().Directory.IsZero() {
		t.Fatalf("%+v", d.Meta())
	}
	if _, err := Open(fs, "/data", Identity{Node: 7}, rand.Reader); !errors.Is(err, vfs.ErrLocked) {
		t.Fatalf("second owner: %v", err)
	}
	d.Close()
	if again := mustOpen(t, fs, Identity{Node: model.NoNode, DefaultNode: 9}); again.Meta() != d.Meta() {
		t.Fatalf("%+v, was %+v", again.Meta(), d.Meta())
	} else {
		again.Close()
	}
	for _, want := range []Identity{{Node: 8}, {Node: 7, Cluster: "other"}} {
		if _, err := Open(fs, "/data", want, rand.Reader); !errors.Is(err, ErrIdentity) {
			t.Fatalf("%+v: %v", want, err)
		}
	}
}

// TestMeta reads what Kafka 4.4.0 wrote, and values that Java escapes.
func TestMeta(t *testing.T) {
	m, err := ParseMeta([]byte("#\n#Sat Nov 21 09:33:47 UTC 2026\nnode.id=1\ndirectory.id=tuJRPOPfhgcsNndXBB559g\nversion=1\ncluster.id=AAAAAAAAAAAAAAAAAAAAAQ\n"))
	if err != nil || m.Node != 1 || m.Cluster != "AAAAAAAAAAAAAAAAAAAAAQ" || m.Directory.String() != "tuJRPOPfhgcsNndXBB559g" {
		t.Fatalf("%+v %v", m, err)
	}
	m.Cluster = `a=b:c\d#e!`
	if got, err := ParseMeta(m.Format()); err != nil || got != m {
		t.Fatalf("%+v %v", got, err)
	}
	f := func(bad, want string) {
		t.Helper()
		if _, err := ParseMeta([]byte(bad)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", bad, err, want)
		}
	}
	f("", "damaged, it has no version: restore it")
	f("version=0\nbroker.id=1", "let Kafka migrate it")
	f("version=2\nnode.id=1\ncluster.id=x", `version "2", want 1`)
	f("version=1\nnode.id=-1\ncluster.id=x", "node.id")
	f("version=1\nnode.id=1", "no cluster.id: restore it")
}

func TestParseLogDir(t *testing.T) {
	check := func(name, topic string, index int32, kind DirKind, ok bool) {
		t.Helper()
		l, got := ParseLogDir(name)
		if got != ok || ok && (l.Partition != model.Partition{Topic: topic, Index: index} || l.Kind != kind) {
			t.Errorf("%s: %+v %v", name, l, got)
		}
	}
	check("a-0", "a", 0, Live, true)
	check("a-b-12", "a-b", 12, Live, true)
	check("a-01", "", 0, Live, false)
	check("a", "", 0, Live, false)
	check("-3", "", 0, Live, false)
	check("a-2147483648", "", 0, Live, false)
	check("a.b-3.0123456789abcdef0123456789abcdef-delete", "a.b", 3, Deleted, true)
	check("a-3.0123456789abcdef0123456789abcdef-future", "a", 3, Future, true)
	check("a-3.0123456789abcdef0123456789abcdef-stray", "a", 3, Stray, true)
	check("a-delete", "", 0, Live, false)
	check("a-delete-3", "a-delete", 3, Live, true)
	long := model.Partition{Topic: strings.Repeat("x", 249), Index: 12}
	name := Rename(long, Deleted, model.UUID{1})
	if l, ok := ParseLogDir(name); len(name) != 255 || !ok || l.Partition.Index != 12 || l.Kind != Deleted {
		t.Errorf("%q (%d) is %+v", name, len(name), l)
	}
}

func TestMarks(t *testing.T) {
	d := mustOpen(t, vfs.NewMem(), Identity{Node: 1})
	if _, known, err := d.Marks(); known || err != nil {
		t.Fatalf("no file: %v %v", known, err)
	}
	p := model.Partition{Topic: "t", Index: 3}
	want := Marks{p: {Offset: 9, Segment: 5, Position: 70, Start: 2, MaxTimestamp: -1, MaxTimestampOffset: 5, IndexEntries: 1, TimeEntries: 2, Producers: true, Generation: 4}}
	check := func(want bool) {
		t.Helper()
		m, known, err := d.Marks()
		if err != nil || known != want || known && m[p] != (commitlog.Mark{Offset: 9, Segment: 5, Position: 70, Start: 2, MaxTimestamp: -1, MaxTimestampOffset: 5, IndexEntries: 1, TimeEntries: 2, Producers: true, Generation: 4}) {
			t.Fatalf("known %v, want %v: %+v %v", known, want, m, err)
		}
	}
	for _, points := range []bool{false, true, true, false} {
		if err := d.WriteMarks(want, points); err != nil {
			t.Fatal(err)
		}
		check(true)
	}
	// Kafka ran here: it writes its recovery points when it stops.
	if err := d.WriteCheckpoint(RecoveryPointFile, Offsets{p: 10}); err != nil {
		t.Fatal(err)
	}
	check(false)
}

// TestMarksCrash stops between the two writes of marks and recovery points.
func TestMarksCrash(t *testing.T) {
	mem := vfs.NewMem()
	p := model.Partition{Topic: "t"}
	mustOpen(t, mem, Identity{Node: 1}).Close()
	faulty := vfs.NewFaulty(mem, vfs.FailAt(vfs.OpCreate, RecoveryPointFile+".tmp", 1, syscall.EIO))
	d := mustOpen(t, faulty, Identity{Node: 1})
	if err := d.WriteMarks(Marks{p: {Offset: 5}}, true); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	if _, known, err := d.Marks(); !known || err != nil {
		t.Fatalf("%v %v", known, err)
	}
}

func TestClean(t *testing.T) {
	d := mustOpen(t, vfs.NewMem(), Identity{Node: 1})
	check := func(epoch int64, want bool) {
		t.Helper()
		if e, ok, err := d.TakeClean(); e != epoch || ok != want || err != nil {
			t.Fatalf("%d %v %v", e, ok, err)
		}
	}
	check(-1, false)
	if err := d.WriteClean(42); err != nil {
		t.Fatal(err)
	}
	check(42, true)
	check(-1, false)
}

func TestOffsets(t *testing.T) {
	o := Offsets{{Topic: "b", Index: 2}: 7, {Topic: "a", Index: 10}: 5, {Topic: "a", Index: 9}: 6}
	b := o.Format()
	if want := "0\n3\na 9 6\na 10 5\nb 2 7\n"; string(b) != want {
		t.Fatalf("%q", b)
	}
	got, err := ParseOffsets(b)
	if err != nil || !bytes.Equal(got.Format(), b) {
		t.Fatalf("%v %v", got, err)
	}
	for _, bad := range []string{"1\n0\n", "0\n", "0\n2\na 1 1\n", "0\n1\na 1\n", "0\n1\na x 1\n", "0\n-1\n"} {
		if _, err := ParseOffsets([]byte(bad)); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func TestLogs(t *testing.T) {
	d := mustOpen(t, vfs.NewMem(), Identity{Node: 1})
	p := model.Partition{Topic: "t", Index: 1}
	id := model.TopicID{1}
	for range 2 {
		if err := d.CreateLog(p, id, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.CreateLog(p, model.TopicID{2}, true); !errors.Is(err, ErrTopicID) {
		t.Fatal(err)
	}
	name, err := d.RetireLog(p, Deleted, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if logs, err := d.Logs(); err != nil || len(logs) != 1 || logs[0] != (LogDir{name, p, Deleted}) {
		t.Fatalf("%+v %v", logs, err)
	}
	if err := d.RemoveLog(name); err != nil {
		t.Fatal(err)
	}
	if err := d.RemoveLog(p.String()); err == nil {
		t.Fatal("removed a live log")
	}
	if logs, err := d.Logs(); err != nil || len(logs) != 0 {
		t.Fatalf("%+v %v", logs, err)
	}
}

// TestReserve fills a disk: checkpoints go on, and the reserve comes back with
// the space.
func TestReserve(t *testing.T) {
	mem := vfs.NewMem()
	mem.SetCapacity(64 << 20)
	d := mustOpen(t, mem, Identity{Node: 1})
	f, err := mem.Create("/data/big")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, 64<<20), 0); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if d.Full() {
		t.Fatal("full before anybody needed the reserve")
	}
	if err := d.WriteCheckpoint(LogStartFile, Offsets{{Topic: "t"}: 1}); err != nil {
		t.Fatal(err)
	}
	if !d.Full() || d.Restore() {
		t.Fatal("not full")
	}
	if err := d.WriteMarks(Marks{}, true); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if !d.Restore() || d.Full() {
		t.Fatal("still full")
	}
}

func FuzzFiles(f *testing.F) {
	f.Add([]byte("0\n1\nt 0 5\n"))
	f.Add(Meta{1, "c", model.UUID{1}}.Format())
	f.Add(formatMarks(Marks{{Topic: "t"}: {Offset: 1}}, witness{[2]uint32{1, 2}, 3}))
	f.Add(FormatTopicID(model.UUID{5}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, err := ParseOffsets(b); err == nil && len(b) > 0 {
			if again, err := ParseOffsets(o.Format()); err != nil || len(again) != len(o) {
				t.Fatalf("%v: %v", o, err)
			}
		}
		if m, err := ParseMeta(b); err == nil {
			if _, err := ParseMeta(m.Format()); err != nil {
				t.Fatalf("%+v: %v", m, err)
			}
		}
		if m, w, err := parseMarks(b); err == nil {
			if again, _, err := parseMarks(formatMarks(m, w)); err != nil || len(again) != len(m) {
				t.Fatalf("%v: %v", m, err)
			}
		}
		ParseTopicID(b)
		ParseLogDir(string(b))
	})
}

// A damaged checkpoint ends a start only where nothing else knows what it said.
func TestDamagedCheckpoints(t *testing.T) {
	fs := vfs.NewMem()
	f := func(file string, known bool, want string) {
		t.Helper()
		d := mustOpen(t, fs, Identity{Node: 1})
		defer d.Close()
		if known {
			if err := d.WriteMarks(Marks{{Topic: "t"}: {Offset: 9}}, true); err != nil {
				t.Fatal(err)
			}
		} else if err := fs.Remove("/data/" + MarksFile); err != nil && !errors.Is(err, iofs.ErrNotExist) {
			t.Fatal(err)
		}
		if err := vfs.WriteFile(fs, "/data/"+file, []byte("0\n2\nt 0 1\n")); err != nil {
			t.Fatal(err)
		}
		defer fs.Remove("/data/" + file)
		if _, err := d.PeekRecovery(); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s, known %v: who changes nothing is told %v", file, known, err)
		}
		r, err := d.TakeRecovery()
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) || want == "" && (err != nil || len(r.Damaged) != 1 || r.Known != known) {
			t.Errorf("%s, known %v: %v, %+v", file, known, err, r)
		}
	}
	f(RecoveryPointFile, false, "")
	f(HighWatermarkFile, false, "")
	f(LogStartFile, false, "log-start-offset-checkpoint: damaged: ")
	f(HighWatermarkFile, true, "")
	f(LogStartFile, true, "")
}
