package quorum

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

var crashSeeds = flag.Uint64("crash.seeds", 200, "worlds of TestCrash, times $BARNABAS_WORLDS")

// node is a quorum on a disk, with what it published.
type node struct {
	*Quorum
	dir       *datadir.Dir
	published []string
}

type setting func(*Options)

func format() []metadata.Record {
	return []metadata.Record{
		{Message: metadata.FeatureRecord(metadata.MetadataVersion, 33)},
		{Message: metadata.ConfigRecord(metadata.Resource{Type: metadata.ResourceBroker}, "min.insync.replicas", new("1"))},
	}
}

func start(fs vfs.FS, settings ...setting) (*node, error) {
	seed := rand.NewChaCha8([32]byte{1})
	dir, err := datadir.Open(fs, "/data", datadir.Identity{Node: 1}, seed)
	if err != nil {
		return nil, err
	}
	n := &node{dir: dir}
	o := Options{
		Dir: dir, Self: 1, Now: time.Now, Log: slog.New(slog.DiscardHandler), SnapshotBytes: 1 << 20,
		Publish: func(d *metadata.Delta, i *metadata.Image) {
			for _, id := range d.Topics {
				if t := i.TopicByID(id); t != nil {
					n.published = append(n.published, t.Name)
				}
			}
		},
	}
	for _, set := range settings {
		set(&o)
	}
	n.Quorum, err = Open(o, format())
	if err != nil {
		dir.Close()
		return nil, err
	}
	return n, nil
}

func mustStart(t *testing.T, fs vfs.FS, settings ...setting) *node {
	t.Helper()
	n, err := start(fs, settings...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.stop)
	return n
}

func (n *node) stop() {
	n.Close()
	n.dir.Close()
}

// propose carries one proposal out, without a goroutine.
func (n *node) propose(decide func(*metadata.Image) ([]metadata.Record, error)) (result, fatal error) {
	p := &proposal{decide: decide, decided: make(chan struct{}), done: make(chan error, 1)}
	if err := n.group(p); err != nil {
		return nil, err
	}
	return <-p.done, nil
}

func (n *node) mustCreate(t *testing.T, name string, partitions int) {
	t.Helper()
	if err, fatal := n.propose(creating(name, partitions)); err != nil || fatal != nil {
		t.Fatal(err, fatal)
	}
}

func topicID(name string) (id model.TopicID) {
	copy(id[:], name)
	return id
}

var errExists = errors.New("exists")

// creating decides to make a topic.
func creating(name string, partitions int) func(*metadata.Image) ([]metadata.Record, error) {
	return func(i *metadata.Image) ([]metadata.Record, error) {
		if i.Topic(name) != nil {
			return nil, errExists
		}
		topic := wire.NewTopicRecord()
		topic.Name, topic.TopicID = name, topicID(name)
		records := []metadata.Record{{Message: topic}}
		for n := range partitions {
			p := wire.NewPartitionRecord()
			p.TopicID, p.PartitionID, p.Leader = topicID(name), int32(n), 1
			p.Replicas, p.Isr, p.Directories = []int32{1}, []int32{1}, []model.UUID{{15: 9}}
			records = append(records, metadata.Record{Message: p, Version: metadata.PartitionRecordVersion})
		}
		return records, nil
	}
}

func removing(name string) func(*metadata.Image) ([]metadata.Record, error) {
	return func(i *metadata.Image) ([]metadata.Record, error) {
		if i.Topic(name) == nil {
			return nil, nil
		}
		m := wire.NewRemoveTopicRecord()
		m.TopicID = topicID(name)
		return []metadata.Record{{Message: m}}, nil
	}
}

func names(i *metadata.Image) (out []string) {
	i.Topics("", func(t *metadata.Topic) bool {
		out = append(out, fmt.Sprintf("%s/%d", t.Name, len(t.Partitions)))
		return true
	})
	return out
}

func TestEachStartBeginsAnEpoch(t *testing.T) {
	mem := vfs.NewMem()
	for want := range model.Epoch(4) {
		n, err := start(mem)
		if err != nil {
			t.Fatal(err)
		}
		if n.Epoch() != want+1 {
			t.Errorf("epoch %d, want %d", n.Epoch(), want+1)
		}
		if level := n.Image().Feature(metadata.MetadataVersion); level != 33 {
			t.Errorf("metadata.version %d", level)
		}
		n.stop()
	}
}

// The epoch is that of the log or of quorum-state, whichever is greater.
func TestEpochSurvivesALostState(t *testing.T) {
	mem := vfs.NewMem()
	n := mustStart(t, mem)
	n.mustCreate(t, "a", 1)
	n.stop()
	if err := mem.Remove("/data/__cluster_metadata-0/quorum-state"); err != nil {
		t.Fatal(err)
	}
	if n := mustStart(t, mem); n.Epoch() != 2 || n.Image().Topic("a") == nil {
		t.Error(n.Epoch(), names(n.Image()))
	}
}

// Snapshots are written, the log before them goes, and what is read back is the
// same image.
func TestSnapshots(t *testing.T) {
	mem := vfs.NewMem()
	small := func(o *Options) { o.SnapshotBytes = 4000 }
	n := mustStart(t, mem, small)
	for i := range 200 {
		n.mustCreate(t, fmt.Sprintf("topic-%03d", i), 1+i%3)
		if i%4 == 3 {
			if err, fatal := n.propose(removing(fmt.Sprintf("topic-%03d", i-1))); err != nil || fatal != nil {
				t.Fatal(err, fatal)
			}
		}
	}
	if n.snapshotted == 0 || n.log.Start() != n.snapshotted {
		t.Errorf("snapshot at %d, log starts at %d", n.snapshotted, n.log.Start())
	}
	files, err := n.Quorum.snapshots()
	if err != nil || len(files) != 1 {
		t.Errorf("snapshots %v %v", files, err)
	}
	want := n.Image()
	n.stop()
	n = mustStart(t, mem, small)
	if diff := cmp.Diff(names(want), names(n.Image())); diff != "" {
		t.Error(diff)
	}
	if got, want := n.Image().PartitionCount(), want.PartitionCount(); got != want {
		t.Errorf("%d partitions, want %d", got, want)
	}
}

// A torn tail is cut: what was answered lies before it.
func TestTornTail(t *testing.T) {
	mem := vfs.NewMem()
	mem.SetCapacity(8 << 20) // No room for a reserve, which costs time to clone.
	n := mustStart(t, mem)
	n.mustCreate(t, "a", 3)
	size := n.log.Size()
	n.mustCreate(t, "b", 3)
	end := n.log.Size()
	n.stop()
	for cut := size; cut < end; cut += 7 {
		disk := mem.CrashClone(rand.New(rand.NewPCG(1, 1)))
		f, err := disk.OpenWrite("/data/__cluster_metadata-0/00000000000000000000.log")
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(cut); err != nil {
			t.Fatal(err)
		}
		n := mustStart(t, disk)
		if got := names(n.Image()); !slices.Equal(got, []string{"a/3"}) {
			t.Errorf("cut at %d: %v", cut, got)
		}
		n.mustCreate(t, "b", 1)
		n.stop()
	}
}

// raw appends a batch to a metadata log that nobody has open.
func raw(t *testing.T, fs vfs.FS, values ...[]byte) {
	t.Helper()
	l, err := commitlog.Open(fs, "/data/__cluster_metadata-0", commitlog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b := record.NewBuilder(record.BuilderOptions{})
	for _, v := range values {
		if err := b.Add(record.Record{Value: v}); err != nil {
			t.Fatal(err)
		}
	}
	_, batch, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Append(batch, 1, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
}

func encoded(t *testing.T, m wire.MetadataRecord) []byte {
	t.Helper()
	b, err := wire.AppendMetadataRecord(nil, m, 0)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A transaction that an earlier leader left open is void, and ended for every
// reader of the log.
func TestOpenTransactionOfAnEarlierLeader(t *testing.T) {
	mem := vfs.NewMem()
	n := mustStart(t, mem)
	n.mustCreate(t, "a", 1)
	n.stop()
	topic := wire.NewTopicRecord()
	topic.Name, topic.TopicID = "half", topicID("half")
	raw(t, mem, encoded(t, wire.NewBeginTransactionRecord()), encoded(t, topic))
	for range 2 {
		n = mustStart(t, mem)
		if got := names(n.Image()); !slices.Equal(got, []string{"a/1"}) {
			t.Fatal(got)
		}
		n.stop()
	}
	n = mustStart(t, mem)
	n.mustCreate(t, "half", 2)
	if got := names(n.Image()); !slices.Equal(got, []string{"a/1", "half/2"}) {
		t.Fatal(got)
	}
}

// A record of a newer Kafka is refused by name and place, in the log and in a
// snapshot, and nothing is changed.
func TestUnknownRecords(t *testing.T) {
	unknown := []byte{1, 0xa8, 0x7f, 0, 0} // Frame 1, an API key far above all.
	mem := vfs.NewMem()
	n := mustStart(t, mem)
	n.stop()
	raw(t, mem, unknown)
	if _, err := start(mem); err == nil || !strings.Contains(err.Error(), "offset 5") {
		t.Errorf("log: %v", err)
	}

	mem = vfs.NewMem()
	n = mustStart(t, mem)
	n.mustCreate(t, "a", 1)
	if err := n.writeSnapshot(n.Image()); err != nil {
		t.Fatal(err)
	}
	name := snapshotName(n.Image().End(), n.epoch)
	n.stop()
	b, err := vfs.ReadFile(mem, "/data/__cluster_metadata-0/"+name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	builder := record.NewBuilder(record.BuilderOptions{})
	if err := builder.Add(record.Record{Value: unknown}); err != nil {
		t.Fatal(err)
	}
	_, batch, err := builder.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := vfs.WriteFile(mem, "/data/__cluster_metadata-0/"+name, append(batch, b...)); err != nil {
		t.Fatal(err)
	}
	if _, err := start(mem); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("snapshot: %v", err)
	}
}

// A snapshot that is not whole is as if it were not there.
func TestTornSnapshot(t *testing.T) {
	mem := vfs.NewMem()
	n := mustStart(t, mem)
	n.mustCreate(t, "a", 1)
	if err := n.writeSnapshot(n.Image()); err != nil {
		t.Fatal(err)
	}
	path := "/data/__cluster_metadata-0/" + snapshotName(n.Image().End(), n.epoch)
	n.stop()
	whole, err := vfs.ReadFile(mem, path, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for size := 0; size < len(whole); size += 11 {
		if err := vfs.WriteFile(mem, path, whole[:size]); err != nil {
			t.Fatal(err)
		}
		n := mustStart(t, mem)
		if got := names(n.Image()); !slices.Equal(got, []string{"a/1"}) {
			t.Errorf("%d bytes: %v", size, got)
		}
		n.stop()
	}
}

// Nobody is answered before the sync: not who is refused because of a change
// that the sync makes durable either.
func TestRefusalsWaitForTheSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem()
		var hold chan struct{}
		var mu sync.Mutex
		fs := vfs.NewFaulty(mem, func(o vfs.Op) error {
			mu.Lock()
			c := hold
			mu.Unlock()
			if c != nil && o.Matches(vfs.OpSync, "*.log") {
				<-c
			}
			return nil
		})
		n := mustStart(t, fs)
		mu.Lock()
		hold = make(chan struct{})
		mu.Unlock()
		answers := make(chan error, 2)
		// Both are there before Run looks: one group.
		for range 2 {
			go func() { answers <- n.Propose(t.Context(), creating("a", 1)) }()
		}
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- n.Run(ctx) }()
		synctest.Wait()
		select {
		case err := <-answers:
			t.Fatalf("answered before the sync: %v", err)
		default:
		}
		if n.Image().Topic("a") != nil {
			t.Error("published before the sync")
		}
		close(hold)
		got := []error{<-answers, <-answers}
		if !slices.Contains(got, nil) || !slices.Contains(got, errExists) {
			t.Error(got)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// A proposer who gives up in the queue is not asked any more, so that nobody
// writes into what he has left; who gives up later may have been.
func TestGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := mustStart(t, vfs.NewMem())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		called := false
		err := n.Propose(ctx, func(*metadata.Image) ([]metadata.Record, error) {
			called = true
			return nil, nil
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		running, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- n.Run(running) }()
		if err := n.Propose(t.Context(), creating("a", 1)); err != nil {
			t.Fatal(err)
		}
		stop()
		if err := <-ended; err != nil || called {
			t.Error(err, called)
		}
		if err := n.Propose(t.Context(), creating("b", 1)); !errors.Is(err, ErrStopped) {
			t.Error(err)
		}
	})
}

// Without space the reserve is spent; with that spent too a change is refused,
// and the node goes on.
func TestDiskFull(t *testing.T) {
	mem := vfs.NewMem()
	n := mustStart(t, mem)
	mem.SetCapacity(16<<20 + 1<<20) // The reserve and what there is beside it.
	full := 0
	for i := range 1000 {
		err, fatal := n.propose(creating(fmt.Sprintf("topic-%d", i), 4000))
		if fatal != nil {
			t.Fatal(fatal)
		}
		if errors.Is(err, syscall.ENOSPC) {
			if full++; full > 3 {
				break
			}
		} else if err != nil {
			t.Fatal(err)
		} else if full > 0 {
			full = 0 // A smaller one fitted.
		}
	}
	if full == 0 || !n.dir.Full() {
		t.Fatalf("never full; reserve spent: %v", n.dir.Full())
	}
	mem.SetCapacity(0)
	n.mustCreate(t, "after", 1)
	want := names(n.Image())
	n.stop()
	n = mustStart(t, mem)
	if diff := cmp.Diff(want, names(n.Image())); diff != "" {
		t.Error(diff)
	}
}

// A log that cannot be written ends the node.
func TestFailedDiskIsFatal(t *testing.T) {
	f := func(kind vfs.OpKind) {
		t.Helper()
		var fail bool
		fs := vfs.NewFaulty(vfs.NewMem(), func(o vfs.Op) error {
			if fail && o.Matches(kind, "*.log") {
				return syscall.EIO
			}
			return nil
		})
		n := mustStart(t, fs)
		fail = true
		if _, fatal := n.propose(creating("a", 1)); !errors.Is(fatal, syscall.EIO) {
			t.Errorf("%s: %v", kind, fatal)
		}
		if n.Image().Topic("a") != nil {
			t.Errorf("%s: published", kind)
		}
	}
	f(vfs.OpWrite)
	f(vfs.OpSync)
}

// What a disk forgets of a log that was synced is not taken for a torn end: the
// log stays as it is.
func TestDamagedLog(t *testing.T) {
	mem := vfs.NewMem()
	n := mustStart(t, mem)
	n.mustCreate(t, "a", 1)
	n.mustCreate(t, "b", 1)
	end := n.Image().End()
	n.stop()
	const log = "/data/__cluster_metadata-0/00000000000000000000.log"
	whole, err := vfs.ReadFile(mem, log, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	f := func(content []byte, synced model.Offset, ok bool) {
		t.Helper()
		if err := vfs.WriteFile(mem, log, content); err != nil {
			t.Fatal(err)
		}
		n, err := start(mem, func(o *Options) { o.Synced = synced })
		if ok != (err == nil) || !ok && !strings.Contains(err.Error(), "restore the directory from a backup") {
			t.Fatalf("%d bytes, synced %d: %v", len(content), synced, err)
		}
		if ok {
			n.stop()
		} else if now, err := vfs.ReadFile(mem, log, 1<<20); err != nil || !bytes.Equal(now, content) {
			t.Error("the log was changed")
		}
	}
	flipped := bytes.Clone(whole)
	flipped[len(whole)-5] ^= 1
	f(flipped, end, false)
	f(flipped, end-4, true) // Torn behind what is known.
	flipped[len(whole)/4] ^= 1
	f(flipped, end, false)
	f(flipped, 2, false)
	f(whole[:len(whole)-5], end, false)
	f(nil, 1, false)
	f(whole, end, true)
	f(flipped, 0, true)
}

func TestForeignVoters(t *testing.T) {
	mem := vfs.NewMem()
	n := mustStart(t, mem)
	n.stop()
	state := `{"clusterId":"","leaderId":2,"leaderEpoch":7,"votedId":-1,"appliedOffset":0,"currentVoters":[{"voterId":1},{"voterId":2}],"data_version":0}`
	if err := vfs.WriteFile(mem, "/data/__cluster_metadata-0/quorum-state", []byte(state)); err != nil {
		t.Fatal(err)
	}
	if _, err := start(mem); err == nil || !strings.Contains(err.Error(), "node 2 is a voter") {
		t.Error(err)
	}
	if err := vfs.WriteFile(mem, "/data/__cluster_metadata-0/quorum-state", []byte(state[:20])); err != nil {
		t.Fatal(err)
	}
	if _, err := start(mem); err == nil || !strings.Contains(err.Error(), "quorum-state: damaged: delete it") {
		t.Error(err)
	}
}

func worlds() uint64 {
	n := *crashSeeds
	if times, err := strconv.ParseUint(os.Getenv("BARNABAS_WORLDS"), 10, 16); err == nil {
		n *= max(times, 1)
	}
	return n
}

// TestCrash crashes at a durable operation, several times in a row, also while
// starting: what Propose answered survives, and topics are there whole or not
// at all.
func TestCrash(t *testing.T) {
	for seed := range worlds() {
		if err := crash(seed); err != nil {
			t.Fatalf("-crash.seeds=%d, seed %d: %v", seed+1, seed, err)
		}
	}
}

// answered is what clients were told: partitions of each topic, 0 if it was
// removed. asked are changes without an answer.
type answered struct{ topics, asked map[string]int }

var errPower = errors.New("power cut")

func crash(seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 3))
	disk := vfs.NewMem()
	disk.SetCapacity(8 << 20) // No room for a reserve, which costs time to clone.
	told := answered{map[string]int{}, map[string]int{}}
	made := 0
	for range 4 {
		left := 1 + rng.IntN(60)
		var after *vfs.Mem
		fs := vfs.NewFaulty(disk, func(o vfs.Op) error {
			if after != nil {
				return errPower
			}
			if o.Durable() {
				if left--; left == 0 {
					after = disk.CrashClone(rng)
					return errPower
				}
			}
			return nil
		})
		n, err := start(fs, func(o *Options) { o.SnapshotBytes = 2500 })
		if err == nil {
			if err := told.check(n.Image()); err != nil {
				return err
			}
			for range 40 {
				if after != nil {
					break
				}
				told.change(n, rng, &made)
			}
			n.stop()
		} else if after == nil {
			return err
		}
		if after != nil {
			disk = after
		}
	}
	n, err := start(disk)
	if err != nil {
		return err
	}
	defer n.stop()
	return told.check(n.Image())
}

// change proposes something and notes the answer.
func (a *answered) change(n *node, rng *rand.Rand, made *int) {
	name, partitions := "", 0
	var decide func(*metadata.Image) ([]metadata.Record, error)
	if live := a.live(); len(live) > 0 && rng.IntN(3) == 0 {
		name = live[rng.IntN(len(live))]
		decide = removing(name)
	} else {
		*made++
		name, partitions = fmt.Sprintf("t%d", *made), 1+rng.IntN(20)
		decide = creating(name, partitions)
	}
	a.asked[name] = partitions
	if err, fatal := n.propose(decide); err == nil && fatal == nil {
		a.topics[name] = partitions
		delete(a.asked, name)
	}
}

func (a *answered) live() (out []string) {
	for name, n := range a.topics {
		if _, asked := a.asked[name]; n > 0 && !asked {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func (a *answered) check(i *metadata.Image) error {
	for name, want := range a.topics {
		got := 0
		if t := i.Topic(name); t != nil {
			got = len(t.Partitions)
		}
		other, asked := a.asked[name]
		if got != want && !(asked && got == other) {
			return fmt.Errorf("topic %s has %d partitions, %d were answered", name, got, want)
		}
		if asked {
			a.topics[name] = got // It is decided now.
			delete(a.asked, name)
		}
	}
	for name, want := range a.asked {
		if t := i.Topic(name); t != nil {
			if len(t.Partitions) != want {
				return fmt.Errorf("topic %s has %d of %d partitions", name, len(t.Partitions), want)
			}
			a.topics[name] = want
		}
		delete(a.asked, name)
	}
	for _, s := range names(i) {
		name, _, _ := strings.Cut(s, "/")
		if a.topics[name] == 0 {
			return fmt.Errorf("topic %s is there", s)
		}
	}
	return nil
}

// A snapshot of ours begins and ends as Kafka's readers want it.
func TestSnapshotFrame(t *testing.T) {
	n := mustStart(t, vfs.NewMem())
	n.mustCreate(t, "a", 1)
	if err := n.writeSnapshot(n.Image()); err != nil {
		t.Fatal(err)
	}
	b, err := vfs.ReadFile(n.fs, n.path(snapshotName(n.Image().End(), n.epoch)), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	next := model.Offset(0)
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		if err != nil {
			t.Fatal(err)
		}
		if batch.BaseOffset() != next {
			t.Errorf("batch at %d, want %d", batch.BaseOffset(), next)
		}
		next, b = batch.End(), rest
		kind := "records"
		if batch.IsControl() {
			c, err := batch.Control()
			if err != nil {
				t.Fatal(err)
			}
			kind = map[record.ControlType]string{record.SnapshotHeader: "header", record.SnapshotFooter: "footer"}[c.Type]
		}
		kinds = append(kinds, kind)
	}
	if want := []string{"header", "records", "footer"}; !slices.Equal(kinds, want) {
		t.Error(kinds)
	}
}
