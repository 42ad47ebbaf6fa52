package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/cluster"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// batchBytes is how large a batch grows before compression while the one before
// it is on its way: below max.message.bytes of a topic as it comes.
const batchBytes = 512 << 10

type writerOptions struct {
	clientFlags
	codec     record.Codec
	acks      int16
	partition int32 // or -1
}

// writer sends records to the leaders of a topic's partitions. There is one
// goroutine for each partition that is written to, with one request in flight:
// what comes meanwhile makes the next batch, so batches grow with the rate and
// a single line goes out at once.
type writer struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	m      *cluster.Map
	topic  cluster.Topic
	opts   writerOptions
	id     model.ProducerID // or NoProducer
	epoch  int16
	lanes  []*lane
	sticky *lane // where records without a key go now
	run    sync.WaitGroup
	// records and bytes are those acknowledged; bytes are of keys and values.
	records, bytes atomic.Int64
}

func newWriter(ctx context.Context, cancel context.CancelCauseFunc, m *cluster.Map, t cluster.Topic, o writerOptions) (*writer, error) {
	w := &writer{ctx: ctx, cancel: cancel, m: m, topic: t, opts: o, id: model.NoProducer, epoch: -1}
	for _, p := range t.Partitions {
		w.lanes = append(w.lanes, &lane{w: w, index: p.Index, wake: make(chan struct{}, 1), room: make(chan struct{}, 1)})
	}
	if o.partition >= int32(len(w.lanes)) {
		return nil, fmt.Errorf("topic %s has no partition %d", t.Name, o.partition)
	}
	if o.acks == -1 {
		if err := w.initProducer(); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// initProducer gets a producer id (KIP-98).
func (w *writer) initProducer() error {
	ctx, cancel := w.opts.bounded(w.ctx)
	defer cancel()
	req := wire.NewInitProducerIDRequest()
	req.TransactionalID = nil
	return retry(ctx, func() error {
		r, err := w.m.Do(ctx, req)
		if err != nil {
			return err
		}
		resp, ok := r.(*wire.InitProducerIDResponse)
		if !ok {
			return fmt.Errorf("InitProducerId answered by %T", r)
		}
		if err := refusal(resp.ErrorCode, nil); err != nil {
			return fmt.Errorf("InitProducerId: %w", err)
		}
		w.id, w.epoch = model.ProducerID(resp.ProducerID), resp.ProducerEpoch
		return nil
	})
}

// write hands a record to its partition's lane; its bytes are copied. It waits
// while the lane is full. An error is the reason why writing ended.
func (w *writer) write(r record.Record) error {
	return w.lane(r.Key).add(&r)
}

// lane chooses the partition: as told, by the key's hash as in Kafka's Java
// client, or a random one which stays until its batch is full (KIP-480).
func (w *writer) lane(key []byte) *lane {
	switch {
	case w.opts.partition >= 0:
		return w.lanes[w.opts.partition]
	case key != nil:
		return w.lanes[int(murmur2(key)&0x7fffffff)%len(w.lanes)]
	case w.sticky == nil || w.sticky.turned.CompareAndSwap(true, false):
		w.sticky = w.lanes[rand.IntN(len(w.lanes))]
	}
	return w.sticky
}

// close sends what is left and waits for all answers.
func (w *writer) close() error {
	for _, l := range w.lanes {
		l.end()
	}
	w.run.Wait()
	return context.Cause(w.ctx)
}

// lane is the way to one partition.
type lane struct {
	w     *writer
	index int32
	wake  chan struct{} // something to send, or the end
	room  chan struct{} // the batch being filled was taken
	// turned says that a batch went out, so that records without a key may go
	// elsewhere.
	turned atomic.Bool
	mu     struct {
		sync.Mutex
		started, ended bool
		builder        *record.Builder
		bytes          int64
	}
	sequence int32 // of the next batch; of the lane's goroutine
}

func (l *lane) add(r *record.Record) error {
	for {
		l.mu.Lock()
		if !l.mu.started {
			l.mu.started = true
			l.mu.builder = record.NewBuilder(record.BuilderOptions{})
			l.w.run.Go(l.send)
		}
		if l.mu.builder.Size() < batchBytes {
			err := l.mu.builder.Add(*r)
			l.mu.bytes += int64(len(r.Key) + len(r.Value))
			l.mu.Unlock()
			nudge(l.wake)
			return err
		}
		l.mu.Unlock()
		l.turned.Store(true)
		select {
		case <-l.room:
		case <-l.w.ctx.Done():
			return nil // close gives the cause.
		}
	}
}

func (l *lane) end() {
	l.mu.Lock()
	l.mu.ended = true
	l.mu.Unlock()
	nudge(l.wake)
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// send is the lane's goroutine.
func (l *lane) send() {
	for l.w.ctx.Err() == nil {
		select {
		case <-l.wake:
		case <-l.w.ctx.Done():
			return
		}
		l.mu.Lock()
		b, bytes, ended := l.mu.builder, l.mu.bytes, l.mu.ended
		l.mu.builder, l.mu.bytes = record.NewBuilder(record.BuilderOptions{}), 0
		l.mu.Unlock()
		nudge(l.room)
		if b.Count() > 0 {
			if err := l.flush(b); err != nil {
				l.w.cancel(fmt.Errorf("%s-%d: %w", l.w.topic.Name, l.index, err))
				return
			}
			l.w.records.Add(int64(b.Count()))
			l.w.bytes.Add(bytes)
		}
		if ended {
			return
		}
	}
}

// flush sends one batch until it is stored or refused for good. A retry repeats
// the sequence, so that the broker knows it.
func (l *lane) flush(b *record.Builder) error {
	batch, err := l.build(b)
	if err != nil {
		return err
	}
	ctx, cancel := l.w.opts.bounded(l.w.ctx)
	defer cancel()
	err = retry(ctx, func() error {
		err := l.produce(ctx, batch)
		if err != nil {
			l.w.m.Forget(l.w.topic.Name)
		}
		return err
	})
	if errors.Is(err, wire.DuplicateSequenceNumber) {
		err = nil // It is stored, further back than the broker remembers.
	}
	l.sequence = record.AddSequence(l.sequence, b.Count())
	return err
}

// build gives the batch its producer and codec.
func (l *lane) build(b *record.Builder) (record.Batch, error) {
	o := record.BuilderOptions{LeaderEpoch: model.NoEpoch, Codec: l.w.opts.codec}
	if l.w.id != model.NoProducer {
		o.Producer = &record.Producer{ID: l.w.id, Epoch: l.w.epoch, Sequence: l.sequence}
	}
	_, batch, err := b.BuildAs(nil, o)
	return batch, err
}

func (l *lane) produce(ctx context.Context, batch record.Batch) error {
	b, err := l.w.m.Leader(ctx, l.w.topic.Name, l.index)
	if err != nil {
		return err
	}
	req := wire.NewProduceRequest()
	req.Acks, req.TimeoutMs = l.w.opts.acks, int32(min(l.w.opts.timeout, time.Hour).Milliseconds())
	t := wire.Extend(&req.TopicData)
	t.Name, t.TopicID = l.w.topic.Name, wire.UUID(l.w.topic.ID)
	p := wire.Extend(&t.PartitionData)
	p.Index, p.Records = l.index, batch
	r, err := b.Do(ctx, req)
	if err != nil || l.w.opts.acks == 0 {
		return err
	}
	resp, ok := r.(*wire.ProduceResponse)
	if !ok || len(resp.Responses) != 1 || len(resp.Responses[0].PartitionResponses) != 1 {
		return errors.New("the broker's answer is about something else")
	}
	q := &resp.Responses[0].PartitionResponses[0]
	return refusal(q.ErrorCode, q.ErrorMessage)
}

// murmur2 is the hash by which Kafka's Java client spreads keys.
func murmur2(b []byte) uint32 {
	const m, seed = 0x5bd1e995, 0x9747b28c
	h := uint32(seed) ^ uint32(len(b))
	for ; len(b) >= 4; b = b[4:] {
		k := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
		k *= m
		k ^= k >> 24
		h = h*m ^ k*m
	}
	switch len(b) {
	case 3:
		h ^= uint32(b[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(b[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(b[0])) * m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}
