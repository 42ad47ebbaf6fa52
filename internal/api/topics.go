package api

import (
	"context"
	"slices"
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
	changes := s.mutations(c, strictCreate)
	defer changes.end(c)
	err := s.propose(q.TimeoutMs, func(image *metadata.Image) (records []metadata.Record, err error) {
		records, created, err = changes.rules().CreateTopics(image, specs)
		if q.ValidateOnly {
			records = nil
		}
		return records, err
	})
	if err != nil { // None was made.
		for i := range specs {
			x := wire.Extend(&r.Topics)
			x.Name, x.ErrorCode, x.ErrorMessage = specs[i].Name, s.codeOf(err, c), message(err)
		}
		return r
	}
	for i := range created {
		s.topicCreated(c, &created[i], wire.Extend(&r.Topics))
	}
	return r
}

// propose waits for the metadata log as long as the client does. Decide may be
// called even after propose has given up: it must not touch the frame.
func (s *session) propose(timeoutMs int32, decide func(*metadata.Image) ([]metadata.Record, error)) error {
	began := s.opts.Now()
	defer func() { s.call.idle += s.opts.Now().Sub(began) }()
	timeout := min(time.Duration(timeoutMs)*time.Millisecond, adminTimeout)
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	return s.opts.Metadata.Propose(ctx, decide)
}

// The first versions of requests that change topics whose clients know
// THROTTLING_QUOTA_EXCEEDED (KIP-599).
const (
	strictCreate           = 6
	strictDelete           = 5
	strictCreatePartitions = 3
)

// topicSpec translates; what it keeps does not alias the frame.
func topicSpec(t *wire.CreateTopicsRequestCreatableTopic) controller.TopicSpec {
	spec := controller.TopicSpec{Name: strings.Clone(t.Name), Partitions: t.NumPartitions, Replication: t.ReplicationFactor}
	for _, a := range t.Assignments {
		x := controller.Replicas{Partition: a.PartitionIndex}
		for _, id := range a.BrokerIDs {
			x.Nodes = append(x.Nodes, model.NodeID(id))
		}
		spec.Assignment = append(spec.Assignment, x)
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

func (s *session) topicCreated(c *call, t *controller.TopicCreated, out *wire.CreateTopicsResponseCreatableTopicResult) {
	out.Name = t.Name
	if t.Err != nil {
		out.ErrorCode, out.ErrorMessage = s.codeOf(t.Err, c), message(t.Err)
		return
	}
	out.ErrorMessage, out.TopicID = nil, t.ID
	if c.Version < 5 {
		return
	}
	out.NumPartitions, out.ReplicationFactor = t.Partitions, t.Replication
	for _, e := range config.DescribeTopic(s.configs.In(s.opts.Metadata.Image()), t.Configs) {
		x := wire.Extend(&out.Configs)
		x.Name, x.Value, x.ReadOnly, x.IsSensitive, x.ConfigSource = e.Name, e.Value, e.ReadOnly, e.Sensitive, int8(e.Source)
		if text, ok := t.Configs[e.Name]; ok {
			x.Value = &text // As it was written; DescribeConfigs tidies.
		}
	}
}

// deletion is one topic of a DeleteTopics request.
type deletion struct {
	name   *string
	id     model.TopicID
	err    error
	merged bool // It is answered under its name.
}

// deleteTopics removes topics by name or, from version 6 on, by id. All that
// may go goes in one change.
func (s *session) deleteTopics(c *call, q *wire.DeleteTopicsRequest) wire.Response {
	var asked []deletion
	for i := range q.TopicNames {
		asked = append(asked, deletion{name: &q.TopicNames[i]})
	}
	for i := range q.Topics {
		asked = append(asked, deletion{name: q.Topics[i].Name, id: q.Topics[i].TopicID})
	}
	if !s.opts.Config.DeleteTopics {
		return s.deleted(c, asked, deletionDisabled(c.Version))
	}
	if q.TimeoutMs <= 0 {
		return s.deleted(c, asked, wire.RequestTimedOut) // Kafka has looked for none by then.
	}
	asked = s.resolveDeletions(asked)
	var ids []model.TopicID
	for i := range asked {
		if asked[i].err == nil {
			ids = append(ids, asked[i].id)
		}
	}
	if len(ids) == 0 {
		return s.deleted(c, asked, nil)
	}
	changes := s.mutations(c, strictDelete)
	defer changes.end(c)
	refused := map[model.TopicID]error{}
	err := s.propose(q.TimeoutMs, func(image *metadata.Image) ([]metadata.Record, error) {
		records, errs := changes.rules().DeleteTopics(image, ids)
		for i, id := range ids {
			refused[id] = errs[i]
		}
		return records, nil
	})
	for i := range asked {
		if d := &asked[i]; d.err == nil && err == nil {
			d.err = refused[d.id]
		}
	}
	return s.deleted(c, asked, err)
}

// deletionDisabled is what clients are told that may know the code or not.
func deletionDisabled(version int16) error {
	if version < 3 {
		return wire.InvalidRequest
	}
	return wire.TopicDeletionDisabled
}

// deleted answers; err is that of all topics that had none of their own.
func (s *session) deleted(c *call, asked []deletion, err error) wire.Response {
	r := wire.NewDeleteTopicsResponse()
	for i := range asked {
		d := &asked[i]
		if d.err == nil {
			d.err = err
		}
		x := wire.Extend(&r.Responses)
		x.Name, x.TopicID = d.name, d.id
		if d.err != nil {
			x.ErrorCode, x.ErrorMessage = s.codeOf(d.err, c), message(d.err)
		}
	}
	return r
}

// resolveDeletions finds the topics, and refuses what is unknown or said twice:
// then nothing of it is deleted.
func (s *session) resolveDeletions(asked []deletion) []deletion {
	var (
		image                 = s.opts.Metadata.Image()
		refused, byID, byName []deletion
		ids                   places[model.TopicID]
		names                 places[string]
	)
	for _, d := range asked {
		switch {
		case d.name != nil && !d.id.IsZero():
			d.err = invalidRequest("You may not specify both topic name and topic id.")
			refused = append(refused, d)
		case d.name == nil && d.id.IsZero():
			d.err = invalidRequest("Neither topic name nor id were specified.")
			refused = append(refused, d)
		case d.name == nil:
			if at, isNew := ids.at(d.id); isNew {
				byID = append(byID, d)
			} else {
				byID[at].err = invalidRequest("Duplicate topic id.")
			}
		default:
			if at, isNew := names.at(*d.name); isNew {
				byName = append(byName, d)
			} else {
				byName[at].err = invalidRequest("Duplicate topic name.")
			}
		}
	}
	for i := range byID {
		byID[i].findName(image)
	}
	for i := range byName {
		d := &byName[i]
		if d.findID(image); d.err != nil {
			continue
		}
		if at, isNew := ids.at(d.id); !isNew {
			d.err = invalidRequest("The provided topic name maps to an ID that was already supplied.")
			byID[at].merged = true
		}
	}
	byID = slices.DeleteFunc(byID, func(d deletion) bool { return d.merged })
	return slices.Concat(refused, byID, byName)
}

func (d *deletion) findName(image *metadata.Image) {
	if d.err != nil {
		return
	}
	if t := image.TopicByID(d.id); t != nil {
		d.name = &t.Name
		return
	}
	d.err = &controller.Refusal{Why: controller.ErrUnknownTopicID, Message: wire.UnknownTopicID.Message()}
}

func (d *deletion) findID(image *metadata.Image) {
	if d.err != nil {
		return
	}
	if t := image.Topic(*d.name); t != nil {
		d.id = t.ID
		return
	}
	d.err = &controller.Refusal{Why: controller.ErrUnknownTopic, Message: wire.UnknownTopicOrPartition.Message()}
}
