package record

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// stream unpacks a payload as it is read. It comes from a pool; release gives
// it back, or what it holds if it is not sound, that is, has panicked.
type stream interface {
	io.Reader
	release(sound bool)
}

// streams are pools as [pools] is.
var streams struct{ gzip, lz4, snappy sync.Pool }

// openStream knows all codecs but zstd, whose decoder belongs to a turn.
func openStream(c Codec, src []byte) (stream, error) {
	switch c {
	case Gzip:
		return openGzip(src)
	case Snappy:
		return openSnappy(src)
	case LZ4:
		return openLZ4(src)
	}
	return nil, fmt.Errorf("%w: %d", ErrCodec, c)
}

// source is an io.Reader over bytes; ReadByte spares gzip a buffered reader of
// its own.
type source struct {
	head []byte // Comes before b.
	b    []byte
}

func (s *source) Read(p []byte) (int, error) {
	if len(s.head) > 0 {
		n := copy(p, s.head)
		s.head = s.head[n:]
		return n, nil
	}
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.b)
	s.b = s.b[n:]
	return n, nil
}

func (s *source) ReadByte() (byte, error) {
	if len(s.b) == 0 {
		return 0, io.EOF
	}
	c := s.b[0]
	s.b = s.b[1:]
	return c, nil
}

// gzipStream reads all members. As Java does, it takes what follows the first
// and is no member for padding.
type gzipStream struct {
	src source
	z   gzip.Reader
}

func openGzip(src []byte) (stream, error) {
	s, _ := streams.gzip.Get().(*gzipStream)
	if s == nil {
		s = new(gzipStream)
	}
	s.src.b = src
	if err := s.z.Reset(&s.src); err != nil {
		return nil, fmt.Errorf("%w: gzip: %w", ErrCompressed, err)
	}
	s.z.Multistream(false)
	return s, nil
}

func (s *gzipStream) Read(p []byte) (int, error) {
	for {
		n, err := s.z.Read(p)
		switch {
		case err == nil:
			return n, nil
		case err != io.EOF:
			return n, fmt.Errorf("%w: gzip: %w", ErrCompressed, err)
		case n > 0:
			return n, nil // The end comes again.
		case len(s.src.b) == 0 || s.z.Reset(&s.src) != nil:
			s.src.b = nil
			return 0, io.EOF
		}
		s.z.Multistream(false)
	}
}

func (s *gzipStream) release(sound bool) {
	s.src.b = nil
	if sound {
		streams.gzip.Put(s)
	}
}

type lz4Stream struct {
	src source
	z   *lz4.Reader
}

func openLZ4(src []byte) (stream, error) {
	frame, err := lz4FrameOf(src)
	if err != nil {
		return nil, err
	}
	s, _ := streams.lz4.Get().(*lz4Stream)
	if s == nil {
		s = &lz4Stream{z: lz4.NewReader(nil)}
	}
	s.src.b = frame
	s.z.Reset(&s.src)
	return s, nil
}

func (s *lz4Stream) Read(p []byte) (int, error) {
	n, err := s.z.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%w: lz4: %w", ErrCompressed, err)
	}
	return n, err
}

func (s *lz4Stream) release(sound bool) {
	if !sound {
		return
	}
	s.src.b = nil
	s.z.Reset(nil)
	streams.lz4.Put(s)
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

// zstdMaxWindow is what zstd-jni, and so every Java consumer, accepts by
// default (ZSTD_WINDOWLOG_LIMIT_DEFAULT, 2^27).
const zstdMaxWindow = 128 << 20

// zstdStreamWindow is the widest window that is unpacked as a stream, for which
// the library takes the whole window at once: 8 MiB is what levels up to 19
// use, and what RFC 8878 (3.1.1.1.2) asks of every decoder. A frame that claims
// more is read as if it claimed that much: see narrow.
const zstdStreamWindow = 8 << 20

// zstdMaxBlock is the most that one block holds (RFC 8878, 3.1.1.2.4).
const zstdMaxBlock = 128 << 10

// zstdNarrow is the window of zstd's default level, and of most content.
const zstdNarrow = 2 << 20

// zstdWindow is the window that the first frame claims; of one segment, the
// content. Frames that follow, if any, must not claim more than the turn of the
// first allows.
func zstdWindow(src []byte) uint64 {
	var h zstd.Header
	switch {
	case h.Decode(src) != nil:
		return 0
	case h.SingleSegment:
		return h.FrameContentSize
	}
	return h.WindowSize
}

// narrow returns the head of a frame and its rest. If the frame claims a window
// wider than zstdStreamWindow, the head claims zstdStreamWindow. Producers
// with levels above 19 claim up to 128 MiB for the smallest batch. What they
// send is still read, unless it does refer back as far; then the decoder finds
// that it cannot.
func narrow(src []byte) (head [6]byte, headSize int, rest []byte) {
	const (
		single     = 1 << 5 // The content is the window, and its size follows.
		descriptor = 13 << 3
	)
	var h zstd.Header
	if h.Decode(src) != nil || h.Skippable || len(src) < len(head) {
		return head, 0, src
	}
	copy(head[:], src)
	switch {
	case h.SingleSegment && h.FrameContentSize > zstdStreamWindow:
		head[4], head[5] = head[4]&^single, descriptor
		return head, len(head), src[5:]
	case !h.SingleSegment && h.WindowSize > zstdStreamWindow:
		head[5] = descriptor
		return head, len(head), src[6:]
	}
	return head, 0, src
}

type zstdStream struct {
	turn *turn
	head [6]byte
	src  source
	z    *zstd.Decoder
}

func (t *turn) openZstd(src []byte) (stream, error) {
	s := t.unzstd
	if s == nil {
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(uint64(t.zstdWindow)))
		if err != nil {
			return nil, fmt.Errorf("%w: zstd: %w", ErrCompressed, err)
		}
		s = &zstdStream{turn: t, z: z}
	}
	t.unzstd = nil
	var n int
	s.head, n, s.src.b = narrow(src)
	s.src.head = s.head[:n]
	if err := s.z.Reset(&s.src); err != nil {
		return nil, fmt.Errorf("%w: zstd: %w", ErrCompressed, err)
	}
	return s, nil
}

func (s *zstdStream) Read(p []byte) (int, error) {
	n, err := s.z.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%w: zstd: %w", ErrCompressed, err)
	}
	return n, err
}

func (s *zstdStream) release(sound bool) {
	s.src.b = nil
	if sound && s.z.Reset(nil) == nil {
		s.turn.unzstd = s
	}
}

// xerialMagic begins Java's snappy framing; two int32 follow: version and
// least compatible version.
const (
	xerialMagic      = "\x82SNAPPY\x00"
	xerialHeaderSize = 16
	xerialBlock      = 32 << 10
)

// snappyStream reads blocks in Java's framing, or one plain block.
type snappyStream struct {
	src   []byte // What follows the current block.
	plain bool
	block *Buffer // A block that did not fit where it was wanted.
	rest  []byte  // What of it is still to be read.
}

func openSnappy(src []byte) (stream, error) {
	s, _ := streams.snappy.Get().(*snappyStream)
	if s == nil {
		s = new(snappyStream)
	}
	*s = snappyStream{src: src, plain: !xerial(src), block: newBuffer()}
	largest, err := s.largest()
	if err != nil {
		return nil, err
	}
	if largest > maxWide {
		return nil, fmt.Errorf("snappy: %w: a block of %d bytes", ErrTooBig, largest)
	}
	// Memory for large blocks is waited for here, before any other turn.
	if largest > maxPooled {
		s.block.resize(largest)
	}
	return s, nil
}

func xerial(src []byte) bool {
	return len(src) >= xerialHeaderSize && string(src[:len(xerialMagic)]) == xerialMagic
}

// next cuts off the next block, and says how much it unpacks to.
func (s *snappyStream) next() (block []byte, size int, err error) {
	block, s.src, err = cutSnappy(s.src, &s.plain)
	if err != nil {
		return nil, 0, err
	}
	size, err = snappySize(block)
	return block, size, err
}

// cutSnappy cuts the first block off src. A plain block is all there is.
func cutSnappy(src []byte, plain *bool) (block, rest []byte, err error) {
	if *plain {
		*plain = false
		return src, nil, nil
	}
	for xerial(src) { // Java's stream reader accepts a header between blocks, too.
		src = src[xerialHeaderSize:]
	}
	if len(src) < 4 {
		return nil, nil, io.EOF // Java takes a tail too short for a length as the end.
	}
	n := int64(binary.BigEndian.Uint32(src))
	if src = src[4:]; n > int64(len(src)) {
		return nil, nil, fmt.Errorf("%w: snappy: block of %d bytes, %d left", ErrCompressed, n, len(src))
	}
	return src[:n], src[n:], nil
}

// snappySize is what a block says it unpacks to. It may lie: six bytes can
// claim 4 GiB. No block expands more than some 21 times (a copy of 3 bytes
// yields 64), which bounds what a claim can cost.
func snappySize(block []byte) (int, error) {
	n, err := s2.DecodedLen(block)
	if err != nil {
		return 0, fmt.Errorf("%w: snappy: %w", ErrCompressed, err)
	}
	if n > 24*len(block)+64 {
		return 0, fmt.Errorf("%w: snappy: %d bytes claim to hold %d", ErrCompressed, len(block), n)
	}
	return n, nil
}

// largest looks ahead at all blocks; a broken one is found when it is read.
func (s *snappyStream) largest() (int, error) {
	src, plain, most := s.src, s.plain, 0
	for {
		block, rest, err := cutSnappy(src, &plain)
		if err != nil {
			return most, nil
		}
		n, err := snappySize(block)
		if err != nil {
			return most, nil
		}
		most, src = max(most, n), rest
	}
}

func (s *snappyStream) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		block, size, err := s.next()
		if err != nil {
			return 0, err
		}
		if size <= len(p) {
			out, err := s2.Decode(p[:size:size], block)
			if err != nil {
				return 0, fmt.Errorf("%w: snappy: %w", ErrCompressed, err)
			}
			if len(out) > 0 {
				return len(out), nil
			}
			continue
		}
		if cap(s.block.b) < size {
			s.block.resize(size)
		}
		if s.rest, err = s2.Decode(s.block.b[:size:size], block); err != nil {
			return 0, fmt.Errorf("%w: snappy: %w", ErrCompressed, err)
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *snappyStream) release(bool) {
	s.block.Release()
	*s = snappyStream{}
	streams.snappy.Put(s)
}
