package partition

import (
	"errors"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// What may be deleted, and what is said of what may not.
func TestTrim(t *testing.T) {
	mem := vfs.NewMem()
	p := open(t, mem, topicConfig(t, "internal.segment.bytes", "200"))
	for range 6 {
		add(t, p, "a record of some length, so that two make a segment", "and another one")
	}
	f := func(to, want model.Offset, wantErr error) {
		t.Helper()
		start, err := p.Trim(to)
		if start != want || !errors.Is(err, wantErr) || (err == nil) != (wantErr == nil) {
			t.Errorf("to %d: %d %v, want %d %v", to, start, err, want, wantErr)
		}
	}
	f(1, model.NoOffset, ErrOutOfRange) // Nothing is committed yet.
	f(ToCommitted, 0, nil)
	flush(t, p)
	f(5, 5, nil)
	f(3, 5, nil) // What is deleted stays so.
	f(-2, model.NoOffset, ErrOutOfRange)
	f(13, model.NoOffset, ErrOutOfRange)
	if _, err := p.Read(Want{From: 4, MaxBytes: 100, Believes: model.NoEpoch, LastEpoch: model.NoEpoch}); !errors.Is(err, ErrOutOfRange) {
		t.Errorf("read what was deleted: %v", err)
	}
	before := p.Log().Segments()
	n, err := p.DropTrimmed(now)
	if n == 0 || err != nil || p.Log().Segments() != before-n || p.Log().Start() != 5 {
		t.Errorf("%d of %d segments went, start %d, %v", n, before, p.Log().Start(), err)
	}
	f(ToCommitted, 12, nil)
	add(t, p, "life goes on")
	flush(t, p)
	f(ToCommitted, 13, nil)

	p.Configure(topicConfig(t, "cleanup.policy", "compact"))
	f(0, model.NoOffset, ErrKept)
	f(1000, model.NoOffset, ErrKept)
	p.Configure(topicConfig(t, "cleanup.policy", "compact,delete"))
	f(0, 13, nil)
	p.Configure(topicConfig(t, "cleanup.policy", ""))
	f(0, 13, nil)
	p.Resign()
	f(0, model.NoOffset, ErrNotLeader)
	p.Fail(errors.New("broken"))
	f(0, model.NoOffset, ErrOffline)
}

// A fetch that waits is told when records are deleted: its own may be gone.
func TestTrimWakesReaders(t *testing.T) {
	p := open(t, vfs.NewMem(), topicConfig(t))
	add(t, p, "a", "b")
	flush(t, p)
	s, err := p.State(model.NoEpoch)
	if err != nil {
		t.Fatal(err)
	}
	who := &bell{}
	if !p.AwaitData(s, NewNeed(who, 1000, false)) {
		t.Fatal("nothing to wait for")
	}
	if _, err := p.Trim(1); err != nil {
		t.Fatal(err)
	}
	if !who.rung() {
		t.Error("nobody told")
	}
}

// RetainAt is when retention.ms has something to do, and not before.
func TestRetainAt(t *testing.T) {
	p := open(t, vfs.NewMem(), topicConfig(t, "retention.ms", "1000"))
	f := func(want int64, wantOK bool) {
		t.Helper()
		at, ok, err := p.RetainAt()
		if at != want || ok != wantOK || err != nil {
			t.Errorf("%d %v %v, want %d %v", at, ok, err, want, wantOK)
		}
	}
	f(0, false)
	add(t, p, "a")
	flush(t, p)
	due := now.UnixMilli() + 1001
	f(due, true)
	if n, err := p.Retain(time.UnixMilli(due - 1)); n != 0 || err != nil {
		t.Errorf("too early: %d %v", n, err)
	}
	if n, err := p.Retain(time.UnixMilli(due)); n != 1 || err != nil {
		t.Errorf("too late: %d %v", n, err)
	}
	f(0, false)
	add(t, p, "b")
	for _, config := range [][]string{{"retention.ms", "-1"}, {"retention.ms", "9223372036854775807"}, {"cleanup.policy", "compact", "retention.ms", "1"}} {
		p.Configure(topicConfig(t, config...))
		f(0, false)
	}
}

// Only what is sealed, and of a topic that is deleted from, may go for want of
// space.
func TestDroppable(t *testing.T) {
	p := open(t, vfs.NewMem(), topicConfig(t))
	f := func(want bool) {
		t.Helper()
		if _, ok, err := p.Droppable(); ok != want || err != nil {
			t.Error(ok, err)
		}
	}
	f(false)
	add(t, p, "a")
	f(false)
	if err := p.Roll(); err != nil {
		t.Fatal(err)
	}
	f(true)
	if dropped, err := p.DropOldest(now); dropped || err != nil {
		t.Errorf("dropped what is not committed: %v", err)
	}
	flush(t, p)
	p.Configure(topicConfig(t, "cleanup.policy", "compact"))
	f(false)
	p.Configure(topicConfig(t, "cleanup.policy", "compact,delete"))
	f(true)
	if dropped, err := p.DropOldest(now); !dropped || err != nil || p.Log().Start() != 1 {
		t.Error(dropped, err)
	}
	f(false)
	p.Retire()
	if dropped, err := p.DropOldest(now); dropped || err != nil || p.Roll() != nil {
		t.Error("dropped from a partition that is gone")
	}
}

// A copy takes the producers with it, transactions included, and cuts what the
// partition does not have.
func TestFuture(t *testing.T) {
	mem := vfs.NewMem()
	cfg := topicConfig(t, "internal.segment.bytes", "300")
	p := open(t, mem, cfg)
	for i := range 5 {
		me := record.BuilderOptions{Producer: &record.Producer{ID: 7, Epoch: 1, Sequence: int32(i)}}
		if _, err := p.Append(batch(t, me, "a"), true, now); err != nil {
			t.Fatal(err)
		}
	}
	if err := mem.MkdirAll("/other/x-0-future"); err != nil {
		t.Fatal(err)
	}
	o := Options{FS: mem, Dir: "/other/x-0-future", ID: p.ID, Self: 1, Config: cfg, Owner: "other"}
	f, err := OpenFuture(p, o)
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n > 0 && err == nil; {
		n, err = f.Copy(1) // A batch at a time.
	}
	if err != nil || f.End() != 5 || f.Size() != p.Log().Size() {
		t.Fatal(f.End(), f.Size(), err)
	}
	// It is opened again where the partition has lost its end.
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := p.Log().Truncate(3); err != nil {
		t.Fatal(err)
	}
	p.Assign(leading(2))
	if f, err = OpenFuture(p, o); err != nil || f.End() != 3 {
		t.Fatal(f.End(), err)
	}
	add(t, p, "another")
	mark, err := f.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	err = f.Rehouse("/other/x-0", mark, func() error { return mem.Rename("/other/x-0-future", "/other/x-0") })
	if err != nil {
		t.Fatal(err)
	}
	if left, err := f.Take(10); left != nil || err != nil {
		t.Fatalf("took its place with much to copy: %v", err)
	}
	old := p.Log()
	left, err := f.Take(1000)
	if left != old || err != nil || p.Log() == old || p.Owner() != "other" {
		t.Fatal(left, err)
	}
	if _, err := p.BeginSyncOf(nil); !errors.Is(err, ErrMoved) {
		t.Errorf("who kept it before syncs it: %v", err)
	}
	if _, err := p.BeginMarkOf(nil); !errors.Is(err, ErrMoved) {
		t.Errorf("who kept it before marks it: %v", err)
	}
	flush(t, p)
	if s, err := p.State(model.NoEpoch); s.End != 4 || s.Committed != 4 || err != nil {
		t.Errorf("%+v %v", s, err)
	}
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	add(t, p, "life goes on")
}
