package partition

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/producers"
	"github.com/barnabas-log/barnabas/internal/replication"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// Errors that callers tell apart; what producers, record and commitlog refuse
// comes through as it is.
var (
	// ErrNotLeader says that another replica leads, or none.
	ErrNotLeader = errors.New("partition: not the leader")
	// ErrOffline says that the partition's disk has failed.
	ErrOffline = errors.New("partition: offline")
	// ErrDiskFull says that an append found no space; nothing was written.
	ErrDiskFull = errors.New("partition: disk full")
	// ErrFencedEpoch and ErrUnknownEpoch say that the caller believes in an
	// older or a newer leader epoch than this replica (KIP-320).
	ErrFencedEpoch  = errors.New("partition: leader epoch is older")
	ErrUnknownEpoch = errors.New("partition: leader epoch is newer")
	// ErrOutOfRange says that an offset is below the start or above what the
	// reader may see.
	ErrOutOfRange = errors.New("partition: offset out of range")
	// ErrTooFewInSync says that acks=all needs more replicas than are in sync
	// (min.insync.replicas); nothing was written.
	ErrTooFewInSync = errors.New("partition: not enough replicas in sync")
	// ErrTooLargeForSegment says that a batch is larger than segment.bytes.
	ErrTooLargeForSegment = errors.New("partition: batch larger than segment.bytes")
)

// Options are what a partition needs to live.
type Options struct {
	FS   vfs.FS
	Dir  string
	ID   model.Partition
	Self model.NodeID
	// Log holds the mark, start and so on of the directory; sizes come from
	// Config.
	Log commitlog.Options
	// Config is the topic's.
	Config *config.Topic
	// ProducerExpiry is how long a silent producer is remembered
	// (producer.id.expiration.ms).
	ProducerExpiry time.Duration
	// Unverified lets transactions begin here unasked: see SetUnverified.
	Unverified bool
	// Dirty is told, once until the next BeginSync, that there is something to
	// sync. Grown is told, once until the next BeginMark, that something was
	// appended. Both are called without the lock.
	Dirty, Grown func(*Partition)
	// Full, if not nil, is asked before each append, under the lock: records
	// are refused while it says so, because the space left is for other things.
	Full func() bool
	// Room, if not nil, is told before each append, without the lock, how many
	// bytes come, and the settings of the topic. It may take a moment to make room.
	// Wrote is told the same bytes when that append has ended, whatever came of it.
	Room  func(cfg *config.Topic, bytes int)
	Wrote func(bytes int)
	// Failed, if not nil, is told once, without the lock, that the partition went
	// offline and why.
	Failed func(*Partition, error)
	// Owner is who calls BeginSyncOf and BeginMarkOf.
	Owner any
}

// openLog opens the directory as the topic's configuration says.
func (o *Options) openLog(snapshot func() []byte) (*commitlog.Log, error) {
	l := tuned(o.Log, o.Config)
	l.Snapshot = snapshot
	return commitlog.Open(o.FS, o.Dir, l)
}

// tuned are the options of a log with those that the topic's configuration says.
func tuned(o commitlog.Options, c *config.Topic) commitlog.Options {
	o.SegmentBytes, o.SegmentAge, o.SegmentJitter = c.SegmentBytes, c.SegmentAge, c.SegmentJitter
	o.IndexInterval, o.MaxIndexBytes, o.Preallocate = max(1, int(c.IndexInterval)), int(c.IndexBytes), c.Preallocate
	return o
}

// Partition is one replica. Its methods may be called by anybody at any time.
type Partition struct {
	ID     model.Partition
	name   string // Of ID, for messages.
	self   model.NodeID
	expiry atomic.Int64 // Nanoseconds: Options.ProducerExpiry.
	// unverified is Options.Unverified.
	unverified atomic.Bool
	home       atomic.Pointer[home] // Replaced under the lock.
	config     atomic.Pointer[config.Topic]
	// lastAppend is the time of the last append, in nanoseconds since 1970.
	lastAppend atomic.Int64

	mu struct {
		sync.Mutex
		producers *producers.State
		replica   *replication.Replica
		waiters   waiters
		dirty     bool  // Dirty was called and BeginSync not yet.
		grown     bool  // Grown was called and BeginMark not yet.
		failed    error // Why the partition is offline.
		closed    bool
		// Bytes ever appended since open, how many of those the newest sync
		// covers, and how many are committed: what a waiting fetch has to gain.
		appended, syncing, committed int64
		// The stable offset at the last rise of the commit point, and whether a
		// transaction held it below.
		stable model.Offset
		held   bool
		// Messages and the time since the last sync, for flush.messages and
		// flush.ms with durability=os.
		unflushed   int64
		unflushedAt time.Time
	}
}

// Open opens the directory and rebuilds what the producers wrote. The
// partition leads nothing until Assign.
func Open(o Options) (*Partition, error) {
	p := &Partition{ID: o.ID, name: o.ID.String(), self: o.Self}
	p.SetProducerExpiry(o.ProducerExpiry)
	p.SetUnverified(o.Unverified)
	p.config.Store(o.Config)
	log, err := o.openLog(p.snapshotLocked)
	if err != nil {
		return nil, fmt.Errorf("partition: open %s: %w", o.ID, err)
	}
	p.home.Store(newHome(&o, log))
	if p.mu.producers, err = replayProducers(log); err != nil {
		log.Close()
		return nil, fmt.Errorf("partition: replay %s: %w", o.ID, err)
	}
	p.mu.replica = replication.New(o.Self, o.Config.FsyncAcks, log.Start())
	return p, nil
}

// replayProducers returns the producer state at the end of a log: from the newest
// snapshot that recovery can vouch for, then batch by batch.
func replayProducers(log *commitlog.Log) (*producers.State, error) {
	state := producers.New(producers.Options{})
	from := log.Start()
	at, snapshot, ok, err := log.LatestSnapshot(log.RecoveredFrom())
	if err != nil {
		return nil, err
	}
	// A snapshot that cannot be read costs a longer replay.
	if ok && state.Load(snapshot) == nil {
		from = at
	}
	if at, ok := log.EmptyUntil(); ok && at >= from {
		state = producers.New(producers.Options{})
		from = at
	}
	if from >= log.End() {
		return state, nil
	}
	return state, log.Scan(from, func(b record.Batch) error {
		return applyBatch(log, state, b)
	})
}

// applyBatch tells the producer state of a batch in the log. Where the batch
// ends an aborted transaction, that goes to the transaction index.
func applyBatch(log *commitlog.Log, state *producers.State, b record.Batch) error {
	done, ok := state.Apply(b)
	if !ok || !done.Aborted {
		return nil
	}
	return log.AppendAborted(abortedTxn(done))
}

// Assign tells the partition who leads and who replicates. synced says that
// everything the log holds is known to be on disk.
func (p *Partition) Assign(a replication.Assignment) {
	var w woken
	p.mu.Lock()
	was := p.mu.replica.Epoch()
	p.mu.replica.Handle(replication.Assigned{Assignment: a, End: p.Log().End(), Synced: p.Log().SyncedEnd()})
	to := p.mu.replica.Committed()
	if to == p.Log().End() {
		p.mu.committed = p.mu.appended
	} // Else the bytes above are gained with the next sync.
	p.mu.producers.Committed(to)
	p.stableRoseLocked(to)
	if was != a.Epoch || !p.mu.replica.Leads() {
		p.mu.waiters.everybody(&w)
	} else {
		p.mu.waiters.committed(to, &w)
		p.mu.waiters.noReaders(&w) // They look again: seldom, and simpler than counting.
	}
	p.mu.Unlock()
	w.wake()
}

// Configure gives the partition a new configuration.
func (p *Partition) Configure(c *config.Topic) {
	p.config.Store(c)
	p.Log().Tune(tuned(commitlog.Options{}, c))
	var w woken
	p.mu.Lock()
	if p.mu.replica.Handle(replication.Durability{Fsync: c.FsyncAcks}) {
		p.releaseLocked(p.mu.appended, &w)
	}
	p.mu.Unlock()
	w.wake()
}

// Config returns the configuration in force.
func (p *Partition) Config() *config.Topic { return p.config.Load() }

// Err returns why the partition is offline, or nil.
func (p *Partition) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.failed
}

// Resign takes no more requests, for a clean stop. Readers who wait are told at
// once; what was appended is still being committed.
func (p *Partition) Resign() {
	var w woken
	p.mu.Lock()
	p.mu.closed = true
	p.mu.waiters.noReaders(&w)
	p.mu.Unlock()
	w.wake()
}

// Retire ends the partition: its topic is deleted.
func (p *Partition) Retire() {
	var w woken
	p.mu.Lock()
	p.mu.closed, p.mu.failed = true, ErrNotLeader
	p.mu.waiters.everybody(&w)
	p.mu.Unlock()
	w.wake()
}

// Close gives back files. Resign or Retire comes first.
func (p *Partition) Close() error { return p.Log().Close() }

// Epoch returns the leader epoch that this replica knows, and who leads in it.
func (p *Partition) Epoch() (model.Epoch, model.NodeID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.replica.Epoch(), p.mu.replica.Leader()
}

// BeginMark begins a mark of the log as it is now: see [commitlog.Marking].
func (p *Partition) BeginMark() (*commitlog.Marking, error) { return p.BeginMarkOf(p.Owner()) }

// BeginMarkOf is BeginMark for who keeps the directory: ErrMoved if another
// does by now.
func (p *Partition) BeginMarkOf(owner any) (*commitlog.Marking, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.Owner() != owner {
		return nil, ErrMoved
	}
	m, err := p.Log().BeginMark(p.snapshotLocked())
	if err == nil {
		p.mu.grown, p.mu.unflushed = false, 0
	}
	return m, err
}

// snapshotLocked is nil when there are no producers, which saves a file and its
// syncs.
func (p *Partition) snapshotLocked() []byte {
	if p.mu.producers.Len() == 0 {
		return nil
	}
	return p.mu.producers.Snapshot(nil)
}

// Retain deletes what the topic's retention gives up, never above the commit
// point. It returns how many segments went. The lock is held for the decision
// only, within which the log may be rolled; deleting waits for the disk.
func (p *Partition) Retain(now time.Time) (int, error) {
	r, ok, err := p.beginRetain(now)
	if err != nil || !ok {
		return 0, err
	}
	n, err := p.Log().Retain(now, r)
	p.started(n)
	return n, err
}

// beginRetain rolls a log whose newest records are too old as well: under the
// lock, because rolling writes a snapshot of the producers at the log's end.
func (p *Partition) beginRetain(now time.Time) (r commitlog.Retention, ok bool, err error) {
	cfg := p.config.Load()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.failed != nil || p.mu.closed {
		return r, false, nil
	}
	r.Limit = p.mu.replica.Committed()
	if cfg.Delete {
		r.Age, r.Bytes = cfg.Retention, cfg.RetentionBytes
	}
	return r, true, p.Log().RollExpired(now, r)
}

// SetProducerExpiry changes Options.ProducerExpiry.
func (p *Partition) SetProducerExpiry(d time.Duration) { p.expiry.Store(int64(d)) }

// ExpireProducers forgets producers that have been silent too long.
func (p *Partition) ExpireProducers(now time.Time) {
	p.mu.Lock()
	p.mu.producers.Expire(now, time.Duration(p.expiry.Load()))
	p.mu.Unlock()
}

// usableLocked says whether the partition can serve at all.
func (p *Partition) usableLocked() error {
	switch {
	case p.mu.failed != nil:
		return p.mu.failed
	case p.mu.closed || !p.mu.replica.Leads():
		return ErrNotLeader
	}
	return nil
}

// checkEpochLocked compares the epoch a caller believes in; NoEpoch is not
// compared.
func (p *Partition) checkEpochLocked(e model.Epoch) error {
	switch ours := p.mu.replica.Epoch(); {
	case e == model.NoEpoch || e == ours:
		return nil
	case e < ours:
		return ErrFencedEpoch
	default:
		return ErrUnknownEpoch
	}
}

// IdleSince is for how long nothing was appended.
func (p *Partition) IdleSince(now time.Time) time.Duration {
	return now.Sub(time.Unix(0, p.lastAppend.Load()))
}
