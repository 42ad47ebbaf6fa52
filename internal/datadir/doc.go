// Package datadir is one data directory, as Kafka lays it out (one entry of
// log.dirs): who may use it, whose it is, which logs it holds, and how far each
// of them is durable. It never knows what is in a log, who leads it, or what a
// topic's configuration says.
//
//	.lock                              fcntl lock: one process, ours or Kafka's
//	meta.properties                    node, cluster and directory id
//	.kafka_cleanshutdown               the last owner stopped cleanly
//	recovery-point-offset-checkpoint   how far each log is durable
//	log-start-offset-checkpoint        where each log starts
//	replication-offset-checkpoint      how far each log is committed
//	cleaner-offset-checkpoint          how far each log is compacted
//	barnabas-marks                     ours: the commitlog.Mark of each log
//	barnabas-reserve                   ours: space to act on a full disk
//	TOPIC-N                            the log of a partition
//
// Kafka's checkpoints are written for Kafka's sake; what Barnabas trusts is in
// the marks. docs/formats/data-directory.md has the bytes.
package datadir
