package zmtp

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A trie does what a map and strings.HasPrefix do.
func TestTrie(t *testing.T) {
	words := rapid.StringMatching(`[abc]{0,5}`)
	rapid.Check(t, func(t *rapid.T) {
		var tree trie[int]
		model := map[string]int{}
		for i := range 40 {
			w := words.Draw(t, "prefix")
			if rapid.Bool().Draw(t, "remove") {
				tree.remove(w)
				delete(model, w)
			} else {
				*tree.at(w) = i
				model[w] = i
			}
			topic := words.Draw(t, "topic")
			var got, want []int
			for n, rest := &tree.root, []byte(topic); n != nil; n, rest = n.step(rest) {
				if n.used {
					got = append(got, n.value)
				}
			}
			for _, prefix := range slices.Sorted(maps.Keys(model)) { // Shorter ones come first.
				if strings.HasPrefix(topic, prefix) {
					want = append(want, model[prefix])
				}
			}
			if !slices.Equal(got, want) || tree.matches([]byte(topic)) != (len(want) > 0) {
				t.Fatalf("%q finds %v, want %v in %v", topic, got, want, model)
			}
			if place := tree.get(topic); (place != nil) != has(model, topic) || place != nil && *place != model[topic] {
				t.Fatalf("get %q: %v in %v", topic, place, model)
			}
			if !tight(&tree.root) {
				t.Fatalf("a node is of no use for %v", model)
			}
		}
		for w := range model {
			tree.remove(w)
		}
		if len(tree.root.children) > 0 || tree.root.used {
			t.Fatal("an empty trie has nodes")
		}
	})
}

// tight reports whether each node below n is a prefix in use, or a branch.
func tight(n *node[int]) bool {
	for _, c := range n.children {
		if !c.used && len(c.children) < 2 || !tight(c) {
			return false
		}
	}
	return true
}

func has(m map[string]int, key string) bool {
	_, ok := m[key]
	return ok
}

// Finding subscribers takes the same time whether there is one prefix or a
// hundred thousand.
func BenchmarkMatch(b *testing.B) {
	for _, count := range []int{1, 1000, 100_000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			var tree trie[struct{}]
			for n := range count {
				tree.at(fmt.Sprintf("M%032x", n*0x9e3779b9))
			}
			topic := fmt.Appendf(nil, "M%032x and fields", (count-1)*0x9e3779b9)
			for b.Loop() {
				if !tree.matches(topic) {
					b.Fatal("not found")
				}
			}
		})
	}
}
