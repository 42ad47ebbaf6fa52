package replicas

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

var (
	diskSeeds = flag.Uint64("disk.seeds", 40, "worlds of the tests of disks, times $BARNABAS_WORLDS")
	diskSeed  = flag.Uint64("disk.seed", 0, "run only this world")
)

// eachSeed runs a world for every seed.
func eachSeed(t *testing.T, run func(t *testing.T, seed uint64)) {
	if *diskSeed > 0 {
		run(t, *diskSeed)
		return
	}
	n := *diskSeeds
	if times, err := strconv.ParseUint(os.Getenv("BARNABAS_WORLDS"), 10, 64); err == nil {
		n *= times
	}
	for seed := uint64(1); seed <= n && !t.Failed(); seed++ {
		// A test of its own: it gives its disks back.
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { run(t, seed) })
	}
	if t.Failed() {
		t.Log("run one of them with -disk.seed=N")
	}
}

// diskModel is a world on two file systems that crash together, and what has to
// be true of its topics x and y.
type diskModel struct {
	*world
	rng    *rand.Rand
	mems   map[string]*vfs.Mem
	online []model.UUID // The directories.
	tick   int64        // So that no two records have the same time.

	times  map[model.Partition][]int64      // By offset.
	flying model.Partition                  // What is being appended to.
	safe   map[model.Partition]model.Offset // End of what was committed, or synced.
	start  map[model.Partition]model.Offset // As it was last seen.

	crash struct {
		sync.Mutex
		left   int // Durable operations until then; 0 is never.
		clones map[string]*vfs.Mem
		kill   bool // Not a power cut: what was written is there.
		rng    *rand.Rand
	}
}

var errCrashed = errors.New("crashed")

const modelParts = 4

func newDiskModel(t *testing.T, seed uint64, options ...string) *diskModel {
	w := newWorld(t, nil, options...)
	w.paths, w.on = []string{"/a", "/b"}, map[string]vfs.FS{}
	m := &diskModel{
		world: w, rng: rand.New(rand.NewPCG(seed, 3)), mems: map[string]*vfs.Mem{"/a": vfs.NewMem(), "/b": vfs.NewMem()},
		times: map[model.Partition][]int64{}, safe: map[model.Partition]model.Offset{}, start: map[model.Partition]model.Offset{},
	}
	m.crash.rng = rand.New(rand.NewPCG(seed, 4))
	return m
}

func (m *diskModel) boot() {
	m.crash.Lock()
	m.crash.left, m.crash.clones = 0, nil
	m.crash.Unlock()
	for path, mem := range m.mems {
		m.on[path] = vfs.NewFaulty(mem, m.hook)
	}
	m.world.start()
	m.online = nil
	for _, d := range m.disks {
		m.online = append(m.online, d.id())
	}
}

// hook crashes all disks at one moment.
func (m *diskModel) hook(o vfs.Op) error {
	m.crash.Lock()
	defer m.crash.Unlock()
	if m.crash.clones != nil {
		return errCrashed
	}
	if m.crash.left == 0 || !o.Durable() {
		return nil
	}
	if m.crash.left--; m.crash.left > 0 {
		return nil
	}
	m.crashLocked()
	return errCrashed
}

// crashLocked cuts the power, or kills the process.
func (m *diskModel) crashLocked() {
	m.crash.clones = map[string]*vfs.Mem{}
	m.crash.kill = m.crash.rng.IntN(3) == 0
	for _, path := range m.paths {
		if m.crash.kill {
			m.crash.clones[path] = m.mems[path].KillClone()
		} else {
			m.crash.clones[path] = m.mems[path].CrashClone(m.crash.rng)
		}
	}
}

func (m *diskModel) crashAfter(operations int) {
	m.crash.Lock()
	m.crash.left = operations
	m.crash.Unlock()
}

func (m *diskModel) crashed() bool {
	m.crash.Lock()
	defer m.crash.Unlock()
	return m.crash.clones != nil
}

// reboot starts on what a crash, or a clean stop, has left, in a new epoch.
func (m *diskModel) reboot() {
	m.drop()
	cut := false
	if m.crash.clones != nil {
		m.mems = m.crash.clones
		cut = !m.crash.kill
	}
	for _, mem := range m.mems {
		mem.SetCapacity(0)
	}
	m.apply(controller.Restart(m.tracker.Image(), 1, m.online)...)
	m.boot()
	m.eachPart(func(p model.Partition, x *partition.Partition) {
		l := x.Log()
		if !cut {
			m.safe[p] = model.Offset(len(m.times[p]))
			if m.flying == p {
				m.safe[p]--
			}
		}
		if l.End() < m.safe[p] {
			m.t.Errorf("%s ends at %d, %d have to be there (power cut: %v)", p, l.End(), m.safe[p], cut)
			return
		}
		m.times[p] = m.times[p][:l.End()]
		m.safe[p] = l.End()
	})
	m.flying = model.Partition{}
	m.checkRecords()
}

func (m *diskModel) eachPart(do func(model.Partition, *partition.Partition)) {
	for _, topic := range []string{"x", "y"} {
		for i := range int32(modelParts) {
			do(model.Partition{Topic: topic, Index: i}, m.part(topic, i))
		}
	}
}

func (m *diskModel) anyPart() model.Partition {
	return model.Partition{Topic: []string{"x", "y"}[m.rng.IntN(2)], Index: m.rng.Int32N(modelParts)}
}

// appendSome appends a few records. Some are of long ago: what counts is their
// time, not when they came.
func (m *diskModel) appendSome() {
	for range 5 {
		m.tick++
		at := m.now.Add(time.Duration(m.tick) * time.Millisecond)
		if m.rng.IntN(4) == 0 {
			at = at.Add(-time.Duration(m.rng.IntN(100)) * time.Hour)
		}
		if !m.appendOne(m.anyPart(), at, 1000+m.rng.IntN(24_000)) {
			return
		}
	}
}

// appendOne reports false when the world has crashed.
func (m *diskModel) appendOne(p model.Partition, at time.Time, bytes int) bool {
	b := record.NewBuilder(record.BuilderOptions{})
	m.ok(b.Add(record.Record{Timestamp: at.UnixMilli(), Value: make([]byte, bytes)}))
	_, batch, err := b.Build(nil)
	m.ok(err)
	m.times[p], m.flying = append(m.times[p], at.UnixMilli()), p
	a, err := m.part(p.Topic, p.Index).Append(batch, true, m.now)
	if m.crashed() {
		return false // It may be there, or not.
	}
	m.ok(err)
	if int(a.End) != len(m.times[p]) {
		m.t.Fatalf("%s: appended up to %d, want %d", p, a.End, len(m.times[p]))
	}
	m.flying = model.Partition{}
	return true
}

// noteSafe notes what must survive: what is committed where acknowledgements
// wait for the disk.
func (m *diskModel) noteSafe() {
	now := map[model.Partition]model.Offset{}
	m.eachPart(func(p model.Partition, x *partition.Partition) {
		if s, _ := x.State(model.NoEpoch); x.Config().FsyncAcks {
			now[p] = s.Committed
		}
	})
	if m.crashed() {
		return // Perhaps not all of it was before the crash.
	}
	for p, o := range now {
		m.safe[p] = o
	}
}

// checkRecords: what is there is what was appended, reaches to the end, and what
// was deleted has not come back.
func (m *diskModel) checkRecords() {
	m.eachPart(func(p model.Partition, x *partition.Partition) {
		l := x.Log()
		if l.Start() < m.start[p] {
			m.t.Errorf("%s starts at %d, it was %d", p, l.Start(), m.start[p])
		}
		m.start[p] = l.Start()
		next := l.Start()
		err := l.Scan(next, func(b record.Batch) error {
			if b.BaseOffset() != next || b.MaxTimestamp() != m.times[p][next] {
				return fmt.Errorf("at %d: offset %d, time %d", next, b.BaseOffset(), b.MaxTimestamp())
			}
			next = b.End()
			return nil
		})
		if err != nil || next != l.End() {
			m.t.Errorf("%s: read to %d of %d: %v", p, next, l.End(), err)
		}
	})
}
