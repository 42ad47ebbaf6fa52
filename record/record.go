package record

import (
	"fmt"
	"iter"

	"github.com/barnabas-log/barnabas/model"
)

// Record is one record of a batch. Its bytes alias what it was read from.
type Record struct {
	Offset model.Offset
	// Timestamp is in milliseconds since 1970, or NoTimestamp.
	Timestamp int64
	// Key and Value are nil when null; an empty one is not nil.
	Key, Value []byte
	Headers    []Header
}

// Header is an attribute of a record. Keys may repeat; their order counts.
type Header struct {
	Key string
	// Value is nil when null.
	Value []byte
}

// Records goes over the batch's records. Those of an uncompressed batch alias
// b; those of a compressed one have memory of their own, which lives as long as
// they are held. limit bounds what is unpacked, in bytes; 0 means
// DefaultMaxDecompressed. After an error, which is of type *Error or one of
// Decompress, there is nothing more.
func (b Batch) Records(limit int) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		data := b.Payload()
		if c := b.Codec(); c != None {
			buf, err := Decompress(c, data, limit)
			if err != nil {
				yield(Record{}, err)
				return
			}
			data = append([]byte(nil), buf.Bytes()...)
			buf.Release()
		}
		for range b.Count() {
			r, rest, err := b.cut(data)
			if !yield(r, err) || err != nil {
				return
			}
			data = rest
		}
		if len(data) > 0 {
			yield(Record{}, refuse(InvalidRecord, "Incorrect declared batch size, records still remaining in file"))
		}
	}
}

// cut reads the first record of data.
func (b Batch) cut(data []byte) (r Record, rest []byte, err error) {
	u, p := uvarint(data, 0)
	size := unzigzag(u)
	if p == invalid {
		return r, nil, refuse(InvalidRecord, "Incorrect declared batch size, premature EOF reached")
	}
	if size < 0 || int(size) > len(data)-p {
		return r, nil, badSize(size, len(data)-p)
	}
	body, start := data[:p+int(size)], p
	td, p := uvarlong(body, p+1)
	od, p := uvarint(body, p)
	r.Key, p = field(body, p)
	r.Value, p = field(body, p)
	n, p := uvarint(body, p)
	if n != 0 {
		r.Headers, p = headers(body, p, unzigzag(n))
	}
	if p != len(body) {
		return Record{}, nil, badBody(size, p, start, len(body))
	}
	r.Offset = b.BaseOffset() + model.Offset(unzigzag(od))
	r.Timestamp = b.BaseTimestamp() + unzigzag64(td)
	if b.IsLogAppendTime() {
		r.Timestamp = b.MaxTimestamp()
	}
	return r, data[len(body):], nil
}

// field reads nullable bytes. As in Kafka, any negative length means null.
func field(body []byte, p int) ([]byte, int) {
	u, p := uvarint(body, p)
	n := unzigzag(u)
	if p == invalid || n < 0 {
		return nil, p
	}
	if int(n) > len(body)-p {
		return nil, invalid
	}
	end := p + int(n)
	return body[p:end:end], end
}

func headers(body []byte, p int, n int32) ([]Header, int) {
	// Each header takes two bytes at least: a count cannot cost more memory
	// than some twenty times the bytes that it came in.
	if p > len(body) || n < 0 || int(n) > (len(body)-p)/2 {
		return nil, invalid
	}
	hs := make([]Header, n)
	for i := range hs {
		var key []byte
		if key, p = field(body, p); key == nil {
			return nil, invalid
		}
		hs[i].Key = string(key)
		if hs[i].Value, p = field(body, p); p == invalid {
			return nil, invalid
		}
	}
	return hs, p
}

// appendRecord encodes a record whose timestamp and offset count from a
// batch's bases.
func appendRecord(dst []byte, r *Record, timestampDelta int64, offsetDelta int32) ([]byte, error) {
	size := 1 + sizeVarlong(timestampDelta) + sizeVarint(offsetDelta) + sizeField(r.Key) + sizeField(r.Value) +
		sizeVarint(int32(len(r.Headers)))
	for _, h := range r.Headers {
		size += sizeVarint(int32(len(h.Key))) + len(h.Key) + sizeField(h.Value)
	}
	if size > maxRecord {
		return dst, fmt.Errorf("%w: a record of %d bytes", ErrTooBig, size)
	}
	dst = appendVarint(dst, int32(size))
	dst = append(dst, 0) // attributes
	dst = appendVarlong(dst, timestampDelta)
	dst = appendVarint(dst, offsetDelta)
	dst = appendField(dst, r.Key)
	dst = appendField(dst, r.Value)
	dst = appendVarint(dst, int32(len(r.Headers)))
	for _, h := range r.Headers {
		dst = appendVarint(dst, int32(len(h.Key)))
		dst = append(dst, h.Key...)
		dst = appendField(dst, h.Value)
	}
	return dst, nil
}

// maxRecord keeps a batch's length within its int32.
const maxRecord = 1<<31 - 1 - 1024

func sizeField(b []byte) int {
	if b == nil {
		return 1
	}
	return sizeVarint(int32(len(b))) + len(b)
}

func appendField(dst, b []byte) []byte {
	if b == nil {
		return appendVarint(dst, -1)
	}
	return append(appendVarint(dst, int32(len(b))), b...)
}
