package commitlog

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// The directories in testdata/kafka were written by Apache Kafka 4.4.0 and shut
// down cleanly: codec-X-0 has 12 batches of 5 records (index.interval.bytes
// 300); txn-0 three committed, three aborted and one open transaction of three
// records each, in two segments.

// loadKafka copies a directory into memory.
func loadKafka(t *testing.T, name string) *vfs.Mem {
	t.Helper()
	fs := vfs.NewMem()
	if err := fs.MkdirAll("/d"); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join("testdata/kafka", name, "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := vfs.WriteFile(fs, "/d/"+filepath.Base(f), b); err != nil {
			t.Fatal(err)
		}
	}
	return fs
}

func kafkaDirs(t *testing.T, f func(t *testing.T, name string)) {
	for _, name := range []string{"codec-none-0", "codec-gzip-0", "codec-snappy-0", "codec-lz4-0", "codec-zstd-0", "txn-0"} {
		t.Run(name, func(t *testing.T) { f(t, name) })
	}
}

func read(t *testing.T, fs vfs.FS, name string) []byte {
	t.Helper()
	b, err := vfs.ReadFile(fs, name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestKafkaIndexes makes the indexes of Kafka's segments anew and compares them
// with Kafka's, byte for byte.
func TestKafkaIndexes(t *testing.T) {
	kafkaDirs(t, func(t *testing.T, name string) {
		fs := loadKafka(t, name)
		before := map[string][]byte{}
		infos, _ := fs.ReadDir("/d")
		for _, info := range infos {
			switch filepath.Ext(info.Name) {
			case indexSuffix, timeSuffix:
				before[info.Name] = read(t, fs, "/d/"+info.Name)
				if err := fs.Remove("/d/" + info.Name); err != nil {
					t.Fatal(err)
				}
			}
		}
		if len(before) < 2 {
			t.Fatal("no indexes")
		}
		mustOpen(t, fs, Options{IndexInterval: 300, Foreign: true, RecoveryPoint: 0}).Close()
		for file, want := range before {
			if got := read(t, fs, "/d/"+file); !bytes.Equal(got, want) {
				t.Errorf("%s: %x, Kafka has %x", file, got, want)
			}
		}
	})
}

// TestKafkaTrusted opens Kafka's directories as after a clean shutdown, and
// after a kill with indexes preallocated: full of zeros at the end.
func TestKafkaTrusted(t *testing.T) {
	kafkaDirs(t, func(t *testing.T, name string) {
		for _, clean := range []bool{true, false} {
			fs := loadKafka(t, name)
			infos, _ := fs.ReadDir("/d")
			var want []byte
			for _, info := range infos {
				switch filepath.Ext(info.Name) {
				case logSuffix:
					want = append(want, read(t, fs, "/d/"+info.Name)...)
				case indexSuffix, timeSuffix:
					f, err := fs.OpenWrite("/d/" + info.Name)
					if err != nil {
						t.Fatal(err)
					}
					if size, _ := f.Size(); !clean {
						if err := f.Truncate(size + 8*12*100); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
			l := mustOpen(t, fs, Options{Clean: clean, Foreign: true, IndexInterval: 300})
			if got := readAll(t, l, 0, l.End(), 200); !bytes.Equal(got, want) {
				t.Fatalf("clean %v: %d bytes, want %d", clean, len(got), len(want))
			}
			verify(t, l)
			if _, err := l.AppendAt(atEnd(l, makeBatch(1, 10, 1<<50, 0))); err != nil {
				t.Fatal(err)
			}
			verify(t, l)
		}
	})
}

func atEnd(l *Log, b record.Batch) record.Batch {
	b.SetBaseOffset(l.End())
	b.SetLeaderEpoch(0)
	return b
}

// TestKafkaTimes finds each record by its time; the twelve batches have records
// 10 ms apart and begin a second apart.
func TestKafkaTimes(t *testing.T) {
	kafkaDirs(t, func(t *testing.T, name string) {
		if name == "txn-0" {
			return // Its timestamps repeat: no time names one record.
		}
		l := mustOpen(t, loadKafka(t, name), Options{Clean: true, Foreign: true})
		const base = 1_700_000_000_000
		check := func(ts int64, offset model.Offset, found int64) {
			t.Helper()
			p, err := l.OffsetForTime(ts)
			if want := (TimePoint{offset, found, 0}); err != nil || p != want {
				t.Errorf("%d: %+v %v, want %+v", ts, p, err, want)
			}
		}
		for batch := range int64(12) {
			for i := range int64(5) {
				ts := base + batch*1000 + i*10
				check(ts, model.Offset(batch*5+i), ts)
				if i > 0 {
					check(ts-9, model.Offset(batch*5+i), ts)
				}
			}
		}
		check(0, 0, base)
		p, err := l.OffsetForTime(base + 11041)
		if p != noPoint || err != nil {
			t.Errorf("after all: %+v %v", p, err)
		}
		if p, err := l.MaxTimestamp(); err != nil || p != (TimePoint{59, base + 11040, 0}) {
			t.Errorf("max: %+v %v", p, err)
		}
		if err := l.SetStart(33); err != nil {
			t.Fatal(err)
		}
		check(0, 33, base+6030)
	})
}

// TestKafkaAborted reads Kafka's transaction index.
func TestKafkaAborted(t *testing.T) {
	fs := loadKafka(t, "txn-0")
	l := mustOpen(t, fs, Options{Clean: true, Foreign: true})
	all, err := l.Aborted(0, l.End())
	if err != nil || len(all) != 3 {
		t.Fatalf("%+v %v", all, err)
	}
	var want []AbortedTxn
	err = l.Scan(0, func(b record.Batch) error {
		if c, err := b.Control(); b.IsControl() && err == nil && c.Type == record.Abort {
			want = append(want, AbortedTxn{b.ProducerID(), b.BaseOffset() - 3, b.BaseOffset(), b.BaseOffset() + 1})
		}
		return nil
	})
	if err != nil || !slices.Equal(all, want) {
		t.Fatalf("%+v, want %+v: %v", all, want, err)
	}
	for _, a := range want {
		if got, err := l.Aborted(a.First, a.Last); err != nil || !slices.Equal(got, []AbortedTxn{a}) {
			t.Errorf("%+v: %+v %v", a, got, err)
		}
	}
	// The same entries, written by us, are the same bytes.
	file := FileName(3, txnSuffix)
	before := read(t, fs, "/d/"+file)
	if err := fs.Remove("/d/" + file); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, fs, Options{Clean: true, Foreign: true})
	for range 2 {
		for _, a := range want {
			if err := l.AppendAborted(a); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := read(t, fs, "/d/"+file); !bytes.Equal(got, before) {
		t.Errorf("%x, Kafka has %x", got, before)
	}
}

func TestEpochFile(t *testing.T) {
	b := read(t, loadKafka(t, "txn-0"), "/d/"+EpochFile)
	list, err := ParseEpochs(b)
	if err != nil || !bytes.Equal(FormatEpochs(list), b) {
		t.Fatalf("%+v %v", list, err)
	}
	for _, bad := range []string{"", "0", "1\n0\n", "0\n1\n", "0\n1\n1\n", "0\n1\n1 -1\n", "0\n2\n1 1\n"} {
		if _, err := ParseEpochs([]byte(bad)); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}
