// Package cluster knows which brokers there are and who leads which partition,
// as far as metadata told it: the interfaces Broker and Cluster, and the routing
// map that implements Cluster given a way to reach an address. It never knows
// how a broker is dialled, nor what is inside records.
package cluster

import (
	"context"
	"errors"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// ErrNoBroker says that no broker could be asked.
var ErrNoBroker = errors.New("cluster: no broker reachable")

// Broker answers requests.
type Broker interface {
	// Do returns the broker's answer. An error means that there is none, and
	// says nothing about whether the broker acted; error codes in the answer
	// are the caller's to look at.
	Do(ctx context.Context, req wire.Request) (wire.Response, error)
}

// Cluster finds the broker for a request.
type Cluster interface {
	// Any is some broker, which may turn out to be unreachable.
	Any(ctx context.Context) (Broker, error)
	// Controller is the broker that metadata names for changes to the cluster.
	Controller(ctx context.Context) (Broker, error)
	// Leader is the broker that leads the partition. Errors are
	// wire.ErrorCodes where metadata has one, such as
	// wire.UnknownTopicOrPartition and wire.LeaderNotAvailable.
	Leader(ctx context.Context, topic string, partition int32) (Broker, error)
	// Topic is what metadata says of a topic.
	Topic(ctx context.Context, name string) (Topic, error)
	// Forget has the next question about the topic answered by fresh metadata,
	// for use after answers like NOT_LEADER_OR_FOLLOWER.
	Forget(topic string)
}

// Topic is what metadata says of one.
type Topic struct {
	Name     string
	ID       model.TopicID
	Internal bool
	// Partitions are in the order of their index.
	Partitions []Partition
}

// Partition is one partition of a Topic.
type Partition struct {
	Index    int32
	Leader   model.NodeID // or model.NoNode
	Epoch    model.Epoch
	Replicas []model.NodeID
	InSync   []model.NodeID
	Offline  []model.NodeID
	// Err is wire.None, or why there is no leader.
	Err wire.ErrorCode
}
