package record

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/barnabas-log/barnabas/model"
)

// Producer is what an idempotent producer puts into a batch's header (KIP-98).
type Producer struct {
	ID    model.ProducerID
	Epoch int16
	// Sequence is that of the batch's first record, NoSequence in markers.
	Sequence int32
}

// BuilderOptions are the header of a batch to be built. The zero value makes an
// uncompressed batch at offset 0, without producer, as a client sends it.
type BuilderOptions struct {
	BaseOffset model.Offset
	// LeaderEpoch is stamped as it is; a broker overwrites it.
	LeaderEpoch model.Epoch
	Codec       Codec
	// Level is passed to Compress; 0 means DefaultLevel.
	Level int
	// Producer is nil without idempotence.
	Producer      *Producer
	Transactional bool
	Control       bool
	// LogAppendTime marks the batch's MaxTimestamp as the broker's clock.
	LogAppendTime bool
}

// Builder collects records into one batch. It keeps its memory over Reset.
type Builder struct {
	opts     BuilderOptions
	records  []byte
	count    int32
	baseTime int64
	maxTime  int64
	last     int32 // offset delta of the last record
}

// NewBuilder returns an empty builder.
func NewBuilder(o BuilderOptions) *Builder {
	b := new(Builder)
	b.Reset(o)
	return b
}

// Reset empties the builder for another batch.
func (b *Builder) Reset(o BuilderOptions) {
	if o.Level == 0 {
		o.Level = DefaultLevel
	}
	*b = Builder{opts: o, records: b.records[:0], maxTime: NoTimestamp, last: -1}
}

// Add appends a record at the next offset; r.Offset is not looked at. The
// record is copied.
func (b *Builder) Add(r Record) error {
	r.Offset = b.opts.BaseOffset + model.Offset(b.last) + 1
	return b.AddAt(r)
}

// AddAt appends a record at its own offset, which must be greater than that of
// the record before.
func (b *Builder) AddAt(r Record) error {
	delta := int64(r.Offset - b.opts.BaseOffset)
	if delta <= int64(b.last) || delta > math.MaxInt32 {
		return fmt.Errorf("record: offset %d does not fit after %d in a batch at %d",
			r.Offset, b.opts.BaseOffset+model.Offset(b.last), b.opts.BaseOffset)
	}
	if b.count == 0 {
		b.baseTime = r.Timestamp
	}
	out, err := appendRecord(b.records, &r, r.Timestamp-b.baseTime, int32(delta))
	if err != nil {
		return err
	}
	if len(out) > maxRecord {
		return fmt.Errorf("%w: a batch of %d bytes", ErrTooBig, len(out))
	}
	b.records, b.last = out, int32(delta)
	b.count++
	b.maxTime = max(b.maxTime, r.Timestamp)
	return nil
}

// Count is how many records were added.
func (b *Builder) Count() int32 { return b.count }

// Size is the length of the batch so far, before compression, in bytes.
func (b *Builder) Size() int { return HeaderSize + len(b.records) }

// BuildAs is Build with other options than the records were collected under:
// producers learn their sequence when a batch is sent, not when it is begun.
// The base offset must be the same.
func (b *Builder) BuildAs(dst []byte, o BuilderOptions) ([]byte, Batch, error) {
	if o.BaseOffset != b.opts.BaseOffset {
		return nil, nil, fmt.Errorf("record: batch begun at %d cannot be built at %d", b.opts.BaseOffset, o.BaseOffset)
	}
	if o.Level == 0 {
		o.Level = DefaultLevel
	}
	b.opts = o
	return b.Build(dst)
}

// Build appends the batch to dst, and returns the whole and the batch in it.
func (b *Builder) Build(dst []byte) ([]byte, Batch, error) {
	at := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	dst, err := Compress(b.opts.Codec, b.opts.Level, dst, b.records)
	if err != nil {
		return nil, nil, err
	}
	batch := Batch(dst[at:])
	if len(batch) > maxRecord {
		return nil, nil, fmt.Errorf("%w: a batch of %d bytes", ErrTooBig, len(batch))
	}
	b.header(batch)
	return dst, batch[:len(batch):len(batch)], nil
}

func (b *Builder) header(h Batch) {
	p := Producer{ID: model.NoProducer, Epoch: -1, Sequence: NoSequence}
	if b.opts.Producer != nil {
		p = *b.opts.Producer
	}
	be := binary.BigEndian
	be.PutUint64(h[posBaseOffset:], uint64(b.opts.BaseOffset))
	be.PutUint32(h[posLength:], uint32(len(h)-prefixSize))
	be.PutUint32(h[posLeaderEpoch:], uint32(b.opts.LeaderEpoch))
	h[posMagic] = MagicV2
	be.PutUint16(h[posAttributes:], uint16(b.opts.attributes()))
	be.PutUint32(h[posLastOffsetDelta:], uint32(b.last))
	be.PutUint64(h[posBaseTimestamp:], uint64(b.baseTime))
	be.PutUint64(h[posMaxTimestamp:], uint64(b.maxTime))
	be.PutUint64(h[posProducerID:], uint64(p.ID))
	be.PutUint16(h[posProducerEpoch:], uint16(p.Epoch))
	be.PutUint32(h[posBaseSequence:], uint32(p.Sequence))
	be.PutUint32(h[posCount:], uint32(b.count))
	h.UpdateCRC()
}

func (o *BuilderOptions) attributes() int16 {
	a := int16(o.Codec) & attrCodec
	for _, f := range []struct {
		on  bool
		bit int16
	}{{o.LogAppendTime, attrLogAppendTime}, {o.Transactional, attrTransactional}, {o.Control, attrControl}} {
		if f.on {
			a |= f.bit
		}
	}
	return a
}

// Recompress packs the batch's records anew with codec and level (see
// [Compress]), numbering those of an uncompressed batch 0, 1, 2 … as Kafka
// does; compressed ones have passed Check only if they are numbered so. All
// else in the header stays. The result does not alias b. It has at most limit
// bytes, or the error wraps ErrTooBig; 0 means any.
func Recompress(b Batch, c Codec, level, limit int) (Batch, error) {
	if limit <= 0 {
		limit = maxRecord
	}
	out, err := b.repack(c, level, limit)
	if err != nil {
		return nil, err
	}
	if len(out) > limit {
		return nil, fmt.Errorf("%w: a batch of more than %d bytes", ErrTooBig, limit)
	}
	n := Batch(out)
	binary.BigEndian.PutUint32(n[posLength:], uint32(len(n)-prefixSize))
	binary.BigEndian.PutUint16(n[posAttributes:], uint16(b.Attributes()&^attrCodec|int16(c)))
	n.UpdateCRC()
	return n, nil
}

// repack returns the batch's header, as it is, and its records packed anew.
func (b Batch) repack(c Codec, level, limit int) ([]byte, error) {
	header := append([]byte(nil), b[:HeaderSize]...)
	if from := b.Codec(); from != None {
		in := openWindow(from, b.Payload())
		defer in.release()
		return in.repack(c, level, header, limit)
	}
	records, err := b.renumber(b.Payload())
	if err != nil {
		return nil, err
	}
	return Compress(c, level, header, records)
}

// renumber returns the records with offset deltas 0, 1, 2 …: payload itself if
// they are that already.
func (b Batch) renumber(payload []byte) ([]byte, error) {
	w := walk{count: b.Count(), low: math.MinInt64, high: math.MaxInt64, maxRecord: math.MaxInt}
	if err := w.records(payload, nil); err != nil {
		return nil, err
	}
	if !w.gaps {
		return payload, nil
	}
	out := make([]byte, 0, len(payload))
	for i := range b.Count() {
		r, rest, err := b.cut(payload)
		if err != nil {
			return nil, err
		}
		delta := r.Timestamp - b.BaseTimestamp()
		if b.IsLogAppendTime() {
			delta = 0
		}
		if out, err = appendRecord(out, &r, delta, i); err != nil {
			return nil, err
		}
		payload = rest
	}
	return out, nil
}
