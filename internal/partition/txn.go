package partition

import (
	"time"

	"github.com/barnabas-log/barnabas/internal/producers"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// SetUnverified says that transactions may begin here without their coordinator
// being asked (transaction.partition.verification.enable=false).
func (p *Partition) SetUnverified(v bool) { p.unverified.Store(v) }

// VerifyTransaction is called before a transactional batch of a producer, whose
// first sequence is in pr, is appended. If it returns producers.NoGuard, the
// producer has a transaction open here. Else the transaction's coordinator has
// to be asked whether it knows this partition; after a yes, the batch is appended
// with the guard. startAtZero is for clients of transactions version 2, whose
// partitions the broker adds to the transaction itself: they are always asked
// for.
//
// ErrNotLeader, ErrOffline, [producers.ErrInvalidEpoch].
func (p *Partition) VerifyTransaction(pr record.Producer, startAtZero bool, now time.Time) (producers.Guard, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch err := p.usableLocked(); {
	case err != nil:
		return producers.NoGuard, err
	case !startAtZero && p.unverified.Load():
		return producers.NoGuard, nil
	}
	return p.mu.producers.Verify(now, pr, startAtZero)
}

// ConfirmTransaction says that the coordinator has said yes, where the batch is
// not appended by who asked: that of a coordinator, with a client's offsets.
func (p *Partition) ConfirmTransaction(id model.ProducerID, epoch int16, g producers.Guard) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.producers.Confirm(id, epoch, g)
}

// Marker is the end of a transaction in a partition.
type Marker struct {
	ProducerID       model.ProducerID
	ProducerEpoch    int16
	CoordinatorEpoch int32
	Committed        bool
	// TransactionVersion is that of the coordinator: from 2 on, the marker's
	// epoch is above that of the transaction.
	TransactionVersion int16
}

func (m *Marker) batch(now time.Time) record.Batch {
	kind := record.Abort
	if m.Committed {
		kind = record.Commit
	}
	return record.EndTxnMarker(m.ProducerID, m.ProducerEpoch, m.CoordinatorEpoch, kind, now.UnixMilli())
}

func (m *Marker) check() producers.CheckOptions {
	return producers.CheckOptions{Origin: producers.Coordinator, TransactionVersion: m.TransactionVersion}
}

// AppendMarker ends a producer's transaction. A repeated marker is appended once
// more and changes nothing. Readers of committed transactions go on when the
// marker is committed, for which there have to be enough replicas in sync.
//
// Besides what Append refuses: [producers.ErrInvalidEpoch] and
// [producers.ErrCoordinatorFenced].
func (p *Partition) AppendMarker(m Marker, now time.Time) (Appended, error) {
	if p.config.Load().Dafka {
		return p.noTransactions()
	}
	return p.append(m.batch(now), terms{acksAll: true, epoch: model.NoEpoch, check: m.check()}, now)
}

// CheckMarker says whether a marker would be refused by what is known of its
// producer.
func (p *Partition) CheckMarker(m Marker) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := p.mu.producers.Check(m.batch(time.Time{}), m.check())
	return err
}

// CheckCoordinated says whether a coordinator's transactional batch would be
// refused by what is known of its producer.
func (p *Partition) CheckCoordinated(pr record.Producer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.producers.CheckCoordinated(pr, p.unverified.Load())
}

// AppendInEpoch appends a batch that a coordinator has made, or a marker, while
// this replica leads in the epoch: else ErrFencedEpoch, ErrUnknownEpoch or
// ErrNotLeader. Sequences are not checked.
func (p *Partition) AppendInEpoch(epoch model.Epoch, b record.Batch, now time.Time) (Appended, error) {
	return p.append(b, terms{acksAll: true, epoch: epoch, check: producers.CheckOptions{Origin: producers.Coordinator}}, now)
}

// Replay calls each with all batches of the log, whether they are committed or
// not, and returns where the log ended. A batch is valid during the call.
func (p *Partition) Replay(each func(record.Batch) error) (model.Offset, error) {
	log := p.Log()
	end := log.End()
	err := log.Scan(log.Start(), func(b record.Batch) error {
		end = max(end, b.End())
		return each(b)
	})
	return end, err
}

// OldestTransaction returns the open transaction that holds the stable offset,
// if there is one.
func (p *Partition) OldestTransaction() (producers.Oldest, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.producers.OldestOpen()
}
