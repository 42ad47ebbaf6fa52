package datadir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
)

// MovedFile is in the directory of a log that takes the place of one in another
// data directory, as long as that may still be there. It holds the id of the
// other data directory.
const MovedFile = "barnabas-moved"

// CreateFuture makes, durably, the directory of a copy that is to take the place
// of a log in another data directory, and returns its name.
func (d *Dir) CreateFuture(p model.Partition, id model.TopicID, random io.Reader) (name string, err error) {
	unique, err := model.NewUUID(random)
	if err != nil {
		return "", err
	}
	name = Rename(p, Future, unique)
	err = d.Spend(func() error {
		if err := d.fs.MkdirAll(d.LogPath(name)); err != nil {
			return fmt.Errorf("datadir: %w", err)
		}
		return d.writeTopicID(d.LogPath(name), id, true)
	})
	if err == nil {
		err = d.SyncNames()
	}
	return name, err
}

// FutureFits reports whether the name of a copy's directory is short enough.
// Kafka does not move partitions of topics with longer names.
func FutureFits(p model.Partition) bool {
	return len(p.String())+1+hexDigits+len(futureSuffix) <= maxFileName
}

// Promote gives a copy the name of the log, durably, and notes in it which data
// directory the log comes from.
func (d *Dir) Promote(name string, p model.Partition, from model.UUID) error {
	err := d.Spend(func() error {
		return vfs.WriteFile(d.fs, filepath.Join(d.LogPath(name), MovedFile), []byte(from.String()))
	})
	if err != nil {
		return fmt.Errorf("datadir: %w", err)
	}
	if err := d.fs.Rename(d.LogPath(name), d.LogPath(p.String())); err != nil {
		return fmt.Errorf("datadir: %w", err)
	}
	return d.SyncNames()
}

// Demote takes the name of the log back from a copy that could not take its
// place.
func (d *Dir) Demote(p model.Partition, name string) error {
	if err := d.fs.Rename(d.LogPath(p.String()), d.LogPath(name)); err != nil {
		return fmt.Errorf("datadir: %w", err)
	}
	return d.SyncNames()
}

// MovedFrom returns the data directory that a log came from, if it may still be
// there.
func (d *Dir) MovedFrom(p model.Partition) (from model.UUID, ok bool, err error) {
	b, err := d.readText(filepath.Join(p.String(), MovedFile))
	if err != nil || b == nil {
		return from, false, err
	}
	from, err = model.ParseUUID(string(b))
	return from, err == nil, err
}

// Settle notes that a log is nowhere else any more. If a crash undoes that, it
// is noted again.
func (d *Dir) Settle(p model.Partition) error {
	err := d.fs.Remove(filepath.Join(d.LogPath(p.String()), MovedFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("datadir: %w", err)
	}
	return nil
}
