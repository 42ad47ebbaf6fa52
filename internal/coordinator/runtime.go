package coordinator

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// Options are what the shards of one coordinator share.
type Options struct {
	// Name is for the log: group or transaction.
	Name string
	// New makes the machine of a partition, with nothing in it. What it will keep
	// it counts by the share.
	New func(partition int32, share *Share) Machine
	// Memory is that of all shards, of other runtimes, too; nil is no limit.
	Memory *Memory
	// Send takes what a machine sends. It is called by the shard's goroutine and
	// must not block.
	Send func(partition int32, epoch model.Epoch, send any)
	Now  func() time.Time
	Log  *slog.Logger
	// Patience is how long an answer waits for the log to be committed; then it is
	// ErrUnavailable. 0 is without end.
	Patience time.Duration
	// MaxBatch is the most bytes that a batch of the log may have.
	MaxBatch int
	// Codec compresses the batches.
	Codec record.Codec
}

// Runtime are the shards that this node leads.
type Runtime struct {
	opts    Options
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	stats   Stats
	mu      struct {
		sync.RWMutex
		shards map[int32]*shard
	}
}

// Stats counts what the shards do.
type Stats struct {
	// Inputs that were taken, batches and records that were appended, shards
	// that were loaded, and inputs that were lost or not taken.
	Inputs, Batches, Records, Loads, Failed atomic.Uint64
	// LoadNanos is the time that all loads took.
	LoadNanos atomic.Int64
}

// NewRuntime returns a runtime without shards.
func NewRuntime(o Options) *Runtime {
	if o.Memory == nil {
		o.Memory = NewMemory(0)
	}
	r := &Runtime{opts: o}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.mu.shards = map[int32]*shard{}
	return r
}

// Stats returns the counters.
func (r *Runtime) Stats() *Stats { return &r.stats }

// Lead makes this node the coordinator of a partition in a leader epoch: a
// shard is loaded from its log. A shard of an older epoch ends.
func (r *Runtime) Lead(partition int32, epoch model.Epoch, log Log) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.mu.shards[partition]
	if r.ctx.Err() != nil || old != nil && old.epoch >= epoch && !old.isOver() {
		return
	}
	if old != nil {
		old.cancel()
	}
	s := newShard(r, partition, epoch, log)
	r.mu.shards[partition] = s
	r.running.Go(s.run)
}

// Resign ends a partition's shard, if there is one: another node leads.
func (r *Runtime) Resign(partition int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.mu.shards[partition]; s != nil {
		s.cancel()
		delete(r.mu.shards, partition)
	}
}

// Submit gives an input to a partition's shard. Done is called with its
// answer, unless Submit returns an error.
func (r *Runtime) Submit(partition int32, in any, done Done) error {
	s := r.shard(partition)
	if s == nil {
		return ErrNotCoordinator
	}
	return s.submit(in, done)
}

// Tell gives an input that wants no answer to all shards that are loaded, such
// as news of the cluster.
func (r *Runtime) Tell(in any) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, s := range r.mu.shards {
		s.tell(in)
	}
}

// Shards lists the partitions that this node leads, in no order.
func (r *Runtime) Shards() []int32 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	list := make([]int32, 0, len(r.mu.shards))
	for p := range r.mu.shards {
		list = append(list, p)
	}
	return list
}

// Close ends all shards and returns when they have ended. What they owe is
// answered with ErrNotCoordinator.
func (r *Runtime) Close() {
	r.mu.Lock()
	r.cancel()
	r.mu.Unlock()
	r.running.Wait()
}

func (r *Runtime) shard(partition int32) *shard {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.mu.shards[partition]
}
