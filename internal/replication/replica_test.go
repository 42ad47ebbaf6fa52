package replication

import (
	"testing"

	"github.com/barnabas-log/barnabas/model"
)

// Each line is an input, then what is committed after it and whether it rose.
func TestReplica(t *testing.T) {
	assign := func(epoch model.Epoch, leader model.NodeID, end, synced model.Offset, members ...model.NodeID) Input {
		return Assigned{Assignment{Epoch: epoch, Leader: leader, Members: members, Replicas: len(members)}, end, synced}
	}
	var r *Replica
	f := func(in Input, committed model.Offset, rose bool) {
		t.Helper()
		if got := r.Handle(in); got != rose || r.Committed() != committed {
			t.Errorf("%+v: committed %d, rose %v; want %d, %v", in, r.Committed(), got, committed, rose)
		}
	}

	r = New(1, true, 5) // durability=fsync
	f(Appended{7}, 5, false)
	f(assign(3, 1, 10, 8, 1), 8, true)
	f(Appended{12}, 8, false)
	f(Synced{10}, 10, true)
	f(Synced{9}, 10, false)   // An older sync tells nothing.
	f(Synced{20}, 12, true)   // Never beyond the end.
	f(Appended{13}, 13, true) // That sync covered it.
	f(Durability{false}, 13, false)
	f(Appended{14}, 14, true)
	f(Durability{true}, 14, false) // What was committed stays so.
	f(Appended{30}, 20, true)
	f(assign(4, 2, 30, 30, 1, 2), 20, false)
	f(Synced{30}, 20, false)
	if r.Leads() || r.Leader() != 2 || r.Epoch() != 4 || r.InSync() != 2 || r.Replicas() != 2 {
		t.Errorf("%+v", r)
	}
	f(assign(5, 1, 30, 30, 1, 2), 20, false) // Two in sync: one's own end says nothing.
	f(assign(6, 1, 30, 30, 1), 30, true)
	f(assign(7, model.NoNode, 30, 30), 30, false)

	r = New(1, false, 0) // durability=os
	f(assign(0, 1, 4, 0, 1), 4, true)
	f(Appended{6}, 6, true)
	f(Synced{6}, 6, false)
}
