package controller

import (
	"io"

	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// Register returns the records by which a broker joins, unfenced, with a new
// incarnation.
func Register(image *metadata.Image, b metadata.Broker, random io.Reader) ([]metadata.Record, error) {
	incarnation, err := model.NewUUID(random)
	if err != nil {
		return nil, err
	}
	m := wire.NewRegisterBrokerRecord()
	m.BrokerID, m.BrokerEpoch, m.IncarnationID = int32(b.ID), int64(image.End()), incarnation
	m.Rack, m.LogDirs, m.Fenced = b.Rack, b.Directories, false
	for _, e := range b.Endpoints {
		m.EndPoints = append(m.EndPoints, wire.RegisterBrokerRecordBrokerEndpoint{
			Name: e.Listener, Host: e.Host, Port: e.Port, SecurityProtocol: e.Security,
		})
	}
	for _, f := range Features() {
		m.Features = append(m.Features, wire.RegisterBrokerRecordBrokerFeature{
			Name: f.Name, MinSupportedVersion: f.Min, MaxSupportedVersion: f.Max,
		})
	}
	return []metadata.Record{{Message: m, Version: metadata.RegisterBrokerVersion}}, nil
}
