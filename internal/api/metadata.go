package api

import (
	"slices"
	"strings"
	"time"

	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// Bits of what everybody may do while there are no ACLs, by Kafka's numbers of
// the operations that a topic and a cluster have.
const (
	topicOperations   = 1<<3 | 1<<4 | 1<<5 | 1<<6 | 1<<7 | 1<<8 | 1<<10 | 1<<11
	clusterOperations = 1<<5 | 1<<7 | 1<<8 | 1<<9 | 1<<10 | 1<<11 | 1<<12
)

// metadata tells which brokers and topics there are.
func (s *session) metadata(c *call, q *wire.MetadataRequest) wire.Response {
	if refused := refuseMetadata(c.Version, q); refused != wire.None {
		return metadataRefused(q, refused)
	}
	r := wire.NewMetadataResponse()
	all := q.Topics == nil || c.Version == 0 && len(q.Topics) == 0
	byID := slices.ContainsFunc(q.Topics, func(t wire.MetadataRequestTopic) bool { return !t.TopicID.IsZero() })
	if !all && !byID && (c.Version < 4 || q.AllowAutoTopicCreation) {
		s.autoCreate(c, q)
	}
	image := s.opts.Metadata.Image()
	for _, b := range image.Brokers() {
		if at, ok := s.address(b); ok && !b.Fenced {
			x := wire.Extend(&r.Brokers)
			x.NodeID, x.Host, x.Port, x.Rack = int32(b.ID), at.Host, at.Port, b.Rack
		}
	}
	r.ClusterID = &s.opts.ClusterID
	r.ControllerID = int32(s.opts.Self) // Any live broker: each forwards.
	if q.IncludeClusterAuthorizedOperations {
		r.ClusterAuthorizedOperations = clusterOperations
	}
	switch {
	case all:
		image.Topics("", func(t *metadata.Topic) bool {
			s.topicMetadata(r, c, q, t)
			return true
		})
	case byID:
		s.topicsByID(image, r, c, q)
	default:
		s.topicsByName(image, r, c, q)
	}
	return r
}

// firstMetadataByID is the first version that may ask by id (KIP-516).
const firstMetadataByID = 12

// refuseMetadata finds what makes Kafka refuse a request as a whole.
func refuseMetadata(version int16, q *wire.MetadataRequest) wire.ErrorCode {
	for i := range q.Topics {
		t := &q.Topics[i]
		switch {
		case version < firstMetadataByID && (t.Name == nil || !t.TopicID.IsZero()):
			return wire.InvalidRequest
		case t.Name == nil && t.TopicID.IsZero():
			return wire.UnknownServerError
		}
	}
	return wire.None
}

// metadataRefused is the answer to a request that is refused as a whole.
func metadataRefused(q *wire.MetadataRequest, e wire.ErrorCode) wire.Response {
	r := wire.NewMetadataResponse()
	r.ErrorCode = int16(e)
	for i := range q.Topics {
		x := wire.Extend(&r.Topics)
		x.ErrorCode, x.Name, x.TopicID = int16(e), q.Topics[i].Name, q.Topics[i].TopicID
		if x.Name == nil {
			x.Name = new("")
		}
	}
	return r
}

// topicsByID answers a request that has ids: its names do not count.
func (s *session) topicsByID(image *metadata.Image, r *wire.MetadataResponse, c *call, q *wire.MetadataRequest) {
	var seen places[model.TopicID]
	for i := range q.Topics {
		id := q.Topics[i].TopicID
		if id.IsZero() {
			continue
		}
		if _, isNew := seen.at(id); !isNew {
			continue
		}
		if t := image.TopicByID(id); t != nil {
			s.topicMetadata(r, c, q, t)
			continue
		}
		x := wire.Extend(&r.Topics)
		x.ErrorCode, x.Name, x.TopicID = int16(wire.UnknownTopicID), nil, id
	}
}

func (s *session) topicsByName(image *metadata.Image, r *wire.MetadataResponse, c *call, q *wire.MetadataRequest) {
	var seen places[string]
	for i := range q.Topics {
		name := q.Topics[i].Name
		if _, isNew := seen.at(*name); !isNew {
			continue
		}
		if t := image.Topic(*name); t != nil {
			s.topicMetadata(r, c, q, t)
			continue
		}
		x := wire.Extend(&r.Topics)
		x.ErrorCode, x.Name = int16(wire.UnknownTopicOrPartition), name
		if controller.CheckName(*name) != nil {
			x.ErrorCode = int16(wire.InvalidTopicException)
		}
		if q.IncludeTopicAuthorizedOperations {
			x.TopicAuthorizedOperations = topicOperations
		}
	}
}

func (s *session) topicMetadata(r *wire.MetadataResponse, c *call, q *wire.MetadataRequest, t *metadata.Topic) {
	x := wire.Extend(&r.Topics)
	x.Name, x.TopicID, x.IsInternal = &t.Name, t.ID, internalTopic(t.Name)
	if q.IncludeTopicAuthorizedOperations {
		x.TopicAuthorizedOperations = topicOperations
	}
	for i, p := range t.Partitions {
		y := wire.Extend(&x.Partitions)
		leader, e := s.leader(t, i)
		if e == wire.ListenerNotFound && c.Version < 6 {
			e = wire.LeaderNotAvailable
		}
		y.ErrorCode, y.PartitionIndex = int16(e), int32(i)
		y.LeaderID, y.LeaderEpoch = int32(leader), int32(p.LeaderEpoch)
		y.ReplicaNodes, y.IsrNodes = ints(p.Replicas), ints(p.ISR)
		y.OfflineReplicas = s.offline(t, i)
	}
}

// leader is whom clients should ask for a partition, and what is wrong.
func (s *session) leader(t *metadata.Topic, index int) (model.NodeID, wire.ErrorCode) {
	p := t.Partitions[index]
	if p.Leader == model.NoNode {
		return model.NoNode, wire.LeaderNotAvailable
	}
	if b := s.opts.Metadata.Image().Broker(p.Leader); b == nil {
		return model.NoNode, wire.LeaderNotAvailable
	} else if _, ok := s.address(b); !ok {
		return model.NoNode, wire.ListenerNotFound
	}
	if p.Leader == s.opts.Self && s.brokenHere(t, index) {
		return model.NoNode, wire.LeaderNotAvailable
	}
	return p.Leader, wire.None
}

// brokenHere reports whether this node's replica is on a failed disk.
func (s *session) brokenHere(t *metadata.Topic, index int) bool {
	replica, err := s.opts.Replicas.Partition(model.Partition{Topic: t.Name, Index: int32(index)})
	return err != nil || replica.Err() != nil
}

// offline are the replicas that cannot serve.
func (s *session) offline(t *metadata.Topic, index int) []int32 {
	image := s.opts.Metadata.Image()
	var out []int32
	for _, n := range t.Partitions[index].Replicas {
		if b := image.Broker(n); b == nil || b.Fenced || n == s.opts.Self && s.brokenHere(t, index) {
			out = append(out, int32(n))
		}
	}
	return out
}

// autoCreate makes the topics that are asked for and do not exist, with the
// broker's defaults (auto.create.topics.enable). What cannot be made is
// answered as unknown. The answer shows the new topics at once, where Kafka
// sends its client round once more.
func (s *session) autoCreate(c *call, q *wire.MetadataRequest) {
	if !s.opts.Config.AutoCreateTopics {
		return
	}
	image := s.opts.Metadata.Image()
	var specs []controller.TopicSpec
	var seen places[string]
	for i := range q.Topics {
		name := *q.Topics[i].Name
		if image.Topic(name) != nil || controller.CheckName(name) != nil || internalTopic(name) {
			continue
		}
		if _, isNew := seen.at(name); isNew {
			specs = append(specs, controller.TopicSpec{Name: strings.Clone(name), Partitions: -1, Replication: -1})
		}
	}
	if len(specs) == 0 {
		return
	}
	changes := s.mutations(c, 0) // Kafka asks its controller in a version that refuses.
	err := s.propose(autoCreateMillis, func(image *metadata.Image) ([]metadata.Record, error) {
		records, _, err := changes.rules().CreateTopics(image, specs)
		return records, err
	})
	if err != nil && s.limit.allow() {
		s.opts.Log.Warn("topics not created automatically", "peer", s.conn.RemoteAddr(), "err", err)
	}
}

// autoCreateMillis is how long a Metadata request waits for its new topics.
const autoCreateMillis = 10_000

func ints(ids []model.NodeID) []int32 {
	out := make([]int32, len(ids))
	for i, id := range ids {
		out[i] = int32(id)
	}
	return out
}

// adminTimeout bounds how long an admin request waits for the metadata log,
// whatever the client asks.
const adminTimeout = 5 * time.Minute
