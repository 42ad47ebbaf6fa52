package record

import (
	"encoding/binary"
	"fmt"

	"github.com/barnabas-log/barnabas/model"
)

// Item is what compaction asks of one record. Key is nil if it is null, and
// valid during the call only.
type Item struct {
	Offset model.Offset
	Key    []byte
	// Tombstone says that the value is null: the key is deleted.
	Tombstone bool
}

// SiftOptions say what [Sieve.Sift] does beside leaving records out.
type SiftOptions struct {
	// Horizon, in milliseconds since 1970, is set as the delete horizon of a
	// batch that has none, if a tombstone of it is kept or Marker is set
	// (KIP-534). Below zero none is set.
	Horizon int64
	Marker  bool
}

// Sifted is what became of a batch.
type Sifted struct {
	// Read and Kept count records.
	Read, Kept int32
	// Same says that the batch is to stay as it is.
	Same bool
}

// Sieve takes records out of batches, as compaction does, and keeps its memory
// from batch to batch. The zero value is ready; it is not for concurrent use.
type Sieve struct {
	kept    []span
	records []byte
}

// span is where a record lies in the unpacked payload.
type span struct{ from, to int }

// Each calls do with every record's key, until it returns false. Errors are of
// type *Error or those of Decompress.
func (s *Sieve) Each(b Batch, do func(Item) bool) error {
	return s.unpacked(b, func(data []byte) error {
		_, err := b.items(data, func(i Item, _ span) bool { return do(i) })
		return err
	})
}

// Sift appends to dst the batch with the records that keep says yes to, packed
// with its own codec; nothing if that is none, or if nothing changes. Offsets, also the first and
// the last of the batch, sequences and epochs stay as they are. As in Kafka,
// the base timestamp becomes the delete horizon if there is one, else the
// timestamp of the first record kept.
func (s *Sieve) Sift(dst []byte, b Batch, o SiftOptions, keep func(Item) bool) (out []byte, r Sifted, err error) {
	out = dst
	err = s.unpacked(b, func(data []byte) error {
		s.kept = s.kept[:0]
		tombstones := false
		r.Read, err = b.items(data, func(i Item, at span) bool {
			if keep(i) {
				s.kept = append(s.kept, at)
				tombstones = tombstones || i.Tombstone
			}
			return true
		})
		r.Kept = int32(len(s.kept))
		if err != nil || r.Kept == 0 {
			return err
		}
		horizon, had := b.DeleteHorizon()
		if !had {
			horizon = NoTimestamp
			if tombstones || o.Marker {
				horizon = o.Horizon
			}
		}
		if r.Kept == r.Read && (had || horizon < 0) {
			r.Same = true
			return nil
		}
		out, err = s.rebuild(dst, b, data, horizon)
		return err
	})
	return out, r, err
}

// unpacked calls do with the batch's records, which are valid meanwhile.
func (s *Sieve) unpacked(b Batch, do func(data []byte) error) error {
	if b.Codec() == None {
		return do(b.Payload())
	}
	if b.Count() == 0 {
		return do(nil)
	}
	buf, err := Decompress(b.Codec(), b.Payload(), 0)
	if err != nil {
		return err
	}
	defer buf.Release()
	return do(buf.Bytes())
}

// DeleteHorizon is the time after which compaction may drop the batch's
// tombstones or its marker, in milliseconds since 1970 (KIP-534); not ok if
// none was set.
func (b Batch) DeleteHorizon() (millis int64, ok bool) {
	if !b.HasDeleteHorizon() {
		return NoTimestamp, false
	}
	return b.BaseTimestamp(), true
}

// items reads the records, which data is, and returns how many there are.
func (b Batch) items(data []byte, each func(Item, span) bool) (n int32, err error) {
	p := 0
	for ; n < b.Count(); n++ {
		i, end, err := b.item(data, p)
		if err != nil {
			return n, err
		}
		if !each(i, span{p, end}) {
			return n, nil
		}
		p = end
	}
	if p != len(data) {
		return n, refuse(InvalidRecord, messageRemaining)
	}
	return n, nil
}

// item reads the record at p as far as its value, and returns where it ends.
func (b Batch) item(data []byte, p int) (i Item, end int, err error) {
	body, start, err := recordBody(data, p)
	if err != nil {
		return i, 0, err
	}
	_, p = uvarlong(body, start+1)
	delta, p := uvarint(body, p)
	i.Key, p = field(body, p)
	n, p := skip(body, p)
	if p >= len(body) { // At least the count of headers follows.
		return i, 0, refuse(InvalidRecord, "Found invalid record structure")
	}
	i.Offset, i.Tombstone = b.BaseOffset()+model.Offset(unzigzag(delta)), n < 0
	return i, len(body), nil
}

// recordBody returns data up to the end of the record at p, and where in it the
// record goes on after its size.
func recordBody(data []byte, p int) (body []byte, start int, err error) {
	u, start := uvarint(data, p)
	if start == invalid {
		return nil, 0, refuse(InvalidRecord, "Incorrect declared batch size, premature EOF reached")
	}
	size := unzigzag(u)
	if size < minRecord || int(size) > len(data)-start {
		return nil, 0, badSize(size, len(data)-start)
	}
	return data[:start+int(size)], start, nil
}

// rebuild appends the batch with the records of s.kept, which items has read.
func (s *Sieve) rebuild(dst []byte, b Batch, data []byte, horizon int64) ([]byte, error) {
	base, latest := horizon, NoTimestamp
	if horizon < 0 {
		base = b.timeOf(data, s.kept[0])
	}
	at := len(dst)
	dst = append(dst, b[:HeaderSize]...)
	packed := b.Codec() != None
	records := dst
	if packed {
		records = s.records[:0]
	}
	for _, k := range s.kept {
		ts := b.timeOf(data, k)
		latest = max(latest, ts)
		records = appendRetimed(records, data[k.from:k.to], ts-base)
		if len(records) > maxRecord {
			return nil, fmt.Errorf("%w: a batch of %d bytes", ErrTooBig, len(records))
		}
	}
	out := records
	if packed {
		s.records = records[:0]
		var err error
		if out, err = Compress(b.Codec(), DefaultLevel, dst, records); err != nil {
			return nil, err
		}
		if cap(s.records) > maxPooled {
			s.records = nil
		}
	}
	Batch(out[at:]).refit(int32(len(s.kept)), base, latest, horizon >= 0)
	return out, nil
}

// refit makes the header of a batch fit its records.
func (b Batch) refit(count int32, base, latest int64, horizon bool) {
	be := binary.BigEndian
	be.PutUint32(b[posLength:], uint32(len(b)-prefixSize))
	be.PutUint32(b[posCount:], uint32(count))
	be.PutUint64(b[posBaseTimestamp:], uint64(base))
	be.PutUint64(b[posMaxTimestamp:], uint64(latest))
	a := b.Attributes() &^ attrDeleteHorizon
	if horizon {
		a |= attrDeleteHorizon
	}
	be.PutUint16(b[posAttributes:], uint16(a))
	b.UpdateCRC()
}

// timeOf is the timestamp of a record that items has read.
func (b Batch) timeOf(data []byte, at span) int64 {
	if b.IsLogAppendTime() {
		return b.MaxTimestamp()
	}
	_, p := uvarint(data, at.from)
	delta, _ := uvarlong(data, p+1)
	return b.BaseTimestamp() + unzigzag64(delta)
}

// appendRetimed appends a record with another timestamp delta.
func appendRetimed(dst, r []byte, delta int64) []byte {
	_, p := uvarint(r, 0)
	_, rest := uvarlong(r, p+1)
	dst = appendVarint(dst, int32(1+sizeVarlong(delta)+len(r)-rest))
	dst = append(dst, 0) // Attributes: a byte without meaning.
	dst = appendVarlong(dst, delta)
	return append(dst, r[rest:]...)
}

// AppendEmptied appends the batch without its records, as Kafka's cleaner
// leaves the last batch of a producer: what its header says of offsets, of the
// producer and of the latest timestamp stays.
func AppendEmptied(dst []byte, b Batch) []byte {
	at := len(dst)
	dst = append(dst, b[:HeaderSize]...)
	e := Batch(dst[at:])
	binary.BigEndian.PutUint16(e[posAttributes:], uint16(b.Attributes()&^attrCodec))
	e.refit(0, NoTimestamp, b.MaxTimestamp(), false)
	return dst
}
