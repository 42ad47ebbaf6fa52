package fabric

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

var (
	worlds  = flag.Int("fabric.worlds", 100, "worlds of TestWorlds, times $BARNABAS_WORLDS")
	oneSeed = flag.Int64("fabric.seed", -1, "the only world of TestWorlds, if it is not negative")
	trace   = flag.Bool("fabric.trace", false, "log all messages of TestWorlds")
)

// Producers, consumers, stores and a tower that crash, stall and lose what they
// say: records of a partition are delivered in order, each once, with the right
// content; what was acknowledged is in as many stores as it took; and when the
// disasters end, everything arrives, and nobody asks any more.
func TestWorlds(t *testing.T) {
	n := *worlds
	if times, err := strconv.Atoi(os.Getenv("BARNABAS_WORLDS")); err == nil && times > 1 {
		n *= times
	}
	if testing.Short() {
		n = min(n, 30)
	}
	var total tally
	for seed := range uint64(n) {
		if *oneSeed >= 0 {
			seed = uint64(*oneSeed)
		}
		total.add(playWorld(t, seed))
		if *oneSeed >= 0 {
			return
		}
	}
	t.Logf("%+v", total)
	if n >= 100 {
		total.mustBeLively(t)
	}
}

func playWorld(t testing.TB, seed uint64) tally {
	w := newWorld(t, seed)
	for range 1500 {
		w.step()
	}
	w.quiesce()
	w.judge()
	return w.tally
}

// tally counts what happened, lest a world in which nothing happens passes.
type tally struct {
	published, refused, delivered, released int
	lost, dropped, doubled, broken          int
	fetches, disconnects                    int
	producerCrashes, resumes, storeCrashes  int
	consumerCrashes, wipes, towers, stalls  int
	unsynced, failedWrites, trims, skips    int
	adopted, terminated, reused             int
}

func (a *tally) fields() []*int {
	return []*int{
		&a.published, &a.refused, &a.delivered, &a.released, &a.lost, &a.dropped, &a.doubled, &a.broken, &a.fetches, &a.disconnects,
		&a.producerCrashes, &a.resumes, &a.storeCrashes, &a.consumerCrashes, &a.wipes, &a.towers, &a.stalls,
		&a.unsynced, &a.failedWrites, &a.trims, &a.skips, &a.adopted, &a.terminated, &a.reused,
	}
}

func (a *tally) add(b tally) {
	more := b.fields()
	for i, n := range a.fields() {
		*n += *more[i]
	}
}

func (a *tally) mustBeLively(t *testing.T) {
	for i, n := range a.fields() {
		if *n == 0 {
			t.Errorf("something (%d) never happened: %+v", i, a)
		}
	}
}

func newWorld(t testing.TB, seed uint64) *world {
	w := &world{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 6)), now: morning, tower: true, truth: map[Partition][]string{}, trimmed: map[Partition]uint64{}}
	w.topics = []string{"id", "idle", "x"}[:1+w.rng.IntN(3)]
	w.room = 5 + w.rng.IntN(100)
	w.loss = []int{0, 10, 100, 300}[w.rng.IntN(4)]
	w.retention = w.rng.IntN(3) == 0
	stores := 1 + w.rng.IntN(3)
	w.minAcks = 1 + w.rng.IntN(stores)
	for range stores {
		s := &store{w: w, id: w.newID("S"), disk: map[Partition]*disk{}}
		w.stores = append(w.stores, s)
		s.start()
	}
	for range 1 + w.rng.IntN(3) {
		p := &producer{w: w, topic: w.topics[w.rng.IntN(len(w.topics))], durable: w.rng.IntN(2) == 0}
		w.producers = append(w.producers, p)
		p.start()
	}
	for range 1 + w.rng.IntN(3) {
		c := &consumer{w: w, reset: Reset(w.rng.IntN(3)), next: map[Partition]uint64{}, began: map[Partition]uint64{}}
		c.topic = append(slices.Clone(w.topics), "")[w.rng.IntN(len(w.topics)+1)]
		w.consumers = append(w.consumers, c)
		c.start()
	}
	return w
}

func (w *world) newID(kind string) string {
	w.lives++
	return fmt.Sprint(kind, w.lives)
}

func (w *world) someProducer() {
	p := w.producers[w.rng.IntN(len(w.producers))]
	if p.node == nil {
		p.start()
		return
	}
	for range 1 + w.rng.IntN(8) {
		p.publish()
	}
}

func (w *world) someDisaster() {
	s := w.stores[w.rng.IntN(len(w.stores))]
	switch w.rng.IntN(9) {
	case 0:
		w.breakLane()
	case 1:
		if p := w.producers[w.rng.IntN(len(w.producers))]; p.node != nil && w.disaster(4) {
			p.crash()
		}
	case 2:
		if w.disaster(3) {
			s.crashOrStart()
		}
	case 3:
		if w.disaster(3) {
			c := w.consumers[w.rng.IntN(len(w.consumers))]
			c.crash()
			c.start()
		}
	case 4:
		if w.disaster(6) {
			w.tower = !w.tower
			w.towers++
		}
	case 5, 6:
		n := w.nodes[w.rng.IntN(len(w.nodes))]
		n.stalled = !n.stalled
		w.stalls++
	case 7:
		s.trim()
	case 8:
		if w.disaster(8) {
			w.producers[w.rng.IntN(len(w.producers))].terminate()
		}
	}
}

// quiesce ends the disasters, lets those who can come back, and waits.
func (w *world) quiesce() {
	w.quiet, w.tower, w.loss = true, true, 0
	for _, n := range w.nodes {
		n.stalled = false
	}
	for _, s := range w.stores {
		if s.writer == nil {
			s.start()
		}
	}
	for _, p := range w.producers {
		if p.node == nil {
			p.start()
		}
	}
	w.rest(300 * time.Second)
	before := w.fetches
	w.rest(30 * time.Second)
	if n := w.fetches - before; n > 0 {
		w.fatalf("%d fetches at the end", n)
	}
}

func (w *world) judge() {
	for _, s := range w.stores {
		s.judge()
	}
	for _, p := range w.producers {
		if n, _ := p.machine.Unacked(); n > 0 {
			w.fatalf("producer %s has %d records that nobody acknowledged", p.node.address, n)
		}
		if p.machine.Next() != uint64(len(w.truth[p.partition()])) {
			w.fatalf("producer %s is at %d of %d", p.node.address, p.machine.Next(), len(w.truth[p.partition()]))
		}
	}
	for _, c := range w.consumers {
		c.judge()
	}
}

// stored is one past the last record of a partition that any store has.
func (w *world) stored(p Partition) (end uint64) {
	for _, s := range w.stores {
		if d := s.disk[p]; d != nil {
			end = max(end, d.end)
		}
	}
	return end
}

// copies is how many stores have a record, or had it until retention took it.
func (w *world) copies(p Partition, sequence uint64) (n int) {
	for _, s := range w.stores {
		if d := s.disk[p]; d != nil && (d.has[sequence] || d.trimmed > sequence) {
			n++
		}
	}
	return n
}

// partitions are all there were, in order.
func (w *world) partitions() []Partition {
	var all []Partition
	for p := range w.truth {
		all = append(all, p)
	}
	slices.SortFunc(all, Partition.compare)
	return all
}
