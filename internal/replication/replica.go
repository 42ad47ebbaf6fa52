package replication

import (
	"slices"

	"github.com/barnabas-log/barnabas/model"
)

// Assignment says who replicates a partition, in one leader epoch.
type Assignment struct {
	Epoch   model.Epoch
	Leader  model.NodeID
	Members []model.NodeID // The in-sync replicas, the leader among them.
	// Replicas is how many replicas the partition has, in sync or not.
	Replicas int
}

// Input is one thing that happened: Assigned, Appended, Synced or Durability.
type Input interface{ input() }

// Assigned tells of a new assignment, and where the log ended at that moment.
type Assigned struct {
	Assignment
	End, Synced model.Offset
}

// Appended tells that the log now ends at End.
type Appended struct{ End model.Offset }

// Synced tells that everything before End is on disk.
type Synced struct{ End model.Offset }

// Durability tells whether only what is synced counts.
type Durability struct{ Fsync bool }

func (Assigned) input()   {}
func (Appended) input()   {}
func (Synced) input()     {}
func (Durability) input() {}

// Replica is the machine.
type Replica struct {
	self      model.NodeID
	fsync     bool
	assigned  Assignment
	end       model.Offset
	synced    model.Offset
	committed model.Offset
}

// New returns a replica that leads nothing yet. committed is what it is known
// to have committed before, 0 if nothing is known.
func New(self model.NodeID, fsync bool, committed model.Offset) *Replica {
	return &Replica{self: self, fsync: fsync, committed: committed}
}

// Handle takes one input and reports whether the commit point rose.
func (r *Replica) Handle(in Input) bool {
	switch in := in.(type) {
	case Assigned:
		r.assigned, r.end, r.synced = in.Assignment, in.End, in.Synced
	case Appended:
		r.end = in.End
	case Synced:
		r.synced = max(r.synced, in.End)
	case Durability:
		r.fsync = in.Fsync
	}
	return r.decide()
}

// decide raises the commit point as far as the in-sync set has the log. It
// never falls: what was committed once stays so.
func (r *Replica) decide() bool {
	if !r.Leads() || !slices.Equal(r.assigned.Members, []model.NodeID{r.self}) {
		return false
	}
	to := r.end
	if r.fsync {
		to = min(r.synced, r.end)
	}
	rose := to > r.committed
	r.committed = max(r.committed, to)
	return rose
}

// Leads reports whether this replica is the leader.
func (r *Replica) Leads() bool {
	return r.assigned.Leader == r.self && r.assigned.Epoch != model.NoEpoch
}

// Epoch is the epoch of the assignment.
func (r *Replica) Epoch() model.Epoch { return r.assigned.Epoch }

// Leader is whom this replica believes to lead.
func (r *Replica) Leader() model.NodeID { return r.assigned.Leader }

// InSync is how many replicas have to have a record before it is committed.
func (r *Replica) InSync() int { return len(r.assigned.Members) }

// Replicas is how many replicas there are, in sync or not.
func (r *Replica) Replicas() int { return r.assigned.Replicas }

// Committed is one past the last record that no failure the cluster survives
// can take back: Kafka's high watermark.
func (r *Replica) Committed() model.Offset { return r.committed }
