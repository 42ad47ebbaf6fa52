package config

import "time"

// Coordinators is what the configuration says about the coordinators, and the topics that hold their state.
type Coordinators struct {
	Offsets, Transactions StateTopic
	Groups                Groups
	Txn                   Txn
	MemoryBytes           int64 // coordinator.memory.max.bytes, or an eighth of the memory
}

// StateTopic is how a topic of a coordinator is made.
type StateTopic struct {
	Partitions   int32
	Replication  int16
	MinISR       int // 0 is the broker's
	SegmentBytes int64
}

// Groups are the settings of the group coordinator.
type Groups struct {
	InitialDelay                           time.Duration // group.initial.rebalance.delay.ms
	MinSessionTimeout, MaxSessionTimeout   time.Duration // of classic members
	MaxSize                                int           // group.max.size
	MetadataMaxBytes                       int           // offset.metadata.max.bytes
	OffsetsRetention, OffsetsCheck         time.Duration
	CommitTimeout                          time.Duration // offsets.commit.timeout.ms: of every change of a group
	OffsetsCodec                           int8          // offsets.topic.compression.codec, as a record batch numbers it
	Protocols                              []string      // group.coordinator.rebalance.protocols
	Assignors                              []string      // group.consumer.assignors; the first is the default
	ConsumerMaxSize                        int           // group.consumer.max.size
	MigrationPolicy                        string        // group.consumer.migration.policy
	ConsumerSession, ConsumerHeartbeat     time.Duration // unless a group has its own
	MinConsumerSession, MaxConsumerSession time.Duration // bounds of a group's own
	MinHeartbeat, MaxHeartbeat             time.Duration
	AssignmentInterval                     time.Duration // group.consumer.assignment.interval.ms
	MinAssignment, MaxAssignment           time.Duration // bounds of a group's own interval
	RegexRefresh                           time.Duration // group.consumer.regex.refresh.interval.ms
}

// Txn are the settings of the transaction coordinator.
type Txn struct {
	MaxTimeout  time.Duration // transaction.max.timeout.ms
	Expiration  time.Duration // transactional.id.expiration.ms
	AbortCheck  time.Duration // transaction.abort.timed.out.transaction.cleanup.interval.ms
	ExpireCheck time.Duration // transaction.remove.expired.transaction.cleanup.interval.ms
	Verify      bool          // transaction.partition.verification.enable
	TwoPhase    bool          // transaction.two.phase.commit.enable
	AddPause    time.Duration // add.partitions.to.txn.retry.backoff.ms
	AddPatience time.Duration // add.partitions.to.txn.retry.backoff.max.ms
}

func (b *Broker) fillCoordinators() {
	protocols, _ := b.value("group.coordinator.rebalance.protocols")
	assignors, _ := b.value("group.consumer.assignors")
	policy, _ := b.value("group.consumer.migration.policy")
	b.Coordinators = Coordinators{
		Offsets: StateTopic{
			Partitions: int32(b.int("offsets.topic.num.partitions")), Replication: int16(b.int("offsets.topic.replication.factor")),
			SegmentBytes: b.int("offsets.topic.segment.bytes"),
		},
		Transactions: StateTopic{
			Partitions: int32(b.int("transaction.state.log.num.partitions")), Replication: int16(b.int("transaction.state.log.replication.factor")),
			MinISR: int(b.int("transaction.state.log.min.isr")), SegmentBytes: b.int("transaction.state.log.segment.bytes"),
		},
		Groups: Groups{
			InitialDelay:      b.millis("group.initial.rebalance.delay.ms"),
			MinSessionTimeout: b.millis("group.min.session.timeout.ms"), MaxSessionTimeout: b.millis("group.max.session.timeout.ms"),
			MaxSize: int(b.int("group.max.size")), MetadataMaxBytes: int(b.int("offset.metadata.max.bytes")),
			OffsetsRetention: time.Duration(b.int("offsets.retention.minutes")) * time.Minute,
			OffsetsCheck:     b.millis("offsets.retention.check.interval.ms"), CommitTimeout: b.millis("offsets.commit.timeout.ms"), OffsetsCodec: int8(b.int("offsets.topic.compression.codec")),
			Protocols: protocols.list, Assignors: assignors.list, ConsumerMaxSize: int(b.int("group.consumer.max.size")), MigrationPolicy: policy.text,
			ConsumerSession: b.millis("group.consumer.session.timeout.ms"), ConsumerHeartbeat: b.millis("group.consumer.heartbeat.interval.ms"),
			MinConsumerSession: b.millis("group.consumer.min.session.timeout.ms"), MaxConsumerSession: b.millis("group.consumer.max.session.timeout.ms"),
			MinHeartbeat: b.millis("group.consumer.min.heartbeat.interval.ms"), MaxHeartbeat: b.millis("group.consumer.max.heartbeat.interval.ms"),
			MinAssignment: b.millis("group.consumer.min.assignment.interval.ms"), MaxAssignment: b.millis("group.consumer.max.assignment.interval.ms"),
			AssignmentInterval: b.millis("group.consumer.assignment.interval.ms"), RegexRefresh: b.millis("group.consumer.regex.refresh.interval.ms"),
		},
		Txn: Txn{
			MaxTimeout: b.millis("transaction.max.timeout.ms"), Expiration: b.millis("transactional.id.expiration.ms"),
			AbortCheck:  b.millis("transaction.abort.timed.out.transaction.cleanup.interval.ms"),
			ExpireCheck: b.millis("transaction.remove.expired.transaction.cleanup.interval.ms"),
			Verify:      b.bool("transaction.partition.verification.enable"), TwoPhase: b.bool("transaction.two.phase.commit.enable"),
			AddPause: b.millis("add.partitions.to.txn.retry.backoff.ms"), AddPatience: b.millis("add.partitions.to.txn.retry.backoff.max.ms"),
		},
		MemoryBytes: b.int("coordinator.memory.max.bytes"),
	}
	if b.Coordinators.MemoryBytes <= 0 {
		// An eighth: what Go's collector needs beside it makes that a quarter, and requests may have another.
		b.Coordinators.MemoryBytes = b.memoryBytes / 8
	}
}
