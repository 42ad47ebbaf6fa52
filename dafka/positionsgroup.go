package dafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/barnabas-log/barnabas/cluster"
	"github.com/barnabas-log/barnabas/conn"
	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// positionsGroup keeps positions as offsets of a Kafka group, at a broker that is
// a store of the mesh: it says which partition of a topic is which producer's.
// What the broker does not have yet is kept later.
type positionsGroup struct {
	group   string
	cluster *cluster.Map
	saved   positions
	topics  map[string]*groupTopic
}

// groupTopic is a topic of the broker's.
type groupTopic struct {
	id        wire.UUID
	producers []string // The number of a partition is its place.
}

// producersKey is the topic's setting that lists its producers.
const producersKey = "dafka.producers"

func newPositionsGroup(group string, brokers []string) *positionsGroup {
	o := conn.Options{ClientID: "barnabas-dafka"}
	return &positionsGroup{group: group, cluster: cluster.New(brokers, func(address string) cluster.Conn { return conn.New(address, o) })}
}

func (g *positionsGroup) close() error { return g.cluster.Close() }

// asked is one request and its answer of the type that belongs to it.
func asked[R wire.Response](ctx context.Context, b cluster.Broker, q wire.Request) (R, error) {
	var none R
	r, err := b.Do(ctx, q)
	if err != nil {
		return none, err
	}
	answer, ok := r.(R)
	if !ok {
		return none, fmt.Errorf("dafka: %s is answered by %T", q.Key(), r)
	}
	return answer, nil
}

// coded is an error code as an error.
func coded(what string, code int16) error {
	if code == 0 {
		return nil
	}
	return fmt.Errorf("dafka: %s: %w", what, wire.ErrorCode(code))
}

func (g *positionsGroup) coordinator(ctx context.Context) (cluster.Broker, error) {
	q := wire.NewFindCoordinatorRequest()
	q.CoordinatorKeys = []string{g.group}
	for {
		r, err := asked[*wire.FindCoordinatorResponse](ctx, g.cluster, q)
		if err != nil {
			return nil, err
		}
		if len(r.Coordinators) != 1 {
			return nil, errors.New("dafka: no coordinator in the answer")
		}
		c := &r.Coordinators[0]
		switch code := wire.ErrorCode(c.ErrorCode); {
		case code == wire.None:
			return g.cluster.Node(ctx, model.NodeID(c.NodeID))
		case !code.Retriable():
			return nil, coded("coordinator of group "+g.group, c.ErrorCode)
		}
		if err := g.again(ctx); err != nil {
			return nil, fmt.Errorf("%w: %w", err, wire.ErrorCode(c.ErrorCode))
		}
	}
}

// again waits before the next try: the coordinator's topic may have to be made.
func (g *positionsGroup) again(ctx context.Context) error {
	t := time.NewTimer(keepInterval / 10)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// learn asks which topics there are, and whose their partitions are.
func (g *positionsGroup) learn(ctx context.Context) error {
	meta, err := g.cluster.Metadata(ctx, nil, false)
	if err != nil {
		return err
	}
	g.topics = map[string]*groupTopic{}
	q := wire.NewDescribeConfigsRequest()
	for i := range meta.Topics {
		t := &meta.Topics[i]
		if t.Name == nil || t.IsInternal {
			continue
		}
		g.topics[*t.Name] = &groupTopic{id: t.TopicID}
		x := wire.Extend(&q.Resources)
		x.ResourceType, x.ResourceName, x.ConfigurationKeys = 2, *t.Name, []string{producersKey}
	}
	if len(q.Resources) == 0 {
		return nil
	}
	r, err := asked[*wire.DescribeConfigsResponse](ctx, g.cluster, q)
	if err != nil {
		return err
	}
	for i := range r.Results {
		x := &r.Results[i]
		if t := g.topics[x.ResourceName]; t != nil && len(x.Configs) == 1 && x.Configs[0].Value != nil && *x.Configs[0].Value != "" {
			t.producers = strings.Split(*x.Configs[0].Value, ",")
		}
	}
	return nil
}

func (g *positionsGroup) load(ctx context.Context) (positions, error) {
	b, err := g.coordinator(ctx)
	if err == nil {
		err = g.learn(ctx)
	}
	if err != nil {
		return nil, err
	}
	q := wire.NewOffsetFetchRequest()
	q.Groups = []wire.OffsetFetchRequestGroup{{GroupID: g.group, MemberEpoch: -1}}
	for {
		r, err := asked[*wire.OffsetFetchResponse](ctx, b, q)
		if err != nil {
			return nil, err
		}
		if len(r.Groups) != 1 {
			return nil, errors.New("dafka: no group in the answer")
		}
		if code := wire.ErrorCode(r.Groups[0].ErrorCode); code.Retriable() && g.again(ctx) == nil {
			continue
		}
		g.saved = g.positionsIn(&r.Groups[0])
		return maps.Clone(g.saved), coded("offsets of group "+g.group, r.Groups[0].ErrorCode)
	}
}

func (g *positionsGroup) positionsIn(r *wire.OffsetFetchResponseGroup) positions {
	names := map[wire.UUID]string{}
	for name, t := range g.topics {
		names[t.id] = name
	}
	kept := positions{}
	for i := range r.Topics {
		name := cmp.Or(r.Topics[i].Name, names[r.Topics[i].TopicID])
		t := g.topics[name]
		for _, p := range r.Topics[i].Partitions {
			if t != nil && p.ErrorCode == 0 && p.CommittedOffset >= 0 && p.PartitionIndex >= 0 && int(p.PartitionIndex) < len(t.producers) {
				kept[fabric.Partition{Subject: name, Address: t.producers[p.PartitionIndex]}] = uint64(p.CommittedOffset)
			}
		}
	}
	return kept
}

// number is the partition of a producer's on the topic, if the broker has it.
func (g *positionsGroup) number(p fabric.Partition) (*groupTopic, int32) {
	t := g.topics[p.Subject]
	if t == nil {
		return nil, -1
	}
	return t, int32(slices.Index(t.producers, p.Address))
}

func (g *positionsGroup) save(ctx context.Context, done positions) error {
	changed := g.changed(done)
	if slices.ContainsFunc(changed, func(p fabric.Partition) bool { _, n := g.number(p); return n < 0 }) {
		if err := g.learn(ctx); err != nil {
			return err
		}
	}
	q := wire.NewOffsetCommitRequest()
	q.GroupID, q.GenerationIDOrMemberEpoch = g.group, -1
	for _, at := range changed {
		t, n := g.number(at)
		if n < 0 {
			continue
		}
		if last := len(q.Topics); last == 0 || q.Topics[last-1].Name != at.Subject {
			x := wire.Extend(&q.Topics)
			x.Name, x.TopicID = at.Subject, t.id
		}
		x := wire.Extend(&q.Topics[len(q.Topics)-1].Partitions)
		x.PartitionIndex, x.CommittedOffset, x.CommittedLeaderEpoch, x.CommittedMetadata = n, int64(done[at]), int32(model.NoEpoch), new("")
	}
	if len(q.Topics) == 0 {
		return nil
	}
	return g.commit(ctx, q, done)
}

// changed are the partitions whose positions are not saved, by topic.
func (g *positionsGroup) changed(done positions) (changed []fabric.Partition) {
	for at, next := range done {
		if saved, ok := g.saved[at]; !ok || saved != next {
			changed = append(changed, at)
		}
	}
	slices.SortFunc(changed, func(a, b fabric.Partition) int {
		return cmp.Or(strings.Compare(a.Subject, b.Subject), strings.Compare(a.Address, b.Address))
	})
	return changed
}

func (g *positionsGroup) commit(ctx context.Context, q *wire.OffsetCommitRequest, done positions) error {
	b, err := g.coordinator(ctx)
	if err != nil {
		return err
	}
	r, err := asked[*wire.OffsetCommitResponse](ctx, b, q)
	if err != nil {
		return err
	}
	for _, t := range r.Topics {
		for _, p := range t.Partitions {
			err = errors.Join(err, coded(fmt.Sprintf("offset of partition %d in group %s", p.PartitionIndex, g.group), p.ErrorCode))
		}
	}
	if err != nil {
		return err
	}
	for i := range q.Topics {
		for _, p := range q.Topics[i].Partitions {
			at := fabric.Partition{Subject: q.Topics[i].Name, Address: g.topics[q.Topics[i].Name].producers[p.PartitionIndex]}
			g.saved[at] = done[at]
		}
	}
	return nil
}
