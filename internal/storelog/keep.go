package storelog

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/model"
)

// markInterval is how much a recovery may have to read, in time.
const markInterval = 5 * time.Second

// keeper is what Keep and makeRoom know.
type keeper struct {
	marks datadir.Marks
	at    map[model.Partition]model.Offset // The end at the last mark.
}

func (k *keeper) init() { k.at = map[model.Partition]model.Offset{} }

// Keep takes marks, lets retention delete, and closes idle files, until ctx ends.
func (l *Logs) Keep(ctx context.Context) {
	tick := time.NewTicker(markInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := l.mark(); err != nil {
				l.o.Log.Error("marks not taken", "dir", l.dir.Path(), "err", err)
			}
		}
	}
}

// mark notes how far each log is durable, so that the next start need not read
// what lies below.
func (l *Logs) mark() error {
	var errs []error
	fresh := maps.Clone(l.keep.marks)
	changed := false
	take := func(name model.Partition, log *commitlog.Log) {
		if have, ok := fresh[name]; ok && have.Offset == log.End() && have.Start == log.Start() || log.Err() != nil {
			return
		}
		m, err := log.Checkpoint(nil)
		if err != nil {
			errs = append(errs, err)
			return
		}
		fresh[name], changed = m, true
	}
	for _, p := range l.Partitions() {
		if log := p.log.Load(); log != nil {
			take(p.name, log)
		}
	}
	take(manifestName, l.manifest)
	if changed {
		if err := l.dir.WriteMarks(fresh, false); err != nil {
			return errors.Join(append(errs, err)...)
		}
		l.keep.marks = fresh
	}
	return errors.Join(errs...)
}

// makeRoom is told of every write before it.
func (l *Logs) makeRoom(int64) {}
