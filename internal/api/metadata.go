package api

import (
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
	r := wire.NewMetadataResponse()
	all := q.Topics == nil || c.Version == 0 && len(q.Topics) == 0
	if !all && c.Version >= 4 && q.AllowAutoTopicCreation || !all && c.Version < 4 {
		s.autoCreate(q.Topics)
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
	if all {
		image.Topics("", func(t *metadata.Topic) bool {
			s.topicMetadata(r, c, q, t)
			return true
		})
		return r
	}
	for i := range q.Topics {
		s.askedTopic(image, r, c, q, &q.Topics[i])
	}
	return r
}

// askedTopic answers for one topic that was asked for by name or id.
func (s *session) askedTopic(image *metadata.Image, r *wire.MetadataResponse, c *call, q *wire.MetadataRequest, t *wire.MetadataRequestTopic) {
	missing := func(e wire.ErrorCode) {
		x := wire.Extend(&r.Topics)
		x.ErrorCode, x.Name, x.TopicID = int16(e), t.Name, t.TopicID
		if x.Name == nil && c.Version < 12 {
			x.Name = new("")
		}
	}
	if t.Name == nil || t.TopicID != (model.TopicID{}) { // Java asks by id with an empty name.
		if found := image.TopicByID(t.TopicID); found != nil {
			s.topicMetadata(r, c, q, found)
			return
		}
		missing(wire.UnknownTopicID)
		return
	}
	if found := image.Topic(*t.Name); found != nil {
		s.topicMetadata(r, c, q, found)
		return
	}
	if controller.CheckName(*t.Name) != nil {
		missing(wire.InvalidTopicException)
		return
	}
	missing(wire.UnknownTopicOrPartition)
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
	if s.brokenHere(t, index) {
		return model.NoNode, wire.LeaderNotAvailable
	}
	return p.Leader, wire.None
}

// brokenHere reports whether this node's replica is on a failed disk.
func (s *session) brokenHere(t *metadata.Topic, index int) bool {
	if t.Partitions[index].Leader != s.opts.Self {
		return false
	}
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
func (s *session) autoCreate(topics []wire.MetadataRequestTopic) {
	if !s.opts.Config.AutoCreateTopics {
		return
	}
	image := s.opts.Metadata.Image()
	var specs []controller.TopicSpec
	for i := range topics {
		name := topics[i].Name
		if name != nil && image.Topic(*name) == nil && controller.CheckName(*name) == nil && !internalTopic(*name) {
			specs = append(specs, controller.TopicSpec{Name: *name, Partitions: -1, Replication: -1})
		}
	}
	if len(specs) == 0 {
		return
	}
	err := s.opts.Metadata.Propose(s.ctx, func(image *metadata.Image) ([]metadata.Record, error) {
		records, _, err := s.opts.Rules.CreateTopics(image, specs)
		return records, err
	})
	if err != nil && s.limit.allow() {
		s.opts.Log.Warn("topics not created automatically", "peer", s.conn.RemoteAddr(), "err", err)
	}
}

// findCoordinator has no coordinators to name yet.
func (s *session) findCoordinator(c *call, q *wire.FindCoordinatorRequest) wire.Response {
	r := wire.NewFindCoordinatorResponse()
	e := wire.CoordinatorNotAvailable
	if q.KeyType < 0 || q.KeyType > 2 || q.KeyType == 2 && c.Version < 6 {
		e = wire.InvalidRequest
	}
	text := e.Message()
	if c.Version < 4 {
		r.ErrorCode, r.ErrorMessage, r.NodeID, r.Port = int16(e), &text, -1, -1
		return r
	}
	for _, key := range q.CoordinatorKeys {
		x := wire.Extend(&r.Coordinators)
		x.Key, x.NodeID, x.Port, x.ErrorCode, x.ErrorMessage = key, -1, -1, int16(e), &text
	}
	return r
}

// describeCluster tells which brokers there are.
func (s *session) describeCluster(_ *call, q *wire.DescribeClusterRequest) wire.Response {
	r := wire.NewDescribeClusterResponse()
	refuse := func(e wire.ErrorCode, text string) wire.Response {
		r.ErrorCode, r.ErrorMessage = int16(e), &text
		return r
	}
	r.EndpointType = q.EndpointType
	switch q.EndpointType {
	case 1:
	case 2:
		return refuse(wire.MismatchedEndpointType,
			"The request was sent to an endpoint of the wrong type: want BROKER, but it asks for CONTROLLER")
	default:
		return refuse(wire.UnsupportedEndpointType, wire.UnsupportedEndpointType.Message())
	}
	r.ClusterID, r.ControllerID = s.opts.ClusterID, int32(s.opts.Self)
	if q.IncludeClusterAuthorizedOperations {
		r.ClusterAuthorizedOperations = clusterOperations
	}
	for _, b := range s.opts.Metadata.Image().Brokers() {
		if at, ok := s.address(b); ok && (!b.Fenced || q.IncludeFencedBrokers) {
			x := wire.Extend(&r.Brokers)
			x.BrokerID, x.Host, x.Port, x.Rack, x.IsFenced = int32(b.ID), at.Host, at.Port, b.Rack, b.Fenced
		}
	}
	return r
}

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
