package group

import (
	"cmp"
	"slices"
	"strings"

	"github.com/barnabas-log/barnabas/model"
)

// committed is a committed offset.
type committed struct {
	partition   int32
	leaderEpoch int32 // -1 is none.
	offset      int64
	at          int64 // When it was committed, in milliseconds since 1970.
	expires     int64 // When it expires, as clients of long ago may say; -1 is none.
	// order numbers the records of offsets: the later record counts, also when the
	// end of a transaction brings an earlier one to light.
	order    uint64
	metadata string
	topicID  model.TopicID // Zero where it is not known.
}

// topicOffsets are the committed offsets in one topic.
type topicOffsets struct {
	name string
	list []committed
	// index is the place of a partition in list. It is nil while the list is short.
	index map[int32]int32
}

// shortList is up to where looking at all is faster than a map, and takes less.
const shortList = 8

func (t *topicOffsets) place(partition int32) int {
	if t.index != nil {
		if i, ok := t.index[partition]; ok {
			return int(i)
		}
		return -1
	}
	for i := range t.list {
		if t.list[i].partition == partition {
			return i
		}
	}
	return -1
}

func (t *topicOffsets) get(partition int32) *committed {
	if t == nil {
		return nil
	}
	if i := t.place(partition); i >= 0 {
		return &t.list[i]
	}
	return nil
}

// put keeps c, and returns how many bytes more that takes.
func (t *topicOffsets) put(c committed) int {
	if i := t.place(c.partition); i >= 0 {
		before := t.list[i].bytes()
		if t.list[i].metadata == c.metadata {
			c.metadata = t.list[i].metadata // Whose memory is ours.
		} else {
			c.metadata = strings.Clone(c.metadata)
		}
		t.list[i] = c
		return c.bytes() - before
	}
	c.metadata = strings.Clone(c.metadata)
	t.list = append(t.list, c)
	switch {
	case t.index != nil:
		t.index[c.partition] = int32(len(t.list) - 1)
	case len(t.list) > shortList:
		t.index = make(map[int32]int32, 2*shortList)
		for i := range t.list {
			t.index[t.list[i].partition] = int32(i)
		}
	}
	return c.bytes()
}

// remove returns how many bytes less are taken.
func (t *topicOffsets) remove(partition int32) int {
	i := t.place(partition)
	if i < 0 {
		return 0
	}
	last, bytes := len(t.list)-1, t.list[i].bytes()
	if t.index != nil {
		delete(t.index, partition)
		if i != last {
			t.index[t.list[last].partition] = int32(i)
		}
	}
	t.list[i] = t.list[last]
	t.list[last] = committed{}
	t.list = t.list[:last]
	return bytes
}

// sorted are the offsets in the order of partitions.
func (t *topicOffsets) sorted() []committed {
	list := slices.Clone(t.list)
	slices.SortFunc(list, func(a, b committed) int { return cmp.Compare(a.partition, b.partition) })
	return list
}

// offsets are those of one group, by topic.
type offsets map[string]*topicOffsets

func (o offsets) get(topic string, partition int32) *committed { return o[topic].get(partition) }

// put keeps c, and returns how many bytes more that takes. The topic's name may
// be memory of somebody else.
func (o offsets) put(topic string, c committed) (bytes int) {
	t := o[topic]
	if t == nil {
		topic = strings.Clone(topic)
		t = &topicOffsets{name: topic}
		o[topic] = t
		bytes = t.own()
	}
	return bytes + t.put(c)
}

// own is what a topic takes beside its offsets.
func (t *topicOffsets) own() int { return committedTopicBytes + len(t.name) }

// remove returns how many bytes less are taken.
func (o offsets) remove(topic string, partition int32) int {
	t := o[topic]
	if t == nil {
		return 0
	}
	bytes := t.remove(partition)
	if len(t.list) == 0 {
		delete(o, topic)
		bytes += t.own()
	}
	return bytes
}

// more is how many bytes more it would take to put c.
func (o offsets) more(topic string, c *committed) int {
	t := o[topic]
	switch old := t.get(c.partition); {
	case t == nil:
		return committedTopicBytes + len(topic) + c.bytes()
	case old == nil:
		return c.bytes()
	default:
		return c.bytes() - old.bytes()
	}
}

func (o offsets) bytes() (n int) {
	for _, t := range o {
		n += t.own()
		for i := range t.list {
			n += t.list[i].bytes()
		}
	}
	return n
}

// topics are the names in order.
func (o offsets) topics() []string { return sortedKeys(o) }

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func sortedPartitions[V any](m map[int32]V) []int32 {
	list := make([]int32, 0, len(m))
	for n := range m {
		list = append(list, n)
	}
	slices.Sort(list)
	return list
}

// producers are those whose transactions hold an offset of a partition.
type producers []model.ProducerID

// open says which offsets of a group are held by transactions, by topic and
// partition.
type open map[string]map[int32]producers

func (o open) has(topic string, partition int32) bool { return len(o[topic][partition]) > 0 }

func (o open) add(topic string, partition int32, id model.ProducerID) {
	t := o[topic]
	if t == nil {
		t = map[int32]producers{}
		o[strings.Clone(topic)] = t
	}
	if !slices.Contains(t[partition], id) {
		t[partition] = append(t[partition], id)
	}
}

func (o open) remove(topic string, partition int32, id model.ProducerID) {
	t := o[topic]
	left := slices.DeleteFunc(t[partition], func(p model.ProducerID) bool { return p == id })
	if len(left) > 0 {
		t[partition] = left
		return
	}
	o.clear(topic, partition)
}

func (o open) clear(topic string, partition int32) {
	t := o[topic]
	delete(t, partition)
	if len(t) == 0 {
		delete(o, topic)
	}
}

// transaction is what a producer's open transaction will commit, by group.
type transaction map[string]offsets
