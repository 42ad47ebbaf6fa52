package replicas

import (
	"errors"

	"github.com/barnabas-log/barnabas/model"
)

// Where a log starts must not fall back once somebody was told: not in a crash,
// where Kafka's may by the minute between two checkpoints. So a mark is taken,
// and Kafka's checkpoint written, before the answer. Those who come meanwhile
// share the next one.

// starts are the partitions whose start has moved and is not durable.
type starts map[model.Partition]*replica

// KeepStarts makes durable where partitions start after [partition.Partition.Trim],
// and has the segments removed that lie before. It returns an error or nil for
// each.
func (r *Replicas) KeepStarts(ps []model.Partition) []error {
	errs := make([]error, len(ps))
	byDisk := map[*disk][]*replica{}
	for i, p := range ps {
		x := r.entry(p)
		switch {
		case x == nil:
			errs[i] = ErrUnknown
		case x.err != nil:
			errs[i] = x.err
		default:
			byDisk[x.disk] = append(byDisk[x.disk], x)
		}
	}
	failed := map[model.Partition]error{}
	for d, some := range byDisk {
		d.keepStarts(some, failed)
	}
	for i, p := range ps {
		if errs[i] == nil {
			errs[i] = failed[p]
		}
	}
	return errs
}

// keepStarts notes in failed the partitions for which it could not be done.
func (d *disk) keepStarts(moved []*replica, failed map[model.Partition]error) {
	mine := map[*replica]bool{}
	d.mu.Lock()
	for _, x := range moved {
		mine[x], d.mu.starts[x.ID] = true, x
	}
	d.mu.Unlock()

	d.keeping.Lock()
	defer d.keeping.Unlock()
	todo := d.startsToKeep(mine)
	if len(todo) == 0 {
		return // Somebody else did it meanwhile.
	}
	errs := d.keepStartsOf(todo)
	d.mu.Lock()
	for i, x := range todo {
		if errs[i] == nil {
			delete(d.mu.starts, x.ID)
		}
	}
	d.mu.Unlock()
	for i, x := range todo {
		if errs[i] != nil && mine[x] {
			failed[x.ID] = errs[i]
			d.judge(errs[i])
		}
		d.trimmed(x.Partition)
	}
}

// startsToKeep are all that wait, if one of mine still does.
func (d *disk) startsToKeep(mine map[*replica]bool) (todo []*replica) {
	d.mu.Lock()
	defer d.mu.Unlock()
	waits := false
	for p, x := range d.mu.starts {
		if !mine[x] && d.replicaOf(x.Partition) == nil {
			delete(d.mu.starts, p) // Nobody waits: its topic was deleted.
			continue
		}
		waits = waits || mine[x]
		todo = append(todo, x)
	}
	if !waits {
		return nil
	}
	return todo
}

// keepStartsOf takes marks and writes them. It returns an error or nil for each.
// Caller holds keeping.
func (d *disk) keepStartsOf(moved []*replica) []error {
	err := d.hasFailed()
	errs := make([]error, len(moved))
	if err == nil {
		errs = d.markSome(moved)
		err = errors.Join(d.writeMarks(false), d.checkpointStarts())
	}
	for i, x := range moved {
		errs[i] = errors.Join(errs[i], err)
		if errs[i] == nil && d.replicaOf(x.Partition) == nil {
			errs[i] = ErrUnknown // Deleted or moved away meanwhile.
		}
	}
	return errs
}
