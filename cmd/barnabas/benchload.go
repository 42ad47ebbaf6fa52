package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/cluster"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// Versions that the load speaks: any Kafka of the last years has them.
const (
	benchProduceVersion = 9
	benchFetchVersion   = 12
)

// load drives one broker through connections of its own, with requests made
// beforehand: the client costs almost nothing, and the broker is measured.
type load struct {
	*benchFlags
	cluster    *cluster.Map
	made       bool
	address    string
	partitions int
	acksCode   int16
	batchBytes []byte
	perBatch   int
}

func newLoad(ctx context.Context, f *benchFlags, what string) (*load, error) {
	l := &load{benchFlags: f, cluster: f.open(), partitions: f.partitions}
	if f.size < 8 || f.batch < 1 || f.conns < 1 || f.depth < 1 || f.partitions < 1 {
		return nil, usage("--size takes at least 8, --batch, --connections, --depth and --partitions at least 1")
	}
	switch f.acks {
	case "0", "1":
		l.acksCode = int16(f.acks[0] - '0')
	case "all", "-1":
		l.acksCode = -1
	default:
		return nil, usage("--acks: want 0, 1 or all, not %q", f.acks)
	}
	var err error
	if l.batchBytes, l.perBatch, err = makeBatch(f.size, f.batch); err != nil {
		return nil, err
	}
	if err := l.prepare(ctx); err != nil {
		l.close()
		return nil, err
	}
	if what == "consume" && l.made {
		if _, err := l.produce(ctx); err != nil {
			l.close()
			return nil, err
		}
	}
	return l, nil
}

// prepare makes the topic and finds the broker.
func (l *load) prepare(ctx context.Context) error {
	ctx, cancel := l.bounded(ctx)
	defer cancel()
	if l.topic == "" {
		if err := l.makeTopic(ctx); err != nil {
			return err
		}
	}
	return retry(ctx, func() error {
		t, err := l.cluster.Topic(ctx, l.topic)
		if err != nil {
			return err
		}
		l.partitions = len(t.Partitions)
		leader, err := l.cluster.Leader(ctx, l.topic, 0)
		if err != nil {
			l.cluster.Forget(l.topic)
			return err
		}
		l.address = leader.(interface{ Address() string }).Address()
		return l.answering(ctx, leader)
	})
}

// answering asks whether every partition can be used: a topic may be shown
// before that.
func (l *load) answering(ctx context.Context, leader cluster.Broker) error {
	q := wire.NewListOffsetsRequest()
	t := wire.Extend(&q.Topics)
	t.Name = l.topic
	for i := range l.partitions {
		p := wire.Extend(&t.Partitions)
		p.PartitionIndex, p.Timestamp = int32(i), -1
	}
	answer, err := leader.Do(ctx, q)
	if err != nil {
		return err
	}
	for _, t := range answer.(*wire.ListOffsetsResponse).Topics {
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 {
				return wire.ErrorCode(p.ErrorCode)
			}
		}
	}
	return nil
}

func (l *load) makeTopic(ctx context.Context) error {
	l.topic = fmt.Sprintf("barnabas-bench-%d", time.Now().UnixNano())
	q := wire.NewCreateTopicsRequest()
	t := wire.Extend(&q.Topics)
	t.Name, t.NumPartitions, t.ReplicationFactor = l.topic, int32(l.partitions), 1
	for _, c := range l.config {
		key, value, ok := strings.Cut(c, "=")
		if !ok {
			return usage("-c: want key=value, not %q", c)
		}
		x := wire.Extend(&t.Configs)
		x.Name, x.Value = key, &value
	}
	answer, err := l.controller(ctx, l.cluster, q)
	if err != nil {
		return err
	}
	r := answer.(*wire.CreateTopicsResponse).Topics[0]
	l.made = r.ErrorCode == 0
	return refusal(r.ErrorCode, r.ErrorMessage)
}

// close deletes what was made. A topic that stays costs space, no more.
func (l *load) close() {
	if l.made && !l.keep {
		ctx, cancel := l.bounded(context.Background())
		defer cancel()
		q := wire.NewDeleteTopicsRequest()
		q.TimeoutMs = int32(l.timeout.Milliseconds())
		wire.Extend(&q.Topics).Name = &l.topic
		_, _ = l.controller(ctx, l.cluster, q)
	}
	l.cluster.Close()
}

// makeBatch builds one batch of random letters.
func makeBatch(size, bytes int) ([]byte, int, error) {
	value := make([]byte, size)
	for i := range value {
		value[i] = byte('a' + rand.IntN(26))
	}
	b := record.NewBuilder(record.BuilderOptions{})
	for range max(1, bytes/size) {
		if err := b.Add(record.Record{Timestamp: time.Now().UnixMilli(), Value: value}); err != nil {
			return nil, 0, err
		}
	}
	out, _, err := b.Build(nil)
	return out, int(b.Count()), err
}

// link is one connection, spoken to in frames.
type link struct {
	net.Conn
	in []byte
}

func (l *load) dial(ctx context.Context) (*link, error) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", l.address)
	return &link{Conn: c}, err
}

// receive reads one answer's body into memory that the next call uses again.
func (c *link) receive(key wire.Key, version int16) (*wire.Reader, error) {
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(size[:]))
	if n > 1<<30 {
		return nil, fmt.Errorf("an answer of %d bytes", n)
	}
	c.in = slices.Grow(c.in[:0], n)[:n]
	if _, err := io.ReadFull(c, c.in); err != nil {
		return nil, err
	}
	r := wire.NewReader(c.in)
	_, err := wire.ReadResponseHeader(r, key, version)
	return r, err
}

func (l *load) produceFrame(partition int) ([]byte, error) {
	q := wire.NewProduceRequest()
	q.Acks, q.TimeoutMs = l.acksCode, 30_000
	t := wire.Extend(&q.TopicData)
	t.Name = l.topic
	p := wire.Extend(&t.PartitionData)
	p.Index, p.Records = int32(partition), l.batchBytes
	return wire.AppendRequest(nil, wire.RequestHeader{Version: benchProduceVersion, ClientID: new("barnabas-bench")}, q)
}

// produce sends batches to the partitions in turn.
func (l *load) produce(ctx context.Context) (benchRow, error) {
	batches := int64(l.bytes) / int64(l.perBatch*l.size)
	var left atomic.Int64
	left.Store(batches)
	err := l.parallel(func(i int) error { return l.produceOn(ctx, i, &left) })
	return benchRow{Records: batches * int64(l.perBatch), Bytes: batches * int64(l.perBatch*l.size)}, err
}

// parallel runs one function per connection.
func (l *load) parallel(run func(i int) error) error {
	errs := make([]error, l.conns)
	var all sync.WaitGroup
	for i := range l.conns {
		all.Go(func() { errs[i] = run(i) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// keptFrames is up to how many partitions their requests are kept ready.
const keptFrames = 64

func (l *load) produceOn(ctx context.Context, number int, left *atomic.Int64) error {
	c, err := l.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	slots, done := make(chan struct{}, l.depth), make(chan error, 1)
	go func() { done <- l.acknowledge(c, slots) }()
	frames := map[int][]byte{}
	for k := number; left.Add(-1) >= 0; k += l.conns {
		partition := k % l.partitions
		f := frames[partition]
		if f == nil {
			if f, err = l.produceFrame(partition); err != nil {
				break
			}
			if len(frames) < keptFrames {
				frames[partition] = f
			}
		}
		if _, err = c.Write(f); err != nil {
			break
		}
		select {
		case slots <- struct{}{}:
		case err = <-done:
			return err
		}
	}
	close(slots)
	return errors.Join(err, <-done)
}

// acknowledge reads an answer for every slot.
func (l *load) acknowledge(c *link, slots <-chan struct{}) error {
	r := wire.NewProduceResponse()
	for range slots {
		if l.acksCode == 0 {
			continue
		}
		in, err := c.receive(wire.ProduceKey, benchProduceVersion)
		if err != nil {
			return err
		}
		if err := r.ReadFrom(in, benchProduceVersion); err != nil {
			return err
		}
		if e := r.Responses[0].PartitionResponses[0].ErrorCode; e != 0 {
			return wire.ErrorCode(e)
		}
	}
	return nil
}

// consume fetches what produce wrote, each connection its share of the
// partitions.
func (l *load) consume(ctx context.Context) (benchRow, error) {
	var records, bytes atomic.Int64
	err := l.parallel(func(i int) error { return l.consumeOn(ctx, i, &records, &bytes) })
	return benchRow{Records: records.Load(), Bytes: bytes.Load()}, err
}

func (l *load) consumeOn(ctx context.Context, number int, records, bytes *atomic.Int64) error {
	c, err := l.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	next := make([]int64, l.partitions)
	q, r := wire.NewFetchRequest(), wire.NewFetchResponse()
	var out []byte
	for idle := 0; idle < 2 && bytes.Load() < int64(l.bytes); {
		if out, err = l.fetch(c, q, r, share{number, l.conns}, next, out); err != nil {
			return err
		}
		got, err := l.count(r, next)
		if err != nil {
			return err
		}
		records.Add(got)
		bytes.Add(got * int64(l.size))
		if got == 0 {
			idle++
		}
	}
	return nil
}

// share is which partitions a connection reads: every of-th, from number on.
type share struct{ number, of int }

// fetch asks once for what follows next, and reads the answer into r. It
// returns out, the memory of the request.
func (l *load) fetch(c *link, q *wire.FetchRequest, r *wire.FetchResponse, of share, next []int64, out []byte) ([]byte, error) {
	l.fetchRequest(q, of, next)
	out, err := wire.AppendRequest(out[:0], wire.RequestHeader{Version: benchFetchVersion, ClientID: new("barnabas-bench")}, q)
	if err != nil {
		return out, err
	}
	if _, err := c.Write(out); err != nil {
		return out, err
	}
	in, err := c.receive(wire.FetchKey, benchFetchVersion)
	if err != nil {
		return out, err
	}
	return out, r.ReadFrom(in, benchFetchVersion)
}

func (l *load) fetchRequest(q *wire.FetchRequest, of share, next []int64) {
	q.Reset()
	q.MaxWaitMs, q.MinBytes, q.MaxBytes, q.SessionEpoch = 500, 1, 16<<20, -1
	t := wire.Extend(&q.Topics)
	t.Topic = l.topic
	whole := int32(max(1, (1<<20)/len(l.batchBytes)) * len(l.batchBytes))
	// Begin anywhere, so that the limit does not starve the last partitions.
	turn := rand.IntN(l.partitions)
	for i := range l.partitions {
		p := (i + turn) % l.partitions
		if p%of.of != of.number {
			continue
		}
		x := wire.Extend(&t.Partitions)
		x.Partition, x.FetchOffset, x.PartitionMaxBytes = int32(p), next[p], whole
	}
}

// count adds up the records of an answer and moves on.
func (l *load) count(r *wire.FetchResponse, next []int64) (int64, error) {
	var got int64
	err := eachBatch(r, func(partition int32, b record.Batch) error {
		got += int64(b.Count())
		next[partition] = int64(b.End())
		return nil
	})
	return got, err
}

// eachBatch goes over the whole batches of an answer.
func eachBatch(r *wire.FetchResponse, each func(partition int32, b record.Batch) error) error {
	for i := range r.Responses {
		for j := range r.Responses[i].Partitions {
			p := &r.Responses[i].Partitions[j]
			if p.ErrorCode != 0 {
				return wire.ErrorCode(p.ErrorCode)
			}
			for rest := p.Records; len(rest) > 0; {
				b, more, err := record.Next(rest)
				if errors.Is(err, record.ErrShort) {
					break // Kafka cuts the last batch.
				}
				if err != nil {
					return err
				}
				rest = more
				if err := each(p.PartitionIndex, b); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// latency sends one record per request at a steady rate, and reads them.
func (l *load) latency(ctx context.Context) (benchRow, error) {
	total := int(l.rate * l.seconds)
	if total < 10 {
		return benchRow{}, usage("--rate and --seconds give %d records, too few to measure", total)
	}
	delays := make([]float64, 0, total)
	received := make(chan error, 1)
	go func() { received <- l.readDelays(ctx, total, &delays) }()
	began := time.Now()
	if err := l.sendDue(ctx, total); err != nil {
		return benchRow{}, err
	}
	if err := <-received; err != nil {
		return benchRow{}, err
	}
	return benchRow{
		Seconds: time.Since(began).Seconds(), Records: int64(total), Bytes: int64(total * l.size), QuantileMs: quantiles(delays),
	}, nil
}

// quantiles sorts delays, in the order in which they were seen, without the
// first tenth, which warms up.
func quantiles(delays []float64) map[string]float64 {
	delays = delays[len(delays)/10:]
	slices.Sort(delays)
	at := func(q float64) float64 { return delays[min(len(delays)-1, int(q*float64(len(delays))))] }
	return map[string]float64{"p50": at(.5), "p99": at(.99), "p99.9": at(.999)}
}

// pace calls send for each of total records when it is due, or as soon after
// as it can.
func pace(total int, rate float64, send func(i int, due time.Time) error) error {
	t0 := time.Now()
	for i := range total {
		due := t0.Add(time.Duration(float64(i) / rate * 1e9))
		for d := time.Until(due); d > 0; d = time.Until(due) {
			sleepPrecisely(d)
		}
		if err := send(i, due); err != nil {
			return err
		}
	}
	return nil
}

func (l *load) sendDue(ctx context.Context, total int) error {
	c, err := l.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	slots, done := make(chan struct{}, max(total, 1)), make(chan error, 1)
	go func() { done <- l.acknowledge(c, slots) }()
	value := make([]byte, l.size)
	b := record.NewBuilder(record.BuilderOptions{})
	q := wire.NewProduceRequest()
	var out, batch []byte
	err = pace(total, l.rate, func(i int, due time.Time) error {
		binary.BigEndian.PutUint64(value, uint64(due.UnixNano()))
		b.Reset(record.BuilderOptions{})
		if err := b.Add(record.Record{Timestamp: due.UnixMilli(), Value: value}); err != nil {
			return err
		}
		if batch, _, err = b.Build(batch[:0]); err != nil {
			return err
		}
		q.Reset()
		q.Acks, q.TimeoutMs = l.acksCode, 30_000
		t := wire.Extend(&q.TopicData)
		t.Name = l.topic
		p := wire.Extend(&t.PartitionData)
		p.Index, p.Records = int32(i%l.partitions), batch
		if out, err = wire.AppendRequest(out[:0], wire.RequestHeader{Version: benchProduceVersion}, q); err != nil {
			return err
		}
		if _, err := c.Write(out); err != nil {
			return err
		}
		slots <- struct{}{}
		return nil
	})
	close(slots)
	return errors.Join(err, <-done)
}

func (l *load) readDelays(ctx context.Context, total int, delays *[]float64) error {
	c, err := l.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	next := make([]int64, l.partitions)
	q, r := wire.NewFetchRequest(), wire.NewFetchResponse()
	var out []byte
	for len(*delays) < total {
		if out, err = l.fetch(c, q, r, share{0, 1}, next, out); err != nil {
			return err
		}
		now := time.Now().UnixNano()
		if err := eachBatch(r, func(partition int32, b record.Batch) error {
			next[partition] = int64(b.End())
			for x, err := range b.Records(0) {
				if err != nil {
					return err
				}
				*delays = append(*delays, float64(now-int64(binary.BigEndian.Uint64(x.Value)))/1e6)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}
