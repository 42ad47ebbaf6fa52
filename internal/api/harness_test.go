package api

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/internal/listener"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/internal/replicas"
	"github.com/barnabas-log/barnabas/internal/replication"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// node is a broker in memory: an image, partitions on a disk that is none, and
// connections that are pipes.
type node struct {
	t      testing.TB
	fs     *vfs.Mem
	api    *API
	server *listener.Server
	pipes  pipes
	ran    sync.WaitGroup
	// maxPartitions bounds what requests may create.
	maxPartitions int
	// slow and slowLog are how many nanoseconds finding a partition, and changing
	// the metadata log, take.
	slow, slowLog atomic.Int64

	mu      sync.Mutex
	tracker *metadata.Tracker
	parts   map[model.Partition]*partition.Partition
	config  *config.Broker
}

// newNode starts a node with options such as "durability=os".
func newNode(t testing.TB, options ...string) *node {
	t.Helper()
	b, _, err := config.Load(config.Sources{Options: append([]string{"node.id=1"}, options...), MemoryBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{
		t: t, fs: vfs.NewMem(), pipes: pipes{make(chan net.Conn), make(chan struct{}), new(sync.Once)}, maxPartitions: 10_000,
		tracker: metadata.NewTracker(metadata.Empty()), parts: map[model.Partition]*partition.Partition{}, config: b,
	}
	random := rand.NewChaCha8([32]byte{1})
	n.api = New(Options{
		Self: 1, ClusterID: "cluster", Config: b, Metadata: n, Replicas: n, Disks: n, Now: time.Now, Log: slog.New(slog.DiscardHandler),
		Rules:  controller.Rules{Config: b, Place: func(model.Partition) model.UUID { return model.UUID{1} }, Random: random},
		Groups: coordinator.NewRuntime(coordinator.Options{}), Transactions: coordinator.NewRuntime(coordinator.Options{}),
	})
	n.server = listener.NewServer(listener.Options{
		Budget: listener.NewBudget(64 << 20), MaxFrame: 8 << 20, Open: n.api.Serving(t.Context(), "PLAINTEXT", Address{"here", 9092}), Dropped: n.api.Dropped,
	})
	n.ran.Go(func() { _ = n.server.Run(n.pipes) })
	n.change(func(i *metadata.Image) ([]metadata.Record, error) {
		records, err := controller.Register(i, metadata.Broker{ID: 1}, random)
		return append(controller.Format(), records...), err
	})
	t.Cleanup(n.stop)
	return n
}

func (n *node) stop() {
	n.server.Stop(context.Background())
	n.ran.Wait()
	for _, p := range n.parts {
		p.Retire()
		if err := p.Close(); err != nil {
			n.t.Error(err)
		}
	}
}

// Image, Epoch, Propose and Partition are what the API needs of its node.
func (n *node) Image() *metadata.Image {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.tracker.Image()
}

func (n *node) Epoch() model.Epoch { return 0 }

var errFull = errors.New("too many partitions for a test")

func (n *node) Propose(_ context.Context, decide func(*metadata.Image) ([]metadata.Record, error)) error {
	nap(&n.slowLog)
	n.mu.Lock()
	defer n.mu.Unlock()
	image := n.tracker.Image()
	records, err := decide(image)
	if err != nil || len(records) == 0 {
		return err
	}
	if image.PartitionCount()+len(records) > n.maxPartitions {
		return errFull
	}
	d, err := n.tracker.Apply(image.End(), records)
	if err != nil {
		return err
	}
	n.api.Publish(d, n.tracker.Image())
	n.openLocked()
	return nil
}

func (n *node) change(decide func(*metadata.Image) ([]metadata.Record, error)) {
	n.t.Helper()
	if err := n.Propose(n.t.Context(), decide); err != nil {
		n.t.Fatal(err)
	}
}

// openLocked opens the partitions that are new, and retires those that went.
func (n *node) openLocked() {
	image := n.tracker.Image()
	wanted := map[model.Partition]bool{}
	image.Topics("", func(t *metadata.Topic) bool {
		cfg, err := config.ResolveTopic(n.config, image.Config(metadata.Resource{Type: metadata.ResourceTopic, Name: t.Name}))
		if err != nil {
			n.t.Error(err)
			return false
		}
		for i := range t.Partitions {
			id := model.Partition{Topic: t.Name, Index: int32(i)}
			if wanted[id] = true; n.parts[id] == nil {
				n.parts[id] = n.open(id, t, cfg)
			}
		}
		return true
	})
	maps.DeleteFunc(n.parts, func(id model.Partition, p *partition.Partition) bool {
		if !wanted[id] {
			p.Retire()
			if err := p.Close(); err != nil {
				n.t.Error(err)
			}
		}
		return !wanted[id]
	})
}

func (n *node) open(id model.Partition, t *metadata.Topic, cfg config.Topic) *partition.Partition {
	dir := id.String() + "-" + t.ID.String()
	if err := n.fs.MkdirAll(dir); err != nil {
		n.t.Error(err)
	}
	p, err := partition.Open(partition.Options{
		FS: n.fs, Dir: dir, ID: id, Self: 1, Config: &cfg, ProducerExpiry: time.Hour, Dirty: func(*partition.Partition) {},
	})
	if err != nil {
		n.t.Fatal(err)
	}
	p.Assign(replication.Assignment{Epoch: 0, Leader: 1, Members: []model.NodeID{1}, Replicas: 1})
	return p
}

func nap(d *atomic.Int64) {
	if d := d.Load(); d > 0 {
		time.Sleep(time.Duration(d))
	}
}

func (n *node) Partition(p model.Partition) (*partition.Partition, error) {
	nap(&n.slow)
	n.mu.Lock()
	defer n.mu.Unlock()
	if x := n.parts[p]; x != nil {
		return x, nil
	}
	return nil, ErrNoReplica
}

// KeepStarts, LogDirs and Move are what the API needs of data directories: one,
// whose starts are always durable.
func (n *node) KeepStarts(ps []model.Partition) []error { return make([]error, len(ps)) }

func (n *node) LogDirs() []replicas.LogDir {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := replicas.LogDir{Path: "/data"}
	for id, p := range n.parts {
		d.Logs = append(d.Logs, replicas.LogInDir{Partition: id, Bytes: p.Log().Size()})
	}
	return []replicas.LogDir{d}
}

func (n *node) Move(p model.Partition, path string) error {
	if path != "/data" {
		return replicas.ErrNoDir
	}
	if _, err := n.Partition(p); err != nil {
		return replicas.ErrUnknown
	}
	return nil
}

// topic makes a topic.
func (n *node) topic(name string, partitions int32, configs ...config.Override) *metadata.Topic {
	n.t.Helper()
	n.change(func(i *metadata.Image) ([]metadata.Record, error) {
		records, created, err := n.api.opts.Rules.CreateTopics(i, []controller.TopicSpec{
			{Name: name, Partitions: partitions, Replication: 1, Configs: configs},
		})
		return records, errors.Join(err, created[0].Err)
	})
	return n.Image().Topic(name)
}

// sync does what a flusher would do.
func (n *node) sync(p model.Partition) {
	n.t.Helper()
	x, err := n.Partition(p)
	if err != nil {
		n.t.Fatal(err)
	}
	s, err := x.BeginSync()
	if err != nil {
		n.t.Fatal(err)
	}
	x.Synced(s, s.Flush())
}

// pipes is a listener whose connections are in memory.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   *sync.Once
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9092} }

// client is one connection.
type client struct {
	t    testing.TB
	conn net.Conn
	next int32
	id   string // Client id.
}

func (n *node) dial() *client {
	c := n.dialIn(n.t)
	n.t.Cleanup(func() { c.conn.Close() })
	return c
}

// dialIn makes a connection that the caller closes.
func (n *node) dialIn(t testing.TB) *client {
	ours, theirs := net.Pipe()
	n.pipes.conns <- theirs
	return &client{t: t, conn: ours, id: "test"}
}

// write sends a request.
func (c *client) write(req wire.Request, version int16) {
	c.t.Helper()
	c.next++
	frame, err := wire.AppendRequest(nil, wire.RequestHeader{Version: version, CorrelationID: c.next, ClientID: &c.id}, req)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.conn.Write(frame); err != nil {
		c.t.Fatal(err)
	}
}

// frame reads one answer, or nothing if the connection ended.
func (c *client) frame() []byte {
	size := make([]byte, wire.FrameSizeBytes)
	if _, err := io.ReadFull(c.conn, size); err != nil {
		return nil
	}
	b := make([]byte, binary.BigEndian.Uint32(size))
	if _, err := io.ReadFull(c.conn, b); err != nil {
		c.t.Fatal(err)
	}
	return b
}

// decode reads the answer to a request.
func decode[R wire.Response](t testing.TB, frame []byte, version int16) R {
	t.Helper()
	var key wire.Key
	var zero R
	key = zero.Key()
	r := wire.NewReader(frame)
	if _, err := wire.ReadResponseHeader(r, key, version); err != nil {
		t.Fatal(err)
	}
	api, _ := wire.LookupAPI(key)
	resp := api.NewRequest().NewResponse().(R)
	if err := wire.ReadExactly(r, resp, version); err != nil {
		t.Fatal(err)
	}
	return resp
}

// ask sends a request and returns its answer.
func ask[R wire.Response](c *client, req wire.Request, version int16) R {
	c.t.Helper()
	c.write(req, version)
	f := c.frame()
	if f == nil {
		c.t.Fatalf("%s: the connection was closed", req.Key())
	}
	return decode[R](c.t, f, version)
}

// longAgo is before the time at which synctest begins.
const longAgo = 900_000_000_000

// batch builds one batch.
func batch(t testing.TB, o record.BuilderOptions, values ...string) record.Batch {
	t.Helper()
	b := record.NewBuilder(o)
	for i, v := range values {
		if err := b.AddAt(record.Record{Offset: model.Offset(i), Timestamp: longAgo, Value: []byte(v)}); err != nil {
			t.Fatal(err)
		}
	}
	_, x, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// produce is a request for one partition.
func produce(topic string, index int32, acks int16, b record.Batch) *wire.ProduceRequest {
	q := wire.NewProduceRequest()
	q.Acks, q.TimeoutMs = acks, 1000
	q.TopicData = []wire.ProduceRequestTopicProduceData{{Name: topic, PartitionData: []wire.ProduceRequestPartitionProduceData{{Index: index, Records: b}}}}
	return q
}

// fetch is a request for some partitions of a topic, from offset 0.
func fetch(topic string, indexes ...int32) *wire.FetchRequest {
	q := wire.NewFetchRequest()
	q.MaxBytes, q.MinBytes = 1<<20, 1
	t := wire.FetchRequestFetchTopic{Topic: topic}
	for _, i := range indexes {
		p := wire.FetchRequestFetchPartition{}
		p.Reset()
		p.Partition, p.PartitionMaxBytes = i, 1<<20
		t.Partitions = append(t.Partitions, p)
	}
	q.Topics = []wire.FetchRequestFetchTopic{t}
	return q
}
