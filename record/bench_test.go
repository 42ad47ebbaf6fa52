package record_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/barnabas-log/barnabas/record"
)

// fill builds a batch of n records with values of size bytes.
func fill(t testing.TB, c record.Codec, n, size int) record.Batch {
	t.Helper()
	b := record.NewBuilder(record.BuilderOptions{Codec: c})
	for i := range n {
		value := bytes.Repeat([]byte(fmt.Sprintf("%08d ", i)), size/9+1)[:size]
		if err := b.Add(record.Record{Timestamp: int64(1_700_000_000_000 + i), Value: value}); err != nil {
			t.Fatal(err)
		}
	}
	_, batch, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

func BenchmarkCheck(b *testing.B) {
	for _, size := range []int{100, 1024} {
		for c := record.None; c <= record.Zstd; c++ {
			b.Run(fmt.Sprintf("%d/%s", size, c), func(b *testing.B) {
				n := 256 << 10 / size
				batch := fill(b, c, n, size)
				b.SetBytes(int64(n * size))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := record.Check(batch, record.CheckOptions{Name: "t-0", Now: 1_700_000_000_000}); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/record")
			})
		}
	}
}

func BenchmarkCheckHeader(b *testing.B) {
	batch := fill(b, record.None, 2600, 100)
	b.SetBytes(int64(len(batch)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := record.Check(batch, record.CheckOptions{Validation: record.HeaderOnly}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/2600, "ns/record")
}
