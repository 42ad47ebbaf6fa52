package commitlog

import (
	"bytes"
	"testing"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
)

// segmentsOf writes batches of ten records and returns the log's files.
func segmentsOf(t *testing.T, batches int, segmentBytes int64) (fs *vfs.Mem, l *Log) {
	t.Helper()
	fs = vfs.NewMem()
	l = mustOpen(t, fs, Options{SegmentBytes: segmentBytes})
	for i := range batches {
		mustAppend(t, l, makeBatch(10, 100, 1_700_000_000_000, byte(i)), 0)
	}
	return fs, l
}

// A copy that was made while compaction put segments together may have the new
// one and still an old one behind it. Nothing is lost, and nothing comes twice.
func TestCopyHasOldAndNewSegment(t *testing.T) {
	const batch = 161 // Bytes.
	small, old := segmentsOf(t, 6, 2*batch)
	large, all := segmentsOf(t, 4, 4*batch)
	name := FileName(0, logSuffix)
	whole, err := vfs.ReadFile(large, "/d/"+name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if got := old.End(); got != 60 || len(whole) != 4*batch {
		t.Fatalf("ends at %d, the joined segment has %d bytes", got, len(whole))
	}
	want := append(readAll(t, all, 0, 40, 1<<20), readAll(t, old, 40, 60, 1<<20)...)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	if err := vfs.WriteFile(small, "/d/"+name, whole); err != nil {
		t.Fatal(err)
	}
	var dropped []model.Offset
	l := mustOpen(t, small, Options{Foreign: true, SegmentBytes: 2 * batch, Events: func(e Event) {
		if e.Kind == EventDropped {
			dropped = append(dropped, e.Segment)
		}
	}})
	if l.End() != 60 || len(dropped) != 1 || dropped[0] != 20 {
		t.Errorf("ends at %d, dropped %v", l.End(), dropped)
	}
	if got := readAll(t, l, 0, 60, 1<<20); !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d", len(got), len(want))
	}
	verify(t, l)
}

// What overlaps and goes further is no copy's doing: it is dropped with all
// that follows, as ever.
func TestOverlapIsDropped(t *testing.T) {
	const batch = 161
	small, old := segmentsOf(t, 6, 2*batch)
	large, _ := segmentsOf(t, 3, 4*batch)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := vfs.ReadFile(large, "/d/"+FileName(0, logSuffix), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := vfs.WriteFile(small, "/d/"+FileName(0, logSuffix), whole); err != nil {
		t.Fatal(err)
	}
	if l := mustOpen(t, small, Options{Foreign: true}); l.End() != 30 {
		t.Errorf("ends at %d", l.End())
	}
}
