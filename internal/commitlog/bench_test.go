package commitlog

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
)

func benchLog(b *testing.B, opts Options) *Log {
	b.Helper()
	l, err := Open(vfs.OS{}, b.TempDir(), opts)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	return l
}

// BenchmarkAppend writes into the page cache; retention keeps the disk small.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 10, 256 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			l := benchLog(b, Options{SegmentBytes: 64 << 20})
			batch := makeBatch(10, size-61, 1, 1)
			now := time.Now()
			b.SetBytes(int64(size))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				if _, _, err := l.Append(batch, 1, now); err != nil {
					b.Fatal(err)
				}
				if n += size; n > 128<<20 {
					n = 0
					l.Retain(now, Retention{Bytes: 1, Limit: l.End()})
					l.DeleteExpired(now, 0)
				}
			}
		})
	}
}

// BenchmarkRead cuts views of 1 MiB: by a reader that goes on where it stopped,
// and at random offsets of a sealed segment, which costs index look-ups.
func BenchmarkRead(b *testing.B) {
	l := benchLog(b, Options{SegmentBytes: 128 << 20})
	batch := makeBatch(10, 16<<10, 1, 1)
	for range 8192 {
		if _, _, err := l.Append(batch, 1, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
	read := func(b *testing.B, from model.Offset) model.Offset {
		v, err := l.Read(from, l.End(), 1<<20, true)
		if err != nil || v.Size() == 0 {
			b.Fatal(v.Size(), err)
		}
		v.Close()
		return v.End()
	}
	b.Run("sequential", func(b *testing.B) {
		b.ReportAllocs()
		at := model.Offset(0)
		for b.Loop() {
			if at = read(b, at); at >= l.End() {
				at = 0
			}
		}
	})
	b.Run("random", func(b *testing.B) {
		b.ReportAllocs()
		at := model.Offset(0)
		for b.Loop() {
			at = (at + 31_337) % l.End()
			read(b, at)
		}
	})
}

// BenchmarkView sends views over loopback by sendfile and by copying; where the
// first becomes cheaper is sendfileMin.
func BenchmarkView(b *testing.B) {
	l := benchLog(b, Options{})
	if _, _, err := l.Append(makeBatch(10, 1<<20, 1, 1), 1, time.Now()); err != nil {
		b.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	go func() {
		c, err := ln.Accept()
		if err == nil {
			io.Copy(io.Discard, c)
		}
	}()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	v, err := l.Read(0, 10, 1<<20, true)
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	for _, size := range []int{4 << 10, 16 << 10, 64 << 10, 1 << 20} {
		part := v
		part.size = size
		send := func(name string, f func() error) {
			b.Run(fmt.Sprintf("%s/%dKiB", name, size>>10), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if err := f(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		send("sendfile", func() error { _, _, err := part.sendFile(c); return err })
		send("copy", func() error { _, err := part.copyTo(c); return err })
	}
}

// BenchmarkOpen opens 10,000 idle logs, with their marks and without.
func BenchmarkOpen(b *testing.B) {
	const logs = 10_000
	root := b.TempDir()
	marks := make([]Mark, logs)
	dir := func(i int) string { return filepath.Join(root, fmt.Sprint("t-", i)) }
	for i := range logs {
		if err := os.Mkdir(dir(i), 0o755); err != nil {
			b.Fatal(err)
		}
		l, err := Open(vfs.OS{}, dir(i), Options{})
		if err != nil {
			b.Fatal(err)
		}
		if i%10 == 0 { // Some have data.
			if _, _, err := l.Append(makeBatch(10, 1000, 1, 1), 0, time.Now()); err != nil {
				b.Fatal(err)
			}
		}
		m, err := l.BeginMark(nil)
		if err != nil {
			b.Fatal(err)
		}
		marks[i] = m.mark
		l.FinishSync(m.sync, nil)
		l.Close()
	}
	for _, marked := range []bool{true, false} {
		b.Run(fmt.Sprintf("marked=%v", marked), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for i := range logs {
					o := Options{}
					if marked {
						o.Mark = marks[i]
					}
					l, err := Open(vfs.OS{}, dir(i), o)
					if err != nil {
						b.Fatal(err)
					}
					l.Close()
				}
			}
		})
	}
}

// BenchmarkRecover reads a segment of 256 MiB after a crash without a mark.
func BenchmarkRecover(b *testing.B) {
	root := b.TempDir()
	l, err := Open(vfs.OS{}, root, Options{})
	if err != nil {
		b.Fatal(err)
	}
	for range 16 << 10 {
		if _, _, err := l.Append(makeBatch(10, 16<<10, 1, 1), 0, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
	size := l.Size()
	l.Close()
	b.SetBytes(size)
	for b.Loop() {
		l, err := Open(vfs.OS{}, root, Options{})
		if err != nil {
			b.Fatal(err)
		}
		l.Close()
	}
}
