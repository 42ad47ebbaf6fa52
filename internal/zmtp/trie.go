package zmtp

import (
	"bytes"
	"slices"
	"strings"
)

// trie maps prefixes to values, and finds the values of all prefixes of a topic
// in time that grows with the topic, however many prefixes there are and however
// cleverly a stranger chose them. Runs of bytes without a branch are one node.
// The zero trie is empty.
type trie[T any] struct{ root node[T] }

type node[T any] struct {
	label    string // The bytes between the parent and here; empty for the root.
	firsts   []byte // The first byte of each child's label.
	children []*node[T]
	used     bool // Somebody asked for exactly this prefix.
	value    T
}

// step goes one node down towards topic, of which rest remains: nil if no prefix
// goes on like that. The walk over all prefixes of a topic is
//
//	for n, rest := &t.root, topic; n != nil; n, rest = n.step(rest) {
func (n *node[T]) step(rest []byte) (*node[T], []byte) {
	if len(rest) == 0 {
		return nil, nil
	}
	c := n.child(rest[0])
	if c == nil || len(rest) < len(c.label) || string(rest[:len(c.label)]) != c.label {
		return nil, nil
	}
	return c, rest[len(c.label):]
}

func (n *node[T]) child(first byte) *node[T] {
	if i := bytes.IndexByte(n.firsts, first); i >= 0 {
		return n.children[i]
	}
	return nil
}

// matches reports whether any prefix in use begins topic.
func (t *trie[T]) matches(topic []byte) bool {
	for n, rest := &t.root, topic; n != nil; n, rest = n.step(rest) {
		if n.used {
			return true
		}
	}
	return false
}

// at returns the place of prefix, which is in use from then on.
func (t *trie[T]) at(prefix string) *T {
	n := &t.root
	for prefix != "" {
		c := n.child(prefix[0])
		if c == nil {
			c = &node[T]{label: strings.Clone(prefix)}
			n.firsts = append(n.firsts, prefix[0])
			n.children = append(n.children, c)
			n = c
			break
		}
		same := common(c.label, prefix)
		if same < len(c.label) {
			c.split(same)
		}
		n, prefix = c, prefix[same:]
	}
	n.used = true
	return &n.value
}

// split puts a node in the place of n that has the first size bytes of its
// label, and n's old self below it.
func (n *node[T]) split(size int) {
	lower := *n
	lower.label = n.label[size:]
	*n = node[T]{label: n.label[:size], firsts: []byte{lower.label[0]}, children: []*node[T]{&lower}}
}

// common is how many bytes a and b begin with alike.
func common(a, b string) int {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	return i
}

// get returns the place of prefix, nil if it is not in use.
func (t *trie[T]) get(prefix string) *T {
	n := &t.root
	for prefix != "" {
		c := n.child(prefix[0])
		if c == nil || !strings.HasPrefix(prefix, c.label) {
			return nil
		}
		n, prefix = c, prefix[len(c.label):]
	}
	if !n.used {
		return nil
	}
	return &n.value
}

// remove takes prefix out of use. Nodes that nothing needs any more go.
func (t *trie[T]) remove(prefix string) { t.root.remove(prefix) }

// remove works below n, and reports whether n itself has become useless.
func (n *node[T]) remove(prefix string) bool {
	if prefix == "" {
		var zero T
		n.used, n.value = false, zero
	} else if c := n.child(prefix[0]); c != nil && strings.HasPrefix(prefix, c.label) {
		if c.remove(prefix[len(c.label):]) {
			i := bytes.IndexByte(n.firsts, prefix[0])
			n.firsts = slices.Delete(n.firsts, i, i+1)
			n.children = slices.Delete(n.children, i, i+1)
		} else {
			c.join()
		}
	}
	return !n.used && len(n.children) == 0
}

// join makes one node of n and its only child, if n is not in use itself.
func (n *node[T]) join() {
	if n.used || len(n.children) != 1 {
		return
	}
	c := n.children[0]
	label := n.label + c.label
	*n = *c
	n.label = label
}
