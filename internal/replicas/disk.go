package replicas

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/metadata"
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
	recovery datadir.Recovery
	made     model.Offset // See appliedFile; math.MaxInt64 if not known.

	mu struct {
		sync.Mutex
		marks   datadir.Marks
		retired []retired
		failed  error
	}
}

// retired is a directory that will be removed.
type retired struct {
	name string
	at   time.Time
}

func openDisk(r *Replicas, d *datadir.Dir) (*disk, error) {
	k := &disk{owner: r, dir: d}
	k.flusher = newFlusher(k)
	var err error
	if k.recovery, err = d.TakeRecovery(); err != nil {
		return nil, err
	}
	k.mu.marks = k.recovery.Marks // Good until a log has a newer one.
	offsets, err := d.Checkpoint(appliedFile)
	if err != nil {
		return nil, err
	}
	k.made = offsets[appliedKey()]
	return k, nil
}

// wasMade reports whether a partition that was decided at an offset has been
// made here. What a snapshot says was decided long ago; but in a directory
// that comes from Kafka nothing is known, and Kafka makes what is missing.
func (d *disk) wasMade(created model.Offset) bool {
	return d.made > 0 && (created == model.NoOffset || created < d.made)
}

func (d *disk) applied(end model.Offset) error {
	return d.dir.WriteCheckpoint(appliedFile, datadir.Offsets{appliedKey(): end})
}

// load opens the partitions whose directories are here.
func (d *disk) load(image *metadata.Image, ours map[model.Partition]*metadata.Topic) error {
	logs, err := d.dir.Logs()
	if err != nil {
		return err
	}
	began := d.owner.opts.Now()
	todo := make(chan datadir.LogDir)
	var workers sync.WaitGroup
	for range max(d.owner.opts.Config.RecoveryThreads, 1) {
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
	if !d.recovery.Clean && len(logs) > 0 {
		// What was recovered above the marks is in the page cache at best.
		if err := d.syncRecovered(); err != nil {
			return err
		}
	}
	d.owner.opts.Log.Info("logs opened", "dir", d.dir.Path(), "logs", len(logs), "clean", d.recovery.Clean,
		"took", d.owner.opts.Now().Sub(began))
	return nil
}

func (d *disk) loadOne(image *metadata.Image, ours map[model.Partition]*metadata.Topic, l datadir.LogDir) {
	log := d.owner.opts.Log
	if l.Kind != datadir.Live {
		if l.Kind == datadir.Deleted {
			d.forgetLater(l.Name)
		}
		return
	}
	id, known, err := d.dir.TopicID(l.Name)
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
			d.owner.failed(l.Partition, t.ID, err)
		}
	case t == nil || known && id != t.ID:
		log.Warn("directory belongs to no topic, put away", "dir", d.dir.LogPath(l.Name))
		if _, err := d.dir.RetireLog(l.Partition, datadir.Stray, d.owner.opts.Random); err != nil {
			log.Error("directory not put away", "dir", d.dir.LogPath(l.Name), "err", err)
		}
	case d.owner.entry(l.Partition) != nil:
		log.Error("partition in two data directories, the second is ignored", "dir", d.dir.LogPath(l.Name))
	default:
		d.owner.open(image, d, l.Partition, t.ID)
	}
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
		s, err := x.BeginSync()
		if err != nil {
			return err
		}
		x.Synced(s, s.Flush())
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

// logOptions is what commitlog has to know of a partition's past.
func (d *disk) logOptions(p model.Partition) commitlog.Options {
	log := d.owner.opts.Log
	return d.recovery.Options(p, commitlog.Options{Events: func(e commitlog.Event) {
		attrs := []any{"topic", p.Topic, "partition", p.Index, "offset", e.Offset, "bytes", e.Bytes}
		switch e.Kind {
		case commitlog.EventOffline, commitlog.EventMarkLost:
			log.Error(string(e.Kind), append(attrs, "err", e.Err)...)
		case commitlog.EventTornTail, commitlog.EventDropped, commitlog.EventIndexRebuilt:
			log.Warn(string(e.Kind), attrs...)
		case commitlog.EventDeleted:
			log.Info(string(e.Kind), attrs...)
		default:
			log.Debug(string(e.Kind), attrs...)
		}
	}})
}

// fail takes all partitions of the disk offline.
func (d *disk) fail(err error) {
	d.mu.Lock()
	first := d.mu.failed == nil
	if first {
		d.mu.failed = err
	}
	d.mu.Unlock()
	if !first {
		return
	}
	d.owner.opts.Log.Error("data directory failed", "dir", d.dir.Path(), "err", err)
	d.each(func(x *replica) { x.Fail(err) })
}

// retire closes a partition and renames its directory; it is removed after
// file.delete.delay.ms.
func (d *disk) retire(x *replica, kind datadir.DirKind) error {
	if err := x.Close(); err != nil {
		return err
	}
	d.placed.Add(-1)
	var name string
	err := d.dir.Spend(func() (err error) {
		name, err = d.dir.RetireLog(x.ID, kind, d.owner.opts.Random)
		return err
	})
	if err != nil {
		return err
	}
	d.mu.Lock()
	delete(d.mu.marks, x.ID)
	d.mu.Unlock()
	d.forgetLater(name)
	return nil
}

func (d *disk) forgetLater(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.retired = append(d.mu.retired, retired{name, d.owner.opts.Now()})
}

// close marks every log, closes it, and says that all is well.
func (d *disk) close(brokerEpoch int64) error {
	err := d.mark(func(*replica) bool { return true }, true)
	d.each(func(x *replica) { err = errors.Join(err, x.Close()) })
	if err == nil {
		err = d.checkpoint()
	}
	d.mu.Lock()
	failed := d.mu.failed
	d.mu.Unlock()
	if err == nil && failed == nil {
		err = d.dir.WriteClean(brokerEpoch)
	}
	if err != nil {
		return fmt.Errorf("close %s: %w", d.dir.Path(), err)
	}
	return d.dir.Close()
}

// checkpoint writes Kafka's checkpoints of what is committed and where logs
// start.
func (d *disk) checkpoint() error {
	committed, starts := datadir.Offsets{}, datadir.Offsets{}
	d.each(func(x *replica) {
		s, _ := x.State(model.NoEpoch)
		committed[x.ID] = s.Committed
		if s.Start > 0 {
			starts[x.ID] = s.Start
		}
	})
	return errors.Join(
		d.dir.WriteCheckpoint(datadir.HighWatermarkFile, committed),
		d.dir.WriteCheckpoint(datadir.LogStartFile, starts),
	)
}
