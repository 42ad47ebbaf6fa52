package differential

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"reflect"
	"strings"
	"time"

	"github.com/barnabas-log/barnabas/record"
)

// firstTimestamp is when the first record of a batch was made unless it says otherwise: long ago and always the same, so that
// it is seen again in the answers.
const firstTimestamp int64 = 1_700_000_000_000

// batch is a record batch as scripts write it. It is built here, byte by byte, because package record would refuse to build most
// of what a script is curious about.
type batch struct {
	Records []recordText // the n-th is a millisecond younger than the one before
	Codec   string       // none gzip snappy lz4 zstd
	Repeat  int32        // the records that many times, with running offsets

	Producer      []int64 // id, epoch, sequence
	Transactional bool
	Control       bool
	LogAppendTime bool
	Attributes    int32 // further bits

	// Lies: what is written instead of the truth.
	BaseOffset      int64
	LeaderEpoch     int32
	Magic           int32
	CRC             string // bad
	Count           *int32
	LastOffsetDelta *int32
	Length          *int32 // of the batch
	BaseTimestamp   *int64
	MaxTimestamp    *int64
	Payload         *string // hex, instead of the records
	Cut             int32   // bytes dropped at the end
	Add             string  // hex appended within the batch
	After           string  // hex appended after it
}

type recordText struct {
	Key     *string
	Value   *string
	Time    *string // a number, or now±milliseconds
	Headers []headerText
	Delta   *int32 // of the offset
	Size    int32  // a value of that many bytes
	Attr    int32
}

type headerText struct {
	Key   *string
	Value *string
}

func (s scope) batch(fields map[string]any) ([]byte, error) {
	b := batch{Magic: 2, LeaderEpoch: -1, Repeat: 1}
	for name, src := range fields {
		f := reflect.ValueOf(&b).Elem().FieldByName(name)
		if !f.IsValid() {
			return nil, fmt.Errorf("batch has no field %s", name)
		}
		if err := s.fill(f, src); err != nil {
			return nil, fmt.Errorf("batch: %s: %w", name, err)
		}
	}
	return b.build()
}

func (b *batch) build() ([]byte, error) {
	var payload []byte
	count, lastDelta := int32(0), int32(-1)
	base, newest := int64(-1), int64(-1)
	for range b.Repeat {
		for _, r := range b.Records {
			at, err := r.time(firstTimestamp + int64(count))
			if err != nil {
				return nil, err
			}
			if count == 0 {
				base = at
			}
			newest = max(newest, at)
			lastDelta = or(r.Delta, count)
			payload = r.append(payload, at-base, lastDelta)
			count++
		}
	}
	codec, err := record.ParseCodec(orText(b.Codec, "none"))
	if err != nil {
		return nil, err
	}
	if b.Payload != nil {
		if payload, err = hex.DecodeString(*b.Payload); err != nil {
			return nil, err
		}
	} else if codec != record.None {
		if payload, err = record.Compress(codec, record.DefaultLevel, nil, payload); err != nil {
			return nil, err
		}
	}
	out := b.header(codec, or(b.LastOffsetDelta, lastDelta), or(b.Count, count), or(b.BaseTimestamp, base), or(b.MaxTimestamp, newest))
	out = append(out, payload...)
	extra, err := hex.DecodeString(b.Add)
	if err != nil {
		return nil, err
	}
	out = append(out, extra...)
	binary.BigEndian.PutUint32(out[8:], uint32(or(b.Length, int32(len(out)-12))))
	sum := crc32.Checksum(out[21:], crc32.MakeTable(crc32.Castagnoli))
	if b.CRC == "bad" {
		sum++
	}
	binary.BigEndian.PutUint32(out[17:], sum)
	after, err := hex.DecodeString(b.After)
	return append(out[:len(out)-int(b.Cut)], after...), err
}

func (b *batch) header(codec record.Codec, lastDelta, count int32, base, newest int64) []byte {
	attributes := int16(codec) | int16(b.Attributes)
	for bit, set := range map[int16]bool{1 << 3: b.LogAppendTime, 1 << 4: b.Transactional, 1 << 5: b.Control} {
		if set {
			attributes |= bit
		}
	}
	producer := []int64{-1, -1, -1}
	copy(producer, b.Producer)
	be := binary.BigEndian
	out := be.AppendUint64(nil, uint64(b.BaseOffset))
	out = be.AppendUint32(out, 0) // length
	out = be.AppendUint32(out, uint32(b.LeaderEpoch))
	out = append(out, byte(b.Magic))
	out = be.AppendUint32(out, 0) // crc
	out = be.AppendUint16(out, uint16(attributes))
	out = be.AppendUint32(out, uint32(lastDelta))
	out = be.AppendUint64(out, uint64(base))
	out = be.AppendUint64(out, uint64(newest))
	out = be.AppendUint64(out, uint64(producer[0]))
	out = be.AppendUint16(out, uint16(producer[1]))
	out = be.AppendUint32(out, uint32(producer[2]))
	return be.AppendUint32(out, uint32(count))
}

func (r *recordText) time(usual int64) (int64, error) {
	if r.Time == nil {
		return usual, nil
	}
	text, isNow := strings.CutPrefix(*r.Time, "now")
	var n int64
	if text != "" {
		if _, err := fmt.Sscan(text, &n); err != nil {
			return 0, err
		}
	}
	if isNow {
		n += time.Now().UnixMilli()
	}
	return n, nil
}

func (r *recordText) append(dst []byte, timeDelta int64, offsetDelta int32) []byte {
	body := []byte{byte(r.Attr)}
	body = binary.AppendVarint(body, timeDelta)
	body = binary.AppendVarint(body, int64(offsetDelta))
	body = appendField(body, r.Key)
	value := r.Value
	if r.Size > 0 {
		s := strings.Repeat("x", int(r.Size))
		value = &s
	}
	body = appendField(body, value)
	body = binary.AppendVarint(body, int64(len(r.Headers)))
	for _, h := range r.Headers {
		body = appendField(body, h.Key)
		body = appendField(body, h.Value)
	}
	return append(binary.AppendVarint(dst, int64(len(body))), body...)
}

func appendField(dst []byte, text *string) []byte {
	if text == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(*text))), *text...)
}

func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

func orText(a, b string) string {
	if a == "" {
		return b
	}
	return a
}
