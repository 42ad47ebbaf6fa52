package hostile

import (
	"context"
	"encoding/binary"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The good clients: producers, each with a partition of its own, and as many
// consumers.
const (
	pairs  = 5
	topic  = "good"
	atMost = time.Second // What a good client may wait for anything.
)

// clients are the good ones. They notice every error, also those that a client
// would hide by trying again.
type clients struct {
	t       *testing.T
	running sync.WaitGroup
	stop    atomic.Bool
	ended   context.CancelFunc

	produced, consumed atomic.Int64
	slowest            [2]atomic.Int64 // Nanoseconds: of a produce request; from produce to consume.
	disconnects        atomic.Int64
}

var _ interface {
	kgo.HookBrokerDisconnect
	kgo.HookBrokerE2E
} = (*clients)(nil)

// OnBrokerDisconnect counts what the broker may not do.
func (c *clients) OnBrokerDisconnect(kgo.BrokerMetadata, net.Conn) {
	if !c.stop.Load() {
		c.disconnects.Add(1)
	}
}

// OnBrokerE2E fails on every request that failed.
func (c *clients) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, e kgo.BrokerE2E) {
	if err := e.Err(); err != nil && !c.stop.Load() {
		c.t.Errorf("a good client's request %d failed: %v", key, err)
	}
}

func startClients(t *testing.T, addr string) *clients {
	ctx, cancel := context.WithCancel(context.Background())
	c := &clients{t: t, ended: cancel}
	for i := range int32(pairs) {
		c.running.Go(func() { c.produce(ctx, addr, i) })
		c.running.Go(func() { c.consume(ctx, addr, i) })
	}
	return c
}

func (c *clients) dial(addr string, more ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append(more, kgo.SeedBrokers(addr), kgo.WithHooks(c),
		kgo.RequestRetries(0), kgo.ConnIdleTimeout(10*time.Minute), kgo.MetadataMinAge(time.Second))...)
	if err != nil {
		c.t.Error(err)
		return nil
	}
	return client
}

func (c *clients) slow(which int, d time.Duration, what string) {
	for old := c.slowest[which].Load(); int64(d) > old; old = c.slowest[which].Load() {
		if c.slowest[which].CompareAndSwap(old, int64(d)) {
			break
		}
	}
	if d > atMost {
		c.t.Errorf("a good client waited %v %s", d, what)
	}
}

// produce sends one record after the other: its number and the time.
func (c *clients) produce(ctx context.Context, addr string, partition int32) {
	client := c.dial(addr, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RecordRetries(0), kgo.DisableIdempotentWrite(),
		kgo.ProducerLinger(0))
	if client == nil {
		return
	}
	defer client.Close()
	for n := uint64(0); !c.stop.Load(); n++ {
		began := time.Now()
		value := binary.BigEndian.AppendUint64(make([]byte, 0, 500), n)
		value = binary.BigEndian.AppendUint64(value, uint64(began.UnixNano()))
		err := client.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: partition, Value: value[:500]}).FirstErr()
		if err != nil && !c.stop.Load() {
			c.t.Errorf("a good producer: %v", err)
			return
		}
		c.slow(0, time.Since(began), "for an answer to produce")
		c.produced.Add(1)
		time.Sleep(5 * time.Millisecond)
	}
}

// consume reads one partition, and misses nothing.
func (c *clients) consume(ctx context.Context, addr string, partition int32) {
	client := c.dial(addr, kgo.FetchMaxWait(500*time.Millisecond), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		topic: {partition: kgo.NewOffset().AtStart()},
	}))
	if client == nil {
		return
	}
	defer client.Close()
	for next := uint64(0); !c.stop.Load(); {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil && !c.stop.Load() && !strings.Contains(err.Error(), context.Canceled.Error()) {
			c.t.Errorf("a good consumer: %v", err)
			return
		}
		now := time.Now()
		for _, r := range fetches.Records() {
			if n := binary.BigEndian.Uint64(r.Value); n != next {
				c.t.Errorf("partition %d: record %d where %d should be", partition, n, next)
				return
			}
			next++
			c.slow(1, now.Sub(time.Unix(0, int64(binary.BigEndian.Uint64(r.Value[8:])))), "for a record to arrive")
			c.consumed.Add(1)
		}
	}
}

// finish ends the clients and says how they fared.
func (c *clients) finish() {
	c.stop.Store(true)
	c.ended()
	c.running.Wait()
	produced, consumed := c.produced.Load(), c.consumed.Load()
	c.t.Logf("good clients: %d records produced, %d consumed; slowest answer %v, slowest arrival %v", produced, consumed,
		time.Duration(c.slowest[0].Load()).Round(time.Millisecond), time.Duration(c.slowest[1].Load()).Round(time.Millisecond))
	if produced == 0 || consumed == 0 {
		c.t.Error("the good clients did nothing")
	}
	if n := c.disconnects.Load(); n > 0 {
		c.t.Errorf("good clients were disconnected %d times", n)
	}
}
