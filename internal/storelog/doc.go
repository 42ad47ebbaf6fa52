// Package storelog keeps the partitions of Dafka's producers on disk: a data
// directory in which each has a log of its own, in Kafka's format. It knows
// numbers, appends, syncs, marks and retention; it must never know meshes,
// messages or who asks.
//
//	meta.properties, .lock, barnabas-marks …   as in every data directory
//	dafka-partitions                           the manifest: a log
//	letters-0, letters-7, ticks-1 …            TOPIC-NUMBER: the logs
//
// # Numbers
//
// A partition gets a number with its first record: the offset of its record in
// the manifest, whose key is the topic and whose value is the producer's address.
// Nothing is ever taken out of there, so that no number is used twice, whatever
// retention deletes. The record is durable before the directory is made. Bytes
// of a topic that cannot be in Kafka's names are replaced in the directory's; what
// counts is the manifest.
//
// # Records
//
// Offsets are sequences. A batch has many records, which have no keys; their time
// is when the store got them. A log begins above 0, or has a gap, where records
// were gone for good before this store could get them.
//
// # Who calls
//
// One goroutine appends; one keeps (marks, retention, idle files). Readers are as
// many as like. The lock of the directory keeps other processes out.
package storelog
