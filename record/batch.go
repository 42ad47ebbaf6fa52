package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/barnabas-log/barnabas/model"
)

// Positions of the fields of a batch header. The base offset and the leader
// epoch stand before the checksum and are not covered by it: a broker fills
// them in without touching the rest.
const (
	posBaseOffset      = 0
	posLength          = 8
	posLeaderEpoch     = 12
	posMagic           = 16
	posCRC             = 17
	posAttributes      = 21
	posLastOffsetDelta = 23
	posBaseTimestamp   = 27
	posMaxTimestamp    = 35
	posProducerID      = 43
	posProducerEpoch   = 51
	posBaseSequence    = 53
	posCount           = 57

	// HeaderSize is the length of a batch without its records.
	HeaderSize = 61
	// prefixSize is what stands before the bytes that the length field counts.
	prefixSize = 12
	// MagicV2 is the only magic this package reads. Kafka 4 knows no other.
	MagicV2 = 2
)

// Bits of the attributes field.
const (
	attrCodec         = 0x07
	attrLogAppendTime = 1 << 3
	attrTransactional = 1 << 4
	attrControl       = 1 << 5
	attrDeleteHorizon = 1 << 6
)

// NoTimestamp is Kafka's "no timestamp".
const NoTimestamp int64 = -1

// NoSequence is the base sequence of a batch without a producer.
const NoSequence int32 = -1

// Sentinels of a batch that cannot be split off its neighbours.
var (
	// ErrShort says that the bytes end before the batch does.
	ErrShort = errors.New("record: batch cut short")
	// ErrCorrupt says that a header contradicts itself or a checksum is wrong.
	ErrCorrupt = errors.New("record: batch corrupt")
	// ErrMagic says that the batch is of another format than v2.
	ErrMagic = errors.New("record: batch magic not supported")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Batch is one whole record batch in memory, header included. It aliases the
// bytes it was cut from. Its methods read a header that [Next] has accepted.
type Batch []byte

// Next cuts the first batch off b. It looks at length and magic only; the rest
// of b is returned too. ErrShort means that b holds less than one batch:
// nothing is wrong with what there is.
func Next(b []byte) (batch Batch, rest []byte, err error) {
	if len(b) < HeaderSize {
		return nil, b, ErrShort
	}
	n, err := Size(b)
	if err != nil {
		return nil, b, err
	}
	if len(b) < n {
		return nil, b, ErrShort
	}
	return Batch(b[:n:n]), b[n:], nil
}

// Size returns the length in bytes of the batch that header begins with, the
// first HeaderSize bytes of which must be present, after checking length and
// magic.
func Size(header []byte) (int, error) {
	n := int64(int32(binary.BigEndian.Uint32(header[posLength:]))) + prefixSize
	if header[posMagic] != MagicV2 {
		return 0, fmt.Errorf("%w: magic %d", ErrMagic, int8(header[posMagic]))
	}
	if n < HeaderSize {
		return 0, fmt.Errorf("%w: length field %d", ErrCorrupt, n-prefixSize)
	}
	return int(n), nil
}

// BaseOffset is the offset of the batch's first record, kept when compaction
// drops that record.
func (b Batch) BaseOffset() model.Offset {
	return model.Offset(binary.BigEndian.Uint64(b[posBaseOffset:]))
}

// SetBaseOffset moves the batch; the checksum stays right.
func (b Batch) SetBaseOffset(o model.Offset) {
	binary.BigEndian.PutUint64(b[posBaseOffset:], uint64(o))
}

// LeaderEpoch is the epoch of the leader that appended the batch.
func (b Batch) LeaderEpoch() model.Epoch {
	return model.Epoch(binary.BigEndian.Uint32(b[posLeaderEpoch:]))
}

// SetLeaderEpoch stamps the batch; the checksum stays right.
func (b Batch) SetLeaderEpoch(e model.Epoch) {
	binary.BigEndian.PutUint32(b[posLeaderEpoch:], uint32(e))
}

// Magic is the format version.
func (b Batch) Magic() int8 { return int8(b[posMagic]) }

// CRC is the stored CRC-32C of everything from the attributes to the end.
func (b Batch) CRC() uint32 { return binary.BigEndian.Uint32(b[posCRC:]) }

// ComputeCRC is what CRC should be.
func (b Batch) ComputeCRC() uint32 { return crc32.Checksum(b[posAttributes:], castagnoli) }

// UpdateCRC stores what ComputeCRC finds, after a field below it was changed.
func (b Batch) UpdateCRC() { binary.BigEndian.PutUint32(b[posCRC:], b.ComputeCRC()) }

// Attributes are the raw attribute bits.
func (b Batch) Attributes() int16 { return int16(binary.BigEndian.Uint16(b[posAttributes:])) }

// Codec is the compression of the records.
func (b Batch) Codec() Codec { return Codec(b.Attributes() & attrCodec) }

// IsLogAppendTime reports that the broker's clock, not the producer's, gave
// the timestamps: MaxTimestamp is that of every record.
func (b Batch) IsLogAppendTime() bool { return b.Attributes()&attrLogAppendTime != 0 }

// IsTransactional reports that the batch belongs to a transaction.
func (b Batch) IsTransactional() bool { return b.Attributes()&attrTransactional != 0 }

// IsControl reports that the batch holds a marker, not user data.
func (b Batch) IsControl() bool { return b.Attributes()&attrControl != 0 }

// HasDeleteHorizon reports that BaseTimestamp is the time after which
// compaction may drop the batch's tombstones (KIP-534).
func (b Batch) HasDeleteHorizon() bool { return b.Attributes()&attrDeleteHorizon != 0 }

// LastOffsetDelta is the distance from the base offset to the last record's.
func (b Batch) LastOffsetDelta() int32 { return int32(binary.BigEndian.Uint32(b[posLastOffsetDelta:])) }

// LastOffset is the offset of the last record.
func (b Batch) LastOffset() model.Offset { return b.BaseOffset() + model.Offset(b.LastOffsetDelta()) }

// End is one past the last offset.
func (b Batch) End() model.Offset { return b.LastOffset() + 1 }

// BaseTimestamp is what the records' timestamp deltas count from, in
// milliseconds since 1970.
func (b Batch) BaseTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[posBaseTimestamp:])) }

// MaxTimestamp is the greatest timestamp of the records, in milliseconds since
// 1970.
func (b Batch) MaxTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[posMaxTimestamp:])) }

// ProducerID is the idempotent producer, or model.NoProducer.
func (b Batch) ProducerID() model.ProducerID {
	return model.ProducerID(binary.BigEndian.Uint64(b[posProducerID:]))
}

// ProducerEpoch is the producer's epoch, or -1.
func (b Batch) ProducerEpoch() int16 { return int16(binary.BigEndian.Uint16(b[posProducerEpoch:])) }

// BaseSequence is the sequence of the first record, or NoSequence.
func (b Batch) BaseSequence() int32 { return int32(binary.BigEndian.Uint32(b[posBaseSequence:])) }

// LastSequence is the sequence of the last record: after 2147483647 comes 0.
func (b Batch) LastSequence() int32 {
	if b.BaseSequence() == NoSequence {
		return NoSequence
	}
	return AddSequence(b.BaseSequence(), b.LastOffsetDelta())
}

// Count is how many records the header promises. Compaction may leave none.
func (b Batch) Count() int32 { return int32(binary.BigEndian.Uint32(b[posCount:])) }

// Payload is the records' block, compressed if Codec says so.
func (b Batch) Payload() []byte { return b[HeaderSize:] }

// AddSequence returns the sequence n after s; sequences wrap from 2147483647
// to 0 (KIP-98).
func AddSequence(s, n int32) int32 { return int32((int64(s) + int64(n)) & 0x7fffffff) }
