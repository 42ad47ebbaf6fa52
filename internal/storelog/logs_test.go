package storelog

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/vfs"
)

// TestNumbers: a partition keeps its number, whatever its topic is named.
func TestNumbers(t *testing.T) {
	h := newHarness(t, Options{Sync: true})
	topics := []string{"a", "a b", "a_b", "..", ".", "", "__cluster_metadata", "ümläut", strings.Repeat("z", 255), string([]byte{1, 0xff}), "x-0", "x"}
	for round := range 3 {
		for _, topic := range topics {
			h.append(run(part(topic, "P"), uint64(10*round), 10))
			if round == 0 {
				h.append(run(part(topic, "Q"), 0, 1))
			}
		}
		h.restart()
	}
	for i, topic := range topics {
		h.expect(part(topic, "P"), 2*i, 0, 30)
		h.expect(part(topic, "Q"), 2*i+1, 0, 1)
	}
	dirs, err := h.logs.dir.Logs()
	if err != nil || len(dirs) != 2*len(topics) {
		t.Errorf("%d directories, %v", len(dirs), err)
	}
}

// TestFormat: what is written is what Kafka's tools, and ours, call a sound log.
func TestFormat(t *testing.T) {
	h := newHarness(t, Options{SegmentBytes: 4096})
	p := part("letters", "P")
	for first := uint64(0); first < 500; first += 50 {
		h.append(run(p, first, 50))
	}
	h.append(run(p, 700, 50))
	if err := h.logs.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := commitlog.Verify(h.mem, "/store/letters-0")
	if err != nil || len(r.Problems) > 0 || r.Records != 550 || r.Start != 0 || r.End != 750 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestGap: a log begins where its first record is, and may leave some out.
func TestGap(t *testing.T) {
	h := newHarness(t, Options{Sync: true})
	p := part("letters", "P")
	h.append(run(p, 1000, 10))
	h.expect(p, 0, 1000, 1010)
	h.append(run(p, 1010, 5), run(p, 1020, 5))
	h.restart()
	it := h.find(p)
	if want := slices.Concat(span(1000, 1015), span(1020, 1025)); !slices.Equal(h.contents(it), want) || it.Start() != 1000 || it.End() != 1025 {
		t.Errorf("%d to %d: %d", it.Start(), it.End(), h.contents(it))
	}
	out := h.logs.Append([]fabric.Run{run(p, 1024, 3)})
	if !errors.Is(out[0].Err, commitlog.ErrNotNext) || out[0].End != 1025 || out[0].Stored != 1025 {
		t.Errorf("%+v", out)
	}
}

func span(from, to uint64) (s []uint64) {
	for ; from < to; from++ {
		s = append(s, from)
	}
	return s
}

// TestLarge: a record may be larger than a segment, and be the only one of it.
func TestLarge(t *testing.T) {
	h := newHarness(t, Options{SegmentBytes: 1 << 20})
	large := bytes.Repeat([]byte("0123456789"), 500_000)
	r := fabric.Run{Partition: part("l", "P"), Contents: [][]byte{{}, large, nil, large, []byte("end")}}
	h.append(r)
	h.restart()
	i := 0
	err := h.logs.Log(h.find(r.Partition)).Scan(0, scanRecords(func(value []byte) {
		if value == nil || !bytes.Equal(value, r.Contents[i]) {
			t.Errorf("record %d has %d bytes", i, len(value))
		}
		i++
	}))
	if err != nil || i != 5 {
		t.Errorf("%d records, %v", i, err)
	}
}

// TestOwner: a directory has one owner, and is no broker's.
func TestOwner(t *testing.T) {
	h := newHarness(t, Options{})
	if _, err := Open("/store", h.o); !errors.Is(err, vfs.ErrLocked) {
		t.Error(err)
	}
	broker, err := datadir.Open(h.mem, "/broker", datadir.Identity{Node: 1}, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := broker.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open("/broker", h.o); !errors.Is(err, datadir.ErrIdentity) {
		t.Errorf("a broker's directory is taken: %v", err)
	}
	if err := h.logs.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := datadir.Open(h.mem, "/store", datadir.Identity{Node: 1}, rand.Reader); !errors.Is(err, datadir.ErrIdentity) {
		t.Errorf("a store's directory is taken: %v", err)
	}
	h.open()
	id := h.logs.Directory()
	h.restart()
	if h.logs.Directory() != id {
		t.Error("it is another directory now")
	}
}

// TestManifestLost: numbers are not given again if nobody knows which were.
func TestManifestLost(t *testing.T) {
	h := newHarness(t, Options{})
	h.append(run(part("a", "P"), 0, 1), run(part("b", "P"), 0, 1))
	if err := h.logs.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.mem.Remove("/store/" + datadir.StoreLog + "/" + commitlog.FileName(0, ".log")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open("/store", h.o); !errors.Is(err, ErrManifest) {
		t.Error(err)
	}
	if err := h.mem.RemoveAll("/store/" + datadir.StoreLog); err != nil {
		t.Fatal(err)
	}
	if _, err := Open("/store", h.o); !errors.Is(err, datadir.ErrIdentity) {
		t.Error(err)
	}
}

// TestDirectoryLost: a partition whose directory is gone begins anew, with its
// number.
func TestDirectoryLost(t *testing.T) {
	h := newHarness(t, Options{})
	h.append(run(part("a", "P"), 0, 5), run(part("b", "P"), 0, 5))
	if err := h.logs.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.mem.RemoveAll("/store/a-0"); err != nil {
		t.Fatal(err)
	}
	h.open()
	h.expect(part("a", "P"), 0, 0, 0)
	h.append(run(part("a", "P"), 0, 3))
	h.restart()
	h.expect(part("a", "P"), 0, 0, 3)
	h.expect(part("b", "P"), 1, 0, 5)
}

// TestFullDisk: nothing is stored on a full disk, nothing that was is lost, and
// it goes on when there is space.
func TestFullDisk(t *testing.T) {
	for _, sync := range []bool{true, false} {
		t.Run(fmt.Sprint(sync), func(t *testing.T) {
			var said bytes.Buffer
			h := newHarness(t, Options{Sync: sync, Log: slog.New(slog.NewTextHandler(&said, nil))})
			a, b := part("a", "P"), part("b", "P")
			h.append(run(a, 0, 100))
			h.mem.SetCapacity(1)
			h.logs.Tick()
			for range 3 {
				for _, o := range h.logs.Append([]fabric.Run{run(a, 100, 10), run(b, 0, 10), run(a, 110, 10)}) {
					if o.Err == nil {
						t.Errorf("%+v", o)
					}
				}
				h.now = h.now.Add(10 * time.Second)
				h.logs.Tick()
			}
			h.expect(a, 0, 0, 100)
			h.mem.SetCapacity(0)
			h.logs.Tick()
			h.append(run(a, 100, 10), run(b, 0, 10))
			h.now = h.now.Add(time.Hour)
			h.append(run(b, 10, 1))
			for _, line := range []string{"records refused", "records are stored again"} {
				if n := strings.Count(said.String(), line); n != 1 {
					t.Errorf("%q is said %d times:\n%s", line, n, &said)
				}
			}
			h.restart()
			h.expect(a, 0, 0, 110)
			h.expect(b, h.find(b).Number, 0, 11)
		})
	}
}

// TestFailedSync: what could not be made durable is not stored, of this partition
// and no other, and stays so.
func TestFailedSync(t *testing.T) {
	h := newHarness(t, Options{Sync: true})
	a, b := part("a", "P"), part("b", "P")
	h.append(run(a, 0, 10), run(b, 0, 10))
	h.logs.Tick()
	if err := h.logs.Close(); err != nil {
		t.Fatal(err)
	}
	failing := true
	h.fs = vfs.NewFaulty(h.mem, func(op vfs.Op) error {
		if failing && op.Kind == vfs.OpSync && strings.Contains(op.Path, "/a-0/") {
			return syscall.EIO
		}
		return nil
	})
	h.open()
	for range 2 {
		out := h.logs.Append([]fabric.Run{run(a, 10, 10), run(b, h.find(b).End(), 10), run(a, 20, 10)})
		if !errors.Is(out[0].Err, commitlog.ErrOffline) || out[0].Stored != 10 || out[1].Err != nil || out[2].Err == nil {
			t.Errorf("%+v", out)
		}
		failing = false
	}
	h.expect(b, 1, 0, 30)
}

// TestRetention: age and size move the start, and watchers hear of it.
func TestRetention(t *testing.T) {
	for name, o := range map[string]Options{"age": {Age: time.Hour}, "bytes": {Bytes: 64 << 10}, "percent": {DiskPercent: 50}} {
		t.Run(name, func(t *testing.T) {
			o.SegmentBytes, o.Sync = 16<<10, true
			h := newHarness(t, o)
			p, q := part("a", "P"), part("b", "P")
			starts := map[fabric.Partition]uint64{}
			h.logs.Watch(func(p *Partition) { starts[p.Partition] = p.Start() })
			if name == "percent" {
				h.mem.SetCapacity(36 << 20) // The reserve takes 16 of 18 MiB.
			}
			h.append(run(q, 0, 10))
			end := uint64(0)
			for range 300 {
				o := h.logs.Append([]fabric.Run{run(p, end, 100)})
				if o[0].Err != nil {
					t.Fatal(o[0].Err)
				}
				end += 100
				h.now = h.now.Add(time.Minute)
				h.logs.Tick()
			}
			it := h.find(p)
			if it.Start() == 0 || it.Start() == end || starts[p] != it.Start() {
				t.Errorf("%d to %d, told of %d", it.Start(), it.End(), starts[p])
			}
			h.expect(p, 1, it.Start(), end)
			if name == "age" {
				h.expect(q, 0, 10, 10) // All of it is gone, but not where it ended.
				h.now = h.now.Add(2 * time.Hour)
				h.logs.Tick()
				h.restart()
				h.expect(p, 1, end, end)
				h.append(run(p, end, 1), run(q, 10, 1))
				h.expect(q, 0, 10, 11)
				return
			}
			before := it.Start()
			h.restart()
			h.expect(p, 1, before, end)
		})
	}
}

// TestManyOpen: files of partitions that nobody uses are closed, and opened when
// somebody does.
func TestManyOpen(t *testing.T) {
	h := newHarness(t, Options{})
	var runs []fabric.Run
	for i := range 200 {
		runs = append(runs, run(part("a", fmt.Sprint(i)), 0, 3))
	}
	h.append(runs...)
	for range 3 {
		h.now = h.now.Add(time.Hour)
		h.logs.Tick()
	}
	if n := len(h.logs.keep.mu.open); n != 0 {
		t.Errorf("%d are open", n)
	}
	for i := range runs {
		runs[i] = run(runs[i].Partition, 3, 3)
	}
	h.append(runs...)
	h.restart()
	for i := range runs {
		h.expect(runs[i].Partition, i, 0, 6)
	}
}
