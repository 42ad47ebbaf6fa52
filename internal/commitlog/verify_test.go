package commitlog

import (
	"strings"
	"testing"

	"github.com/barnabas-log/barnabas/internal/vfs"
)

// TestVerify finds nothing in Kafka's directories, and each kind of damage in
// damaged ones.
func TestVerify(t *testing.T) {
	kafkaDirs(t, func(t *testing.T, name string) {
		r, err := Verify(loadKafka(t, name), "/d")
		if err != nil || len(r.Problems) > 0 || r.Records == 0 || r.End == 0 {
			t.Fatalf("%+v %v", r, err)
		}
	})
	damage := func(name, file string, at int64, want string) {
		t.Helper()
		fs := loadKafka(t, name)
		f, err := fs.OpenWrite("/d/" + file)
		if err != nil {
			t.Fatal(err)
		}
		var b [1]byte
		if _, err := f.ReadAt(b[:], at); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 0x41
		f.WriteAt(b[:], at)
		r, err := Verify(fs, "/d")
		if err != nil || len(r.Problems) == 0 || !strings.Contains(r.Problems[0].Error(), want) {
			t.Errorf("%s byte %d: %v %v, want %q", file, at, r.Problems, err, want)
		}
	}
	log := FileName(0, logSuffix)
	damage("codec-none-0", log, 100, "checksum")
	damage("codec-none-0", log, 7, "after")
	damage("codec-none-0", log, 8, "cut short")
	damage("codec-none-0", log, 16, "magic")
	damage("codec-none-0", log, 15, "epoch")
	damage("codec-none-0", FileName(0, indexSuffix), 7, "entry for offset")
	damage("codec-none-0", FileName(0, indexSuffix), 8, "follows")
	damage("codec-none-0", FileName(0, timeSuffix), 7, "a record before has")
	damage("txn-0", FileName(3, txnSuffix), 9, "no abort marker")
	damage("txn-0", FileName(3, txnSuffix), 25, "follows")
	damage("txn-0", FileName(3, txnSuffix), 0, "version")
	damage("codec-none-0", EpochFile, 0, "version")
}

// FuzzOpen opens random segments and indexes: no panic, and what is recovered
// is sound and verifies.
func FuzzOpen(f *testing.F) {
	good := append(makeBatch(3, 50, 5, 1), makeBatch(2, 100, 9, 2)...)
	good[61+50+7] = 3 // The second batch's base offset.
	f.Add([]byte(good), []byte{0, 0, 0, 4, 0, 0, 0, 111}, []byte{}, []byte("0\n1\n0 0\n"), true)
	f.Add([]byte(good), []byte{}, []byte{}, []byte{}, false)
	f.Add([]byte{}, []byte{0, 0, 0, 4}, []byte{0}, []byte{}, true)
	f.Fuzz(func(t *testing.T, log, index, txns, epochs []byte, clean bool) {
		fs := vfs.NewMem()
		fs.MkdirAll("/d")
		for name, b := range map[string][]byte{
			FileName(0, logSuffix): log, FileName(0, indexSuffix): index, FileName(0, timeSuffix): index,
			FileName(0, txnSuffix): txns, EpochFile: epochs, truncationFile: txns, FileName(5, ".log.swap"): log,
		} {
			if len(b) > 0 {
				if err := vfs.WriteFile(fs, "/d/"+name, b); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := Verify(fs, "/d"); err != nil {
			t.Fatal(err)
		}
		l, err := Open(fs, "/d", Options{Clean: clean})
		if err != nil {
			return
		}
		defer l.Close()
		l.Aborted(0, l.End())
		l.Epochs()
		l.OffsetForTime(5)
		l.MaxTimestamp()
		for from := l.Start(); from < l.End(); {
			v, err := l.Read(from, l.End(), 100, true)
			if err != nil || v.Size() == 0 {
				return
			}
			if v.End() <= from {
				t.Fatalf("read from %d ends at %d", from, v.End())
			}
			v.Bytes(nil)
			v.Close()
			from = v.End()
		}
		if !clean {
			readAll(t, l, l.Start(), l.End(), 100)
			verify(t, l)
		}
	})
}
