package assign

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/barnabas-log/barnabas/model"
)

func topic(n int) (id model.TopicID) {
	id[0], id[15] = byte(n>>8), byte(n)
	return id
}

// setting is a group that changes.
type setting struct {
	sizes   map[model.TopicID]int
	members []Member
}

func (s *setting) group() Group {
	slices.SortFunc(s.members, func(a, b Member) int { return slices.Compare([]byte(a.ID), []byte(b.ID)) })
	same := true
	for i := range s.members {
		same = same && slices.Equal(s.members[i].Topics, s.members[0].Topics)
	}
	return Group{s.members, same, func(id model.TopicID) int { return s.sizes[id] }}
}

// check holds an assignment to what all assignors promise: every partition that
// somebody wants has one owner, who wants it.
func (s *setting) check(out []Assignment) error {
	owner := map[string]int{}
	wanted := map[model.TopicID]bool{}
	for i, a := range out {
		for _, id := range s.members[i].Topics {
			wanted[id] = true
		}
		if !slices.IsSortedFunc(a, func(x, y Topic) int { return Compare(x.ID, y.ID) }) {
			return fmt.Errorf("topics of %s are out of order", s.members[i].ID)
		}
		for _, t := range a {
			if !slices.Contains(s.members[i].Topics, t.ID) {
				return fmt.Errorf("%s got a topic that it did not want", s.members[i].ID)
			}
			if len(t.Partitions) == 0 || !slices.IsSorted(t.Partitions) {
				return fmt.Errorf("partitions of %s: %v", s.members[i].ID, t.Partitions)
			}
			for _, p := range t.Partitions {
				key := fmt.Sprint(t.ID, p)
				if other, twice := owner[key]; twice || p < 0 || int(p) >= s.sizes[t.ID] {
					return fmt.Errorf("partition %d of %v: %d and %d", p, t.ID, other, i)
				}
				owner[key] = i
			}
		}
	}
	want := 0
	for id := range wanted {
		want += s.sizes[id]
	}
	if len(owner) != want {
		return fmt.Errorf("%d of %d partitions have an owner", len(owner), want)
	}
	return nil
}

// spread is how many partitions more the richest has than the poorest of those
// who could take one from it.
func (s *setting) spread(out []Assignment) int {
	worst := 0
	for i, a := range out {
		for _, t := range a {
			for j := range out {
				if slices.Contains(s.members[j].Topics, t.ID) {
					worst = max(worst, out[i].Count()-out[j].Count())
				}
			}
		}
	}
	return worst
}

func kept(before, after Assignment) (n int) {
	for _, t := range before {
		for _, p := range t.Partitions {
			if slices.Contains(after.Of(t.ID), p) {
				n++
			}
		}
	}
	return n
}

// worlds is how many seeds to play, times what BARNABAS_WORLDS says.
func worlds(n int) int {
	if times, err := strconv.Atoi(os.Getenv("BARNABAS_WORLDS")); err == nil && times > 1 {
		return n * times
	}
	return n
}

// Members come and go, topics grow, subscriptions change; all the time every
// partition has one owner, and those who may be even are.
func TestWorlds(t *testing.T) {
	t.Parallel()
	for seed := range worlds(1000) {
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		if err := play(r); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func play(r *rand.Rand) error {
	s := &setting{sizes: map[model.TopicID]int{}}
	var ids []model.TopicID
	for i := range 1 + r.IntN(5) {
		ids = append(ids, topic(i))
		s.sizes[topic(i)] = r.IntN(12)
	}
	alike := r.IntN(2) == 0
	for step := range 30 {
		switch r.IntN(5) {
		case 0, 1:
			m := Member{ID: fmt.Sprintf("m%03d", r.IntN(1000)), Topics: ids}
			if !alike {
				m.Topics = slices.DeleteFunc(slices.Clone(ids), func(model.TopicID) bool { return r.IntN(3) == 0 })
			}
			if r.IntN(4) == 0 {
				m.Instance = fmt.Sprint("i", r.IntN(100))
			}
			if !slices.ContainsFunc(s.members, func(o Member) bool { return o.ID == m.ID }) {
				s.members = append(s.members, m)
			}
		case 2:
			if len(s.members) > 0 {
				i := r.IntN(len(s.members))
				s.members = slices.Delete(s.members, i, i+1)
			}
		case 3:
			s.sizes[ids[r.IntN(len(ids))]] += r.IntN(4)
		case 4:
			if len(s.members) > 0 && !alike {
				m := &s.members[r.IntN(len(s.members))]
				m.Topics = slices.DeleteFunc(slices.Clone(ids), func(model.TopicID) bool { return r.IntN(2) == 0 })
			}
		}
		g := s.group()
		if err := s.check(Range(g)); err != nil {
			return fmt.Errorf("step %d: range: %w", step, err)
		}
		out := Uniform(g)
		if err := s.check(out); err != nil {
			return fmt.Errorf("step %d: uniform: %w", step, err)
		}
		if d := s.spread(out); d > 1 && g.Same {
			return fmt.Errorf("step %d: uniform: sizes differ by %d", step, d)
		}
		for i := range out {
			s.members[i].Had = out[i]
		}
		// What nobody asked to change does not change.
		for i, again := range Uniform(s.group()) {
			if !again.Equal(out[i]) {
				return fmt.Errorf("step %d: uniform moves partitions of %s for nothing", step, s.members[i].ID)
			}
		}
	}
	return nil
}

// One more member takes its share and nothing else moves.
func TestUniformKeeps(t *testing.T) {
	t.Parallel()
	s := &setting{sizes: map[model.TopicID]int{topic(1): 12, topic(2): 12}}
	for i := range 3 {
		s.members = append(s.members, Member{ID: fmt.Sprint("m", i), Topics: []model.TopicID{topic(1), topic(2)}})
	}
	for i, a := range Uniform(s.group()) {
		s.members[i].Had = a
	}
	s.members = append(s.members, Member{ID: "m3", Topics: s.members[0].Topics})
	out := Uniform(s.group())
	stayed := 0
	for i := range out {
		stayed += kept(s.members[i].Had, out[i])
		if n := out[i].Count(); n != 6 {
			t.Errorf("member %d has %d partitions", i, n)
		}
	}
	if stayed != 18 {
		t.Errorf("%d of 18 partitions stayed", stayed)
	}
}

// Members that say they had what does not exist, or what others had, get what
// they should.
func TestHadIsDoubted(t *testing.T) {
	t.Parallel()
	lie := Assignment{{topic(1), []int32{-1, 0, 1, 2, 7, 1 << 30}}, {topic(9), []int32{0}}}
	for _, same := range []bool{true, false} {
		s := &setting{sizes: map[model.TopicID]int{topic(1): 4}}
		for i := range 3 {
			s.members = append(s.members, Member{ID: fmt.Sprint(i), Topics: []model.TopicID{topic(1)}, Had: lie})
		}
		g := s.group()
		g.Same = same
		if err := s.check(Uniform(g)); err != nil {
			t.Errorf("same %v: %v", same, err)
		}
	}
}

func TestRangeOrder(t *testing.T) {
	t.Parallel()
	one, two := topic(1), topic(2)
	s := &setting{sizes: map[model.TopicID]int{one: 5, two: 2}, members: []Member{
		{ID: "a", Topics: []model.TopicID{one, two}},
		{ID: "b", Topics: []model.TopicID{one}, Instance: "z"},
		{ID: "c", Topics: []model.TopicID{one, two}, Instance: "y"},
	}}
	got := fmt.Sprint(Range(s.group()))
	want := fmt.Sprint([]Assignment{{{one, []int32{4}}, {two, []int32{1}}}, {{one, []int32{2, 3}}}, {{one, []int32{0, 1}}, {two, []int32{0}}}})
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A member for whom nothing is left has nothing, and nobody is asked for a
// topic that is gone.
func TestNothing(t *testing.T) {
	t.Parallel()
	gone := Group{Members: []Member{{ID: "a", Topics: []model.TopicID{topic(1)}}}, Partitions: func(model.TopicID) int { return -1 }}
	for _, g := range []Group{{}, gone, {Members: []Member{{ID: "a"}}, Same: true, Partitions: func(model.TopicID) int { return 1 }}} {
		for _, out := range [][]Assignment{Uniform(g), Range(g)} {
			for _, a := range out {
				if len(a) > 0 {
					t.Errorf("%v gave %v", g.Members, a)
				}
			}
		}
	}
}

func BenchmarkUniform(b *testing.B) {
	for _, same := range []bool{true, false} {
		s := &setting{sizes: map[model.TopicID]int{}}
		for i := range 10 {
			s.sizes[topic(i)] = 100
		}
		for i := range 100 {
			m := Member{ID: fmt.Sprintf("%03d", i)}
			for j := range 10 {
				if same || (i+j)%3 > 0 {
					m.Topics = append(m.Topics, topic(j))
				}
			}
			s.members = append(s.members, m)
		}
		b.Run(fmt.Sprintf("same=%v", same), func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				Uniform(s.group())
			}
		})
	}
}
