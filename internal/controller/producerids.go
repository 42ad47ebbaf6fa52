package controller

import (
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// producerIDBlock is how many producer ids a broker is given at once.
const producerIDBlock = 1000

// ProducerIDs gives a broker a block of producer ids, [first, end).
func (r Rules) ProducerIDs(image *metadata.Image, self model.NodeID) (records []metadata.Record, first, end model.ProducerID) {
	first = image.NextProducerID()
	end = first + producerIDBlock
	m := wire.NewProducerIDsRecord()
	m.BrokerID, m.NextProducerID = int32(self), int64(end)
	if b := image.Broker(self); b != nil {
		m.BrokerEpoch = b.Epoch
	}
	return []metadata.Record{{Message: m}}, first, end
}
