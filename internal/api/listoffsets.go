package api

import (
	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// Special timestamps of ListOffsets.
const (
	latestOffset          = -1
	earliestOffset        = -2
	maxTimestampOffset    = -3 // KIP-734.
	earliestLocalOffset   = -4 // KIP-405.
	latestTieredOffset    = -5 // KIP-1005.
	earliestPendingOffset = -6 // KIP-1023: the first not yet in remote storage.
)

// replicaOf finds this node's replica of a partition of a topic, which is nil
// if there is none.
func (s *session) replicaOf(t *metadata.Topic, index int32) (*partition.Partition, error) {
	if t == nil || index < 0 || int(index) >= len(t.Partitions) {
		return nil, wire.UnknownTopicOrPartition
	}
	return s.opts.Replicas.Partition(model.Partition{Topic: t.Name, Index: index})
}

// listOffsets finds offsets by time. A partition that is asked for twice is
// refused, once.
func (s *session) listOffsets(c *call, q *wire.ListOffsetsRequest) wire.Response {
	r := wire.NewListOffsetsResponse()
	image := s.opts.Metadata.Image()
	var topics places[string]
	mentions := mentionsOf(&topics, q)
	answers := make([]int, topics.n) // By topic: 1 more than where in the answer.
	for i := range q.Topics {
		t := &q.Topics[i]
		at, _ := topics.at(t.Name)
		topic := image.Topic(t.Name)
		for j := range t.Partitions {
			in := &t.Partitions[j]
			n := mentions[mention{int32(at), in.PartitionIndex}]
			if n == answered {
				continue
			}
			mentions[mention{int32(at), in.PartitionIndex}] = answered
			if answers[at] == 0 {
				wire.Extend(&r.Topics).Name = t.Name
				answers[at] = len(r.Topics)
			}
			y := wire.Extend(&r.Topics[answers[at]-1].Partitions)
			y.PartitionIndex = in.PartitionIndex
			var err error = wire.InvalidRequest
			if n == 1 {
				err = s.listOffset(c, topic, q, in, y)
			}
			y.ErrorCode = s.codeOf(err, c)
		}
	}
	return r
}

// mention is a partition of a request: the place of its topic, and its number.
type mention struct{ topic, index int32 }

// answered is the count of a partition that is in the answer.
const answered = -1

// mentionsOf counts how often each partition is asked for. A request may name
// 100,000 of them, so a key is eight bytes.
func mentionsOf(topics *places[string], q *wire.ListOffsetsRequest) map[mention]int32 {
	total := 0
	for i := range q.Topics {
		total += len(q.Topics[i].Partitions)
	}
	counts := make(map[mention]int32, total)
	for i := range q.Topics {
		at, _ := topics.at(q.Topics[i].Name)
		for j := range q.Topics[i].Partitions {
			counts[mention{int32(at), q.Topics[i].Partitions[j].PartitionIndex}]++
		}
	}
	return counts
}

func (s *session) listOffset(c *call, topic *metadata.Topic, q *wire.ListOffsetsRequest, in *wire.ListOffsetsRequestListOffsetsPartition, out *wire.ListOffsetsResponseListOffsetsPartitionResponse) error {
	if !timestampAllowed(in.Timestamp, c.Version) {
		return wire.UnsupportedVersion
	}
	isolation, ok := isolationOf(q.IsolationLevel)
	if !ok {
		return wire.UnknownServerError
	}
	replica, err := s.replicaOf(topic, in.PartitionIndex)
	if err != nil {
		return err
	}
	state, err := replica.State(model.Epoch(in.CurrentLeaderEpoch))
	if err != nil {
		return err
	}
	at, err := findOffset(replica, state, in.Timestamp, state.Readable(isolation))
	if err != nil {
		return err
	}
	out.Timestamp, out.Offset = at.timestamp, int64(at.offset)
	if c.Version >= 4 {
		out.LeaderEpoch = int32(at.epoch)
	}
	return nil
}

// isolationOf reads an isolation level. Kafka fails on one that it does not
// know.
func isolationOf(level int8) (i partition.Isolation, ok bool) {
	i = partition.Isolation(level)
	return i, i == partition.Uncommitted || i == partition.Committed
}

// timestampAllowed tells whether a version has a special timestamp.
func timestampAllowed(t int64, version int16) bool {
	switch t {
	case maxTimestampOffset:
		return version >= 7
	case earliestLocalOffset:
		return version >= 8
	case latestTieredOffset:
		return version >= 9
	case earliestPendingOffset:
		return version >= 11
	}
	return t >= earliestPendingOffset
}

// found is an offset with what ListOffsets tells of it.
type found struct {
	offset    model.Offset
	timestamp int64
	epoch     model.Epoch
}

// findOffset looks for an offset below what the reader may see.
func findOffset(p *partition.Partition, s partition.State, timestamp int64, readable model.Offset) (found, error) {
	nothing := found{model.NoOffset, -1, model.NoEpoch}
	log := p.Log()
	switch timestamp {
	case latestOffset:
		return found{readable, -1, s.Epoch}, nil
	case earliestOffset, earliestLocalOffset:
		epoch, err := p.EpochAt(s.Start)
		return found{s.Start, -1, epoch}, err
	case latestTieredOffset, earliestPendingOffset: // There is no remote storage.
		return nothing, nil
	}
	at, err := func() (commitlog.TimePoint, error) {
		if timestamp == maxTimestampOffset {
			return log.MaxTimestamp()
		}
		return log.OffsetForTime(timestamp)
	}()
	if err != nil || at.Offset == model.NoOffset || at.Offset >= readable {
		return nothing, err
	}
	return found{at.Offset, at.Timestamp, at.Epoch}, nil
}
