package api

import (
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// invalidLowWatermark is the low watermark of a partition that was refused.
const invalidLowWatermark = -1

// trim is a partition of a DeleteRecords request, and what became of it.
type trim struct {
	partition model.Partition
	topic     int // Place of its topic.
	to        model.Offset
	start     model.Offset
	err       error
}

// deleteRecords ends reading of what lies before offsets (KIP-107). It is
// answered when the new starts are durable. Of a partition that comes more than
// once, the last offset counts.
func (s *session) deleteRecords(c *call, q *wire.DeleteRecordsRequest) wire.Response {
	trims, topics := trimsOf(q)
	image := s.opts.Metadata.Image()
	var moved []model.Partition
	for i := range trims {
		t := &trims[i]
		if t.start, t.err = s.trim(image.Topic(t.partition.Topic), t); t.err == nil {
			moved = append(moved, t.partition)
		}
	}
	s.keepStarts(trims, moved)
	r := wire.NewDeleteRecordsResponse()
	answers := make([]int, topics) // By topic: 1 more than where in the answer.
	for i := range trims {
		t := &trims[i]
		if answers[t.topic] == 0 {
			wire.Extend(&r.Topics).Name = t.partition.Topic
			answers[t.topic] = len(r.Topics)
		}
		x := wire.Extend(&r.Topics[answers[t.topic]-1].Partitions)
		x.PartitionIndex, x.LowWatermark, x.ErrorCode = t.partition.Index, int64(t.start), s.codeOf(t.err, c)
		if t.err != nil {
			x.LowWatermark = invalidLowWatermark
		}
	}
	return r
}

// trimsOf lists the partitions of a request, and counts their topics.
func trimsOf(q *wire.DeleteRecordsRequest) (trims []trim, topics int) {
	var names places[string]
	var seen places[mention]
	for i := range q.Topics {
		t := &q.Topics[i]
		topic, _ := names.at(t.Name)
		for _, p := range t.Partitions {
			at, isNew := seen.at(mention{int32(topic), p.PartitionIndex})
			if isNew {
				trims = append(trims, trim{partition: model.Partition{Topic: t.Name, Index: p.PartitionIndex}, topic: topic})
			}
			trims[at].to = model.Offset(p.Offset)
		}
	}
	return trims, names.n
}

func (s *session) trim(topic *metadata.Topic, t *trim) (model.Offset, error) {
	replica, err := s.replicaOf(topic, t.partition.Index)
	switch {
	case err != nil:
		return model.NoOffset, err
	case internalTopic(topic.Name):
		return model.NoOffset, wire.InvalidTopicException
	}
	return replica.Trim(t.to)
}

// keepStarts makes durable what was trimmed.
func (s *session) keepStarts(trims []trim, moved []model.Partition) {
	if len(moved) == 0 {
		return
	}
	errs := s.opts.Disks.KeepStarts(moved)
	for i := range trims {
		if trims[i].err == nil {
			trims[i].err, errs = errs[0], errs[1:]
		}
	}
}
