package api

import (
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// offsetForLeaderEpoch tells where epochs end, so that readers notice that
// what they read was taken back (KIP-320).
func (s *session) offsetForLeaderEpoch(c *call, q *wire.OffsetForLeaderEpochRequest) wire.Response {
	r := wire.NewOffsetForLeaderEpochResponse()
	image := s.opts.Metadata.Image()
	for i := range q.Topics {
		t := &q.Topics[i]
		x := wire.Extend(&r.Topics)
		x.Topic = t.Topic
		topic := image.Topic(t.Topic)
		for j := range t.Partitions {
			in := &t.Partitions[j]
			y := wire.Extend(&x.Partitions)
			y.Partition = in.Partition
			end, err := s.epochEnd(topic, in)
			if err != nil {
				y.ErrorCode = s.codeOf(err, c)
				continue
			}
			y.LeaderEpoch, y.EndOffset = int32(end.Epoch), int64(end.End)
		}
	}
	return r
}

func (s *session) epochEnd(topic *metadata.Topic, in *wire.OffsetForLeaderEpochRequestOffsetForLeaderPartition) (partition.EpochEnd, error) {
	replica, err := s.replicaOf(topic, in.Partition)
	if err != nil {
		return partition.EpochEnd{}, err
	}
	return replica.EpochEnd(model.Epoch(in.CurrentLeaderEpoch), model.Epoch(in.LeaderEpoch))
}
