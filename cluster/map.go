package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// Conn is a Broker that holds something to be closed.
type Conn interface {
	Broker
	Close() error
}

// Map is a Cluster that learns its way from metadata answers. It keeps one Conn
// for each address. Its methods may be called by many goroutines at once.
type Map struct {
	seeds []string
	dial  func(address string) Conn
	mu    struct {
		sync.Mutex
		closed     bool
		conns      map[string]Conn
		brokers    map[model.NodeID]string // addresses
		controller model.NodeID
		topics     map[string]Topic // at most maxTopics
	}
}

// maxTopics bounds the topics remembered: a program that walks a cluster of a
// million topics asks again instead of keeping all.
const maxTopics = 10_000

// New returns a map that begins to ask at the seeds, which are host:port. Dial
// should return at once and connect when it is first used.
func New(seeds []string, dial func(address string) Conn) *Map {
	m := &Map{seeds: seeds, dial: dial}
	m.mu.conns = make(map[string]Conn)
	m.mu.brokers = make(map[model.NodeID]string)
	m.mu.topics = make(map[string]Topic)
	m.mu.controller = model.NoNode
	return m
}

// Close closes all connections and returns their errors.
func (m *Map) Close() error {
	m.mu.Lock()
	conns := m.mu.conns
	m.mu.conns, m.mu.closed = nil, true
	m.mu.Unlock()
	var errs []error
	for _, c := range conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

func (m *Map) conn(address string) (Broker, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.closed {
		return nil, fmt.Errorf("%w: closed", ErrNoBroker)
	}
	c := m.mu.conns[address]
	if c == nil {
		c = m.dial(address)
		m.mu.conns[address] = c
	}
	return c, nil
}

// addresses are those to ask, known brokers first.
func (m *Map) addresses() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for _, id := range slices.Sorted(maps.Keys(m.mu.brokers)) {
		out = append(out, m.mu.brokers[id])
	}
	for _, s := range m.seeds {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// Do asks one broker after the other until one answers.
func (m *Map) Do(ctx context.Context, req wire.Request) (wire.Response, error) {
	err := ErrNoBroker
	for _, address := range m.addresses() {
		b, dead := m.conn(address)
		if dead != nil {
			return nil, dead
		}
		resp, failed := b.Do(ctx, req)
		if failed == nil {
			return resp, nil
		}
		err = fmt.Errorf("%w: %w", err, failed)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

// Any is a broker of the cluster, or the first seed.
func (m *Map) Any(context.Context) (Broker, error) {
	addresses := m.addresses()
	if len(addresses) == 0 {
		return nil, ErrNoBroker
	}
	return m.conn(addresses[0])
}

// Controller is the broker that metadata names as such.
func (m *Map) Controller(ctx context.Context) (Broker, error) {
	m.mu.Lock()
	id := m.mu.controller
	m.mu.Unlock()
	if id == model.NoNode {
		if _, err := m.Metadata(ctx, []string{}, false); err != nil {
			return nil, err
		}
		m.mu.Lock()
		id = m.mu.controller
		m.mu.Unlock()
	}
	return m.broker(id)
}

// Node is the broker with that id, for what is asked of one broker and no other.
func (m *Map) Node(ctx context.Context, id model.NodeID) (Broker, error) {
	if b, err := m.broker(id); err == nil {
		return b, nil
	}
	if _, err := m.Metadata(ctx, []string{}, false); err != nil {
		return nil, err
	}
	return m.broker(id)
}

func (m *Map) broker(id model.NodeID) (Broker, error) {
	m.mu.Lock()
	address, ok := m.mu.brokers[id]
	m.mu.Unlock()
	if !ok {
		return nil, &unknownNode{id}
	}
	return m.conn(address)
}

// unknownNode is an ErrNoBroker of a cluster that could be asked.
type unknownNode struct{ id model.NodeID }

func (e *unknownNode) Error() string        { return fmt.Sprintf("the cluster has no broker %d", e.id) }
func (e *unknownNode) Is(target error) bool { return target == ErrNoBroker }

// Leader is the broker that leads the partition, from memory if it is there.
func (m *Map) Leader(ctx context.Context, topic string, partition int32) (Broker, error) {
	t, err := m.Topic(ctx, topic)
	if err != nil {
		return nil, err
	}
	i, ok := slices.BinarySearchFunc(t.Partitions, partition, func(p Partition, i int32) int { return cmp.Compare(p.Index, i) })
	if !ok {
		return nil, fmt.Errorf("cluster: %s has no partition %d: %w", topic, partition, wire.UnknownTopicOrPartition)
	}
	if p := t.Partitions[i]; p.Leader == model.NoNode {
		return nil, fmt.Errorf("cluster: %s-%d: %w", topic, partition, cmp.Or(p.Err, wire.LeaderNotAvailable))
	}
	return m.broker(t.Partitions[i].Leader)
}

// Topic is what metadata says of a topic, from memory if it is there.
func (m *Map) Topic(ctx context.Context, name string) (Topic, error) {
	m.mu.Lock()
	t, ok := m.mu.topics[name]
	m.mu.Unlock()
	if ok {
		return t, nil
	}
	return m.fresh(ctx, name, false)
}

// CreateTopic is Topic for a name that the broker may create if it is missing
// and auto.create.topics.enable is set. The first answers for a new topic are
// errors that are wire.ErrorCodes and Retriable.
func (m *Map) CreateTopic(ctx context.Context, name string) (Topic, error) {
	return m.fresh(ctx, name, true)
}

func (m *Map) fresh(ctx context.Context, name string, create bool) (Topic, error) {
	resp, err := m.Metadata(ctx, []string{name}, create)
	if err != nil {
		return Topic{}, err
	}
	for i := range resp.Topics {
		t := &resp.Topics[i]
		if t.Name == nil || *t.Name != name {
			continue
		}
		if code := wire.ErrorCode(t.ErrorCode); code != wire.None {
			return Topic{}, fmt.Errorf("cluster: topic %s: %w", name, code)
		}
		return topicOf(t), nil
	}
	return Topic{}, fmt.Errorf("cluster: topic %s: %w", name, wire.UnknownTopicOrPartition)
}

// Forget drops a topic from memory.
func (m *Map) Forget(topic string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.mu.topics, topic)
}

// Metadata asks for topics, all of them if names is nil, and remembers what the
// answer says.
func (m *Map) Metadata(ctx context.Context, names []string, create bool) (*wire.MetadataResponse, error) {
	req := wire.NewMetadataRequest()
	req.AllowAutoTopicCreation = create
	req.Topics = nil
	if names != nil {
		req.Topics = []wire.MetadataRequestTopic{}
	}
	for _, n := range names {
		req.Topics = append(req.Topics, wire.MetadataRequestTopic{Name: &n})
	}
	r, err := m.Do(ctx, req)
	if err != nil {
		return nil, err
	}
	resp, ok := r.(*wire.MetadataResponse)
	if !ok {
		return nil, fmt.Errorf("cluster: metadata answered by %T", r)
	}
	if code := wire.ErrorCode(resp.ErrorCode); code != wire.None {
		return nil, fmt.Errorf("cluster: metadata: %w", code)
	}
	m.learn(resp)
	return resp, nil
}

func (m *Map) learn(resp *wire.MetadataResponse) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(resp.Brokers) > 0 {
		clear(m.mu.brokers)
	}
	for _, b := range resp.Brokers {
		m.mu.brokers[model.NodeID(b.NodeID)] = net.JoinHostPort(strings.Clone(b.Host), strconv.Itoa(int(b.Port)))
	}
	m.mu.controller = model.NodeID(resp.ControllerID)
	for i := range resp.Topics {
		t := &resp.Topics[i]
		if t.Name == nil {
			continue
		}
		if wire.ErrorCode(t.ErrorCode) != wire.None {
			delete(m.mu.topics, *t.Name)
			continue
		}
		if len(m.mu.topics) >= maxTopics {
			clear(m.mu.topics)
		}
		m.mu.topics[strings.Clone(*t.Name)] = topicOf(t)
	}
}

// topicOf copies what is kept beyond the answer's frame.
func topicOf(t *wire.MetadataResponseTopic) Topic {
	out := Topic{Name: strings.Clone(*t.Name), ID: model.TopicID(t.TopicID), Internal: t.IsInternal}
	for _, p := range t.Partitions {
		out.Partitions = append(out.Partitions, Partition{
			Index: p.PartitionIndex, Leader: model.NodeID(p.LeaderID), Epoch: model.Epoch(p.LeaderEpoch),
			Replicas: nodes(p.ReplicaNodes), InSync: nodes(p.IsrNodes), Offline: nodes(p.OfflineReplicas), Err: wire.ErrorCode(p.ErrorCode),
		})
	}
	slices.SortFunc(out.Partitions, func(a, b Partition) int { return cmp.Compare(a.Index, b.Index) })
	return out
}

func nodes(ids []int32) []model.NodeID {
	out := make([]model.NodeID, len(ids))
	for i, id := range ids {
		out[i] = model.NodeID(id)
	}
	return out
}
