package quorum

import (
	"errors"
	"fmt"
	"slices"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// A log is cut at its first bad byte when it is opened: that is where a crash
// tore it. Where a disk forgot what it had synced, that would take the topics
// behind it, and what they hold would be put away. So the log is looked at
// before anything of it is changed.

// errUnsound ends the walk over a log at its first bad batch.
var errUnsound = errors.New("a batch that was synced is not whole")

// checkSound refuses a log that is damaged below what was synced, as far as
// that is known.
func (q *Quorum) checkSound(snapshot model.Offset) error {
	if q.opts.Synced <= snapshot {
		return nil
	}
	end, at, err := q.soundEnd()
	if err != nil || end >= q.opts.Synced {
		return err
	}
	return fmt.Errorf("%s: damaged: it was synced up to offset %d, and is whole up to %d (%s): restore the directory from a backup, "+
		"or delete barnabas-applied to go on without what is lost: topics and settings", q.dir, q.opts.Synced, max(end, snapshot), at)
}

// soundEnd is the offset before which the log has all batches, whole and in
// order, and where that ends.
func (q *Quorum) soundEnd() (end model.Offset, at string, err error) {
	segments, err := q.segments()
	if err != nil || len(segments) == 0 {
		return 0, "there is no segment", err
	}
	end = segments[0]
	for _, base := range segments {
		at = commitlog.FileName(base, ".log")
		pos := int64(0)
		err := commitlog.EachBatch(q.fs, q.path(at), func(p int64, b record.Batch) error {
			pos = p
			if b.BaseOffset() != end || b.CRC() != b.ComputeCRC() {
				return errUnsound
			}
			end = b.End()
			return nil
		})
		var damage *commitlog.Damage
		switch {
		case errors.As(err, &damage):
			return end, fmt.Sprintf("%s, byte %d", at, damage.Position), nil
		case errors.Is(err, errUnsound):
			return end, fmt.Sprintf("%s, byte %d", at, pos), nil
		case err != nil:
			return end, at, err
		}
	}
	return end, at, nil
}

// segments are the bases of the log's segments, in order.
func (q *Quorum) segments() (bases []model.Offset, err error) {
	infos, err := q.fs.ReadDir(q.dir)
	for _, i := range infos {
		if base, suffix, ok := commitlog.ParseFileName(i.Name); ok && suffix == ".log" {
			bases = append(bases, base)
		}
	}
	slices.Sort(bases)
	return bases, err
}
