package record_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// sized builds a batch with values of the given sizes, of letters that compress
// some four times.
func sized(t testing.TB, c record.Codec, sizes ...int) record.Batch {
	t.Helper()
	random := rand.New(rand.NewPCG(1, uint64(len(sizes))))
	b := record.NewBuilder(record.BuilderOptions{Codec: c})
	for i, n := range sizes {
		value := make([]byte, n)
		for j := range value {
			value[j] = "ACGT"[random.IntN(4)]
		}
		r := record.Record{Timestamp: int64(1000 + i%7), Value: value, Headers: []record.Header{{Key: "n", Value: []byte("v")}, {Key: "m"}}}
		if i%3 > 0 {
			r.Key = value[:n/5]
		}
		if err := b.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	_, batch, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

// What Check learns of a batch does not depend on how it is packed, wherever
// the borders of its records lie in the pieces it is unpacked by.
func TestCheckUnpacksInPieces(t *testing.T) {
	const window = 256 << 10
	f := func(name string, sizes ...int) {
		t.Helper()
		plain := sized(t, record.None, sizes...)
		want, err := record.Check(plain, record.CheckOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for c := record.Gzip; c <= record.Zstd; c++ {
			packed := sized(t, c, sizes...)
			got, err := record.Check(packed, record.CheckOptions{})
			if err != nil || got != want {
				t.Errorf("%s, %s: %+v, %v; want %+v", name, c, got, err, want)
			}
			if _, err := record.Check(packed, record.CheckOptions{KeysRequired: true}); err == nil {
				t.Errorf("%s, %s: records without keys were not found", name, c)
			}
		}
	}
	f("small", 1, 2, 3)
	f("many small", repeat(100, 20_000)...)
	f("a window and a bit", repeat(1000, 300)...)
	f("one huge", 3*window)
	f("huge among small", 10, window, 10, 5*window+1, 10, 10, 2*window, 10)
	for n := window - 60; n < window+20; n += 7 { // The border falls into every field.
		f("border", n, 5, 7)
	}
}

// Zstd that packs well is read without a size in the frame, as Java writes it,
// whatever room was there first.
func TestDecompressZstdOfNoSize(t *testing.T) {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 1, 60_000, 64 << 10, 70_000, 129 << 10, 900_000, 5 << 20} {
		var packed bytes.Buffer
		z.Reset(&packed)
		for left := size; left > 0; left -= min(left, 1000) { // A stream does not know its size.
			if _, err := z.Write(make([]byte, min(left, 1000))); err != nil {
				t.Fatal(err)
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		buf, err := record.Decompress(record.Zstd, packed.Bytes(), 0)
		if err != nil || len(buf.Bytes()) != size {
			t.Fatalf("%d bytes in %d: %v", size, packed.Len(), err)
		}
		buf.Release()
		if _, err := record.Decompress(record.Zstd, packed.Bytes(), size-1); size > 1 && !errors.Is(err, record.ErrTooBig) {
			t.Errorf("%d bytes, one less allowed: %v", size, err)
		}
	}
}

func repeat(size, n int) []int {
	sizes := make([]int, n)
	for i := range sizes {
		sizes[i] = size
	}
	return sizes
}

// A lie deep within a batch is found, and told as it is in a small one.
func TestCheckFindsLiesInLargeBatches(t *testing.T) {
	f := func(name string, at func(records []byte) int, to ...byte) {
		t.Helper()
		for c := record.Gzip; c <= record.Zstd; c++ {
			plain := sized(t, record.None, 10, 900_000, 10)
			records := bytes.Clone(plain.Payload())
			copy(records[at(records):], to)
			packed, err := record.Compress(c, record.DefaultLevel, nil, records)
			if err != nil {
				t.Fatal(err)
			}
			b := rewrap(plain, c, packed)
			if _, err := record.Check(b, record.CheckOptions{}); kafkaCode(err) != 87 {
				t.Errorf("%s, %s: %v", name, c, err)
			}
		}
	}
	second := func(skip int) func(r []byte) int {
		return func(r []byte) int { return 1 + int(r[0])/2 + skip }
	}
	last := func(back int) func(r []byte) int { return func(r []byte) int { return len(r) - back } }
	f("size too large", second(0), 0xfe, 0xff, 0xff, 0xff, 0x0f)
	f("size too small", second(0), 0x80, 0xb5, 0x6d)
	f("key too long", second(7), 0xfe, 0xff, 0xff, 0xff, 0x0f)
	f("negative size at the end", last(29), 0x01)
	f("bytes after the last", func(r []byte) int { return 0 }, 0x02)
}

// Large plain snappy blocks, of which one is unpacked at a time: sound and
// broken ones give their memory back.
func TestCheckLargeSnappyBlocks(t *testing.T) {
	plain := sized(t, record.None, 12<<20)
	block := s2.EncodeSnappy(nil, plain.Payload())
	for i := range 6 {
		b, want := rewrap(plain, record.Snappy, block), 0
		if i%2 == 1 {
			b, want = rewrap(plain, record.Snappy, block[:len(block)-9]), -1
		}
		if _, err := record.Check(b, record.CheckOptions{}); kafkaCode(err) != want {
			t.Errorf("%d: %v, want %d", i, err, want)
		}
		buf, err := record.Decompress(record.Snappy, b.Payload(), 0)
		if (err != nil) != (want != 0) {
			t.Errorf("%d: %v", i, err)
		}
		buf.Release()
	}
	large := sized(t, record.None, 17<<20)
	b := rewrap(large, record.Snappy, s2.EncodeSnappy(nil, large.Payload()))
	if _, err := record.Check(b, record.CheckOptions{}); kafkaCode(err) != 10 {
		t.Errorf("a block of 17 MiB: %v", err)
	}
}

// rewrap gives a batch other records, compressed already.
func rewrap(b record.Batch, c record.Codec, payload []byte) record.Batch {
	out := append(bytes.Clone(b[:record.HeaderSize]), payload...)
	n := len(out) - 12
	out[8], out[9], out[10], out[11] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
	out[22] = out[22]&^7 | byte(c)
	record.Batch(out).UpdateCRC()
	return out
}

// A batch that unpacks to 100 MiB costs a window and a decoder, sound or not:
// one huge record, many small ones, and no records at all.
func TestCheckBombsCostAWindow(t *testing.T) {
	header := sized(t, record.None, 1)
	for c := record.Gzip; c <= record.Zstd; c++ {
		huge, err := record.Compress(c, 1, nil, make([]byte, 100<<20))
		if err != nil {
			t.Fatal(err)
		}
		costs(t, c.String()+" zeros", 14<<20, func() {
			if _, err := record.Check(rewrap(header, c, huge), record.CheckOptions{}); kafkaCode(err) != 87 {
				t.Errorf("%s: %v", c, err)
			}
		})
		b := record.NewBuilder(record.BuilderOptions{Codec: c})
		if err := b.Add(record.Record{Value: make([]byte, 60<<20)}); err != nil {
			t.Fatal(err)
		}
		_, one, err := b.Build(nil)
		if err != nil {
			t.Fatal(err)
		}
		costs(t, c.String()+" one record", 14<<20, func() {
			if info, err := record.Check(one, record.CheckOptions{}); err != nil || info.Size < 60<<20 {
				t.Errorf("%s: %+v, %v", c, info, err)
			}
		})
	}
}

// Batches of many pieces are packed anew as they are unpacked.
func TestRecompressInPieces(t *testing.T) {
	for from := record.None; from <= record.Zstd; from++ {
		b := sized(t, from, 10, 700_000, 10, 400_000, 10)
		want := collect(t, b)
		for to := record.None; to <= record.Zstd; to++ {
			again, err := record.Recompress(b, to, record.DefaultLevel, 0)
			if err != nil || again.Codec() != to {
				t.Fatalf("%s to %s: %v", from, to, err)
			}
			if _, err := record.Check(again, record.CheckOptions{}); err != nil {
				t.Errorf("%s to %s: %v", from, to, err)
			}
			if !reflect.DeepEqual(collect(t, again), want) {
				t.Errorf("%s to %s: records differ", from, to)
			}
			if _, err := record.Recompress(b, to, record.DefaultLevel, len(again)-1); !errors.Is(err, record.ErrTooBig) {
				t.Errorf("%s to %s: one byte less: %v", from, to, err)
			}
		}
	}
}

// FirstSince finds what a look at all records finds, packed or not, with gaps
// as compaction leaves them.
func TestFirstSince(t *testing.T) {
	for c := record.None; c <= record.Zstd; c++ {
		b := record.NewBuilder(record.BuilderOptions{BaseOffset: 100, Codec: c})
		var all []record.Record
		for i := range 24 {
			r := record.Record{Offset: model.Offset(100 + 3*i), Timestamp: int64(1000 + i*7919%50), Value: make([]byte, 10+i%4*100_000)}
			all = append(all, r)
			if err := b.AddAt(r); err != nil {
				t.Fatal(err)
			}
		}
		_, batch, err := b.Build(nil)
		if err != nil {
			t.Fatal(err)
		}
		for ts := int64(998); ts < 1052; ts++ {
			for _, from := range []model.Offset{0, 100, 101, 150, 217, 300} {
				i := slices.IndexFunc(all, func(r record.Record) bool { return r.Timestamp >= ts && r.Offset >= from })
				at, stamp, ok, err := batch.FirstSince(ts, from)
				if err != nil || ok != (i >= 0) || ok && (at != all[i].Offset || stamp != all[i].Timestamp) {
					t.Fatalf("%s: FirstSince(%d, %d) = %d, %d, %t, %v; want record %d", c, ts, from, at, stamp, ok, err, i)
				}
			}
		}
	}
}

// More bombs than turns: all are answered, and every turn comes back.
func TestCheckTakesTurns(t *testing.T) {
	var all sync.WaitGroup
	for i := range 40 {
		c := record.Gzip + record.Codec(i%4)
		b := sized(t, c, 300_000, 10, 300_000)
		if i%8 > 4 { // Broken behind the first window.
			b = rewrap(b, c, b.Payload()[:len(b.Payload())-1000])
		}
		all.Go(func() {
			if _, err := record.Check(b, record.CheckOptions{}); (err != nil) != (i%8 > 4) {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	all.Wait()
}

// A frame that claims a wider window than is kept is read all the same, as
// producers with zstd levels above 19 write them.
func TestCheckWideZstd(t *testing.T) {
	f := func(size, want int) {
		t.Helper()
		b := sized(t, record.None, size)
		var raw []byte
		records := b.Payload()
		raw = append(raw, 0x28, 0xb5, 0x2f, 0xfd, 0, 17<<3) // No size, a window of 128 MiB.
		for len(records) > 0 {
			n := min(len(records), 128<<10)
			last := 0
			if n == len(records) {
				last = 1
			}
			h := n<<3 | last // A raw block.
			raw = append(append(raw, byte(h), byte(h>>8), byte(h>>16)), records[:n]...)
			records = records[n:]
		}
		_, err := record.Check(rewrap(b, record.Zstd, raw), record.CheckOptions{})
		if got := kafkaCode(err); got != want {
			t.Errorf("%d bytes: %d, want %d: %v", size, got, want, err)
		}
	}
	f(1000, 0)
	f(300_000, 0)
	f(15<<20, 0)
	f(20<<20, 0)
	// What does refer back further than is kept is refused.
	random := make([]byte, 9<<20)
	for i, r := 0, rand.New(rand.NewPCG(1, 2)); i < len(random); i += 8 {
		binary.LittleEndian.PutUint64(random[i:], r.Uint64())
	}
	b := record.NewBuilder(record.BuilderOptions{})
	if err := b.Add(record.Record{Value: append(random, random[:1<<20]...)}); err != nil {
		t.Fatal(err)
	}
	_, plain, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, window := range []int{8 << 20, 16 << 20} {
		z, err := zstd.NewWriter(nil, zstd.WithWindowSize(window), zstd.WithEncoderLevel(zstd.SpeedBestCompression))
		if err != nil {
			t.Fatal(err)
		}
		packed := z.EncodeAll(plain.Payload(), nil)
		_, err = record.Check(rewrap(plain, record.Zstd, packed), record.CheckOptions{})
		if (err != nil) != (window > 8<<20) {
			t.Errorf("window %d, %d bytes: %v", window, len(packed), err)
		}
	}
}

// A batch of a Java producer whose one record unpacks from 360 bytes to
// 900,014: the decoder with a limit calls its blocks too large.
func TestCheckJavaZstd(t *testing.T) {
	b, err := os.ReadFile("testdata/java-zstd-900014.batch")
	if err != nil {
		t.Fatal(err)
	}
	info, err := record.Check(record.Batch(b), record.CheckOptions{Name: "t-0"})
	if err != nil || info.Count != 1 || info.Size < 900_000 {
		t.Errorf("got %+v, %v", info, err)
	}
}
