package storelog

import (
	"maps"
	"math/rand/v2"
	"strconv"
	"testing"

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
	seeds := 40
	if testing.Short() {
		seeds = 10
	}
	for seed := range seeds {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			t.Parallel()
			crash(t, uint64(seed))
		})
	}
}

func crash(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 6))
	sync := seed%3 != 0
	h := newHarness(t, Options{Sync: sync, SegmentBytes: 2000})
	if err := h.logs.Close(); err != nil {
		t.Fatal(err)
	}
	promised := map[fabric.Partition]promise{}
	type cut struct {
		disk     *vfs.Mem
		promised map[fabric.Partition]promise
	}
	var cuts []cut
	h.fs = vfs.NewFaulty(h.mem, func(op vfs.Op) error {
		if (op.Durable() || op.Kind == vfs.OpWrite) && rng.IntN(60) == 0 && len(cuts) < 12 {
			disk := h.mem.KillClone()
			if sync {
				disk = h.mem.CrashClone(rng)
			}
			cuts = append(cuts, cut{disk, maps.Clone(promised)})
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
			it := n.find(p)
			if it.Number != want.number || it.End() < want.end {
				t.Fatalf("%v is number %d up to %d, promised %+v", p, it.Number, it.End(), want)
			}
			n.expect(p, it.Number, 0, it.End())
			n.append(run(p, it.End(), 5))
		}
		n.append(run(part("new", "P"), 0, 1))
		n.restart()
		for p := range c.promised {
			it := n.find(p)
			n.expect(p, it.Number, 0, it.End())
		}
	}
}
