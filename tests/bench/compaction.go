package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	compactedBytes = 7e9 // Of records of 1 KiB.
	compactedKeys  = 400_000
	// windows is how often latency is measured before the pass and within it; the
	// median counts. Each takes windowSeconds.
	windows       = 3
	windowSeconds = 3
)

// rates are those of the producers beside the pass, in records a second.
var rates = []int{10_000, 2_000}

// compaction is what a pass of the cleaner makes of the latency of others, all
// settings at their defaults.
func compaction(ctx context.Context, b *broker) (cost, error) {
	const topic = "compacted"
	c, err := kgo.NewClient(kgo.SeedBrokers(b.addr), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MaxBufferedRecords(20_000))
	if err != nil {
		return cost{}, err
	}
	defer c.Close()
	x := &pass{topic: topic, client: c, admin: kadm.NewClient(c)}
	if err := x.fill(ctx); err != nil {
		return cost{}, err
	}
	syscall.Sync() // Else the disk would be busy with what was filled in while nothing else is.
	full, err := x.size(ctx)
	if err != nil {
		return cost{}, err
	}
	idle, err := latencies(b)
	if err != nil {
		return cost{}, err
	}
	began := time.Now()
	if err := x.begin(ctx); err != nil {
		return cost{}, err
	}
	beside, err := latencies(b)
	if err != nil {
		return cost{}, err
	}
	measured := time.Since(began)
	if err := x.await(ctx, full/2); err != nil {
		return cost{}, err
	}
	if time.Since(began) < measured+time.Second {
		return cost{}, fmt.Errorf("the pass ended within the %.0f s of the measurement: use a larger -scale", measured.Seconds())
	}
	said := ""
	for i, rate := range rates {
		said += fmt.Sprintf("%d/s: p99 %.2f ms, idle %.2f (%.1f ×)  ", rate, beside[i], idle[i], beside[i]/idle[i])
	}
	return cost{said: fmt.Sprintf("%spass %.0f s", said, time.Since(began).Seconds())}, nil
}

// latencies are the medians of p99 at each rate, in milliseconds, durable.
func latencies(b *broker) ([]float64, error) {
	var out []float64
	for _, rate := range rates {
		var all []float64
		for range windows {
			r, err := b.measure(load{
				args: []string{"latency", "--rate", strconv.Itoa(rate), "--seconds", strconv.Itoa(windowSeconds)},
				ours: "durability=fsync", kafkas: "flush.messages=1",
			})
			if err != nil {
				return nil, err
			}
			all = append(all, r.QuantileMs["p99"])
		}
		slices.Sort(all)
		out = append(out, all[windows/2])
	}
	return out, nil
}

// pass is a log that is compacted when it is told so.
type pass struct {
	topic  string
	client *kgo.Client
	admin  *kadm.Client
}

func (x *pass) fill(ctx context.Context) error {
	never, policy, segment, usual := "1", "compact", strconv.Itoa(64<<20), "60000" // Not what atOnce says.
	configs := map[string]*string{"cleanup.policy": &policy, "segment.bytes": &segment, "min.cleanable.dirty.ratio": &never, "file.delete.delay.ms": &usual}
	if _, err := x.admin.CreateTopic(ctx, 1, 1, configs, x.topic); err != nil {
		return err
	}
	var failed atomic.Pointer[error]
	r := rand.New(rand.NewPCG(1, 2))
	value := bytes.Repeat([]byte("x"), 1000)
	for range int(compactedBytes * *scale / 1024) {
		x.client.Produce(ctx, &kgo.Record{Key: strconv.AppendInt(nil, r.Int64N(compactedKeys), 10), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		})
	}
	if err := x.client.Flush(ctx); err != nil {
		return err
	}
	if p := failed.Load(); p != nil {
		return *p
	}
	return nil
}

// begin makes the log due.
func (x *pass) begin(ctx context.Context) error {
	soon, ratio := "100", "0.01"
	if _, err := x.admin.AlterBrokerConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "log.cleaner.backoff.ms", Value: &soon}}); err != nil {
		return err
	}
	_, err := x.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "min.cleanable.dirty.ratio", Value: &ratio}}, x.topic)
	return err
}

func (x *pass) size(ctx context.Context) (int64, error) {
	dirs, err := x.admin.DescribeAllLogDirs(ctx, nil)
	if err != nil {
		return 0, err
	}
	size := int64(0)
	dirs.Each(func(d kadm.DescribedLogDir) { size += d.Topics[x.topic][0].Size })
	return size, nil
}

// await waits until the log is no larger than that.
func (x *pass) await(ctx context.Context, bytes int64) error {
	for range 600 {
		if n, err := x.size(ctx); err != nil || n <= bytes {
			return err
		}
		time.Sleep(time.Second)
	}
	return fmt.Errorf("%s was not compacted", x.topic)
}
