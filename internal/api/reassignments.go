package api

import (
	"strings"

	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// alterPartitionReassignments moves partitions to other brokers, or cancels
// that (KIP-455).
func (s *session) alterPartitionReassignments(c *call, q *wire.AlterPartitionReassignmentsRequest) wire.Response {
	r := wire.NewAlterPartitionReassignmentsResponse()
	if len(q.Topics) == 0 {
		return r
	}
	var wishes []controller.Reassignment
	for i := range q.Topics {
		topic := strings.Clone(q.Topics[i].Name)
		for _, p := range q.Topics[i].Partitions {
			wishes = append(wishes, controller.Reassignment{
				Partition: model.Partition{Topic: topic, Index: p.PartitionIndex}, Replicas: nodeIDs(p.Replicas),
			})
		}
	}
	errs := make([]error, len(wishes))
	err := s.propose(q.TimeoutMs, func(image *metadata.Image) ([]metadata.Record, error) {
		records, each := s.opts.Rules.Reassign(image, wishes, !q.AllowReplicationFactorChange)
		copy(errs, each)
		return records, nil
	})
	if err != nil { // It is that of all.
		for i := range errs {
			errs[i] = err
		}
	}
	r.ErrorCode, r.ErrorMessage, r.AllowReplicationFactorChange = s.codeOf(err, c), message(err), q.AllowReplicationFactorChange
	for i := range q.Topics {
		x := wire.Extend(&r.Responses)
		x.Name = q.Topics[i].Name
		for _, p := range q.Topics[i].Partitions {
			y := wire.Extend(&x.Partitions)
			y.PartitionIndex, y.ErrorCode, y.ErrorMessage = p.PartitionIndex, s.codeOf(errs[0], c), message(errs[0])
			errs = errs[1:]
		}
	}
	return r
}

// listPartitionReassignments tells which partitions are being moved.
func (s *session) listPartitionReassignments(_ *call, q *wire.ListPartitionReassignmentsRequest) wire.Response {
	r := wire.NewListPartitionReassignmentsResponse()
	r.ErrorMessage = nil
	image := s.opts.Metadata.Image()
	if q.Topics == nil {
		image.Topics("", func(t *metadata.Topic) bool {
			all := make([]int32, len(t.Partitions))
			for i := range all {
				all[i] = int32(i)
			}
			listReassignments(r, t, all)
			return true
		})
		return r
	}
	for i := range q.Topics {
		if t := image.Topic(q.Topics[i].Name); t != nil {
			listReassignments(r, t, q.Topics[i].PartitionIndexes)
		}
	}
	return r
}

func listReassignments(r *wire.ListPartitionReassignmentsResponse, t *metadata.Topic, indexes []int32) {
	var x *wire.ListPartitionReassignmentsResponseOngoingTopicReassignment
	for _, i := range indexes {
		if i < 0 || int(i) >= len(t.Partitions) {
			continue
		}
		p := t.Partitions[i]
		if len(p.Adding)+len(p.Removing) == 0 {
			continue
		}
		if x == nil {
			x = wire.Extend(&r.Topics)
			x.Name = t.Name
		}
		y := wire.Extend(&x.Partitions)
		y.PartitionIndex, y.Replicas = i, ints(p.Replicas)
		y.AddingReplicas, y.RemovingReplicas = ints(p.Adding), ints(p.Removing)
	}
}
