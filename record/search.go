package record

import (
	"math"

	"github.com/barnabas-log/barnabas/model"
)

// search is the first record of a walk that is late enough.
type search struct {
	from      int32 // Least offset delta.
	found     bool
	delta     int32
	timestamp int64
}

func (s *search) take(timestamp int64, delta int32) {
	if !s.found && delta >= s.from {
		s.found, s.delta, s.timestamp = true, delta, timestamp
	}
}

// FirstSince finds the batch's first record at or after the offset from whose
// timestamp is at least ts. It walks the records without keeping them, so that
// a batch costs no more than a window, whatever it unpacks to. Errors are of
// type *Error.
func (b Batch) FirstSince(ts int64, from model.Offset) (at model.Offset, timestamp int64, ok bool, err error) {
	s := search{from: int32(min(max(0, from-b.BaseOffset()), math.MaxInt32))}
	w := walk{
		base: b.BaseTimestamp(), count: b.Count(), low: math.MinInt64, high: max(ts, math.MinInt64+1) - 1,
		maxRecord: math.MaxInt, search: &s,
	}
	if b.IsLogAppendTime() {
		w.claimed, w.claim = true, b.MaxTimestamp()
	}
	if c := b.Codec(); c != None {
		w.packed = true
		err = w.unpack(c, b.Payload(), &CheckOptions{})
	} else {
		err = w.records(b.Payload(), &CheckOptions{})
	}
	if err != nil {
		return model.NoOffset, NoTimestamp, false, err
	}
	return b.BaseOffset() + model.Offset(s.delta), s.timestamp, s.found, nil
}
