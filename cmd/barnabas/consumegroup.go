package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/barnabas-log/barnabas/cluster"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// Epochs of a heartbeat with a meaning of their own (KIP-848).
const (
	epochJoin  = 0
	epochLeave = -1
)

// member reads a topic as a member of a group of the consumer protocol
// (KIP-848): the broker says which partitions are its own.
type member struct {
	*reading
	broker   cluster.Broker // The group's coordinator.
	group    string
	id       string
	topicID  wire.UUID
	epoch    int32
	interval time.Duration
	beaten   time.Time
	said     bool // The broker knows what we own.
	reader   *reader
	dirty    map[int32]bool // Partitions that have moved since the last commit.
}

// runGroup reads as a member until ctx ends, enough was read, or, without
// --follow, all that there was is read.
func (f *consumeFlags) runGroup(d *reading) error {
	g := &member{reading: d, group: f.group, id: rand.Text(), dirty: map[int32]bool{}}
	g.reader = d.reader(map[int32]model.Offset{}, nil)
	if err := g.join(); err != nil {
		return fmt.Errorf("group %s: %w", g.group, err)
	}
	err := g.read()
	// Who is interrupted still says how far he came.
	ctx, cancel := f.bounded(context.WithoutCancel(d.ctx))
	defer cancel()
	return errors.Join(err, g.commit(ctx), g.leave(ctx))
}

func (g *member) join() error {
	ctx, cancel := g.flags.bounded(g.ctx)
	defer cancel()
	known, err := knownTopics(ctx, g.m)
	if err != nil {
		return err
	}
	g.topicID = known.ids[g.topic]
	if g.broker, err = coordinator(ctx, g.m, coordinatorOfGroup, g.group); err != nil {
		return err
	}
	return g.beat(ctx, epochJoin)
}

// beat sends a heartbeat and follows what it answers. A coordinator that has
// moved is looked for; a member that was dropped joins again.
func (g *member) beat(ctx context.Context, epoch int32) error {
	return retry(ctx, func() error {
		resp, err := ask[*wire.ConsumerGroupHeartbeatResponse](ctx, g.broker, g.heartbeat(epoch))
		if err != nil {
			return err
		}
		switch wire.ErrorCode(resp.ErrorCode) {
		case wire.None:
		case wire.NotCoordinator, wire.CoordinatorNotAvailable:
			if g.broker, err = coordinator(ctx, g.m, coordinatorOfGroup, g.group); err != nil {
				return err
			}
			return wire.ErrorCode(resp.ErrorCode)
		case wire.FencedMemberEpoch, wire.UnknownMemberID:
			if epoch != epochLeave {
				epoch = epochJoin
				clear(g.reader.next)
				clear(g.dirty) // What we read since is somebody else's to read again.
				return wire.CoordinatorLoadInProgress
			}
			return nil
		default:
			return refusal(resp.ErrorCode, resp.ErrorMessage)
		}
		g.epoch, g.beaten, g.said = resp.MemberEpoch, time.Now(), true
		g.interval = time.Duration(resp.HeartbeatIntervalMs) * time.Millisecond
		if resp.Assignment != nil {
			return g.assign(ctx, resp.Assignment)
		}
		return nil
	})
}

func (g *member) heartbeat(epoch int32) *wire.ConsumerGroupHeartbeatRequest {
	q := wire.NewConsumerGroupHeartbeatRequest()
	q.GroupID, q.MemberID, q.MemberEpoch = g.group, g.id, epoch
	if epoch == epochJoin {
		q.RebalanceTimeoutMs, q.SubscribedTopicNames = 60_000, []string{g.topic}
		q.TopicPartitions = []wire.ConsumerGroupHeartbeatRequestTopicPartitions{}
		return q
	}
	if !g.said {
		q.TopicPartitions = []wire.ConsumerGroupHeartbeatRequestTopicPartitions{}
		if len(g.reader.next) > 0 {
			q.TopicPartitions = append(q.TopicPartitions, wire.ConsumerGroupHeartbeatRequestTopicPartitions{
				TopicID: g.topicID, Partitions: slices.Sorted(maps.Keys(g.reader.next)),
			})
		}
	}
	return q
}

// assign takes over the partitions that are ours now. What we lose is
// committed before the broker is told that it is free.
func (g *member) assign(ctx context.Context, a *wire.ConsumerGroupHeartbeatResponseAssignment) error {
	ours := map[int32]bool{}
	for _, t := range a.TopicPartitions {
		for _, p := range t.Partitions {
			ours[p] = t.TopicID == g.topicID
		}
	}
	if err := g.commit(ctx); err != nil {
		return err
	}
	maps.DeleteFunc(g.reader.next, func(p int32, _ model.Offset) bool { return !ours[p] })
	var fresh []int32
	for p := range ours {
		if _, has := g.reader.next[p]; !has {
			fresh = append(fresh, p)
		}
	}
	g.said = false
	return g.start(ctx, fresh)
}

// start finds where to begin partitions that have come to us.
func (g *member) start(ctx context.Context, partitions []int32) error {
	committed, err := committedOffsets(ctx, g.m, g.group, true)
	if err != nil {
		return err
	}
	var without []int32
	for _, p := range partitions {
		i := slices.IndexFunc(committed, func(o offsetView) bool { return o.Topic == g.topic && o.Partition == p && o.Offset >= 0 })
		if i < 0 {
			without = append(without, p)
			continue
		}
		g.reader.next[p] = model.Offset(committed[i].Offset)
	}
	if len(without) == 0 {
		return nil
	}
	d := *g.reading
	d.parts = without
	starts, err := d.starts()
	if err != nil {
		return err
	}
	maps.Copy(g.reader.next, starts)
	return nil
}

// read prints records until there is a reason to end.
func (g *member) read() error {
	left, quiet := g.flags.number, 0
	each := func(rec partitionRecord) error {
		if err := g.show(rec); err != nil {
			return err
		}
		if left--; left == 0 {
			// The reader moves on behind a whole answer; we have taken this much.
			g.reader.next[rec.Partition] = rec.Offset + 1
			return errEnough
		}
		return nil
	}
	for g.ctx.Err() == nil {
		if !g.said || time.Since(g.beaten) >= g.interval {
			if err := g.beat(g.ctx, g.epoch); err != nil {
				return err
			}
		}
		got, err := g.round(each)
		if errors.Is(err, errEnough) {
			return g.out.Flush()
		}
		if err := errors.Join(err, g.out.Flush(), g.commit(g.ctx)); err != nil {
			return err
		}
		if quiet++; got {
			quiet = 0
		}
		if quiet > 1 && !g.flags.follow && g.said { // Nothing came for a while.
			return nil
		}
	}
	return g.ctx.Err()
}

// round fetches once from what is ours; with nothing it waits as a fetch does.
func (g *member) round(each func(partitionRecord) error) (bool, error) {
	if len(g.reader.next) > 0 {
		before := maps.Clone(g.reader.next)
		_, err := g.reader.round(g.ctx, each)
		for p, o := range g.reader.next { // Also past what is not shown: markers, aborted transactions.
			if o != before[p] {
				g.dirty[p] = true
			}
		}
		return !maps.Equal(before, g.reader.next), err
	}
	select {
	case <-time.After(fetchWait):
	case <-g.ctx.Done():
	}
	return false, nil
}

// commit says how far we have come.
func (g *member) commit(ctx context.Context) error {
	if len(g.dirty) == 0 {
		return nil
	}
	q := wire.NewOffsetCommitRequest()
	q.GroupID, q.GenerationIDOrMemberEpoch, q.MemberID = g.group, g.epoch, g.id
	t := wire.Extend(&q.Topics)
	t.Name, t.TopicID = g.topic, g.topicID
	for _, p := range slices.Sorted(maps.Keys(g.dirty)) {
		x := wire.Extend(&t.Partitions)
		x.PartitionIndex, x.CommittedOffset, x.CommittedLeaderEpoch, x.CommittedMetadata = p, int64(g.reader.next[p]), int32(model.NoEpoch), new("")
	}
	clear(g.dirty)
	return retry(ctx, func() error {
		resp, err := ask[*wire.OffsetCommitResponse](ctx, g.broker, q)
		if err != nil {
			return err
		}
		for _, p := range resp.Topics[0].Partitions {
			switch code := wire.ErrorCode(p.ErrorCode); code {
			case wire.StaleMemberEpoch, wire.FencedMemberEpoch, wire.UnknownMemberID:
				return nil // The next heartbeat says what that means.
			default:
				if err := refusal(p.ErrorCode, nil); err != nil {
					return fmt.Errorf("commit of %s-%d: %w", cmp.Or(resp.Topics[0].Name, g.topic), p.PartitionIndex, err)
				}
			}
		}
		return nil
	})
}

func (g *member) leave(ctx context.Context) error { return g.beat(ctx, epochLeave) }
