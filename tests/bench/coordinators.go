package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// task is a measurement of the coordinators, or the cleaner: it puts its own load on a broker,
// and says what that cost.
type task struct {
	name string
	run  func(context.Context, *broker) (cost, error)
}

// cost is what came of a task. Figures that mean nothing are 0.
type cost struct {
	perSecond float64
	unit      string
	micros    float64 // Of the broker's processor, for one unit.
	said      string
}

func (c cost) String() string {
	s := c.said
	if c.perSecond > 0 {
		s = fmt.Sprintf("%9.0f %s/s  %6.1f µs CPU each  %s", c.perSecond, c.unit, c.micros, c.said)
	}
	return s
}

const (
	committers = 128 // Connections that commit, each for a group of its own.
	commitTime = 5 * time.Second
	txnTime    = 6 * time.Second
	txnLength  = 100 * time.Millisecond
)

func tasks() []task {
	return []task{
		{"offset commits, one coordinator, durable, 128 groups", commits},
		{"idempotent produce of 1 KiB, durable", func(ctx context.Context, b *broker) (cost, error) { return produceFor(ctx, b, "") }},
		{"the same in transactions of 100 ms", func(ctx context.Context, b *broker) (cost, error) { return produceFor(ctx, b, "bench") }},
		{"end of a transaction over 10 partitions, durable", ends},
		{"load of a million offsets", reload},
		{"latency of 1 KiB records, durable, beside compaction", compaction},
	}
}

// compareTasks runs them on each broker in turn.
func compareTasks(brokers []*broker) error {
	ctx := context.Background()
	for _, t := range tasks() {
		if !strings.Contains(t.name, *only) {
			continue
		}
		fmt.Println(t.name)
		var first cost
		for i, b := range brokers {
			time.Sleep(settle)
			c, err := t.run(ctx, b)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", t.name, b.name, err)
			}
			fmt.Printf("  %-9s %s", b.name, c)
			if i == 0 {
				first = c
			} else if c.perSecond > 0 {
				fmt.Printf("   ours: %.1f × Kafka's speed, %.2f of its CPU", first.perSecond/c.perSecond, first.micros/c.micros)
			}
			fmt.Println()
		}
	}
	return nil
}

// durable makes a Kafka sync a topic as Barnabas does.
func durable(ctx context.Context, b *broker, topics ...string) error {
	if b.ours {
		return nil
	}
	c, err := kgo.NewClient(kgo.SeedBrokers(b.addr))
	if err != nil {
		return err
	}
	defer c.Close()
	one := "1"
	answers, err := kadm.NewClient(c).AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "flush.messages", Value: &one}}, topics...)
	if err != nil {
		return err
	}
	for _, a := range answers {
		if a.Err != nil {
			return fmt.Errorf("%s: %w", a.Name, a.Err)
		}
	}
	return nil
}

// commits is how many offset commits a second a coordinator takes: each of many
// connections sends the next when the last is answered.
func commits(ctx context.Context, b *broker) (cost, error) {
	if err := prepare(ctx, b, "committed", 1); err != nil {
		return cost{}, err
	}
	if err := durable(ctx, b, "__consumer_offsets"); err != nil {
		return cost{}, err
	}
	var n atomic.Int64
	errs := make(chan error, committers)
	began, cpu, until := time.Now(), b.cpu(), time.Now().Add(commitTime)
	for i := range committers {
		go func() { errs <- commitUntil(b.addr, commitOf(fmt.Sprintf("group-%d", i), "committed", 1), until, &n) }()
	}
	var failed error
	for range committers {
		if err := <-errs; err != nil {
			failed = err
		}
	}
	return b.rate(n.Load(), "commits", began, cpu), failed
}

// prepare makes a topic, and the coordinator's.
func prepare(ctx context.Context, b *broker, topic string, partitions int32) error {
	c, err := kgo.NewClient(kgo.SeedBrokers(b.addr))
	if err != nil {
		return err
	}
	defer c.Close()
	admin := kadm.NewClient(c)
	if r, err := admin.CreateTopic(ctx, partitions, 1, nil, topic); err != nil && r.ErrMessage == "" && !strings.Contains(err.Error(), "EXISTS") {
		return err
	}
	first := commitOf("group-0", topic, 1)
	for range 200 { // It may be made first, and loaded.
		admin.FindGroupCoordinators(ctx, "group-0")
		if err = exchange(b.addr, func(c net.Conn) error { return commitOnce(c, first) }); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return err
}

// commitOf is a request, with its size before it, that commits an offset for
// each of the first partitions of a topic, for a group without members.
func commitOf(group, topic string, partitions int32) []byte {
	q := kmsg.NewPtrOffsetCommitRequest()
	q.Version, q.Group, q.Generation = 8, group, -1
	t := kmsg.NewOffsetCommitRequestTopic()
	t.Topic = topic
	for n := range partitions {
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset = n, 42
		t.Partitions = append(t.Partitions, p)
	}
	q.Topics = append(q.Topics, t)
	return kmsg.NewRequestFormatter().AppendRequest(nil, q, 1)
}

// commitUntil sends a request again and again.
func commitUntil(addr string, frame []byte, until time.Time, n *atomic.Int64) error {
	return exchange(addr, func(c net.Conn) error {
		for time.Now().Before(until) {
			if err := commitOnce(c, frame); err != nil {
				return err
			}
			n.Add(1)
		}
		return nil
	})
}

func exchange(addr string, do func(net.Conn) error) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	return do(c)
}

func commitOnce(c net.Conn, frame []byte) error {
	if _, err := c.Write(frame); err != nil {
		return err
	}
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return err
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(c, body); err != nil {
		return err
	}
	r := kmsg.NewPtrOffsetCommitResponse()
	r.Version = 8
	if err := r.ReadFrom(body[5:]); err != nil { // Behind the correlation id and no tags.
		return err
	}
	for _, t := range r.Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 {
				return fmt.Errorf("commit: error %d", p.ErrorCode)
			}
		}
	}
	return nil
}

// produceFor produces for some time, in transactions if there is an id.
func produceFor(ctx context.Context, b *broker, id string) (cost, error) {
	const topic = "produced"
	if err := prepare(ctx, b, topic, 4); err != nil {
		return cost{}, err
	}
	if err := durable(ctx, b, topic); err != nil {
		return cost{}, err
	}
	options := []kgo.Opt{kgo.SeedBrokers(b.addr), kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MaxBufferedRecords(2000)}
	if id != "" {
		options = append(options, kgo.TransactionalID(id))
	}
	c, err := kgo.NewClient(options...)
	if err != nil {
		return cost{}, err
	}
	defer c.Close()
	value := bytes.Repeat([]byte("x"), 1024)
	var n atomic.Int64
	var failed atomic.Pointer[error]
	promise := func(_ *kgo.Record, err error) {
		if err != nil {
			failed.CompareAndSwap(nil, &err)
		}
		n.Add(1)
	}
	began, cpu := time.Now(), b.cpu()
	for time.Since(began) < txnTime {
		if id != "" {
			if err := c.BeginTransaction(); err != nil {
				return cost{}, err
			}
		}
		for begin := time.Now(); time.Since(begin) < txnLength; {
			c.Produce(ctx, &kgo.Record{Value: value}, promise)
		}
		if id == "" {
			continue
		}
		if err := c.Flush(ctx); err != nil {
			return cost{}, err
		}
		if err := c.EndTransaction(ctx, kgo.TryCommit); err != nil {
			return cost{}, err
		}
	}
	err = c.Flush(ctx)
	if p := failed.Load(); err == nil && p != nil {
		err = *p
	}
	return b.rate(n.Load(), "records", began, cpu), err
}

// ends is how long EndTransaction takes when each of ten partitions got a
// record.
func ends(ctx context.Context, b *broker) (cost, error) {
	const topic, partitions, rounds = "ended", 10, 1000
	if err := prepare(ctx, b, topic, partitions); err != nil {
		return cost{}, err
	}
	c, err := kgo.NewClient(kgo.SeedBrokers(b.addr), kgo.TransactionalID("ends"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return cost{}, err
	}
	defer c.Close()
	var took []time.Duration
	for i := range rounds {
		if err := c.BeginTransaction(); err != nil {
			return cost{}, err
		}
		var records []*kgo.Record
		for p := range int32(partitions) {
			records = append(records, &kgo.Record{Topic: topic, Partition: p, Value: []byte("x")})
		}
		if err := c.ProduceSync(ctx, records...).FirstErr(); err != nil {
			return cost{}, err
		}
		if i == 0 {
			if err := durable(ctx, b, topic, "__transaction_state"); err != nil {
				return cost{}, err
			}
		}
		began := time.Now()
		if err := c.EndTransaction(ctx, kgo.TryCommit); err != nil {
			return cost{}, err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	at := func(share float64) float64 { return took[int(share*float64(rounds-1))].Seconds() * 1e3 }
	return cost{said: fmt.Sprintf("p50 %.2f  p99 %.2f  p99.9 %.2f ms", at(.5), at(.99), at(.999))}, nil
}

// reload commits a million offsets, starts the broker anew, and measures how
// long it takes from being ready to knowing them.
func reload(ctx context.Context, b *broker) (cost, error) {
	const topic, partitions, groups = "loaded", 1000, 1000
	if !b.ours {
		return cost{said: "not measured"}, nil // Its start is not that of its coordinator.
	}
	if err := prepare(ctx, b, topic, partitions); err != nil {
		return cost{}, err
	}
	if err := exchange(b.addr, func(c net.Conn) error {
		for i := range groups {
			if err := commitOnce(c, commitOf(fmt.Sprintf("many-%d", i), topic, partitions)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return cost{}, err
	}
	began, err := b.again()
	if err != nil {
		return cost{}, err
	}
	at := func(int) time.Duration { return time.Millisecond }
	c, err := kgo.NewClient(kgo.SeedBrokers(b.addr), kgo.RetryBackoffFn(at))
	if err != nil {
		return cost{}, err
	}
	defer c.Close()
	for {
		r, err := kadm.NewClient(c).FetchOffsets(ctx, "many-0")
		if err == nil && len(r[topic]) == partitions {
			break
		}
		if time.Since(began) > time.Minute {
			return cost{}, fmt.Errorf("%d offsets of %d: %w", len(r[topic]), partitions, err)
		}
		time.Sleep(time.Millisecond)
	}
	return cost{said: fmt.Sprintf("%.2f s from exec", time.Since(began).Seconds())}, nil
}

// again stops a broker and starts it anew; it returns when that was.
func (b *broker) again() (time.Time, error) {
	b.stop()
	began := time.Now()
	b.process = b.command()
	return began, b.process.Start()
}

// cpu is the processor time that a broker has had.
func (b *broker) cpu() time.Duration {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(b.process.Process.Pid) + "/stat")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var ticks int64
	for _, f := range fields[11:13] { // utime and stime, 100 a second.
		n, _ := strconv.ParseInt(f, 10, 64)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// rate is the cost of n units since a moment.
func (b *broker) rate(n int64, unit string, began time.Time, cpu time.Duration) cost {
	return cost{
		perSecond: float64(n) / time.Since(began).Seconds(), unit: unit,
		micros: float64((b.cpu() - cpu).Microseconds()) / float64(n),
	}
}
