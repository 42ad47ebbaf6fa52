package broker

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

func (w *world) has(name string) bool {
	_, err := w.mem.Stat(name)
	return err == nil
}

// move sends partition 0 of topics to a directory.
func (w *world) move(dir string, topics ...string) {
	w.t.Helper()
	d := wire.AlterReplicaLogDirsRequestAlterReplicaLogDir{Path: dir}
	for _, t := range topics {
		d.Topics = append(d.Topics, wire.AlterReplicaLogDirsRequestAlterReplicaLogDirTopic{Name: t, Partitions: []int32{0}})
	}
	q := wire.NewAlterReplicaLogDirsRequest()
	q.Dirs = []wire.AlterReplicaLogDirsRequestAlterReplicaLogDir{d}
	for _, r := range ask[*wire.AlterReplicaLogDirsResponse](w.main(), q).Results {
		if code := r.Partitions[0].ErrorCode; code != 0 {
			w.t.Fatalf("move of %s: error %d", r.TopicName, code)
		}
	}
}

func TestDirectorySettings(t *testing.T) {
	at := func(names ...string) func(w *world) string {
		return func(w *world) (there string) {
			w.createMany("t", 2)
			for _, name := range names {
				if w.has(name) {
					there += name + " "
				}
			}
			return there
		}
	}
	dirs := at("/a/t-0", "/a/t-1", "/b/t-0", "/b/t-1", "/c/t-0", "/c/t-1")
	decidesBroker(t, "log.dir=/b", "/a/t-0 /a/t-1 ", "/b/t-0 /b/t-1 ", dirs)
	decidesBroker(t, "log.dirs=/b,/c", "/a/t-0 /a/t-1 ", "/b/t-0 /c/t-1 ", dirs)
	decidesBroker(t, "metadata.log.dir=/m", "/a/__cluster_metadata-0 ", "/m/__cluster_metadata-0 ", at("/a/__cluster_metadata-0", "/m/__cluster_metadata-0"))
	decidesBroker(t, "cordoned.log.dirs=/a", "/a/t-0 /b/t-1 ", "/b/t-0 /b/t-1 ", dirs, "log.dirs=/a,/b")
}

func TestMoveSettings(t *testing.T) {
	two := "log.dirs=/a,/b"
	prepared := func(w *world) {
		w.createMany("x", 2) // Partition 0 is in the first directory.
		w.createMany("y", 2)
		w.put("x", strings.Repeat("x", 100_000))
		w.put("y", strings.Repeat("x", 100_000))
	}
	decidesBroker(t, "num.replica.alter.log.dirs.threads=1", 2, 1, func(w *world) int64 {
		prepared(w)
		most := w.hinder(vfs.OpWrite, "/b/*/*.log", time.Second)
		w.move("/b", "x", "y")
		time.Sleep(time.Minute)
		return most.Load()
	}, two)
	decidesBroker(t, "replica.alter.log.dirs.io.max.bytes.per.second=1000", true, false, func(w *world) bool {
		prepared(w)
		w.move("/b", "x", "y")
		time.Sleep(time.Minute)
		return w.has("/b/x-0") && w.has("/b/y-0")
	}, two)
}

func TestDiskPercent(t *testing.T) {
	decidesBroker(t, "log.retention.disk.percent=50", 5, 4, func(w *world) int {
		w.mem.SetCapacity(40 << 20)
		w.create("t", "segment.bytes=1048576")
		for range 5 {
			w.put("t", strings.Repeat("x", 900<<10))
		}
		time.Sleep(time.Minute)
		return w.part("t", 0).Log().Segments()
	})
}

// A node that cannot tell the cluster that a disk failed ends, in time.
func TestDirectoryFailureSettings(t *testing.T) {
	decidesBroker(t, "log.dir.failure.timeout.ms=5000", 30*time.Second, 5*time.Second, func(w *world) time.Duration {
		w.createMany("t", 2)
		w.mu.Lock()
		w.mu.hook = func(o vfs.Op) error {
			switch {
			case strings.HasPrefix(o.Path, "/a/__cluster_metadata-0") && o.Kind == vfs.OpSync:
				time.Sleep(10 * time.Minute)
			case strings.HasPrefix(o.Path, "/b/"):
				return syscall.EIO
			}
			return nil
		}
		w.mu.Unlock()
		q := produceTo("t", w.records(record.BuilderOptions{}, "x"))
		q.TopicData[0].PartitionData[0].Index = 1
		askAt[*wire.ProduceResponse](w.main(), q, 9)
		began := time.Now()
		<-w.b.Fatal()
		w.mu.Lock()
		w.mu.hook = nil
		w.mu.Unlock()
		return time.Since(began)
	}, "log.dirs=/a,/b")
}

func TestMetadataLogSettings(t *testing.T) {
	logs := func(suffix string) func(w *world) int {
		return func(w *world) int {
			for i := range 5 {
				w.create(fmt.Sprint("t", i))
				time.Sleep(time.Minute)
			}
			return len(w.files("/a/__cluster_metadata-0", suffix))
		}
	}
	value := strings.Repeat("x", 32_000)
	many := func(suffix string) func(w *world) int {
		return func(w *world) int {
			for i := range 600 {
				w.setFor("1", fmt.Sprint("my.own.", i%5, "=", i, value))
			}
			time.Sleep(time.Minute)
			return len(w.files("/a/__cluster_metadata-0", suffix))
		}
	}
	decidesBroker(t, "metadata.log.segment.ms=90000", 1, 3, logs(".log"))
	decidesBroker(t, "metadata.log.segment.bytes=8388608", 1, 3, many(".log"))
	decidesBroker(t, "metadata.log.max.snapshot.interval.ms=60000", 0, 1, logs(".checkpoint"))
	decidesBroker(t, "metadata.log.max.record.bytes.between.snapshots=1000000", 0, 1, many(".checkpoint"))
}
