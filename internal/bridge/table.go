package bridge

import (
	"encoding/binary"
	"encoding/hex"
	"strings"

	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/model"
)

// part is a partition of the mesh that is a partition here.
type part struct {
	fabric.Partition
	replica *partition.Partition // Nil while it cannot be served.
	topic   model.TopicID
	index   int32
	// published says that Kafka's producers write it, and we publish it. Else a
	// Dafka producer does.
	published bool

	subject, address []byte // The names, for messages.
}

// same reports whether q is what p was.
func (p *part) same(q *part) bool {
	return p.Partition == q.Partition && p.replica == q.replica && p.topic == q.topic && p.index == q.index && p.published == q.published
}

// isolation is how far the mesh may see: nothing of open transactions.
func (p *part) isolation() partition.Isolation {
	if p.published {
		return partition.Committed
	}
	return partition.Uncommitted
}

// holds is what the mesh can have of the partition.
func (p *part) holds() (start, end uint64) {
	s, err := p.replica.State(model.NoEpoch)
	if err != nil {
		return 0, 0
	}
	return uint64(s.Start), uint64(s.Readable(p.isolation()))
}

// table is what an image has for the mesh. It is never changed.
type table struct {
	parts []*part // A part keeps its place from one table to the next, unless that is anew.
	by    map[fabric.Partition]*part
	// anew says that parts of the table before are gone, or are others.
	anew bool
}

// newTable makes the table of an image. find gives this node's replicas.
func newTable(was *table, image *metadata.Image, self model.NodeID, find func(model.TopicID, model.Partition) (*partition.Partition, error)) *table {
	wanted := map[fabric.Partition]*part{}
	var order []*part
	controller.DafkaTopics(image, func(t *metadata.Topic, producers []string) {
		for i, p := range t.Partitions {
			if p.Leader != self || len(producers) > 0 && i >= len(producers) {
				continue
			}
			x := &part{topic: t.ID, index: int32(i), published: len(producers) == 0}
			x.Subject, x.Address = t.Name, Address(t.ID, int32(i))
			if !x.published {
				x.Address = producers[i]
			}
			x.subject, x.address = []byte(x.Subject), []byte(x.Address)
			x.replica, _ = find(t.ID, model.Partition{Topic: t.Name, Index: int32(i)}) // What is offline is not served.
			wanted[x.Partition] = x
			order = append(order, x)
		}
	})
	return was.next(wanted, order)
}

// next is the table of what is wanted now.
func (t *table) next(wanted map[fabric.Partition]*part, order []*part) *table {
	n := &table{by: wanted}
	for _, p := range t.parts {
		x := wanted[p.Partition]
		if x == nil || !x.same(p) {
			n.anew = true
			break
		}
	}
	if n.anew {
		n.parts = order
		return n
	}
	n.parts = append(n.parts, t.parts...)
	for _, p := range t.parts {
		wanted[p.Partition] = p
	}
	for _, p := range order {
		if wanted[p.Partition] == p {
			n.parts = append(n.parts, p)
		}
	}
	return n
}

// Address is that of the producer as which a partition of a topic is published:
// the topic's id with the number in its last bytes, as C writes addresses. It is
// the same for as long as the topic exists, on whatever node.
func Address(topic model.TopicID, index int32) string {
	last := topic[len(topic)-4:]
	binary.BigEndian.PutUint32(last, binary.BigEndian.Uint32(last)^uint32(index))
	return strings.ToUpper(hex.EncodeToString(topic[:]))
}
