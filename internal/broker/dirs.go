package broker

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/replicas"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
)

// openDirs takes the data directories into possession. The one that holds the
// metadata log comes first and decides who this node is; the others must agree.
// One of the others that cannot be read takes its partitions offline, no more.
func (b *Broker) openDirs() error {
	want := datadir.Identity{Node: model.NoNode, DefaultNode: model.NodeID(b.config.NodeID)}
	if b.config.NodeIDGiven {
		want.Node = model.NodeID(b.config.NodeID)
	}
	at, err := filepath.Abs(b.config.Disks.Metadata)
	if err != nil {
		return err
	}
	if b.metadata, err = b.openDir(at, want); err != nil {
		return err
	}
	want.Node, want.Cluster = b.metadata.Meta().Node, b.metadata.Meta().Cluster
	for _, path := range b.config.LogDirs {
		if err := b.openLogDir(path, want); err != nil {
			return err
		}
	}
	if len(b.dirs) == 0 {
		return fmt.Errorf("no data directory can be used, the last one: %w", b.unusable[len(b.unusable)-1].Err)
	}
	b.config, err = b.config.WithNodeID(int32(want.Node))
	return err
}

func (b *Broker) openLogDir(path string, want datadir.Identity) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(b.dirs, func(d *datadir.Dir) bool { return d.Path() == abs }) {
		return fmt.Errorf("data directory %s is named twice in log.dirs: take one out", abs)
	}
	if abs == b.metadata.Path() {
		b.dirs = append(b.dirs, b.metadata)
		return nil
	}
	d, err := b.openDir(abs, want)
	switch {
	case err == nil:
		b.dirs = append(b.dirs, d)
		return b.checkCopy(d)
	case errors.Is(err, vfs.ErrLocked) || errors.Is(err, datadir.ErrIdentity):
		return err
	default:
		b.log("broker").Error("data directory not usable, its partitions are offline", "dir", abs, "err", err)
		b.unusable = append(b.unusable, replicas.Unusable{Path: abs, Err: err})
	}
	return nil
}

// checkCopy refuses a directory that has the id of another one: it is a copy, with the same partitions in it.
func (b *Broker) checkCopy(d *datadir.Dir) error {
	for _, o := range append([]*datadir.Dir{b.metadata}, b.dirs...) {
		if o != d && o.Meta().Directory == d.Meta().Directory {
			return fmt.Errorf("data directories %s and %s have the same directory.id, so one is a copy of the other: take the copy out of log.dirs",
				o.Path(), d.Path())
		}
	}
	return nil
}

// openDir takes a directory into possession. Where that is up to the
// administrator the error says what to do.
func (b *Broker) openDir(path string, want datadir.Identity) (*datadir.Dir, error) {
	d, err := datadir.Open(b.opts.FS, path, want, rand.Reader)
	switch {
	case errors.Is(err, vfs.ErrLocked):
		err = fmt.Errorf("data directory %s is in use by another broker: stop that one, or give this one its own directory (--data-dir): %w", path, err)
	case errors.Is(err, syscall.EROFS):
		err = fmt.Errorf("data directory %s is on a file system that is mounted read-only: mount it for writing, or take another directory: %w", path, err)
	case errors.Is(err, fs.ErrPermission):
		err = fmt.Errorf("data directory %s: the user of this process may not write there: change its owner, or take another directory: %w", path, err)
	}
	return d, err
}

// closeMetadata gives back the directory of the metadata log, if it has one of
// its own.
func (b *Broker) closeMetadata() error {
	if b.metadata == nil {
		return nil
	}
	for _, d := range b.dirs {
		if d == b.metadata {
			return nil
		}
	}
	return b.metadata.Close()
}

// applied is how far the metadata log was synced, as far as the data directories know.
func (b *Broker) applied() (end model.Offset) {
	for _, d := range b.dirs {
		end = max(end, replicas.Applied(d))
	}
	return end
}

func (b *Broker) self() model.NodeID { return b.metadata.Meta().Node }
