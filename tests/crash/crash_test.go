package crash

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/barnabas-log/barnabas/tests/node"
)

func TestMain(m *testing.M) { node.Main(m) }

const (
	topic      = "crash"
	partitions = 8 // Half of them written by idempotent producers.
	patience   = 2 * time.Minute
)

// rounds is how often the broker is killed.
func rounds(t *testing.T) int {
	t.Helper()
	if s := os.Getenv("BARNABAS_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if os.Getenv("CI") == "true" {
		return 50
	}
	return 5
}

// The broker is killed at random moments while one producer per partition
// writes numbers. Small segments make it roll, too.
func TestKill(t *testing.T) {
	n := node.Start(t, "log.segment.bytes=1048576", "log.index.interval.bytes=512")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	create(t, n)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var writers [partitions]*writer
	var running sync.WaitGroup
	for p := range writers {
		w := newWriter(t, n, int32(p), p%2 == 0, rand.New(rand.NewPCG(seed, uint64(p)+1)))
		writers[p] = w
		running.Go(func() { w.run(ctx) })
	}
	for round := range rounds(t) {
		time.Sleep(time.Duration(r.IntN(400)) * time.Millisecond)
		n.Kill()
		n.Again()
		before := acknowledged(&writers)
		for end := time.Now().Add(patience); acknowledged(&writers) < before+partitions; time.Sleep(10 * time.Millisecond) {
			if t.Failed() || time.Now().After(end) {
				t.Fatalf("round %d: nothing is acknowledged any more", round)
			}
		}
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	for _, w := range writers {
		w.last.Store(true)
	}
	done := make(chan struct{})
	go func() { running.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("writers do not come to their end")
	}
	n.Kill() // Once more, with nothing on the way: all was acknowledged.
	n.Again()
	t.Logf("%d records acknowledged", acknowledged(&writers))
	check(t, n, &writers)
}

func acknowledged(writers *[partitions]*writer) (sum int64) {
	for _, w := range writers {
		sum += w.acknowledged.Load()
	}
	return sum
}

func create(t *testing.T, n *node.Node) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(n.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := kadm.NewClient(c).CreateTopic(ctx, partitions, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
}

// writer writes 0, 1, 2, … to its partition.
type writer struct {
	t            *testing.T
	c            *kgo.Client
	r            *rand.Rand
	partition    int32
	idempotent   bool
	last         atomic.Bool  // Write no more.
	acknowledged atomic.Int64 // All numbers below were.
}

func newWriter(t *testing.T, n *node.Node, partition int32, idempotent bool, r *rand.Rand) *writer {
	t.Helper()
	opts := []kgo.Opt{
		kgo.SeedBrokers(n.Addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerBatchCompression(kgo.Lz4Compression(), kgo.NoCompression()),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }), kgo.MetadataMinAge(20 * time.Millisecond),
		kgo.DialTimeout(time.Second),
		kgo.AlwaysRetryEOF(), // A broker may die right after it took a connection.
	}
	if !idempotent {
		opts = append(opts, kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(1))
	}
	c, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &writer{t: t, c: c, r: r, partition: partition, idempotent: idempotent}
}

// run keeps a few records of very different size in flight.
func (w *writer) run(ctx context.Context) {
	const inFlight = 100
	free := make(chan struct{}, inFlight)
	var pending sync.WaitGroup
	for number := int64(0); !w.last.Load() && ctx.Err() == nil; number++ {
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return
		}
		pending.Add(1)
		record := &kgo.Record{Topic: topic, Partition: w.partition, Value: value(number, w.r.IntN(1<<w.r.IntN(13)))}
		w.c.Produce(ctx, record, func(_ *kgo.Record, err error) {
			defer pending.Done()
			<-free
			switch {
			case err == nil && !w.acknowledged.CompareAndSwap(number, number+1):
				w.t.Errorf("partition %d: %d was acknowledged before %d", w.partition, number, w.acknowledged.Load())
			case err != nil && !errors.Is(err, context.Canceled):
				w.t.Errorf("partition %d: %d: %v", w.partition, number, err)
			}
		})
	}
	pending.Wait()
}

// value begins with the number; the rest can be told from it.
func value(number int64, size int) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(number))
	for i := range size {
		b = append(b, byte(number)+byte(i*i))
	}
	return b
}

// check reads everything. Idempotent producers' partitions hold each number
// once, in order. The others may hold a run of numbers again where a producer
// did not hear the answer, but never a gap.
func check(t *testing.T, n *node.Node, writers *[partitions]*writer) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(n.Addr), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	listed, err := kadm.NewClient(c).ListEndOffsets(ctx, topic)
	if err != nil || listed.Error() != nil {
		t.Fatal(err, listed.Error())
	}
	var next, offset [partitions]int64
	repeated := 0
	for left := partitions; left > 0; {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			p := r.Partition
			number := int64(binary.BigEndian.Uint64(r.Value))
			if string(r.Value) != string(value(number, len(r.Value)-8)) {
				t.Errorf("partition %d offset %d: number %d is damaged", p, r.Offset, number)
			}
			if r.Offset != offset[p] {
				t.Errorf("partition %d: offset %d, want %d", p, r.Offset, offset[p])
			}
			offset[p] = r.Offset + 1
			if number > next[p] || number < next[p] && writers[p].idempotent {
				t.Errorf("partition %d offset %d (idempotent %v): %d, want %d", p, r.Offset, writers[p].idempotent, number, next[p])
			}
			if number < next[p] {
				repeated++
			}
			next[p] = max(next[p], number+1)
		})
		if t.Failed() {
			t.FailNow()
		}
		left = 0
		for p := range partitions {
			if end, _ := listed.Lookup(topic, int32(p)); offset[p] < end.Offset {
				left++
			}
		}
	}
	for p, w := range writers {
		if next[p] < w.acknowledged.Load() {
			t.Errorf("partition %d (idempotent %v): %d records acknowledged, %d there", p, w.idempotent, w.acknowledged.Load(), next[p])
		}
	}
	t.Log(summary(next, repeated))
}

func summary(next [partitions]int64, repeated int) string {
	sum := int64(0)
	for _, n := range next {
		sum += n
	}
	return fmt.Sprintf("%d numbers are there, %d of them again from producers that are not idempotent", sum, repeated)
}
