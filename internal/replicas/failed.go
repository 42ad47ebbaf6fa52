package replicas

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/model"
)

// A data directory fails as a whole, as in Kafka: after an error of the disk
// nobody knows what it did with the other files. Its partitions go offline,
// those of other directories go on, and the cluster is told, so that clients
// see partitions without leaders. The directory that holds the metadata log
// takes the node with it, and so does the last one.

// ErrDirFailed says that a data directory has failed.
var ErrDirFailed = errors.New("replicas: data directory failed")

// Unusable is a data directory that could not be opened.
type Unusable struct {
	Path string
	Err  error
}

// fail takes all partitions of the disk offline.
func (d *disk) fail(err error) {
	d.mu.Lock()
	first := d.mu.failed == nil
	if first {
		d.mu.failed = fmt.Errorf("%w: %s: %w", ErrDirFailed, d.dir.Path(), err)
	}
	d.mu.Unlock()
	if !first {
		return
	}
	d.owner.opts.Log.Error("data directory failed, its partitions are offline", "dir", d.dir.Path(), "err", err)
	d.each(func(x *replica) { x.Fail(err) })
	d.owner.diskFailed(d)
}

// hasFailed reports whether the disk is not to be used.
func (d *disk) hasFailed() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.failed
}

// diskFailed ends the node if it cannot go on without a disk, or sees to it
// that the cluster is told.
func (r *Replicas) diskFailed(d *disk) {
	switch {
	case d.dir.Path() == r.opts.MetadataDir:
		r.fatal(fmt.Errorf("%w; it holds the metadata log, without which no node can go on", d.hasFailed()))
	case len(r.online()) == 0:
		r.fatal(fmt.Errorf("all data directories have failed, the last one: %w", d.hasFailed()))
	default:
		r.haveNews()
	}
}

func (r *Replicas) fatal(err error) {
	if r.opts.Fatal != nil {
		r.opts.Fatal(err)
	}
}

// online are the ids of the directories that can be used.
func (r *Replicas) online() (ids []model.UUID) {
	for _, d := range r.disks {
		if d.hasFailed() == nil {
			ids = append(ids, d.id())
		}
	}
	return ids
}

// partitionFailed hears of a partition that went offline.
func (d *disk) partitionFailed(_ *partition.Partition, err error) { d.judge(err) }

// judge decides whether an error of one file is one of the disk. Who has no
// descriptor left to ask it waits for the next error.
func (d *disk) judge(err error) {
	if err == nil || isShortage(err) || d.hasFailed() != nil {
		return
	}
	if !ofDisk(err) {
		// A file is missing, or holds what it should not. That may be one file's
		// misfortune, or somebody has taken the disk away.
		if err = d.dir.Check(); err == nil || isShortage(err) {
			return
		}
	}
	d.fail(err)
}

// ofDisk reports errors by which the system says that a disk does not work.
func ofDisk(err error) bool {
	var e syscall.Errno
	if !errors.As(err, &e) {
		return false
	}
	switch e {
	case syscall.EIO, syscall.EROFS, syscall.ENXIO, syscall.ENODEV, syscall.ESTALE, syscall.ENOTCONN, syscall.EBADMSG:
		return true
	}
	return false
}

// haveNews wakes who tells the cluster.
func (r *Replicas) haveNews() {
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// tellCluster tells the metadata log, until ctx ends, which directories have
// failed and which partitions lie elsewhere.
func (r *Replicas) tellCluster(ctx context.Context) {
	if r.opts.Propose == nil {
		return
	}
	for {
		r.tellFailures(ctx)
		r.tellPlaces(ctx)
		select {
		case <-r.news:
		case <-ctx.Done():
			return
		}
	}
}

// tellFailures takes the leaders from the partitions of failed disks. It has to
// be done within log.dir.failure.timeout.ms: till then clients are sent to
// partitions that nobody serves.
func (r *Replicas) tellFailures(ctx context.Context) {
	failed := r.failedDisks()
	if !slices.ContainsFunc(failed, func(d *disk) bool { return !d.told.Load() }) {
		return
	}
	late, cancel := context.WithTimeoutCause(ctx, r.config.Load().LogDirFailureTimeout, errNotTold)
	defer cancel()
	err := r.opts.Propose(late, func(image *metadata.Image) ([]metadata.Record, error) {
		return controller.DirectoriesFailed(image, r.opts.Self, r.online()), nil
	})
	switch {
	case err == nil:
		for _, d := range failed {
			d.told.Store(true)
		}
	case context.Cause(late) == errNotTold:
		r.fatal(fmt.Errorf("%w: %w", errNotTold, failed[0].hasFailed()))
	case ctx.Err() == nil:
		r.opts.Log.Error("failure of a data directory not told", "err", err)
	}
}

// errNotTold ends a node that goes on serving what the cluster cannot see.
var errNotTold = errors.New("the metadata log did not take note within log.dir.failure.timeout.ms")

// tellPlaces tells the cluster where partitions lie.
func (r *Replicas) tellPlaces(ctx context.Context) {
	if len(r.misplaced()) == 0 {
		return
	}
	err := r.opts.Propose(ctx, func(image *metadata.Image) ([]metadata.Record, error) {
		return controller.AssignDirectories(image, r.opts.Self, r.misplaced()), nil
	})
	if err != nil && ctx.Err() == nil {
		r.opts.Log.Error("places of partitions not told", "err", err)
	}
}

func (r *Replicas) failedDisks() (failed []*disk) {
	for _, d := range r.disks {
		if d.hasFailed() != nil {
			failed = append(failed, d)
		}
	}
	return failed
}

// misplaced are the partitions that lie elsewhere than the cluster believes.
func (r *Replicas) misplaced() (moved []controller.Placement) {
	image := r.image.Load()
	r.mu.RLock()
	defer r.mu.RUnlock()
	for p, x := range r.mu.parts {
		t := image.Topic(p.Topic)
		if x.err != nil || t == nil || t.ID != x.id {
			continue
		}
		if r.believed(t.Partitions[p.Index]) != x.disk.id() {
			moved = append(moved, controller.Placement{Topic: t.ID, Partition: p.Index, Directory: x.disk.id()})
		}
	}
	return moved
}

// believed is the directory in which the cluster believes our replica to be.
func (r *Replicas) believed(p *metadata.Partition) (id model.UUID) {
	for i, n := range p.Replicas {
		if n == r.opts.Self && i < len(p.Directories) {
			id = p.Directories[i]
		}
	}
	return id
}
