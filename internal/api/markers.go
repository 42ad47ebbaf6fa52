package api

import (
	"sync"

	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/coordinator/group"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// WriteMarker writes a marker to a partition of this node, and calls done when
// it is committed, or with the reason why it is not. One of a partition of
// offsets goes through its group coordinator, which has to know.
func (a *API) WriteMarker(p model.Partition, m partition.Marker, done func(error)) {
	if p.Topic == controller.OffsetsTopic {
		a.markOffsets(p.Index, m, done)
		return
	}
	replica, err := a.opts.Replicas.Partition(p)
	if err != nil {
		done(err)
		return
	}
	at, err := replica.AppendMarker(m, a.opts.Now())
	if err != nil {
		done(err)
		return
	}
	w := &commitWait{replica: replica, at: at, done: done}
	w.Wake()
}

func (a *API) markOffsets(shard int32, m partition.Marker, done func(error)) {
	in := group.Marker{
		Producer:  record.Producer{ID: m.ProducerID, Epoch: m.ProducerEpoch, Sequence: record.NoSequence},
		Committed: m.Committed, CoordinatorEpoch: m.CoordinatorEpoch, TransactionVersion: m.TransactionVersion,
	}
	err := a.opts.Groups.Submit(shard, in, func(answer any, err error) {
		if err == nil {
			if c := answer.(wire.ErrorCode); c != wire.None {
				err = c
			}
		}
		done(err)
	})
	if err != nil {
		done(err)
	}
}

// commitWait calls done once what was appended is committed, or never will be.
type commitWait struct {
	replica *partition.Partition
	at      partition.Appended
	mu      sync.Mutex
	done    func(error) // Nil once it was called.
}

// Wake looks at the partition. See [partition.Waker].
func (w *commitWait) Wake() {
	for {
		ok, err := w.replica.Acknowledged(w.at.End, w.at.Epoch)
		if ok || err != nil {
			w.finish(err)
			return
		}
		if w.replica.AwaitCommitted(w.at.End, w.at.Epoch, w) {
			return
		}
	}
}

func (w *commitWait) finish(err error) {
	w.mu.Lock()
	done := w.done
	w.done = nil
	w.mu.Unlock()
	if done != nil {
		done(err)
	}
}

// writeTxnMarkers is what other coordinators ask for, and administrators who
// end a transaction that hangs.
func (s *session) writeTxnMarkers(c *call, q *wire.WriteTxnMarkersRequest) {
	r := wire.NewWriteTxnMarkersResponse()
	p := s.coordinated(c)
	var mu sync.Mutex
	left := 1 // This function.
	one := func() {
		mu.Lock()
		defer mu.Unlock()
		if left--; left == 0 {
			p.give(r)
		}
	}
	for i := range q.Markers {
		in := &q.Markers[i]
		x := wire.Extend(&r.Markers)
		x.ProducerID = in.ProducerID
		x.Topics = make([]wire.WriteTxnMarkersResponseWritableTxnMarkerTopicResult, len(in.Topics))
		for j := range in.Topics {
			t := &x.Topics[j]
			t.Name = in.Topics[j].Name
			t.Partitions = make([]wire.WriteTxnMarkersResponseWritableTxnMarkerPartitionResult, len(in.Topics[j].PartitionIndexes))
			mu.Lock()
			left += len(t.Partitions)
			mu.Unlock()
			for k, index := range in.Topics[j].PartitionIndexes {
				out := &t.Partitions[k]
				out.PartitionIndex = index
				s.mark(in, model.Partition{Topic: t.Name, Index: index}, func(err error) {
					out.ErrorCode = int16(code(err))
					one()
				})
			}
		}
	}
	one()
	p.park()
}

func (s *session) mark(in *wire.WriteTxnMarkersRequestWritableTxnMarker, p model.Partition, done func(error)) {
	if !exists(s.opts.Metadata.Image(), p.Topic, p.Index) {
		done(wire.UnknownTopicOrPartition)
		return
	}
	s.WriteMarker(p, partition.Marker{
		ProducerID: model.ProducerID(in.ProducerID), ProducerEpoch: in.ProducerEpoch, CoordinatorEpoch: in.CoordinatorEpoch,
		Committed: in.TransactionResult, TransactionVersion: int16(in.TransactionVersion),
	}, done)
}
