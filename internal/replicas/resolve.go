package replicas

import (
	"cmp"
	"slices"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// What a start finds of moves that an end of the process interrupted: see move.

// found is a directory of a log.
type found struct {
	disk *disk
	datadir.LogDir
}

func (f found) path() string { return f.disk.dir.LogPath(f.Name) }

// survey lists the directories of all disks. A disk that cannot be read is left
// out, with its error.
func (r *Replicas) survey() (all []found, errs map[*disk]error) {
	errs = map[*disk]error{}
	for _, d := range r.disks {
		logs, err := d.dir.Logs()
		if err != nil {
			errs[d] = err
			continue
		}
		for _, l := range logs {
			all = append(all, found{d, l})
		}
	}
	return all, errs
}

// sortOut decides which of the directories to look at, by disk: one for each
// partition, and none of copies, of which it takes up the moves.
func (r *Replicas) sortOut(ours map[model.Partition]*metadata.Topic, all []found) map[*disk][]datadir.LogDir {
	live, futures := map[model.Partition][]found{}, map[model.Partition][]found{}
	open := map[*disk][]datadir.LogDir{}
	for _, f := range all {
		switch {
		case f.Kind == datadir.Future:
			futures[f.Partition] = append(futures[f.Partition], f)
		case f.Kind == datadir.Live && ours[f.Partition] != nil:
			live[f.Partition] = append(live[f.Partition], f)
		default:
			open[f.disk] = append(open[f.disk], f.LogDir)
		}
	}
	home := map[model.Partition]*disk{}
	for p, fs := range live {
		for _, f := range r.choose(p, ours[p], fs) {
			open[f.disk] = append(open[f.disk], f.LogDir)
			home[p] = f.disk
		}
	}
	for p, fs := range futures {
		r.resume(p, ours[p], fs, home[p])
	}
	return open
}

// choose picks the directories of a partition that loadOne is to look at.
func (r *Replicas) choose(p model.Partition, t *metadata.Topic, fs []found) []found {
	if len(r.disks)+len(r.opts.Unusable) == 1 {
		return fs
	}
	// What is of another topic of the same name, or unreadable, is put away later.
	same, others := fs, []found(nil)
	if len(fs) > 1 {
		same = slices.DeleteFunc(slices.Clone(fs), func(f found) bool {
			id, known, err := f.disk.dir.TopicID(f.Name)
			return err != nil || known && id != t.ID
		})
		others = slices.DeleteFunc(slices.Clone(fs), func(f found) bool { return slices.Contains(same, f) })
	}
	if len(same) > 1 {
		same = r.chooseLongest(p, t, same)
	}
	if len(same) == 1 && !r.mayServe(p, t, same[0]) {
		same = nil
	}
	return append(same, others...)
}

// mayServe reports whether the only directory that was found of a partition is
// the partition. If it is not where the cluster believes, and a directory cannot
// be read, the partition may be there.
func (r *Replicas) mayServe(p model.Partition, t *metadata.Topic, f found) bool {
	from, moved, err := f.disk.dir.MovedFrom(p)
	if err != nil {
		r.opts.Log.Error("directory unreadable", "dir", f.path(), "err", err)
	}
	believed := r.believed(t.Partitions[p.Index])
	if moved && r.diskByID(from) != nil {
		f.disk.failUnlessShort("settle", f.disk.dir.Settle(p)) // What it left was put away.
		return true
	}
	if believed.IsZero() || believed == f.disk.id() || r.diskByID(believed) != nil || len(r.opts.Unusable) == 0 {
		return true
	}
	r.opts.Log.Error("partition offline: it lies in a data directory that cannot be used, and what is here may be older; to use that, remove the other directory from log.dirs",
		"topic", p.Topic, "partition", p.Index, "dir", f.path())
	return false
}

func (r *Replicas) diskByID(id model.UUID) *disk {
	i := slices.IndexFunc(r.disks, func(d *disk) bool { return d.id() == id })
	if i < 0 {
		return nil
	}
	return r.disks[i]
}

// chooseLongest compares several directories of one partition: a move was
// interrupted, or somebody made a copy by hand. The one with most records is the
// partition; if that does not decide, the one that the cluster believes in.
func (r *Replicas) chooseLongest(p model.Partition, t *metadata.Topic, fs []found) []found {
	believed := r.believed(t.Partitions[p.Index])
	ends := map[found]model.Offset{}
	start := model.Offset(0)
	for _, f := range fs {
		begin, end, err := f.disk.extent(f)
		if err != nil {
			r.opts.Log.Error("one of several directories of a partition is unreadable", "dir", f.path(), "err", err)
			ends[f] = model.NoOffset
			continue
		}
		ends[f], start = end, max(start, begin)
	}
	best := slices.MaxFunc(fs, func(a, b found) int {
		believe := func(f found) int {
			if f.disk.id() == believed {
				return 1
			}
			return 0
		}
		return cmp.Or(cmp.Compare(ends[a], ends[b]), believe(a)-believe(b))
	})
	// What was deleted stays so, whichever of them was told.
	best.disk.failUnlessShort("start", best.disk.raiseStart(p, start))
	for _, f := range fs {
		if f != best {
			r.putAwayOther(p, best, f)
		}
	}
	return []found{best}
}

// extent opens a log to see where it starts and ends.
func (d *disk) extent(f found) (start, end model.Offset, err error) {
	var l *commitlog.Log
	err = d.dir.Spend(func() (err error) {
		l, err = commitlog.Open(d.dir.FS(), f.path(), d.logOptions(f.Partition, true))
		return err
	})
	if err != nil {
		return 0, 0, err
	}
	return l.Start(), l.End(), l.Close()
}

// raiseStart has a log start no lower, from its opening on, durably.
func (d *disk) raiseStart(p model.Partition, start model.Offset) error {
	if !d.recovery.Known {
		d.recovery.LogStarts[p] = max(d.recovery.LogStarts[p], start)
		return nil
	}
	m := d.recovery.Marks[p]
	if m.Start >= start {
		return nil
	}
	if m.IsZero() {
		m = commitlog.Mark{MaxTimestamp: record.NoTimestamp, Producers: true}
	}
	m.Start = start
	d.recovery.Marks[p] = m
	d.mu.Lock()
	d.mu.marks[p] = m
	d.mu.Unlock()
	return d.writeMarks(false)
}

// putAwayOther puts away the directory that is not the partition: what a move
// left goes, what nobody knows of stays under another name.
func (r *Replicas) putAwayOther(p model.Partition, best, f found) {
	kind := datadir.Stray
	for _, x := range []struct{ here, there *disk }{{best.disk, f.disk}, {f.disk, best.disk}} {
		if from, moved, err := x.here.dir.MovedFrom(p); err == nil && moved && from == x.there.id() {
			kind = datadir.Deleted
		}
	}
	f.disk.forgetMark(p)
	name, err := f.disk.dir.RetireLog(p, kind, r.opts.Random)
	if err != nil {
		r.opts.Log.Error("one of several directories of a partition not put away", "dir", f.path(), "err", err)
		return
	}
	r.opts.Log.Warn("one of several directories of a partition put away", "dir", f.disk.dir.LogPath(name), "instead", best.path())
	if kind == datadir.Deleted {
		f.disk.forgetLater(name)
	}
}

// resume takes up the move of a partition from the copy that was found, or drops
// copies that nobody needs.
func (r *Replicas) resume(p model.Partition, t *metadata.Topic, fs []found, home *disk) {
	taken := false
	for _, f := range fs {
		id, known, err := f.disk.dir.TopicID(f.Name)
		switch {
		case err == nil && known && t != nil && id == t.ID && home == nil:
			r.opts.Log.Warn("copy of a partition that is offline is left alone", "dir", f.path())
		case err == nil && known && t != nil && id == t.ID && home != f.disk && f.disk.recovery.Known && !taken:
			taken = true
			r.enqueueMove(&move{p: p, to: f.disk, name: f.Name})
		default:
			f.disk.forgetLater(f.Name)
		}
	}
}
