package main

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// relay is the floor of latency: one thread that writes what one socket
// brings, syncs if asked to, and passes it on to another socket. What was due
// while it synced goes together, as in a broker.
func (r *raw) relay() error {
	total := int(r.rate * r.seconds)
	if total < 10 || r.batch < 8 {
		return usage("--rate and --seconds give %d records of %d bytes: it takes 10 records of 8", total, r.batch)
	}
	in, out, err := r.lines()
	if err != nil {
		return err
	}
	defer in.close()
	defer out.close()
	delays, read := make([]float64, 0, total), make(chan error, 1)
	go func() { read <- delaysOf(out.to, len(r.piece), total, &delays) }()
	relayed := make(chan error, 1)
	go func() {
		relayed <- r.withFiles(func(files []*os.File, _ func([]byte) error) error { return pass(in.to, files[0], r.fsync, out.from) })
		out.from.Close() // So that a reader does not wait for what is lost.
	}()
	began := time.Now()
	err = pace(total, r.rate, func(_ int, due time.Time) error {
		binary.BigEndian.PutUint64(r.piece, uint64(due.UnixNano()))
		_, err := in.from.Write(r.piece)
		return err
	})
	in.from.Close()
	if err := errors.Join(err, <-relayed, <-read); err != nil {
		return err
	}
	what := "latency floor: receive, write, send"
	if r.fsync {
		what = "latency floor: with fdatasync"
	}
	row := benchRow{What: what, Seconds: time.Since(began).Seconds(), Records: int64(total), QuantileMs: quantiles(delays)}
	return row.print(r.out, r.json)
}

// line is a connection through loopback.
type line struct{ from, to *net.TCPConn }

func (l line) close() { l.from.Close(); l.to.Close() }

func (r *raw) lines() (in, out line, err error) {
	if in.from, in.to, err = pair(); err != nil {
		return in, out, err
	}
	if out.from, out.to, err = pair(); err != nil {
		in.close()
	}
	return in, out, err
}

// pass relays until its source ends.
func pass(from io.Reader, through *os.File, durable bool, to io.Writer) error {
	buf := make([]byte, 1<<20)
	for {
		n, err := from.Read(buf)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := through.Write(buf[:n]); err != nil {
			return err
		}
		if durable {
			if err := unix.Fdatasync(int(through.Fd())); err != nil {
				return err
			}
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return err
		}
	}
}

// delaysOf reads records that begin with the time when they were due.
func delaysOf(from io.Reader, size, total int, delays *[]float64) error {
	buf := make([]byte, size)
	for range total {
		if _, err := io.ReadFull(from, buf); err != nil {
			return err
		}
		*delays = append(*delays, float64(time.Now().UnixNano()-int64(binary.BigEndian.Uint64(buf)))/1e6)
	}
	return nil
}

// sleepPrecisely sleeps to within some 50 microseconds. A timer of the runtime
// may be a millisecond late in a process that has nothing else to do, which
// would be all that is measured.
func sleepPrecisely(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&ts, nil) // A signal may end it early: the caller asks the clock again.
}
