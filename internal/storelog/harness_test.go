package storelog

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// harness is a directory in memory with a clock of its own.
type harness struct {
	testing.TB
	mem  *vfs.Mem
	fs   vfs.FS
	now  time.Time
	o    Options
	logs *Logs
}

func newHarness(t testing.TB, o Options) *harness {
	h := &harness{TB: t, mem: vfs.NewMem(), now: time.UnixMilli(1_700_000_000_000), o: o}
	h.fs = h.mem
	h.open()
	return h
}

func (h *harness) open() {
	h.Helper()
	h.o.FS, h.o.Now = h.fs, func() time.Time { return h.now }
	l, err := Open("/store", h.o)
	if err != nil {
		h.Fatal(err)
	}
	h.logs = l
}

// restart closes the directory and opens it again.
func (h *harness) restart() {
	h.Helper()
	if err := h.logs.Close(); err != nil {
		h.Fatal(err)
	}
	h.open()
}

// on goes on with what another disk has.
func (h *harness) on(mem *vfs.Mem) *harness {
	h.Helper()
	n := &harness{TB: h.TB, mem: mem, fs: mem, now: h.now, o: h.o}
	n.open()
	return n
}

func part(topic, producer string) fabric.Partition {
	return fabric.Partition{Subject: topic, Address: producer}
}

func content(p fabric.Partition, sequence uint64) string {
	text := fmt.Sprintf("%s %s %d ", p.Subject, p.Address, sequence)
	return text + strings.Repeat("x", int(sequence*7919%200))
}

func run(p fabric.Partition, first uint64, n int) fabric.Run {
	r := fabric.Run{Partition: p, First: first}
	for i := range n {
		r.Contents = append(r.Contents, []byte(content(p, first+uint64(i))))
	}
	return r
}

// append appends runs that must be taken.
func (h *harness) append(runs ...fabric.Run) {
	h.Helper()
	for i, o := range h.logs.Append(runs) {
		if o.Err != nil || o.Stored < runs[i].End() || o.End != o.Stored {
			h.Fatalf("run %d of %v from %d: %+v", i, runs[i].Partition, runs[i].First, o)
		}
	}
}

func (h *harness) find(p fabric.Partition) *Partition {
	h.Helper()
	for _, it := range h.logs.Partitions() {
		if it.Partition == p {
			return it
		}
	}
	h.Fatalf("%v is not there", p)
	return nil
}

// contents are the sequences that a partition has; each has its own content.
func (h *harness) contents(p *Partition) (sequences []uint64) {
	h.Helper()
	log := h.logs.Log(p)
	if log == nil {
		return nil
	}
	err := log.Scan(log.Start(), func(b record.Batch) error {
		if b.CRC() != b.ComputeCRC() || b.LeaderEpoch() != model.NoEpoch {
			h.Errorf("batch at %d", b.BaseOffset())
		}
		for r, err := range b.Records(0) {
			if err != nil {
				return err
			}
			if string(r.Value) != content(p.Partition, uint64(r.Offset)) || r.Key != nil {
				h.Errorf("%v has %q at %d", p.Partition, r.Value, r.Offset)
			}
			sequences = append(sequences, uint64(r.Offset))
		}
		return nil
	})
	if err != nil {
		h.Fatal(err)
	}
	return sequences
}

// expect looks that a partition has what is from start to end, and nothing else.
func (h *harness) expect(p fabric.Partition, number int, start, end uint64) {
	h.Helper()
	it := h.find(p)
	if it.Number != number || it.Start() != start || it.End() != end {
		h.Errorf("%v is number %d, from %d to %d; want %d, %d, %d", p, it.Number, it.Start(), it.End(), number, start, end)
	}
	have := h.contents(it)
	if len(have) != int(end-start) {
		h.Errorf("%v has %d records, want %d", p, len(have), end-start)
	}
	for i, s := range have {
		if s != start+uint64(i) {
			h.Fatalf("%v has %d where %d was due", p, s, start+uint64(i))
		}
	}
}
