package model

import "strconv"

// Offset is the position of a record in a partition. "end" is always one past
// the last record, "last" is the last record.
type Offset int64

// NoOffset is Kafka's "unknown offset".
const NoOffset Offset = -1

// Epoch counts leaderships of one partition (KIP-101). It only grows.
type Epoch int32

// NoEpoch is Kafka's "unknown epoch"; requests that carry it skip the check.
const NoEpoch Epoch = -1

// NodeID names a broker within its cluster.
type NodeID int32

// NoNode is Kafka's "no node", for example a partition without a leader.
const NoNode NodeID = -1

// ProducerID names an idempotent producer (KIP-98).
type ProducerID int64

// NoProducer marks a batch that was written without idempotence.
const NoProducer ProducerID = -1

// Partition is one partition of a topic, by name.
type Partition struct {
	Topic string
	Index int32
}

// String returns Kafka's directory name of the partition, "topic-3".
func (p Partition) String() string {
	return p.Topic + "-" + strconv.Itoa(int(p.Index))
}
