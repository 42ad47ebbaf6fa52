package coordinator

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

var worlds = flag.Int("coordinator.worlds", 1000, "worlds of TestWorlds, times $BARNABAS_WORLDS")

// A shard whose log refuses appends, commits late, or is another's for a while:
// nothing is answered before it is committed, what was answered is there in the
// end, once, and nobody waits for ever.
func TestWorlds(t *testing.T) {
	n := *worlds
	if times, err := strconv.Atoi(os.Getenv("BARNABAS_WORLDS")); err == nil && times > 1 {
		n *= times
	}
	seen := map[string]int{}
	for seed := range uint64(n) {
		play(t, true, func(s *stage) {
			w := &world{stage: s, t: t, Rand: rand.New(rand.NewPCG(seed, 5)), seed: seed, seen: seen}
			for range 20 + w.IntN(60) {
				w.step()
			}
			w.settle()
		})
		if t.Failed() {
			return
		}
	}
	t.Log(seen)
	for _, what := range []string{"answered", "refused", "failover", "full", "aborted"} {
		if n >= 100 && seen[what] == 0 {
			t.Errorf("never %s: %v", what, seen)
		}
	}
}

type world struct {
	*stage
	*rand.Rand
	t     *testing.T
	seed  uint64
	seen  map[string]int // What happened in all worlds.
	epoch model.Epoch
	asked []*request
	open  map[model.ProducerID][]*request // Of transactions that have not ended.
}

// request adds one to a name of its own.
type request struct {
	name   string
	answer answer
	// Of transactions: how it ended, if that was answered.
	transactional, committed, aborted bool
}

func (w *world) step() {
	switch n := w.IntN(20); {
	case n < 8:
		w.add(nil)
	case n < 10:
		w.add(&record.Producer{ID: model.ProducerID(w.IntN(3)), Sequence: record.NoSequence})
	case n < 11:
		w.end(model.ProducerID(w.IntN(3)), w.IntN(2) == 0)
	case n < 15:
		w.log.set(func() { w.log.mu.committed += model.Offset(w.Int64N(int64(w.log.mu.end-w.log.mu.committed) + 1)) })
	case n < 16:
		w.seen["full"]++
		w.log.set(func() { w.log.mu.refuse = errors.New("disk full") })
	case n < 18:
		w.log.set(func() { w.log.mu.refuse = nil })
	case n < 19:
		w.failover()
	default:
		time.Sleep(time.Duration(w.IntN(3000)) * time.Millisecond)
	}
	if w.IntN(2) == 0 { // Else several things come at once.
		synctest.Wait()
	}
}

func (w *world) add(of *record.Producer) {
	r := &request{name: fmt.Sprint("n", len(w.asked)), transactional: of != nil}
	w.asked = append(w.asked, r)
	if of != nil {
		if w.open == nil {
			w.open = map[model.ProducerID][]*request{}
		}
		w.open[of.ID] = append(w.open[of.ID], r)
	}
	w.submit(r, add{r.name, 1, of}, func() {
		if !w.isCommitted(r.name) {
			w.t.Errorf("seed %d: %s is answered, and not committed", w.seed, r.name)
		}
	})
}

// end ends a transaction. Only of one whose end was answered is anything known.
func (w *world) end(id model.ProducerID, commit bool) {
	r, parts := &request{name: "end"}, w.open[id]
	delete(w.open, id)
	w.asked = append(w.asked, r)
	w.submit(r, end{record.Producer{ID: id, Sequence: record.NoSequence}, commit}, func() {
		for _, p := range parts {
			p.committed, p.aborted = commit, !commit
		}
	})
}

func (w *world) submit(r *request, in any, answered func()) {
	take := func(v any, err error) {
		r.answer.take(v, err)
		if err == nil {
			answered()
		}
	}
	if err := w.Submit(0, in, take); err != nil {
		take(nil, err)
	}
}

func (w *world) isCommitted(name string) bool {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	for _, b := range w.log.mu.batches {
		for r, err := range b.Records(0) {
			if err == nil && string(r.Key) == name {
				return r.Offset < w.log.mu.committed
			}
		}
	}
	return false
}

// failover gives the log to another, who cuts off what is not committed, and
// back.
func (w *world) failover() {
	w.seen["failover"]++
	w.epoch++
	w.log.set(func() {
		w.log.mu.epoch = w.epoch
		kept := w.log.mu.batches[:0:0]
		for _, b := range w.log.mu.batches {
			if b.End() <= w.log.mu.committed {
				kept = append(kept, b)
			}
		}
		w.log.mu.batches, w.log.mu.end = kept, 0
		if n := len(kept); n > 0 {
			w.log.mu.end = kept[n-1].End()
		}
		w.log.mu.committed = w.log.mu.end
	})
	if w.IntN(2) == 0 {
		w.Resign(0)
	}
	if w.IntN(2) == 0 {
		synctest.Wait()
	}
	w.Lead(0, w.epoch, w.log)
}

// settle lets the shard be in peace, and looks at what has become of all.
func (w *world) settle() {
	w.log.set(func() { w.log.byHand, w.log.mu.refuse, w.log.mu.committed = false, nil, w.log.mu.end })
	time.Sleep(2 * reloadPause)
	synctest.Wait()
	for _, r := range w.asked {
		a := &r.answer
		switch {
		case a.given != 1:
			w.t.Errorf("seed %d: %s is answered %d times", w.seed, r.name, a.given)
		case a.err != nil:
			w.seen["refused"]++
		default:
			w.seen["answered"]++
		}
		if strings.HasPrefix(r.name, "n") {
			w.judge(r)
		}
	}
}

func (w *world) judge(r *request) {
	total := w.give(w.t, ask{r.name})
	got, _ := total.v.(int)
	at, most := 0, 1
	switch {
	case r.answer.err != nil: // It may have come to pass.
	case r.transactional && r.committed, !r.transactional:
		at = 1
	case r.aborted:
		w.seen["aborted"]++
		most = 0
	}
	if total.err != nil || got < at || got > most {
		w.t.Errorf("seed %d: %s is %d (%v), want %d to %d", w.seed, r.name, got, total.err, at, most)
	}
}
