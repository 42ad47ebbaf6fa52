package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/model"
)

// Recovery is what a data directory says at start about how far its logs can be
// trusted.
type Recovery struct {
	// Clean and BrokerEpoch are those of the clean shutdown file.
	Clean       bool
	BrokerEpoch int64
	// Known says that the marks are ours and current.
	Known bool
	Marks Marks
	// RecoveryPoints, LogStarts and HighWatermarks are Kafka's checkpoints.
	RecoveryPoints, LogStarts, HighWatermarks Offsets
	// Damaged are errors of checkpoints that a start can do without: the next
	// ones replace them.
	Damaged []error
}

// TakeRecovery reads the marks and checkpoints and takes the clean shutdown
// file away. A damaged checkpoint ends nothing where the marks know better, nor
// where it only costs time.
func (d *Dir) TakeRecovery() (Recovery, error) {
	r, err := d.readRecovery(func(r *Recovery, file string) bool { return r.Known || file != LogStartFile })
	if errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("%w: restore it, or delete it: then what DeleteRecords took may be there again", err)
	}
	if err == nil {
		r.BrokerEpoch, r.Clean, err = d.TakeClean()
	}
	return r, err
}

// PeekRecovery is TakeRecovery for who leaves everything as it is.
func (d *Dir) PeekRecovery() (Recovery, error) {
	r, err := d.readRecovery(func(*Recovery, string) bool { return false })
	if err != nil {
		return r, err
	}
	r.BrokerEpoch = -1
	_, err = d.fs.Stat(filepath.Join(d.path, CleanFile))
	if r.Clean = err == nil; errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return r, err
}

func (d *Dir) readRecovery(dispensable func(r *Recovery, file string) bool) (r Recovery, err error) {
	if r.Marks, r.Known, err = d.Marks(); err != nil {
		return r, err
	}
	for file, to := range map[string]*Offsets{
		RecoveryPointFile: &r.RecoveryPoints, LogStartFile: &r.LogStarts, HighWatermarkFile: &r.HighWatermarks,
	} {
		switch *to, err = d.Checkpoint(file); {
		case err == nil:
		case errors.Is(err, ErrDamaged) && dispensable(&r, file):
			*to, r.Damaged = Offsets{}, append(r.Damaged, err)
		default:
			return r, err
		}
	}
	return r, nil
}

// Options fills in what commitlog.Open has to know of one log.
func (r *Recovery) Options(p model.Partition, o commitlog.Options) commitlog.Options {
	if r.Known {
		// A log without a mark was made since the marks were written.
		o.Mark = r.Marks[p]
		return o
	}
	o.Start = r.LogStarts[p]
	o.Clean = r.Clean
	o.RecoveryPoint = r.RecoveryPoints[p]
	o.Foreign = true
	return o
}
