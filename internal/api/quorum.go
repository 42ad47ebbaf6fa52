package api

import (
	"github.com/barnabas-log/barnabas/wire"
)

// metadataTopic is the name of the metadata log.
const metadataTopic = "__cluster_metadata"

// describeQuorum tells who keeps the metadata log (KIP-595): this node alone,
// so far. It has no listener of controllers: its listeners serve all requests.
func (s *session) describeQuorum(c *call, q *wire.DescribeQuorumRequest) wire.Response {
	r := wire.NewDescribeQuorumResponse()
	only := len(q.Topics) == 1 && q.Topics[0].TopicName == metadataTopic &&
		len(q.Topics[0].Partitions) == 1 && q.Topics[0].Partitions[0].PartitionIndex == 0
	for i := range q.Topics {
		x := wire.Extend(&r.Topics)
		x.TopicName = q.Topics[i].TopicName
		for _, p := range q.Topics[i].Partitions {
			y := wire.Extend(&x.Partitions)
			if y.PartitionIndex = p.PartitionIndex; only {
				s.describeVoters(y)
				continue
			}
			y.ErrorCode = int16(wire.UnknownTopicOrPartition)
			if c.Version >= 2 {
				y.ErrorMessage = new(wire.UnknownTopicOrPartition.Message())
			}
		}
	}
	if only && c.Version >= 2 {
		wire.Extend(&r.Nodes).NodeID = int32(s.opts.Self)
	}
	return r
}

func (s *session) describeVoters(out *wire.DescribeQuorumResponsePartitionData) {
	end, now := int64(s.opts.Metadata.Image().End()), s.opts.Now().UnixMilli()
	out.LeaderID, out.LeaderEpoch, out.HighWatermark = int32(s.opts.Self), int32(s.opts.Metadata.Epoch()), end
	v := wire.Extend(&out.CurrentVoters)
	v.ReplicaID, v.LogEndOffset, v.LastFetchTimestamp, v.LastCaughtUpTimestamp = int32(s.opts.Self), end, now, now
}
