package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
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
	// wants another waits. It bounds what bombs on many connections cost to a
	// few hundred megabytes; honest batches are far smaller.
	maxBig = 2
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

// Bytes are the decompressed records. They must not be used after Release.
func (b *Buffer) Bytes() []byte { return b.b }

// Release gives the memory back. It may be called once, and on nil.
func (b *Buffer) Release() {
	switch {
	case b == nil:
		return
	case b.big:
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
	}
	grown := make([]byte, len(b.b), size)
	copy(grown, b.b)
	b.b = grown
}

// pools keeps coders and buffers between batches: making a zstd decoder costs
// more than most batches do. Nothing in it is state: every coder is reset
// before it is used.
var pools struct {
	buffers, gzip, lz4, zstd, sources sync.Pool
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
	buf, _ := pools.buffers.Get().(*Buffer)
	if buf == nil {
		buf = new(Buffer)
	}
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
	case Gzip:
		return unzip(buf, src, limit)
	case Snappy:
		return unsnap(buf, src, limit)
	case LZ4:
		return unlz4(buf, src, limit)
	case Zstd:
		return unzstd(buf, src, limit)
	}
	return fmt.Errorf("%w: %d", ErrCodec, c)
}

// source is a pooled io.Reader over bytes: bytes.NewReader would allocate for
// each batch.
type source struct{ b []byte }

func (s *source) Read(p []byte) (int, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.b)
	s.b = s.b[n:]
	return n, nil
}

// ReadByte spares gzip a buffered reader of its own.
func (s *source) ReadByte() (byte, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	c := s.b[0]
	s.b = s.b[1:]
	return c, nil
}

func newSource(b []byte) *source {
	s, _ := pools.sources.Get().(*source)
	if s == nil {
		s = new(source)
	}
	s.b = b
	return s
}

func (s *source) release() {
	s.b = nil
	pools.sources.Put(s)
}

// unzip reads all members of a gzip stream. As Java does, it takes what follows
// the first and is no member for padding.
func unzip(buf *Buffer, src []byte, limit int) error {
	s := newSource(src)
	defer s.release()
	z, _ := pools.gzip.Get().(*gzip.Reader)
	if z == nil {
		z = new(gzip.Reader)
	}
	if err := z.Reset(s); err != nil {
		return fmt.Errorf("%w: gzip: %w", ErrCompressed, err)
	}
	for more := true; more; more = len(s.b) > 0 && z.Reset(s) == nil {
		z.Multistream(false)
		if err := drain(buf, z, limit); err != nil {
			return fmt.Errorf("gzip: %w", err)
		}
	}
	pools.gzip.Put(z)
	return nil
}

func unlz4(buf *Buffer, src []byte, limit int) error {
	frame, err := lz4FrameOf(src)
	if err != nil {
		return err
	}
	s := newSource(frame)
	defer s.release()
	z, _ := pools.lz4.Get().(*lz4.Reader)
	if z == nil {
		z = lz4.NewReader(nil)
	}
	z.Reset(s)
	if err := drain(buf, z, limit); err != nil {
		return fmt.Errorf("lz4: %w", err)
	}
	z.Reset(nil)
	pools.lz4.Put(z)
	return nil
}

// The LZ4 frame format, as far as the length of a frame depends on it.
const (
	lz4Magic           = 0x184D2204
	lz4DictID          = 1 << 0
	lz4ContentChecksum = 1 << 2
	lz4ContentSize     = 1 << 3
	lz4BlockChecksum   = 1 << 4
	lz4Independent     = 1 << 5
)

// lz4FrameOf returns the first frame of src, the only one that Kafka reads. The
// library would go on to what follows, and would also read legacy frames and
// dependent blocks, which no Java client can consume.
func lz4FrameOf(src []byte) ([]byte, error) {
	if len(src) < 7 || binary.LittleEndian.Uint32(src) != lz4Magic {
		return nil, fmt.Errorf("%w: lz4: no frame", ErrCompressed)
	}
	flags := src[4]
	if flags&lz4Independent == 0 || flags&lz4DictID != 0 {
		return nil, fmt.Errorf("%w: lz4: flags %#x", ErrCompressed, flags)
	}
	p := 7
	if flags&lz4ContentSize != 0 {
		p += 8
	}
	for p+4 <= len(src) {
		n := int(binary.LittleEndian.Uint32(src[p:]) &^ (1 << 31))
		p += 4
		if n == 0 {
			if flags&lz4ContentChecksum != 0 {
				p += 4
			}
			return src[:min(p, len(src))], nil
		}
		if flags&lz4BlockChecksum != 0 {
			n += 4
		}
		p += n
	}
	return src, nil // Cut short: the library says so.
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
			return fmt.Errorf("%w: %w", ErrCompressed, err)
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
			return fmt.Errorf("%w: %w", ErrCompressed, err)
		}
	}
}

func unzstd(buf *Buffer, src []byte, limit int) error {
	z, _ := pools.zstd.Get().(*zstd.Decoder)
	if z == nil {
		var err error
		// The capacity given to DecodeAll is the only limit; the output is the
		// window, so a frame's declared window costs nothing.
		z, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true),
			zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdMaxWindow))
		if err != nil {
			return fmt.Errorf("%w: zstd: %w", ErrCompressed, err)
		}
	}
	defer pools.zstd.Put(z)
	want := max(minBuffer, 8*len(src))
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
		want = max(minBuffer, int(h.FrameContentSize))
	}
	for {
		want = min(want, limit)
		if cap(buf.b) < want {
			buf.resize(want)
		}
		room := buf.b[:0:min(cap(buf.b), limit)]
		out, err := z.DecodeAll(src, room)
		if err == nil {
			buf.b = out
			return nil
		}
		if !errors.Is(err, zstd.ErrDecoderSizeExceeded) {
			return fmt.Errorf("%w: zstd: %w", ErrCompressed, err)
		}
		if cap(room) >= limit {
			return fmt.Errorf("zstd: %w", ErrTooBig)
		}
		want = 2 * cap(room)
	}
}

// zstdMaxWindow is what zstd-jni, and so every Java consumer, accepts by
// default (ZSTD_WINDOWLOG_LIMIT_DEFAULT, 2^27).
const zstdMaxWindow = 128 << 20

// zstdMaxBlock is the most that one block holds (RFC 8878, 3.1.1.2.4).
const zstdMaxBlock = 128 << 10

// xerialMagic begins Java's snappy framing; two int32 follow: version and
// least compatible version.
const (
	xerialMagic      = "\x82SNAPPY\x00"
	xerialHeaderSize = 16
	xerialBlock      = 32 << 10
)

func unsnap(buf *Buffer, src []byte, limit int) error {
	if len(src) < xerialHeaderSize || string(src[:len(xerialMagic)]) != xerialMagic {
		return unsnapBlock(buf, src, limit)
	}
	for src = src[xerialHeaderSize:]; len(src) > 0; {
		// Java's stream reader accepts a concatenated header between blocks.
		if len(src) >= xerialHeaderSize && string(src[:len(xerialMagic)]) == xerialMagic {
			src = src[xerialHeaderSize:]
			continue
		}
		if len(src) < 4 {
			return nil // Java takes a tail too short for a length as the end.
		}
		n := int64(binary.BigEndian.Uint32(src))
		if src = src[4:]; n > int64(len(src)) {
			return fmt.Errorf("%w: snappy: block of %d bytes, %d left", ErrCompressed, n, len(src))
		}
		if err := unsnapBlock(buf, src[:n], limit); err != nil {
			return err
		}
		src = src[n:]
	}
	return nil
}

// unsnapBlock appends one block. The block says its size first, and may lie:
// six bytes can claim 4 GiB. No snappy block expands more than some 21 times
// (a copy of 3 bytes yields 64), which bounds what a claim can cost.
func unsnapBlock(buf *Buffer, block []byte, limit int) error {
	n, err := s2.DecodedLen(block)
	if err != nil {
		return fmt.Errorf("%w: snappy: %w", ErrCompressed, err)
	}
	if n > 24*len(block)+64 {
		return fmt.Errorf("%w: snappy: %d bytes claim to hold %d", ErrCompressed, len(block), n)
	}
	if n > limit-len(buf.b) {
		return fmt.Errorf("snappy: %w", ErrTooBig)
	}
	for cap(buf.b)-len(buf.b) < n {
		if err := buf.grow(limit); err != nil {
			return err
		}
		if cap(buf.b) >= limit {
			break
		}
	}
	at := len(buf.b)
	out, err := s2.Decode(buf.b[at:at+n:at+n], block)
	if err != nil {
		return fmt.Errorf("%w: snappy: %w", ErrCompressed, err)
	}
	buf.b = buf.b[:at+len(out)]
	return nil
}
