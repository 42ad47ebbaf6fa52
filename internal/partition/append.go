package partition

import (
	"errors"
	"fmt"
	"math"
	"syscall"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/invariant"
	"github.com/barnabas-log/barnabas/internal/producers"
	"github.com/barnabas-log/barnabas/internal/replication"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// Appended says where a batch went.
type Appended struct {
	Base model.Offset
	End  model.Offset
	// LogAppendTime is the timestamp the broker gave, or NoTimestamp.
	LogAppendTime int64
	// LogStart is the start of the log at that moment.
	LogStart model.Offset
	// Epoch is that of the leadership the batch was appended in: it is
	// acknowledged in that epoch or not at all.
	Epoch model.Epoch
	// Duplicate says that the batch was there already (idempotence); Base and
	// End are those of the original.
	Duplicate bool
}

// AppendOptions qualify a client's append.
type AppendOptions struct {
	// AcksAll refuses the batch if too few replicas are in sync.
	AcksAll bool
	// Guard is what VerifyTransaction has returned for a transactional batch:
	// the transaction's coordinator has said since that it knows this partition.
	Guard producers.Guard
}

// Append is AppendWith, for batches outside of transactions.
func (p *Partition) Append(b record.Batch, acksAll bool, now time.Time) (Appended, error) {
	return p.AppendWith(b, AppendOptions{AcksAll: acksAll}, now)
}

// AppendWith checks a client's batch and appends it. It changes b: offset, epoch
// and, where the topic asks for it, timestamps. When it returns, the batch is
// in the page cache; Acknowledged tells whether it is committed.
func (p *Partition) AppendWith(b record.Batch, o AppendOptions, now time.Time) (Appended, error) {
	cfg := p.config.Load()
	if cfg.Dafka {
		return Appended{}, ErrForeign
	}
	info, err := record.Check(b, p.checkOptions(cfg, now))
	if err != nil {
		return Appended{}, err
	}
	if b, err = recompress(cfg, b); err != nil {
		return Appended{}, err
	}
	a, err := p.append(b, terms{acksAll: o.AcksAll, epoch: model.NoEpoch, check: producers.CheckOptions{Guard: o.Guard}}, now)
	if cfg.LogAppendTime && !a.Duplicate {
		a.LogAppendTime = info.MaxTimestamp
	}
	return a, err
}

// terms are what an append depends on.
type terms struct {
	acksAll bool
	epoch   model.Epoch // The leader epoch that it is meant for, or NoEpoch.
	check   producers.CheckOptions
	// numbered says that the batch has its offsets already.
	numbered bool
}

// append appends a batch that is good in itself.
func (p *Partition) append(b record.Batch, t terms, now time.Time) (Appended, error) {
	cfg := p.config.Load()
	if int64(len(b)) > cfg.SegmentBytes {
		return Appended{}, fmt.Errorf("%w: %d bytes", ErrTooLargeForSegment, len(b))
	}
	home := p.home.Load()
	home.room(cfg, len(b))
	defer home.wrote(len(b))
	t.check.Unverified = p.unverified.Load()
	var w woken
	p.mu.Lock()
	at := p.home.Load()
	a, err := p.appendLocked(b, &t, now, &w)
	var dirty, grown bool
	if err == nil && !a.Duplicate {
		dirty, grown = p.markDirtyLocked(), !p.mu.grown
		p.mu.grown = true
	}
	p.mu.Unlock()
	w.wake()
	if grown {
		at.grown(p)
	}
	if dirty {
		at.dirty(p)
	}
	return a, err
}

// checkOptions are the topic's rules for a client's batch.
func (p *Partition) checkOptions(cfg *config.Topic, now time.Time) record.CheckOptions {
	o := record.CheckOptions{
		Name: p.name, Now: now.UnixMilli(), LogAppendTime: cfg.LogAppendTime,
		TimestampBefore: kafkaMillis(cfg.TimestampBefore), TimestampAfter: kafkaMillis(cfg.TimestampAfter),
		KeysRequired: cfg.Compact, MaxBytes: max(1, int(cfg.MaxMessageBytes)), MaxDecompressed: int(cfg.MaxDecompressedBytes),
	}
	if cfg.ValidateHeader && !cfg.Compact { // Compaction would remove records without keys.
		o.Validation = record.HeaderOnly
	}
	return o
}

// kafkaMillis are the milliseconds of a limit, or 0 for none: the longest
// duration stands for Kafka's longest, which is longer.
func kafkaMillis(d time.Duration) int64 {
	if d == math.MaxInt64 {
		return 0
	}
	return d.Milliseconds()
}

func (p *Partition) appendLocked(b record.Batch, t *terms, now time.Time, w *woken) (Appended, error) {
	a := Appended{Base: model.NoOffset, LogAppendTime: record.NoTimestamp, LogStart: p.Log().Start(), Epoch: p.mu.replica.Epoch()}
	if err := p.usableLocked(); err != nil {
		return a, err
	}
	if err := p.checkEpochLocked(t.epoch); err != nil {
		return a, err
	}
	if t.acksAll && p.mu.replica.InSync() < p.minISRLocked() {
		return a, ErrTooFewInSync
	}
	verdict, err := p.mu.producers.Check(b, t.check)
	if err != nil {
		return a, err
	}
	if verdict.Duplicate {
		a.Duplicate, a.Base, a.End, a.LogAppendTime = true, verdict.BaseOffset, verdict.LastOffset+1, verdict.Timestamp
		return a, nil
	}
	if p.home.Load().full() {
		return a, ErrDiskFull
	}
	if t.numbered {
		a.Base, a.End, err = p.appendNumberedLocked(b, a.Epoch)
	} else {
		a.Base, a.End, err = p.Log().Append(b, a.Epoch, now)
	}
	if err != nil {
		a.Base = model.NoOffset
		return a, p.appendFailedLocked(err, w)
	}
	if err := applyBatch(p.Log(), p.mu.producers, b); err != nil {
		return a, p.appendFailedLocked(err, w)
	}
	p.mu.appended += int64(len(b))
	p.lastAppend.Store(now.UnixNano())
	if p.mu.unflushed == 0 {
		p.mu.unflushedAt = now
	}
	p.mu.unflushed += int64(b.Count())
	if p.mu.replica.Handle(replication.Appended{End: a.End}) {
		p.releaseLocked(p.mu.appended, w)
	}
	return a, nil
}

// minISRLocked is min.insync.replicas, but never more than there are replicas
// at all: with fewer, no acks=all could ever succeed.
func (p *Partition) minISRLocked() int { return min(p.config.Load().MinISR, p.mu.replica.Replicas()) }

// appendFailedLocked sorts what can go wrong when writing: a full disk refuses
// this batch, a shortage of the process passes, anything else ends the
// partition.
func (p *Partition) appendFailedLocked(err error, w *woken) error {
	switch {
	case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	case errors.Is(err, commitlog.ErrNotNext):
		return err
	case errors.Is(err, commitlog.ErrTooLarge):
		return ErrTooLargeForSegment
	case p.Log().Err() == nil && shortage(err):
		return offline(err)
	}
	return p.failLocked(err, w)
}

func offline(err error) error { return fmt.Errorf("%w: %w", ErrOffline, err) }

// shortage reports errors of a process that has too many files open or too
// little memory: they say nothing about the disk.
func shortage(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

// releaseLocked tells those who wait that the commit point has risen;
// committed is the count of bytes that are committed now.
func (p *Partition) releaseLocked(committed int64, w *woken) {
	to := p.mu.replica.Committed()
	gained := committed - p.mu.committed
	invariant.Must(gained >= 0, "committed bytes fell")
	p.mu.committed = committed
	p.mu.producers.Committed(to)
	p.mu.waiters.committed(to, w)
	p.mu.waiters.readable(gained, p.stableRoseLocked(to), w)
}

// stableRoseLocked says what a rise of the commit point means to readers of
// committed transactions. Between transactions they gain the bytes that all
// gain. Where one is open, or has just ended, what they gain is not what was
// committed last: then they look for themselves.
func (p *Partition) stableRoseLocked(to model.Offset) stableGain {
	was, held := p.mu.stable, p.mu.held
	p.mu.stable = p.mu.producers.Stable(to)
	p.mu.held = p.mu.stable != to
	switch {
	case !held && !p.mu.held:
		return gainSame
	case p.mu.stable > was:
		return gainOther
	}
	return gainNone
}

// markDirtyLocked reports whether the flusher has to be told: every append of
// a partition with durability=fsync, whatever its acks; with durability=os
// when flush.messages is reached. Flush.ms is looked at by NeedsFlush.
func (p *Partition) markDirtyLocked() bool {
	if p.mu.dirty {
		return false
	}
	cfg := p.config.Load()
	p.mu.dirty = cfg.FsyncAcks || p.mu.unflushed >= cfg.FlushMessages
	return p.mu.dirty
}

// NeedsFlush reports whether flush.ms has passed since the first message that
// is not synced.
func (p *Partition) NeedsFlush(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.unflushed > 0 && now.Sub(p.mu.unflushedAt) >= p.config.Load().FlushInterval
}

// Syncing is a sync that has begun: what the log will have on disk when it is
// done.
type Syncing struct {
	commitlog.Syncing
	log *commitlog.Log // It began with.
	// Gained is how many bytes were appended since the last sync began.
	Gained int64
	bytes  int64
}

// BeginSync takes what there is to sync. Appends that come later are dirty
// again. The caller syncs, without any lock of ours, and tells Synced.
func (p *Partition) BeginSync() (Syncing, error) { return p.BeginSyncOf(p.Owner()) }

// BeginSyncOf is BeginSync for who keeps the directory: ErrMoved if another
// does by now, whose disk it is that has to be synced.
func (p *Partition) BeginSyncOf(owner any) (Syncing, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.Owner() != owner {
		return Syncing{}, ErrMoved
	}
	log := p.Log()
	s, err := log.BeginSync()
	if err != nil {
		return Syncing{}, err
	}
	gained := p.mu.appended - p.mu.syncing
	p.mu.dirty, p.mu.unflushed, p.mu.syncing = false, 0, p.mu.appended
	return Syncing{s, log, gained, p.mu.appended}, nil
}

// Synced tells the outcome of a sync that BeginSync began. An error takes the
// partition offline: a failed sync is never retried, because the kernel may
// have thrown the dirty pages away. A log that was closed meanwhile has ended
// already, and one that the partition left has a copy.
func (p *Partition) Synced(s Syncing, err error) {
	if err := s.log.FinishSync(s.Syncing, err); err != nil {
		if !errors.Is(err, commitlog.ErrClosed) && s.log == p.Log() {
			p.Fail(err)
		}
		return
	}
	var w woken
	p.mu.Lock()
	if p.mu.replica.Handle(replication.Synced{End: s.End()}) {
		p.releaseLocked(s.bytes, &w)
	}
	p.mu.Unlock()
	w.wake()
}
