package fabric

// question is a range of a partition that somebody asked for and has not got all
// of.
type question struct {
	asker     []byte
	partition int // The reader's number; 0 at producers.
	next, end uint64
}

// asked names a question: an asker that asks again for a partition replaces what
// it asked before.
type asked struct {
	asker     string
	partition int
}

// questions are answered by turns, so that none waits for a long one. They are
// bounded: who asks when there are too many will ask again.
type questions struct {
	max   int
	ring  []*question
	turn  int // Where in ring the next one is.
	known map[asked]*question
}

func newQuestions(most int) questions { return questions{max: most, known: map[asked]*question{}} }

// ask notes a question, and reports whether there was room for it.
func (q *questions) ask(asker []byte, partition int, next, end uint64) bool {
	if old := q.known[asked{string(asker), partition}]; old != nil {
		old.next, old.end = next, end
		return true
	}
	if len(q.ring) >= q.max {
		return false
	}
	it := &question{asker: append([]byte(nil), asker...), partition: partition, next: next, end: end}
	q.known[asked{string(asker), partition}] = it
	q.ring = append(q.ring, it)
	return true
}

// pick is whose turn it is, or nil.
func (q *questions) pick() *question {
	if len(q.ring) == 0 {
		return nil
	}
	q.turn %= len(q.ring)
	return q.ring[q.turn]
}

// pass gives the turn to the one behind it.
func (q *questions) pass() { q.turn++ }

// drop ends a question.
func (q *questions) drop(it *question) {
	delete(q.known, asked{string(it.asker), it.partition})
	for i, other := range q.ring {
		if other == it {
			q.ring = append(q.ring[:i], q.ring[i+1:]...)
			if i < q.turn {
				q.turn--
			}
			return
		}
	}
}
