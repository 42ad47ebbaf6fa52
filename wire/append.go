package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

// EncodeError says why a struct cannot be written in a version.
type EncodeError struct {
	Struct  string // Go's name, as that of the field
	Field   string
	Version int16
	Null    bool // the field is null, which the version does not allow
	Problem string
}

func (e *EncodeError) Error() string {
	return fmt.Sprintf("wire: %s.%s in version %d: %s", e.Struct, e.Field, e.Version, e.Problem)
}

func errAbsent(structure, field string, version int16) error {
	return &EncodeError{structure, field, version, false, "set, but the version lacks it"}
}

func errNull(structure, field string, version int16) error {
	return &EncodeError{structure, field, version, true, "null, which the version does not allow"}
}

func errLong(structure, field string, version int16) error {
	return &EncodeError{structure, field, version, false, "longer than 32767 bytes"}
}

func errVersion(message string, version int16) error {
	return fmt.Errorf("%w: %s %d", ErrVersion, message, version)
}

// AppendInt8 appends one byte.
func AppendInt8(dst []byte, v int8) []byte { return append(dst, byte(v)) }

// AppendBool appends one byte, 0 or 1.
func AppendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// AppendInt16 appends two bytes, big-endian as all integers.
func AppendInt16(dst []byte, v int16) []byte { return binary.BigEndian.AppendUint16(dst, uint16(v)) }

// AppendUint16 appends two bytes.
func AppendUint16(dst []byte, v uint16) []byte { return binary.BigEndian.AppendUint16(dst, v) }

// AppendInt32 appends four bytes.
func AppendInt32(dst []byte, v int32) []byte { return binary.BigEndian.AppendUint32(dst, uint32(v)) }

// AppendUint32 appends four bytes.
func AppendUint32(dst []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(dst, v) }

// AppendInt64 appends eight bytes.
func AppendInt64(dst []byte, v int64) []byte { return binary.BigEndian.AppendUint64(dst, uint64(v)) }

// AppendFloat64 appends eight bytes of IEEE 754.
func AppendFloat64(dst []byte, v float64) []byte {
	return binary.BigEndian.AppendUint64(dst, math.Float64bits(v))
}

// AppendUUID appends sixteen bytes.
func AppendUUID(dst []byte, v UUID) []byte { return append(dst, v[:]...) }

// AppendUvarint appends an unsigned varint.
func AppendUvarint(dst []byte, v uint32) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

// AppendVarint appends a zig-zag varint.
func AppendVarint(dst []byte, v int32) []byte {
	return AppendUvarint(dst, uint32(v)<<1^uint32(v>>31))
}

// UvarintSize returns how many bytes AppendUvarint appends.
func UvarintSize(v uint32) int { return (bits.Len32(v|1) + 6) / 7 }

// AppendString appends a string with an int16 length. It must not be longer
// than 32767 bytes.
func AppendString(dst []byte, s string) []byte {
	return append(AppendInt16(dst, int16(len(s))), s...)
}

// AppendCompactString appends a string with an unsigned varint length + 1.
func AppendCompactString(dst []byte, s string) []byte {
	return append(AppendUvarint(dst, uint32(len(s))+1), s...)
}

// AppendNullableString is AppendString of *s, or of null.
func AppendNullableString(dst []byte, s *string) []byte {
	if s == nil {
		return append(dst, 0xff, 0xff)
	}
	return AppendString(dst, *s)
}

// AppendCompactNullableString is AppendCompactString of *s, or of null.
func AppendCompactNullableString(dst []byte, s *string) []byte {
	if s == nil {
		return append(dst, 0)
	}
	return AppendCompactString(dst, *s)
}

// AppendBytes appends bytes with an int32 length; nil as empty.
func AppendBytes(dst, b []byte) []byte {
	return append(AppendInt32(dst, int32(len(b))), b...)
}

// AppendCompactBytes appends bytes with an unsigned varint length + 1; nil as
// empty.
func AppendCompactBytes(dst, b []byte) []byte {
	return append(AppendUvarint(dst, uint32(len(b))+1), b...)
}

// AppendArrayLen appends the int32 length of an array; -1 is null. Nullable
// bytes and records have the same length before them.
func AppendArrayLen(dst []byte, n int) []byte { return AppendInt32(dst, int32(n)) }

// AppendCompactArrayLen appends a length as an unsigned varint + 1; -1 is null.
// Compact bytes and records have the same length before them.
func AppendCompactArrayLen(dst []byte, n int) []byte { return AppendUvarint(dst, uint32(n+1)) }

// AppendTag appends the head of a tagged field of size bytes, which follow.
// Tagged fields come in ascending order, after their count as an unsigned
// varint.
func AppendTag(dst []byte, tag uint32, size int) []byte {
	return AppendUvarint(AppendUvarint(dst, tag), uint32(size))
}

// AppendNoTags appends an empty section of tagged fields.
func AppendNoTags(dst []byte) []byte { return append(dst, 0) }

func appendText(dst []byte, s string, compact bool) []byte {
	if compact {
		return AppendCompactString(dst, s)
	}
	return AppendString(dst, s)
}

func appendTextPtr(dst []byte, s *string, compact bool) []byte {
	if compact {
		return AppendCompactNullableString(dst, s)
	}
	return AppendNullableString(dst, s)
}

func appendLen(dst []byte, n int, compact bool) []byte {
	if compact {
		return AppendCompactArrayLen(dst, n)
	}
	return AppendArrayLen(dst, n)
}

func appendBlob(dst, b []byte, compact, nullable bool) []byte {
	if b == nil && nullable {
		return appendLen(dst, -1, compact)
	}
	return append(appendLen(dst, len(b), compact), b...)
}

// sliceLen is the length to write for s: -1 if it is null.
func sliceLen[T any](s []T) int {
	if s == nil {
		return -1
	}
	return len(s)
}

// openTag appends the head of a tagged field whose size is not known yet, with
// room for a size below 128. closeTag needs the length of what it returns.
func openTag(dst []byte, tag uint32) []byte { return append(AppendUvarint(dst, tag), 0) }

// closeTag writes the size of the value that starts at start, and moves the
// value if its size needs more than one byte: rare, and cheaper than sizing
// every value before writing it.
func closeTag(dst []byte, start int) []byte {
	size := uint32(len(dst) - start)
	extra := UvarintSize(size) - 1
	for range extra {
		dst = append(dst, 0)
	}
	copy(dst[start+extra:], dst[start:len(dst)-extra])
	for i := start - 1; ; i++ {
		if size < 0x80 {
			dst[i] = byte(size)
			return dst
		}
		dst[i] = byte(size) | 0x80
		size >>= 7
	}
}

// emptied returns s without elements, with its memory, and never nil.
func emptied[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s[:0]
}

// Extend appends one element with Kafka's defaults to *s and returns it, with
// the memory that an earlier element in its place left behind. The pointer is
// valid until *s grows again.
func Extend[T any, P interface {
	*T
	Reset()
}](s *[]T) *T {
	n := len(*s)
	if n < cap(*s) {
		*s = (*s)[:n+1]
	} else {
		var zero T
		*s = append(*s, zero)
	}
	p := &(*s)[n]
	P(p).Reset()
	return p
}
