package record_test

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

func build(t testing.TB, o record.BuilderOptions, rs ...record.Record) record.Batch {
	t.Helper()
	b := record.NewBuilder(o)
	for _, r := range rs {
		if err := b.AddAt(r); err != nil {
			t.Fatal(err)
		}
	}
	_, batch, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

// What Check changes in the header, and that the checksum follows.
func TestCheckRewrites(t *testing.T) {
	const now = 5_000
	f := func(name string, change func(b []byte), o record.CheckOptions, want record.Info, wantLAT bool) {
		t.Helper()
		for c := record.None; c <= record.Zstd; c++ {
			b := build(t, record.BuilderOptions{Codec: c}, record.Record{Offset: 0, Timestamp: 100, Value: []byte("a")},
				record.Record{Offset: 1, Timestamp: 300, Value: []byte("b")}, record.Record{Offset: 2, Timestamp: 200, Value: []byte("c")})
			change(b)
			b.UpdateCRC()
			o.Now = now
			info, err := record.Check(b, o)
			if err != nil {
				t.Errorf("%s/%s: %v", name, c, err)
				continue
			}
			want.Count, info.Size = 3, 0
			if diff := cmp.Diff(want, info); diff != "" {
				t.Errorf("%s/%s: (-want +got)\n%s", name, c, diff)
			}
			if b.CRC() != b.ComputeCRC() || b.MaxTimestamp() != want.MaxTimestamp || b.IsLogAppendTime() != wantLAT {
				t.Errorf("%s/%s: header: max %d, append time %v, crc %v", name, c, b.MaxTimestamp(), b.IsLogAppendTime(), b.CRC() == b.ComputeCRC())
			}
		}
	}
	nothing := func([]byte) {}
	max9 := func(b []byte) { copy(b[35:43], []byte{0, 0, 0, 0, 0, 0, 0, 9}) }
	claim := func(b []byte) { b[22] |= 8 }
	f("as it is", nothing, record.CheckOptions{}, record.Info{MaxTimestamp: 300, MaxTimestampDelta: 1}, false)
	f("wrong maximum", max9, record.CheckOptions{}, record.Info{MaxTimestamp: 300, MaxTimestampDelta: 1, Rewritten: true}, false)
	f("wrong maximum, header only", max9, record.CheckOptions{Validation: record.HeaderOnly}, record.Info{MaxTimestamp: 9, MaxTimestampDelta: 2}, false)
	f("append time", nothing, record.CheckOptions{LogAppendTime: true}, record.Info{MaxTimestamp: now, MaxTimestampDelta: 2, Rewritten: true}, true)
	f("claimed append time", claim, record.CheckOptions{}, record.Info{MaxTimestamp: 300, MaxTimestampDelta: 0, Rewritten: true}, false)
}

// As in Kafka 4.4.0, max.decompressed.message.bytes bounds each record of a
// compressed batch, not the batch, and not what is uncompressed.
func TestCheckMaxDecompressed(t *testing.T) {
	f := func(c record.Codec, n, value, want int) {
		t.Helper()
		var rs []record.Record
		for i := range n {
			rs = append(rs, record.Record{Offset: model.Offset(i), Value: make([]byte, value)})
		}
		_, err := record.Check(build(t, record.BuilderOptions{Codec: c}, rs...), record.CheckOptions{MaxDecompressed: 1000})
		if got := kafkaCode(err); got != want {
			t.Errorf("%s: %d records of %d bytes: code %d, want %d: %v", c, n, value, got, want, err)
		}
	}
	f(record.None, 1, 1500, 0)
	f(record.None, 20, 100, 0)
	for c := record.Gzip; c <= record.Zstd; c++ {
		f(c, 20, 100, 0)
		f(c, 1, 993, 0)
		f(c, 1, 995, 87)
		f(c, 1, 1500, 87)
	}
}

// A million bad records are not answered by a million texts.
func TestCheckBoundsRecordErrors(t *testing.T) {
	b := record.NewBuilder(record.BuilderOptions{})
	for range 50_000 {
		if err := b.Add(record.Record{}); err != nil {
			t.Fatal(err)
		}
	}
	_, batch, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = record.Check(batch, record.CheckOptions{KeysRequired: true})
	var e *record.Error
	if !errors.As(err, &e) || len(e.Records) != 1000 || !strings.Contains(e.Message, "due to 50000 record errors") {
		t.Errorf("%v with %d records", e, len(e.Records))
	}
}

func TestCheckAllocatesNothing(t *testing.T) {
	batch := fill(t, record.None, 1000, 100)
	n := testing.AllocsPerRun(20, func() {
		if _, err := record.Check(batch, record.CheckOptions{Name: "t-0", Now: 1_700_000_000_000, TimestampAfter: 3600_000}); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a batch", n)
	}
}

func anyRecord(t *rapid.T, offset model.Offset) record.Record {
	nullable := rapid.Custom(func(t *rapid.T) []byte {
		if rapid.Bool().Draw(t, "null") {
			return nil
		}
		n := rapid.SampledFrom([]int{0, 1, 5, 62, 63, 64, 65, 130, 8190, 8191, 8192, 20000}).Draw(t, "size")
		return bytes.Repeat([]byte{rapid.Byte().Draw(t, "byte")}, n)
	})
	r := record.Record{
		Offset: offset, Timestamp: rapid.Int64Range(-1, 1<<41).Draw(t, "timestamp"),
		Key: nullable.Draw(t, "key"), Value: nullable.Draw(t, "value"),
	}
	for range rapid.SampledFrom([]int{0, 0, 0, 1, 3}).Draw(t, "headers") {
		r.Headers = append(r.Headers, record.Header{Key: rapid.StringN(0, 9, -1).Draw(t, "name"), Value: nullable.Draw(t, "header")})
	}
	return r
}

// What is built passes Check, with the findings that a naive look gives, reads
// back the same, and survives being packed anew with any codec.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var want []record.Record
		maxTime, maxDelta := int64(math.MinInt64), int32(0)
		for i := range rapid.SampledFrom([]int{1, 2, 3, 70}).Draw(rt, "count") {
			r := anyRecord(rt, model.Offset(i))
			if r.Timestamp > maxTime {
				maxTime, maxDelta = r.Timestamp, int32(i)
			}
			want = append(want, r)
		}
		codec := record.Codec(rapid.IntRange(0, 4).Draw(rt, "codec"))
		b := build(t, record.BuilderOptions{Codec: codec, Level: rapid.SampledFrom([]int{0, 1, 9}).Draw(rt, "level")}, want...)
		info, err := record.Check(b, record.CheckOptions{})
		if err != nil {
			rt.Fatal(err)
		}
		if maxTime > -1 && (info.MaxTimestamp != maxTime || info.MaxTimestampDelta != maxDelta) || info.Rewritten {
			rt.Fatalf("found %+v, want maximum %d at %d", info, maxTime, maxDelta)
		}
		// cmp is too slow to be asked first.
		if got := collect(t, b); !reflect.DeepEqual(want, got) {
			rt.Fatalf("(-want +got)\n%s", cmp.Diff(want, got))
		}
		to := record.Codec(rapid.IntRange(0, 4).Draw(rt, "to"))
		again, err := record.Recompress(b, to, record.DefaultLevel, 0)
		if err != nil || again.Codec() != to || again.CRC() != again.ComputeCRC() {
			rt.Fatalf("recompressed to %s: %s, %v", to, again.Codec(), err)
		}
		if got := collect(t, again); !reflect.DeepEqual(want, got) {
			rt.Fatalf("recompressed: (-want +got)\n%s", cmp.Diff(want, got))
		}
	})
}

// Uncompressed records may have gaps; where the topic asks for another codec,
// they are numbered anew, as in Kafka.
func TestRecompressRenumbers(t *testing.T) {
	b := build(t, record.BuilderOptions{}, record.Record{Offset: 0, Timestamp: 1, Value: []byte("a")},
		record.Record{Offset: 5, Timestamp: 2, Value: []byte("b")})
	b[26] = 1
	b.UpdateCRC()
	if _, err := record.Check(b, record.CheckOptions{}); err != nil {
		t.Fatal(err)
	}
	again, err := record.Recompress(b, record.LZ4, record.DefaultLevel, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := []record.Record{{Offset: 0, Timestamp: 1, Value: []byte("a")}, {Offset: 1, Timestamp: 2, Value: []byte("b")}}
	if diff := cmp.Diff(want, collect(t, again)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// Every level that Kafka allows is taken, and the result read back.
func TestCompressLevels(t *testing.T) {
	src := bytes.Repeat([]byte("barnabas keeps a log. "), 5000)
	f := func(c record.Codec, levels ...int) {
		t.Helper()
		for _, level := range levels {
			packed, err := record.Compress(c, level, []byte("before"), src)
			if err != nil || !bytes.HasPrefix(packed, []byte("before")) {
				t.Errorf("%s/%d: %v", c, level, err)
				continue
			}
			buf, err := record.Decompress(c, packed[len("before"):], 0)
			if err != nil || !bytes.Equal(buf.Bytes(), src) {
				t.Errorf("%s/%d: %v", c, level, err)
			}
			buf.Release()
		}
	}
	f(record.None, 0)
	f(record.Gzip, record.DefaultLevel, -1, 1, 6, 9)
	f(record.Snappy, record.DefaultLevel)
	f(record.LZ4, record.DefaultLevel, 1, 2, 8, 9, 10, 17)
	f(record.Zstd, record.DefaultLevel, -131072, -1, 0, 1, 3, 6, 19, 22)
}

// Snappy as librdkafka and others write it: one block, no framing.
func TestDecompressPlainSnappy(t *testing.T) {
	buf, err := record.Decompress(record.Snappy, []byte{5, 4 << 2, 'h', 'e', 'l', 'l', 'o'}, 0)
	if err != nil || string(buf.Bytes()) != "hello" {
		t.Errorf("%v", err)
	}
	buf.Release()
}

// The limit is exact: what fills it is taken, one byte more is not.
func TestDecompressLimit(t *testing.T) {
	for c := record.None; c <= record.Zstd; c++ {
		for _, size := range []int{1, 1000, 64 << 10, 64<<10 + 1, 1 << 20, 3<<20 + 7} {
			packed, err := record.Compress(c, record.DefaultLevel, nil, bytes.Repeat([]byte("ab7"), size/3+1)[:size])
			if err != nil {
				t.Fatal(err)
			}
			buf, err := record.Decompress(c, packed, size)
			if err != nil || len(buf.Bytes()) != size {
				t.Errorf("%s, %d bytes: %v", c, size, err)
			}
			buf.Release()
			if _, err := record.Decompress(c, packed, size-1); size > 1 && !errors.Is(err, record.ErrTooBig) {
				t.Errorf("%s, %d bytes and one less allowed: %v", c, size, err)
			}
		}
	}
}

// A bomb of 64 MiB of zeros costs memory in proportion to the limit, whatever
// it claims about itself.
func TestBombsAreBounded(t *testing.T) {
	zeros := make([]byte, 64<<20)
	const limit = 2 << 20
	for c := record.Gzip; c <= record.Zstd; c++ {
		bomb, err := record.Compress(c, record.DefaultLevel, nil, zeros)
		if err != nil {
			t.Fatal(err)
		}
		costs(t, c.String(), 4*limit, func() {
			if _, err := record.Decompress(c, bomb, limit); !errors.Is(err, record.ErrTooBig) {
				t.Errorf("%s: %v", c, err)
			}
		})
	}
	liar := []byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0}
	costs(t, "snappy claim", 1<<20, func() {
		if _, err := record.Decompress(record.Snappy, liar, 0); !errors.Is(err, record.ErrCompressed) {
			t.Errorf("snappy claim: %v", err)
		}
	})
	// A zstd frame that says: single segment, 120 MiB content; and then ends.
	costs(t, "zstd claim", 2<<20, func() {
		if _, err := record.Decompress(record.Zstd, []byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0x80, 7, 1, 0, 0}, 0); err == nil {
			t.Error("zstd claim: no error")
		}
	})
}

// costs fails if what f allocates in all exceeds most bytes.
func costs(t *testing.T, name string, most uint64, f func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > most {
		t.Errorf("%s: allocated %d bytes, at most %d allowed", name, n, most)
	}
}

// Many bombs at once wait for each other, none is lost, and the slots come back.
func TestBombsTakeTurns(t *testing.T) {
	big, err := record.Compress(record.Zstd, 1, nil, make([]byte, 20<<20))
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			limit := 32 << 20
			if i%2 == 1 {
				limit = 16 << 20
			}
			buf, err := record.Decompress(record.Zstd, big, limit)
			if (err != nil) != (i%2 == 1) {
				t.Errorf("limit %d: %v", limit, err)
			}
			buf.Release()
		})
	}
	all.Wait()
}
