package replicas

import (
	"errors"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
)

// LogDir is a data directory and what lies in it.
type LogDir struct {
	Path string
	// Err is why it cannot be used, or nil; then nothing else is known.
	Err      error
	Usage    vfs.Usage
	Cordoned bool
	Logs     []LogInDir
}

// LogInDir is the log of a partition, or a copy of it.
type LogInDir struct {
	Partition model.Partition
	Bytes     int64
	// Lag is how many offsets it lacks: of a copy compared with the log, of a log
	// compared with what is committed.
	Lag int64
	// Future says that it is a copy that is to take the log's place.
	Future bool
}

// LogDirs describes the data directories of this node, those that cannot be used
// among them.
func (r *Replicas) LogDirs() []LogDir {
	dirs := make([]LogDir, 0, len(r.disks)+len(r.opts.Unusable))
	for _, d := range r.disks {
		dirs = append(dirs, d.describe())
	}
	for _, u := range r.opts.Unusable {
		dirs = append(dirs, LogDir{Path: u.Path, Err: errors.Join(ErrDirFailed, u.Err)})
	}
	return dirs
}

func (d *disk) describe() LogDir {
	l := LogDir{Path: d.dir.Path(), Err: d.hasFailed()}
	if l.Err != nil {
		return l
	}
	if l.Usage, l.Err = d.dir.Usage(); l.Err != nil {
		return l
	}
	l.Cordoned = d.cordoned(d.owner.config.Load())
	d.each(func(x *replica) {
		s, _ := x.State(model.NoEpoch)
		l.Logs = append(l.Logs, LogInDir{Partition: x.ID, Bytes: x.Log().Size(), Lag: int64(max(0, s.Committed-s.End))})
	})
	for _, m := range d.owner.movesTo(d) {
		if x := d.owner.entry(m.p); x != nil && x.err == nil {
			lag := int64(x.Log().End()) - m.end.Load()
			l.Logs = append(l.Logs, LogInDir{Partition: x.ID, Bytes: m.size.Load(), Lag: lag, Future: true})
		}
	}
	return l
}

// movesTo are the moves to a disk that have not taken their place.
func (r *Replicas) movesTo(d *disk) (to []*move) {
	r.moves.Lock()
	defer r.moves.Unlock()
	for _, m := range r.moves.under {
		if m.to == d {
			to = append(to, m)
		}
	}
	return to
}
