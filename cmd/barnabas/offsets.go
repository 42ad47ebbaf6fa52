package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/barnabas-log/barnabas/cluster"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// Times with a meaning of their own in ListOffsets.
const (
	timeLatest   = -1
	timeEarliest = -2
)

func indexesOf(t cluster.Topic) []int32 {
	var out []int32
	for _, p := range t.Partitions {
		out = append(out, p.Index)
	}
	return out
}

// offsetsAt asks each partition's leader for the offset of the first record at
// or after a time (milliseconds since 1970, or one of the above). A partition
// without such a record has model.NoOffset.
func offsetsAt(ctx context.Context, m *cluster.Map, topic string, partitions []int32, timestamp int64) (map[int32]model.Offset, error) {
	return offsetsSeenAt(ctx, m, topic, partitions, timestamp, readUncommitted)
}

// offsetsSeenAt is offsetsAt for who sees records at that level: readCommitted
// ends where the oldest open transaction begins.
func offsetsSeenAt(ctx context.Context, m *cluster.Map, topic string, partitions []int32, timestamp int64, level isolation) (map[int32]model.Offset, error) {
	out := make(map[int32]model.Offset, len(partitions))
	err := retry(ctx, func() error {
		var failed error
		left := partitions
		partitions = nil
		for _, a := range listOffsets(ctx, m, topic, left, timestamp, level) {
			switch {
			case a.err == nil:
				out[a.partition] = a.offset
				continue
			case failed == nil || !retriable(a.err): // Of several the one that does not pass.
				failed = a.err
			}
			partitions = append(partitions, a.partition)
		}
		if failed != nil {
			m.Forget(topic)
		}
		return failed
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// partitionOffset is the answer of one partition's leader.
type partitionOffset struct {
	partition int32
	offset    model.Offset
	err       error
}

// listOffsets asks each leader once, for all its partitions, and answers in the order of the partitions.
func listOffsets(ctx context.Context, m *cluster.Map, topic string, partitions []int32, timestamp int64, level isolation) []partitionOffset {
	requests := make(map[cluster.Broker]*wire.ListOffsetsRequest)
	answers := make(map[int32]partitionOffset, len(partitions))
	for _, p := range partitions {
		b, err := m.Leader(ctx, topic, p)
		if err != nil {
			answers[p] = partitionOffset{p, model.NoOffset, err}
			continue
		}
		req := requests[b]
		if req == nil {
			req = wire.NewListOffsetsRequest()
			req.ReplicaID, req.IsolationLevel = -1, int8(level)
			req.Topics = []wire.ListOffsetsRequestListOffsetsTopic{{Name: topic}}
			requests[b] = req
		}
		q := wire.Extend(&req.Topics[0].Partitions)
		q.PartitionIndex, q.CurrentLeaderEpoch, q.Timestamp = p, -1, timestamp
	}
	for b, req := range requests {
		askOffsets(ctx, b, req, answers)
	}
	out := make([]partitionOffset, len(partitions))
	for i, p := range partitions {
		out[i] = answers[p]
	}
	return out
}

// askOffsets asks one leader and notes what it says of each partition.
func askOffsets(ctx context.Context, b cluster.Broker, req *wire.ListOffsetsRequest, answers map[int32]partitionOffset) {
	topic := req.Topics[0].Name
	resp, err := ask[*wire.ListOffsetsResponse](ctx, b, req)
	if err == nil {
		err = errors.New("the answer is about something else")
	}
	for _, q := range req.Topics[0].Partitions { // Until the answer says better.
		answers[q.PartitionIndex] = partitionOffset{q.PartitionIndex, model.NoOffset, fmt.Errorf("offsets of %s-%d: %w", topic, q.PartitionIndex, err)}
	}
	if resp == nil {
		return
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			a := partitionOffset{p.PartitionIndex, model.Offset(p.Offset), nil}
			if err := refusal(p.ErrorCode, nil); err != nil {
				a.offset, a.err = model.NoOffset, fmt.Errorf("offsets of %s-%d: %w", topic, p.PartitionIndex, err)
			}
			answers[p.PartitionIndex] = a
		}
	}
}
