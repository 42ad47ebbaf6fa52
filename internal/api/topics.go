package api

import (
	"context"
	"strings"
	"time"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// createTopics makes topics, or only says whether it would.
func (s *session) createTopics(c *call, q *wire.CreateTopicsRequest) wire.Response {
	r := wire.NewCreateTopicsResponse()
	specs := make([]controller.TopicSpec, 0, len(q.Topics))
	for i := range q.Topics {
		specs = append(specs, topicSpec(&q.Topics[i]))
	}
	var created []controller.TopicCreated
	err := s.propose(q.TimeoutMs, func(image *metadata.Image) (records []metadata.Record, err error) {
		records, created, err = s.opts.Rules.CreateTopics(image, specs)
		if q.ValidateOnly {
			records = nil
		}
		return records, err
	})
	if err != nil { // None was made.
		for i := range q.Topics {
			x := wire.Extend(&r.Topics)
			x.Name, x.ErrorCode, x.ErrorMessage = q.Topics[i].Name, s.codeOf(err, c), message(err)
		}
		return r
	}
	for i := range created {
		s.topicCreated(c, q, &created[i], wire.Extend(&r.Topics))
	}
	return r
}

// propose waits for the metadata log as long as the client does.
func (s *session) propose(timeoutMs int32, decide func(*metadata.Image) ([]metadata.Record, error)) error {
	timeout := min(time.Duration(timeoutMs)*time.Millisecond, adminTimeout)
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	return s.opts.Metadata.Propose(ctx, decide)
}

// topicSpec translates; what it keeps does not alias the frame.
func topicSpec(t *wire.CreateTopicsRequestCreatableTopic) controller.TopicSpec {
	spec := controller.TopicSpec{Name: strings.Clone(t.Name), Partitions: t.NumPartitions, Replication: t.ReplicationFactor}
	for _, a := range t.Assignments {
		if spec.Assignment == nil {
			spec.Assignment = map[int32][]model.NodeID{}
		}
		nodes := make([]model.NodeID, 0, len(a.BrokerIDs))
		for _, id := range a.BrokerIDs {
			nodes = append(nodes, model.NodeID(id))
		}
		spec.Assignment[a.PartitionIndex] = nodes
	}
	for _, o := range t.Configs {
		x := config.Override{Name: strings.Clone(o.Name)}
		if o.Value != nil {
			x.Value = new(strings.Clone(*o.Value))
		}
		spec.Configs = append(spec.Configs, x)
	}
	return spec
}

func (s *session) topicCreated(c *call, q *wire.CreateTopicsRequest, t *controller.TopicCreated, out *wire.CreateTopicsResponseCreatableTopicResult) {
	out.Name = t.Name
	if t.Err != nil {
		out.ErrorCode, out.ErrorMessage = s.codeOf(t.Err, c), message(t.Err)
		return
	}
	if !q.ValidateOnly {
		out.TopicID = t.ID
	}
	if c.Version < 5 {
		return
	}
	out.NumPartitions, out.ReplicationFactor = t.Partitions, t.Replication
	for _, e := range config.DescribeTopic(s.opts.Config, t.Configs) {
		x := wire.Extend(&out.Configs)
		x.Name, x.Value, x.ReadOnly, x.IsSensitive, x.ConfigSource = e.Name, e.Value, e.ReadOnly, e.Sensitive, int8(e.Source)
	}
}

// deleteTopics removes topics by name or, from version 6 on, by id.
func (s *session) deleteTopics(c *call, q *wire.DeleteTopicsRequest) wire.Response {
	r := wire.NewDeleteTopicsResponse()
	image := s.opts.Metadata.Image()
	for _, name := range q.TopicNames {
		s.deleteTopic(c, q, image, &name, model.TopicID{}, wire.Extend(&r.Responses))
	}
	for i := range q.Topics {
		s.deleteTopic(c, q, image, q.Topics[i].Name, q.Topics[i].TopicID, wire.Extend(&r.Responses))
	}
	return r
}

func (s *session) deleteTopic(c *call, q *wire.DeleteTopicsRequest, image *metadata.Image, name *string, id model.TopicID, out *wire.DeleteTopicsResponseDeletableTopicResult) {
	out.Name, out.TopicID = name, id
	err := func() error {
		if !s.opts.Config.DeleteTopics {
			if c.Version < 3 {
				return wire.InvalidRequest
			}
			return wire.TopicDeletionDisabled
		}
		if name != nil && !id.IsZero() {
			return &controller.Refusal{Why: controller.ErrInvalidRequest, Message: "You may not specify both topic name and topic id."}
		}
		t := image.TopicByID(id)
		if name != nil {
			t = image.Topic(*name)
		}
		switch {
		case t == nil && name != nil:
			return wire.UnknownTopicOrPartition
		case t == nil && id.IsZero():
			return &controller.Refusal{Why: controller.ErrInvalidRequest, Message: "Neither topic name nor id were specified."}
		case t == nil:
			return wire.UnknownTopicID
		}
		out.Name, out.TopicID = &t.Name, t.ID
		return s.propose(q.TimeoutMs, func(image *metadata.Image) ([]metadata.Record, error) {
			return s.opts.Rules.DeleteTopic(image, t.ID)
		})
	}()
	if err != nil {
		out.ErrorCode, out.ErrorMessage = s.codeOf(err, c), errorText(err)
	}
}

// errorText is Kafka's sentence for a code, or the error's own.
func errorText(err error) *string {
	if e, ok := err.(wire.ErrorCode); ok {
		return new(e.Message())
	}
	return message(err)
}
