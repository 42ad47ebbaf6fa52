package group

import (
	"math/rand/v2"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// Request is what a client asks of a group of this shard. It is answered with a
// new [wire.Response] of the same API, whose fields the caller may keep.
//
// The APIs are JoinGroup, SyncGroup, Heartbeat, LeaveGroup, OffsetCommit,
// OffsetFetch, OffsetDelete, ListGroups, DescribeGroups, DeleteGroups,
// ConsumerGroupHeartbeat, ConsumerGroupDescribe and TxnOffsetCommit; a request
// of another one is answered with UNKNOWN_SERVER_ERROR by [wire.ErrorCode].
//
// A request that names groups of several shards is one input to each of these,
// with the groups of that shard; ListGroups goes to all shards. Answers have
// the groups in the order in which the input names them.
type Request struct {
	// Body is the machine's from now on: its memory must be nobody else's.
	Body wire.Request
	// Version is the one the client spoke, and will be answered in.
	Version int16
	// ClientID is the request header's, "" for null. ClientHost is as Kafka
	// writes it: "/" and the address, without a port.
	ClientID, ClientHost string
	// Sees tells which topics the client may describe; nil is all. It decides
	// what a regular expression subscribes to, and is kept as long as the group
	// has that expression: it must answer for the cluster as it is then.
	Sees func(topic string) bool
	// Bytes is what Body takes in memory, roughly.
	Bytes int
}

// HeldBytes implements [coordinator.Sized].
func (q Request) HeldBytes() int { return q.Bytes }

// Marker ends a transaction of the offsets in this shard. It is answered with
// [wire.None] once the marker is committed. A producer or coordinator whose
// epoch is over is refused by the log, if that is a coordinator.Admitter, with
// an error of the log's; so is a TxnOffsetCommit.
type Marker struct {
	Producer         record.Producer
	Committed        bool
	CoordinatorEpoch int32
	// TransactionVersion is the coordinator's: from 2 on a marker's epoch is
	// above that of the transaction (KIP-890).
	TransactionVersion int16
}

// News says that the cluster is no longer what it was: topics, brokers,
// features, or the configuration of groups. It is not answered.
type News struct {
	Image *metadata.Image
	// Delta led to Image. Nil, or one that did not begin with the machine's
	// image, makes the machine compare.
	Delta *metadata.Delta
	// Settings are the broker's, where they changed; else nil.
	Settings *config.Groups
}

// Options of a [Machine].
type Options struct {
	// Shard is the partition of __consumer_offsets.
	Shard int32
	// Settings are the broker's. Those of one group are in Image.
	Settings config.Groups
	Image    *metadata.Image
	// Rand makes ids of members. It is the machine's alone.
	Rand *rand.Rand
	// MaxBatch is the most bytes that one batch of records may have; it is that
	// of the runtime.
	MaxBatch int
	// Memory counts, roughly, what the machine keeps, and bounds what strangers
	// may make it keep; nil is no bound.
	Memory *coordinator.Share
}
