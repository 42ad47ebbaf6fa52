package hostile

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// The topics that hostile clients write to.
const (
	badTopic   = "bad"
	stampTopic = "bad-stamped" // message.timestamp.type=LogAppendTime
	keyTopic   = "bad-keyed"   // cleanup.policy=compact
	packTopic  = "bad-packed"  // compression.type=zstd
)

func text(s string) *string { return &s }

func frame(payload []byte) []byte { return wire.AppendFrame(nil, payload) }

// randomBytes is a frame of noise.
func randomBytes(r *rand.Rand) []byte {
	b := make([]byte, r.IntN(300))
	fillRandom(r, b)
	if len(b) >= 4 && r.IntN(2) == 0 { // Often a key and version that might exist.
		binary.BigEndian.PutUint16(b, uint16(r.IntN(100)))
		binary.BigEndian.PutUint16(b[2:], uint16(r.IntN(20)))
	}
	return frame(b)
}

func fillRandom(r *rand.Rand, b []byte) {
	for i := range b {
		b[i] = byte(r.Uint32())
	}
}

// wrongSize claims another size than what follows.
func wrongSize(r *rand.Rand) []byte {
	sizes := []int32{-1, math.MinInt32, math.MaxInt32, 100<<20 + 1, 200 << 20, 100 << 20, 50 << 20, 1, 0, 3, 7}
	b := wire.AppendInt32(nil, sizes[r.IntN(len(sizes))])
	tail := make([]byte, r.IntN(64))
	fillRandom(r, tail)
	return append(b, tail...)
}

// truncated is the beginning of a sound request.
func (s *sound) truncated(r *rand.Rand) []byte {
	b := s.filled(r)
	return b[:r.IntN(len(b))]
}

// randomBody is the header of any API there is, or is not, and noise.
func randomBody(r *rand.Rand) []byte {
	apis := wire.APIs()
	api := apis[r.IntN(len(apis))]
	h := wire.RequestHeader{Key: api.NewRequest().Key(), Version: int16(r.IntN(int(api.MaxVersion) + 3)), CorrelationID: 7, ClientID: text("x")}
	if r.IntN(20) == 0 {
		h.Key = wire.Key(r.Uint32())
	}
	body := make([]byte, r.IntN(200))
	switch r.IntN(3) {
	case 0:
		fillRandom(r, body)
	case 1: // Counts and lengths near nothing and near everything.
		for i := range body {
			body[i] = []byte{0, 0, 0, 1, 2, 0x7f, 0x80, 0xff}[r.IntN(8)]
		}
	}
	return frame(append(wire.AppendRequestHeader(nil, h), body...))
}

// mutated is a sound request with a few bytes changed, gone or added, and its
// size mended so that the bytes are read at all.
func (s *sound) mutated(r *rand.Rand) []byte {
	b := s.filled(r)[4:]
	const header = 8 // Leave key, version and correlation alone: other makers do that.
	for range 1 + r.IntN(4) {
		if len(b) <= header {
			break
		}
		at := header + r.IntN(len(b)-header)
		switch r.IntN(5) {
		case 0:
			b[at] ^= 1 << r.IntN(8)
		case 1:
			b[at] = []byte{0, 1, 0x7f, 0x80, 0xff}[r.IntN(5)]
		case 2:
			b = append(b[:at], b[at+1:]...)
		case 3:
			b = append(b[:at], append([]byte{byte(r.Uint32())}, b[at:]...)...)
		default:
			copy(b[at:], []byte{0x7f, 0xff, 0xff, 0xff})
		}
	}
	return frame(b)
}

// batch is a record batch, nearly always wrong somewhere.
func batch(r *rand.Rand) []byte {
	b := record.NewBuilder(record.BuilderOptions{Codec: record.Codec(r.IntN(5))})
	for range 1 + r.IntN(5) {
		v := make([]byte, r.IntN(100))
		fillRandom(r, v)
		if err := b.Add(record.Record{Timestamp: r.Int64N(1 << 41), Value: v}); err != nil {
			panic(err)
		}
	}
	out, _, err := b.Build(nil)
	if err != nil {
		panic(err)
	}
	const length, magic, crc, attributes, lastDelta, count, records = 8, 16, 17, 21, 23, 57, 61
	be := binary.BigEndian
	mend := true
	switch r.IntN(12) {
	case 0:
		out[crc] ^= 0xff
		mend = false
	case 1:
		be.PutUint32(out[count:], r.Uint32())
	case 2:
		be.PutUint32(out[lastDelta:], r.Uint32())
	case 3:
		be.PutUint32(out[length:], []uint32{0, 13, 14, 48, 49, math.MaxInt32, math.MaxUint32, uint32(len(out))}[r.IntN(8)])
	case 4:
		out[attributes+1] = byte(r.Uint32())
	case 5:
		out[magic] = byte(r.Uint32())
	case 6, 7:
		out[records+r.IntN(len(out)-records)] = byte(r.Uint32())
	case 8:
		out = out[:r.IntN(len(out))]
	case 9:
		out = append(out, out...)
	case 10: // As many records as can be claimed, of no bytes.
		be.PutUint32(out[lastDelta:], math.MaxInt32-1)
		be.PutUint32(out[count:], math.MaxInt32)
	default:
		fillRandom(r, out[attributes+2:min(len(out), records)])
	}
	if mend && len(out) > records {
		be.PutUint32(out[crc:], crc32.Checksum(out[attributes:], crc32.MakeTable(crc32.Castagnoli)))
	}
	return out
}

func produce(r *rand.Rand, topic string, records []byte) []byte {
	q := &wire.ProduceRequest{
		Acks: []int16{-1, -1, 1, 2}[r.IntN(4)], TimeoutMs: 1000,
		TopicData: []wire.ProduceRequestTopicProduceData{{
			Name:          topic,
			PartitionData: []wire.ProduceRequestPartitionProduceData{{Index: int32(r.IntN(3)), Records: records}},
		}},
	}
	b, err := wire.AppendRequest(nil, wire.RequestHeader{Version: 7 + int16(r.IntN(5)), CorrelationID: 1, ClientID: text("produce")}, q)
	if err != nil {
		panic(err)
	}
	return b
}

func badBatch(r *rand.Rand) []byte {
	return produce(r, []string{badTopic, stampTopic, keyTopic, packTopic}[r.IntN(4)], batch(r))
}

// bomb is a batch of a megabyte at most whose records unpack to a hundred.
type bomb struct {
	name  string
	batch []byte
}

// bombs are, of each codec: bytes that are no records, one record of zeros, a
// million records, and millions of tiny ones.
func bombs(t *testing.T) (all []bomb) {
	add := func(name string, b []byte) { all = append(all, bomb{name, fit(b)}) }
	zeros := make([]byte, 127<<20)
	one := packed(t, record.None, 1, 1)
	for c := record.Gzip; c <= record.Zstd; c++ {
		n := 1
		if c == record.Snappy { // Packs 20 to 1 at best.
			n = 8
		}
		payload, err := record.Compress(c, record.DefaultLevel, nil, zeros[:len(zeros)/n])
		if err != nil {
			t.Fatal(err)
		}
		add(c.String()+", no records", rewrap(one, c, payload))
		add(c.String()+", one record", packed(t, c, 1, 100<<20/n))
		add(c.String()+", 500 KB records", packed(t, c, 200/n, 500_000))
		add(c.String()+", tiny records", packed(t, c, 3_000_000/n, 1))
	}
	// A frame that claims a window of 128 MiB, and goes on with one byte
	// repeated, 128 KiB in four bytes at a time.
	wide := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 17 << 3}
	for range 900 {
		h := (128<<10)<<3 | 1<<1
		wide = append(wide, byte(h), byte(h>>8), byte(h>>16), 0)
	}
	add("zstd, wide window", rewrap(one, record.Zstd, wide))
	return all
}

// fit cuts what is larger than the default max.message.bytes, which would be
// refused without a look.
func fit(b []byte) []byte {
	if len(b) <= 1<<20 {
		return b
	}
	return rewrap(b, record.Batch(b).Codec(), b[record.HeaderSize:1<<20])
}

func packed(t *testing.T, c record.Codec, n, size int) []byte {
	b := record.NewBuilder(record.BuilderOptions{Codec: c})
	r := record.Record{Value: make([]byte, size)}
	for range n {
		if err := b.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	_, out, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// rewrap gives a batch other records, compressed already.
func rewrap(b record.Batch, c record.Codec, payload []byte) record.Batch {
	out := append(append([]byte(nil), b[:record.HeaderSize]...), payload...)
	binary.BigEndian.PutUint32(out[8:], uint32(len(out)-12))
	out[22] = out[22]&^7 | byte(c)
	record.Batch(out).UpdateCRC()
	return out
}

// badAdmin asks for topics with illegal names, counts and settings.
func badAdmin(r *rand.Rand) []byte {
	names := []string{"", ".", "..", "a b", "é", "a/b", "../../x", "\x00", string(make([]byte, 300)), "good", "a.b", "a_b", "__consumer_offsets"}
	keys := []string{"retention.ms", "cleanup.policy", "segment.bytes", "no.such.key", "", "compression.type", "durability", "max.message.bytes"}
	values := []*string{nil, text(""), text("-2"), text("nonsense"), text("99999999999999999999"), text("delete,,compact"), text(string(make([]byte, 10_000)))}
	q := &wire.CreateTopicsRequest{TimeoutMs: 100, ValidateOnly: r.IntN(2) == 0}
	for range 1 + r.IntN(3) {
		topic := wire.CreateTopicsRequestCreatableTopic{
			Name: names[r.IntN(len(names))], NumPartitions: []int32{0, -2, math.MaxInt32, math.MinInt32, 10_001, 1}[r.IntN(6)],
			ReplicationFactor: []int16{0, -2, 2, math.MaxInt16, 1}[r.IntN(5)],
		}
		for range r.IntN(3) {
			topic.Configs = append(topic.Configs, wire.CreateTopicsRequestCreatableTopicConfig{Name: keys[r.IntN(len(keys))], Value: values[r.IntN(len(values))]})
		}
		q.Topics = append(q.Topics, topic)
	}
	b, err := wire.AppendRequest(nil, wire.RequestHeader{Version: 5 + int16(r.IntN(3)), CorrelationID: 1}, q)
	if err != nil {
		panic(err)
	}
	return b
}
