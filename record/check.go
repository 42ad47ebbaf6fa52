package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/barnabas-log/barnabas/model"
)

// Kind says what a client did wrong. Each is one Kafka error code; which one is
// known where requests are answered.
type Kind uint8

// The kinds of [Error], with Kafka's name for each.
const (
	// InvalidRecord is INVALID_RECORD: the batch contradicts itself.
	InvalidRecord Kind = iota + 1
	// CorruptMessage is CORRUPT_MESSAGE: checksum or length is wrong.
	CorruptMessage
	// InvalidTimestamp is INVALID_TIMESTAMP: out of the topic's range, or the
	// client claimed LogAppendTime.
	InvalidTimestamp
	// UnsupportedCompression is UNSUPPORTED_COMPRESSION_TYPE.
	UnsupportedCompression
	// TooLarge is MESSAGE_TOO_LARGE.
	TooLarge
	// Unreadable is what Kafka meets with an exception nobody foresaw,
	// UNKNOWN_SERVER_ERROR: an unknown codec, a broken compressed block,
	// compressed records whose offset deltas are not 0, 1, 2 …
	Unreadable
)

// Error refuses a client's batch.
type Error struct {
	Kind Kind
	// Message is Kafka's text.
	Message string
	// Shown reports that Kafka puts Message into the answer's error_message;
	// else the text is for logs.
	Shown bool
	// Records are the faulty ones, at most [maxRecordErrors], for the answer's
	// record_errors. They are named only if Shown.
	Records []RecordError
}

// Error returns the message.
func (e *Error) Error() string { return "record: " + e.Message }

// RecordError is one faulty record of a batch.
type RecordError struct {
	// Index counts the batch's records from 0.
	Index   int32
	Message string
}

// maxRecordErrors bounds what one answer lists: a request of a million bad
// records must not be answered by a hundred megabytes.
const maxRecordErrors = 1000

// Validation says how deep [Check] looks.
type Validation uint8

const (
	// Full walks all records, unpacking them if need be, as Kafka does.
	Full Validation = iota
	// HeaderOnly trusts the producer for all behind the 61 bytes of header.
	HeaderOnly
)

// CheckOptions are the rules for one batch. The zero value checks form, not
// time, keys or size.
type CheckOptions struct {
	// Name is what messages call the partition, "topic-0".
	Name string
	// Internal admits what only brokers write: control batches and any base
	// offset.
	Internal bool
	// Validation is Full or HeaderOnly.
	Validation Validation
	// Now is the broker's clock in milliseconds since 1970.
	Now int64
	// LogAppendTime stamps the batch with Now instead of judging its times.
	LogAppendTime bool
	// TimestampBefore and TimestampAfter are how many milliseconds a record may
	// be older or newer than Now; 0 means any (Kafka's defaults are the greatest
	// int64 and an hour).
	TimestampBefore, TimestampAfter int64
	// KeysRequired is for compacted topics.
	KeysRequired bool
	// MaxBytes bounds the batch, header included; 0 means any
	// (max.message.bytes).
	MaxBytes int
	// MaxDecompressed bounds each record of a compressed batch, in bytes; 0
	// means any (max.decompressed.message.bytes, which despite its name is not
	// about the batch). The batch as a whole is bounded by
	// DefaultMaxDecompressed, always.
	MaxDecompressed int
}

// Info is what Check learned.
type Info struct {
	// Count is the number of records.
	Count int32
	// MaxTimestamp is that of the header after Check.
	MaxTimestamp int64
	// MaxTimestampDelta is the offset delta of the first record that has it;
	// the last one's when records were not walked or the batch is stamped.
	MaxTimestampDelta int32
	// Size is the length of the records in bytes, unpacked if they were.
	Size int
	// Rewritten reports that Check changed the header and its checksum.
	Rewritten bool
}

// Check does to a client's batch what Kafka's LogValidator does: it refuses
// what must not reach a log, and brings the header's maximum timestamp and
// timestamp type to what the topic wants, in place. It allocates nothing per
// batch unless it refuses. Refusals are of type *Error.
//
// The order of the checks, and so which of several faults is named, is Kafka's.
func Check(b Batch, o CheckOptions) (Info, error) {
	if err := checkHeader(b, &o); err != nil {
		return Info{}, err
	}
	w := walk{base: b.BaseTimestamp(), count: b.Count(), keys: o.KeysRequired, low: math.MinInt64, high: math.MaxInt64}
	if !o.LogAppendTime {
		w.low, w.high = o.window()
	}
	if b.IsLogAppendTime() {
		if o.LogAppendTime {
			return Info{}, claimed(b, &o)
		}
		// Kafka reads the claimed time as that of every record, and drops the bit.
		w.claimed, w.claim = true, b.MaxTimestamp()
	}
	info := Info{Count: w.count, MaxTimestamp: b.MaxTimestamp(), MaxTimestampDelta: b.LastOffsetDelta()}
	if o.Validation == Full {
		if err := w.batch(b, &o); err != nil {
			return Info{}, err
		}
		info.MaxTimestamp, info.MaxTimestampDelta, info.Size = w.max, w.maxDelta, w.size
	}
	if o.LogAppendTime {
		info.MaxTimestamp, info.MaxTimestampDelta = o.Now, b.LastOffsetDelta()
	}
	info.Rewritten = b.stamp(info.MaxTimestamp, o.LogAppendTime)
	return info, nil
}

// stamp sets timestamp type and maximum, and the checksum if that changed
// anything.
func (b Batch) stamp(maxTimestamp int64, logAppendTime bool) bool {
	if b.MaxTimestamp() == maxTimestamp && b.IsLogAppendTime() == logAppendTime {
		return false
	}
	binary.BigEndian.PutUint64(b[posMaxTimestamp:], uint64(maxTimestamp))
	attributes := b.Attributes() &^ attrLogAppendTime
	if logAppendTime {
		attributes |= attrLogAppendTime
	}
	binary.BigEndian.PutUint16(b[posAttributes:], uint16(attributes))
	b.UpdateCRC()
	return true
}

// window is the range of timestamps that the topic takes.
func (o *CheckOptions) window() (low, high int64) {
	low, high = math.MinInt64, math.MaxInt64
	if o.TimestampBefore > 0 && o.TimestampBefore <= o.Now {
		low = o.Now - o.TimestampBefore
	}
	if o.TimestampAfter > 0 && o.TimestampAfter <= math.MaxInt64-o.Now {
		high = o.Now + o.TimestampAfter
	}
	return low, high
}

// claimed refuses a client that set the LogAppendTime bit where the broker
// will. Kafka names every record of the batch.
func claimed(b Batch, o *CheckOptions) error {
	e := &Error{Kind: InvalidTimestamp, Shown: true, Message: messageTimestamps}
	i := int32(0)
	for r, err := range b.Records(maxWide) { // It is refused anyway.
		switch {
		case errors.As(err, new(*Error)):
			return err
		case err != nil:
			return unpackError(err)
		case i < maxRecordErrors:
			e.Records = append(e.Records, RecordError{Index: i, Message: fmt.Sprintf(
				"Invalid timestamp type in message DefaultRecord(offset=%d, timestamp=%d, key=%d bytes, value=%d bytes). Producer should not set timestamp type to LogAppendTime.",
				r.Offset, r.Timestamp, len(r.Key), len(r.Value))})
		}
		i++
	}
	return e
}

// minSize is the least length field that Kafka's reader goes on from: what the
// oldest format needed.
const minSize = 14

// Single returns the one batch that a produce request may carry for a
// partition. Like Kafka it overlooks a tail too short to tell a format; the
// caller appends the batch alone.
func Single(records []byte) (Batch, error) {
	n, err := peek(records)
	if err != nil {
		return nil, err
	}
	switch {
	case n == 0:
		return nil, refuse(InvalidRecord, "Produce requests must have at least one record batch per partition")
	case records[posMagic] != MagicV2:
		return nil, refuse(InvalidRecord, "Produce requests are only allowed to contain record batches with magic version 2")
	}
	more, err := peek(records[n:])
	if err != nil {
		return nil, &Error{Kind: CorruptMessage, Message: err.Error()}
	}
	if more > 0 {
		return nil, refuse(InvalidRecord, "Produce requests are only allowed to contain exactly one record batch per partition")
	}
	if n < HeaderSize {
		return nil, refuse(CorruptMessage, "Record batch is corrupt (the size %d is smaller than the minimum allowed overhead %d)", n, HeaderSize)
	}
	return Batch(records[:n:n]), nil
}

// peek returns the length of the batch that b begins with, of any format that
// ever was, or 0 if there is none that is whole.
func peek(b []byte) (int, error) {
	if len(b) < prefixSize {
		return 0, nil
	}
	size := int32(binary.BigEndian.Uint32(b[posLength:]))
	if size < minSize {
		return 0, &Error{
			Kind: CorruptMessage, Shown: true,
			Message: fmt.Sprintf("Record size %d is less than the minimum record overhead (%d)", size, minSize),
		}
	}
	if len(b) <= posMagic {
		return 0, nil
	}
	if magic := int8(b[posMagic]); magic < 0 || magic > MagicV2 {
		return 0, &Error{Kind: CorruptMessage, Shown: true, Message: fmt.Sprintf("Invalid magic found in record: %d", magic)}
	}
	if int64(len(b)) < int64(size)+prefixSize {
		return 0, nil
	}
	return int(size) + prefixSize, nil
}

func checkHeader(b Batch, o *CheckOptions) error {
	if !o.Internal && b.BaseOffset() != 0 {
		return refuse(InvalidRecord, "The baseOffset of the record batch in the append to %s should be 0, but it is %d",
			o.Name, b.BaseOffset())
	}
	if o.MaxBytes > 0 && len(b) > o.MaxBytes {
		return refuse(TooLarge, "The record batch size in the append to %s is %d bytes which exceeds the maximum configured value of %d.",
			o.Name, len(b), o.MaxBytes)
	}
	if b.CRC() != b.ComputeCRC() {
		return refuse(CorruptMessage, "Record is corrupt (stored crc = %d) in topic partition %s.", b.CRC(), o.Name)
	}
	if b.Codec() > Zstd {
		return refuse(Unreadable, "Unknown compression type id: %d", int(b.Codec()))
	}
	return checkCounts(b, o)
}

func checkCounts(b Batch, o *CheckOptions) error {
	count, last := b.Count(), model.Offset(b.LastOffsetDelta())
	switch {
	case o.Internal:
		if count < 0 {
			return refuse(InvalidRecord, "Found invalid record count %d in magic v2 batch", count)
		}
		return nil
	case last < 0:
		return refuse(InvalidRecord, "Batch has an invalid offset range: [0, %d] in topic partition %s", last, o.Name)
	case count <= 0:
		return refuse(InvalidRecord, "Invalid reported count for record batch: %d in topic partition %s", count, o.Name)
	case last+1 != model.Offset(count):
		return refuse(InvalidRecord, "Inconsistent batch offset range [0, %d] and count of records %d in topic partition %s", last, count, o.Name)
	case b.IsControl():
		return refuse(InvalidRecord, "Clients are not allowed to write control records in topic partition %s", o.Name)
	case b.ProducerID() > model.NoProducer && b.BaseSequence() < 0:
		return refuse(InvalidRecord, "Invalid sequence number %d in record batch with producerId %d in topic partition %s",
			b.BaseSequence(), b.ProducerID(), o.Name)
	}
	return nil
}

func refuse(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Message: fmt.Sprintf(format, args...)}
}
