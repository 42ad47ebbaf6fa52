// Package assign deals out the partitions of topics to the members of a group:
// the assignors of Kafka's group coordinator, uniform and range (KIP-848). As in
// Kafka 4.4 neither of them looks at racks. It never knows what a member is
// besides its id, or what becomes of an assignment.
package assign

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"github.com/barnabas-log/barnabas/model"
)

// Topic is some partitions of a topic, in ascending order.
type Topic struct {
	ID         model.TopicID
	Partitions []int32
}

// Assignment is what a member has, by topic id in ascending order. No topic is
// without partitions. It is never changed, but replaced.
type Assignment []Topic

// Member is a member of a group, and what it had.
type Member struct {
	ID string
	// Instance is the id of a static member, "" of a dynamic one.
	Instance string
	// Topics are those it wants, in ascending order, each once. Members that want
	// the same may share them.
	Topics []model.TopicID
	Had    Assignment
}

// Group is what an assignor is asked about.
type Group struct {
	// Members are in the order of their ids.
	Members []Member
	// Same says that all members want the same topics.
	Same bool
	// Partitions tells how many partitions a topic has.
	Partitions func(model.TopicID) int
}

// Compare orders topic ids.
func Compare(a, b model.TopicID) int { return bytes.Compare(a[:], b[:]) }

// Of returns the partitions of a topic.
func (a Assignment) Of(id model.TopicID) []int32 {
	if i, ok := slices.BinarySearchFunc(a, id, func(t Topic, id model.TopicID) int { return Compare(t.ID, id) }); ok {
		return a[i].Partitions
	}
	return nil
}

// Count is the number of partitions.
func (a Assignment) Count() (n int) {
	for i := range a {
		n += len(a[i].Partitions)
	}
	return n
}

// Equal reports whether two assignments are the same partitions.
func (a Assignment) Equal(b Assignment) bool {
	return slices.EqualFunc(a, b, func(x, y Topic) bool { return x.ID == y.ID && slices.Equal(x.Partitions, y.Partitions) })
}

// partition is one partition of the topic with that index.
type partition struct {
	topic int
	n     int32
}

// table has the topics of a group, and who owns their partitions.
type table struct {
	group  *Group
	ids    []model.TopicID
	index  map[model.TopicID]int
	owners [][]int32 // By topic and partition: the member's index, or nobody.
	sizes  []int     // What each member owns.
}

const nobody = -1

func newTable(g *Group) *table {
	t := &table{group: g, index: map[model.TopicID]int{}, sizes: make([]int, len(g.Members))}
	for i := range g.Members {
		if i > 0 && g.Same {
			break
		}
		for _, id := range g.Members[i].Topics {
			if _, ok := t.index[id]; !ok {
				t.index[id] = 0
				t.ids = append(t.ids, id)
			}
		}
	}
	slices.SortFunc(t.ids, Compare)
	for i, id := range t.ids {
		t.index[id] = i
		owners := make([]int32, max(0, g.Partitions(id)))
		for p := range owners {
			owners[p] = nobody
		}
		t.owners = append(t.owners, owners)
	}
	return t
}

// give makes a member the owner of a partition.
func (t *table) give(p partition, member int) {
	if old := t.owners[p.topic][p.n]; old != nobody {
		t.sizes[old]--
	}
	t.owners[p.topic][p.n] = int32(member)
	t.sizes[member]++
}

// has calls each for what a member had and may keep: a partition that exists,
// of a topic that it wants, and that no member before it had.
func (t *table) has(member int, wants func(topic int) bool, each func(partition)) {
	for _, topic := range t.group.Members[member].Had {
		i, ok := t.index[topic.ID]
		if !ok || !wants(i) {
			continue
		}
		for _, n := range topic.Partitions {
			if n >= 0 && int(n) < len(t.owners[i]) && t.owners[i][n] == nobody {
				each(partition{i, n})
			}
		}
	}
}

// free are the partitions that nobody has, in order.
func (t *table) free() (list []partition) {
	for i, owners := range t.owners {
		for n, owner := range owners {
			if owner == nobody {
				list = append(list, partition{i, int32(n)})
			}
		}
	}
	return list
}

// assignments turns the table around.
func (t *table) assignments() []Assignment {
	out := make([]Assignment, len(t.group.Members))
	for i, id := range t.ids {
		for n, owner := range t.owners[i] {
			if owner == nobody {
				continue
			}
			a := out[owner]
			if len(a) == 0 || a[len(a)-1].ID != id {
				a = append(a, Topic{ID: id})
			}
			last := &a[len(a)-1]
			last.Partitions = append(last.Partitions, int32(n))
			out[owner] = a
		}
	}
	return out
}

// inOrder are the indexes of members as range looks at them: static members
// first, by instance, then the others.
func inOrder(members []Member) []int {
	list := make([]int, len(members))
	for i := range list {
		list[i] = i
	}
	slices.SortStableFunc(list, func(i, j int) int {
		a, b := &members[i], &members[j]
		switch {
		case a.Instance != "" && b.Instance != "":
			return strings.Compare(a.Instance, b.Instance)
		case a.Instance != "":
			return -1
		case b.Instance != "":
			return 1
		}
		return cmp.Compare(i, j)
	})
	return list
}
