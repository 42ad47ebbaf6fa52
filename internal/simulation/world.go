package simulation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/conn"
	"github.com/barnabas-log/barnabas/internal/broker"
	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// World is one broker, a few clients, and a disk whose power fails at a moment
// that the seed decides.
type World struct {
	// Log is told what the broker finds after the crash; nil is nobody.
	Log slog.Handler

	disk  *vfs.Mem
	after int64 // The power fails at this sync, rename, removal or truncation.
	seen  atomic.Int64

	mu struct {
		sync.Mutex
		rng      *rand.Rand
		promised promises
		crashed  *vfs.Mem // What the power cut left.
		owed     promises // What was promised by then.
	}
}

// promises are what clients were told.
type promises struct {
	topics  map[model.TopicID]string // Made, and answered.
	deleted map[model.TopicID]bool   // Deleted, and answered; or asked for.
	records map[place]string         // Acknowledged by acks=all.
}

type place struct {
	topic  model.TopicID
	index  int32
	offset model.Offset
}

func newPromises() promises {
	return promises{map[model.TopicID]string{}, map[model.TopicID]bool{}, map[place]string{}}
}

func (p promises) clone() promises {
	c := newPromises()
	for k, v := range p.topics {
		c.topics[k] = v
	}
	for k, v := range p.deleted {
		c.deleted[k] = v
	}
	for k, v := range p.records {
		c.records[k] = v
	}
	return c
}

// NewWorld returns the world of a seed.
func NewWorld(seed uint64) *World {
	w := &World{disk: vfs.NewMem()}
	w.mu.rng = rand.New(rand.NewPCG(seed, 7))
	w.after = 1 + w.mu.rng.Int64N(120)
	w.mu.promised = newPromises()
	return w
}

// intN draws from the world's source.
func (w *World) intN(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.rng.IntN(n)
}

// watch counts what makes things durable, and at the chosen one keeps what a
// power cut would leave, with what had been promised.
func (w *World) watch(op vfs.Op) error {
	if !op.Durable() || w.seen.Add(1) != w.after {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.owed = w.mu.promised.clone()
	w.mu.crashed = w.disk.CrashClone(w.mu.rng)
	return nil
}

// boot starts a broker.
func boot(fs vfs.FS, n *network, log slog.Handler) (*broker.Broker, error) {
	cfg, _, err := config.Load(config.Sources{
		Flags: map[string]string{"log.dirs": "/data", "http.listen": ""}, Options: []string{"log.segment.bytes=1048576"},
		MemoryBytes: 1 << 30,
	})
	if err != nil {
		return nil, err
	}
	return broker.Start(broker.Options{Config: cfg, FS: fs, Log: slog.New(log), Now: time.Now, Listen: n.listen})
}

// Run lets clients work, crashes, starts again on what is left, and returns the
// first broken promise.
func (w *World) Run() error {
	n := newNetwork()
	b, err := boot(vfs.NewFaulty(w.disk, w.watch), n, slog.DiscardHandler)
	if err != nil {
		return err
	}
	var clients sync.WaitGroup
	for i := range 3 {
		clients.Go(func() { w.client(n, i) })
	}
	clients.Wait()
	if err := b.Stop(); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	if err := w.verify(w.disk, w.mu.promised); err != nil {
		return fmt.Errorf("after a clean stop: %w", err)
	}
	if w.mu.crashed == nil {
		return nil // The work was over before the power failed.
	}
	if err := w.verify(w.mu.crashed, w.mu.owed); err != nil {
		return fmt.Errorf("after a power cut at durable operation %d: %w", w.after, err)
	}
	return nil
}

// client makes topics, produces and deletes.
func (w *World) client(n *network, number int) {
	c := conn.New("", conn.Options{Dial: n.dial})
	defer c.Close()
	ctx := context.Background()
	u := &user{world: w, conn: c, number: number}
	for range 20 + w.intN(30) {
		switch k := w.intN(20); {
		case len(u.topics) == 0 || k == 0:
			u.create(ctx)
		case k == 1 && len(u.topics) > 1:
			u.delete(ctx)
		default:
			u.produce(ctx)
		}
	}
}

// user is a client and the topics that are its own.
type user struct {
	world  *World
	conn   *conn.Conn
	number int
	made   int
	values int
	topics []topic
}

type topic struct {
	name       string
	id         model.TopicID
	partitions int
	pid        int64
	sequences  []int32
}

func (u *user) create(ctx context.Context) {
	q := wire.NewCreateTopicsRequest()
	t := wire.Extend(&q.Topics)
	u.made++
	partitions := 1 + u.world.intN(6)
	t.Name, t.NumPartitions, t.ReplicationFactor = fmt.Sprintf("t-%d-%d", u.number, u.made), int32(partitions), 1
	answer, err := u.conn.Do(ctx, q)
	if err != nil {
		return
	}
	made := answer.(*wire.CreateTopicsResponse).Topics[0]
	if made.ErrorCode != 0 {
		return
	}
	x := topic{name: made.Name, id: made.TopicID, partitions: partitions, pid: -1, sequences: make([]int32, partitions)}
	if u.world.intN(2) == 0 {
		if r, err := u.conn.Do(ctx, wire.NewInitProducerIDRequest()); err == nil {
			x.pid = r.(*wire.InitProducerIDResponse).ProducerID
		}
	}
	u.topics = append(u.topics, x)
	u.world.mu.Lock()
	u.world.mu.promised.topics[x.id] = x.name
	u.world.mu.Unlock()
}

func (u *user) delete(ctx context.Context) {
	i := u.world.intN(len(u.topics))
	x := u.topics[i]
	u.topics = append(u.topics[:i], u.topics[i+1:]...)
	u.world.mu.Lock()
	u.world.mu.promised.deleted[x.id] = false // Asked for: it may be there or not.
	u.world.mu.Unlock()
	q := wire.NewDeleteTopicsRequest()
	wire.Extend(&q.Topics).TopicID = x.id
	answer, err := u.conn.Do(ctx, q)
	if err != nil || answer.(*wire.DeleteTopicsResponse).Responses[0].ErrorCode != 0 {
		return
	}
	u.world.mu.Lock()
	u.world.mu.promised.deleted[x.id] = true
	u.world.mu.Unlock()
}

func (u *user) produce(ctx context.Context) {
	x := &u.topics[u.world.intN(len(u.topics))]
	index := u.world.intN(x.partitions)
	count := 1 + u.world.intN(4)
	values := make([]string, count)
	o := record.BuilderOptions{}
	if x.pid >= 0 {
		o.Producer = &record.Producer{ID: model.ProducerID(x.pid), Sequence: x.sequences[index]}
	}
	b := record.NewBuilder(o)
	for i := range values {
		u.values++
		values[i] = fmt.Sprintf("%d/%d/%0*d", u.number, u.values, u.world.intN(3000), 0)
		if b.Add(record.Record{Timestamp: time.Now().UnixMilli(), Value: []byte(values[i])}) != nil {
			return
		}
	}
	_, batch, err := b.Build(nil)
	if err != nil {
		return
	}
	q := wire.NewProduceRequest()
	q.Acks, q.TimeoutMs = -1, 30_000
	t := wire.Extend(&q.TopicData)
	t.TopicID = x.id
	p := wire.Extend(&t.PartitionData)
	p.Index, p.Records = int32(index), batch
	answer, err := u.conn.Do(ctx, q)
	if err != nil {
		return
	}
	r := answer.(*wire.ProduceResponse).Responses[0].PartitionResponses[0]
	if r.ErrorCode != 0 {
		return
	}
	x.sequences[index] += int32(count)
	u.world.mu.Lock()
	for i, v := range values {
		u.world.mu.promised.records[place{x.id, int32(index), model.Offset(r.BaseOffset) + model.Offset(i)}] = v
	}
	u.world.mu.Unlock()
}

// verify starts a broker on a disk and asks it for everything that was
// promised.
func (w *World) verify(disk *vfs.Mem, owed promises) error {
	n := newNetwork()
	log := w.Log
	if log == nil {
		log = slog.DiscardHandler
	}
	b, err := boot(disk, n, log)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	c := conn.New("", conn.Options{Dial: n.dial})
	err = check(context.Background(), c, owed)
	c.Close()
	return errors.Join(err, b.Stop())
}

func check(ctx context.Context, c *conn.Conn, owed promises) error {
	q := wire.NewMetadataRequest()
	q.Topics, q.AllowAutoTopicCreation = nil, false
	answer, err := c.Do(ctx, q)
	if err != nil {
		return err
	}
	there := map[model.TopicID]wire.MetadataResponseTopic{}
	for _, t := range answer.(*wire.MetadataResponse).Topics {
		there[t.TopicID] = t
		if len(t.Partitions) == 0 {
			return fmt.Errorf("topic %s has no partitions: it was made by halves", *t.Name)
		}
		for _, p := range t.Partitions {
			if p.ErrorCode != 0 {
				return fmt.Errorf("partition %s-%d: %s", *t.Name, p.PartitionIndex, wire.ErrorCode(p.ErrorCode))
			}
		}
	}
	for id, name := range owed.topics {
		gone, asked := owed.deleted[id]
		_, found := there[id]
		if gone && found {
			return fmt.Errorf("topic %s was deleted and is there", name)
		}
		if !asked && !found {
			return fmt.Errorf("topic %s was made and is gone", name)
		}
	}
	return checkRecords(ctx, c, owed, there)
}

func checkRecords(ctx context.Context, c *conn.Conn, owed promises, there map[model.TopicID]wire.MetadataResponseTopic) error {
	for id, t := range there {
		for _, p := range t.Partitions {
			have, err := readAll(ctx, c, id, p.PartitionIndex)
			if err != nil {
				return fmt.Errorf("read %s-%d: %w", *t.Name, p.PartitionIndex, err)
			}
			values := map[string]model.Offset{}
			for o, v := range have {
				if other, twice := values[v]; twice {
					return fmt.Errorf("%s-%d: a value is at offsets %d and %d", *t.Name, p.PartitionIndex, other, o)
				}
				values[v] = o
			}
			for at, v := range owed.records {
				if at.topic == id && at.index == p.PartitionIndex && have[at.offset] != v {
					return fmt.Errorf("%s-%d offset %d: acknowledged %.20q, found %.20q", *t.Name, at.index, at.offset, v, have[at.offset])
				}
			}
		}
	}
	return nil
}

// readAll fetches a partition from start to end.
func readAll(ctx context.Context, c *conn.Conn, id model.TopicID, index int32) (map[model.Offset]string, error) {
	have := map[model.Offset]string{}
	next := model.Offset(0)
	for {
		q := wire.NewFetchRequest()
		q.MaxWaitMs, q.MinBytes, q.SessionEpoch = 0, 0, -1
		t := wire.Extend(&q.Topics)
		t.TopicID = id
		p := wire.Extend(&t.Partitions)
		p.Partition, p.FetchOffset, p.PartitionMaxBytes = index, int64(next), 4096
		answer, err := c.Do(ctx, q)
		if err != nil {
			return nil, err
		}
		r := answer.(*wire.FetchResponse).Responses[0].Partitions[0]
		if r.ErrorCode != 0 {
			return nil, wire.ErrorCode(r.ErrorCode)
		}
		if len(r.Records) == 0 {
			if int64(next) != r.HighWatermark {
				return nil, fmt.Errorf("nothing at offset %d, below the high watermark %d", next, r.HighWatermark)
			}
			return have, nil
		}
		rest := r.Records
		for len(rest) > 0 {
			var b record.Batch
			if b, rest, err = record.Next(rest); err != nil {
				return nil, err
			}
			for x, err := range b.Records(0) {
				if err != nil {
					return nil, err
				}
				have[x.Offset] = string(x.Value)
			}
			next = b.End()
		}
	}
}
