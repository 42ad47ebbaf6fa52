package partition

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/producers"
	"github.com/barnabas-log/barnabas/internal/replication"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

var now = time.UnixMilli(1_700_000_000_000)

func topicConfig(t testing.TB, overrides ...string) *config.Topic {
	t.Helper()
	b, _, err := config.Load(config.Sources{Flags: map[string]string{"log.dirs": "/data"}, MemoryBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]string{}
	for i := 0; i < len(overrides); i += 2 {
		set[overrides[i]] = overrides[i+1]
	}
	c, err := config.ResolveTopic(b, set)
	if err != nil {
		t.Fatal(err)
	}
	return &c
}

func open(t testing.TB, fs vfs.FS, c *config.Topic, change ...func(*Options)) *Partition {
	t.Helper()
	if err := fs.MkdirAll("/data/x-0"); err != nil {
		t.Fatal(err)
	}
	o := Options{FS: fs, Dir: "/data/x-0", ID: model.Partition{Topic: "x"}, Self: 1, Config: c, ProducerExpiry: time.Hour}
	for _, f := range change {
		f(&o)
	}
	p, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	p.Assign(leading(1))
	return p
}

func leading(e model.Epoch) replication.Assignment {
	return replication.Assignment{Epoch: e, Leader: 1, Members: []model.NodeID{1}, Replicas: 1}
}

func batch(t testing.TB, o record.BuilderOptions, values ...string) record.Batch {
	t.Helper()
	b := record.NewBuilder(o)
	for _, v := range values {
		if err := b.Add(record.Record{Timestamp: now.UnixMilli(), Value: []byte(v)}); err != nil {
			t.Fatal(err)
		}
	}
	_, out, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func add(t testing.TB, p *Partition, values ...string) Appended {
	t.Helper()
	a, err := p.Append(batch(t, record.BuilderOptions{}, values...), true, now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func flush(t testing.TB, p *Partition) {
	t.Helper()
	s, err := p.BeginSync()
	if err != nil {
		t.Fatal(err)
	}
	p.Synced(s, s.Flush())
}

// bell counts how often it was rung.
type bell struct{ n atomic.Int64 }

func (b *bell) Wake()      { b.n.Add(1) }
func (b *bell) rung() bool { return b.n.Swap(0) > 0 }

func state(t testing.TB, p *Partition) State {
	t.Helper()
	s, err := p.State(model.NoEpoch)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func await(t testing.TB, p *Partition, bytes int64, stable bool) *bell {
	t.Helper()
	b := &bell{}
	if !p.AwaitData(state(t, p), NewNeed(b, bytes, stable)) {
		t.Fatal("not registered")
	}
	return b
}

// What counts as committed, and who is woken, with each durability.
func TestCommit(t *testing.T) {
	f := func(durability string, committedAtOnce bool) {
		t.Helper()
		p := open(t, vfs.NewMem(), topicConfig(t, "durability", durability))
		data := await(t, p, 1, false)
		a := add(t, p, "a", "b")
		if done, err := p.Acknowledged(a.End, a.Epoch); err != nil || done != committedAtOnce || data.rung() != committedAtOnce {
			t.Errorf("%s: appended: %v %v", durability, done, err)
		}
		commit := &bell{}
		if p.AwaitCommitted(a.End, a.Epoch, commit) == committedAtOnce {
			t.Errorf("%s: wait registered: %v", durability, !committedAtOnce)
		}
		flush(t, p)
		if done, err := p.Acknowledged(a.End, a.Epoch); err != nil || !done || commit.rung() == committedAtOnce {
			t.Errorf("%s: synced: %v %v", durability, done, err)
		}
	}
	f("os", true)
	f("fsync", false)
}

// A fetch is woken when enough bytes are committed, not before, also when the
// commit point jumps, and when the assignment changed in between.
func TestMinBytes(t *testing.T) {
	p := open(t, vfs.NewMem(), topicConfig(t))
	size := int64(len(batch(t, record.BuilderOptions{}, "a")))
	b := await(t, p, 3*size, false)
	add(t, p, "a")
	flush(t, p)
	add(t, p, "a")
	s, err := p.BeginSync()
	if err != nil {
		t.Fatal(err)
	}
	add(t, p, "a") // Not in this sync.
	p.Synced(s, s.Flush())
	if b.rung() {
		t.Error("woken for two batches of three")
	}
	flush(t, p)
	if !b.rung() {
		t.Error("not woken for three batches")
	}
	add(t, p, "a")
	p.Assign(leading(1)) // The same epoch: the in-sync set changed, say.
	b = await(t, p, size, false)
	flush(t, p)
	if !b.rung() {
		t.Error("slept on after a change of assignment")
	}
}

// An append is acknowledged in the epoch it was made in or not at all.
func TestAcknowledgedInItsEpoch(t *testing.T) {
	p := open(t, vfs.NewMem(), topicConfig(t))
	a := add(t, p, "a")
	b := &bell{}
	if !p.AwaitCommitted(a.End, a.Epoch, b) {
		t.Fatal("not registered")
	}
	p.Assign(leading(2))
	if _, err := p.Acknowledged(a.End, a.Epoch); !errors.Is(err, ErrNotLeader) || !b.rung() {
		t.Error(err)
	}
	flush(t, p)
	if _, err := p.Acknowledged(a.End, a.Epoch); !errors.Is(err, ErrNotLeader) {
		t.Error(err)
	}
	if p.AwaitCommitted(a.End, a.Epoch, b) {
		t.Error("waits for an epoch that is over")
	}
}

// An idempotent producer's batches are taken once, across restarts too.
func TestIdempotence(t *testing.T) {
	mem := vfs.NewMem()
	p := open(t, mem, topicConfig(t))
	send := func(sequence int32) (Appended, error) {
		return p.Append(batch(t, record.BuilderOptions{Producer: &record.Producer{ID: 7, Sequence: sequence}}, "v"), true, now)
	}
	for i := range int32(5) {
		if a, err := send(i); err != nil || a.Base != model.Offset(i) || a.Duplicate {
			t.Fatal(a, err)
		}
	}
	again := func(when string) {
		t.Helper()
		for i := range int32(5) {
			if a, err := send(i); err != nil || a.Base != model.Offset(i) || !a.Duplicate {
				t.Errorf("%s: %d: %+v %v", when, i, a, err)
			}
		}
		if _, err := send(9); !errors.Is(err, producers.ErrOutOfOrderSequence) {
			t.Errorf("%s: %v", when, err)
		}
	}
	again("at once")
	p.Close()
	p = open(t, mem, topicConfig(t))
	again("after a crash")
	m, err := p.BeginMark()
	if err != nil {
		t.Fatal(err)
	}
	mark, err := m.Finish()
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	p = open(t, mem, topicConfig(t), func(o *Options) { o.Log.Mark = mark })
	again("after a mark")
}

// Retention that rolls the log leaves a snapshot of the producers at its end.
func TestRetainKeepsProducers(t *testing.T) {
	mem := vfs.NewMem()
	p := open(t, mem, topicConfig(t, "retention.ms", "1000", "durability", "os"))
	b := batch(t, record.BuilderOptions{Producer: &record.Producer{ID: 7}}, "v")
	if _, err := p.Append(b, true, now); err != nil {
		t.Fatal(err)
	}
	if n, err := p.Retain(now.Add(time.Minute)); n != 1 || err != nil || p.Log().Start() != 1 {
		t.Fatal(n, err)
	}
	p.Close()
	p = open(t, mem, topicConfig(t))
	b = batch(t, record.BuilderOptions{Producer: &record.Producer{ID: 7}}, "v")
	if a, err := p.Append(b, true, now); err != nil || !a.Duplicate {
		t.Errorf("%+v %v", a, err)
	}
}

// Retention waits for the disk without keeping producers and readers waiting.
func TestRetainWithoutTheLock(t *testing.T) {
	var p *Partition
	appended := false
	fs := vfs.NewFaulty(vfs.NewMem(), func(o vfs.Op) error {
		if o.Kind == vfs.OpSyncDir && p != nil && !appended {
			appended = true
			add(t, p, "during the sync of a directory") // Would never return.
		}
		return nil
	})
	q := open(t, fs, topicConfig(t, "retention.bytes", "1", "internal.segment.bytes", "200", "durability", "os"))
	for range 5 {
		add(t, q, "a value of some length, so that there are segments")
	}
	p = q
	if n, err := q.Retain(now); n == 0 || err != nil || !appended {
		t.Error(n, err, appended)
	}
}

// Each thing that can go wrong while writing, and what becomes of the
// partition.
func TestFailures(t *testing.T) {
	f := func(name string, kind vfs.OpKind, failure, want error, usable bool) {
		t.Helper()
		failing := false
		fs := vfs.NewFaulty(vfs.NewMem(), func(o vfs.Op) error {
			if failing && o.Matches(kind, "*.log") {
				return failure
			}
			return nil
		})
		p := open(t, fs, topicConfig(t))
		add(t, p, "a")
		flush(t, p)
		p.Log().Idle()
		p.Log().Idle()
		failing = true
		a, err := p.Append(batch(t, record.BuilderOptions{}, "b"), true, now)
		if err == nil {
			flush(t, p)
			_, err = p.Acknowledged(a.End, a.Epoch)
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
		failing = false
		if _, err := p.Append(batch(t, record.BuilderOptions{}, "c"), true, now); (err == nil) != usable {
			t.Errorf("%s: afterwards: %v", name, err)
		}
	}
	f("full disk", vfs.OpWrite, syscall.ENOSPC, ErrDiskFull, true)
	f("broken disk", vfs.OpWrite, syscall.EIO, ErrOffline, false)
	f("failed sync", vfs.OpSync, syscall.EIO, ErrOffline, false)
	f("too many files", vfs.OpOpen, syscall.EMFILE, ErrOffline, true)
}

// A partition that is retired while its sync runs has not failed.
func TestRetiredDuringSync(t *testing.T) {
	p := open(t, vfs.NewMem(), topicConfig(t))
	a := add(t, p, "a")
	s, err := p.BeginSync()
	if err != nil {
		t.Fatal(err)
	}
	p.Retire()
	p.Close()
	p.Synced(s, errors.New("the directory has gone"))
	if err := p.Err(); !errors.Is(err, ErrNotLeader) || errors.Is(err, ErrOffline) {
		t.Error(err)
	}
	if _, err := p.Acknowledged(a.End, a.Epoch); !errors.Is(err, ErrNotLeader) {
		t.Error(err)
	}
	if _, err := p.BeginSync(); !errors.Is(err, commitlog.ErrClosed) {
		t.Error(err)
	}
}

// Records are refused while there is no space for them; a repeat needs none.
func TestFull(t *testing.T) {
	var full atomic.Bool
	p := open(t, vfs.NewMem(), topicConfig(t), func(o *Options) { o.Full = full.Load })
	b := func() record.Batch {
		return batch(t, record.BuilderOptions{Producer: &record.Producer{ID: 7}}, "v")
	}
	if _, err := p.Append(b(), true, now); err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	if a, err := p.Append(b(), true, now); err != nil || !a.Duplicate {
		t.Error(a, err)
	}
	if _, err := p.Append(batch(t, record.BuilderOptions{}, "x"), true, now); !errors.Is(err, ErrDiskFull) {
		t.Error(err)
	}
	full.Store(false)
	add(t, p, "x")
}

// Whoever waits is woken, whatever comes between: producers, a flusher, changes
// of durability and assignment, and readers, all at once.
func TestNobodySleepsOn(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 1))
		work := make(chan struct{}, 1)
		p := open(t, vfs.NewMem(), topicConfig(t), func(o *Options) {
			o.Dirty = func(*Partition) {
				select {
				case work <- struct{}{}:
				default:
				}
			}
		})
		var done atomic.Bool
		var helpers, clients sync.WaitGroup
		helpers.Go(func() {
			for range work {
				s, err := p.BeginSync()
				if err != nil {
					t.Error(err)
				}
				p.Synced(s, s.Flush())
			}
		})
		fsync, os := topicConfig(t), topicConfig(t, "durability", "os")
		helpers.Go(func() {
			for !done.Load() {
				p.Configure(os)
				p.Configure(fsync)
				p.Assign(leading(1))
			}
		})
		const appends = 200
		for range 3 {
			size := 1 + rng.IntN(300)
			clients.Go(func() {
				for range appends {
					a := add(t, p, fmt.Sprintf("%0*d", size, 0))
					for {
						ok, err := p.Acknowledged(a.End, a.Epoch)
						if ok || err != nil {
							break
						}
						if c := newChime(); p.AwaitCommitted(a.End, a.Epoch, c) {
							<-c
						}
					}
				}
			})
		}
		for range 2 {
			least := int64(1 + rng.IntN(2000))
			clients.Go(func() {
				for at := model.Offset(0); at < 3*appends; {
					s := state(t, p)
					if s.Committed > at {
						at = s.Committed
						continue
					}
					if c := newChime(); p.AwaitData(s, NewNeed(c, min(least, int64(3*appends-at)), false)) {
						<-c
					}
				}
			})
		}
		clients.Wait()
		done.Store(true)
		close(work)
		helpers.Wait()
		p.mu.Lock()
		left := len(p.mu.waiters.commits) + len(p.mu.waiters.reads)
		p.mu.Unlock()
		if left != 0 || t.Failed() {
			t.Fatalf("seed %d: %d still wait", seed, left)
		}
	}
}

// chime wakes a goroutine.
type chime chan struct{}

func newChime() chime { return make(chime, 1) }

func (c chime) Wake() {
	select {
	case c <- struct{}{}:
	default:
	}
}
