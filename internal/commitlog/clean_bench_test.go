package commitlog

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/record"
)

// BenchmarkClean compacts 256 MiB of records of 1 KiB, a tenth of whose keys
// are different, on the disk of this machine; a pass reads all of it twice. MB/s
// is of the log.
func BenchmarkClean(b *testing.B) {
	for _, keys := range []int{10, 1} {
		b.Run(fmt.Sprintf("1of%d", keys), func(b *testing.B) { benchClean(b, keys) })
	}
}

func benchClean(b *testing.B, repeats int) {
	const records, perBatch, valueBytes = 256 << 10, 16, 1000
	rng := rand.New(rand.NewPCG(1, 1))
	value := make([]byte, valueBytes)
	for i := range value {
		value[i] = byte(rng.Uint32())
	}
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		l, err := Open(vfs.OS{}, dir, Options{SegmentBytes: 64 << 20})
		if err != nil {
			b.Fatal(err)
		}
		builder := record.NewBuilder(record.BuilderOptions{})
		for i := 0; i < records; i += perBatch {
			builder.Reset(record.BuilderOptions{})
			for k := range perBatch {
				key := binary.BigEndian.AppendUint64(nil, uint64((i+k)%(records/repeats)))
				if err := builder.Add(record.Record{Timestamp: 1000, Key: key, Value: value}); err != nil {
					b.Fatal(err)
				}
			}
			_, batch, err := builder.Build(nil)
			if err != nil {
				b.Fatal(err)
			}
			if _, _, err := l.Append(batch, 0, testNow); err != nil {
				b.Fatal(err)
			}
		}
		seal(b, l)
		m, err := NewOffsetMap(128<<20, 0.9)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(l.Size())
		b.StartTimer()
		_, err = l.Clean(b.Context(), CleanOptions{
			CleanScope: CleanScope{Limit: l.End(), Mark: anyMark(l)}, Committed: l.End(), Now: testNow, DeleteRetention: time.Hour, Map: m,
		})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		l.Close()
		b.StartTimer()
	}
}

func BenchmarkOffsetMap(b *testing.B) {
	m, err := NewOffsetMap(128<<20, 0.9)
	if err != nil {
		b.Fatal(err)
	}
	m.Reset(1 << 40)
	var key [16]byte
	n := uint64(0)
	for ; ; n++ {
		binary.BigEndian.PutUint64(key[:], n)
		if !m.Put(key[:], 1) {
			break
		}
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for name, most := range map[string]uint64{"hit": n, "miss": 1 << 60} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				binary.BigEndian.PutUint64(key[:], rng.Uint64N(most))
				m.Get(key[:])
			}
		})
	}
}
