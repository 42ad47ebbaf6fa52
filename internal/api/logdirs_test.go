package api

import (
	"testing"

	"github.com/barnabas-log/barnabas/wire"
)

// What is moved where, and what is said of what is not here: the rest is in
// tests/differential.
func TestAlterReplicaLogDirs(t *testing.T) {
	n := newNode(t)
	n.topic("t", 1)
	c := n.dial()
	f := func(path, topic string, index int32, want wire.ErrorCode) {
		t.Helper()
		q := wire.NewAlterReplicaLogDirsRequest()
		// Said twice: the last one counts.
		for _, p := range []string{"/nowhere", path} {
			d := wire.Extend(&q.Dirs)
			d.Path = p
			x := wire.Extend(&d.Topics)
			x.Name, x.Partitions = topic, []int32{index}
		}
		r := ask[*wire.AlterReplicaLogDirsResponse](c, q, 2)
		if len(r.Results) != 1 || len(r.Results[0].Partitions) != 1 || r.Results[0].Partitions[0].ErrorCode != int16(want) {
			t.Errorf("%s-%d to %s: %+v, want %v", topic, index, path, r.Results, want)
		}
	}
	f("/data", "t", 0, wire.None)
	f("/other", "t", 0, wire.LogDirNotFound)
	f("/data", "t", 1, wire.UnknownTopicOrPartition)
	f("/data", "u", 0, wire.UnknownTopicOrPartition)
	n.mu.Lock()
	for p, x := range n.parts {
		x.Retire()
		x.Close()
		delete(n.parts, p)
	}
	n.mu.Unlock()
	f("/data", "t", 0, wire.ReplicaNotAvailable)
}
