package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unsafe"

	"github.com/barnabas-log/barnabas/model"
)

// UUID is a 128-bit identifier, sent as 16 bytes.
type UUID = model.UUID

const (
	// maxElements and maxTags are Kafka 4.4's own limits on one array and on
	// one section of tagged fields.
	maxElements = 1_000_000
	maxTags     = 10_000
	// maxTextBytes is Kafka's limit on a string, in every version: what the
	// classic int16 length can say.
	maxTextBytes = math.MaxInt16

	// A frame may make the decoder allocate budgetFactor times its length and
	// budgetBase bytes more. Real messages need one to four times; a message
	// of nothing but empty elements needs up to about twenty, and gets it while
	// it is small. Anything above is an attack.
	budgetFactor = 16
	budgetBase   = 64 << 10
)

// ErrMalformed is wrapped by every error about bytes that are not the message
// they should be: too short, too long, a count or length beyond Kafka's limits,
// null where null is not allowed.
var ErrMalformed = errors.New("wire: malformed")

// ErrVersion is wrapped by errors about a version that a message does not have.
var ErrVersion = errors.New("wire: unsupported version")

// MalformedError says what is wrong with a frame, and where.
type MalformedError struct {
	Offset  int    // bytes from the start of the frame
	Problem string // lower case, never a value from the frame
}

func (e *MalformedError) Error() string {
	return fmt.Sprintf("wire: malformed at byte %d: %s", e.Offset, e.Problem)
}

func (e *MalformedError) Unwrap() error { return ErrMalformed }

// Reader takes primitives from the front of one frame. The first error sticks:
// later reads return zero values, so code may look at Err once at the end, but
// must look in every loop whose length came from the frame.
//
// The bytes and strings it returns alias the frame. Memory it allocates is
// charged to a budget proportional to the frame's length. The zero Reader is a
// reader of an empty frame.
type Reader struct {
	buf    []byte
	pos    int
	budget int
	// problem is what is wrong with the frame at pos, "" as long as nothing is.
	// It becomes an error when somebody asks, so that the code that every read
	// inlines stays small.
	problem string
	// texts is the unused rest of a block of textBlock string headers that
	// nullable strings point into: one allocation for many.
	texts     []string
	textBlock int
}

// NewReader returns a Reader of frame.
func NewReader(frame []byte) *Reader {
	r := new(Reader)
	r.Reset(frame)
	return r
}

// Reset makes r read frame from its start, with a new budget. What was read
// before stays valid.
func (r *Reader) Reset(frame []byte) {
	*r = Reader{buf: frame[:len(frame):len(frame)], budget: budgetFactor*len(frame) + budgetBase}
}

// Err returns the first error, a *MalformedError, or nil.
func (r *Reader) Err() error {
	if r.problem == "" {
		return nil
	}
	return &MalformedError{Offset: r.pos, Problem: r.problem}
}

func (r *Reader) failed() bool { return r.problem != "" }

// Remaining returns the number of unread bytes. After an error it is 0.
func (r *Reader) Remaining() int { return len(r.buf) - r.pos }

// Offset returns how many bytes have been read.
func (r *Reader) Offset() int { return r.pos }

// fail keeps the first error and leaves nothing to read.
func (r *Reader) fail(problem string) {
	if r.problem == "" {
		r.problem = problem
	}
	r.buf = r.buf[:r.pos]
}

// short is fail for the commonest reason.
func (r *Reader) short() { r.fail("frame ends too early") }

// charge takes n bytes from the allocation budget.
func (r *Reader) charge(n int) bool {
	if n > r.budget {
		r.fail("message needs more memory than its length allows")
		return false
	}
	r.budget -= n
	return true
}

// Int8 reads one byte.
func (r *Reader) Int8() int8 {
	if r.pos >= len(r.buf) {
		r.short()
		return 0
	}
	v := r.buf[r.pos]
	r.pos++
	return int8(v)
}

// Bool reads one byte; any but 0 is true.
func (r *Reader) Bool() bool { return r.Int8() != 0 }

// Int16 reads two bytes, big-endian as all integers.
func (r *Reader) Int16() int16 { return int16(r.Uint16()) }

// Uint16 reads two bytes.
func (r *Reader) Uint16() uint16 {
	if len(r.buf)-r.pos < 2 {
		r.short()
		return 0
	}
	v := binary.BigEndian.Uint16(r.buf[r.pos:])
	r.pos += 2
	return v
}

// Int32 reads four bytes.
func (r *Reader) Int32() int32 { return int32(r.Uint32()) }

// Uint32 reads four bytes.
func (r *Reader) Uint32() uint32 {
	if len(r.buf)-r.pos < 4 {
		r.short()
		return 0
	}
	v := binary.BigEndian.Uint32(r.buf[r.pos:])
	r.pos += 4
	return v
}

// Int64 reads eight bytes.
func (r *Reader) Int64() int64 {
	if len(r.buf)-r.pos < 8 {
		r.short()
		return 0
	}
	v := binary.BigEndian.Uint64(r.buf[r.pos:])
	r.pos += 8
	return int64(v)
}

// Float64 reads eight bytes of IEEE 754.
func (r *Reader) Float64() float64 { return math.Float64frombits(uint64(r.Int64())) }

// UUID reads sixteen bytes.
func (r *Reader) UUID() (v UUID) {
	if len(r.buf)-r.pos < len(v) {
		r.short()
		return v
	}
	copy(v[:], r.buf[r.pos:])
	r.pos += len(v)
	return v
}

// Uvarint reads an unsigned varint of at most 32 bits.
func (r *Reader) Uvarint() uint32 {
	if r.pos < len(r.buf) && r.buf[r.pos] < 0x80 {
		v := r.buf[r.pos]
		r.pos++
		return uint32(v)
	}
	return r.longUvarint()
}

func (r *Reader) longUvarint() uint32 {
	var v uint64
	for i := range 5 {
		if r.pos+i >= len(r.buf) {
			r.short()
			return 0
		}
		b := r.buf[r.pos+i]
		v |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			if v > math.MaxUint32 {
				break
			}
			r.pos += i + 1
			return uint32(v)
		}
	}
	r.fail("varint above 32 bits")
	return 0
}

// Varint reads a zig-zag varint of at most 32 bits.
func (r *Reader) Varint() int32 {
	v := r.Uvarint()
	return int32(v>>1) ^ -int32(v&1)
}

// take returns the next n bytes, which alias the frame.
func (r *Reader) take(n int) []byte {
	if n < 0 || n > len(r.buf)-r.pos {
		r.short()
		return nil
	}
	v := r.buf[r.pos : r.pos+n : r.pos+n]
	r.pos += n
	return v
}

// textLen reads the length of a string, -1 for null.
func (r *Reader) textLen(compact bool) int {
	n := 0
	if compact {
		n = int(r.Uvarint()) - 1
	} else {
		n = int(r.Int16())
	}
	if r.failed() {
		return -1
	}
	if n > maxTextBytes {
		r.fail("string longer than 32767 bytes")
		return -1
	}
	return max(n, -1)
}

// Text reads a string: compact with an unsigned varint length + 1, else with an
// int16 length. It aliases the frame. Bytes that are not UTF-8 are kept as they
// are, where Kafka would put U+FFFD: two names stay two.
func (r *Reader) Text(compact bool) string {
	n := r.textLen(compact)
	if n < 0 {
		r.fail("null string")
		return ""
	}
	b := r.take(n)
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// NullableText reads a string that may be null.
func (r *Reader) NullableText(compact bool) *string { return r.textPtr(compact, true) }

func (r *Reader) textPtr(compact, nullable bool) *string {
	n := r.textLen(compact)
	if n < 0 {
		if !nullable {
			r.fail("null string")
		}
		return nil
	}
	b := r.take(n)
	p := r.newText()
	if p != nil {
		*p = unsafe.String(unsafe.SliceData(b), len(b))
	}
	return p
}

// newText returns room for one string header. Blocks double, up to a page, and
// belong to one frame, so that a kept pointer pins no other frame.
func (r *Reader) newText() *string {
	const size = int(unsafe.Sizeof(""))
	if r.failed() || !r.charge(size) {
		return nil
	}
	if len(r.texts) == 0 {
		r.textBlock = min(2*r.textBlock+1, 255)
		r.texts = make([]string, r.textBlock)
	}
	p := &r.texts[0]
	r.texts = r.texts[1:]
	return p
}

// Blob reads bytes: compact with an unsigned varint length + 1, else with an
// int32 length. It aliases the frame, and is not nil unless null.
func (r *Reader) Blob(compact bool) []byte { return r.blob(compact, false) }

// NullableBlob reads bytes that may be null: nil then.
func (r *Reader) NullableBlob(compact bool) []byte { return r.blob(compact, true) }

func (r *Reader) blob(compact, nullable bool) []byte {
	n := 0
	if compact {
		n = int(r.Uvarint()) - 1
	} else {
		n = int(r.Int32())
	}
	if n < 0 {
		if !nullable {
			r.fail("null bytes")
		}
		return nil
	}
	return r.take(n)
}

// arrayLen reads the length of an array whose elements take at least least
// bytes each. It returns -1 for null and 0 after an error.
func (r *Reader) arrayLen(compact, nullable bool, least int) int {
	n := 0
	if compact {
		n = int(r.Uvarint()) - 1
	} else {
		n = int(r.Int32())
	}
	switch {
	case r.failed():
		return 0
	case n < 0 && nullable:
		return -1
	case n < 0:
		r.fail("null array")
		return 0
	case n > maxElements:
		r.fail("array of more than 1000000 elements")
		return 0
	case n*least > r.Remaining():
		r.fail("array longer than the frame")
		return 0
	}
	return n
}

// sized returns s with n elements: its own memory if that suffices, else new
// memory, charged, into which the old elements move with what they hold. It is
// never nil.
func sized[T any](r *Reader, s []T, n int) []T {
	var zero T
	if !r.charge(n * int(unsafe.Sizeof(zero))) {
		return s[:0]
	}
	if n > cap(s) {
		t := make([]T, n)
		copy(t, s[:cap(s)])
		return t
	}
	return emptied(s)[:n]
}

// allocate returns a new T, charged.
func allocate[T any](r *Reader) *T {
	p := new(T)
	r.charge(int(unsafe.Sizeof(*p)))
	return p
}

// either is the conditional that Go lacks.
func either(cond bool, yes, no int) int {
	if cond {
		return yes
	}
	return no
}

// tagCount reads how many tagged fields follow.
func (r *Reader) tagCount() int {
	n := int(r.Uvarint())
	if n > maxTags {
		r.fail("more than 10000 tagged fields")
		return 0
	}
	if 2*n > r.Remaining() {
		r.short()
		return 0
	}
	return n
}

// tag reads the head of a tagged field: its number and its length in bytes.
func (r *Reader) tag() (tag uint32, size int) {
	tag = r.Uvarint()
	size = int(r.Uvarint())
	if size > r.Remaining() {
		r.short()
		return tag, 0
	}
	return tag, size
}

// enter narrows r to the next size bytes and returns what leave needs.
func (r *Reader) enter(size int) (end int) {
	end = len(r.buf)
	r.buf = r.buf[:r.pos+size]
	return end
}

// leave undoes enter, after all of the bytes have been read.
func (r *Reader) leave(end int) {
	if r.failed() {
		return
	}
	if r.Remaining() != 0 {
		r.fail("tagged field longer than its value")
		return
	}
	r.buf = r.buf[:end]
}

// skip passes over n bytes.
func (r *Reader) skip(n int) { r.take(n) }

// SkipTags passes over a section of tagged fields.
func (r *Reader) SkipTags() {
	for n := r.tagCount(); n > 0 && !r.failed(); n-- {
		_, size := r.tag()
		r.skip(size)
	}
}

// done reports whether the frame has been read to its end without error.
func (r *Reader) done() error {
	if !r.failed() && r.Remaining() != 0 {
		r.fail("bytes after the message")
	}
	return r.Err()
}
