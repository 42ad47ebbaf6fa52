package producers

import (
	"cmp"
	"slices"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// txn is a transaction that holds the stable offset.
type txn struct {
	producer model.ProducerID
	first    model.Offset
	marker   model.Offset // offset of the marker, once there is one
	since    int64        // timestamp of the first batch
}

func byFirst(t txn, first model.Offset) int { return cmp.Compare(t.first, first) }

// insert keeps ts in the order of first offsets. Nearly always t is the last.
func insert(ts []txn, t txn) []txn {
	i, _ := slices.BinarySearchFunc(ts, t.first, byFirst)
	return slices.Insert(ts, i, t)
}

// Completed is a transaction that a marker ended: a line of the .txnindex if it
// was aborted.
type Completed struct {
	ProducerID  model.ProducerID
	FirstOffset model.Offset
	// LastOffset is the marker's.
	LastOffset model.Offset
	Aborted    bool
	// LastStable is the stable offset that this end would give, were all of it
	// committed: the first offset of the next open transaction, or one past
	// the marker.
	LastStable model.Offset
}

func (s *State) applyMarker(b record.Batch, c record.Control) (Completed, bool) {
	p := s.touch(b.ProducerID())
	p.enter(b.ProducerEpoch())
	p.coordinatorEpoch, p.lastTimestamp = c.CoordinatorEpoch, b.MaxTimestamp()
	if p.txnFirst == model.NoOffset {
		return Completed{}, false // A transaction without data here, or a repeated marker.
	}
	done := Completed{
		ProducerID: p.id, FirstOffset: p.txnFirst, LastOffset: b.BaseOffset(), Aborted: c.Type == record.Abort,
		LastStable: b.BaseOffset() + 1,
	}
	if i, ok := slices.BinarySearchFunc(s.open, p.txnFirst, byFirst); ok {
		s.open = slices.Delete(s.open, i, i+1)
	}
	if len(s.open) > 0 {
		done.LastStable = s.open[0].first
	}
	s.undecided = insert(s.undecided, txn{producer: p.id, first: p.txnFirst, marker: done.LastOffset})
	p.txnFirst = model.NoOffset
	return done, true
}

// Committed tells how far the partition is committed: transactions whose marker
// lies below no longer hold the stable offset.
func (s *State) Committed(hw model.Offset) {
	if len(s.undecided) == 0 {
		return
	}
	s.undecided = slices.DeleteFunc(s.undecided, func(t txn) bool { return t.marker < hw })
}

// LogStart tells that all below start was deleted. Producers are remembered
// although their records are gone, as in Kafka since KIP-360.
func (s *State) LogStart(start model.Offset) { s.Committed(start) }

// FirstUnstable is the first offset of the oldest transaction that is open, or
// whose marker [State.Committed] has not passed.
func (s *State) FirstUnstable() (model.Offset, bool) {
	switch {
	case len(s.open) == 0 && len(s.undecided) == 0:
		return model.NoOffset, false
	case len(s.open) == 0:
		return s.undecided[0].first, true
	case len(s.undecided) == 0:
		return s.open[0].first, true
	}
	return min(s.open[0].first, s.undecided[0].first), true
}

// Stable is the last stable offset when the partition is committed up to hw:
// read_committed consumers read below it.
func (s *State) Stable(hw model.Offset) model.Offset {
	stable := hw
	if len(s.open) > 0 {
		stable = min(stable, s.open[0].first)
	}
	for _, t := range s.undecided {
		if t.marker >= hw {
			return min(stable, t.first)
		}
	}
	return stable
}

// Oldest is the open transaction with the lowest first offset: the one that
// holds the stable offset, for ever if its coordinator has forgotten it.
type Oldest struct {
	ProducerID model.ProducerID
	First      model.Offset
	// Since is the timestamp of its first batch, in milliseconds since 1970; of
	// its last one before a restart, if that was after the first.
	Since int64
}

// OldestOpen returns the oldest open transaction, if there is one.
func (s *State) OldestOpen() (Oldest, bool) {
	if len(s.open) == 0 {
		return Oldest{}, false
	}
	return Oldest{s.open[0].producer, s.open[0].first, s.open[0].since}, true
}
