package partition

import (
	"errors"
	"fmt"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// ErrForeign says that the partition is that of a Dafka producer, whose numbers
// are the offsets: nobody else can append. Nor can Dafka producers elsewhere.
var ErrForeign = errors.New("partition: only a topic's Dafka producers, or only others, write to it")

// AppendNumbered appends a batch whose records have their offsets already: at
// the end of the log or, where what was between is gone for good, above it. An
// empty log begins there then. The rest is as with AppendWith.
//
// Besides what Append refuses: [commitlog.ErrNotNext], for offsets that the log
// has.
func (p *Partition) AppendNumbered(b record.Batch, now time.Time) (Appended, error) {
	if !p.config.Load().Dafka {
		return Appended{}, ErrForeign
	}
	return p.append(b, terms{acksAll: true, epoch: model.NoEpoch, numbered: true}, now)
}

// appendNumberedLocked is what AppendNumbered does to the log.
func (p *Partition) appendNumberedLocked(b record.Batch, epoch model.Epoch) (base, end model.Offset, err error) {
	log, first := p.Log(), b.BaseOffset()
	switch at := log.End(); {
	case first < at:
		return model.NoOffset, at, fmt.Errorf("%w: %d, end %d", commitlog.ErrNotNext, first, at)
	case first > at && log.Size() == 0:
		if err := log.TruncateFullyAndStartAt(first); err != nil {
			return model.NoOffset, at, err
		}
	}
	b.SetLeaderEpoch(epoch)
	end, err = log.AppendAt(b)
	return first, end, err
}

// noTransactions is the answer to a marker for a partition in which no
// transaction can have begun.
func (p *Partition) noTransactions() (Appended, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.mu.replica.Committed()
	return Appended{Base: at, End: at, LogAppendTime: record.NoTimestamp, LogStart: p.Log().Start(), Epoch: p.mu.replica.Epoch()}, p.usableLocked()
}
