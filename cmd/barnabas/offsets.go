package main

import (
	"context"
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
	for _, p := range partitions {
		err := retry(ctx, func() error {
			o, err := offsetSeenAt(ctx, m, topic, p, timestamp, level)
			if err != nil {
				m.Forget(topic)
			}
			out[p] = o
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func offsetAt(ctx context.Context, m *cluster.Map, topic string, partition int32, timestamp int64) (model.Offset, error) {
	return offsetSeenAt(ctx, m, topic, partition, timestamp, readUncommitted)
}

func offsetSeenAt(ctx context.Context, m *cluster.Map, topic string, partition int32, timestamp int64, level isolation) (model.Offset, error) {
	b, err := m.Leader(ctx, topic, partition)
	if err != nil {
		return model.NoOffset, err
	}
	req := wire.NewListOffsetsRequest()
	req.ReplicaID, req.IsolationLevel = -1, int8(level)
	req.Topics = []wire.ListOffsetsRequestListOffsetsTopic{{
		Name:       topic,
		Partitions: []wire.ListOffsetsRequestListOffsetsPartition{{PartitionIndex: partition, CurrentLeaderEpoch: -1, Timestamp: timestamp}},
	}}
	r, err := b.Do(ctx, req)
	if err != nil {
		return model.NoOffset, err
	}
	resp, ok := r.(*wire.ListOffsetsResponse)
	if !ok || len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return model.NoOffset, fmt.Errorf("offsets of %s-%d: the answer is about something else", topic, partition)
	}
	p := resp.Topics[0].Partitions[0]
	if err := refusal(p.ErrorCode, nil); err != nil {
		return model.NoOffset, fmt.Errorf("offsets of %s-%d: %w", topic, partition, err)
	}
	return model.Offset(p.Offset), nil
}
