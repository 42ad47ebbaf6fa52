package replicas

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/leap"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/model"
)

// appliedFile says up to which metadata offset the node has made the
// directories it was told to make, in the form of Kafka's checkpoints.
const appliedFile = "barnabas-applied"

// appliedKey is the one line of appliedFile.
func appliedKey() model.Partition { return model.Partition{Topic: "__cluster_metadata"} }

// disk is one data directory and what goes on in it.
type disk struct {
	owner    *Replicas
	dir      *datadir.Dir
	flusher  *flusher
	placed   atomic.Int64 // Partitions here.
	unsure   atomic.Bool  // Load found directories that may not be durable.
	told     atomic.Bool  // The cluster knows that it failed.
	saidFull bool         // The keeper has said so.
	recovery datadir.Recovery
	made     model.Offset // See appliedFile; math.MaxInt64 if not known.
	// toCompact counts the bytes of appends to logs that are compacted.
	toCompact atomic.Int64

	mu struct {
		sync.Mutex
		marks datadir.Marks
		// written are those that the file has.
		written datadir.Marks
		// forgotten are partitions that are gone, but have a mark in the file.
		forgotten map[model.Partition]struct{}
		retired   []retired
		failed    error
		starts    starts
		// unmade are partitions whose directory could not be made.
		unmade map[model.Partition]struct{}
		// refused are partitions that there was no space for: see refuse.
		refused map[model.Partition]bool
		// grown are the partitions that have something above their mark,
		// deleting those with deleted segments to remove: the keeper looks at
		// these only, however many there are.
		grown, deleting map[*partition.Partition]struct{}
	}
	writing sync.Mutex // Held by writeMarks.
	keeping sync.Mutex // Held by who takes marks: one at a time of a log.
	// unmarked is how many bytes were synced since the last marks; early wakes
	// the keeper when they are too many.
	unmarked atomic.Int64
	early    chan struct{}
	// retention says what to look at; soon is set when it should go on. deleted counts what it and others took.
	retention retention
	leap      leap.Clock
	soon      atomic.Bool
	deleted   struct{ segments, bytes atomic.Int64 }
	brim      *brim
	cleaned   cleaned
	// checkpoints are what is in the files; the lock is held while one is written.
	checkpoints struct {
		sync.Mutex
		written [2]datadir.Offsets
	}
}

// retired is a directory that will be removed.
type retired struct {
	name string
	at   time.Time
}

func openDisk(r *Replicas, d *datadir.Dir) (*disk, error) {
	k := &disk{owner: r, dir: d, early: make(chan struct{}, 1), brim: newBrim()}
	k.reconfigure(r.config.Load())
	k.retention.due, k.retention.touched = newQueue(), map[*partition.Partition]struct{}{}
	k.retention.trimmed = map[*partition.Partition]struct{}{}
	k.mu.unmade = map[model.Partition]struct{}{}
	k.mu.starts = starts{}
	k.mu.forgotten, k.mu.refused = map[model.Partition]struct{}{}, map[model.Partition]bool{}
	k.mu.grown, k.mu.deleting = map[*partition.Partition]struct{}{}, map[*partition.Partition]struct{}{}
	k.flusher = newFlusher(k)
	var err error
	if k.recovery, err = d.TakeRecovery(); err != nil {
		return nil, err
	}
	for _, err := range k.recovery.Damaged {
		r.opts.Log.Warn("checkpoint not used, and made anew", "err", err)
	}
	k.mu.marks = maps.Clone(k.recovery.Marks) // Good until a log has a newer one.
	k.mu.written = maps.Clone(k.recovery.Marks)
	k.loadCleaned()
	offsets, err := d.Checkpoint(appliedFile)
	switch {
	case err == nil:
		k.made = offsets[appliedKey()]
	case errors.Is(err, datadir.ErrDamaged): // What is missing was made, as far as anybody knows, and is no new partition.
		r.opts.Log.Warn("checkpoint not used, and made anew", "err", err)
		k.made = math.MaxInt64
	default:
		return nil, err
	}
	return k, nil
}

// Applied is the metadata offset up to which a node has made what it was told to
// make in a directory, so that the metadata log was synced that far; 0 if nobody knows.
// Of a copy nobody does: its files are of different moments.
func Applied(d *datadir.Dir) model.Offset {
	if _, known, err := d.Marks(); err != nil || !known {
		return 0
	}
	offsets, err := d.Checkpoint(appliedFile)
	if err != nil {
		return 0
	}
	return offsets[appliedKey()]
}

// wasMade reports whether a partition that was decided at an offset has been
// made here. What a snapshot says was decided long ago; but in a directory
// that comes from Kafka nothing is known, and Kafka makes what is missing.
func (d *disk) wasMade(created model.Offset) bool {
	return d.made > 0 && (created == model.NoOffset || created < d.made)
}

// applied says that all directories decided before end were made here, unless
// one could not be: then the next start makes it.
func (d *disk) applied(end model.Offset) error {
	d.mu.Lock()
	unmade := len(d.mu.unmade)
	d.mu.Unlock()
	if unmade > 0 {
		return nil
	}
	return d.dir.WriteCheckpoint(appliedFile, datadir.Offsets{appliedKey(): end})
}

// load opens the partitions whose directories are here.
func (d *disk) load(image *metadata.Image, ours map[model.Partition]*metadata.Topic, logs []datadir.LogDir) error {
	began := d.owner.opts.Now()
	todo := make(chan datadir.LogDir)
	var workers sync.WaitGroup
	for range max(d.owner.config.Load().RecoveryThreads, 1) {
		workers.Go(func() {
			for l := range todo {
				d.loadOne(image, ours, l)
			}
		})
	}
	for _, l := range logs {
		todo <- l
	}
	close(todo)
	workers.Wait()
	d.forgetStrangers(ours)
	// Before appliedFile says that everything was made: a kill may have come
	// between making and syncing.
	if d.unsure.Load() {
		if err := d.dir.SyncAll(); err != nil {
			return err
		}
	}
	// What was recovered above the marks is in the page cache at best.
	if err := d.syncRecovered(); err != nil {
		return err
	}
	d.owner.opts.Log.Info("logs opened", "dir", d.dir.Path(), "logs", len(logs), "clean", d.recovery.Clean,
		"took", d.owner.opts.Now().Sub(began))
	return nil
}

func (d *disk) loadOne(image *metadata.Image, ours map[model.Partition]*metadata.Topic, l datadir.LogDir) {
	log := d.owner.opts.Log
	id, known, err := d.dir.TopicID(l.Name)
	if l.Kind != datadir.Live {
		if l.Kind == datadir.Deleted || l.Kind == datadir.Stray && known && d.owner.wasRemoved(id) {
			d.forgetLater(l.Name)
		}
		return
	}
	t := ours[l.Partition]
	switch {
	case err != nil && t != nil && !d.wasMade(t.Partitions[l.Partition.Index].Created):
		// The power failed while it was being made: it never held a record.
		log.Warn("directory half made, made anew", "dir", d.dir.LogPath(l.Name), "err", err)
		if name, err := d.dir.RetireLog(l.Partition, datadir.Deleted, d.owner.opts.Random); err == nil {
			d.forgetLater(name)
		}
	case err != nil:
		log.Error("directory unreadable", "dir", d.dir.LogPath(l.Name), "err", err)
		if t != nil {
			d.owner.failed(d, l.Partition, t.ID, err)
		}
	case t == nil || known && id != t.ID:
		d.stray(l, id, known)
	case d.owner.entry(l.Partition) != nil:
		log.Error("partition in two data directories, the second is ignored", "dir", d.dir.LogPath(l.Name))
	default:
		if !d.wasMade(t.Partitions[l.Partition.Index].Created) {
			d.unsure.Store(true) // It is there, but perhaps in the page cache only.
		}
		if !known { // Lost in a power cut, or of a Kafka before topic ids.
			if err := d.dir.CreateLog(l.Partition, t.ID, true); err != nil {
				log.Error("topic id not written", "dir", d.dir.LogPath(l.Name), "err", err)
			}
		}
		d.owner.open(image, d, l.Partition, t.ID, true)
	}
}

// stray puts away a directory that belongs to no topic. If the metadata log
// knows that its topic was deleted, a crash came between, and it goes; else
// somebody may want what is in it.
func (d *disk) stray(l datadir.LogDir, id model.TopicID, known bool) {
	log, kind := d.owner.opts.Log, datadir.Stray
	if known && d.owner.wasRemoved(id) {
		kind = datadir.Deleted
	}
	name, err := d.dir.RetireLog(l.Partition, kind, d.owner.opts.Random)
	switch {
	case err != nil:
		log.Error("directory not put away", "dir", d.dir.LogPath(l.Name), "err", err)
	case kind == datadir.Deleted:
		log.Info("directory of a deleted topic put away", "dir", d.dir.LogPath(name))
		d.forgetLater(name)
	default:
		log.Warn("directory belongs to no topic, put away", "dir", d.dir.LogPath(name))
	}
}

// wasRemoved reports whether the metadata log says that a topic was deleted.
func (r *Replicas) wasRemoved(id model.TopicID) bool {
	_, removed := r.opts.Removed[id]
	return removed
}

// own marks all logs of a directory whose marks are not ours, or that is new.
// From then on a log without a mark is one that we made: recovery need not
// expect the gaps that Kafka's cleaner leaves, and takes none for records.
func (d *disk) own() error {
	if d.recovery.Known {
		return nil
	}
	var all []*replica
	d.each(func(x *replica) {
		if d.stale(x) {
			all = append(all, x)
		}
	})
	return errors.Join(d.mark(all, markTogether), d.writeMarks(false))
}

// syncRecovered makes durable what recovery found, and tells the partitions so:
// from then on it is committed.
func (d *disk) syncRecovered() error {
	var found []*replica
	d.each(func(x *replica) {
		if l := x.Log(); l.SyncedEnd() < l.End() {
			found = append(found, x)
		}
	})
	if len(found) >= manyDirty {
		// Then the sync of each finds nothing left to do.
		if err := d.dir.SyncAll(); err != nil {
			return err
		}
	}
	for _, x := range found {
		s, err := x.BeginSyncOf(d)
		if err != nil {
			return err
		}
		x.Synced(s, s.Flush())
		d.grew(x.Partition) // The next start need not read this again.
	}
	return nil
}

// synced counts what a recovery would have to read, and calls for marks when it
// becomes much.
func (d *disk) synced(bytes int64) {
	if d.unmarked.Add(bytes) >= markBytes {
		d.wakeKeeper()
	}
}

// wakeKeeper has the keeper look at what is early.
func (d *disk) wakeKeeper() {
	select {
	case d.early <- struct{}{}:
	default:
	}
}

// grew notes that a partition has something above its mark.
func (d *disk) grew(p *partition.Partition) {
	d.mu.Lock()
	d.mu.grown[p] = struct{}{}
	d.mu.Unlock()
	d.touch(p)
}

// replicaOf is the replica of a partition, nil if it was retired or moved away
// meanwhile.
func (d *disk) replicaOf(p *partition.Partition) *replica {
	if x := d.owner.entry(p.ID); x != nil && x.Partition == p && x.disk == d {
		return x
	}
	return nil
}

func (d *disk) each(do func(*replica)) {
	d.owner.each(func(x *replica) {
		if x.disk == d {
			do(x)
		}
	})
}

// partitionOptions are those of a partition that lies here.
func (d *disk) partitionOptions(p model.Partition, cfg *config.Topic, log commitlog.Options) partition.Options {
	r := d.owner
	return partition.Options{
		FS: d.dir.FS(), Dir: d.dir.LogPath(p.String()), ID: p, Self: r.opts.Self,
		Log: log, Config: cfg, ProducerExpiry: r.config.Load().ProducerExpiration,
		Unverified: !r.config.Load().Coordinators.Txn.Verify, Owner: d,
		Dirty: d.flusher.add, Grown: d.grew, Full: d.dir.Full, Room: d.room, Wrote: d.wrote, Failed: d.partitionFailed,
	}
}

// logOptions is what commitlog has to know of a partition; found says that its
// directory has a past.
func (d *disk) logOptions(p model.Partition, found bool) commitlog.Options {
	o := commitlog.Options{Events: d.tell(p)}
	if !found {
		return o
	}
	return d.recovery.Options(p, o)
}

// tell logs what happens to a log.
func (d *disk) tell(p model.Partition) func(commitlog.Event) {
	log := d.owner.opts.Log
	return func(e commitlog.Event) {
		attrs := []any{"topic", p.Topic, "partition", p.Index, "offset", e.Offset, "bytes", e.Bytes}
		if e.Err != nil {
			attrs = append(attrs, "err", e.Err)
		}
		if e.Kind == commitlog.EventRolled {
			d.brim.hasRolled(p)
		}
		switch e.Kind {
		case commitlog.EventOffline, commitlog.EventMarkLost:
			log.Error(string(e.Kind), attrs...)
		case commitlog.EventTornTail, commitlog.EventDropped, commitlog.EventIndexRebuilt:
			log.Warn(string(e.Kind), attrs...)
		case commitlog.EventDeleted: // There may be many: who deletes sums them up.
			d.deleted.segments.Add(1)
			d.deleted.bytes.Add(e.Bytes)
			log.Debug(string(e.Kind), attrs...)
		default:
			log.Debug(string(e.Kind), attrs...)
		}
	}
}

// failUnlessShort is fail for what is tried again: a disk that is full has not
// failed, nor has that of a process without descriptors.
func (d *disk) failUnlessShort(what string, err error) {
	switch {
	case err == nil:
	case full(err):
		d.owner.opts.Log.Error("disk full", "dir", d.dir.Path(), "doing", what, "err", err)
	case isShortage(err):
		d.owner.opts.Log.Error("out of descriptors or memory", "dir", d.dir.Path(), "doing", what, "err", err)
	default:
		d.fail(err)
	}
}

func full(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// retire closes a partition of a deleted topic and renames its directory; it is
// removed after file.delete.delay.ms.
func (d *disk) retire(x *replica) error {
	d.placed.Add(-1)
	if err := x.Close(); err != nil {
		// A full disk has no room for its indexes: no matter.
		d.owner.opts.Log.Debug("deleted log not closed", "topic", x.ID.Topic, "partition", x.ID.Index, "err", err)
	}
	d.mu.Lock()
	delete(d.mu.grown, x.Partition)
	delete(d.mu.deleting, x.Partition)
	d.mu.Unlock()
	d.forgetRetention(x.Partition)
	d.brim.forget(x.ID)
	return d.putAway(x.ID)
}

// forgetMark forgets the mark of a partition that is gone: a topic of its name
// may be made again.
func (d *disk) forgetMark(p model.Partition) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.mu.written, p)
	if _, ok := d.mu.marks[p]; ok {
		delete(d.mu.marks, p)
		d.mu.forgotten[p] = struct{}{}
	}
}

// forgetStrangers forgets the marks of partitions that the image does not have.
func (d *disk) forgetStrangers(ours map[model.Partition]*metadata.Topic) {
	for p := range d.recovery.Marks {
		if ours[p] == nil {
			d.forgetMark(p)
		}
	}
}

// fresh prepares a partition that is made now: a mark that a partition of its
// name left in the file would vouch for what this one will write.
func (d *disk) fresh(p model.Partition) error {
	if err := d.freshCleaned(p); err != nil {
		return err
	}
	d.forgetMark(p)
	d.mu.Lock()
	_, left := d.mu.forgotten[p]
	d.mu.Unlock()
	if !left {
		return nil
	}
	return d.writeMarks(false)
}

// putAway renames the directory of a deleted topic's partition.
func (d *disk) putAway(p model.Partition) error {
	d.forgetMark(p)
	d.forgetCleaned(p)
	var name string
	err := d.dir.Spend(func() (err error) {
		name, err = d.dir.RetireLog(p, datadir.Deleted, d.owner.opts.Random)
		return err
	})
	if err != nil {
		return err
	}
	d.forgetLater(name)
	return nil
}

func (d *disk) forgetLater(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.retired = append(d.mu.retired, retired{name, d.owner.opts.Now()})
}

// close marks the logs that need it, closes all, and says that all is well, if
// it is.
func (d *disk) close(brokerEpoch int64) error {
	if d.hasFailed() != nil {
		d.closeFailed()
		return nil
	}
	var stale []*replica
	var failed error
	d.each(func(x *replica) {
		if err := x.Err(); err != nil {
			failed = err
		} else if d.stale(x) {
			stale = append(stale, x)
		}
	})
	err := d.mark(stale, len(stale))
	if err == nil {
		err = d.writeMarks(true)
	}
	if err == nil {
		err = errors.Join(d.checkpointCommitted(), d.checkpointStarts())
	}
	d.each(func(x *replica) { err = errors.Join(err, x.Close()) })
	if err == nil && failed == nil {
		err = d.dir.WriteClean(brokerEpoch)
	}
	if err = errors.Join(err, d.dir.Close()); err != nil {
		return fmt.Errorf("close %s: %w", d.dir.Path(), err)
	}
	return nil
}

// closeFailed gives back the files of a disk that does not work: nothing that
// it says matters.
func (d *disk) closeFailed() {
	d.each(func(x *replica) { x.Close() })
	d.dir.Close()
}

// stale reports whether the next start would have to read something, or find
// another beginning, because of what happened since the mark.
func (d *disk) stale(x *replica) bool {
	d.mu.Lock()
	m := d.mu.marks[x.ID]
	d.mu.Unlock()
	l := x.Log()
	return m.Offset != l.End() || m.Start != l.Start()
}

// checkpointCommitted writes Kafka's checkpoint of what is committed.
func (d *disk) checkpointCommitted() error {
	committed := datadir.Offsets{}
	d.each(func(x *replica) {
		s, _ := x.State(model.NoEpoch)
		committed[x.ID] = s.Committed
	})
	return d.checkpoint(0, datadir.HighWatermarkFile, committed)
}

// checkpointStarts writes Kafka's checkpoint of where logs start.
func (d *disk) checkpointStarts() error {
	starts := datadir.Offsets{}
	d.each(func(x *replica) {
		if start := x.Log().Start(); start > 0 {
			starts[x.ID] = start
		}
	})
	return d.checkpoint(1, datadir.LogStartFile, starts)
}

// checkpoint writes a checkpoint if it has changed.
func (d *disk) checkpoint(i int, file string, now datadir.Offsets) error {
	d.checkpoints.Lock()
	defer d.checkpoints.Unlock()
	if d.checkpoints.written[i] != nil && maps.Equal(d.checkpoints.written[i], now) {
		return nil
	}
	if err := d.dir.WriteCheckpoint(file, now); err != nil {
		return err
	}
	d.checkpoints.written[i] = now
	return nil
}
