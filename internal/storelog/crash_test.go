package storelog

import (
	"maps"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"

	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/record"
)

func scanRecords(each func(value []byte)) func(record.Batch) error {
	return func(b record.Batch) error {
		for r, err := range b.Records(0) {
			if err != nil {
				return err
			}
			each(r.Value)
		}
		return nil
	}
}

// promise is what a store has said of a partition.
type promise struct {
	number int
	end    uint64
}

// TestCrashes appends to partitions, and looks after power cuts, and after the
// end of the process, that what was promised is there.
func TestCrashes(t *testing.T) {
	for seed := range 9 {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			t.Parallel()
			crash(t, uint64(seed))
		})
	}
}

func crash(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 6))
	synced := seed%3 != 0
	h := newHarness(t, Options{Sync: synced, SegmentBytes: 2000})
	if err := h.logs.Close(); err != nil {
		t.Fatal(err)
	}
	promised := map[fabric.Partition]promise{}
	type cut struct {
		disk     *vfs.Mem
		promised map[fabric.Partition]promise
	}
	var cuts []cut
	var one sync.Mutex // Logs are opened by several goroutines.
	h.fs = vfs.NewFaulty(h.mem, func(op vfs.Op) error {
		one.Lock()
		defer one.Unlock()
		if (op.Durable() || op.Kind == vfs.OpWrite) && rng.IntN(120) == 0 && len(cuts) < 5 {
			h.dropReserve()
			c := cut{h.mem.KillClone(), maps.Clone(promised)}
			if rng.IntN(2) == 0 {
				c.disk = h.mem.CrashClone(rng)
				if !synced {
					c.promised = nil // It starts, and what it has is right.
				}
			}
			cuts = append(cuts, c)
		}
		return nil
	})
	h.open()
	for range 80 {
		if rng.IntN(25) == 0 {
			h.restart()
		}
		if rng.IntN(10) == 0 {
			h.now = h.now.Add(markInterval)
			h.logs.Tick()
		}
		var runs []fabric.Run
		for range 1 + rng.IntN(4) {
			p := part("t"+strconv.Itoa(rng.IntN(3)), "P"+strconv.Itoa(rng.IntN(3)))
			if len(runs) == 0 || p != runs[len(runs)-1].Partition {
				runs = append(runs, run(p, promised[p].end, 1+rng.IntN(20)))
			}
		}
		for _, o := range h.logs.Append(runs) {
			if o.Err == nil {
				promised[o.Partition.Partition] = promise{o.Partition.Number, o.Stored}
			}
		}
	}
	for _, c := range cuts {
		n := h.on(c.disk)
		for p, want := range c.promised {
			if it := n.find(p); it.Number != want.number || it.End() < want.end {
				t.Fatalf("%v is number %d up to %d, promised %+v", p, it.Number, it.End(), want)
			}
		}
		// What is found counts as stored, and must be as safe as what is appended.
		ends := n.ends()
		n = n.cutAgain(rng)
		n.haveAll(ends)
		for p := range ends {
			n.append(run(p, n.find(p).End(), 5))
		}
		ends = n.ends()
		n = n.cutAgain(rng)
		n.haveAll(ends)
		n.append(run(part("new", "P"), 0, 1))
		n.restart()
		n.haveAll(ends)
	}
}

// dropReserve makes clones cheap: it is most of the disk.
func (h *harness) dropReserve() { _ = h.mem.Remove("/store/" + datadir.ReserveFile) }

func (h *harness) cutAgain(rng *rand.Rand) *harness {
	h.Helper()
	h.dropReserve()
	if h.o.Sync {
		return h.on(h.mem.CrashClone(rng))
	}
	return h.on(h.mem.KillClone())
}

func (h *harness) ends() map[fabric.Partition]promise {
	ends := map[fabric.Partition]promise{}
	for _, p := range h.logs.Partitions() {
		ends[p.Partition] = promise{p.Number, p.End()}
	}
	return ends
}

// haveAll looks that all partitions are there up to these ends at least.
func (h *harness) haveAll(ends map[fabric.Partition]promise) {
	h.Helper()
	for p, want := range ends {
		it := h.find(p)
		if it.End() < want.end {
			h.Fatalf("%v ends at %d, promised %d", p, it.End(), want.end)
		}
		h.expect(p, want.number, 0, it.End())
	}
}
