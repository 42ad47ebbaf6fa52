package assign

import "github.com/barnabas-log/barnabas/model"

// Range gives each member a range of each topic's partitions, so that
// partitions of the same number meet in one member. The ranges of a topic differ
// by at most one partition. Assignments are beside the members.
func Range(g Group) []Assignment {
	order := inOrder(g.Members)
	shares := map[model.TopicID]*share{}
	for i := range g.Members {
		for _, id := range g.Members[i].Topics {
			s := shares[id]
			if s == nil {
				s = &share{partitions: max(0, g.Partitions(id))}
				shares[id] = s
			}
			s.members++
		}
	}
	out := make([]Assignment, len(g.Members))
	for _, i := range order {
		for _, id := range g.Members[i].Topics {
			if list := shares[id].take(); len(list) > 0 {
				out[i] = append(out[i], Topic{id, list})
			}
		}
	}
	return out
}

// share is how a topic is cut into ranges.
type share struct{ partitions, members, next, taken int }

// take cuts the next range off: the first members get one more, until what
// does not divide is spent.
func (s *share) take() []int32 {
	n := s.partitions / s.members
	if s.taken < s.partitions%s.members {
		n++
	}
	s.taken++
	list := make([]int32, n)
	for i := range list {
		list[i] = int32(s.next + i)
	}
	s.next += n
	return list
}
