package group

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

var (
	worldSeeds = flag.Int("world.seeds", 1000, "worlds of TestWorlds, times $BARNABAS_WORLDS")
	worldSeed  = flag.Int("world.seed", -1, "the one world to play")
	worldTalk  = flag.Bool("world.talk", false, "say what happens")
)

// Clients of both protocols join, leave, die, commit and read, while the shard
// loses appends, fails over and is compacted. All the time the records say what
// the machine knows, and a partition has one owner; when everybody is left in
// peace, every partition has an owner and nobody waits.
func TestWorlds(t *testing.T) {
	t.Parallel()
	if *worldSeed >= 0 {
		if err := playWorld(*worldSeed); err != nil {
			t.Fatal(err)
		}
		return
	}
	n := *worldSeeds
	if times, err := strconv.Atoi(os.Getenv("BARNABAS_WORLDS")); err == nil {
		n *= times
	}
	for seed := range n {
		if err := playWorld(seed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// errDown is what clients are told when the shard is lost.
var errDown = errors.New("down")

// world is a shard, its log and its clients.
type world struct {
	*rand.Rand
	*stage
	committed int // Batches of the log.
	waiting   []reply
	owed      map[coordinator.Token]*call
	clients   []actor
	trouble   bool                // Appends may be lost, and the shard.
	memory    *coordinator.Memory // Nil if there is enough.
	tight     bool                // There was not, once.
	most      int64               // That was held, after a load.
	readyAt   time.Time
	spy       func(in any) // Sees what clients ask.
	err       error
}

// reply waits for the log to be committed up to end.
type reply struct {
	end int
	coordinator.Reply
}

// call is a request of a client.
type call struct {
	began time.Time
	done  func(answer any, err error)
}

// actor is a client. It acts when its turn comes.
type actor interface {
	act(w *world)
	// settled says why the client is not content, when all is quiet.
	settled(w *world) error
	// check holds what the client believes to what the machine knows.
	check(w *world) error
}

func playWorld(seed int) error {
	defer func() {
		if p := recover(); p != nil {
			panic(fmt.Sprintf("seed %d: %v", seed, p))
		}
	}()
	w := newWorld(seed)
	for range 60 + w.IntN(200) {
		if err := w.step(); err != nil {
			return err
		}
	}
	return w.quiet()
}

func newWorld(seed int) *world {
	w := &world{Rand: rand.New(rand.NewPCG(uint64(seed), 3)), owed: map[coordinator.Token]*call{}, trouble: true}
	s := quick()
	s.InitialDelay = time.Duration(w.IntN(3)) * time.Second
	s.AssignmentInterval = time.Duration(w.IntN(2)) * time.Second
	s.ConsumerSession, s.ConsumerHeartbeat, s.MinConsumerSession = 8*time.Second, 2*time.Second, time.Second
	s.OffsetsCheck = time.Minute
	o := Options{Settings: s}
	if w.IntN(4) == 0 {
		o.MaxBatch = 3000 // Scripts are cut.
	}
	if w.IntN(5) == 0 {
		w.memory = coordinator.NewMemory(1000 + w.Int64N(20_000))
		o.Memory, w.tight = w.memory.Share(), true
	}
	w.stage = newStage(o)
	w.news(w.cluster.grow("t", 1+w.IntN(5)))
	w.news(w.cluster.grow("u", 1+w.IntN(3)))
	w.populate()
	return w
}

func (w *world) say(format string, args ...any) {
	if *worldTalk {
		fmt.Printf("%s %s\n", w.now.Sub(time.UnixMilli(1_700_000_000_000)), fmt.Sprintf(format, args...))
	}
}

// shown is written out when somebody listens.
type shown struct{ v any }

func (s shown) String() string {
	if r, ok := s.v.(coordinator.Record); ok {
		return showRecord(r)
	}
	return show(s.v)
}

func (w *world) populate() {
	kind := w.IntN(4) // Classic, consumers, both in one group, all of that.
	for i := range 1 + w.IntN(4) {
		if kind != 1 {
			w.clients = append(w.clients, newClassicActor(w, i, "classic"))
		}
		if kind != 0 {
			w.clients = append(w.clients, newConsumerActor(w, i, "consumer"))
		}
		if kind >= 2 {
			w.clients = append(w.clients, newClassicActor(w, 10+i, "mixed"), newConsumerActor(w, 10+i, "mixed"))
		}
	}
	for i := range 1 + w.IntN(2) {
		w.clients = append(w.clients, &handCommitter{partition: int32(i)}, &txnActor{pid: model.ProducerID(100 + i), partition: int32(10 + i)})
	}
	w.news(w.cluster.grow("offsets", 20))
	w.clients = append(w.clients, &admin{})
}

// send gives a request of a client to the shard.
func (w *world) send(version int16, body wire.Request, id string, done func(any, error)) {
	w.hand(Request{Body: body, Version: version, ClientID: id, ClientHost: "/h"}, done)
}

func (w *world) hand(in any, done func(any, error)) {
	if w.now.Before(w.readyAt) {
		done(nil, errDown)
		return
	}
	if w.spy != nil {
		w.spy(in)
	}
	w.token++
	w.owed[w.token] = &call{w.now, done}
	w.take(w.Handle(w.now, w.token, in))
}

// take does what the runtime does.
func (w *world) take(e coordinator.Effects) {
	for _, b := range e.Batches {
		l := logOf(b, w.now.UnixMilli())
		if size := l.size(); size > w.Machine.opts.MaxBatch {
			w.fail(fmt.Errorf("a batch of %d bytes", size))
		}
		if err := l.play(w.Machine); err != nil {
			w.fail(err)
		}
		if w.trouble && w.IntN(60) == 0 {
			w.say("append lost")
			w.crash(len(w.log))
			return
		}
		w.log = append(w.log, l)
		for _, r := range l.records {
			w.say("  %d %s", w.bytes, shown{r})
		}
	}
	for _, r := range e.Replies {
		w.waiting = append(w.waiting, reply{len(w.log), r})
	}
}

func (l *logged) size() int {
	b := record.NewBuilder(record.BuilderOptions{})
	for _, r := range l.records {
		if err := b.Add(record.Record{Timestamp: l.at, Key: r.Key, Value: r.Value}); err != nil {
			return 1 << 30
		}
	}
	return b.Size()
}

func (w *world) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// commit commits some of the log, and lets answers go.
func (w *world) commit(upTo int) {
	w.committed = max(w.committed, upTo)
	for len(w.waiting) > 0 && w.waiting[0].end <= w.committed {
		r := w.waiting[0]
		w.waiting = w.waiting[1:]
		c := w.owed[r.To]
		if c == nil {
			w.fail(fmt.Errorf("token %d is answered and not owed", r.To))
			continue
		}
		delete(w.owed, r.To)
		c.done(r.Answer, nil)
	}
}

// crash loses the shard, and the log from some batch on.
func (w *world) crash(end int) {
	w.say("crash, %d of %d batches stay", end, len(w.log))
	w.log = w.log[:end]
	w.committed = min(w.committed, end)
	w.waiting = nil
	w.readyAt = w.now.Add(time.Duration(w.IntN(3000)) * time.Millisecond)
	w.load(w.log)
	w.most = int64(w.bytes)
	w.committed = len(w.log)
	owed := w.owed
	w.owed = map[coordinator.Token]*call{}
	for to := coordinator.Token(1); to <= w.token; to++ {
		if c := owed[to]; c != nil {
			c.done(nil, errDown)
		}
	}
}

// step lets something happen.
func (w *world) step() error {
	if err := w.countedRight(); err != nil {
		return err
	}
	if err := w.bounded(); err != nil {
		return err
	}
	switch n := w.IntN(40); {
	case n == 0:
		w.crash(w.committed + w.IntN(len(w.log)-w.committed+1))
	case n == 1:
		if err := w.compact(); err != nil {
			return err
		}
	case n < 6:
		w.pass(time.Duration(w.IntN(4000)) * time.Millisecond)
	case n < 12:
		w.commit(w.committed + w.IntN(len(w.log)-w.committed+1))
	default:
		w.clients[w.IntN(len(w.clients))].act(w)
	}
	return w.verify()
}

// bounded holds what is counted to what there is room for. What a log brings is
// taken, whatever it is, but does not grow. What a transaction commits for the
// first time comes on top of what it held: half of that at most.
func (w *world) bounded() error {
	m := w.memory
	if m == nil {
		return nil
	}
	top := int64(0)
	for _, g := range w.groups {
		top += int64(g.mostHeld / 2)
	}
	if w.most = max(m.Limit(), min(w.most, m.Held())); m.Held() != int64(w.bytes) || m.Held() > w.most+top {
		return fmt.Errorf("%d bytes are held of %d, %d were counted", m.Held(), w.most, w.bytes)
	}
	return nil
}

// refused is told of a refusal that is a fault unless there is no memory left.
func (w *world) refused(code wire.ErrorCode, fault error) {
	if !w.tight || code != wire.GroupMaxSizeReached && code != wire.CoordinatorLoadInProgress {
		w.fail(fault)
	}
}

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	end := w.now.Add(d)
	for n := 0; n < 10_000; n++ {
		at := w.Deadline()
		if at.IsZero() || at.After(end) {
			break
		}
		if at.After(w.now) {
			w.now = at
		}
		if w.now.Before(w.readyAt) {
			w.now = w.readyAt
			continue
		}
		w.take(w.Handle(w.now, 0, nil))
	}
	if end.After(w.now) {
		w.now = end
	}
}

// verify holds the machine to its log, and the clients to the machine.
func (w *world) verify() error {
	if w.err != nil {
		return w.err
	}
	for _, c := range w.clients {
		if err := c.check(w); err != nil {
			return err
		}
	}
	if w.IntN(5) > 0 {
		return nil
	}
	if err := errors.Join(w.Machine.check(), w.owned()); err != nil {
		return err
	}
	if w.IntN(5) > 0 {
		return nil
	}
	if want, got := w.replay(w.log).dump(), w.dump(); want != got {
		return fmt.Errorf("replayed and known (-want +got)\n%s", cmp.Diff(want, got))
	}
	return nil
}

// compact cleans a part of the log, as the cleaner does, and holds the result
// to what was before.
func (w *world) compact() error {
	clean := compacted(w.log, w.IntN(w.committed+1), w.IntN(2) == 0)
	if want, got := w.replay(w.log).dump(), w.replay(clean).dump(); want != got {
		return fmt.Errorf("the whole log and the compacted (-want +got)\n%s", cmp.Diff(want, got))
	}
	removed := len(w.log) - len(clean)
	w.say("compacted %d batches away", removed)
	w.log = clean
	w.committed -= removed
	for i := range w.waiting {
		w.waiting[i].end -= removed
	}
	return nil
}

// compacted leaves of the batches below a point the last record of each key. What
// an open transaction holds up stays, aborted records do not, and tombstones may.
func compacted(log []logged, upTo int, dropTombstones bool) []logged {
	type txn struct {
		first, end int
		committed  bool
	}
	open := map[model.ProducerID]*txn{}
	of := make([]*txn, len(log)) // By batch.
	for i, l := range log {
		switch {
		case l.producer == nil:
		case l.marker == nil:
			t := open[l.producer.ID]
			if t == nil {
				t = &txn{first: i, end: -1}
				open[l.producer.ID] = t
			}
			of[i] = t
		default:
			if t := open[l.producer.ID]; t != nil {
				t.end, t.committed = i, l.marker.Committed
				delete(open, l.producer.ID)
			}
		}
	}
	for _, t := range open {
		upTo = min(upTo, t.first)
	}
	last := map[string][2]int{}
	for i, l := range log[:upTo] {
		if of[i] != nil && !of[i].committed {
			continue
		}
		for j, r := range l.records {
			last[string(r.Key)] = [2]int{i, j}
		}
	}
	var clean []logged
	for i, l := range log {
		if i >= upTo {
			clean = append(clean, l)
			continue
		}
		kept := l
		kept.records = nil
		for j, r := range l.records {
			if last[string(r.Key)] == [2]int{i, j} && (of[i] == nil || of[i].committed) && (r.Value != nil || !dropTombstones) {
				kept.records = append(kept.records, r)
			}
		}
		if len(kept.records) > 0 || l.marker != nil {
			clean = append(clean, kept)
		}
	}
	return clean
}

// patience is how long everybody is given to come to rest, calm how long they
// have to stay there.
const patience, calm = 150 * time.Second, 15 * time.Second

// quiet leaves everybody in peace, and sees whether they are content and stay so.
func (w *world) quiet() error {
	w.say("quiet")
	w.trouble, w.memory, w.Machine.opts.Memory, w.opts.Memory = false, nil, nil, nil // There is room for all.
	unrest, since := errors.New("nothing was seen yet"), w.now
	for end := w.now.Add(patience); unrest != nil || w.now.Sub(since) < calm; {
		if w.now.After(end) {
			return fmt.Errorf("no rest: %w\n%s", unrest, w.dump())
		}
		w.pass(time.Second)
		w.commit(len(w.log))
		for _, c := range w.clients {
			c.act(w)
			w.commit(len(w.log))
		}
		if err := w.verify(); err != nil {
			return err
		}
		if unrest = w.unrest(); unrest != nil {
			since = w.now
		}
	}
	return nil
}

// unrest says why not everybody is content.
func (w *world) unrest() error {
	for to, c := range w.owed {
		if w.now.Sub(c.began) > calm {
			return fmt.Errorf("token %d waits since %v", to, w.now.Sub(c.began))
		}
	}
	for _, c := range w.clients {
		if err := c.settled(w); err != nil {
			return err
		}
	}
	return w.owners()
}

// owners holds what clients have to what the topics have.
func (w *world) owners() error {
	owner := map[string]string{}
	wanted := map[string]map[string]bool{}
	for _, c := range w.clients {
		m, ok := c.(interface {
			alive() bool
			name() (group, name string)
			wants() []string
			owns(*world) map[string][]int32
		})
		if !ok || !m.alive() {
			continue
		}
		group, name := m.name()
		if wanted[group] == nil {
			wanted[group] = map[string]bool{}
		}
		for _, topic := range m.wants() {
			wanted[group][topic] = true
		}
		for topic, list := range m.owns(w) {
			for _, n := range list {
				key := fmt.Sprintf("%s %s-%d", group, topic, n)
				if other, twice := owner[key]; twice {
					return fmt.Errorf("%s belongs to %s and %s", key, other, name)
				}
				owner[key] = name
			}
		}
	}
	for group, topics := range wanted {
		for topic := range topics {
			t := w.image.Topic(topic)
			if t == nil {
				continue
			}
			for n := range t.Partitions {
				if key := fmt.Sprintf("%s %s-%d", group, topic, n); owner[key] == "" {
					return fmt.Errorf("%s belongs to nobody", key)
				}
			}
		}
	}
	return nil
}

// admin changes the cluster and asks about groups.
type admin struct{}

func (*admin) settled(*world) error { return nil }
func (*admin) check(*world) error   { return nil }

func (a *admin) act(w *world) {
	if !w.trouble {
		return
	}
	ignore := func(any, error) {}
	switch w.IntN(12) {
	case 0:
		w.tell(w.cluster.grow("t", min(len(w.image.Topic("t").Partitions)+1, 8)))
	case 1:
		if w.image.Topic("u") != nil {
			w.tell(w.cluster.remove("u"))
		} else {
			w.tell(w.cluster.grow("u", 1+w.IntN(3)))
		}
	case 2:
		if w.image.Topic("u") == nil {
			w.tell(w.cluster.grow("u", 1+w.IntN(3)))
		}
	case 3:
		w.send(2, &wire.DeleteGroupsRequest{GroupsNames: []string{"classic", "consumer", "mixed"}}, "admin", ignore)
	case 4:
		w.send(5, &wire.ListGroupsRequest{}, "admin", ignore)
	case 5:
		w.send(6, &wire.DescribeGroupsRequest{Groups: []string{"classic", "consumer", "mixed"}}, "admin", ignore)
	case 6:
		w.send(1, &wire.ConsumerGroupDescribeRequest{GroupIDs: []string{"classic", "consumer", "mixed"}}, "admin", ignore)
	case 7:
		r := &wire.OffsetDeleteRequest{GroupID: "mixed", Topics: []wire.OffsetDeleteRequestTopic{{Name: "u", Partitions: []wire.OffsetDeleteRequestPartition{{PartitionIndex: 0}}}}}
		w.send(0, r, "admin", ignore)
	case 8:
		w.tell(w.cluster.configure("mixed", "consumer.session.timeout.ms", strconv.Itoa(6000+w.IntN(4000))))
	}
}

func (w *world) tell(d *metadata.Delta) {
	if w.IntN(2) == 0 {
		d = nil
	}
	w.take(w.Handle(w.now, 0, News{Image: w.cluster.image(), Delta: d}))
}

// handCommitter commits by hand, and reads what it committed.
type handCommitter struct {
	partition   int32
	sent, acked int64 // The last of each; acked is 0 before the first.
	busy        bool
}

func (c *handCommitter) settled(*world) error { return nil }
func (c *handCommitter) check(*world) error   { return nil }

func (c *handCommitter) act(w *world) {
	if c.busy {
		return
	}
	c.busy = true
	if w.IntN(2) == 0 {
		c.sent++
		value := c.sent
		r := &wire.OffsetCommitRequest{GroupID: "hand", GenerationIDOrMemberEpoch: -1, RetentionTimeMs: -1}
		metadata := fmt.Sprint(value)
		r.Topics = []wire.OffsetCommitRequestTopic{{Name: "offsets", Partitions: []wire.OffsetCommitRequestPartition{{PartitionIndex: c.partition, CommittedOffset: value, CommittedLeaderEpoch: int32(value), CommittedMetadata: &metadata}}}}
		known := false
		if g := w.groups["hand"]; g != nil {
			known = g.offsets.get("offsets", c.partition) != nil
		}
		w.send(9, r, "hand", func(a any, err error) {
			c.busy = false
			if err == nil && known && wire.ErrorCode(a.(*wire.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode) == wire.InvalidCommitOffsetSize {
				w.fail(fmt.Errorf("hand: a commit to a known partition is refused: %s", show(a)))
			}
			if err == nil && a.(*wire.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode == 0 {
				c.acked = value
			}
		})
		return
	}
	acked := c.acked
	r := wire.NewOffsetFetchRequest()
	r.Groups = []wire.OffsetFetchRequestGroup{{GroupID: "hand", MemberEpoch: -1, Topics: []wire.OffsetFetchRequestTopics{{Name: "offsets", PartitionIndexes: []int32{c.partition}}}}}
	w.send(9, r, "hand", func(a any, err error) {
		c.busy = false
		if err != nil {
			return
		}
		p := a.(*wire.OffsetFetchResponse).Groups[0].Topics[0].Partitions[0]
		got := max(p.CommittedOffset, 0)
		if got < acked || got > c.sent || got > 0 && (*p.Metadata != fmt.Sprint(got) || p.CommittedLeaderEpoch != int32(got)) {
			w.fail(fmt.Errorf("hand: read %s, acknowledged %d, sent %d", show(p), acked, c.sent))
		}
	})
}

// txnActor commits offsets in transactions, and reads what is stable.
type txnActor struct {
	pid       model.ProducerID
	partition int32
	sent      int64
	inTxn     []int64 // What this transaction may commit: one of these.
	sure      bool    // It is the last of these.
	decided   int     // 1 commit, 2 abort.
	possible  []int64 // What may be committed; nil is nothing.
	busy      bool
}

func (x *txnActor) settled(*world) error { return nil }
func (x *txnActor) check(*world) error   { return nil }

func (x *txnActor) act(w *world) {
	switch {
	case x.busy:
	case x.decided > 0:
		x.end(w)
	case len(x.inTxn) > 0 && w.IntN(3) == 0:
		x.decided = 1 + w.IntN(2)
		x.end(w)
	case w.IntN(3) == 0 && len(x.inTxn) == 0:
		x.read(w)
	default:
		x.write(w)
	}
}

func (x *txnActor) write(w *world) {
	x.sent++
	value := x.sent
	x.inTxn, x.sure, x.busy = append(x.inTxn, value), false, true
	r := &wire.TxnOffsetCommitRequest{TransactionalID: "x", GroupID: "txn", ProducerID: int64(x.pid), GenerationIDOrMemberEpoch: -1}
	r.Topics = []wire.TxnOffsetCommitRequestTopic{{Name: "offsets", Partitions: []wire.TxnOffsetCommitRequestPartition{{PartitionIndex: x.partition, CommittedOffset: value, CommittedLeaderEpoch: -1}}}}
	w.send(4, r, "txn", func(a any, err error) {
		x.busy = false
		if err == nil && a.(*wire.TxnOffsetCommitResponse).Topics[0].Partitions[0].ErrorCode == 0 {
			x.sure = true
		}
	})
}

// end ends the transaction, until that is acknowledged.
func (x *txnActor) end(w *world) {
	x.busy = true
	commit := x.decided == 1
	w.hand(Marker{Producer: record.Producer{ID: x.pid}, Committed: commit}, func(a any, err error) {
		x.busy = false
		switch {
		case err != nil:
			return
		case a != wire.None:
			w.fail(fmt.Errorf("a marker is answered with %v", a))
		case commit && x.sure:
			x.possible = x.inTxn[len(x.inTxn)-1:]
		case commit:
			if x.possible == nil {
				x.possible = []int64{0}
			}
			x.possible = append(slices.Clone(x.possible), x.inTxn...)
		}
		x.inTxn, x.decided = nil, 0
	})
}

func (x *txnActor) read(w *world) {
	x.busy = true
	r := wire.NewOffsetFetchRequest()
	r.RequireStable = true
	r.Groups = []wire.OffsetFetchRequestGroup{{GroupID: "txn", MemberEpoch: -1, Topics: []wire.OffsetFetchRequestTopics{{Name: "offsets", PartitionIndexes: []int32{x.partition}}}}}
	w.send(9, r, "txn", func(a any, err error) {
		x.busy = false
		if err != nil {
			return
		}
		p := a.(*wire.OffsetFetchResponse).Groups[0].Topics[0].Partitions[0]
		got := max(p.CommittedOffset, 0)
		switch {
		case p.ErrorCode != 0:
			w.fail(fmt.Errorf("no transaction is open: %s", show(p)))
		case got != 0 && x.possible == nil || x.possible != nil && !slices.Contains(x.possible, got):
			w.fail(fmt.Errorf("transactions: read %s, possible %d", show(p), x.possible))
		}
		x.possible = []int64{got}
	})
}
