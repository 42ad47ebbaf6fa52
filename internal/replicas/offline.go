package replicas

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/internal/replication"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// ErrNoLog says that a directory is not the log of a partition.
var ErrNoLog = errors.New("replicas: not the log of a partition")

// Offline is the log of a partition that no broker has open, ours or Kafka's, to
// be mended.
type Offline struct {
	*partition.Partition
	// data is nil for a log that lies in no data directory: a copy, say.
	data     *datadir.Dir
	recovery datadir.Recovery
}

// OpenOffline opens a log directory and locks the data directory that it is in:
// vfs.ErrLocked if a broker has it, ErrNoLog if it is not a log. What a crash
// left is recovered, as at a start. c is how the topic is kept.
func OpenOffline(fsys vfs.FS, dir string, c *config.Topic) (*Offline, error) {
	name, ok := datadir.ParseLogDir(filepath.Base(dir))
	if info, err := fsys.Stat(dir); err != nil {
		return nil, err
	} else if !ok || name.Kind != datadir.Live || !info.Dir {
		return nil, fmt.Errorf("%w: %s", ErrNoLog, dir)
	}
	o := &Offline{recovery: datadir.Recovery{}}
	var err error
	if o.data, err = datadir.OpenAsIs(fsys, filepath.Dir(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if o.data != nil {
		if o.recovery, err = o.data.PeekRecovery(); err != nil {
			return nil, errors.Join(err, o.data.Close())
		}
	}
	if err := o.open(fsys, dir, name.Partition, c); err != nil {
		return nil, errors.Join(err, o.release())
	}
	return o, nil
}

// open opens the log as the only replica of its partition: all of it is
// committed that is synced.
func (o *Offline) open(fsys vfs.FS, dir string, p model.Partition, c *config.Topic) (err error) {
	o.Partition, err = partition.Open(partition.Options{
		FS: fsys, Dir: dir, ID: p, Self: 0, Log: o.recovery.Options(p, commitlog.Options{}), Config: c, ProducerExpiry: time.Hour,
	})
	if err != nil {
		return err
	}
	s, err := o.BeginSync()
	if err != nil {
		return errors.Join(err, o.Partition.Close())
	}
	o.Synced(s, s.Flush())
	o.Assign(replication.Assignment{Leader: 0, Members: []model.NodeID{0}, Replicas: 1})
	return o.Err()
}

func (o *Offline) release() error {
	if o.data == nil {
		return nil
	}
	return o.data.Close()
}

// Close gives the directory back, without the files that were replaced.
func (o *Offline) Close() error {
	_, err := o.Log().DeleteExpired(time.Now(), 0)
	return errors.Join(err, o.Partition.Close(), o.release())
}

// Compact seals all that there is and compacts it, as far as it is committed
// and no transaction is open, in as many passes as the map needs. It returns
// the sum of what they did.
func (o *Offline) Compact(ctx context.Context, now time.Time, t partition.CleanTools) (sum commitlog.Cleaned, passes int, err error) {
	if err := o.Roll(); err != nil {
		return sum, 0, err
	}
	mark, err := o.mark()
	if err != nil {
		return sum, 0, err
	}
	mark.Segment = min(mark.Segment, o.committed())
	for from := model.NoOffset; ; passes++ {
		d, ok, err := o.Dirt(now, from, mark)
		if err != nil || !ok {
			return sum, passes, errors.Join(err, o.Err())
		}
		if sum.End = d.From; d.From >= d.Limit {
			return sum, passes, nil
		}
		done, err := o.Clean(ctx, now, d, mark, t)
		add(&sum, done)
		if err == nil {
			err = o.keepCleaned(done.End)
		}
		if err != nil {
			return sum, passes, err
		}
		if from = done.End; done.End <= d.From {
			return sum, passes, fmt.Errorf("replicas: compaction of %s does not get beyond offset %d", o.ID, from)
		}
	}
}

func add(sum *commitlog.Cleaned, done commitlog.Cleaned) {
	sum.BytesIndexed += done.BytesIndexed
	sum.BytesRead += done.BytesRead
	sum.BytesWritten += done.BytesWritten
	sum.RecordsRead += done.RecordsRead
	sum.RecordsKept += done.RecordsKept
	sum.Keyless += done.Keyless
	sum.Replaced += done.Replaced
	sum.Freed += done.Freed
}

// committed is how far the log is known to be committed: in a cluster of Kafka
// it may end with records that its followers never had.
func (o *Offline) committed() model.Offset {
	if o.data == nil {
		return o.Log().End()
	}
	return o.recovery.HighWatermarks[o.ID]
}

// mark takes a mark, and keeps it where marks are kept. In a directory that
// Kafka wrote last there are none, and Kafka's checkpoints go on saying what can
// be trusted.
func (o *Offline) mark() (commitlog.Mark, error) {
	m, err := o.BeginMark()
	if err != nil {
		return commitlog.Mark{}, err
	}
	mark, err := m.Finish()
	if err != nil {
		return mark, err
	}
	return mark, o.keep(mark)
}

func (o *Offline) keep(m commitlog.Mark) error {
	if o.data == nil || !o.recovery.Known {
		return nil
	}
	o.recovery.Marks[o.ID] = m
	return o.data.WriteMarks(o.recovery.Marks, o.recovery.Clean)
}

// keepCleaned keeps where a pass ended.
func (o *Offline) keepCleaned(end model.Offset) error {
	if o.data == nil {
		return nil
	}
	offsets, err := o.data.Checkpoint(datadir.CleanerFile)
	if err != nil {
		offsets = datadir.Offsets{} // It says nothing anyway.
	}
	offsets[o.ID] = end
	return o.data.WriteCheckpoint(datadir.CleanerFile, offsets)
}

// Reindex makes all indexes of the log anew.
func (o *Offline) Reindex(ctx context.Context, progress func(bytes int)) (commitlog.Reindexed, error) {
	m, err := o.BeginMark()
	if err != nil {
		return commitlog.Reindexed{}, err
	}
	mark, err := m.Finish()
	if err != nil {
		return commitlog.Reindexed{}, err
	}
	// Until there is another mark nothing vouches for the last segment, whose
	// index is about to be another one.
	weak := commitlog.Mark{
		Offset: mark.Segment, Segment: mark.Segment, Start: mark.Start, MaxTimestamp: record.NoTimestamp,
		Producers: true, Generation: mark.Generation,
	}
	if err := o.keep(weak); err != nil {
		return commitlog.Reindexed{}, err
	}
	done, err := o.Partition.Reindex(ctx, progress)
	if err != nil {
		return done, err
	}
	_, err = o.mark()
	return done, err
}
