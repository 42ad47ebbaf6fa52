package zmtp

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed is what a peer gets its connection closed for.
var ErrMalformed = errors.New("malformed")

// Flags of a frame (RFC 37, "Framing").
const (
	flagMore    = 1 << 0 // The message goes on with the next frame.
	flagLong    = 1 << 1 // The size takes eight bytes, not one.
	flagCommand = 1 << 2

	flagsKnown = flagMore | flagLong | flagCommand
	maxHeader  = 1 + 8
)

// frame is one frame as it came. Its body lasts until the reader's next frame,
// unless it is owned.
type frame struct {
	flags byte
	body  []byte
	owned bool
}

func (f frame) command() bool { return f.flags&flagCommand != 0 }
func (f frame) more() bool    { return f.flags&flagMore != 0 }

// appendHeader appends the header of a frame with size bytes.
func appendHeader(dst []byte, flags byte, size int) []byte {
	if size <= 255 {
		return append(dst, flags, byte(size))
	}
	dst = append(dst, flags|flagLong)
	return binary.BigEndian.AppendUint64(dst, uint64(size))
}

func appendFrame(dst []byte, flags byte, body []byte) []byte {
	return append(appendHeader(dst, flags, len(body)), body...)
}

// parseHeader reads a frame's header. n is its length, 0 if it is not yet here
// as a whole.
func parseHeader(b []byte, limit int) (flags byte, size, n int, err error) {
	if len(b) == 0 {
		return 0, 0, 0, nil
	}
	flags = b[0]
	if flags&^flagsKnown != 0 || flags&flagCommand != 0 && flags&flagMore != 0 {
		return 0, 0, 0, fmt.Errorf("%w: flags %#02x", ErrMalformed, flags)
	}
	if flags&flagLong == 0 {
		if len(b) < 2 {
			return 0, 0, 0, nil
		}
		size, n = int(b[1]), 2
	} else {
		if len(b) < maxHeader {
			return 0, 0, 0, nil
		}
		claimed := binary.BigEndian.Uint64(b[1:])
		if claimed > uint64(limit) {
			return 0, 0, 0, fmt.Errorf("%w: a frame of %d bytes, at most %d", ErrMalformed, claimed, limit)
		}
		size, n = int(claimed), maxHeader
	}
	if size > limit {
		return 0, 0, 0, fmt.Errorf("%w: a frame of %d bytes, at most %d", ErrMalformed, size, limit)
	}
	return flags, size, n, nil
}
