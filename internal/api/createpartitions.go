package api

import (
	"strings"

	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// createPartitions gives topics more partitions (KIP-195). Names that come more
// than once are refused.
func (s *session) createPartitions(c *call, q *wire.CreatePartitionsRequest) wire.Response {
	r := wire.NewCreatePartitionsResponse()
	wants, repeated := morePartitions(q)
	for _, name := range repeated {
		createdPartitions(r, s, c, name, invalidRequest("Duplicate topic name."))
	}
	if len(wants) == 0 {
		return r
	}
	errs := make([]error, len(wants))
	changes := s.mutations(c, strictCreatePartitions)
	defer changes.end(c)
	err := s.propose(q.TimeoutMs, func(image *metadata.Image) ([]metadata.Record, error) {
		records, each, err := changes.rules().CreatePartitions(image, wants)
		if q.ValidateOnly {
			records = nil
		}
		copy(errs, each)
		return records, err
	})
	for i, w := range wants {
		if err != nil {
			errs[i] = err
		}
		createdPartitions(r, s, c, w.Topic, errs[i])
	}
	return r
}

func createdPartitions(r *wire.CreatePartitionsResponse, s *session, c *call, topic string, err error) {
	x := wire.Extend(&r.Results)
	x.Name, x.ErrorCode, x.ErrorMessage = topic, s.codeOf(err, c), message(err)
}

// morePartitions translates; what it keeps does not alias the frame.
func morePartitions(q *wire.CreatePartitionsRequest) (wants []controller.MorePartitions, repeated []string) {
	var seen places[string]
	count := make([]int, 0, len(q.Topics))
	for i := range q.Topics {
		n, isNew := seen.at(q.Topics[i].Name)
		if isNew {
			count = append(count, 0)
		}
		count[n]++
	}
	for i := range q.Topics {
		t := &q.Topics[i]
		n, _ := seen.at(t.Name)
		switch {
		case count[n] == 1:
			wants = append(wants, morePartitionsOf(t))
		case count[n] > 1:
			repeated = append(repeated, strings.Clone(t.Name))
			count[n] = 0 // Said once.
		}
	}
	return wants, repeated
}

func morePartitionsOf(t *wire.CreatePartitionsRequestCreatePartitionsTopic) controller.MorePartitions {
	m := controller.MorePartitions{Topic: strings.Clone(t.Name), Count: t.Count}
	if t.Assignments != nil {
		m.Assignment = make([][]model.NodeID, len(t.Assignments))
	}
	for i, a := range t.Assignments {
		m.Assignment[i] = nodeIDs(a.BrokerIDs)
	}
	return m
}

// nodeIDs keeps null apart from none.
func nodeIDs(ids []int32) []model.NodeID {
	if ids == nil {
		return nil
	}
	out := make([]model.NodeID, len(ids))
	for i, id := range ids {
		out[i] = model.NodeID(id)
	}
	return out
}
