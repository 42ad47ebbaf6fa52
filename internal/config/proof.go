package config

import "strings"

// proofs name, for every key that works, a test that fails when its setting is ignored: the package, as a path below internal or
// the root of the repository, and the function, then the keys. A test of this package holds every key and every name to it.
func proofs() map[string]string {
	return map[string]string{
		"broker.TestRetentionSettings": "retention.ms log.retention.ms log.retention.minutes log.retention.hours retention.bytes log.retention.bytes " +
			"log.retention.check.interval.ms log.initial.task.delay.ms file.delete.delay.ms log.segment.delete.delay.ms",
		"broker.TestSegmentSettings": "segment.bytes log.segment.bytes internal.segment.bytes segment.ms log.roll.ms log.roll.hours " +
			"segment.jitter.ms log.roll.jitter.ms log.roll.jitter.hours segment.index.bytes log.index.size.max.bytes " +
			"index.interval.bytes log.index.interval.bytes preallocate log.preallocate",
		"broker.TestFlushSettings": "flush.messages log.flush.interval.messages flush.ms log.flush.interval.ms log.flush.scheduler.interval.ms " +
			"log.flush.offset.checkpoint.interval.ms durability",
		"broker.TestCompressionSettings": "compression.type compression.gzip.level compression.lz4.level compression.zstd.level",
		"broker.TestMessageSettings": "max.message.bytes message.max.bytes max.decompressed.message.bytes " +
			"message.timestamp.before.max.ms log.message.timestamp.before.max.ms message.timestamp.after.max.ms log.message.timestamp.after.max.ms " +
			"message.timestamp.type log.message.timestamp.type cleanup.policy log.cleanup.policy record.validation",
		"broker.TestCompactionSettings": "min.cleanable.dirty.ratio log.cleaner.min.cleanable.ratio min.compaction.lag.ms log.cleaner.min.compaction.lag.ms " +
			"max.compaction.lag.ms log.cleaner.max.compaction.lag.ms delete.retention.ms log.cleaner.delete.retention.ms",
		"broker.TestCleanerRunSettings":    "log.cleaner.enable log.cleaner.backoff.ms log.cleaner.io.max.bytes.per.second log.cleaner.threads",
		"broker.TestCleanerMemorySettings": "log.cleaner.dedupe.buffer.size log.cleaner.io.buffer.size log.cleaner.io.buffer.load.factor",

		"broker.TestRequestSettings": "socket.request.max.bytes fetch.max.bytes queued.max.request.bytes max.request.partition.size.limit " +
			"max.incremental.fetch.session.cache.slots",
		"broker.TestTopicCreationSettings": "auto.create.topics.enable num.partitions default.replication.factor delete.topic.enable",
		"broker.TestProducerSettings":      "producer.id.expiration.ms producer.id.expiration.check.interval.ms",
		"broker.TestCheckpointSettings":    "replica.high.watermark.checkpoint.interval.ms log.flush.start.offset.checkpoint.interval.ms",
		"broker.TestRecoverySettings":      "num.recovery.threads.per.data.dir",
		"broker.TestIdentitySettings":      "node.id broker.id broker.rack",
		"broker.TestConnectionSettings": "connections.max.idle.ms max.connections max.connections.per.ip max.connections.per.ip.overrides " +
			"max.connection.creation.rate quota.window.num quota.window.size.seconds",
		"broker.TestQuotaWindowSettings": "controller.quota.window.num controller.quota.window.size.seconds",
		"broker.TestTelemetrySettings":   "telemetry.max.bytes",
		"broker.TestSubscriptions":       "interval.ms metrics match",
		"broker.TestListenersChange":     "listeners listener.security.protocol.map",
		"broker.TestListenerSettings":    "advertised.listeners",
		"broker.TestSocketSettings":      "socket.send.buffer.bytes socket.receive.buffer.bytes socket.listen.backlog.size",
		"broker.TestPagesListen":         "http.listen",
		"broker.TestProfiles":            "http.pprof",
		"broker.TestPartitionMetrics":    "metrics.partitions",
		"broker.TestLogLevelSetting":     "log.level",
		"cmd/barnabas.TestFormatOfLog":   "log.format",

		"broker.TestDirectorySettings":        "log.dir log.dirs metadata.log.dir cordoned.log.dirs",
		"broker.TestMoveSettings":             "num.replica.alter.log.dirs.threads replica.alter.log.dirs.io.max.bytes.per.second",
		"broker.TestDiskPercent":              "log.retention.disk.percent",
		"broker.TestDirectoryFailureSettings": "log.dir.failure.timeout.ms",
		"broker.TestMetadataLogSettings": "metadata.log.segment.ms metadata.log.segment.bytes metadata.log.max.snapshot.interval.ms " +
			"metadata.log.max.record.bytes.between.snapshots",
		"partition.TestTooFewInSync": "min.insync.replicas",

		"controller.TestStateTopicSettings": "offsets.topic.num.partitions offsets.topic.replication.factor offsets.topic.segment.bytes " +
			"transaction.state.log.num.partitions transaction.state.log.replication.factor transaction.state.log.segment.bytes transaction.state.log.min.isr",
		"broker.TestCoordinatorMemory":     "coordinator.memory.max.bytes",
		"broker.TestCommitTimeoutSettings": "offsets.commit.timeout.ms",
		"broker.TestOffsetSettings":        "offset.metadata.max.bytes offsets.retention.minutes offsets.retention.check.interval.ms offsets.topic.compression.codec",
		"broker.TestClassicGroupSettings":  "group.initial.rebalance.delay.ms group.min.session.timeout.ms group.max.session.timeout.ms group.max.size",
		"broker.TestConsumerGroupSettings": "group.coordinator.rebalance.protocols group.consumer.max.size group.consumer.assignors " +
			"group.consumer.heartbeat.interval.ms group.consumer.min.heartbeat.interval.ms group.consumer.max.heartbeat.interval.ms " +
			"group.consumer.session.timeout.ms group.consumer.min.session.timeout.ms group.consumer.max.session.timeout.ms " +
			"group.consumer.migration.policy group.consumer.assignment.interval.ms group.consumer.min.assignment.interval.ms " +
			"group.consumer.max.assignment.interval.ms group.consumer.regex.refresh.interval.ms",
		"broker.TestGroupsOwnSettings":   "consumer.session.timeout.ms consumer.heartbeat.interval.ms consumer.assignment.interval.ms",
		"api.TestAddPatience":            "add.partitions.to.txn.retry.backoff.ms add.partitions.to.txn.retry.backoff.max.ms",
		"tests/dafka.TestBridge":         "dafka.enable dafka.config dafka.producers",
		"tests/dafka.TestMostPartitions": "dafka.max.partitions",
		"tests/dafka.TestPublishedTopic": "dafka.publish",

		"broker.TestTransactionSettings": "transaction.max.timeout.ms transactional.id.expiration.ms transaction.partition.verification.enable " +
			"transaction.abort.timed.out.transaction.cleanup.interval.ms transaction.remove.expired.transaction.cleanup.interval.ms",
	}
}

// testOf turns proofs round: the test of a key.
func testOf() map[string]string {
	out := map[string]string{}
	for test, keys := range proofs() {
		for _, key := range strings.Fields(keys) {
			out[key] = test
		}
	}
	return out
}
