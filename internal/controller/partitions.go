package controller

import (
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
)

// MorePartitions is a number of partitions that somebody wants a topic to have.
// Assignment, if it is not nil, names the replicas of each new one.
type MorePartitions struct {
	Topic      string
	Count      int32
	Assignment [][]model.NodeID
}

// CreatePartitions decides about several topics, each for itself. The errors
// stand beside the topics; the last one refuses everything. No topic comes
// twice.
func (r Rules) CreatePartitions(image *metadata.Image, topics []MorePartitions) ([]metadata.Record, []error, error) {
	total := int64(0)
	for _, m := range topics {
		if t := image.Topic(m.Topic); t != nil && int(m.Count) > len(t.Partitions) {
			total += int64(m.Count) - int64(len(t.Partitions))
		}
	}
	if total > maxPartitionsPerCreate {
		return nil, nil, refuse(ErrPolicy, "Excessively large number of additional partitions per request.")
	}
	var records []metadata.Record
	errs := make([]error, len(topics))
	for i, m := range topics {
		made, err := r.morePartitions(image, m)
		if errs[i] = err; err == nil {
			records = append(records, made...)
		}
	}
	return records, errs, nil
}

func (r Rules) morePartitions(image *metadata.Image, m MorePartitions) ([]metadata.Record, error) {
	t := image.Topic(m.Topic)
	if t == nil {
		return nil, refuse(ErrUnknownTopic, "")
	}
	have := len(t.Partitions)
	more := int(m.Count) - have
	switch {
	case more == 0:
		return nil, refuse(ErrInvalidPartitions, "Topic already has %d partition(s).", have)
	case more < 0:
		return nil, refuse(ErrInvalidPartitions, "The topic %s currently has %d partition(s); %d would not be an increase.", m.Topic, have, m.Count)
	case m.Assignment != nil && len(m.Assignment) != more:
		return nil, refuse(ErrInvalidAssignment,
			"Attempted to add %d additional partition(s), but only %d assignment(s) were specified.", more, len(m.Assignment))
	}
	if err := r.charge(more); err != nil {
		return nil, err
	}
	assignment, err := additional(image, t, m, more)
	if err != nil {
		return nil, err
	}
	var records []metadata.Record
	for i, replicas := range assignment {
		records = append(records, r.partitionRecord(t.Name, t.ID, int32(have+i), replicas))
	}
	return records, nil
}

// additional chooses, or checks, the replicas of new partitions: as many each
// as the first partition has.
func additional(image *metadata.Image, t *metadata.Topic, m MorePartitions, more int) ([][]model.NodeID, error) {
	live := image.Live()
	want := len(t.Partitions[0].Replicas)
	for _, nodes := range m.Assignment {
		if err := checkReplicas(live, nodes, want); err != nil {
			return nil, err
		}
	}
	if m.Assignment != nil {
		return m.Assignment, nil
	}
	if want > len(live) {
		return nil, tooFewBrokers(want, len(live))
	}
	return spread(live, len(t.Partitions), more, want), nil
}

// spread gives partitions to brokers round and round: leaders are spread
// evenly.
func spread(live []*metadata.Broker, first, partitions, replication int) [][]model.NodeID {
	out := make([][]model.NodeID, partitions)
	for i := range out {
		for j := range replication {
			out[i] = append(out[i], live[(first+i+j)%len(live)].ID)
		}
	}
	return out
}
