package txn

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/internal/producers"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

var (
	worlds  = flag.Int("txn.worlds", 1000, "worlds of TestWorlds, times $BARNABAS_WORLDS")
	oneSeed = flag.Int64("txn.seed", -1, "the only world of TestWorlds, if it is not negative")
)

// Clients with transactions over some partitions, their zombies, a shard that
// fails over, markers on the way: no transaction is torn, none hangs, no record
// of an aborted one is visible, none of a committed one is lost.
func TestWorlds(t *testing.T) {
	n := *worlds
	if times, err := strconv.Atoi(os.Getenv("BARNABAS_WORLDS")); err == nil && times > 1 {
		n *= times
	}
	if testing.Short() {
		n = min(n, 50)
	}
	total := tally{}
	for seed := range uint64(n) {
		if *oneSeed >= 0 {
			seed, n = uint64(*oneSeed), 1
		}
		w := newWorld(t, seed)
		for range 1500 {
			w.step()
		}
		w.quiesce()
		w.judge()
		total.add(&w.tally)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		if *oneSeed >= 0 {
			break
		}
	}
	t.Logf("%+v", total)
	if n >= 50 {
		total.mustBeLively(t)
	}
}

// tally counts what happened, lest a world in which nothing happens passes.
type tally struct {
	committed, aborted, unknown, timeouts, failovers, reloads, fenced, refused, rotations, unwelcome int
}

func (a *tally) add(b *tally) {
	a.committed, a.aborted, a.unknown = a.committed+b.committed, a.aborted+b.aborted, a.unknown+b.unknown
	a.timeouts, a.failovers, a.reloads = a.timeouts+b.timeouts, a.failovers+b.failovers, a.reloads+b.reloads
	a.fenced, a.refused, a.rotations = a.fenced+b.fenced, a.refused+b.refused, a.rotations+b.rotations
	a.unwelcome += b.unwelcome
}

func (a *tally) mustBeLively(t *testing.T) {
	for _, n := range []int{a.committed, a.aborted, a.unknown, a.timeouts, a.failovers, a.reloads, a.fenced, a.refused, a.rotations, a.unwelcome} {
		if n == 0 {
			t.Errorf("something never happened: %+v", a)
		}
	}
}

type world struct {
	tally
	t    *testing.T
	rng  *rand.Rand
	seed uint64
	now  time.Time

	// The shard.
	opts      Options
	share     *coordinator.Share // Nil if there is memory enough.
	epoch     int32
	m         *Machine
	log       []coordinator.Record
	committed int
	parked    []parkedWorld
	nextID    model.ProducerID

	parts    []*part
	clients  []*client
	attempts []*attempt
	// mail is what is on its way. What has the same lane arrives in order.
	mail  []letter
	steps int
	// quiet says that no more disasters happen.
	quiet bool
}

type parkedWorld struct {
	end  int
	done func(answer any)
	what any
	send []any
}

type letter struct {
	lane    string
	due     int // The step from which on it may arrive.
	deliver func()
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 7)), now: time.UnixMilli(1_700_000_000_000), nextID: 1}
	w.opts = Options{Settings: settings(), TransactionVersion: int16(w.rng.IntN(3)), MaxBatch: 1 << 20}
	if w.rng.IntN(5) == 0 {
		w.share = coordinator.NewMemory(1100 + w.rng.Int64N(2500)).Share() // For one producer at least.
	}
	for i := range 1 + w.rng.IntN(4) {
		w.parts = append(w.parts, &part{w: w, id: model.Partition{Topic: "t", Index: int32(i)}, s: producers.New(producers.Options{})})
	}
	w.load()
	for i := range 1 + w.rng.IntN(3) {
		w.clients = append(w.clients, w.newClient(fmt.Sprint("id-", i)))
	}
	return w
}

func (w *world) fatalf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("seed %d: %s", w.seed, fmt.Sprintf(format, args...))
}

// one in n, as long as disasters happen.
func (w *world) disaster(n int) bool { return !w.quiet && w.rng.IntN(n) == 0 }

func (w *world) step() {
	w.steps++
	w.now = w.now.Add(time.Duration(1+w.rng.IntN(50)) * time.Millisecond)
	switch n := w.rng.IntN(100); {
	case n < 40:
		w.act(w.rng.IntN(len(w.clients)))
	case n < 75:
		w.deliver()
	case n < 82:
		w.commit(w.committed + w.rng.IntN(len(w.log)-w.committed+1))
	case n < 92:
		p := w.parts[w.rng.IntN(len(w.parts))]
		p.commit(p.hw + model.Offset(w.rng.Int64N(int64(p.end-p.hw)+1)))
	case n < 93:
		w.strike()
	}
	w.due()
}

// act lets a client do something. For one that is dead another comes, unless
// it has come already.
func (w *world) act(i int) {
	c := w.clients[i]
	if !c.dead {
		c.act()
		return
	}
	if slices.ContainsFunc(w.clients, func(o *client) bool { return o.id == c.id && !o.dead }) {
		w.clients = slices.Delete(w.clients, i, i+1)
	} else if w.rng.IntN(10) == 0 {
		w.clients[i] = w.newClient(c.id)
	}
}

// strike is a disaster.
func (w *world) strike() {
	switch w.rng.IntN(5) {
	case 0:
		w.failover()
	case 1:
		w.parts[w.rng.IntN(len(w.parts))].crash()
	case 2:
		w.now = w.now.Add(time.Duration(w.rng.IntN(2*timeoutMillis)) * time.Millisecond)
	case 3:
		i := w.rng.IntN(len(w.clients))
		if len(w.clients) < 8 {
			w.clients = append(w.clients, w.clients[i]) // The other becomes a zombie.
		}
		w.clients[i] = w.newClient(w.clients[i].id)
	case 4:
		w.useUpEpochs()
	}
}

// timeoutMillis is after how long transactions are aborted.
const timeoutMillis = 20_000

// load makes a machine from the log.
func (w *world) load() {
	w.share.Release()
	o := w.opts
	o.Memory = w.share
	w.m = replayed(w.t, o, w.log)
	w.m.Loaded(w.now)
}

func replayed(t *testing.T, o Options, log []coordinator.Record) *Machine {
	m := New(o)
	for _, r := range log {
		if err := m.Apply(coordinator.Origin{}, r.Key, r.Value); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// hard is all that a machine knows from its log.
func hard(m *Machine) map[string]string {
	out := map[string]string{}
	for id, e := range m.ids {
		out[id] = fmt.Sprintf("%+v", e.transaction)
	}
	return out
}

// sameAfterReplay compares the machine with one that has read the log, and one
// that has read what compaction may leave of it.
func (w *world) sameAfterReplay() {
	w.t.Helper()
	for _, log := range [][]coordinator.Record{w.log, compacted(w.log)} {
		m := replayed(w.t, w.opts, log)
		if diff := cmp.Diff(hard(w.m), hard(m)); diff != "" || m.bytes != m.weigh() || w.m.bytes != w.m.weigh() {
			w.fatalf("replay (-machine +replay), %d and %d bytes counted, %d and %d are there\n%s", w.m.bytes, m.bytes, w.m.weigh(), m.weigh(), diff)
		}
	}
}

// submit gives an input to the shard; done is called with nil if it is lost.
func (w *world) submit(in any, done func(answer any)) {
	if done == nil {
		done = func(any) {}
	}
	e := w.m.Handle(w.now, 1, in)
	for _, b := range e.Batches {
		for _, r := range b.Records {
			r = coordinator.Record{Key: slices.Clone(r.Key), Value: slices.Clone(r.Value)}
			if err := w.m.Apply(coordinator.Origin{}, r.Key, r.Value); err != nil {
				w.fatalf("%v", err)
			}
			w.log = append(w.log, r)
		}
	}
	if len(e.Batches) > 0 && w.disaster(60) { // The log did not take it.
		w.reloads++
		w.log = w.log[:len(w.log)-len(e.Batches)]
		w.lose()
		done(nil)
		w.load()
		return
	}
	p := parkedWorld{end: len(w.log), done: done, send: e.Sends}
	for _, r := range e.Replies {
		p.what = r.Answer
	}
	w.parked = append(w.parked, p)
	if w.rng.IntN(2) == 0 {
		w.commit(len(w.log))
	}
}

func (w *world) due() {
	for i := 0; !w.m.Deadline().IsZero() && !w.m.Deadline().After(w.now); i++ {
		if i == 100 {
			w.fatalf("the deadline does not pass")
		}
		w.submit(nil, nil)
	}
}

// commit commits the log up to an end, and gives what waits for that.
func (w *world) commit(end int) {
	w.committed = max(w.committed, end)
	for len(w.parked) > 0 && w.parked[0].end <= w.committed {
		p := w.parked[0]
		w.parked = w.parked[1:]
		for _, s := range p.send {
			w.send(s)
		}
		w.post("", func() { p.done(p.what) })
	}
}

// lose tells all who wait that they wait in vain.
func (w *world) lose() {
	parked := w.parked
	w.parked = nil
	for _, p := range parked {
		w.post("", func() { p.done(nil) })
	}
}

// failover loses some of what was not committed; compaction may have been here.
func (w *world) failover() {
	if w.quiet {
		return
	}
	w.failovers++
	w.sameAfterReplay()
	w.log = w.log[:w.committed+w.rng.IntN(len(w.log)-w.committed+1)]
	if w.rng.IntN(2) == 0 {
		w.log = compacted(w.log)
	}
	w.epoch++
	w.committed = len(w.log)
	w.lose()
	w.load()
}

func (w *world) send(what any) {
	switch s := what.(type) {
	case NeedProducerIDs:
		block := ProducerIDs{w.nextID, w.nextID + 20}
		if w.disaster(4) {
			block = ProducerIDs{}
		} else {
			w.nextID = block.End
		}
		w.post("", func() { w.submit(block, nil) })
	case TimedOut:
		w.timeouts++
	case WriteMarkers:
		for _, p := range s.Partitions {
			w.writeMarker(s, w.epoch, w.parts[p.Index])
			if s.TransactionVersion >= epochTwo && w.disaster(3) {
				w.writeMarker(s, w.epoch, w.parts[p.Index]) // An answer was lost.
			}
		}
	}
}

// writeMarker sends a marker, until the partition has it.
func (w *world) writeMarker(s WriteMarkers, epoch int32, p *part) {
	lane := fmt.Sprint(epoch, s.TransactionalID, p.id)
	if s.TransactionVersion >= epochTwo {
		lane = "" // Its epoch alone tells it from what comes later.
	}
	w.post(lane, func() {
		kind := record.Abort
		if s.Committed {
			kind = record.Commit
		}
		b := record.EndTxnMarker(s.ProducerID, s.Epoch, epoch, kind, w.now.UnixMilli())
		end, err := p.append(b, producers.CheckOptions{Origin: producers.Coordinator, TransactionVersion: s.TransactionVersion})
		if err != nil {
			if e := w.m.ids[s.TransactionalID]; epoch == w.epoch && e != nil && e.attempt == s.Attempt && e.missing > 0 &&
				slices.Contains(e.unmarked(), p.id) {
				w.fatalf("the marker of a transaction that ends is refused: %v", err)
			}
			return
		}
		p.await(end, func(ok bool) {
			if !ok {
				w.writeMarker(s, epoch, p)
				return
			}
			w.report(s, epoch, p)
			if w.disaster(4) {
				w.report(s, epoch, p) // Twice.
			}
		})
	})
}

// report tells the shard that a marker is written, if it is still the one that
// has asked for it.
func (w *world) report(s WriteMarkers, epoch int32, p *part) {
	w.post("", func() {
		if epoch == w.epoch {
			w.submit(MarkersWritten{s.TransactionalID, s.Attempt, []model.Partition{p.id}}, nil)
		}
	})
}

// useUpEpochs brings a transactional id to its last epoch: other clients were
// here.
func (w *world) useUpEpochs() {
	ids := slices.Sorted(maps.Keys(w.m.ids))
	if len(ids) == 0 || w.quiet {
		return
	}
	e := w.m.ids[ids[w.rng.IntN(len(ids))]]
	if !e.status.idle() || e.epoch > 1000 {
		return
	}
	t := e.transaction
	t.epoch, t.status, t.topics, t.started, t.next = int16(exhausted-w.rng.IntN(4)), empty, nil, noTime, model.NoProducer
	w.m.out, w.m.records, w.m.memory = coordinator.Effects{}, nil, nil
	w.m.write(e.id, &t)
	r := w.m.records[0]
	w.log = append(w.log, coordinator.Record{Key: slices.Clone(r.Key), Value: slices.Clone(r.Value)})
	if err := w.m.Apply(coordinator.Origin{}, r.Key, r.Value); err != nil {
		w.fatalf("%v", err)
	}
	e.lastEpoch = noEpoch
	w.rotations++
}

// post sends a letter. Some take long.
func (w *world) post(lane string, deliver func()) {
	due := 0
	if w.disaster(8) {
		due = w.steps + w.rng.IntN(400)
	}
	w.mail = append(w.mail, letter{lane, due, deliver})
}

// deliver delivers a letter: the first of its lane.
func (w *world) deliver() {
	if len(w.mail) == 0 {
		return
	}
	i := w.rng.IntN(len(w.mail))
	if lane := w.mail[i].lane; lane != "" {
		i = slices.IndexFunc(w.mail, func(l letter) bool { return l.lane == lane })
	}
	l := w.mail[i]
	if l.due > w.steps && !w.quiet {
		return
	}
	w.mail = slices.Delete(w.mail, i, i+1)
	l.deliver()
}

// quiesce lets everything come to its end, without new disasters.
func (w *world) quiesce() {
	w.quiet = true
	for _, c := range w.clients {
		c.dead = true
	}
	for i := 0; ; i++ {
		for lag := true; lag || len(w.mail) > 0 || len(w.parked) > 0; {
			w.deliver()
			w.commit(len(w.log))
			lag = false
			for _, p := range w.parts {
				lag = lag || p.hw < p.end
				p.commit(p.end)
			}
		}
		busy := len(w.m.open)
		for _, e := range w.m.ids {
			if e.status.prepared() {
				busy++
			}
		}
		if busy == 0 {
			return
		}
		if i > 20 {
			w.fatalf("transactions never end: %v", hard(w.m))
		}
		w.now = w.now.Add(timeoutMillis * time.Millisecond)
		w.due()
	}
}

// judge compares what clients were told with what is in the partitions.
func (w *world) judge() {
	w.sameAfterReplay()
	type fate struct{ committed, aborted int }
	fates := map[int]*fate{}
	visible := map[string]bool{}
	for _, p := range w.parts {
		p.fates(func(a int, offset model.Offset, committed bool) {
			if fates[a] == nil {
				fates[a] = &fate{}
			}
			if visible[fmt.Sprint(p.id, offset)] = committed; committed {
				fates[a].committed++
			} else {
				fates[a].aborted++
			}
		})
	}
	for _, a := range w.attempts {
		f := fates[a.number]
		if f == nil {
			f = &fate{}
		}
		acked := 0
		for _, list := range a.acked {
			acked += len(list)
		}
		switch {
		case f.committed > 0 && f.aborted > 0:
			w.fatalf("transaction %d is torn: %+v", a.number, *f)
		case f.committed+f.aborted < acked:
			w.fatalf("transaction %d lost records: %d of %d are there", a.number, f.committed+f.aborted, acked)
		case f.aborted > 0 && a.outcome == committed:
			w.fatalf("transaction %d was committed and is not visible", a.number)
		case f.committed > 0 && (a.outcome == aborted || !a.doubt):
			w.fatalf("transaction %d was aborted and is visible", a.number)
		}
		for p, list := range a.acked {
			for _, o := range list {
				if a.outcome == committed && !visible[fmt.Sprint(p, o)] {
					w.fatalf("record %d of %v is not visible", o, p)
				}
			}
		}
		switch a.outcome {
		case committed:
			w.tally.committed++
		case aborted:
			w.tally.aborted++
		default:
			w.tally.unknown++
		}
	}
}

// weigh counts all that the machine keeps anew.
func (m *Machine) weigh() (n int) {
	for _, e := range m.ids {
		n += e.cost()
	}
	return n
}
