package config

import "time"

// MetadataLog is what the configuration says about the metadata log, beside where it lives.
type MetadataLog struct {
	SegmentBytes int64         // metadata.log.segment.bytes
	SegmentAge   time.Duration // metadata.log.segment.ms
	// SnapshotBytes is how much log makes a new snapshot worth it (metadata.log.max.record.bytes.between.snapshots); SnapshotInterval
	// the time after which any log does (metadata.log.max.snapshot.interval.ms), 0 for never.
	SnapshotBytes    int64
	SnapshotInterval time.Duration
}

func (b *Broker) fillMetadataLog() {
	b.MetadataLog = MetadataLog{
		SegmentBytes: b.int("metadata.log.segment.bytes"), SegmentAge: b.millis("metadata.log.segment.ms"),
		SnapshotBytes:    b.int("metadata.log.max.record.bytes.between.snapshots"),
		SnapshotInterval: b.millis("metadata.log.max.snapshot.interval.ms"),
	}
}
