package commitlog

import (
	"fmt"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// sendfileMin is the size from which sendfile costs less than read and write:
// see BenchmarkView.
const sendfileMin = 32 << 10

// sendTo sends the view from the page cache if it can; done says so. It never
// uses TCPConn.ReadFrom: Go would send from the file's own position, which all
// readers of a segment share.
func (v View) sendTo(w io.Writer) (sent int64, done bool, err error) {
	if v.size < sendfileMin {
		return 0, false, nil
	}
	return v.sendFile(w)
}

func (v View) sendFile(w io.Writer) (sent int64, done bool, err error) {
	switch w.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return 0, false, nil // TLS and the like must see the bytes.
	}
	fd, ok := v.file.Fd()
	if !ok {
		return 0, false, nil
	}
	raw, err := w.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, true, err
	}
	off := v.pos
	end := v.pos + int64(v.size)
	var serr error
	err = raw.Write(func(sock uintptr) bool {
		for off < end {
			n, err := unix.Sendfile(int(sock), int(fd), &off, int(end-off))
			switch {
			case err == unix.EINTR:
			case err == unix.EAGAIN:
				return false
			case err != nil:
				serr = fmt.Errorf("commitlog: sendfile: %w", err)
				return true
			case n == 0:
				serr = fmt.Errorf("commitlog: sendfile at %d of %d: %w", off, end, io.ErrUnexpectedEOF)
				return true
			}
		}
		return true
	})
	if serr != nil {
		err = serr
	}
	return off - v.pos, true, err
}
