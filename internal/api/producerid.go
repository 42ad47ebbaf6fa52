package api

import (
	"sync"

	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// producerIDs is the block of producer ids that this node may hand out.
type producerIDs struct {
	mu        sync.Mutex
	next, end model.ProducerID
}

// take hands one out, if there is one left.
func (p *producerIDs) take() (model.ProducerID, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next >= p.end {
		return 0, false
	}
	p.next++
	return p.next - 1, true
}

// refill takes over a new block. What may be left of the old one is given up:
// ids are plenty.
func (p *producerIDs) refill(first, end model.ProducerID) {
	p.mu.Lock()
	p.next, p.end = first, end
	p.mu.Unlock()
}

// initProducerID gives an idempotent producer its id. Transactional producers
// need a coordinator, which does not exist yet.
func (s *session) initProducerID(c *call, q *wire.InitProducerIDRequest) wire.Response {
	r := wire.NewInitProducerIDResponse()
	r.ProducerEpoch = -1
	switch {
	case (q.ProducerID == -1) != (q.ProducerEpoch == -1): // One without the other.
		r.ErrorCode = int16(wire.InvalidRequest)
		return r
	case q.TransactionalID != nil && *q.TransactionalID == "":
		r.ErrorCode = int16(wire.InvalidRequest)
		return r
	case q.TransactionalID != nil:
		r.ErrorCode = int16(wire.CoordinatorNotAvailable)
		return r
	}
	id, err := s.newProducerID()
	if err != nil {
		r.ErrorCode = s.codeOf(err, c)
		return r
	}
	r.ProducerID, r.ProducerEpoch = int64(id), 0
	return r
}

// producerIDMillis is how long a producer waits for a new block of ids.
const producerIDMillis = 10_000

func (s *session) newProducerID() (model.ProducerID, error) {
	for {
		if id, ok := s.producers.take(); ok {
			return id, nil
		}
		var first, end model.ProducerID
		err := s.propose(producerIDMillis, func(image *metadata.Image) (records []metadata.Record, err error) {
			records, first, end = s.opts.Rules.ProducerIDs(image, s.opts.Self)
			return records, nil
		})
		if err != nil {
			return 0, err
		}
		s.producers.refill(first, end)
	}
}
