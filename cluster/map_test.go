package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/barnabas-log/barnabas/cluster"
	"github.com/barnabas-log/barnabas/wire"
)

// fake is a cluster of brokers in memory: what each address answers to
// metadata, and how often it was asked.
type fake struct {
	down   map[string]bool
	answer *wire.MetadataResponse
	asked  map[string]int
	closed int
}

type fakeConn struct {
	f       *fake
	address string
}

func (c fakeConn) Do(_ context.Context, req wire.Request) (wire.Response, error) {
	c.f.asked[c.address]++
	if c.f.down[c.address] {
		return nil, fmt.Errorf("%s is down", c.address)
	}
	if _, ok := req.(*wire.MetadataRequest); !ok {
		return nil, errors.New("metadata only")
	}
	return c.f.answer, nil
}

func (c fakeConn) Close() error { c.f.closed++; return nil }

func newFake() *fake {
	f := &fake{down: map[string]bool{}, asked: map[string]int{}, answer: wire.NewMetadataResponse()}
	f.answer.ControllerID = 2
	f.answer.Brokers = []wire.MetadataResponseBroker{{NodeID: 1, Host: "a", Port: 1}, {NodeID: 2, Host: "::1", Port: 2}}
	f.topic(wire.None, 1, 2, -1)
	return f
}

// topic sets the leaders of the partitions of topic "letters", listed backwards.
func (f *fake) topic(code wire.ErrorCode, leaders ...int32) {
	name := "letters"
	t := wire.MetadataResponseTopic{Name: &name, ErrorCode: int16(code)}
	for i := len(leaders) - 1; i >= 0; i-- {
		t.Partitions = append(t.Partitions, wire.MetadataResponsePartition{PartitionIndex: int32(i), LeaderID: leaders[i]})
	}
	f.answer.Topics = []wire.MetadataResponseTopic{t}
}

func (f *fake) cluster(seeds ...string) *cluster.Map {
	return cluster.New(seeds, func(address string) cluster.Conn { return fakeConn{f, address} })
}

func address(b cluster.Broker) string {
	if c, ok := b.(fakeConn); ok {
		return c.address
	}
	return "none"
}

func TestLeader(t *testing.T) {
	f := newFake()
	m := f.cluster("seed:1")
	ctx := context.Background()
	leader := func(p int32, want string, wantErr error) {
		t.Helper()
		b, err := m.Leader(ctx, "letters", p)
		if address(b) != want || !errors.Is(err, wantErr) {
			t.Errorf("leader of %d: %s, %v; want %s, %v", p, address(b), err, want, wantErr)
		}
	}
	leader(0, "a:1", nil)
	leader(1, "[::1]:2", nil)
	leader(2, "none", wire.LeaderNotAvailable)
	leader(3, "none", wire.UnknownTopicOrPartition)
	if n := f.asked["seed:1"]; n != 1 {
		t.Errorf("metadata was asked for %d times", n)
	}
	f.topic(wire.None, 2)
	leader(0, "a:1", nil) // From memory.
	m.Forget("letters")
	leader(0, "[::1]:2", nil)
	f.topic(wire.UnknownTopicOrPartition)
	m.Forget("letters")
	leader(0, "none", wire.UnknownTopicOrPartition)
	if err := m.Close(); err != nil || f.closed != 3 {
		t.Errorf("close: %v, %d connections", err, f.closed)
	}
	if _, err := m.Any(ctx); !errors.Is(err, cluster.ErrNoBroker) {
		t.Errorf("after close: %v", err)
	}
}

func TestController(t *testing.T) {
	f := newFake()
	b, err := f.cluster("seed:1").Controller(context.Background())
	if err != nil || address(b) != "[::1]:2" {
		t.Errorf("%s, %v", address(b), err)
	}
}

func TestNode(t *testing.T) {
	f := newFake()
	m := f.cluster("seed:1")
	ctx := context.Background()
	for range 2 {
		if b, err := m.Node(ctx, 1); err != nil || address(b) != "a:1" {
			t.Errorf("%s, %v", address(b), err)
		}
	}
	if n := f.asked["seed:1"]; n != 1 {
		t.Errorf("metadata was asked for %d times", n)
	}
	if _, err := m.Node(ctx, 3); !errors.Is(err, cluster.ErrNoBroker) {
		t.Errorf("no such node: %v", err)
	}
}

// One broker that is up is enough, seeds that are down are passed over, and
// when all brokers of the metadata are gone the seeds are asked again.
func TestFailover(t *testing.T) {
	f := newFake()
	f.down["seed:1"] = true
	m := f.cluster("seed:1", "seed:2")
	ctx := context.Background()
	if _, err := m.Topic(ctx, "letters"); err != nil {
		t.Fatal(err)
	}
	f.down["a:1"], f.down["[::1]:2"] = true, true
	m.Forget("letters")
	if _, err := m.Topic(ctx, "letters"); err != nil {
		t.Error(err)
	}
	f.down["seed:2"] = true
	m.Forget("letters")
	if _, err := m.Topic(ctx, "letters"); !errors.Is(err, cluster.ErrNoBroker) {
		t.Errorf("all down: %v", err)
	}
}
