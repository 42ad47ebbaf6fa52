package partition

import (
	"errors"

	"github.com/barnabas-log/barnabas/model"
)

// ErrKept says that the records of a topic that is compacted, and nothing else,
// cannot be deleted.
var ErrKept = errors.New("partition: records are kept by the topic's policy")

// ToCommitted asks Trim for everything that is committed.
const ToCommitted model.Offset = -1

// Trim ends reading of the records before an offset, which must be committed,
// and returns where the log starts now: there, or higher. It is not durable
// until who keeps the directory has kept a mark; what lies before goes with the
// next Retain.
//
// ErrKept, ErrOutOfRange, ErrNotLeader, ErrOffline.
func (p *Partition) Trim(to model.Offset) (start model.Offset, err error) {
	var w woken
	defer w.wake()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.usableLocked(); err != nil {
		return model.NoOffset, err
	}
	committed := p.mu.replica.Committed()
	switch cfg := p.config.Load(); {
	case cfg.Compact && !cfg.Delete:
		return model.NoOffset, ErrKept
	case to == ToCommitted:
		to = committed
	case to < 0 || to > committed:
		return model.NoOffset, ErrOutOfRange
	}
	if err := p.Log().SetStart(to); err != nil {
		return model.NoOffset, err
	}
	start = p.Log().Start()
	p.mu.producers.LogStart(start)
	p.mu.waiters.noReaders(&w) // Who waits below the start has to be told.
	return start, nil
}
