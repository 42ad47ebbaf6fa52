// Package replication is one replica's view of its partition: which end of the
// log counts and what is committed. It never knows logs, sockets or topics.
//
// It is a machine. Inputs tell it what happened, Committed says what follows:
//
//	Assigned ──▶ leader ──Appended/Synced──▶ committed rises to the end that counts
//	         └─▶ not leader: committed stands still
//
// With durability=os a replica's own end is what it appended; with
// durability=fsync it is what it has synced, so that nothing a power cut could
// take is ever committed, and so never read.
//
// What is here serves partitions with one replica. The rules for more (in-sync
// sets, chains, admission of learners) join as further inputs.
package replication
