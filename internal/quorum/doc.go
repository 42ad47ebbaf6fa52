// Package quorum keeps the metadata log: it is the shell that lets decisions
// about the cluster become records, durable and in one order, and images. It
// never knows what a record means.
//
// The log is Kafka's own __cluster_metadata-0, its snapshots are Kafka's
// .checkpoint files, and its epoch is in Kafka's quorum-state. A change of
// several records stands between BeginTransaction and EndTransaction records,
// in one batch (KIP-868).
//
// One goroutine, Run, decides, appends, syncs and publishes, in groups: while
// one group is being synced the next one gathers. A node that is its own
// quorum is what is built so far; with more, etcd's Raft decides what is
// committed in place of the sync, over the same log: a record at offset n is
// the entry of index n+1.
package quorum
