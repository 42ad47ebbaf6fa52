package api

import (
	"errors"
	"fmt"
	"strings"

	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// electLeaders elects leaders of some partitions, or of all. Of all, those that
// need no election are not answered.
func (s *session) electLeaders(c *call, q *wire.ElectLeadersRequest) wire.Response {
	r := wire.NewElectLeadersResponse()
	how := controller.Election(q.ElectionType)
	if how != controller.Preferred && how != controller.Unclean {
		return unknownElection(r, q)
	}
	if q.TopicPartitions != nil && len(q.TopicPartitions) == 0 {
		return r
	}
	parts := electionParts(q, s.opts.Metadata.Image())
	broken := map[model.Partition]bool{}
	for _, p := range parts {
		if s.brokenPartition(p) {
			broken[p] = true
		}
	}
	errs := make([]error, len(parts))
	err := s.propose(q.TimeoutMs, func(image *metadata.Image) ([]metadata.Record, error) {
		records, each := s.opts.Rules.ElectLeaders(image, how, parts, func(p model.Partition) bool { return broken[p] })
		copy(errs, each)
		return records, nil
	})
	if err != nil {
		return electedNone(c, q, s.codeOf(err, c))
	}
	s.elected(c, q, r, parts, errs)
	return r
}

func unknownElection(r *wire.ElectLeadersResponse, q *wire.ElectLeadersRequest) wire.Response {
	r.ErrorCode = int16(wire.InvalidRequest)
	for i := range q.TopicPartitions {
		x := wire.Extend(&r.ReplicaElectionResults)
		x.Topic = q.TopicPartitions[i].Topic
		for _, p := range q.TopicPartitions[i].Partitions {
			y := wire.Extend(&x.PartitionResult)
			y.PartitionID, y.ErrorCode = p, int16(wire.InvalidRequest)
			y.ErrorMessage = new(fmt.Sprintf("Unknown election type %d", q.ElectionType))
		}
	}
	return r
}

// electedNone tells of all partitions that are named why nothing became of it.
func electedNone(c *call, q *wire.ElectLeadersRequest, code int16) wire.Response {
	r := wire.NewElectLeadersResponse()
	if c.Version > 0 {
		r.ErrorCode = code
	}
	for i := range q.TopicPartitions {
		x := wire.Extend(&r.ReplicaElectionResults)
		x.Topic = q.TopicPartitions[i].Topic
		for _, p := range q.TopicPartitions[i].Partitions {
			y := wire.Extend(&x.PartitionResult)
			y.PartitionID, y.ErrorCode, y.ErrorMessage = p, code, nil
		}
	}
	return r
}

// electionParts are the partitions that are named, or all.
func electionParts(q *wire.ElectLeadersRequest, image *metadata.Image) []model.Partition {
	if q.TopicPartitions == nil {
		return everyPartition(image)
	}
	var parts []model.Partition
	for i := range q.TopicPartitions {
		topic := strings.Clone(q.TopicPartitions[i].Topic)
		for _, p := range q.TopicPartitions[i].Partitions {
			parts = append(parts, model.Partition{Topic: topic, Index: p})
		}
	}
	return parts
}

func everyPartition(image *metadata.Image) []model.Partition {
	parts := make([]model.Partition, 0, image.PartitionCount())
	image.Topics("", func(t *metadata.Topic) bool {
		for i := range t.Partitions {
			parts = append(parts, model.Partition{Topic: t.Name, Index: int32(i)})
		}
		return true
	})
	return parts
}

// brokenPartition reports whether this node's replica cannot serve.
func (s *session) brokenPartition(p model.Partition) bool {
	replica, err := s.opts.Replicas.Partition(p)
	return err != nil || replica.Err() != nil
}

// elected answers in the order of the request, or of all topics.
func (s *session) elected(c *call, q *wire.ElectLeadersRequest, r *wire.ElectLeadersResponse, parts []model.Partition, errs []error) {
	next := 0
	add := func(topic string, count int) {
		x := wire.Extend(&r.ReplicaElectionResults)
		x.Topic = topic
		for ; count > 0; count-- {
			err := errs[next]
			if q.TopicPartitions != nil || !errors.Is(err, wire.ElectionNotNeeded) {
				y := wire.Extend(&x.PartitionResult)
				y.PartitionID, y.ErrorCode, y.ErrorMessage = parts[next].Index, s.codeOf(err, c), message(err)
			}
			next++
		}
	}
	for i := range q.TopicPartitions {
		add(q.TopicPartitions[i].Topic, len(q.TopicPartitions[i].Partitions))
	}
	for q.TopicPartitions == nil && next < len(parts) {
		end := next
		for end < len(parts) && parts[end].Topic == parts[next].Topic {
			end++
		}
		add(parts[next].Topic, end-next)
	}
}
