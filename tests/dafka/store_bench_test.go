//go:build unix

package dafka

import (
	"context"
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/dafka"
	"github.com/barnabas-log/barnabas/dafka/store"
	"github.com/barnabas-log/barnabas/dafka/tower"
	"github.com/barnabas-log/barnabas/internal/vfs"
)

// benchmarkMesh is a tower and a store on a real disk, or in memory.
func benchmarkMesh(b *testing.B, fs vfs.FS, sync bool) (*dafka.Config, *store.Store) {
	c := dafka.DefaultConfig()
	c.Tower.Sub, c.Tower.Pub, c.Beacon.Bind, c.Beacon.Address = "tcp://127.0.0.1:*", "tcp://127.0.0.1:*", "tcp://127.0.0.1:*", "127.0.0.1"
	tw, err := tower.New(c, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = tw.Close(context.Background()) })
	c.Beacon.Sub, c.Beacon.Pub = []string{tw.Sub()}, []string{tw.Pub()}
	c.Store.DB, c.Store.Sync, c.Consumer.Reset = b.TempDir(), sync, dafka.Earliest
	c.Producer.BackPressure = true
	s, err := store.New(c, store.Options{FS: fs})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close(context.Background()) })
	return c, s
}

func benchmarkPublish(b *testing.B, c *dafka.Config, n, size int) *dafka.Producer {
	p, err := dafka.NewProducer("bench", dafka.ProducerOptions{Config: c})
	if err != nil {
		b.Fatal(err)
	}
	record := make([]byte, size)
	for range n {
		if _, err := p.Publish(context.Background(), record); err != nil {
			b.Fatal(err)
		}
	}
	return p
}

// BenchmarkStore publishes until everything is acknowledged: one iteration is one
// record.
func BenchmarkStore(b *testing.B) {
	for _, size := range []int{100, 1024} {
		for _, sync := range []bool{true, false} {
			b.Run(fmt.Sprintf("size=%d/fsync=%v", size, sync), func(b *testing.B) {
				c, s := benchmarkMesh(b, nil, sync)
				benchmarkFlush(b, benchmarkPublish(b, c, 1, size))
				began := cpu()
				b.ResetTimer()
				p := benchmarkPublish(b, c, b.N, size)
				benchmarkFlush(b, p)
				report(b, began)
				b.ReportMetric(float64(s.Stats().Syncs), "syncs")
				_ = p.Close(ended())
			})
		}
	}
}

func benchmarkFlush(b *testing.B, p *dafka.Producer) {
	if err := p.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
}

// cpu is what the whole process, producer, store and consumer, has used.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func report(b *testing.B, since time.Duration) {
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(cpu()-since)/float64(b.N), "cpu-ns/op")
}

// BenchmarkCatchUp reads what a producer that is gone has left with a store.
func BenchmarkCatchUp(b *testing.B) {
	for _, size := range []int{100, 1024} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			c, _ := benchmarkMesh(b, nil, false)
			p := benchmarkPublish(b, c, b.N, size)
			if err := p.Close(context.Background()); err != nil {
				b.Fatal(err)
			}
			runtime.GC()
			got, done := 0, make(chan struct{})
			began := cpu()
			b.ResetTimer()
			consumer, err := dafka.NewConsumer(dafka.ConsumerOptions{Config: c, Sink: func(records []dafka.Record) {
				if got += len(records); got == b.N {
					close(done)
				}
			}})
			if err != nil {
				b.Fatal(err)
			}
			if err := consumer.Subscribe("bench"); err != nil {
				b.Fatal(err)
			}
			<-done
			report(b, began)
			_ = consumer.Close(ended())
		})
	}
}

// BenchmarkLive reads what a producer publishes meanwhile, and a store keeps.
func BenchmarkLive(b *testing.B) {
	for _, size := range []int{100, 1024} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			c, _ := benchmarkMesh(b, nil, false)
			got, begun, done := 0, make(chan struct{}), make(chan struct{})
			consumer, err := dafka.NewConsumer(dafka.ConsumerOptions{Config: c, Sink: func(records []dafka.Record) {
				if got == 0 {
					close(begun)
				}
				if got += len(records); got == b.N+1 {
					close(done)
				}
			}})
			if err != nil {
				b.Fatal(err)
			}
			if err := consumer.Subscribe("bench"); err != nil {
				b.Fatal(err)
			}
			p := benchmarkPublish(b, c, 1, size)
			<-begun // They are connected.
			record, began := make([]byte, size), cpu()
			b.ResetTimer()
			for range b.N {
				if _, err := p.Publish(context.Background(), record); err != nil {
					b.Fatal(err)
				}
			}
			<-done
			report(b, began)
			_, _ = consumer.Close(ended()), p.Close(ended())
		})
	}
}
