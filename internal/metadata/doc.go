// Package metadata knows what a cluster is: topics, partitions, configurations,
// brokers and features, as Kafka's own metadata records say it (KIP-500,
// KIP-868). It never knows who decided a record or how it travelled.
//
// An [Image] is immutable: whoever holds one sees one state of the cluster. A
// [Tracker] takes records one by one and publishes a new image, and the
// [Delta] that led to it, after each record or, where several records stand
// between BeginTransaction and EndTransaction, after the last of them: a topic
// exists whole or not at all.
package metadata
