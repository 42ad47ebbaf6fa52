package commitlog

import (
	"errors"
	"io/fs"
	"slices"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
)

// maxSnapshot bounds what is read of a snapshot: 66 bytes for each entry of each
// producer.
const maxSnapshot = 1 << 30

// WriteSnapshot writes the producer state at an offset. It is not durable until
// the next mark; its own checksum tells whether it survived.
func (l *Log) WriteSnapshot(at model.Offset, b []byte) error {
	f, err := l.fs.Create(l.path(at, snapshotSuffix))
	if err != nil {
		return l.wrap("snapshot", err)
	}
	_, err = f.WriteAt(b, 0)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return l.wrap("snapshot", err)
}

// LatestSnapshot returns the newest snapshot at or below an offset. It may be
// damaged: the caller, who knows the format, then asks below it.
func (l *Log) LatestSnapshot(notAfter model.Offset) (at model.Offset, b []byte, ok bool, err error) {
	list, err := l.snapshots()
	if err != nil {
		return 0, nil, false, l.wrap("snapshot", err)
	}
	for _, at := range slices.Backward(list) {
		if at > notAfter {
			continue
		}
		b, err := vfs.ReadFile(l.fs, l.path(at, snapshotSuffix), maxSnapshot)
		return at, b, err == nil, l.wrap("snapshot", err)
	}
	return 0, nil, false, nil
}

// RecoveredFrom is the end of what Open could trust. Producer state comes from
// the newest snapshot at or below it, or from EmptyUntil, or from the start of
// the log, and from there on by replaying batches, which also brings back the
// aborted transactions above it.
func (l *Log) RecoveredFrom() model.Offset {
	l.append.Lock()
	defer l.append.Unlock()
	return max(l.vouched, l.Start())
}

// EmptyUntil returns the offset of the last mark if producer state was empty
// there: then no snapshot is needed, and nothing below to replay.
func (l *Log) EmptyUntil() (at model.Offset, ok bool) {
	l.append.Lock()
	defer l.append.Unlock()
	m := l.mark
	return m.Offset, !m.IsZero() && !m.Producers && m.Offset >= l.Start() && m.Offset <= l.End()
}

func (l *Log) snapshots() ([]model.Offset, error) {
	infos, err := l.fs.ReadDir(l.dir)
	if err != nil {
		return nil, err
	}
	var list []model.Offset
	for _, info := range infos {
		if at, suffix, ok := ParseFileName(info.Name); ok && suffix == snapshotSuffix {
			list = append(list, at)
		}
	}
	slices.Sort(list)
	return list, nil
}

// removeSnapshots removes those above an offset, after a truncation.
func (l *Log) removeSnapshots(above model.Offset) error {
	list, err := l.snapshots()
	if err != nil {
		return err
	}
	for _, at := range list {
		if at > above {
			if err := l.fs.Remove(l.path(at, snapshotSuffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// trimSnapshots keeps those at the base of a segment and the two newest: the last
// but one belongs to the mark that the caller replaces.
func (l *Log) trimSnapshots() {
	list, err := l.snapshots()
	if err != nil {
		return // Tidiness only.
	}
	l.mu.Lock()
	bases := make(map[model.Offset]bool, len(l.mu.segments))
	for _, s := range l.mu.segments {
		bases[s.base] = true
	}
	l.mu.Unlock()
	for i, at := range list {
		if i < len(list)-2 && !bases[at] {
			l.fs.Remove(l.path(at, snapshotSuffix))
		}
	}
}
