package commitlog

import (
	"errors"
	"time"

	"github.com/barnabas-log/barnabas/model"
)

// Errors that callers tell apart. All others are of the disk.
var (
	// ErrOffline says that a sync or a write failed in a way that leaves the
	// content of the disk unknown. It stays until the log is opened anew.
	ErrOffline = errors.New("commitlog: offline")
	// ErrClosed says that the log was closed.
	ErrClosed = errors.New("commitlog: closed")
	// ErrOutOfRange says that an offset lies before the start or after the end.
	ErrOutOfRange = errors.New("commitlog: offset out of range")
	// ErrNotNext says that AppendAt was given offsets below the end.
	ErrNotNext = errors.New("commitlog: offsets do not follow the end")
	// ErrChanged says that a cleaning did not reach its end, because what it
	// read was deleted or truncated meanwhile.
	ErrChanged = errors.New("commitlog: log changed during cleaning")
	// ErrTooLarge says that one append is larger than a segment may be.
	ErrTooLarge = errors.New("commitlog: append larger than a segment")
)

// Options say how a log is kept. The zero value is Kafka's defaults for an
// empty directory.
type Options struct {
	// SegmentBytes is the size at which a segment is rolled (segment.bytes);
	// 0 means 1 GiB.
	SegmentBytes int64
	// SegmentAge is how far the timestamps in one segment may lie apart
	// (segment.ms); 0 means 7 days.
	SegmentAge time.Duration
	// SegmentJitter is the most by which a segment's age is shortened
	// (segment.jitter.ms), so that logs that began together are not rolled
	// together.
	SegmentJitter time.Duration
	// Preallocate reserves the space of a segment when it begins (preallocate),
	// if the disk has it.
	Preallocate bool
	// IndexInterval is how many bytes lie between index entries
	// (index.interval.bytes); 0 means 4096.
	IndexInterval int
	// MaxIndexBytes is the size at which an index is full and the segment
	// rolled (segment.index.bytes); 0 means 10 MiB.
	MaxIndexBytes int

	// Mark is the last mark of this directory that the caller kept.
	Mark Mark
	// Start is Kafka's log-start-offset-checkpoint. It counts only if there is
	// no mark: a mark has the start, and knows when a truncation outdated it.
	// The log starts there, or at its first segment if that comes later.
	Start model.Offset
	// Clean says that the last owner shut down cleanly. It counts only if there
	// is no mark.
	Clean bool
	// RecoveryPoint is Kafka's recovery-point-offset-checkpoint for a directory
	// that Kafka wrote. It counts only if there is no mark.
	RecoveryPoint model.Offset
	// Foreign says that Kafka wrote the directory: compaction may have left
	// gaps between segments above the recovery point.
	Foreign bool

	// Snapshot returns the encoded producer state at the end of the log, nil if
	// it is empty. Called when a segment is rolled, within an append, before
	// anything of that append is written.
	Snapshot func() []byte
	// Events is told what happened, possibly with locks held: it must not call
	// the log.
	Events func(Event)
}

func (o *Options) setDefaults() {
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = 1 << 30
	}
	// Positions are 32 bits wide in the index.
	o.SegmentBytes = min(o.SegmentBytes, 1<<31-1)
	if o.SegmentAge <= 0 {
		o.SegmentAge = 7 * 24 * time.Hour
	}
	if o.IndexInterval <= 0 {
		o.IndexInterval = 4096
	}
	if o.MaxIndexBytes <= 0 {
		o.MaxIndexBytes = 10 << 20
	}
	if o.Events == nil {
		o.Events = func(Event) {}
	}
}

// Tune takes over the options that may change while the log is open: those of
// segments and indexes. The others of o do not count.
func (l *Log) Tune(o Options) {
	l.append.Lock()
	defer l.append.Unlock()
	l.opts.SegmentBytes, l.opts.SegmentAge, l.opts.SegmentJitter = o.SegmentBytes, o.SegmentAge, o.SegmentJitter
	l.opts.IndexInterval, l.opts.MaxIndexBytes, l.opts.Preallocate = o.IndexInterval, o.MaxIndexBytes, o.Preallocate
	l.opts.setDefaults()
}

// Mark says: below this position everything in the directory is durable and
// checked. The zero Mark trusts nothing.
type Mark struct {
	// Offset is the end of the log at the mark.
	Offset model.Offset
	// Segment is the base of the segment that was active, Position its size.
	Segment  model.Offset
	Position int64
	// Start is the log start at the mark.
	Start model.Offset
	// MaxTimestamp is the greatest timestamp in that segment, -1 if none, in
	// the batch that ends with MaxTimestampOffset.
	MaxTimestamp       int64
	MaxTimestampOffset model.Offset
	// IndexEntries and TimeEntries count the entries of its indexes.
	IndexEntries, TimeEntries int32
	// Producers says that there was producer state: a snapshot at Offset.
	Producers bool
	// Generation counts the truncations of this directory. A mark is outdated
	// by a truncation of a later generation.
	Generation int64
}

// IsZero reports whether nothing is known.
func (m Mark) IsZero() bool { return m == Mark{} }

// EventKind is what happened.
type EventKind string

// Kinds of events, with the fields of Event that they fill.
const (
	// EventRecovered: on open, Bytes above the mark were read and found good up
	// to Offset.
	EventRecovered EventKind = "log recovered"
	// EventTornTail: on open, Bytes from Offset on were not whole batches and
	// were cut.
	EventTornTail EventKind = "torn tail cut"
	// EventDropped: a segment that did not follow its predecessor was dropped on
	// open: it was written after something that was lost.
	EventDropped EventKind = "segment dropped"
	// EventMarkLost: a file is shorter than the mark says: synced data is gone.
	EventMarkLost EventKind = "synced data missing"
	// EventIndexRebuilt: an index was missing or wrong and was made anew.
	EventIndexRebuilt EventKind = "index rebuilt"
	// EventRolled: a new segment begins at Offset.
	EventRolled EventKind = "segment rolled"
	// EventDeleted: retention took the segment at Offset with its Bytes.
	EventDeleted EventKind = "segment deleted"
	// EventCleaned: compaction put another segment in the place of the one at
	// Offset and of those that followed it, and freed Bytes.
	EventCleaned EventKind = "segment cleaned"
	// EventTruncated: the log was cut back to Offset.
	EventTruncated EventKind = "log truncated"
	// EventOffline: the log went offline because of Err.
	EventOffline EventKind = "log offline"
)

// Event tells what happened to a log.
type Event struct {
	Kind    EventKind
	Dir     string
	Segment model.Offset
	Offset  model.Offset
	Bytes   int64
	Err     error
}
