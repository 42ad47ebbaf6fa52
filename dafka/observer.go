package dafka

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/mesh"
	"github.com/barnabas-log/barnabas/internal/zmtp"
)

// Role is what a node does in a mesh.
type Role string

// The roles. Nodes do not tell theirs: it shows in what they subscribe to. A
// store is two nodes: one gathers records, the other gives them out. A consumer
// that has no topic cannot be told from a store's first half.
const (
	RoleProducer    Role = "producer"
	RoleConsumer    Role = "consumer"
	RoleStoreWriter Role = "store-writer"
	RoleStoreReader Role = "store-reader"
	RoleUnknown     Role = "unknown"
)

// NodeInfo is a node as an observer sees it.
type NodeInfo struct {
	Address  string   `json:"address"`
	Endpoint string   `json:"endpoint"`
	Role     Role     `json:"role"`
	Topics   []string `json:"topics,omitempty"` // Of a consumer.
}

// PartitionInfo is what is known of a partition.
type PartitionInfo struct {
	Partition
	// Published is one past the last record, as far as it is known; Live, whether
	// its producer is there.
	Published uint64 `json:"published"`
	Live      bool   `json:"live"`
	// Stored is one past the last record that a store has, by the address of its
	// reader.
	Stored map[string]uint64 `json:"stored"`
}

// Lag is how many records are published that a store does not have.
func (p *PartitionInfo) Lag(store string) uint64 {
	return p.Published - min(p.Published, p.Stored[store])
}

// Observer is a node that only looks around.
type Observer struct {
	node *mesh.Node

	mu         sync.Mutex
	heard      map[*zmtp.Peer]*subscriber
	topics     int // Of all of them.
	prune      int // How many heard there may be before those that are gone are forgotten.
	partitions map[Partition]*PartitionInfo
}

// subscriber is one connection of a peer: what it subscribed to.
type subscriber struct {
	producer, direct, reader string // Addresses in its prefixes.
	topics                   []string
	records                  bool
}

// Bounds of what strangers can make an observer remember.
const (
	maxObserved       = 100_000
	maxObservedTopics = 1000    // Of a connection.
	maxAllTopics      = 100_000 // Of all connections.
	maxObservedStores = 256     // Of a partition.
)

// Observe joins a mesh to look around. What it knows is complete after a beacon
// interval or two.
func Observe(c *Config, log *slog.Logger) (*Observer, error) {
	o := &Observer{heard: map[*zmtp.Peer]*subscriber{}, partitions: map[Partition]*PartitionInfo{}}
	mo, err := orDefault(c).node(orSilent(log))
	if err != nil {
		return nil, err
	}
	mo.Address, mo.Publisher, mo.HighWater = mesh.NewAddress(), zmtp.XPub, 1000
	prefixes := [][]byte{fabric.Head.Prefix(""), fabric.DirectHead.Prefix(mo.Address), fabric.StoreHello.Prefix(mo.Address)}
	mo.Inlets = []mesh.Inlet{{Prefixes: prefixes, HighWater: 1 << 16, Receive: o.receive}}
	mo.SubscribedBy = o.subscribed
	o.mu.Lock() // What is received first waits for node.
	defer o.mu.Unlock()
	o.node, err = mesh.Join(mo)
	return o, err
}

// Stats are those of its node.
func (o *Observer) Stats() Stats { return Stats(o.node.Stats()) }

// Close leaves the mesh.
func (o *Observer) Close(ctx context.Context) error { return o.node.Close(ctx) }

// subscribed remembers what a connection is interested in. Who wants GET-HEADS is
// a store, and is asked. It may not hear yet where to answer: when it does, it
// says hello, and is asked again.
func (o *Observer) subscribed(prefix []byte, by *zmtp.Peer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.heard[by]
	if s == nil {
		if o.pruneLocked(); len(o.heard) >= maxObserved {
			return
		}
		s = &subscriber{}
		o.heard[by] = s
	}
	if len(prefix) == 0 {
		return
	}
	name := string(prefix[1:])
	switch fabric.Kind(prefix[0]) {
	case fabric.Ack:
		s.producer = name
	case fabric.DirectRecord:
		s.direct = name
	case fabric.ConsumerHello:
		s.reader = name
	case fabric.Record:
		s.records = true
		if len(s.topics) < maxObservedTopics && o.topics < maxAllTopics && !slices.Contains(s.topics, name) {
			s.topics = append(s.topics, name)
			o.topics++
		}
	case fabric.GetHeads:
		o.askLocked()
	}
}

// pruneLocked forgets connections that have ended, now and then.
func (o *Observer) pruneLocked() {
	if len(o.heard) < o.prune {
		return
	}
	live := map[*zmtp.Peer]bool{}
	for _, p := range o.node.Listeners() {
		live[p] = true
	}
	for p, s := range o.heard {
		if !live[p] {
			o.topics -= len(s.topics)
			delete(o.heard, p)
		}
	}
	o.prune = 2*len(o.heard) + 64
}

func (o *Observer) askLocked() {
	o.node.Publish([]fabric.Send{{Message: fabric.Message{Kind: fabric.GetHeads, Address: []byte(o.node.Address())}}})
}

func (o *Observer) receive(b *zmtp.Batch, from string) {
	defer b.Release()
	o.mu.Lock()
	defer o.mu.Unlock()
	var m fabric.Message
	for _, frames := range b.Messages {
		if _, err := m.ParseFrames(frames); err != nil {
			o.node.Malformed()
			continue
		}
		switch m.Kind {
		case fabric.Head, fabric.DirectHead:
			o.headLocked(&m, from)
		case fabric.StoreHello:
			o.askLocked()
		}
	}
}

func (o *Observer) headLocked(m *fabric.Message, from string) {
	at := Partition{string(m.Subject), string(m.Address)}
	p := o.partitions[at]
	if p == nil {
		if len(o.partitions) >= maxObserved {
			return
		}
		p = &PartitionInfo{Partition: at, Stored: map[string]uint64{}}
		o.partitions[at] = p
	}
	end := m.Sequence + 1
	p.Published = max(p.Published, end)
	if known, ok := p.Stored[from]; m.Kind == fabric.DirectHead && from != "" && (ok || len(p.Stored) < maxObservedStores) {
		p.Stored[from] = max(known, end)
	}
}

// Nodes are the others in the mesh, by role and address.
func (o *Observer) Nodes() []NodeInfo {
	o.mu.Lock()
	defer o.mu.Unlock()
	roles := o.rolesLocked()
	var nodes []NodeInfo
	for _, p := range o.node.Peers() {
		n := NodeInfo{Address: p.Address, Endpoint: p.Endpoint, Role: RoleUnknown}
		if known, ok := roles[p.Address]; ok {
			n.Role, n.Topics = known.Role, known.Topics
		}
		nodes = append(nodes, n)
	}
	slices.SortFunc(nodes, func(a, b NodeInfo) int {
		return cmp.Or(strings.Compare(string(a.Role), string(b.Role)), strings.Compare(a.Address, b.Address))
	})
	return nodes
}

func (o *Observer) rolesLocked() map[string]NodeInfo {
	roles := map[string]NodeInfo{}
	for _, s := range o.heard {
		switch {
		case s.producer != "":
			roles[s.producer] = NodeInfo{Role: RoleProducer}
		case s.reader != "":
			roles[s.reader] = NodeInfo{Role: RoleStoreReader}
		case s.direct != "" && s.records:
			roles[s.direct] = NodeInfo{Role: RoleConsumer, Topics: slices.Sorted(slices.Values(s.topics))}
		case s.direct != "":
			roles[s.direct] = NodeInfo{Role: RoleStoreWriter}
		}
	}
	return roles
}

// Partitions are those that producers, or stores, told of, by topic and producer.
func (o *Observer) Partitions() []PartitionInfo {
	o.mu.Lock()
	defer o.mu.Unlock()
	live := map[string]bool{}
	for _, p := range o.node.Peers() {
		live[p.Address] = true
	}
	var all []PartitionInfo
	for _, p := range o.partitions {
		x := *p
		x.Live, x.Stored = live[p.Producer], maps.Clone(p.Stored)
		all = append(all, x)
	}
	slices.SortFunc(all, func(a, b PartitionInfo) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), strings.Compare(a.Producer, b.Producer))
	})
	return all
}
