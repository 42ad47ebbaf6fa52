package main

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// raw measures what the machine does without a broker: the floors that a
// broker's figures are held against.
type raw struct {
	*benchFlags
	out   io.Writer
	dir   string
	piece []byte
	total int64
}

// benchRaw measures all steps.
func benchRaw(out io.Writer, f *benchFlags) error {
	if f.batch < 1 || f.partitions < 1 || f.bytes < float64(f.batch) {
		return usage("--batch and --partitions take at least 1, --bytes at least one batch")
	}
	dir, err := os.MkdirTemp(f.dir, "barnabas-bench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r := &raw{benchFlags: f, out: out, dir: dir, piece: bytes.Repeat([]byte("barnabas"), f.batch/8+1)[:f.batch], total: int64(f.bytes)}
	steps := []func() error{r.receive, r.checksum, r.write, r.receiveAndWrite, r.sendfile, r.copyOut}
	switch {
	case f.rate > 0:
		steps = []func() error{r.relay}
	case f.fsync:
		steps = []func() error{r.fdatasync, r.syncfs}
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// measure runs a step on a thread of its own and prints what it cost.
func (r *raw) measure(what string, total int64, step func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cpu, began := threadCPU(), time.Now()
	if err := step(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	seconds, gb := time.Since(began).Seconds(), float64(total)/1e9
	row := benchRow{What: what, Seconds: seconds, Bytes: total, MBps: gb * 1e3 / seconds, CPU: (threadCPU() - cpu) / gb}
	return row.print(r.out, r.json)
}

func threadCPU() float64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_THREAD, &u) != nil {
		return 0
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

// pair connects two ends through loopback.
func pair() (*net.TCPConn, *net.TCPConn, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	b, err := l.Accept()
	if err != nil {
		a.Close()
		return nil, nil, err
	}
	return a.(*net.TCPConn), b.(*net.TCPConn), nil
}

// fed runs a step on a connection into which all bytes are poured.
func (r *raw) fed(step func(c *net.TCPConn) error) error {
	a, b, err := pair()
	if err != nil {
		return err
	}
	defer b.Close()
	go func() {
		defer a.Close()
		for sent := int64(0); sent < r.total; sent += int64(len(r.piece)) {
			if _, err := a.Write(r.piece); err != nil {
				return
			}
		}
	}()
	return step(b)
}

// drained runs a step on a connection whose other end throws everything away.
func (r *raw) drained(step func(c *net.TCPConn) error) error {
	a, b, err := pair()
	if err != nil {
		return err
	}
	var reader sync.WaitGroup
	reader.Go(func() { io.Copy(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{b}) })
	defer reader.Wait()
	defer b.Close()
	defer a.Close()
	return step(a)
}

func (r *raw) receive() error {
	return r.fed(func(c *net.TCPConn) error {
		return r.measure("receive from a loopback socket", r.total, func() error {
			return r.pieces(func(buf []byte) error { _, err := io.ReadFull(c, buf); return err })
		})
	})
}

// pieces calls a step for every batch, with memory that is used again.
func (r *raw) pieces(step func(buf []byte) error) error {
	buf := bytes.Clone(r.piece)
	for done := int64(0); done+int64(len(buf)) <= r.total; done += int64(len(buf)) {
		if err := step(buf); err != nil {
			return err
		}
	}
	return nil
}

func (r *raw) checksum() error {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := uint32(0)
	return r.measure("CRC-32C", r.total, func() error {
		return r.pieces(func(buf []byte) error { sum ^= crc32.Checksum(buf, table); return nil })
	})
}

// files opens the files to write, and returns a function that writes the next
// batch to the next of them.
func (r *raw) files() (files []*os.File, next func(buf []byte) error, err error) {
	for i := range r.partitions {
		f, err := os.Create(filepath.Join(r.dir, fmt.Sprintf("%d.log", i)))
		if err != nil {
			return nil, nil, err
		}
		files = append(files, f)
	}
	turn := 0
	return files, func(buf []byte) error {
		turn++
		_, err := files[turn%len(files)].Write(buf)
		return err
	}, nil
}

// withFiles runs a step on new files, and removes them.
func (r *raw) withFiles(step func(files []*os.File, next func([]byte) error) error) error {
	files, next, err := r.files()
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range files {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	return step(files, next)
}

func (r *raw) write() error {
	return r.withFiles(func(_ []*os.File, next func([]byte) error) error {
		return r.measure("write to the page cache", r.total, func() error { return r.pieces(next) })
	})
}

// receiveAndWrite is the floor of a produce request: receive, checksum, write.
func (r *raw) receiveAndWrite() error {
	table := crc32.MakeTable(crc32.Castagnoli)
	return r.fed(func(c *net.TCPConn) error {
		return r.withFiles(func(_ []*os.File, next func([]byte) error) error {
			sum := uint32(0)
			return r.measure("produce floor: receive, CRC, write", r.total, func() error {
				return r.pieces(func(buf []byte) error {
					if _, err := io.ReadFull(c, buf); err != nil {
						return err
					}
					sum ^= crc32.Checksum(buf, table)
					return next(buf)
				})
			})
		})
	})
}

// filled runs a step on a file that is in the page cache.
func (r *raw) filled(step func(f *os.File) error) error {
	return r.withFiles(func(files []*os.File, _ func([]byte) error) error {
		if err := r.pieces(func(buf []byte) error { _, err := files[0].Write(buf); return err }); err != nil {
			return err
		}
		return step(files[0])
	})
}

func (r *raw) sendfile() error {
	return r.filled(func(f *os.File) error {
		return r.drained(func(c *net.TCPConn) error {
			return r.measure("fetch floor: sendfile", r.total, func() error { return sendAll(c, f, r.total, len(r.piece)) })
		})
	})
}

// sendAll sends a file piece by piece.
func sendAll(c *net.TCPConn, f *os.File, total int64, piece int) error {
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	at := int64(0)
	for at+int64(piece) <= total {
		left := piece
		var failed error
		err := rc.Write(func(fd uintptr) bool {
			for left > 0 {
				n, err := unix.Sendfile(int(fd), int(f.Fd()), &at, left)
				if err == unix.EAGAIN {
					return false
				}
				if err == unix.EINTR {
					continue
				}
				if err != nil || n == 0 {
					failed = err
					return true
				}
				left -= n
			}
			return true
		})
		if err != nil || failed != nil {
			return fmt.Errorf("sendfile: %w, %w", err, failed)
		}
	}
	return nil
}

func (r *raw) copyOut() error {
	return r.filled(func(f *os.File) error {
		return r.drained(func(c *net.TCPConn) error {
			at := int64(0)
			return r.measure("fetch floor: pread and write", r.total, func() error {
				return r.pieces(func(buf []byte) error {
					if _, err := f.ReadAt(buf, at); err != nil {
						return err
					}
					at += int64(len(buf))
					_, err := c.Write(buf)
					return err
				})
			})
		})
	})
}

// durable writes a batch to every file and syncs, again and again.
func (r *raw) durable(what string, sync func(files []*os.File) error) error {
	return r.withFiles(func(files []*os.File, next func([]byte) error) error {
		return r.measure(what, r.total, func() error {
			n := 0
			return r.pieces(func(buf []byte) error {
				if err := next(buf); err != nil {
					return err
				}
				if n++; n%len(files) != 0 {
					return nil
				}
				return sync(files)
			})
		})
	})
}

func (r *raw) fdatasync() error {
	return r.durable("write, fdatasync each", func(files []*os.File) error {
		for _, f := range files {
			if err := unix.Fdatasync(int(f.Fd())); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r *raw) syncfs() error {
	return r.durable("write, one syncfs", func(files []*os.File) error { return unix.Syncfs(int(files[0].Fd())) })
}
