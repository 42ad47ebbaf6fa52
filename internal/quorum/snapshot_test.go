package quorum

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/vfs"
)

// A small log is worth a snapshot when it is old, if something changed since.
func TestSnapshotInterval(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	n := mustStart(t, vfs.NewMem(), func(o *Options) {
		o.Now, o.SnapshotInterval = func() time.Time { return at }, time.Hour
	})
	f := func(after time.Duration, want int) {
		t.Helper()
		at = at.Add(after)
		n.mustCreate(t, fmt.Sprint("t", at.Unix()), 1)
		files, err := n.Quorum.snapshots()
		if err != nil {
			t.Fatal(err)
		}
		made := 0
		if len(files) > 0 {
			made = 1
		}
		if made != want {
			t.Errorf("after %v: snapshots %v", after, files)
		}
	}
	f(0, 0)
	f(59*time.Minute, 0)
	f(time.Minute, 1)
	end := n.snapshotted
	f(59*time.Minute, 1)
	if n.snapshotted != end {
		t.Error("another one within the hour")
	}
	f(time.Minute, 1)
	if n.snapshotted == end {
		t.Error("no other one after an hour")
	}
}

// Segments of the metadata log close at the size and age that are set.
func TestSegmentsOfMetadataLog(t *testing.T) {
	f := func(what string, set setting, wait time.Duration) {
		t.Helper()
		mem, at := vfs.NewMem(), time.Unix(1_700_000_000, 0)
		n := mustStart(t, mem, func(o *Options) { o.Now = func() time.Time { return at } }, set)
		for i := range 20 {
			n.mustCreate(t, fmt.Sprintf("topic-%d", i), 1)
			at = at.Add(wait)
		}
		infos, err := mem.ReadDir("/data/__cluster_metadata-0")
		if err != nil {
			t.Fatal(err)
		}
		logs := 0
		for _, i := range infos {
			if strings.HasSuffix(i.Name, ".log") {
				logs++
			}
		}
		if logs < 4 {
			t.Errorf("%s: %d segments", what, logs)
		}
	}
	f("size", func(o *Options) { o.SegmentBytes = 1000 }, 0)
	f("age", func(o *Options) { o.SegmentAge = time.Hour }, 20*time.Minute)
}
