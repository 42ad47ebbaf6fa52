package record

import (
	"errors"
	"fmt"
)

// walk goes over the records of a batch without copying them. The fields above
// the line are rules, those below are findings.
type walk struct {
	base      int64 // what timestamp deltas count from
	low, high int64 // range of timestamps taken
	count     int32
	keys      bool // records must have keys

	max      int64 // greatest timestamp, NoTimestamp if there is no record
	maxDelta int32 // offset delta of the first record that has it
	size     int   // bytes of the records, unpacked
	gaps     bool  // offset deltas are not 0, 1, 2 …
	bad      *Error
	badCount int
}

const messageTimestamps = "One or more records have been rejected due to invalid timestamp"

// batch unpacks the batch if need be and walks it.
func (w *walk) batch(b Batch, o *CheckOptions) error {
	data := b.Payload()
	if c := b.Codec(); c != None {
		buf, err := Decompress(c, data, o.MaxDecompressed)
		if err != nil {
			return unpackError(err)
		}
		defer buf.Release()
		data = buf.Bytes()
	}
	w.size = len(data)
	if err := w.records(data, o); err != nil {
		return err
	}
	return w.verdict(o)
}

func unpackError(err error) error {
	if errors.Is(err, ErrTooBig) {
		return &Error{Kind: TooLarge, Message: err.Error()}
	}
	return &Error{Kind: Unreadable, Message: "Failed to decompress record stream: " + err.Error()}
}

// records is the hot loop: some 6 ns for a record of 100 bytes. Reads behind
// the end yield the position invalid, which the one comparison with end finds.
func (w *walk) records(data []byte, o *CheckOptions) error {
	w.max = NoTimestamp
	p := 0
	for i := int32(0); i < w.count; i++ {
		u, start := uvarint(data, p)
		size := unzigzag(u)
		if start == invalid {
			return refuse(InvalidRecord, "Incorrect declared batch size, premature EOF reached")
		}
		if size < 0 || int(size) > len(data)-start {
			return badSize(size, len(data)-start)
		}
		body := data[:start+int(size)]
		// The record's attributes are a byte without meaning.
		var td uint64
		var od, keySize, valueSize, headers uint32
		if p = start + 1; p < len(body) && body[p] < 0x80 {
			td, p = uint64(body[p]), p+1
		} else {
			td, p = uvarlong(body, p)
		}
		od, p = uvarint(body, p)
		keySize, p = uvarint(body, p)
		key := unzigzag(keySize)
		if key > 0 {
			p += int(key)
		}
		valueSize, p = uvarint(body, p)
		if value := unzigzag(valueSize); value > 0 {
			p += int(value)
		}
		headers, p = uvarint(body, p)
		if headers != 0 {
			p = skipHeaders(body, p, unzigzag(headers))
		}
		if p != len(body) {
			return badBody(size, p, start, len(body))
		}
		timestamp := w.base + unzigzag64(td)
		if timestamp > w.max {
			w.max, w.maxDelta = timestamp, unzigzag(od)
		}
		if unzigzag(od) != i {
			w.gaps = true
		}
		if key < 0 && w.keys || timestamp < w.low || timestamp > w.high {
			w.reject(i, key, timestamp, unzigzag(od), o)
		}
	}
	if p != len(data) {
		return refuse(InvalidRecord, "Incorrect declared batch size, records still remaining in file")
	}
	return nil
}

// skipHeaders returns the position after n headers, or invalid.
func skipHeaders(body []byte, p int, n int32) int {
	if n < 0 || p > len(body) || int(n) > len(body)-p {
		return invalid
	}
	for ; n > 0; n-- {
		key, value := uint32(0), uint32(0)
		key, p = uvarint(body, p)
		k := unzigzag(key)
		if k < 0 {
			return invalid
		}
		if p += int(k); p > len(body) {
			return invalid
		}
		value, p = uvarint(body, p)
		if v := unzigzag(value); v > 0 {
			p += int(v)
		}
		if p > len(body) {
			return invalid
		}
	}
	return p
}

func badSize(size int32, left int) error {
	return refuse(InvalidRecord, "Invalid record size: expected %d bytes in record payload, but instead the buffer has only %d remaining bytes.", size, left)
}

func badBody(size int32, p, start, end int) error {
	if p > end {
		return refuse(InvalidRecord, "Found invalid record structure")
	}
	return refuse(InvalidRecord, "Invalid record size: expected to read %d bytes in record payload, but instead read %d", size, p-start)
}

// reject notes a record that breaks the topic's rules. Kafka looks at the key
// first and takes -1 for "no timestamp", which is always in range.
func (w *walk) reject(index, key int32, timestamp int64, delta int32, o *CheckOptions) {
	kind, message := InvalidTimestamp, ""
	switch {
	case key < 0 && w.keys:
		kind = InvalidRecord
		message = "Compacted topic cannot accept message without key in topic partition " + o.Name + "."
	case timestamp == NoTimestamp:
		return
	default:
		message = fmt.Sprintf("Timestamp %d of message with offset %d is out of range. The timestamp should be within [%d, %d]",
			timestamp, delta, o.Now-o.TimestampBefore, o.Now+o.TimestampAfter)
	}
	if w.bad == nil {
		w.bad = &Error{Kind: kind, Shown: true}
	}
	w.badCount++
	if len(w.bad.Records) < maxRecordErrors {
		w.bad.Records = append(w.bad.Records, RecordError{Index: index, Message: message})
	}
}

// verdict is the error of all rejected records: the first one's kind counts.
func (w *walk) verdict(o *CheckOptions) error {
	if w.bad == nil {
		return nil
	}
	w.bad.Message = messageTimestamps
	if w.bad.Kind == InvalidRecord {
		w.bad.Message = fmt.Sprintf("One or more records have been rejected due to %d record errors in total, and only showing the first three errors at most: %v",
			w.badCount, w.bad.Records[:min(3, len(w.bad.Records))])
	}
	return w.bad
}
