package api

import (
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// unregisterBroker forgets a broker that will not come back (KIP-500).
func (s *session) unregisterBroker(c *call, q *wire.UnregisterBrokerRequest) wire.Response {
	r := wire.NewUnregisterBrokerResponse()
	id := model.NodeID(q.BrokerID)
	err := s.propose(configMillis, func(image *metadata.Image) ([]metadata.Record, error) {
		return s.opts.Rules.Unregister(image, id)
	})
	r.ErrorCode, r.ErrorMessage = s.codeOf(err, c), message(err)
	return r
}
