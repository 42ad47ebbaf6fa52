package datadir

import (
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"
)

// reserveBytes is enough for the metadata records of many thousand deletions, for
// a marks file of 100,000 logs and for the epoch files of truncations, and
// nothing on a disk that holds logs.
const reserveBytes = 16 << 20

func (d *Dir) makeReserve() error {
	path := filepath.Join(d.path, ReserveFile)
	if info, err := d.fs.Stat(path); err == nil && info.Size == reserveBytes {
		return nil
	}
	f, err := d.fs.Create(path)
	if err != nil {
		return err
	}
	err = f.Allocate(reserveBytes)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		d.fs.Remove(path) // It failed for want of space: give back what it took.
	}
	return err
}

// Spend runs what must not fail for want of space: writes of metadata and
// checkpoints, truncations, deletions. When the disk is full it gives the
// reserve up and runs f once more, so f must be able to run twice. From then on
// Full reports true, and whoever writes records must stop, or they would eat
// the reserve.
func (d *Dir) Spend(f func() error) error {
	err := f()
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
		return err
	}
	if !d.giveUpReserve() {
		return err
	}
	return f()
}

// giveUpReserve frees the reserve; false if there is none to free.
func (d *Dir) giveUpReserve() bool {
	d.reserve.Lock()
	defer d.reserve.Unlock()
	d.reserve.spent.Store(true)
	err := d.fs.Remove(filepath.Join(d.path, ReserveFile))
	return !errors.Is(err, fs.ErrNotExist) && err == nil
}

// Full reports that the reserve is spent: records are refused until Restore
// finds space again.
func (d *Dir) Full() bool { return d.reserve.spent.Load() }

// Low reports that there is less space than Restore wants to see: deletion
// should not wait.
func (d *Dir) Low() bool {
	free, _, err := d.Free()
	return err == nil && free < 2*reserveBytes
}

// Restore makes the reserve anew if it is spent and there is space for it and
// as much again; it reports whether there is a reserve. To be called every few
// seconds and after every deletion.
func (d *Dir) Restore() bool {
	d.reserve.Lock()
	defer d.reserve.Unlock()
	if !d.Full() {
		return true
	}
	// With less the next appends would fill the disk at once.
	if free, _, err := d.Free(); err != nil || free < 2*reserveBytes {
		return false
	}
	d.reserve.spent.Store(d.makeReserve() != nil)
	return !d.Full()
}
