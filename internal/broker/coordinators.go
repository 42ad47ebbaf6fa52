package broker

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/internal/coordinator/group"
	"github.com/barnabas-log/barnabas/internal/coordinator/txn"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// maxCoordinatorBatch is the most bytes of a batch in a coordinator's topic: the
// default of max.message.bytes, which those topics keep.
const maxCoordinatorBatch = 1 << 20

// maxNeeds is how many shards of transactions may wait for producer ids: all of
// the usual fifty do when the node starts. One beyond asks again in a second.
const maxNeeds = 1000

// coordinators are this node's shards of the two coordinators.
type coordinators struct {
	b            *Broker
	groups, txns *coordinator.Runtime
	memory       *coordinator.Memory
	markers      *markers
	needs        chan int32 // Shards that want producer ids.
	mu           struct {
		sync.Mutex
		led map[string]*metadata.Topic // As the shards know them.
	}
}

func newCoordinators(b *Broker) *coordinators {
	c := &coordinators{b: b, markers: newMarkers(b.log("coordinator")), needs: make(chan int32, maxNeeds)}
	c.memory = coordinator.NewMemory(b.config.Coordinators.MemoryBytes)
	c.mu.led = map[string]*metadata.Topic{}
	c.groups = coordinator.NewRuntime(coordinator.Options{
		Name: "group", New: c.newGroups, Now: b.opts.Now, Log: b.log("coordinator"), MaxBatch: maxCoordinatorBatch,
		Codec: record.Codec(b.config.Coordinators.Groups.OffsetsCodec), Memory: c.memory, Patience: b.config.Coordinators.Groups.CommitTimeout,
		Send: func(int32, model.Epoch, any) {},
	})
	c.txns = coordinator.NewRuntime(coordinator.Options{
		Name: "transaction", New: c.newTxns, Now: b.opts.Now, Log: b.log("coordinator"), MaxBatch: maxCoordinatorBatch, Send: c.send,
		Memory: c.memory,
	})
	return c
}

func (c *coordinators) newGroups(shard int32, share *coordinator.Share) coordinator.Machine {
	image := c.b.quorum.Image()
	return group.New(group.Options{
		Shard: shard, Settings: c.b.configIn(image).Coordinators.Groups, Image: image, Rand: newRand(), MaxBatch: maxCoordinatorBatch, Memory: share,
	})
}

func newRand() *rand.Rand {
	var seed [16]byte
	_, _ = crand.Read(seed[:]) // Never fails.
	return rand.New(rand.NewPCG(binary.LittleEndian.Uint64(seed[:8]), binary.LittleEndian.Uint64(seed[8:])))
}

func (c *coordinators) newTxns(_ int32, share *coordinator.Share) coordinator.Machine {
	image := c.b.quorum.Image()
	return txn.New(txn.Options{
		Settings: c.b.configIn(image).Coordinators.Txn, TransactionVersion: image.Feature(controller.TransactionVersion), MaxBatch: maxCoordinatorBatch,
		Memory: share,
	})
}

// start lets the shards find what they stand on. The API is there by now.
func (c *coordinators) start(ctx context.Context) {
	c.markers.write = c.b.api.WriteMarker
	c.markers.exists = func(p model.Partition) bool {
		t := c.b.quorum.Image().Topic(p.Topic)
		return t != nil && int(p.Index) < len(t.Partitions)
	}
	c.markers.written = func(shard int32, news txn.MarkersWritten) { _ = c.txns.Submit(shard, news, nil) } // One that has moved sends anew.
	c.b.running.Go(func() { c.run(ctx) })
	c.b.running.Go(func() { c.markers.run(ctx) })
	c.publish(nil, c.b.quorum.Image())
}

// publish makes the shards follow the image: those that this node leads, in
// the leader epochs that it says, are loaded, and others end.
func (c *coordinators) publish(d *metadata.Delta, i *metadata.Image) {
	c.follow(c.groups, controller.OffsetsTopic, i)
	c.follow(c.txns, controller.TransactionsTopic, i)
	settings := c.b.configIn(i).Coordinators
	c.groups.Tell(group.News{Image: i, Delta: d, Settings: &settings.Groups})
	c.txns.Tell(txn.News{Settings: settings.Txn, TransactionVersion: i.Feature(controller.TransactionVersion)})
}

func (c *coordinators) follow(r *coordinator.Runtime, name string, i *metadata.Image) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, was := i.Topic(name), c.mu.led[name]
	if t == was {
		return
	}
	c.mu.led[name] = t
	if was != nil && (t == nil || t.ID != was.ID) { // Deleted: its shards have nothing to stand on.
		for p := range was.Partitions {
			r.Resign(int32(p))
		}
	}
	if t == nil {
		return
	}
	for p, state := range t.Partitions {
		if state.Leader != c.b.self() {
			r.Resign(int32(p))
			continue
		}
		replica, err := c.b.replicas.Load().Partition(model.Partition{Topic: name, Index: int32(p)})
		if err != nil {
			c.b.log("coordinator").Error("coordinator has no replica", "topic", name, "partition", p, "err", err)
			r.Resign(int32(p))
			continue
		}
		r.Lead(int32(p), state.LeaderEpoch, coordLog{replica, c.b.opts.Now})
	}
}

// send does what the machine of a shard of transactions wants done.
func (c *coordinators) send(shard int32, epoch model.Epoch, what any) {
	switch what := what.(type) {
	case txn.WriteMarkers:
		c.markers.start(shard, epoch, what)
	case txn.NeedProducerIDs:
		select {
		case c.needs <- shard:
		default: // Shards that get none ask again.
		}
	case txn.TimedOut:
		c.b.log("coordinator").Info("transaction timed out, aborting", "txn", what.TransactionalID, "producer", what.ProducerID, "epoch", what.Epoch, "after", what.OpenFor)
	}
}

// idsPerShard is how many producer ids a shard of transactions gets at a time.
const idsPerShard = 100

// fullPause is how often it is said that memory is full.
const fullPause = time.Minute

// run gets producer ids for the shards, and says that they refuse what is new,
// until ctx ends.
func (c *coordinators) run(ctx context.Context) {
	look := time.NewTicker(fullPause)
	defer look.Stop()
	refused := uint64(0)
	for {
		select {
		case <-look.C:
			if n := c.memory.Refused(); n > refused {
				c.b.log("coordinator").Warn("memory of coordinators is full: new groups, members, offsets and transactional ids are refused; raise coordinator.memory.max.bytes, or delete what nobody needs",
					"held", c.memory.Held(), "limit", c.memory.Limit(), "refused", n-refused)
				refused = n
			}
		case shard := <-c.needs:
			first, end := c.b.api.ProducerIDs(ctx, idsPerShard)
			_ = c.txns.Submit(shard, txn.ProducerIDs{First: first, End: end}, nil) // It may have moved.
		case <-ctx.Done():
			return
		}
	}
}

// close ends the shards.
func (c *coordinators) close() {
	c.groups.Close()
	c.txns.Close()
}
