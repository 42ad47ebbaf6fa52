package quorum

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// ErrStopped says that the node stops: nothing is decided any more.
var ErrStopped = errors.New("quorum: stopped")

// maxProposals bounds those who wait for their turn; more wait in Propose.
const maxProposals = 256

// Options are what a quorum needs.
type Options struct {
	Dir  *datadir.Dir // The data directory that holds the metadata log.
	Self model.NodeID
	Now  func() time.Time
	Log  *slog.Logger
	// Publish makes the node act on a new image, before requests see it. It is
	// called by Run's goroutine, in order.
	Publish func(*metadata.Delta, *metadata.Image)
	// SnapshotBytes is how much log makes a new snapshot worth it
	// (metadata.log.max.record.bytes.between.snapshots); SnapshotInterval is the
	// time after which any log does (metadata.log.max.snapshot.interval.ms), 0 for
	// never. Both are looked at when something changes.
	SnapshotBytes    int64
	SnapshotInterval time.Duration
	// SegmentBytes and SegmentAge are of the log's segments; 0 is Kafka's default.
	SegmentBytes int64
	SegmentAge   time.Duration
	// Synced is an offset up to which the log is known to have been synced, 0 if
	// none is: a log that is not whole up to there is damaged, and refused.
	Synced model.Offset
}

// Quorum is the metadata log of a node.
type Quorum struct {
	opts    Options
	fs      vfs.FS
	dir     string
	log     *commitlog.Log
	epoch   model.Epoch
	tracker *metadata.Tracker
	image   atomic.Pointer[metadata.Image]
	queue   chan *proposal
	stopped chan struct{}

	// removed are topics whose deletion was in the log when it was opened.
	removed map[model.TopicID]struct{}

	builder      *record.Builder
	snapshotted  model.Offset // End of the newest snapshot.
	snapshotAt   time.Time    // When it was written, or this node started.
	sinceBytes   int64        // Appended since.
	lastRecordAt int64        // Timestamp of the newest batch.
}

// proposal is one change on its way. Whoever claims it first, Run or a proposer
// who gives up, decides whether decide is called.
type proposal struct {
	decide  func(*metadata.Image) ([]metadata.Record, error)
	claimed atomic.Bool
	decided chan struct{} // Closed when decide has been called.
	done    chan error
	delta   *metadata.Delta
	image   *metadata.Image // Nil if nothing changes.
	err     error
}

// Open reads the log and begins a new epoch of leadership. format are the
// records of a cluster that holds none yet.
func Open(o Options, format []metadata.Record) (*Quorum, error) {
	q := &Quorum{
		opts: o, fs: o.Dir.FS(), dir: o.Dir.LogPath(datadir.MetadataLog),
		queue: make(chan *proposal, maxProposals), stopped: make(chan struct{}), builder: record.NewBuilder(record.BuilderOptions{}),
		removed: map[model.TopicID]struct{}{},
	}
	if err := q.open(format); err != nil {
		if q.log != nil {
			q.log.Close()
		}
		return nil, fmt.Errorf("quorum: %w", err)
	}
	q.image.Store(q.tracker.Image())
	return q, nil
}

func (q *Quorum) open(format []metadata.Record) error {
	if err := q.prepareDir(); err != nil {
		return err
	}
	image, err := q.loadSnapshot()
	if err != nil {
		return err
	}
	if err := q.checkSound(image.End()); err != nil {
		return err
	}
	q.tracker = metadata.NewTracker(image)
	q.snapshotted, q.snapshotAt = image.End(), q.opts.Now()
	// Recovery writes indexes: a full disk must not keep the node down.
	err = q.opts.Dir.Spend(func() (err error) {
		q.log, err = commitlog.Open(q.fs, q.dir, commitlog.Options{
			Start: image.End(), SegmentBytes: q.opts.SegmentBytes, SegmentAge: q.opts.SegmentAge,
		})
		return err
	})
	if err != nil {
		return err
	}
	if q.log.Start() > image.End() {
		return fmt.Errorf("%s: the log starts at %d, but the newest snapshot that can be read ends at %d: restore the directory from a backup",
			q.dir, q.log.Start(), image.End())
	}
	if q.log.End() < image.End() {
		if err := q.log.TruncateFullyAndStartAt(image.End()); err != nil {
			return err
		}
	}
	if err := q.replay(image.End()); err != nil {
		return err
	}
	return q.lead(format)
}

// replay applies the log from a snapshot's end on.
func (q *Quorum) replay(from model.Offset) error {
	return q.log.Scan(from, func(b record.Batch) error {
		q.sinceBytes += int64(len(b))
		q.lastRecordAt = b.MaxTimestamp()
		if b.IsControl() {
			q.tracker.Skip(b.End())
			return nil
		}
		records, err := decode(b)
		if err != nil {
			return err
		}
		delta, err := q.tracker.Apply(b.BaseOffset(), records)
		q.noteRemoved(delta)
		return err
	})
}

func (q *Quorum) noteRemoved(d *metadata.Delta) {
	if d == nil {
		return
	}
	for _, id := range d.Topics {
		if d.From.TopicByID(id) != nil && q.tracker.Image().TopicByID(id) == nil {
			q.removed[id] = struct{}{}
		}
	}
}

// TakeRemoved returns the topics that were deleted since the newest snapshot,
// as of Open, and forgets them. A deletion reaches the disks before a snapshot
// that has it is written, so what an image and this list lack was not deleted
// here.
func (q *Quorum) TakeRemoved() map[model.TopicID]struct{} {
	removed := q.removed
	q.removed = nil
	return removed
}

func decode(b record.Batch) ([]metadata.Record, error) {
	var out []metadata.Record
	for r, err := range b.Records(0) {
		if err != nil {
			return nil, err
		}
		m, version, err := wire.ReadMetadataRecord(r.Value)
		if err != nil {
			return nil, fmt.Errorf("record at offset %d: %w", r.Offset, err)
		}
		out = append(out, metadata.Record{Message: m, Version: version})
	}
	return out, nil
}

// lead begins a new epoch, ends what an earlier leader left open, and formats
// a cluster that is new.
func (q *Quorum) lead(format []metadata.Record) error {
	last, err := q.log.LastEpoch()
	if err != nil {
		return err
	}
	state, err := q.readState()
	if err != nil {
		return err
	}
	q.epoch = max(last, model.Epoch(state.LeaderEpoch)) + 1
	if err := q.writeState(); err != nil {
		return err
	}
	self := []model.NodeID{q.opts.Self}
	change := record.LeaderChangeBatch(0, q.epoch, q.opts.Now().UnixMilli(), q.opts.Self, self, self)
	if err := q.append(change); err != nil {
		return err
	}
	q.tracker.Skip(q.log.End())
	if q.tracker.Open() {
		// Void, and so that no reader of the log waits for its end.
		if _, err := q.change([]metadata.Record{{Message: wire.NewAbortTransactionRecord()}}); err != nil {
			return err
		}
	}
	if q.tracker.Image().Feature(metadata.MetadataVersion) == 0 {
		if _, err := q.change(format); err != nil {
			return err
		}
	}
	return q.log.Sync()
}

// change makes records a part of the log and of the image; it is not synced
// yet. On an error nothing has changed.
func (q *Quorum) change(records []metadata.Record) (*metadata.Delta, error) {
	if len(records) > 1 {
		records = transaction(records)
	}
	before := *q.tracker
	end := q.log.End()
	delta, err := q.tracker.Apply(end, records)
	if err != nil {
		return nil, err
	}
	batch, err := q.encode(records)
	if err == nil {
		err = q.append(batch)
	}
	if err != nil {
		*q.tracker = before
		return nil, err
	}
	return delta, nil
}

func transaction(records []metadata.Record) []metadata.Record {
	out := append(make([]metadata.Record, 0, len(records)+2), metadata.Record{Message: wire.NewBeginTransactionRecord()})
	return append(append(out, records...), metadata.Record{Message: wire.NewEndTransactionRecord()})
}

func (q *Quorum) encode(records []metadata.Record) (record.Batch, error) {
	q.builder.Reset(record.BuilderOptions{})
	now := q.opts.Now().UnixMilli()
	for _, r := range records {
		value, err := wire.AppendMetadataRecord(nil, r.Message, r.Version)
		if err != nil {
			return nil, err
		}
		if err := q.builder.Add(record.Record{Timestamp: now, Value: value}); err != nil {
			return nil, err
		}
	}
	_, batch, err := q.builder.Build(nil)
	return batch, err
}

// append writes a batch, from the reserve if the disk is full.
func (q *Quorum) append(b record.Batch) error {
	err := q.opts.Dir.Spend(func() error {
		_, _, err := q.log.Append(b, q.epoch, q.opts.Now())
		return err
	})
	if err != nil {
		return err
	}
	q.sinceBytes += int64(len(b))
	q.lastRecordAt = b.MaxTimestamp()
	return nil
}

// Image is the newest image that the node acts on.
func (q *Quorum) Image() *metadata.Image { return q.image.Load() }

// Epoch is the epoch of the leadership.
func (q *Quorum) Epoch() model.Epoch { return q.epoch }

// Propose lets decide look at the newest image and returns when the records
// that it wants are synced and published; a refusal, too, is told when all that
// decide saw is synced. decide is called by another goroutine, at most once, and
// never after Propose has returned. When ctx ends first, the change may still
// happen if decide was called.
func (q *Quorum) Propose(ctx context.Context, decide func(*metadata.Image) ([]metadata.Record, error)) error {
	p := &proposal{decide: decide, decided: make(chan struct{}), done: make(chan error, 1)}
	select {
	case q.queue <- p:
	case <-ctx.Done():
		return ctx.Err()
	case <-q.stopped:
		return ErrStopped
	}
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		return p.giveUp(ctx.Err())
	case <-q.stopped:
		return p.giveUp(ErrStopped)
	}
}

// giveUp ends a wait: decide is not called any more, or has been, and the
// outcome may have come in the same moment.
func (p *proposal) giveUp(why error) error {
	if p.claimed.CompareAndSwap(false, true) {
		return why
	}
	<-p.decided
	select {
	case err := <-p.done:
		return err
	default:
		return why
	}
}

// Run carries out proposals until ctx ends. Any other error is of the disk:
// then nothing that was not answered may be believed, and the process should
// end.
func (q *Quorum) Run(ctx context.Context) error {
	defer close(q.stopped)
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-q.queue:
			if err := q.group(p); err != nil {
				return fmt.Errorf("quorum: %w", err)
			}
		}
	}
}

// group carries out a proposal and those that came with it, under one sync.
// Nobody is answered before it, not even who is refused: the reason may be a
// change that a crash would take back.
func (q *Quorum) group(first *proposal) error {
	took := []*proposal{first}
	for len(took) < maxProposals && len(q.queue) > 0 {
		took = append(took, <-q.queue) // Nobody else receives.
	}
	for _, p := range took {
		q.carryOut(p)
	}
	// A log that has failed fails here: what it appended is of no worth.
	if err := q.log.Sync(); err != nil {
		return err
	}
	for _, p := range took {
		if p.image != nil {
			q.opts.Publish(p.delta, p.image)
			q.image.Store(p.image)
		}
		p.done <- p.err
	}
	return q.maybeSnapshot()
}

// carryOut decides and appends, unless the proposer has given up.
func (q *Quorum) carryOut(p *proposal) {
	if !p.claimed.CompareAndSwap(false, true) {
		return
	}
	var records []metadata.Record
	records, p.err = p.decide(q.tracker.Image())
	close(p.decided)
	if p.err != nil || len(records) == 0 {
		return
	}
	if p.delta, p.err = q.change(records); p.err == nil {
		p.image = q.tracker.Image()
	}
}

// Close closes the log; Run has returned.
func (q *Quorum) Close() error { return q.log.Close() }

// Size is the length of the log in bytes.
func (q *Quorum) Size() int64 { return q.log.Size() }

// path is the path of a file beside the log.
func (q *Quorum) path(name string) string { return filepath.Join(q.dir, name) }
