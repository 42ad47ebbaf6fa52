package partition

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/producers"
	"github.com/barnabas-log/barnabas/internal/replication"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// write appends a batch of a transaction as a broker does whose coordinator says
// yes.
func write(t testing.TB, p *Partition, pr record.Producer, values ...string) Appended {
	t.Helper()
	g, err := p.VerifyTransaction(pr, false, now)
	if err != nil {
		t.Fatal(err)
	}
	a, err := p.AppendWith(transactional(t, pr, values...), AppendOptions{AcksAll: true, Guard: g}, now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func transactional(t testing.TB, pr record.Producer, values ...string) record.Batch {
	t.Helper()
	return batch(t, record.BuilderOptions{Producer: &pr, Transactional: true}, values...)
}

func end(t testing.TB, p *Partition, m Marker) Appended {
	t.Helper()
	a, err := p.AppendMarker(m, now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Readers of committed transactions wait while one is open and are woken when
// its marker is committed.
func TestStable(t *testing.T) {
	p := open(t, vfs.NewMem(), topicConfig(t))
	stable := await(t, p, 1, true)
	write(t, p, record.Producer{ID: 7}, "t")
	add(t, p, "plain")
	flush(t, p)
	if stable.rung() || state(t, p).Stable != 0 || state(t, p).Committed != 2 {
		t.Errorf("open transaction: %+v", state(t, p))
	}
	// One that wants more than the marker has: what the transaction held counts.
	much := await(t, p, 100, true)
	end(t, p, Marker{ProducerID: 7, Committed: true})
	if stable.rung() || much.rung() || state(t, p).Stable != 0 || state(t, p).End != 3 {
		t.Errorf("the marker is not committed: %+v", state(t, p))
	}
	flush(t, p)
	if !stable.rung() || !much.rung() || state(t, p).Stable != 3 {
		t.Errorf("ended: %+v", state(t, p))
	}
}

// What aborted transactions leave is told to readers.
func TestAbortedIsIndexed(t *testing.T) {
	p := open(t, vfs.NewMem(), topicConfig(t, "durability", "os"))
	write(t, p, record.Producer{ID: 1}, "a", "b")
	write(t, p, record.Producer{ID: 2}, "c")
	end(t, p, Marker{ProducerID: 1})
	write(t, p, record.Producer{ID: 2, Sequence: 1}, "d")
	end(t, p, Marker{ProducerID: 2, Committed: true})
	list, err := p.Aborted(0, 6)
	want := []commitlog.AbortedTxn{{ProducerID: 1, First: 0, Last: 3, LastStable: 2}}
	if diff := cmp.Diff(want, list); err != nil || diff != "" {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if s := state(t, p); s.Stable != 6 {
		t.Errorf("%+v", s)
	}
}

// A transaction begins with a question, and its answer is void once a marker
// was here.
func TestVerification(t *testing.T) {
	p := open(t, vfs.NewMem(), topicConfig(t, "durability", "os"))
	pr := record.Producer{ID: 7}
	try := func(g producers.Guard) error {
		_, err := p.AppendWith(transactional(t, pr, "x"), AppendOptions{Guard: g}, now)
		return err
	}
	if err := try(producers.NoGuard); !errors.Is(err, producers.ErrInvalidTxnState) {
		t.Error(err)
	}
	g, err := p.VerifyTransaction(pr, false, now)
	if err != nil || g == producers.NoGuard {
		t.Fatal(g, err)
	}
	end(t, p, Marker{ProducerID: 7})
	if err := try(g); !errors.Is(err, producers.ErrInvalidTxnState) {
		t.Errorf("a late write: %v", err)
	}
	write(t, p, pr, "x")
	if g, err := p.VerifyTransaction(record.Producer{ID: 7, Sequence: 1}, false, now); err != nil || g != producers.NoGuard {
		t.Errorf("in a transaction: %v %v", g, err)
	}
	end(t, p, Marker{ProducerID: 7, ProducerEpoch: 1})
	if _, err := p.VerifyTransaction(pr, false, now); !errors.Is(err, producers.ErrInvalidEpoch) {
		t.Errorf("an old epoch: %v", err)
	}
	p.SetUnverified(true)
	pr.Epoch = 1
	if g, err := p.VerifyTransaction(pr, false, now); err != nil || g != producers.NoGuard {
		t.Errorf("verification is off: %v %v", g, err)
	}
	if err := try(producers.NoGuard); err != nil {
		t.Errorf("verification is off: %v", err)
	}
	p.Resign()
	if _, err := p.VerifyTransaction(pr, false, now); !errors.Is(err, ErrNotLeader) {
		t.Error(err)
	}
}

func TestMarkers(t *testing.T) {
	p := open(t, vfs.NewMem(), topicConfig(t, "durability", "os"))
	f := func(m Marker, want error) {
		t.Helper()
		was := state(t, p).End
		if err := p.CheckMarker(m); !errors.Is(err, want) && want != ErrTooFewInSync {
			t.Errorf("check: %v", err)
		}
		if _, err := p.AppendMarker(m, now); !errors.Is(err, want) || state(t, p).End != was+model.Offset(len("x")) == (want == nil) {
			t.Errorf("%v, end %d after %d", err, state(t, p).End, was)
		}
	}
	write(t, p, record.Producer{ID: 7, Epoch: 3}, "t")
	f(Marker{ProducerID: 7, ProducerEpoch: 2, CoordinatorEpoch: 5}, producers.ErrInvalidEpoch)
	f(Marker{ProducerID: 7, ProducerEpoch: 3, CoordinatorEpoch: 5, TransactionVersion: 2}, producers.ErrInvalidEpoch)
	f(Marker{ProducerID: 7, ProducerEpoch: 4, CoordinatorEpoch: 5, TransactionVersion: 2}, nil)
	f(Marker{ProducerID: 7, ProducerEpoch: 4, CoordinatorEpoch: 5, TransactionVersion: 2}, nil)
	f(Marker{ProducerID: 7, ProducerEpoch: 5, CoordinatorEpoch: 4, TransactionVersion: 2}, producers.ErrCoordinatorFenced)
	f(Marker{ProducerID: 99, CoordinatorEpoch: 1}, nil) // Nothing is known: nothing is wrong.
	p.Assign(replication.Assignment{Epoch: 2, Leader: 1, Members: []model.NodeID{1, 2}, Replicas: 2})
	p.Configure(topicConfig(t, "min.insync.replicas", "2"))
	p.Assign(replication.Assignment{Epoch: 3, Leader: 1, Members: []model.NodeID{1}, Replicas: 2})
	f(Marker{ProducerID: 99, CoordinatorEpoch: 1}, ErrTooFewInSync)
}

// The oldest open transaction is shown, and what was deleted is not held.
func TestOldestTransaction(t *testing.T) {
	p := open(t, vfs.NewMem(), topicConfig(t, "durability", "os"))
	if _, ok := p.OldestTransaction(); ok || p.Numbers().OldestTxn != 0 {
		t.Error("nothing is open")
	}
	write(t, p, record.Producer{ID: 7}, "t", "u")
	write(t, p, record.Producer{ID: 8}, "v")
	o, ok := p.OldestTransaction()
	if want := (producers.Oldest{ProducerID: 7, First: 0, Since: now.UnixMilli()}); !ok || o != want || p.Numbers().OldestTxn != now.UnixMilli() {
		t.Errorf("%+v %v", o, ok)
	}
	add(t, p, "w")
	if _, err := p.Trim(2); err != nil || state(t, p).Stable != 2 {
		t.Errorf("%v %+v", err, state(t, p))
	}
	end(t, p, Marker{ProducerID: 7})
	if o, _ := p.OldestTransaction(); o.ProducerID != 8 || state(t, p).Stable != 2 {
		t.Errorf("%+v %+v", o, state(t, p))
	}
}

// Open transactions, and what was aborted, are the same after a restart.
func TestTransactionsSurvive(t *testing.T) {
	mem := vfs.NewMem()
	p := open(t, mem, topicConfig(t, "durability", "os"))
	write(t, p, record.Producer{ID: 1}, "a")
	write(t, p, record.Producer{ID: 2}, "b")
	end(t, p, Marker{ProducerID: 2})
	if err := p.Roll(); err != nil { // Half of it is in a snapshot then.
		t.Fatal(err)
	}
	write(t, p, record.Producer{ID: 1, Sequence: 1}, "c")
	p.Close()
	p = open(t, mem, topicConfig(t, "durability", "os"))
	if o, ok := p.OldestTransaction(); !ok || o.ProducerID != 1 || o.First != 0 || state(t, p).Stable != 0 {
		t.Errorf("%+v %+v", o, state(t, p))
	}
	end(t, p, Marker{ProducerID: 1, Committed: true})
	list, err := p.Aborted(0, 5)
	if err != nil || len(list) != 1 || list[0].ProducerID != 2 || state(t, p).Stable != 5 {
		t.Errorf("%v %+v %+v", err, list, state(t, p))
	}
}

// Coordinators append in their epoch, and replay all there is.
func TestCoordinators(t *testing.T) {
	p := open(t, vfs.NewMem(), topicConfig(t, "cleanup.policy", "compact"))
	in := func(e model.Epoch, b record.Batch) error {
		_, err := p.AppendInEpoch(e, b, now)
		return err
	}
	plain := func() record.Batch { return batch(t, record.BuilderOptions{}, "v") }
	offsets := func(epoch int16) record.Batch {
		return transactional(t, record.Producer{ID: 7, Epoch: epoch, Sequence: record.NoSequence}, "o")
	}
	f := func(err, want error) {
		t.Helper()
		if !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	f(in(1, plain()), nil)
	f(in(0, plain()), ErrFencedEpoch)
	f(in(2, plain()), ErrUnknownEpoch)
	f(in(1, offsets(0)), producers.ErrInvalidTxnState)
	pr := record.Producer{ID: 7, Sequence: record.NoSequence}
	f(p.CheckCoordinated(pr), producers.ErrInvalidTxnState)
	g, err := p.VerifyTransaction(pr, false, now)
	f(err, nil)
	f(in(1, offsets(0)), producers.ErrInvalidTxnState)
	p.ConfirmTransaction(7, 0, g)
	f(p.CheckCoordinated(pr), nil)
	f(in(1, offsets(0)), nil)
	f(in(1, offsets(0)), nil)
	f(p.CheckCoordinated(pr), nil)
	f(in(1, record.EndTxnMarker(7, 1, 3, record.Commit, 0)), nil)
	f(p.CheckCoordinated(pr), producers.ErrInvalidEpoch)
	f(in(1, offsets(0)), producers.ErrInvalidEpoch)
	var bases []model.Offset
	until, err := p.Replay(func(b record.Batch) error {
		bases = append(bases, b.BaseOffset())
		return nil
	})
	if diff := cmp.Diff([]model.Offset{0, 1, 2, 3}, bases); err != nil || until != 4 || diff != "" || state(t, p).Committed != 0 {
		t.Errorf("%v, end %d, batches at %v", err, until, bases)
	}
	stop := errors.New("stop")
	if _, err := p.Replay(func(record.Batch) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
	p.Assign(leading(5))
	f(in(1, plain()), ErrFencedEpoch)
	f(in(5, plain()), nil)
	p.Retire()
	f(in(5, plain()), ErrNotLeader)
}

// The hot path does not allocate more with a guard than without.
func BenchmarkTransactionalAppend(b *testing.B) {
	p := open(b, vfs.NewMem(), topicConfig(b, "durability", "os"))
	pr := record.Producer{ID: 7}
	write(b, p, pr, "x")
	x := transactional(b, pr, "x")
	b.ReportAllocs()
	for i := int32(1); b.Loop(); i++ {
		pr.Sequence = i
		x.SetBaseOffset(0)
		x[53], x[54], x[55], x[56] = byte(i>>24), byte(i>>16), byte(i>>8), byte(i)
		x.UpdateCRC()
		g, err := p.VerifyTransaction(pr, false, now)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.AppendWith(x, AppendOptions{Guard: g}, now.Add(time.Duration(i))); err != nil {
			b.Fatal(err)
		}
	}
}
