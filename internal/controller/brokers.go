package controller

import (
	"fmt"
	"io"

	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// Level is the metadata.version of Kafka 4.4.0 that our records follow; a
// directory that says more was written by a newer Kafka.
const Level = 33

// minLevel is the oldest metadata.version that Kafka 4 reads.
const minLevel = 7

// Feature is a feature that we can serve, and its levels.
type Feature struct {
	Name     string
	Min, Max int16
}

// Features are what we support. Those of coordinators that do not exist yet
// are left out, so that no client counts on them.
func Features() []Feature {
	return []Feature{{metadata.MetadataVersion, minLevel, Level}}
}

// Format returns the records of a new cluster. Like Kafka's formatter, which
// turns on eligible leader replicas, it sets min.insync.replicas for all
// brokers: tools show it as such.
func Format() []metadata.Record {
	return []metadata.Record{
		{Message: metadata.FeatureRecord(metadata.MetadataVersion, Level)},
		{Message: metadata.ConfigRecord(allBrokers, "min.insync.replicas", new("1"))},
	}
}

// CheckLevel refuses an image of a newer Kafka, whose records we might
// misread.
func CheckLevel(image *metadata.Image) error {
	if level := image.Feature(metadata.MetadataVersion); level > Level {
		return fmt.Errorf("controller: metadata.version is %d, newer than %d, the newest that this version reads", level, Level)
	}
	return nil
}

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
