package broker

import (
	"errors"
	"fmt"
	"time"

	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// coordLog is the log of a coordinator's shard: a partition that this node
// leads.
type coordLog struct {
	partition *partition.Partition
	now       func() time.Time
}

var (
	_ coordinator.Log      = coordLog{}
	_ coordinator.Admitter = coordLog{}
)

// Append implements [coordinator.Log].
func (l coordLog) Append(epoch model.Epoch, b record.Batch) (model.Offset, error) {
	a, err := l.partition.AppendInEpoch(epoch, b, l.now())
	return a.End, shardError(err)
}

// Acknowledged implements [coordinator.Log].
func (l coordLog) Acknowledged(end model.Offset, epoch model.Epoch) (bool, error) {
	done, err := l.partition.Acknowledged(end, epoch)
	return done, shardError(err)
}

// AwaitCommitted implements [coordinator.Log].
func (l coordLog) AwaitCommitted(end model.Offset, epoch model.Epoch, w coordinator.Waker) bool {
	return l.partition.AwaitCommitted(end, epoch, w)
}

// Replay implements [coordinator.Log].
func (l coordLog) Replay(each func(record.Batch) error) (model.Offset, error) {
	end, err := l.partition.Replay(each)
	return end, shardError(err)
}

// Admit implements [coordinator.Admitter].
func (l coordLog) Admit(b coordinator.Batch) error {
	if b.Marker == nil {
		return l.partition.CheckCoordinated(*b.Producer)
	}
	return l.partition.CheckMarker(partition.Marker{
		ProducerID: b.Producer.ID, ProducerEpoch: b.Producer.Epoch, Committed: b.Marker.Committed,
		CoordinatorEpoch: b.Marker.CoordinatorEpoch, TransactionVersion: b.Marker.TransactionVersion,
	})
}

// shardError tells a shard whether its epoch is over.
func shardError(err error) error {
	for _, over := range []error{partition.ErrNotLeader, partition.ErrFencedEpoch, partition.ErrUnknownEpoch} {
		if errors.Is(err, over) {
			return fmt.Errorf("%w: %w", coordinator.ErrNotCoordinator, err)
		}
	}
	return err
}
