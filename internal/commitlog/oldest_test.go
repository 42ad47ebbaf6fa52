package commitlog

import (
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/vfs"
)

// The oldest segment is described by its greatest time, goes whatever its age
// when that is asked for, and takes its space with it when nobody reads it.
func TestOldest(t *testing.T) {
	mem := vfs.NewMem()
	mem.SetTime(77)
	if err := mem.MkdirAll("/d"); err != nil {
		t.Fatal(err)
	}
	l, err := Open(mem, "/d", Options{SegmentBytes: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f := func(want Oldest) {
		t.Helper()
		got, err := l.Oldest()
		if err != nil || got != want {
			t.Errorf("%+v %v, want %+v", got, err, want)
		}
	}
	add := func(at int64, bytes int) int64 {
		t.Helper()
		b := makeBatch(1, bytes, at, 1)
		if _, _, err := l.Append(b, 1, time.UnixMilli(at)); err != nil {
			t.Fatal(err)
		}
		return int64(len(b))
	}
	f(Oldest{})
	first := add(5000, 600)
	f(Oldest{Time: 5000, Bytes: first})
	add(3000, 600)
	f(Oldest{Time: 5000, Bytes: first, Sealed: true})
	add(4000, 600)
	if l.ActiveSize() == 0 || l.Waiting() != 0 {
		t.Error(l.ActiveSize(), l.Waiting())
	}

	v, err := l.Read(0, l.End(), 1<<20, true)
	if err != nil {
		t.Fatal(err)
	}
	now := time.UnixMilli(10_000)
	if n, err := l.Retain(now, Retention{Oldest: 1, Limit: 0}); n != 0 || err != nil {
		t.Errorf("%d segments went that are not committed, %v", n, err)
	}
	if n, err := l.Retain(now, Retention{Oldest: 1, Limit: l.End()}); n != 1 || err != nil || l.Start() != 1 {
		t.Errorf("%d segments, start %d, %v", n, l.Start(), err)
	}
	if l.Waiting() != 1 || l.Held(time.Time{}) != 0 {
		t.Errorf("%d wait, %d bytes held", l.Waiting(), l.Held(time.Time{}))
	}
	if n, err := l.DeleteExpired(now, 0); n != 0 || err != nil {
		t.Error(n, err)
	}
	if l.Held(time.Time{}) != first || l.Held(now) != 0 {
		t.Errorf("%d bytes held, the reader has %d", l.Held(time.Time{}), first)
	}
	v.Close()
	if l.Held(time.Time{}) != 0 {
		t.Error("held by nobody")
	}
	if n, err := l.Retain(now, Retention{Oldest: 5, Limit: l.End()}); n != 1 || err != nil || l.Start() != 2 {
		t.Errorf("%d segments, start %d, %v: the active one stays", n, l.Start(), err)
	}
	f(Oldest{Time: 4000, Bytes: l.Size()})
}

// A segment without timestamps is as old as its file.
func TestOldestWithoutTimes(t *testing.T) {
	mem := vfs.NewMem()
	mem.SetTime(77)
	if err := mem.MkdirAll("/d"); err != nil {
		t.Fatal(err)
	}
	l, err := Open(mem, "/d", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, _, err := l.Append(makeBatch(1, 10, -1, 1), 1, time.UnixMilli(5)); err != nil {
		t.Fatal(err)
	}
	if o, err := l.Oldest(); o.Time != 77 || err != nil {
		t.Errorf("%+v %v", o, err)
	}
}
