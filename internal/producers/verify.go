package producers

import (
	"time"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// Guard stands for the question whether a transaction knows this partition
// (KIP-890). It is taken before the transaction's coordinator is asked, and
// shown with the transaction's first batch. A marker that comes between makes it
// void: a batch that came late would open a transaction that nobody ends.
type Guard uint64

// NoGuard is what [State.Verify] returns when nothing is to be asked.
const NoGuard Guard = 0

// maxVerifying bounds the questions that are open in one partition: each takes
// some 100 bytes until its batch comes or its producer expires. Beyond it the
// oldest is given up, and its batch refused; the client aborts.
const maxVerifying = 10_000

// verification is a question about a producer.
type verification struct {
	guard Guard
	since int64 // Milliseconds since 1970.
	// lowest is the least sequence that was asked with in this epoch: no batch
	// may overtake it.
	lowest int32
	epoch  int16
	// confirmed is the epoch for which the coordinator has said yes, for
	// batches that carry no guard.
	confirmed int16
	// startAtZero is for producers of transactions version 2: one that is
	// unknown here must begin with sequence 0.
	startAtZero bool
}

// asked remembers the order of questions; it may name some that are settled.
type asked struct {
	id    model.ProducerID
	guard Guard
}

// Verify begins to ask about a transactional batch that p wants to append, whose
// first sequence is that of p. It returns NoGuard if p has a transaction open
// here already. startAtZero is for clients of transactions version 2. The error
// is ErrInvalidEpoch if a later epoch has written here.
func (s *State) Verify(now time.Time, p record.Producer, startAtZero bool) (Guard, error) {
	if known := s.producers[p.ID]; known != nil {
		if p.Epoch < known.epoch {
			return NoGuard, errStale(known, p.Epoch)
		}
		if known.inTxn(p.Epoch) {
			return NoGuard, nil
		}
	}
	v := s.verifying[p.ID]
	switch {
	case v == nil:
		v = s.ask(now, p, startAtZero)
	case p.Epoch > v.epoch:
		// Kafka keeps startAtZero, and lets a transaction of version 1 hang if one
		// of version 2 has asked before.
		v.epoch, v.lowest, v.startAtZero = p.Epoch, p.Sequence, startAtZero
	case p.Epoch == v.epoch:
		v.lowest = min(v.lowest, p.Sequence)
	}
	return v.guard, nil
}

func (s *State) ask(now time.Time, p record.Producer, startAtZero bool) *verification {
	for len(s.verifying) >= maxVerifying {
		s.giveUpOldest()
	}
	// Whoever was asked before this state was made, as that of a log that has
	// moved since, has another guard.
	s.guards = max(s.guards+1, Guard(max(0, now.UnixNano())))
	v := &verification{guard: s.guards, since: now.UnixMilli(), lowest: p.Sequence, epoch: p.Epoch, confirmed: noEpoch, startAtZero: startAtZero}
	if s.verifying == nil {
		s.verifying = map[model.ProducerID]*verification{}
	}
	s.verifying[p.ID] = v
	s.asked = append(s.asked, asked{p.ID, v.guard})
	return v
}

// giveUpOldest forgets the oldest question, and what is settled before it.
func (s *State) giveUpOldest() {
	for len(s.asked) > 0 {
		oldest := s.asked[0]
		s.asked = s.asked[1:]
		if v := s.verifying[oldest.id]; v != nil && v.guard == oldest.guard {
			delete(s.verifying, oldest.id)
			return
		}
	}
}

// Confirm says that the coordinator knows the transaction and this partition in
// it. Batches of clients show their guard; those that a coordinator appends, for
// whom its clients have asked, have none.
func (s *State) Confirm(id model.ProducerID, epoch int16, g Guard) {
	if v := s.verifying[id]; v != nil && v.guard == g && g != NoGuard {
		v.confirmed = max(v.confirmed, epoch)
	}
}

// verified says whether a batch may open a transaction.
func (s *State) verified(b record.Batch, o CheckOptions) bool {
	v := s.verifying[b.ProducerID()]
	switch {
	case o.Unverified:
		return true
	case v == nil:
		return false
	case o.Origin == Coordinator:
		return v.confirmed == b.ProducerEpoch()
	}
	return v.guard == o.Guard
}

// settle ends the question about a producer: its batch, or its marker, is
// written. A marker leaves alone what the next transaction has asked already,
// which in version 2 has the marker's epoch.
func (s *State) settle(b record.Batch) {
	v := s.verifying[b.ProducerID()]
	if v == nil || v.startAtZero && b.IsControl() && b.ProducerEpoch() == v.epoch {
		return
	}
	delete(s.verifying, b.ProducerID())
	if len(s.verifying) == 0 {
		s.asked = nil
	} else if len(s.asked) > 2*maxVerifying {
		s.tidyAsked()
	}
}

// tidyAsked drops what is settled.
func (s *State) tidyAsked() {
	rest := make([]asked, 0, len(s.verifying))
	for _, a := range s.asked {
		if v := s.verifying[a.id]; v != nil && v.guard == a.guard {
			rest = append(rest, a)
		}
	}
	s.asked = rest
}

// expireVerifying gives up questions from before limit.
func (s *State) expireVerifying(limit int64) {
	for len(s.asked) > 0 {
		v := s.verifying[s.asked[0].id]
		if v != nil && v.guard == s.asked[0].guard {
			if v.since > limit {
				return
			}
			delete(s.verifying, s.asked[0].id)
		}
		s.asked = s.asked[1:]
	}
	s.asked = nil
}
