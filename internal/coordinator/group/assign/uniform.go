package assign

import (
	"cmp"
	"slices"
)

// Uniform gives all members as many partitions as it can, and lets each keep
// what it had where that does not stand in the way. Assignments are beside the
// members.
func Uniform(g Group) []Assignment {
	if len(g.Members) == 0 {
		return nil
	}
	t := newTable(&g)
	if g.Same {
		t.level()
	} else {
		t.mix()
	}
	return t.assignments()
}

// level is for members that want the same topics: each gets its quota, which
// is the same for all but for one partition.
func (t *table) level() {
	total := 0
	for _, owners := range t.owners {
		total += len(owners)
	}
	members := len(t.group.Members)
	quota, extra := total/members, total%members
	var missing []int // Whom partitions are missing, once for each.
	for i := range t.group.Members {
		most := quota
		if extra > 0 {
			most++
		}
		t.has(i, func(int) bool { return true }, func(p partition) {
			if t.sizes[i] < most {
				t.give(p, i)
			}
		})
		// One more is for those who have it already, as long as there are enough
		// members left to take the rest.
		if most > quota {
			if t.sizes[i] < most && members-i > extra {
				most--
			} else {
				extra--
			}
		}
		for range most - t.sizes[i] {
			missing = append(missing, i)
		}
	}
	for n, p := range t.free() {
		t.give(p, missing[n])
	}
}

// maxRounds bounds how often mix goes over all topics. It is Kafka's number.
const maxRounds = 16

// mix is for members that want different topics. What is free goes to those who
// have least; then, topic by topic, partitions move from those who have most to
// those who have least, until nothing moves any more.
func (t *table) mix() {
	takers := t.takers()
	for i := range t.group.Members {
		wants := func(topic int) bool {
			_, ok := slices.BinarySearch(takers[topic], i)
			return ok
		}
		t.has(i, wants, func(p partition) { t.give(p, i) })
	}
	order := t.order(takers)
	for _, topic := range order {
		t.fill(topic, takers[topic])
	}
	for range maxRounds {
		moved := 0
		for _, topic := range order {
			if len(takers[topic]) > 1 {
				moved += t.even(topic, takers[topic])
			}
		}
		if moved == 0 {
			return
		}
	}
}

// takers are the members that want each topic.
func (t *table) takers() [][]int {
	takers := make([][]int, len(t.ids))
	for i := range t.group.Members {
		for _, id := range t.group.Members[i].Topics {
			topic := t.index[id]
			takers[topic] = append(takers[topic], i)
		}
	}
	return takers
}

// order are the topics, those with most partitions for each taker first, of
// these those with fewest takers.
func (t *table) order(takers [][]int) []int {
	list := make([]int, len(t.ids))
	for i := range list {
		list[i] = i
	}
	slices.SortStableFunc(list, func(a, b int) int {
		return cmp.Or(
			cmp.Compare(len(t.owners[b])*len(takers[a]), len(t.owners[a])*len(takers[b])),
			cmp.Compare(len(takers[a]), len(takers[b])),
		)
	})
	return list
}

// fill gives the free partitions of a topic to those who have least.
func (t *table) fill(topic int, takers []int) {
	least := newQueue(takers, t.sizes, func(a, b int) bool { return a < b })
	for n, owner := range t.owners[topic] {
		if owner == nobody {
			to := least.members[0]
			t.give(partition{topic, int32(n)}, to)
			least.moved(to)
		}
	}
}

// even moves partitions of a topic from those who have most in all to those who
// have least, while they differ by more than one. It returns how many moved.
func (t *table) even(topic int, takers []int) (moved int) {
	owned := make(map[int][]int32, len(takers))
	for n, owner := range t.owners[topic] {
		if owner != nobody {
			owned[int(owner)] = append(owned[int(owner)], int32(n))
		}
	}
	givers := slices.DeleteFunc(slices.Clone(takers), func(i int) bool { return len(owned[i]) == 0 })
	least := newQueue(takers, t.sizes, func(a, b int) bool { return a < b })
	most := newQueue(givers, t.sizes, func(a, b int) bool { return a > b })
	for len(most.members) > 0 {
		from, to := most.members[0], least.members[0]
		if t.sizes[from]-t.sizes[to] <= 1 {
			return moved
		}
		list := owned[from]
		t.give(partition{topic, list[len(list)-1]}, to)
		moved++
		if owned[from] = list[:len(list)-1]; len(list) == 1 {
			most.drop()
		}
		for _, i := range []int{from, to} {
			least.moved(i)
			most.moved(i)
		}
	}
	return moved
}

// queue has members in the order of their sizes; of equals the first comes
// first. It is a heap.
type queue struct {
	members []int
	places  []int // Of each member, plus one; 0 is nowhere.
	sizes   []int
	before  func(a, b int) bool
}

func newQueue(members, sizes []int, before func(a, b int) bool) *queue {
	q := &queue{slices.Clone(members), make([]int, len(sizes)), sizes, before}
	for i, member := range q.members {
		q.places[member] = i + 1
	}
	for i := len(q.members)/2 - 1; i >= 0; i-- {
		q.down(i)
	}
	return q
}

// moved finds the place of a member whose size has changed.
func (q *queue) moved(member int) {
	i := q.places[member] - 1
	if i < 0 {
		return
	}
	for i > 0 && q.less(i, (i-1)/2) {
		q.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
	q.down(i)
}

// drop takes the first member out.
func (q *queue) drop() {
	last := len(q.members) - 1
	q.swap(0, last)
	q.places[q.members[last]] = 0
	q.members = q.members[:last]
	q.down(0)
}

func (q *queue) less(i, j int) bool {
	a, b := q.members[i], q.members[j]
	if x, y := q.sizes[a], q.sizes[b]; x != y {
		return q.before(x, y)
	}
	return a < b
}

func (q *queue) swap(i, j int) {
	q.members[i], q.members[j] = q.members[j], q.members[i]
	q.places[q.members[i]], q.places[q.members[j]] = i+1, j+1
}

func (q *queue) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(q.members) {
			return
		}
		if child+1 < len(q.members) && q.less(child+1, child) {
			child++
		}
		if !q.less(child, i) {
			return
		}
		q.swap(i, child)
		i = child
	}
}
