package controller

import (
	"slices"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// Reassignment is where somebody wants the replicas of a partition. Nil
// Replicas cancel what is going on.
type Reassignment struct {
	Partition model.Partition
	Replicas  []model.NodeID
}

// Reassign decides about several partitions, each for itself. The errors stand
// beside the wishes. sameCount refuses another number of replicas.
func (r Rules) Reassign(image *metadata.Image, wishes []Reassignment, sameCount bool) ([]metadata.Record, []error) {
	var records []metadata.Record
	errs := make([]error, len(wishes))
	for i, w := range wishes {
		m, err := r.reassign(image, w, sameCount)
		if errs[i] = err; err == nil && m != nil {
			records = append(records, metadata.Record{Message: m, Version: partitionChangeVersion})
		}
	}
	return records, errs
}

func (r Rules) reassign(image *metadata.Image, w Reassignment, sameCount bool) (*wire.PartitionChangeRecord, error) {
	t := image.Topic(w.Partition.Topic)
	switch {
	case t == nil:
		return nil, refuse(ErrUnknownTopic, "Unable to find a topic named %s.", w.Partition.Topic)
	case w.Partition.Index < 0 || int(w.Partition.Index) >= len(t.Partitions):
		return nil, refuse(ErrUnknownTopic, "Unable to find partition %s:%d.", w.Partition.Topic, w.Partition.Index)
	}
	p := t.Partitions[w.Partition.Index]
	m := change(t, w.Partition.Index)
	if w.Replicas == nil {
		return r.cancel(image, p, m, w.Partition)
	}
	if err := checkReplicas(image.Brokers(), w.Replicas, len(w.Replicas)); err != nil {
		return nil, err
	}
	if have := len(without(p.Replicas, p.Removing)); sameCount && have != len(w.Replicas) {
		return nil, refuse(ErrInvalidReplication, "The replication factor is changed from %d to %d", have, len(w.Replicas))
	}
	return move(image, p, m, w.Replicas), nil
}

// move begins to move a partition to other replicas, or does it at once where
// all that stay are in sync and none is new. Nil is that nothing changes.
func move(image *metadata.Image, p *metadata.Partition, m *wire.PartitionChangeRecord, to []model.NodeID) *wire.PartitionChangeRecord {
	removing, adding := sorted(without(p.Replicas, to)), sorted(without(to, p.Replicas))
	if isr := without(p.ISR, removing); len(isr) > 0 && len(without(to, isr)) == 0 {
		if slices.Equal(to, p.Replicas) && len(p.Removing)+len(p.Adding) == 0 {
			return nil
		}
		m.Replicas, m.Isr, m.RemovingReplicas, m.AddingReplicas = ints(to), ints(isr), []int32{}, []int32{}
		return led(image, p, m)
	}
	all := slices.Concat(to, removing)
	if slices.Equal(all, p.Replicas) && len(removing)+len(adding) == 0 {
		return nil
	}
	m.Replicas = ints(all)
	if len(removing) > 0 {
		m.RemovingReplicas = ints(removing)
	}
	if len(adding) > 0 {
		m.AddingReplicas = ints(adding)
	}
	return m
}

// led sees to it that a partition is led by a replica that it still has.
func led(image *metadata.Image, p *metadata.Partition, m *wire.PartitionChangeRecord) *wire.PartitionChangeRecord {
	if slices.Contains(m.Isr, int32(p.Leader)) {
		return m
	}
	next := *p
	next.Replicas, next.ISR = fromInts(m.Replicas), fromInts(m.Isr)
	leader, _ := elect(&next, func(n model.NodeID) bool { return isLive(image, n) }, false)
	m.Leader = int32(leader)
	return m
}

// cancel goes back to the replicas from before.
func (r Rules) cancel(image *metadata.Image, p *metadata.Partition, m *wire.PartitionChangeRecord, id model.Partition) (*wire.PartitionChangeRecord, error) {
	if len(p.Removing)+len(p.Adding) == 0 {
		return nil, refuse(wire.NoReassignmentInProgress, "")
	}
	replicas, isr := without(p.Replicas, p.Adding), without(p.ISR, p.Adding)
	switch {
	case len(replicas) == 0:
		return nil, refuse(ErrInvalidAssignment, "Invalid replica assignment: addingReplicas contains all replicas.")
	case len(isr) == 0 && !r.uncleanAllowed(image, id.Topic):
		return nil, refuse(ErrInvalidAssignment,
			"Unable to revert partition assignment for %s:%d because it would require an unclean leader election.", id.Topic, id.Index)
	case len(isr) == 0:
		isr = replicas[:1]
	}
	m.Replicas, m.Isr, m.RemovingReplicas, m.AddingReplicas = ints(replicas), ints(isr), []int32{}, []int32{}
	return led(image, p, m), nil
}

func (r Rules) uncleanAllowed(image *metadata.Image, topic string) bool {
	own := image.Config(metadata.Resource{Type: metadata.ResourceTopic, Name: topic})
	c, err := config.ResolveTopic(r.effective(image), own)
	return err == nil && c.UncleanElection
}

// without returns a list without the elements of another, in its order.
func without(list, those []model.NodeID) []model.NodeID {
	return slices.DeleteFunc(slices.Clone(list), func(n model.NodeID) bool { return slices.Contains(those, n) })
}

func sorted(list []model.NodeID) []model.NodeID {
	slices.Sort(list)
	return list
}

func ints(list []model.NodeID) []int32 {
	out := make([]int32, len(list))
	for i, n := range list {
		out[i] = int32(n)
	}
	return out
}

func fromInts(list []int32) []model.NodeID {
	out := make([]model.NodeID, len(list))
	for i, n := range list {
		out[i] = model.NodeID(n)
	}
	return out
}

// Unregister decides about a broker that is gone for ever: it leaves the
// replicas in sync, and the cluster. This node does not unregister itself: it
// would stay up, and lead nothing.
func (r Rules) Unregister(image *metadata.Image, id model.NodeID) ([]metadata.Record, error) {
	b := image.Broker(id)
	switch {
	case b == nil:
		return nil, refuse(wire.BrokerIDNotRegistered, "Broker ID %d is not currently registered", id)
	case id == model.NodeID(r.Config.NodeID):
		return nil, refuse(ErrInvalidRequest, "Broker ID %d is this broker, and it is running: stop it before it is unregistered", id)
	}
	var records []metadata.Record
	image.Topics("", func(t *metadata.Topic) bool {
		for i, p := range t.Partitions {
			if m := leave(image, p, change(t, int32(i)), id); m != nil {
				records = append(records, metadata.Record{Message: m, Version: partitionChangeVersion})
			}
		}
		return true
	})
	m := wire.NewUnregisterBrokerRecord()
	m.BrokerID, m.BrokerEpoch = int32(id), b.Epoch
	return append(records, metadata.Record{Message: m}), nil
}

// leave takes a broker out of the replicas in sync of a partition. The last one
// stays there, without leading: it alone has everything.
func leave(image *metadata.Image, p *metadata.Partition, m *wire.PartitionChangeRecord, id model.NodeID) *wire.PartitionChangeRecord {
	if !slices.Contains(p.ISR, id) {
		return nil
	}
	if rest := without(p.ISR, []model.NodeID{id}); len(rest) > 0 {
		m.Isr = ints(rest)
	}
	if p.Leader == id {
		leader, _ := elect(p, func(n model.NodeID) bool { return n != id && isLive(image, n) }, false)
		m.Leader = int32(leader)
	}
	if m.Isr == nil && p.Leader != id {
		return nil
	}
	return m
}
