package datadir

import (
	"errors"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
)

// A copy becomes the log, durably, and says where it comes from until it is
// settled.
func TestPromote(t *testing.T) {
	mem := vfs.NewMem()
	random := rand.NewChaCha8([32]byte{9})
	d, err := Open(mem, "/d", Identity{Node: 1}, random)
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ok(err)
	p, id, from := model.Partition{Topic: "x", Index: 3}, model.TopicID{7}, model.UUID{8}
	name, err := d.CreateFuture(p, id, random)
	ok(err)
	if l, found := ParseLogDir(name); !found || l.Kind != Future || l.Partition != p {
		t.Errorf("%q is %+v", name, l)
	}
	if got, known, err := d.TopicID(name); got != id || !known || err != nil {
		t.Error(got, known, err)
	}
	moved := func(fs vfs.FS) (model.UUID, bool) {
		t.Helper()
		d := &Dir{fs: fs, path: "/d"}
		got, moved, err := d.MovedFrom(p)
		ok(err)
		return got, moved
	}
	if _, is := moved(mem); is {
		t.Error("a log that is not there has moved")
	}
	ok(d.Promote(name, p, from))
	lost := mem.CrashClone(rand.New(rand.NewPCG(1, 1)))
	if got, is := moved(lost); got != from || !is {
		t.Error("a power cut took the name, or the note", got, is)
	}
	ok(d.Demote(p, name))
	ok(d.Promote(name, p, from))
	ok(d.Settle(p))
	ok(d.Settle(p))
	if _, is := moved(mem); is {
		t.Error("moved for ever")
	}
}

// Kafka does not move partitions whose copy would have too long a name.
func TestFutureFits(t *testing.T) {
	f := func(length int, want bool) {
		t.Helper()
		p := model.Partition{Topic: strings.Repeat("n", length)}
		whole := strings.HasPrefix(Rename(p, Future, model.UUID{}), p.String()+".") // Not shortened.
		if got := FutureFits(p); got != want || got != whole {
			t.Errorf("%d: fits %v, whole %v", length, got, whole)
		}
	}
	f(1, true)
	f(213, true)
	f(214, false)
	f(249, false)
}

// Check tells a directory that works from one that was taken away, replaced or
// broke.
func TestCheck(t *testing.T) {
	mem := vfs.NewMem()
	random := rand.NewChaCha8([32]byte{9})
	var broken error
	d, err := Open(vfs.NewFaulty(mem, func(o vfs.Op) error {
		if o.Kind == vfs.OpRead {
			return broken
		}
		return nil
	}), "/d", Identity{Node: 1}, random)
	if err != nil {
		t.Fatal(err)
	}
	f := func(want error) {
		t.Helper()
		if err := d.Check(); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	f(nil)
	broken = syscall.EIO
	f(syscall.EIO)
	broken = nil
	other := d.Meta()
	other.Directory = model.UUID{1}
	if err := vfs.WriteFile(mem, "/d/meta.properties", other.Format()); err != nil {
		t.Fatal(err)
	}
	f(ErrIdentity)
	if err := mem.RemoveAll("/d"); err != nil {
		t.Fatal(err)
	}
	if d.Check() == nil {
		t.Error("a directory that is gone works")
	}
}
