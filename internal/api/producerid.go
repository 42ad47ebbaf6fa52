package api

import (
	"sync"

	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
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

// more takes those that follow one that was taken, so that n are taken in all if
// there are so many, and returns the end.
func (p *producerIDs) more(first model.ProducerID, n int) (end model.ProducerID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next != first+1 {
		return first + 1 // Somebody else was quicker.
	}
	p.next = max(p.next, min(p.end, first+model.ProducerID(n)))
	return p.next
}

// refill takes over a new block. What may be left of the old one is given up:
// ids are plenty.
func (p *producerIDs) refill(first, end model.ProducerID) {
	p.mu.Lock()
	p.next, p.end = first, end
	p.mu.Unlock()
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
