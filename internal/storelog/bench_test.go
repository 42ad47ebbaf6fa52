package storelog

import (
	"fmt"
	"testing"

	"github.com/barnabas-log/barnabas/internal/fabric"
)

// BenchmarkAppend appends runs of one partition: one iteration is one record.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{100, 1024} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			l := benchmarkLogs(b, Options{})
			contents := make([][]byte, 10_000)
			for i := range contents {
				contents[i] = make([]byte, size)
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for done := 0; done < b.N; {
				n := min(len(contents), b.N-done)
				if o := l.Append([]fabric.Run{{Partition: part("a", "P"), First: uint64(done), Contents: contents[:n]}}); o[0].Err != nil {
					b.Fatal(o[0].Err)
				}
				done += n
			}
		})
	}
}

// BenchmarkPartitions makes partitions of one record, and opens them again: one
// iteration is one of them.
func BenchmarkPartitions(b *testing.B) {
	dir := b.TempDir()
	l, err := Open(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	for done := 0; done < b.N; {
		var runs []fabric.Run
		for range min(1000, b.N-done) {
			runs = append(runs, run(part("a", fmt.Sprint(done+len(runs))), 0, 1))
		}
		for _, o := range l.Append(runs) {
			if o.Err != nil {
				b.Fatal(o.Err)
			}
		}
		done += len(runs)
	}
	made := b.Elapsed()
	b.ReportMetric(float64(made.Nanoseconds())/float64(b.N), "made-ns/op")
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	closed := b.Elapsed()
	b.ReportMetric(float64((closed-made).Nanoseconds())/float64(b.N), "closed-ns/op")
	if l, err = Open(dir, Options{Sync: true}); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64((b.Elapsed()-closed).Nanoseconds())/float64(b.N), "opened-ns/op")
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}

func benchmarkLogs(b *testing.B, o Options) *Logs {
	l, err := Open(b.TempDir(), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	return l
}
