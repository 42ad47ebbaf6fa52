package controller

import (
	"strconv"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/metadata"
)

// The topics that coordinators keep their state in.
const (
	OffsetsTopic      = "__consumer_offsets"
	TransactionsTopic = "__transaction_state"
)

// StateTopic decides about a coordinator's topic, which is made when somebody
// first needs it. Kafka insists on its configured replication and so leaves a
// small cluster without coordinators; we take the replicas that there are.
func (r Rules) StateTopic(image *metadata.Image, name string) ([]metadata.Record, error) {
	if image.Topic(name) != nil {
		return nil, nil
	}
	spec := r.stateTopic(name)
	spec.Replication = min(spec.Replication, int16(liveBrokers(image)))
	records, created, err := r.CreateTopics(image, []TopicSpec{spec})
	if err != nil {
		return nil, err
	}
	return records, created[0].Err
}

func (r Rules) stateTopic(name string) TopicSpec {
	of, compression := r.Config.Coordinators.Offsets, "producer"
	if name == TransactionsTopic {
		of, compression = r.Config.Coordinators.Transactions, "uncompressed"
	}
	configs := []config.Override{
		{Name: "cleanup.policy", Value: new("compact")},
		{Name: "compression.type", Value: &compression},
		{Name: "segment.bytes", Value: new(strconv.FormatInt(of.SegmentBytes, 10))},
	}
	if name == TransactionsTopic {
		configs = append(configs,
			config.Override{Name: "min.insync.replicas", Value: new(strconv.Itoa(of.MinISR))},
			config.Override{Name: "unclean.leader.election.enable", Value: new("false")})
	}
	return TopicSpec{Name: name, Partitions: of.Partitions, Replication: of.Replication, Configs: configs}
}

func liveBrokers(image *metadata.Image) int {
	n := 0
	for _, b := range image.Brokers() {
		if !b.Fenced {
			n++
		}
	}
	return max(1, n)
}
