package broker

import (
	"bytes"
	"encoding/binary"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// world is a node whose disk, network and clock are a test's.
type world struct {
	t       testing.TB
	b       *Broker
	mem     *vfs.Mem
	options []string
	client  *client
	log     bytes.Buffer // What it says, once it is stopped.

	mu struct {
		sync.Mutex
		listeners map[string]*pipes // By address.
		ops       []vfs.Op
		hook      func(vfs.Op) error
	}
}

// inWorld runs f beside a node with these options, key=value.
func inWorld(t *testing.T, options []string, f func(w *world)) {
	t.Helper()
	// What pools keep of an earlier bubble cannot be used in this one: the second
	// collection empties them.
	runtime.GC()
	runtime.GC()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, mem: vfs.NewMem(), options: options}
		w.start()
		defer w.stop()
		f(w)
	})
}

func (w *world) start() {
	w.t.Helper()
	w.mu.listeners = map[string]*pipes{}
	options := append([]string{"connections.max.idle.ms=-1"}, w.options...)
	if !slices.ContainsFunc(w.options, func(o string) bool { return strings.HasPrefix(o, "log.dirs=") || strings.HasPrefix(o, "log.dir=") }) {
		options = append(options, "log.dirs=/a")
	}
	cfg, _, err := config.Load(config.Sources{Flags: map[string]string{"http.listen": ""}, Options: options, MemoryBytes: 1 << 30})
	if err != nil {
		w.t.Fatal(err)
	}
	w.b, err = Start(Options{
		Config: cfg, FS: vfs.NewFaulty(w.mem, w.op), Log: slog.New(slog.NewTextHandler(&w.log, nil)), Now: time.Now, Listen: w.listen,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.client = nil
}

// main is the connection of who need only one.
func (w *world) main() *client {
	w.t.Helper()
	if w.client == nil {
		w.client = w.dial()
	}
	return w.client
}

func (w *world) stop() {
	w.t.Helper()
	if err := w.b.Stop(); err != nil {
		w.t.Error(err)
	}
}

func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.start()
}

// op sees each operation on the disk.
func (w *world) op(o vfs.Op) error {
	w.mu.Lock()
	w.mu.ops = append(w.mu.ops, o)
	hook := w.mu.hook
	w.mu.Unlock()
	if hook != nil {
		return hook(o)
	}
	return nil
}

// hinder makes operations on files of a pattern take time, and counts how many
// there are at most at the same time.
func (w *world) hinder(kind vfs.OpKind, pattern string, d time.Duration) (most *atomic.Int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var now atomic.Int64
	most = new(atomic.Int64)
	w.mu.hook = func(o vfs.Op) error {
		if ok, _ := filepath.Match(pattern, o.Path); ok && o.Kind == kind {
			most.Store(max(most.Load(), now.Add(1)))
			time.Sleep(d)
			now.Add(-1)
		}
		return nil
	}
	return most
}

// count is how often something was done since the last forget to files of a
// pattern.
func (w *world) count(kind vfs.OpKind, pattern string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range w.mu.ops {
		if ok, _ := filepath.Match(pattern, o.Path); ok && o.Kind == kind {
			n++
		}
	}
	return n
}

func (w *world) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.ops = nil
}

// files are those of a directory whose names end in suffix.
func (w *world) files(dir, suffix string) (names []string) {
	w.t.Helper()
	infos, err := w.mem.ReadDir(dir)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, i := range infos {
		if strings.HasSuffix(i.Name, suffix) {
			names = append(names, i.Name)
		}
	}
	return names
}

func (w *world) fileSize(name string) int64 {
	w.t.Helper()
	i, err := w.mem.Stat(name)
	if err != nil {
		w.t.Fatal(err)
	}
	return i.Size
}

// pipes is a listener whose connections are in memory.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	at     net.Addr
}

// listen is net.Listen for a world in which somebody else has port 6666.
func (w *world) listen(_, address string) (net.Listener, error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{}), at: net.TCPAddrFromAddrPort(at)}
	if strings.HasSuffix(address, ":6666") {
		return nil, syscall.EADDRINUSE
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.listeners[address] = p
	return p, nil
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return p.at }

// from is a connection that comes from an address.
type from struct {
	net.Conn
	ip string
}

func (f from) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.ParseIP(f.ip), Port: 50000} }

// client is one connection.
type client struct {
	t    testing.TB
	conn net.Conn
	next int32
}

const (
	home  = "127.0.0.1:9092" // Where a node listens unless it is told to listen elsewhere.
	local = "10.0.0.1"       // Whence clients come.
)

func (w *world) dial() *client { return w.dialFrom(local, home) }

// dialFrom connects an address to a listener. If nobody takes the connection
// for a minute the client is one whose connection is closed.
func (w *world) dialFrom(ip, listener string) *client {
	w.t.Helper()
	w.mu.Lock()
	l := w.mu.listeners[listener]
	w.mu.Unlock()
	if l == nil {
		w.t.Fatalf("nobody listens at %s, but %v", listener, slices.Collect(maps.Keys(w.mu.listeners)))
	}
	ours, theirs := net.Pipe()
	select {
	case l.conns <- from{theirs, ip}:
	case <-time.After(time.Minute):
		theirs.Close()
	}
	w.t.Cleanup(func() { ours.Close() })
	return &client{t: w.t, conn: ours}
}

// send sends a request; false if the connection is closed.
func (c *client) send(q wire.Request, version int16) bool {
	c.t.Helper()
	c.next++
	id := "test"
	frame, err := wire.AppendRequest(nil, wire.RequestHeader{Version: version, CorrelationID: c.next, ClientID: &id}, q)
	if err != nil {
		c.t.Fatal(err)
	}
	_, err = c.conn.Write(frame)
	return err == nil
}

// frame is one answer, nil if the connection ends.
func (c *client) frame() []byte {
	size := make([]byte, wire.FrameSizeBytes)
	if _, err := io.ReadFull(c.conn, size); err != nil {
		return nil
	}
	b := make([]byte, binary.BigEndian.Uint32(size))
	if _, err := io.ReadFull(c.conn, b); err != nil {
		return nil
	}
	return b
}

// lives reports whether the node still answers on a connection.
func (c *client) lives() bool {
	c.t.Helper()
	c.conn.SetDeadline(time.Now().Add(time.Minute))
	return c.send(wire.NewApiVersionsRequest(), 0) && c.frame() != nil
}

// ask sends a request in the newest version and returns its answer.
func ask[R wire.Response](c *client, q wire.Request) R {
	c.t.Helper()
	api, _ := wire.LookupAPI(q.Key())
	return askAt[R](c, q, api.MaxVersion)
}

func askAt[R wire.Response](c *client, q wire.Request, version int16) R {
	c.t.Helper()
	if !c.send(q, version) {
		c.t.Fatalf("%s: the connection is closed", q.Key())
	}
	f := c.frame()
	if f == nil {
		c.t.Fatalf("%s: the connection was closed", q.Key())
	}
	r := wire.NewReader(f)
	if _, err := wire.ReadResponseHeader(r, q.Key(), version); err != nil {
		c.t.Fatal(err)
	}
	resp := q.NewResponse().(R)
	if err := wire.ReadExactly(r, resp, version); err != nil {
		c.t.Fatal(err)
	}
	return resp
}

// create makes a topic of one partition with configs, key=value.
func (w *world) create(topic string, configs ...string) {
	w.t.Helper()
	w.createMany(topic, 1, configs...)
}

func (w *world) createMany(topic string, partitions int32, configs ...string) {
	w.t.Helper()
	t := wire.CreateTopicsRequestCreatableTopic{Name: topic, NumPartitions: partitions, ReplicationFactor: 1}
	for _, c := range configs {
		name, value, _ := strings.Cut(c, "=")
		t.Configs = append(t.Configs, wire.CreateTopicsRequestCreatableTopicConfig{Name: name, Value: &value})
	}
	q := wire.NewCreateTopicsRequest()
	q.Topics = []wire.CreateTopicsRequestCreatableTopic{t}
	for _, t := range ask[*wire.CreateTopicsResponse](w.main(), q).Topics {
		if t.ErrorCode != 0 {
			w.t.Fatalf("%s: %d %s", topic, t.ErrorCode, *t.ErrorMessage)
		}
	}
}

// set gives a config, key=value, to all brokers while they run.
func (w *world) set(setting string) {
	w.t.Helper()
	w.setFor("", setting)
}

func (w *world) setFor(broker, setting string) { w.t.Helper(); w.alter(ofBroker, broker, setting) }

// alter gives configs, key=value, to a resource of a type while the node runs,
// or takes them away: key alone.
func (w *world) alter(kind int8, resource string, settings ...string) {
	w.t.Helper()
	x := wire.IncrementalAlterConfigsRequestAlterConfigsResource{ResourceType: kind, ResourceName: resource}
	for _, s := range settings {
		name, value, set := strings.Cut(s, "=")
		c := wire.IncrementalAlterConfigsRequestAlterableConfig{Name: name, Value: &value}
		if !set {
			c.ConfigOperation, c.Value = 1, nil
		}
		x.Configs = append(x.Configs, c)
	}
	q := wire.NewIncrementalAlterConfigsRequest()
	q.Resources = []wire.IncrementalAlterConfigsRequestAlterConfigsResource{x}
	for _, r := range ask[*wire.IncrementalAlterConfigsResponse](w.main(), q).Responses {
		if r.ErrorCode != 0 {
			w.t.Fatalf("%v: %d %s", settings, r.ErrorCode, *r.ErrorMessage)
		}
	}
	synctest.Wait()
}

func (w *world) part(topic string, index int32) *partition.Partition {
	w.t.Helper()
	p, err := w.b.replicas.Load().Partition(model.Partition{Topic: topic, Index: index})
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// records are a batch of this moment; "key=value" has a key, and
// "delete key" deletes one.
func (w *world) records(o record.BuilderOptions, values ...string) record.Batch {
	w.t.Helper()
	return w.recordsAt(time.Now(), o, values...)
}

func (w *world) recordsAt(at time.Time, o record.BuilderOptions, values ...string) record.Batch {
	w.t.Helper()
	b := record.NewBuilder(o)
	for _, v := range values {
		r := record.Record{Timestamp: at.UnixMilli(), Value: []byte(v)}
		if k, x, ok := strings.Cut(v, "="); ok {
			r.Key, r.Value = []byte(k), []byte(x)
		} else if k, ok := strings.CutPrefix(v, "delete "); ok {
			r.Key, r.Value = []byte(k), nil
		}
		if err := b.Add(r); err != nil {
			w.t.Fatal(err)
		}
	}
	_, x, err := b.Build(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return x
}

// produce appends a batch with acks=all to partition 0 and returns its answer.
func (w *world) produce(topic string, b record.Batch) wire.ProduceResponsePartitionProduceResponse {
	w.t.Helper()
	return askAt[*wire.ProduceResponse](w.main(), produceTo(topic, b), 9).Responses[0].PartitionResponses[0]
}

func produceTo(topic string, b record.Batch) *wire.ProduceRequest {
	q := wire.NewProduceRequest()
	q.Acks, q.TimeoutMs = -1, 1000
	q.TopicData = []wire.ProduceRequestTopicProduceData{{Name: topic, PartitionData: []wire.ProduceRequestPartitionProduceData{{Records: b}}}}
	return q
}

// put appends values, each in a batch of its own, to partition 0.
func (w *world) put(topic string, values ...string) {
	w.t.Helper()
	for _, v := range values {
		if y := w.produce(topic, w.records(record.BuilderOptions{}, v)); y.ErrorCode != 0 {
			w.t.Fatalf("produced to %s: error %d", topic, y.ErrorCode)
		}
	}
}

// fetchAll is what the first fetch from the start of partition 0 of topics
// brings.
func (w *world) fetchAll(topics ...string) *wire.FetchResponse {
	w.t.Helper()
	q := wire.NewFetchRequest()
	q.MaxBytes, q.MinBytes = 1<<30, 1
	for _, t := range topics {
		p := wire.FetchRequestFetchPartition{}
		p.Reset()
		p.FetchOffset, p.PartitionMaxBytes = int64(w.part(t, 0).Log().Start()), 1<<30
		q.Topics = append(q.Topics, wire.FetchRequestFetchTopic{Topic: t, Partitions: []wire.FetchRequestFetchPartition{p}})
	}
	return askAt[*wire.FetchResponse](w.main(), q, 12)
}
