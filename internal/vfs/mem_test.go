package vfs

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// both runs a test on the operating system and in memory: they must not differ.
func both(t *testing.T, f func(t *testing.T, fs FS, dir string)) {
	t.Run("os", func(t *testing.T) { f(t, OS{}, t.TempDir()) })
	t.Run("mem", func(t *testing.T) {
		m := NewMem()
		if err := m.MkdirAll("/tmp/x"); err != nil {
			t.Fatal(err)
		}
		f(t, m, "/tmp/x")
	})
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFS(t *testing.T) {
	both(t, func(t *testing.T, v FS, dir string) {
		name := filepath.Join(dir, "a")
		_, err := v.Open(name)
		if !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("open: %v", err)
		}
		f := must(v.Create(name))(t)
		if n, err := f.WriteAt([]byte("hello"), 3); n != 5 || err != nil {
			t.Fatal(n, err)
		}
		ok(t, f.Truncate(10))
		ok(t, f.Sync())
		ok(t, v.SetModTime(name, 1_600_000_000_123))
		if info := must(v.Stat(name))(t); info.ModTime != 1_600_000_000_123 {
			t.Fatal(info)
		}
		if err := v.SetModTime(name+"?", 1); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("time of a missing file: %v", err)
		}
		ok(t, v.Rename(name, filepath.Join(dir, "b")))
		ok(t, v.MkdirAll(filepath.Join(dir, "sub/deep")))
		ok(t, v.SyncDir(dir))
		ok(t, v.SyncFS(dir))
		if _, err := f.WriteAt([]byte("!"), 9); err != nil {
			t.Fatal(err)
		}
		ok(t, f.Allocate(5000))
		ok(t, f.Truncate(10))
		ok(t, f.Reserve(1<<20))
		if n := must(f.Size())(t); n != 10 {
			t.Errorf("%d bytes after a reservation", n)
		}
		ok(t, f.Close())
		got := must(ReadFile(v, filepath.Join(dir, "b"), 100))(t)
		if !bytes.Equal(got, []byte("\x00\x00\x00hello\x00!")) {
			t.Fatalf("%q", got)
		}
		if _, err := ReadFile(v, filepath.Join(dir, "b"), 9); err == nil {
			t.Fatal("limit")
		}
		infos := must(v.ReadDir(dir))(t)
		if len(infos) != 2 || infos[0] != (Info{Name: "b"}) || infos[1] != (Info{Name: "sub", Dir: true}) {
			t.Fatalf("%+v", infos)
		}
		if info := must(v.Stat(filepath.Join(dir, "b")))(t); info.Size != 10 || info.Dir {
			t.Fatalf("%+v", info)
		}
		if err := v.Remove(filepath.Join(dir, "sub")); !errors.Is(err, syscall.ENOTEMPTY) {
			t.Fatalf("remove: %v", err)
		}
		ok(t, v.RemoveAll(filepath.Join(dir, "sub")))
		ok(t, v.RemoveAll(filepath.Join(dir, "sub")))
		ok(t, WriteFile(v, filepath.Join(dir, "b"), []byte("new")))
		if got := must(ReadFile(v, filepath.Join(dir, "b"), 100))(t); string(got) != "new" {
			t.Fatalf("%q", got)
		}
		l := must(v.Lock(filepath.Join(dir, ".lock")))(t)
		if _, err := v.Lock(filepath.Join(dir, ".lock")); !errors.Is(err, ErrLocked) {
			t.Fatalf("lock: %v", err)
		}
		ok(t, l.Close())
		must(v.Lock(filepath.Join(dir, ".lock")))(t).Close()
		born := must(v.Birth(dir))(t)
		if again := must(v.Birth(dir))(t); again != born || born == 0 {
			t.Fatalf("born %d, then %d", born, again)
		}
		if _, err := v.Birth(filepath.Join(dir, "nothing")); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("birth of nothing: %v", err)
		}
		if u, err := v.DiskUsage(dir); u.Free <= 0 || u.Total < u.Free+u.Used || u.Percent() <= 0 || u.Percent() > 100 || err != nil {
			t.Fatalf("%+v %v", u, err)
		}
	})
}

// TestCrashKeepsSynced crashes random histories: what was synced is there in
// every clone, whatever was done to it later is whole sectors of old or new.
func TestCrashKeepsSynced(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		m := NewMem()
		f := must(m.Create("/f"))(t)
		old := make([]byte, 1+rng.IntN(20000))
		for i := range old {
			old[i] = 1 + byte(rng.IntN(100))
		}
		f.WriteAt(old, 0)
		ok(t, f.Sync())
		ok(t, m.SyncDir("/"))
		from := rng.IntN(len(old))
		patch := bytes.Repeat([]byte{200}, 1+rng.IntN(9000))
		f.WriteAt(patch, int64(from))
		c := m.CrashClone(rng)
		got := must(ReadFile(c, "/f", 1<<20))(t)
		if len(got) < len(old) {
			t.Fatalf("seed %d: %d bytes, %d were synced", seed, len(got), len(old))
		}
		for i, b := range got {
			was := byte(0)
			if i < len(old) {
				was = old[i]
			}
			if b != was && !(b == 200 && i >= from && i < from+len(patch)) {
				t.Fatalf("seed %d: byte %d is %d, was %d", seed, i, b, was)
			}
		}
	}
}

// TestCrashNames checks that a lost name takes what was done to it later along,
// and that over the seeds each outcome occurs.
func TestCrashNames(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 2))
		m := NewMem()
		ok(t, writeSynced(m, "/old", []byte("old")))
		ok(t, m.SyncDir("/"))
		ok(t, writeSynced(m, "/new", []byte("new")))
		ok(t, m.Rename("/new", "/old"))
		b := must(ReadFile(m.CrashClone(rng), "/old", 10))(t)
		seen[string(b)] = true
		ok(t, m.SyncDir("/"))
		if b := must(ReadFile(m.CrashClone(rng), "/old", 10))(t); string(b) != "new" {
			t.Fatalf("seed %d: %q after SyncDir", seed, b)
		}
	}
	if !seen["old"] || !seen["new"] || len(seen) != 2 {
		t.Fatalf("outcomes %v", seen)
	}
}

func TestCapacity(t *testing.T) {
	m := NewMem()
	m.SetCapacity(100)
	f := must(m.Create("/f"))(t)
	n, err := f.WriteAt(make([]byte, 150), 0)
	if n != 100 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(n, err)
	}
	ok(t, f.Truncate(40))
	if u := must(m.DiskUsage("/"))(t); u.Free != 60 || u.Used != 40 || u.Percent() != 40 {
		t.Fatalf("%+v", u)
	}
	ok(t, m.Remove("/f"))
	if u := must(m.DiskUsage("/"))(t); u.Free != 100 {
		t.Fatalf("%+v", u)
	}
}

func TestFaulty(t *testing.T) {
	f := NewFaulty(NewMem(), FailAt(OpWrite, "*.log", 2, ShortWrite{3, syscall.ENOSPC}))
	a := must(f.Create("/a.log"))(t)
	if _, err := a.WriteAt([]byte("12345"), 0); err != nil {
		t.Fatal(err)
	}
	if n, err := a.WriteAt([]byte("12345"), 5); n != 3 || !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(n, err)
	}
	b := must(f.Create("/b.index"))(t)
	if _, err := b.WriteAt([]byte("12345"), 0); err != nil {
		t.Fatal(err)
	}
}

// TestLockExcludesJava checks the kind of lock: a POSIX record lock, as Java
// takes, conflicts with ours only from another process, so it asks the kernel
// who would stand in the way.
func TestLockExcludesJava(t *testing.T) {
	name := filepath.Join(t.TempDir(), ".lock")
	l := must(OS{}.Lock(name))(t)
	defer l.Close()
	f := must(os.OpenFile(name, os.O_RDWR, 0))(t)
	defer f.Close()
	lk := syscall.Flock_t{Type: syscall.F_WRLCK}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &lk); err != nil {
		t.Fatal(err)
	}
	if lk.Type == syscall.F_UNLCK {
		t.Fatal("a POSIX lock would be granted")
	}
}
