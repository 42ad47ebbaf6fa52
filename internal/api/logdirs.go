package api

import (
	"errors"

	"github.com/barnabas-log/barnabas/internal/replicas"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// Disks is how requests reach the data directories of this node.
type Disks interface {
	// KeepStarts makes durable where partitions start after Trim. It returns an
	// error or nil for each.
	KeepStarts(ps []model.Partition) []error
	// LogDirs describes the data directories.
	LogDirs() []replicas.LogDir
	// Move moves a partition to the data directory of a path, in the background.
	// Where one that does not exist is to go is remembered: replicas.ErrUnknown.
	Move(p model.Partition, path string) error
}

// describeLogDirs tells what lies in which data directory (KIP-113).
func (s *session) describeLogDirs(c *call, q *wire.DescribeLogDirsRequest) wire.Response {
	r := wire.NewDescribeLogDirsResponse()
	var wanted map[model.Partition]bool // Nil is all.
	if q.Topics != nil {
		wanted = map[model.Partition]bool{}
		for i := range q.Topics {
			for _, n := range q.Topics[i].Partitions {
				wanted[model.Partition{Topic: q.Topics[i].Topic, Index: n}] = true
			}
		}
	}
	for _, d := range s.opts.Disks.LogDirs() {
		x := wire.Extend(&r.Results)
		x.LogDir, x.ErrorCode = d.Path, s.codeOf(d.Err, c)
		if d.Err == nil {
			x.TotalBytes, x.UsableBytes, x.IsCordoned = d.Usage.Total, d.Usage.Free, d.Cordoned
			x.Topics = logsByTopic(d.Logs, wanted)
		}
	}
	return r
}

func logsByTopic(logs []replicas.LogInDir, wanted map[model.Partition]bool) []wire.DescribeLogDirsResponseDescribeLogDirsTopic {
	topics := []wire.DescribeLogDirsResponseDescribeLogDirsTopic{}
	places := map[string]int{}
	for _, l := range logs {
		if wanted != nil && !wanted[l.Partition] {
			continue
		}
		at, known := places[l.Partition.Topic]
		if !known {
			at = len(topics)
			places[l.Partition.Topic] = at
			wire.Extend(&topics).Name = l.Partition.Topic
		}
		y := wire.Extend(&topics[at].Partitions)
		y.PartitionIndex, y.PartitionSize, y.OffsetLag, y.IsFutureKey = l.Partition.Index, l.Bytes, l.Lag, l.Future
	}
	return topics
}

// alterReplicaLogDirs moves partitions to data directories (KIP-113). Of a
// partition that comes more than once, the last directory counts.
func (s *session) alterReplicaLogDirs(c *call, q *wire.AlterReplicaLogDirsRequest) wire.Response {
	wishes := wishesOf(q)
	r := wire.NewAlterReplicaLogDirsResponse()
	places := map[string]int{}
	for _, w := range wishes {
		at, known := places[w.partition.Topic]
		if !known {
			at = len(r.Results)
			places[w.partition.Topic] = at
			wire.Extend(&r.Results).TopicName = w.partition.Topic
		}
		y := wire.Extend(&r.Results[at].Partitions)
		y.PartitionIndex, y.ErrorCode = w.partition.Index, s.codeOf(s.move(w), c)
	}
	return r
}

// wish is a partition and where somebody wants it.
type wish struct {
	partition model.Partition
	path      string
}

func wishesOf(q *wire.AlterReplicaLogDirsRequest) (wishes []wish) {
	seen := map[model.Partition]int{}
	for i := range q.Dirs {
		for j := range q.Dirs[i].Topics {
			t := &q.Dirs[i].Topics[j]
			for _, n := range t.Partitions {
				p := model.Partition{Topic: t.Name, Index: n}
				at, known := seen[p]
				if !known {
					at = len(wishes)
					seen[p] = at
					wishes = append(wishes, wish{partition: p})
				}
				wishes[at].path = q.Dirs[i].Path
			}
		}
	}
	return wishes
}

// move translates what Kafka says where the partition is not here: it does not
// exist, or it is somewhere else.
func (s *session) move(w wish) error {
	err := s.opts.Disks.Move(w.partition, w.path)
	if !errors.Is(err, replicas.ErrUnknown) {
		return err
	}
	t := s.opts.Metadata.Image().Topic(w.partition.Topic)
	if t == nil || w.partition.Index < 0 || int(w.partition.Index) >= len(t.Partitions) {
		return wire.UnknownTopicOrPartition
	}
	return wire.ReplicaNotAvailable
}
