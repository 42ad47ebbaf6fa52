package record_test

import (
	"bytes"
	"math/bits"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// Batches that MemoryRecords.filterTo of kafka-clients 4.4.0 filtered: name,
// bit mask of the records to be kept, whether the batch is the marker of
// nothing, clock, delete.retention.ms, whether it is kept if empty, the batch,
// what was left.
func TestSiftLikeKafka(t *testing.T) {
	cases := 0
	for line := range lines(t, "testdata/kafka-4.4.0-filtered.txt") {
		f := strings.Split(line, "\t")
		mask, now, retention := number(t, f[1]), number(t, f[3]), number(t, f[4])
		in, want := record.Batch(unhex(t, f[6])), record.Batch(unhex(t, f[7]))
		var s record.Sieve
		got, r, err := s.Sift([]byte("before"), in, record.SiftOptions{Horizon: now + retention, Marker: f[2] == "true"}, nth(mask))
		if err != nil {
			t.Fatalf("%s: %v", f[0], err)
		}
		got = got[len("before"):]
		switch {
		case r.Same:
			got = in
		case r.Kept == 0 && f[5] == "true":
			got = record.AppendEmptied(nil, in)
		}
		if int(r.Kept) != bits.OnesCount64(uint64(mask)&(1<<in.Count()-1)) || r.Read != in.Count() {
			t.Errorf("%s: %+v", f[0], r)
		}
		if err := sameBatch(got, want); err != "" {
			t.Errorf("%s, mask %b: %s\n got %x\nwant %x", f[0], mask, err, got, want)
		}
		cases++
	}
	if cases < 50 {
		t.Errorf("%d cases", cases)
	}
}

func number(t testing.TB, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// nth keeps the records whose bits are set.
func nth(mask int64) func(record.Item) bool {
	n := -1
	return func(record.Item) bool {
		n++
		return mask>>n&1 == 1
	}
}

// sameBatch compares byte by byte, or, what two compressors made, the header
// and the records.
func sameBatch(got, want record.Batch) string {
	if len(got) == 0 || len(want) == 0 || want.Codec() == record.None {
		if !bytes.Equal(got, want) {
			return "bytes differ"
		}
		return ""
	}
	a, b := slices.Clone(got[:record.HeaderSize]), slices.Clone(want[:record.HeaderSize])
	clear(a[8:12])
	clear(a[17:21])
	clear(b[8:12])
	clear(b[17:21])
	if !bytes.Equal(a, b) {
		return "headers differ"
	}
	if got.CRC() != got.ComputeCRC() {
		return "checksum"
	}
	var x, y []record.Record
	for r, err := range got.Records(0) {
		if err != nil {
			return err.Error()
		}
		x = append(x, r)
	}
	for r, err := range want.Records(0) {
		if err != nil {
			return err.Error()
		}
		y = append(y, r)
	}
	if !reflect.DeepEqual(x, y) {
		return "records differ"
	}
	return ""
}

// What is kept is what was there, at its offset and time, with its key, value
// and headers; a second sieve that keeps all changes nothing.
func TestSift(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := record.BuilderOptions{
			BaseOffset: model.Offset(rapid.Int64Range(0, 1<<40).Draw(t, "base")), Codec: record.Codec(rapid.IntRange(0, 4).Draw(t, "codec")),
			LogAppendTime: rapid.Bool().Draw(t, "append time"), Transactional: rapid.Bool().Draw(t, "transactional"),
		}
		b := record.NewBuilder(o)
		at := o.BaseOffset
		for range rapid.IntRange(1, 30).Draw(t, "records") {
			if err := b.AddAt(anyRecord(t, at)); err != nil {
				t.Fatal(err)
			}
			at += model.Offset(rapid.IntRange(1, 5).Draw(t, "gap"))
		}
		_, in, err := b.Build(nil)
		if err != nil {
			t.Fatal(err)
		}
		mask := rapid.Int64().Draw(t, "mask")
		horizon := rapid.Int64Range(-1, 1<<42).Draw(t, "horizon")
		var s record.Sieve
		out, r, err := s.Sift(nil, in, record.SiftOptions{Horizon: horizon}, nth(mask))
		if err != nil {
			t.Fatal(err)
		}
		var want []record.Record
		tombstones := false
		for i, x := range slices.Collect(values(t, in)) {
			if mask>>i&1 == 1 {
				want = append(want, x)
				tombstones = tombstones || x.Value == nil
			}
		}
		if len(want) == 0 {
			if r.Kept != 0 || len(out) != 0 {
				t.Fatalf("%+v, %d bytes", r, len(out))
			}
			return
		}
		left := record.Batch(out)
		if r.Same {
			left = in
		}
		if got := slices.Collect(values(t, left)); !reflect.DeepEqual(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		if left.BaseOffset() != in.BaseOffset() || left.LastOffset() != in.LastOffset() || left.CRC() != left.ComputeCRC() {
			t.Fatalf("header %x of %x", left[:61], in[:61])
		}
		if set, ok := left.DeleteHorizon(); ok != (tombstones && horizon >= 0) || ok && set != horizon {
			t.Fatalf("horizon %d %v, want %d", set, ok, horizon)
		}
		if _, again, err := s.Sift(nil, left, record.SiftOptions{Horizon: -1}, func(record.Item) bool { return true }); err != nil || !again.Same {
			t.Fatalf("again: %+v %v", again, err)
		}
	})
}

func values(t *rapid.T, b record.Batch) func(func(record.Record) bool) {
	return func(yield func(record.Record) bool) {
		for r, err := range b.Records(0) {
			if err != nil {
				t.Fatal(err)
			}
			if !yield(r) {
				return
			}
		}
	}
}

// No input makes a sieve panic; what it makes of a batch that Records reads can
// be read, too.
func FuzzSift(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		b, _, err := record.Next(data)
		if err != nil || len(b) > 1<<20 {
			return
		}
		readable := true
		n := 0
		for _, err := range b.Records(0) {
			readable = readable && err == nil
			n++
		}
		var s record.Sieve
		i := 0
		out, r, err := s.Sift(nil, b, record.SiftOptions{Horizon: 5}, func(record.Item) bool { i++; return i%3 > 0 })
		if err != nil {
			if readable {
				t.Fatalf("%d records can be read, not sifted: %v", n, err)
			}
			return
		}
		if !readable || r.Same || r.Kept == 0 {
			return
		}
		got := int32(0)
		for _, err := range record.Batch(out).Records(0) {
			if err != nil {
				t.Fatal(err)
			}
			got++
		}
		if got != r.Kept {
			t.Fatalf("%d records, want %d", got, r.Kept)
		}
		if e := record.Batch(record.AppendEmptied(nil, b)); len(e) != record.HeaderSize || e.Count() != 0 || e.CRC() != e.ComputeCRC() {
			t.Fatalf("emptied: %x", e)
		}
	})
}

func BenchmarkSift(b *testing.B) {
	batch := fill(b, record.None, 16, 1024)
	for name, mask := range map[string]int64{"all": -1, "half": 0x5555} {
		b.Run(name, func(b *testing.B) {
			var s record.Sieve
			var out []byte
			b.SetBytes(int64(len(batch)))
			b.ReportAllocs()
			for b.Loop() {
				n := -1
				var err error
				if out, _, err = s.Sift(out[:0], batch, record.SiftOptions{Horizon: -1}, func(record.Item) bool { n++; return mask>>n&1 == 1 }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
