package simulation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/barnabas-log/barnabas/conn"
	"github.com/barnabas-log/barnabas/internal/broker"
	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// World is one broker at a time, a few clients, and a disk. In each of its
// lives the broker ends at a moment that the seed decides: by a power cut, by
// kill -9, or by a clean stop. The next life begins on what that left.
type World struct {
	// Log is told what the brokers find after the first end; nil is nobody.
	Log slog.Handler

	rng  *rand.Rand
	disk *vfs.Mem
	life int

	mu struct {
		sync.Mutex
		rng      *rand.Rand // The clients'.
		promises promises
		left     int64 // Durable operations until the end.
		next     *vfs.Mem
		owed     promises // What was promised when the end came.
		wrong    error    // An answer that no client should get.
	}
}

// ending is how a life ends.
type ending int

const (
	powerCut ending = iota
	kill
	stop
	endings
)

// Lives is how many lives a world has.
const Lives = 3

// NewWorld returns the world of a seed.
func NewWorld(seed uint64) *World {
	w := &World{disk: vfs.NewMem(), rng: rand.New(rand.NewPCG(seed, 7))}
	w.mu.rng = rand.New(rand.NewPCG(seed, 8))
	w.mu.promises = newPromises()
	return w
}

// intN draws from the clients' source.
func (w *World) intN(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.rng.IntN(n)
}

// watch counts what makes things durable, and at the chosen one keeps what the
// end would leave, with what had been promised. The broker itself goes on, into
// nowhere.
func (w *World) watch(how ending) func(vfs.Op) error {
	return func(op vfs.Op) error {
		if !op.Durable() {
			return nil
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.mu.left--; w.mu.left == 0 && how != stop {
			w.endLocked(how)
		}
		return nil
	}
}

func (w *World) endLocked(how ending) {
	w.mu.owed = w.mu.promises.clone()
	if how == kill {
		w.mu.next = w.disk.KillClone()
		return
	}
	w.mu.owed.powerCut()
	w.mu.next = w.disk.CrashClone(w.mu.rng)
}

// boot starts a broker.
func boot(fs vfs.FS, n *network, log slog.Handler) (*broker.Broker, error) {
	cfg, _, err := config.Load(config.Sources{
		Flags: map[string]string{"log.dirs": "/data", "http.listen": ""},
		Options: []string{
			"log.segment.bytes=1048576", "log.retention.check.interval.ms=7000", "log.flush.offset.checkpoint.interval.ms=9000",
		},
		MemoryBytes: 1 << 30,
	})
	if err != nil {
		return nil, err
	}
	return broker.Start(broker.Options{Config: cfg, FS: fs, Log: slog.New(log), Now: time.Now, Listen: n.listen})
}

// Run lets clients work, ends the broker, starts the next one on what is left,
// and so on. It returns the first broken promise.
func (w *World) Run() error {
	for w.life = range Lives {
		how := ending(w.rng.IntN(int(endings)))
		if err := w.live(how); err != nil {
			return fmt.Errorf("life %d: %w", w.life, err)
		}
	}
	return w.verify(w.disk, w.mu.promises)
}

// live is one life, in which promises of the earlier ones are checked, too.
func (w *World) live(how ending) error {
	w.mu.left, w.mu.next = 1+w.rng.Int64N(150), nil
	n := newNetwork()
	log := w.Log
	if log == nil || w.life == 0 {
		log = slog.DiscardHandler
	}
	b, err := boot(vfs.NewFaulty(w.disk, w.watch(how)), n, log)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	c := conn.New("", conn.Options{Dial: n.dial})
	err = check(context.Background(), c, w.mu.promises)
	c.Close()
	if err == nil {
		w.work(n)
		err = w.mu.wrong
	}
	if err := errors.Join(err, b.Stop()); err != nil {
		return err
	}
	w.disk.SetCapacity(0)
	if w.mu.next != nil {
		w.disk, w.mu.promises = w.mu.next, w.mu.owed
		w.disk.SetCapacity(0)
	}
	return nil
}

// failLocked notes an answer that no client should get.
func (w *World) failLocked(err error) {
	if w.mu.wrong == nil {
		w.mu.wrong = err
	}
}

// work lets the clients of this life do something.
func (w *World) work(n *network) {
	var clients sync.WaitGroup
	for i := range 3 {
		clients.Go(func() { w.client(n, i) })
	}
	clients.Wait()
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
	for id, t := range owed.topics {
		gone, asked := owed.deleted[id]
		_, found := there[id]
		if gone && found {
			return fmt.Errorf("topic %s was deleted and is there", t.name)
		}
		if !asked && !found {
			return fmt.Errorf("topic %s was made and is gone", t.name)
		}
	}
	return checkRecords(ctx, c, owed, there)
}

func checkRecords(ctx context.Context, c *conn.Conn, owed promises, there map[model.TopicID]wire.MetadataResponseTopic) error {
	for id, t := range there {
		for _, p := range t.Partitions {
			have, start, err := readAll(ctx, c, id, p.PartitionIndex)
			if err != nil {
				return fmt.Errorf("read %s-%d: %w", *t.Name, p.PartitionIndex, err)
			}
			if start > 0 && (owed.topics[id] == nil || !owed.topics[id].retention) {
				return fmt.Errorf("%s-%d starts at %d", *t.Name, p.PartitionIndex, start)
			}
			values := map[string]model.Offset{}
			for o, v := range have {
				if other, twice := values[v]; twice {
					return fmt.Errorf("%s-%d: a value is at offsets %d and %d", *t.Name, p.PartitionIndex, other, o)
				}
				values[v] = o
			}
			for at, v := range owed.records {
				if at.topic == id && at.index == p.PartitionIndex && at.offset >= start && have[at.offset] != v {
					return fmt.Errorf("%s-%d offset %d: acknowledged %.20q, found %.20q", *t.Name, at.index, at.offset, v, have[at.offset])
				}
			}
		}
	}
	return nil
}

// readAll fetches a partition from start to end.
func readAll(ctx context.Context, c *conn.Conn, id model.TopicID, index int32) (have map[model.Offset]string, start model.Offset, err error) {
	have = map[model.Offset]string{}
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
			return nil, 0, err
		}
		r := answer.(*wire.FetchResponse).Responses[0].Partitions[0]
		if wire.ErrorCode(r.ErrorCode) == wire.OffsetOutOfRange { // Retention took its beginning.
			if start, err = earliest(ctx, c, id, index); err != nil || start <= next {
				return nil, 0, errors.Join(err, wire.OffsetOutOfRange)
			}
			next = start
			clear(have)
			continue
		}
		if r.ErrorCode != 0 {
			return nil, 0, wire.ErrorCode(r.ErrorCode)
		}
		if len(r.Records) == 0 {
			if int64(next) != r.HighWatermark {
				return nil, 0, fmt.Errorf("nothing at offset %d, below the high watermark %d", next, r.HighWatermark)
			}
			return have, start, nil
		}
		rest := r.Records
		for len(rest) > 0 {
			var b record.Batch
			if b, rest, err = record.Next(rest); err != nil {
				return nil, 0, err
			}
			for x, err := range b.Records(0) {
				if err != nil {
					return nil, 0, err
				}
				have[x.Offset] = string(x.Value)
			}
			next = b.End()
		}
	}
}

// earliest is where a partition starts.
func earliest(ctx context.Context, c *conn.Conn, id model.TopicID, index int32) (model.Offset, error) {
	names := wire.NewMetadataRequest()
	wire.Extend(&names.Topics).TopicID = id
	answer, err := c.Do(ctx, names)
	if err != nil {
		return 0, err
	}
	q := wire.NewListOffsetsRequest()
	t := wire.Extend(&q.Topics)
	t.Name = *answer.(*wire.MetadataResponse).Topics[0].Name
	p := wire.Extend(&t.Partitions)
	p.PartitionIndex, p.Timestamp = index, -2
	if answer, err = c.Do(ctx, q); err != nil {
		return 0, err
	}
	r := answer.(*wire.ListOffsetsResponse).Topics[0].Partitions[0]
	if r.ErrorCode != 0 {
		return 0, wire.ErrorCode(r.ErrorCode)
	}
	return model.Offset(r.Offset), nil
}
