package bridge

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/dafka"
	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/mesh"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/model"
)

// Options are what a bridge stands on.
type Options struct {
	Config *dafka.Config // Where the mesh is; of store/… only high_watermark counts.
	Self   model.NodeID
	// Address is the writer's in the mesh: the same after a restart, so that
	// producers which want several acknowledgements do not count this store twice.
	Address string
	// Partition gives this node's replicas, as of the image that the node follows.
	Partition func(model.TopicID, model.Partition) (*partition.Partition, error)
	// Propose changes the cluster: see [quorum.Quorum.Propose]. When it returns,
	// Publish was called with the change.
	Propose       func(context.Context, func(*metadata.Image) ([]metadata.Record, error)) error
	Rules         controller.Rules
	MaxPartitions int // That Dafka producers are given.
	Now           func() time.Time
	Log           *slog.Logger
}

// Bridge is a broker's part in a mesh.
type Bridge struct {
	o      Options
	writer *writer
	reader *reader
	live   *live
	admits *admits

	mu struct {
		sync.Mutex
		image *metadata.Image // The newest that concerns the mesh.
		table *table
	}

	stop    context.CancelFunc
	running sync.WaitGroup

	// What was counted.
	records, bytes, refused, published atomic.Uint64
}

// Start joins the mesh, of which nobody need be there yet, with what an image has.
// Publish tells of later ones.
func Start(o Options, image *metadata.Image) (*Bridge, error) {
	security, err := mesh.ParseSecurity(o.Config.Public, o.Config.Secret)
	if err != nil {
		return nil, err
	}
	b := &Bridge{o: o}
	b.mu.table, b.mu.image = &table{}, metadata.Empty()
	at := &o.Config.Beacon
	mo := mesh.Options{
		Bind: at.Bind, Host: at.Address, ToTowers: at.Sub, FromTowers: at.Pub, Interval: at.Interval, Timeout: at.Timeout,
		HighWater: o.Config.Store.HighWatermark, HighWaterBytes: queued, Linger: linger, Security: security, Beside: o.Address, Log: o.Log,
	}
	reads := mesh.NewAddress()
	b.admits = newAdmits(b)
	b.writer = newWriter(b, o.Address, reads)
	b.reader = newReader(b, reads, o.Address)
	b.live = newLive(b)
	b.Publish(nil, image)
	if err := b.reader.Join(reads, mo); err != nil {
		return nil, err
	}
	mo.Bind, mo.Beside = mesh.NextPort(mo.Bind), reads
	if err := b.writer.join(mo); err != nil {
		return nil, errors.Join(err, b.reader.Node.Close(context.Background()))
	}
	var ctx context.Context
	ctx, b.stop = context.WithCancel(context.Background())
	b.running.Go(func() { b.writer.run(ctx) })
	b.running.Go(func() { b.reader.run(ctx) })
	b.running.Go(func() { b.live.run(ctx) })
	b.running.Go(func() { b.admits.run(ctx) })
	return b, nil
}

const (
	// linger is how long the last messages may take when the broker stops.
	linger = time.Second
	// queued is how many bytes may wait for one peer, besides the messages of
	// store/high_watermark: there may be many who read slowly.
	queued = 8 << 20
)

// Publish makes the bridge follow an image, which the replicas of this node
// follow already.
func (b *Bridge) Publish(d *metadata.Delta, image *metadata.Image) {
	if d != nil && !concerns(d) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if image.End() >= b.mu.image.End() {
		b.mu.image = image
	}
	b.lookLocked()
}

// look finds what could not be served, and can be by now.
func (b *Bridge) look() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.ContainsFunc(b.mu.table.parts, func(p *part) bool { return p.replica == nil }) {
		b.lookLocked()
	}
}

func (b *Bridge) lookLocked() {
	t := newTable(b.mu.table, b.mu.image, b.o.Self, b.o.Partition)
	if !t.anew && len(t.parts) == len(b.mu.table.parts) {
		return
	}
	b.mu.table = t
	b.reader.follow(t)
	b.writer.follow(t)
	b.live.follow(t)
}

// concerns reports whether a change can be one of partitions for the mesh.
func concerns(d *metadata.Delta) bool {
	if len(d.Topics) > 0 {
		return true
	}
	for _, c := range d.Configs {
		if c.Type == metadata.ResourceTopic {
			return true
		}
	}
	return false
}

// Close leaves the mesh. What is not committed by then was not acknowledged. ctx
// bounds how long the last messages may take.
func (b *Bridge) Close(ctx context.Context) {
	b.writer.close()
	b.stop()
	b.running.Wait()
	b.live.forget()
	_ = b.writer.node.Close(ctx) // Who missed the last messages asks again.
	_ = b.reader.Node.Close(ctx)
}

// Stats are what a bridge has counted since it began.
type Stats struct {
	Writer, Reader mesh.Stats
	Partitions     int    // That are stored or published.
	Records, Bytes uint64 // Of Dafka producers, stored; bytes of contents.
	Refused        uint64 // Messages of producers that get no partition, and records that could not be stored.
	Served         uint64 // Records that were sent to who asked.
	Published      uint64 // Records of Kafka producers that were published.
}

// Stats returns what was counted.
func (b *Bridge) Stats() Stats {
	b.mu.Lock()
	parts := len(b.mu.table.parts)
	b.mu.Unlock()
	return Stats{
		b.writer.node.Stats(), b.reader.Node.Stats(), parts, b.records.Load(), b.bytes.Load(),
		b.refused.Load(), b.reader.Served.Load(), b.published.Load(),
	}
}
