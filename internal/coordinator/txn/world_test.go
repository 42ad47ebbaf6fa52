package txn

import (
	"encoding/binary"
	"errors"
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
	"github.com/barnabas-log/barnabas/wire"
)

var worlds = flag.Int("txn.worlds", 500, "worlds of TestWorlds, times $BARNABAS_WORLDS")

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
	}
	t.Logf("%+v", total)
	if n >= 50 {
		total.mustBeLively(t)
	}
}

// tally counts what happened, lest a world in which nothing happens passes.
type tally struct {
	committed, aborted, unknown, timeouts, failovers, reloads, fenced, refused, rotations int
}

func (a *tally) add(b *tally) {
	a.committed, a.aborted, a.unknown = a.committed+b.committed, a.aborted+b.aborted, a.unknown+b.unknown
	a.timeouts, a.failovers, a.reloads = a.timeouts+b.timeouts, a.failovers+b.failovers, a.reloads+b.reloads
	a.fenced, a.refused, a.rotations = a.fenced+b.fenced, a.refused+b.refused, a.rotations+b.rotations
}

func (a *tally) mustBeLively(t *testing.T) {
	for _, n := range []int{a.committed, a.aborted, a.unknown, a.timeouts, a.failovers, a.reloads, a.fenced, a.refused, a.rotations} {
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
	w.now = w.now.Add(time.Duration(w.rng.IntN(50)) * time.Millisecond)
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

// --- The shard.

// load makes a machine from the log.
func (w *world) load() {
	w.m = replayed(w.t, w.opts, w.log)
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
		if diff := cmp.Diff(hard(w.m), hard(m)); diff != "" || m.bytes != w.m.bytes {
			w.fatalf("replay (-machine +replay), %d and %d bytes\n%s", w.m.bytes, m.bytes, diff)
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

// --- The mail.

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

// --- Partitions.

// part is a partition whose leader may lose what is not committed.
type part struct {
	w       *world
	id      model.Partition
	s       *producers.State
	batches []record.Batch
	end, hw model.Offset
	waits   []partWait
}

type partWait struct {
	end  model.Offset
	done func(ok bool)
}

var errAgain = errors.New("not now")

// append returns one past where a batch is. A repeat is where the original is.
func (p *part) append(b record.Batch, o producers.CheckOptions) (model.Offset, error) {
	v, err := p.s.Check(b, o)
	if err != nil {
		p.w.refused++
		return 0, err
	}
	if v.Duplicate {
		return v.LastOffset + 1, nil
	}
	b = slices.Clone(b)
	b.SetBaseOffset(p.end)
	p.s.Apply(b)
	p.batches, p.end = append(p.batches, b), b.End()
	p.check()
	return p.end, nil
}

func (p *part) await(end model.Offset, done func(ok bool)) {
	p.waits = append(p.waits, partWait{end, done})
	p.commit(p.hw)
}

func (p *part) commit(to model.Offset) {
	p.hw = max(p.hw, to)
	p.s.Committed(p.hw)
	p.check()
	var done []func(bool)
	p.waits = slices.DeleteFunc(p.waits, func(w partWait) bool {
		if w.end <= p.hw {
			done = append(done, w.done)
		}
		return w.end <= p.hw
	})
	for _, f := range done {
		p.w.post("", func() { f(true) })
	}
}

// crash loses what is above some offset that is committed at least; the new
// leader knows what the log says.
func (p *part) crash() {
	if p.w.quiet {
		return
	}
	keep := p.hw + model.Offset(p.w.rng.Int64N(int64(p.end-p.hw)+1))
	p.s, p.end = producers.New(producers.Options{}), 0
	kept := p.batches[:0:0]
	for _, b := range p.batches {
		if b.End() <= keep {
			p.s.Apply(b)
			kept, p.end = append(kept, b), b.End()
		}
	}
	p.batches = kept
	p.s.Committed(p.hw)
	waits := p.waits
	p.waits = nil
	for _, x := range waits {
		p.w.post("", func() { x.done(false) })
	}
	p.check()
}

// check compares the stable offset with what the log says.
func (p *part) check() {
	first, stable := map[model.ProducerID]model.Offset{}, p.hw
	for _, b := range p.batches {
		id := b.ProducerID()
		at, open := first[id]
		switch {
		case !b.IsControl() && !open:
			first[id] = b.BaseOffset()
		case b.IsControl() && open:
			if b.BaseOffset() >= p.hw {
				stable = min(stable, at)
			}
			delete(first, id)
		}
	}
	for _, at := range first {
		stable = min(stable, at)
	}
	if got := p.s.Stable(p.hw); got != stable {
		p.w.fatalf("%v is stable up to %d, want %d", p.id, got, stable)
	}
}

// fates tells for each record whether it is committed; of whom is its value.
func (p *part) fates(each func(a int, offset model.Offset, committed bool)) {
	open := map[model.ProducerID][]record.Batch{}
	for _, b := range p.batches {
		id := b.ProducerID()
		if !b.IsControl() {
			open[id] = append(open[id], b)
			continue
		}
		c, err := b.Control()
		if err != nil {
			p.w.fatalf("%v", err)
		}
		for _, x := range open[id] {
			for r := range x.Records(0) {
				each(int(binary.BigEndian.Uint32(r.Value)), x.BaseOffset(), c.Type == record.Commit)
			}
		}
		delete(open, id)
	}
	if len(open) > 0 {
		p.w.fatalf("%v has transactions that hang: %v", p.id, open)
	}
}

// --- Clients.

type outcome string

const (
	unknown   outcome = "unknown"
	committed outcome = "committed"
	aborted   outcome = "aborted"
)

// attempt is one transaction as its client sees it.
type attempt struct {
	number  int
	outcome outcome
	acked   map[model.Partition][]model.Offset
	doubt   bool // A commit was asked for, and not answered.
}

// client is a producer with a transactional id. It does one thing at a time.
type client struct {
	w       *world
	id      string
	modern  bool // Transactions version 2.
	who     identity
	known   bool // It has an epoch.
	dead    bool
	busy    bool
	next    map[int]int32 // Sequences.
	added   map[int]bool
	txn     *attempt
	ending  bool
	commits bool
	abort   bool         // Something went wrong: it can only abort.
	retry   record.Batch // Sent, and not acknowledged.
	at      int          // Where.
	// waits says that a batch is sent; asked counts them, and what was given up
	// is not listened to.
	waits bool
	asked int
}

func (w *world) newClient(id string) *client {
	return &client{w: w, id: id, modern: w.opts.TransactionVersion >= epochTwo && w.rng.IntN(4) > 0}
}

// act does the next thing.
func (c *client) act() {
	switch {
	case c.waits && c.w.disaster(60): // It may still be on its way.
		c.waits, c.busy, c.retry, c.abort = false, false, nil, true
		c.asked++
	case c.dead || c.busy:
	case !c.known:
		c.init()
	case c.retry != nil:
		c.produce()
	case c.ending:
		c.end()
	case c.txn == nil:
		c.txn = &attempt{number: len(c.w.attempts), outcome: unknown, acked: map[model.Partition][]model.Offset{}}
		c.w.attempts = append(c.w.attempts, c.txn)
		c.added, c.abort = map[int]bool{}, false
	case c.abort || len(c.added) > 0 && c.w.rng.IntN(4) == 0:
		c.ending, c.commits = true, !c.abort && c.w.rng.IntN(3) > 0
	default:
		c.write(c.w.rng.IntN(len(c.w.parts)))
	}
}

// ask sends a request; requests and answers may be lost. A modern client's
// request may come twice, the second time whenever it likes.
func (c *client) ask(q func() (wire.Request, int16), got func(r wire.Response)) {
	c.busy = true
	c.request(q, func(r wire.Response) {
		c.busy = false
		got(r)
	})
}

func (c *client) request(q func() (wire.Request, int16), got func(r wire.Response)) {
	body, version := q()
	if c.w.disaster(20) {
		c.w.post("", func() { got(nil) })
		return
	}
	if c.modern && c.w.disaster(20) {
		again, _ := q()
		c.w.post("", func() { c.w.submit(Request{Body: again, Version: version}, nil) })
	}
	c.w.submit(Request{Body: body, Version: version}, func(a any) {
		if r, ok := a.(wire.Response); ok && !c.w.disaster(20) {
			got(r)
			return
		}
		got(nil)
	})
}

func (c *client) version(modern, old int16) int16 {
	if c.modern {
		return modern
	}
	return old
}

func (c *client) init() {
	c.ask(func() (wire.Request, int16) {
		q := wire.NewInitProducerIDRequest()
		q.TransactionalID, q.TransactionTimeoutMs = &c.id, timeoutMillis
		return q, 5
	}, func(r wire.Response) {
		if r == nil {
			return
		}
		x := r.(*wire.InitProducerIDResponse)
		switch wire.ErrorCode(x.ErrorCode) {
		case wire.None:
			c.become(x.ProducerID, x.ProducerEpoch)
			c.known = true
		case wire.ConcurrentTransactions, wire.CoordinatorLoadInProgress:
		default:
			c.w.fatalf("init: %v", wire.ErrorCode(x.ErrorCode))
		}
	})
}

// become takes over a producer's identity; sequences begin anew with it.
func (c *client) become(id int64, epoch int16) {
	who := identity{model.ProducerID(id), epoch}
	if who != c.who {
		c.next = map[int]int32{}
	}
	c.who = who
}

// fail reacts to an error; it reports false if there was none.
func (c *client) fail(code wire.ErrorCode) bool {
	switch code {
	case wire.None:
		return false
	case wire.ConcurrentTransactions, wire.CoordinatorLoadInProgress:
	case wire.ProducerFenced, wire.InvalidProducerEpoch, wire.InvalidProducerIDMapping:
		c.w.fenced++
		c.die()
	default:
		c.abort, c.retry = true, nil
	}
	return true
}

// die leaves the transaction to its time-out.
func (c *client) die() {
	c.dead, c.retry = true, nil
}

// write puts a record into the transaction; old clients add the partition first.
func (c *client) write(at int) {
	if !c.modern && !c.added[at] {
		c.ask(func() (wire.Request, int16) {
			q := wire.NewAddPartitionsToTxnRequest()
			q.V3AndBelowTransactionalID, q.V3AndBelowProducerID, q.V3AndBelowProducerEpoch = c.id, int64(c.who.id), c.who.epoch
			q.V3AndBelowTopics = wanted([]topicArg{{"t", []int32{int32(at)}}})
			return q, 3
		}, func(r wire.Response) {
			if r != nil && !c.fail(codeOf(r.(*wire.AddPartitionsToTxnResponse).ResultsByTopicV3AndBelow)) {
				c.added[at] = true
			}
		})
		return
	}
	b := record.NewBuilder(record.BuilderOptions{
		Producer: &record.Producer{ID: c.who.id, Epoch: c.who.epoch, Sequence: c.next[at]}, Transactional: true,
	})
	if err := b.Add(record.Record{Timestamp: c.w.now.UnixMilli(), Value: binary.BigEndian.AppendUint32(nil, uint32(c.txn.number))}); err != nil {
		c.w.fatalf("%v", err)
	}
	_, batch, err := b.Build(nil)
	if err != nil {
		c.w.fatalf("%v", err)
	}
	c.retry, c.at, c.added[at] = batch, at, true
	c.produce()
}

func codeOf(list []wire.AddPartitionsToTxnResponseAddPartitionsToTxnTopicResult) wire.ErrorCode {
	return wire.ErrorCode(list[0].ResultsByPartition[0].PartitionErrorCode)
}

// produce sends a batch, as a request to the leader, who asks the coordinator.
func (c *client) produce() {
	c.busy, c.waits = true, true
	c.asked++
	batch, p, txn := c.retry, c.w.parts[c.at], sent{c.txn, c.asked}
	pr := record.Producer{ID: batch.ProducerID(), Epoch: batch.ProducerEpoch(), Sequence: batch.BaseSequence()}
	c.w.post("", func() {
		s := p.s
		g, err := s.Verify(c.w.now, pr, c.modern)
		switch {
		case err != nil:
			c.answered(txn, p, 0, err)
		case g == producers.NoGuard:
			c.append(txn, p, batch, g)
		default:
			c.verify(txn, p, batch, g)
		}
	})
}

// sent is a batch that a client waits for, unless it has given up.
type sent struct {
	*attempt
	asked int
}

// verify asks the coordinator on the leader's behalf.
func (c *client) verify(txn sent, p *part, batch record.Batch, g producers.Guard) {
	who := identity{batch.ProducerID(), batch.ProducerEpoch()}
	c.request(func() (wire.Request, int16) {
		q := wire.NewAddPartitionsToTxnRequest()
		x := wire.Extend(&q.Transactions)
		x.TransactionalID, x.ProducerID, x.ProducerEpoch, x.VerifyOnly = c.id, int64(who.id), who.epoch, !c.modern
		x.Topics = wanted([]topicArg{{"t", []int32{p.id.Index}}})
		return q, 5
	}, func(r wire.Response) {
		if r == nil {
			c.answered(txn, p, 0, errAgain)
			return
		}
		switch code := codeOf(r.(*wire.AddPartitionsToTxnResponse).ResultsByTransaction[0].TopicResults); code {
		case wire.None:
			c.w.post("", func() { c.append(txn, p, batch, g) })
		default:
			c.answered(txn, p, 0, code)
		}
	})
}

func (c *client) append(txn sent, p *part, batch record.Batch, g producers.Guard) {
	end, err := p.append(batch, producers.CheckOptions{Guard: g})
	if err != nil {
		c.answered(txn, p, 0, err)
		return
	}
	p.await(end, func(ok bool) {
		if ok && !c.w.disaster(20) {
			c.answered(txn, p, end, nil)
			return
		}
		c.answered(txn, p, 0, errAgain)
	})
}

// answered is the end of a Produce.
func (c *client) answered(txn sent, p *part, end model.Offset, err error) {
	if txn.asked != c.asked {
		return
	}
	c.busy, c.waits = false, false
	var code wire.ErrorCode
	switch {
	case err == nil:
		txn.acked[p.id] = append(txn.acked[p.id], end-1)
		c.next[c.at]++
		c.retry = nil
	case errors.Is(err, errAgain):
	case errors.As(err, &code):
		c.fail(code)
	case errors.Is(err, producers.ErrInvalidEpoch):
		c.fail(wire.InvalidProducerEpoch)
	default:
		c.fail(wire.InvalidTxnState)
	}
}

func (c *client) end() {
	txn, commits := c.txn, c.commits
	txn.doubt = txn.doubt || commits
	c.ask(func() (wire.Request, int16) {
		q := wire.NewEndTxnRequest()
		q.TransactionalID, q.ProducerID, q.ProducerEpoch, q.Committed = c.id, int64(c.who.id), c.who.epoch, commits
		return q, c.version(5, 4)
	}, func(r wire.Response) {
		if r == nil {
			return
		}
		x := r.(*wire.EndTxnResponse)
		code := wire.ErrorCode(x.ErrorCode)
		switch {
		case code == wire.None && commits:
			txn.outcome = committed
		case code == wire.None:
			txn.outcome = aborted
		case c.fail(code) && !c.dead && !c.abort:
			return // Again.
		}
		switch {
		case code != wire.None: // Aborted by its time-out, most likely: a new epoch helps.
			c.known = false
		case c.modern:
			c.become(x.ProducerID, x.ProducerEpoch)
		case c.abort: // What became of its last sequence is not known: a new epoch is needed.
			c.known = false
		}
		c.txn, c.ending = nil, false
	})
}

// --- The end.

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
