package record

import (
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
)

const (
	// windowSize is how much of a batch's unpacked records is looked at at a
	// time. What clients send in one batch mostly fits whole.
	windowSize = 256 << 10
	// maxWide bounds what Check has to unpack in one piece, a snappy block. It is
	// sixteen times what a whole batch may take by default.
	maxWide = 16 << 20
)

// turns are taken by batches that do not fit one window. Unpacking costs
// processor time alone, so more at once than there are processors would make
// nothing faster, and everybody else slower; the number also bounds the memory
// that bombs on many connections can cost. Who holds a turn waits for nothing:
// a slot of bigSlots comes first.
//
// A zstd decoder keeps the whole window that a frame claims. Few need more than
// zstdNarrow, and they have turns of their own.
var (
	turns     = newTurns(maxTurns, zstdNarrow)
	wideTurns = newTurns(maxTurns/2, zstdStreamWindow)
)

// maxTurns bounds what the coders of all turns keep: some ten megabytes each.
const maxTurns = 8

func newTurns(most, zstdWindow int) chan *turn {
	n := max(1, min(most, runtime.GOMAXPROCS(0)*most/maxTurns))
	c := make(chan *turn, n)
	for range n {
		c <- &turn{home: c, zstdWindow: zstdWindow}
	}
	return c
}

// turn has coders that are too large to be made, or pooled, for each batch.
type turn struct {
	home       chan *turn
	zstdWindow int
	unzstd     *zstdStream
	zstd       [zstd.SpeedBestCompression + 1]*zstd.Encoder
}

// window shows the unpacked records of a batch piece by piece.
type window struct {
	mem   []byte
	data  []byte // What is shown and not yet walked.
	from  stream
	whole *Buffer // Holds data instead of mem, if it had to be unpacked whole.
	ended bool    // Nothing follows data.
	total int     // Bytes unpacked so far.
	err   error   // Why no more can be unpacked.

	panicked bool  // Nothing is known about from any more.
	turn     *turn // One of turns or wideTurns, if it is held.
}

var windows sync.Pool

// openWindow begins to unpack, and shows the first piece.
func openWindow(c Codec, src []byte) *window {
	w, _ := windows.Get().(*window)
	if w == nil {
		w = &window{mem: make([]byte, windowSize)}
	}
	w.open(c, src)
	if w.err == nil && !w.ended {
		w.fill()
	}
	return w
}

func (w *window) open(c Codec, src []byte) {
	defer w.survive(c)
	if c == Zstd && w.unzstd(src) {
		return
	}
	if c == Zstd {
		from := turns
		if zstdWindow(src) > zstdNarrow {
			from = wideTurns
		}
		w.from, w.err = w.takeTurn(from).openZstd(src)
	} else {
		w.from, w.err = openStream(c, src)
	}
}

// takeTurn waits for a turn, unless one is held.
func (w *window) takeTurn(from chan *turn) *turn {
	if w.turn == nil {
		w.turn = <-from
	}
	return w.turn
}

// survive turns a panic of a third-party decompressor into an error: see
// decompress.
func (w *window) survive(c Codec) {
	if p := recover(); p != nil {
		w.panicked = true
		w.err = fmt.Errorf("%w: %s: panic: %v", ErrCompressed, c, p)
	}
}

// unzstd unpacks at once what fits the window, which is faster than a stream.
// It reports whether that is all.
func (w *window) unzstd(src []byte) (done bool) {
	var h zstd.Header
	if h.Decode(src) != nil {
		h = zstd.Header{} // Let the decoder say what is wrong.
	}
	if h.HasFCS && h.FrameContentSize > windowSize || !h.HasFCS && len(src) > windowSize/2 {
		return false
	}
	w.whole = newBuffer()
	if unzstdAtOnce(w.whole, src, windowSize) {
		w.data, w.total, w.ended = w.whole.b, len(w.whole.b), true
		return true
	}
	w.whole.Release()
	w.whole = nil
	return false
}

// more moves what is left of data to the front and shows what follows. It
// reports whether there is more than before.
func (w *window) more() bool {
	if w.ended || w.err != nil {
		return false
	}
	have := len(w.data)
	w.data = w.mem[:copy(w.mem, w.data)]
	w.takeTurn(turns)
	w.fill()
	return w.err == nil && len(w.data) > have
}

// fill unpacks until the window is full or nothing follows. What is shown
// stands at the front of mem.
func (w *window) fill() {
	defer w.survive(None)
	if w.data == nil {
		w.data = w.mem[:0]
	}
	for len(w.data) < len(w.mem) && !w.ended && w.err == nil {
		n, err := w.from.Read(w.mem[len(w.data):])
		w.data = w.mem[:len(w.data)+n]
		w.total += n
		switch {
		case err == io.EOF:
			w.ended = true
		case err != nil:
			w.err = err
		case w.total > DefaultMaxDecompressed:
			w.err = ErrTooBig
		}
	}
}

// release gives everything back. A stream that panicked is not used again; one
// that failed is, or each broken batch would cost a new one.
func (w *window) release() {
	w.whole.Release()
	if w.from != nil {
		w.from.release(!w.panicked)
	}
	if w.turn != nil {
		w.turn.home <- w.turn
	}
	*w = window{mem: w.mem}
	windows.Put(w)
}

// unpack walks the records of a compressed batch through a window: a batch
// costs the same memory whatever it unpacks to, and a bad one ends the work at
// its first bad record.
func (w *walk) unpack(c Codec, src []byte, o *CheckOptions) error {
	in := openWindow(c, src)
	defer in.release()
	w.max = NoTimestamp
	for {
		if in.err != nil {
			return unpackError(in.err)
		}
		n, err := w.some(in.data, in.ended, o)
		if err != nil {
			return err
		}
		in.data = in.data[n:]
		if w.next == w.count {
			break
		}
		if len(in.data) < len(in.mem) {
			in.more()
			continue
		}
		if err := w.huge(in, o); err != nil {
			return err
		}
	}
	if w.gaps && w.search == nil {
		return refuse(Unreadable, messageGaps)
	}
	for len(in.data) == 0 && in.more() { // Also has the stream look at its own end.
	}
	w.size = in.total
	switch {
	case in.err != nil:
		return unpackError(in.err)
	case len(in.data) > 0:
		return refuse(InvalidRecord, messageRemaining)
	}
	return nil
}

const messageGaps = "Offsets of compressed records are not consecutive"

// whole reports whether data begins with a whole record, or with what will
// never be one.
func whole(data []byte) bool {
	u, p := uvarint(data, 0)
	if p == invalid {
		return len(data) >= maxVarint
	}
	size := int(unzigzag(u))
	return size < 0 || size <= len(data)-p
}

// maxVarint and maxVarlong are the longest numbers, in bytes.
const (
	maxVarint  = 5
	maxVarlong = 10
)

// huge reads a record that is larger than the window, which begins with it.
func (w *walk) huge(in *window, o *CheckOptions) error {
	u, start := uvarint(in.data, 0)
	size := int(unzigzag(u))
	if err := w.checkSize(in.data, 0); err != nil {
		return err
	}
	in.data = in.data[start:]
	c := cursor{in: in, left: size}
	c.skip(1) // The attributes are a byte without meaning.
	timestamp := w.base + unzigzag64(c.uvarlong())
	delta := unzigzag(c.uvarint())
	key := c.field()
	c.field()
	for n := c.headers(); n > 0 && !c.bad; n-- {
		c.bad = c.field() < 0 || c.bad
		c.field()
	}
	switch {
	case in.err != nil:
		return unpackError(in.err)
	case c.bad:
		return refuse(InvalidRecord, "Found invalid record structure")
	case c.left != 0:
		return badBody(int32(size), start+size-c.left, start, start+size)
	}
	w.found(entry{timestamp: timestamp, offset: delta, key: key}, o)
	return nil
}

// cursor reads the fields of one record while the window moves over it.
type cursor struct {
	in   *window
	left int  // Bytes of the record that are still to come.
	bad  bool // The record does not hold what it says.
}

// skip steps over n bytes.
func (c *cursor) skip(n int) {
	if n > c.left {
		c.bad = true
	}
	for !c.bad && n > len(c.in.data) {
		n -= len(c.in.data)
		c.left -= len(c.in.data)
		c.in.data = c.in.data[:0]
		c.bad = !c.in.more()
	}
	if !c.bad {
		c.in.data = c.in.data[n:]
		c.left -= n
	}
}

// field steps over a length and as many bytes; a negative length is null.
func (c *cursor) field() int32 {
	n := unzigzag(c.uvarint())
	c.skip(max(0, int(n)))
	return n
}

// headers reads how many headers follow.
func (c *cursor) headers() int32 {
	n := unzigzag(c.uvarint())
	c.bad = c.bad || n < 0
	return n
}

func (c *cursor) uvarint() uint32 {
	u, p := uvarint(c.near(), 0)
	c.advance(p)
	return u
}

func (c *cursor) uvarlong() uint64 {
	u, p := uvarlong(c.near(), 0)
	c.advance(p)
	return u
}

// near shows the whole of the next number, and nothing behind the record.
func (c *cursor) near() []byte {
	for len(c.in.data) < min(maxVarlong, c.left) && c.in.more() {
	}
	return c.in.data[:min(len(c.in.data), c.left)]
}

func (c *cursor) advance(p int) {
	if p == invalid {
		c.bad = true
	}
	if !c.bad {
		c.in.data = c.in.data[p:]
		c.left -= p
	}
}
