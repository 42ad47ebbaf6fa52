package record

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// Sentinels of [Decompress].
var (
	// ErrCodec says that the attributes name a codec that does not exist.
	ErrCodec = errors.New("record: unknown codec")
	// ErrTooBig says that the records would not fit the limit given.
	ErrTooBig = errors.New("record: decompressed records exceed the limit")
	// ErrCompressed says that a compressed block cannot be read.
	ErrCompressed = errors.New("record: compressed block broken")
)

// DefaultMaxDecompressed bounds the records of one compressed batch, in bytes.
// What is larger could never have been sent uncompressed: Kafka's largest
// request, socket.request.max.bytes, is 100 MiB. The rest is slack for clients
// that fill a request by its compressed size.
const DefaultMaxDecompressed = 128 << 20

const (
	// minBuffer is what a decompression starts with when it must guess.
	minBuffer = 64 << 10
	// maxPooled is the largest buffer that goes back to the pool: one hostile
	// batch must not pin its decompressed size for the life of the process.
	maxPooled = 8 << 20
	// maxBig is how many buffers above maxPooled may be in use at once; who
	// wants another waits. It bounds what bombs on many connections cost;
	// honest batches are far smaller, and [Check] needs such a buffer only for
	// those of maxWide.
	maxBig = 1
)

// Buffer holds what [Decompress] found, in memory that is used again after
// Release.
type Buffer struct {
	b   []byte
	big bool // holds a slot of bigSlots
}

// bigSlots are maxBig slots. A goroutine holds one at most, and waits for
// nothing else while it does.
var bigSlots = make(chan struct{}, maxBig)

func newBuffer() *Buffer {
	if b, ok := pools.buffers.Get().(*Buffer); ok {
		return b
	}
	return new(Buffer)
}

// Bytes are the decompressed records. They must not be used after Release.
func (b *Buffer) Bytes() []byte { return b.b }

// Release gives the memory back. It may be called once, and on nil.
func (b *Buffer) Release() {
	switch {
	case b == nil:
		return
	case b.big:
		if cap(b.b) <= maxWide {
			pools.wide.Put(&Buffer{b: b.b[:0]})
		}
		b.b, b.big = nil, false
		<-bigSlots
		return
	}
	b.b = b.b[:0]
	pools.buffers.Put(b)
}

// grow returns b with room for at least one more byte, never above limit.
func (b *Buffer) grow(limit int) error {
	if len(b.b) >= limit {
		return ErrTooBig
	}
	size := min(max(2*cap(b.b), minBuffer), limit)
	if size <= cap(b.b) {
		return nil // A pooled buffer may be larger than the limit.
	}
	b.resize(size)
	return nil
}

// resize moves what b holds to new memory of that size.
func (b *Buffer) resize(size int) {
	if size > maxPooled && !b.big {
		bigSlots <- struct{}{}
		b.big = true
		if w, ok := pools.wide.Get().(*Buffer); ok && cap(w.b) >= size {
			b.b = append(w.b, b.b...)
			return
		}
		if size < maxWide {
			size = maxWide // For those that come after, too.
		}
	}
	grown := make([]byte, len(b.b), size)
	copy(grown, b.b)
	b.b = grown
}

// pools keeps coders and buffers between batches: making a zstd decoder costs
// more than most batches do. Nothing in it is state: every coder is reset
// before it is used.
var pools struct {
	buffers, wide, zstd, turns sync.Pool
}

// Decompress unpacks a batch's payload into at most limit bytes (0 means
// [DefaultMaxDecompressed]). It never holds more than twice of what it has
// unpacked so far, so that a bomb costs no more than the limit.
//
// Snappy is read as Java writes it (xerial framing) and as one plain block; LZ4
// as Kafka reads it: one frame of independent blocks. Errors are ErrCodec,
// ErrTooBig and ErrCompressed.
func Decompress(c Codec, src []byte, limit int) (*Buffer, error) {
	if limit <= 0 {
		limit = DefaultMaxDecompressed
	}
	buf := newBuffer()
	if err := decompress(c, buf, src, limit); err != nil {
		buf.Release()
		return nil, err
	}
	return buf, nil
}

// decompress is the one place of the project that recovers: a panic in a
// third-party decompressor would otherwise come back at every start, with the
// stored batch that caused it.
func decompress(c Codec, buf *Buffer, src []byte, limit int) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %s: panic: %v", ErrCompressed, c, p)
		}
	}()
	switch c {
	case None:
		if len(src) > limit {
			return ErrTooBig
		}
		if cap(buf.b) < len(src) {
			buf.resize(len(src))
		}
		buf.b = append(buf.b, src...)
		return nil
	case Gzip, LZ4:
		return unstream(c, buf, src, limit)
	case Snappy:
		return unsnap(buf, src, limit)
	case Zstd:
		return unzstd(buf, src, limit)
	}
	return fmt.Errorf("%w: %d", ErrCodec, c)
}

// unstream unpacks what can be unpacked as a stream.
func unstream(c Codec, buf *Buffer, src []byte, limit int) error {
	s, err := openStream(c, src)
	if err != nil {
		return err
	}
	sound := false
	defer func() { s.release(sound) }() // Also after a panic.
	err = drain(buf, s, limit)
	sound = true
	return err
}

// drain reads r to its end into buf.
func drain(buf *Buffer, r io.Reader, limit int) error {
	for {
		if len(buf.b) >= limit {
			return probeEnd(r)
		}
		if len(buf.b) == cap(buf.b) {
			if err := buf.grow(limit); err != nil {
				return err
			}
		}
		n, err := r.Read(buf.b[len(buf.b):min(cap(buf.b), limit)])
		buf.b = buf.b[:len(buf.b)+n]
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// probeEnd tells records that fill the limit exactly from those that exceed it.
func probeEnd(r io.Reader) error {
	var one [1]byte
	for {
		n, err := r.Read(one[:])
		switch {
		case n > 0:
			return ErrTooBig
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// unzstd unpacks at once if it can tell how much room that takes, and else, or
// if that fails, as a stream, which also says what is wrong.
func unzstd(buf *Buffer, src []byte, limit int) error {
	var h zstd.Header
	if h.Decode(src) == nil && h.HasFCS {
		// The declared size is a stranger's word. No block of less than four
		// bytes yields more than zstdMaxBlock: what claims more is no frame.
		if h.FrameContentSize/zstdMaxBlock > uint64(len(src)/4) {
			return fmt.Errorf("%w: zstd: %d bytes claim to hold %d", ErrCompressed, len(src), h.FrameContentSize)
		}
		if h.FrameContentSize > uint64(limit) {
			return fmt.Errorf("zstd: %w", ErrTooBig)
		}
	}
	room := max(minBuffer, 8*len(src), int(h.FrameContentSize))
	if unzstdAtOnce(buf, src, min(room, limit)) {
		return nil
	}
	if zstdWindow(src) <= zstdStreamWindow {
		return unzstdStream(buf, src, limit)
	}
	// What a stream would not read: it might refer back too far.
	for room < limit {
		if room *= 4; unzstdAtOnce(buf, src, min(room, limit)) {
			return nil
		}
	}
	return unzstdStream(buf, src, limit)
}

// unzstdAtOnce reports whether the records fit the room. If not they may be
// broken, or too large: the decoder calls some blocks broken that are too large
// for it.
func unzstdAtOnce(buf *Buffer, src []byte, room int) bool {
	z, _ := pools.zstd.Get().(*zstd.Decoder)
	if z == nil {
		var err error
		// The capacity given to DecodeAll is the only limit; the output is the
		// window, so a frame's declared window costs nothing.
		z, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true),
			zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdMaxWindow))
		if err != nil {
			return false
		}
	}
	defer pools.zstd.Put(z)
	if cap(buf.b) < room {
		buf.resize(room)
	}
	out, err := z.DecodeAll(src, buf.b[:0:room])
	if err == nil {
		buf.b = out
	}
	return err == nil
}

func unzstdStream(buf *Buffer, src []byte, limit int) error {
	t, _ := pools.turns.Get().(*turn)
	if t == nil {
		t = &turn{zstdWindow: zstdStreamWindow}
	}
	s, err := t.openZstd(src)
	if err != nil {
		return err
	}
	buf.b = buf.b[:0]
	err = drain(buf, s, limit)
	s.release(true)
	pools.turns.Put(t)
	return err
}

// unsnap unpacks each block to where it belongs; as a stream, a large block
// would be in memory twice.
func unsnap(buf *Buffer, src []byte, limit int) error {
	for plain := !xerial(src); ; {
		block, rest, err := cutSnappy(src, &plain)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		n, err := snappySize(block)
		if err != nil {
			return err
		}
		at := len(buf.b)
		if n > limit-at {
			return fmt.Errorf("snappy: %w", ErrTooBig)
		}
		for cap(buf.b)-at < n {
			if err := buf.grow(limit); err != nil {
				return err
			}
		}
		out, err := s2.Decode(buf.b[at:at+n:at+n], block)
		if err != nil {
			return fmt.Errorf("%w: snappy: %w", ErrCompressed, err)
		}
		buf.b = buf.b[:at+len(out)]
		src = rest
	}
}
