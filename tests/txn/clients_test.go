package txn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// line is what a client reaches the broker by: cut, it is dead to it, as a
// process that was killed is.
type line struct {
	mu    sync.Mutex
	isCut bool
	conns []net.Conn
}

var errCut = errors.New("killed")

func (l *line) dial(ctx context.Context, network, host string) (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isCut {
		return nil, errCut
	}
	c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, network, host)
	if err == nil {
		l.conns = append(l.conns, c)
	}
	return c, err
}

func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.isCut = true
	for _, c := range l.conns {
		_ = c.Close()
	}
}

// write is a writer's life. Each transaction is one to three records for every
// partition; a third of them is aborted.
func (w *world) write(ctx context.Context, writer int) {
	r := w.random(uint64(100 + writer))
	next := 0
	for w.writing.Load() && ctx.Err() == nil {
		further := []kgo.Opt{kgo.TransactionalID(fmt.Sprintf("writer-%d", writer)), kgo.TransactionTimeout(10 * txnTimeout)}
		if r.IntN(2) == 0 {
			further = append(further, old())
		}
		c := w.client(further...)
		for w.writing.Load() && ctx.Err() == nil {
			id := txnID{writer, next}
			next++
			s, err := w.writeOne(ctx, c, r, id)
			w.setStatus(id, s)
			if err != nil || r.IntN(20) == 0 {
				break
			}
			time.Sleep(time.Duration(r.IntN(60)) * time.Millisecond)
		}
		c.Close()
	}
}

func (w *world) setStatus(id txnID, s status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status[id] = s
}

// setSize says how many records a copier's transaction has, if it is committed.
func (w *world) setSize(tag string, records int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sizes[tag] = records
}

func (w *world) writeOne(ctx context.Context, c *kgo.Client, r *rand.Rand, id txnID) (status, error) {
	if err := c.BeginTransaction(); err != nil {
		return aborted, err
	}
	var records []*kgo.Record
	for i := range 1 + r.IntN(3) {
		for p := range int32(partitions) {
			records = append(records, &kgo.Record{Topic: source, Partition: p, Value: fmt.Appendf(nil, "%d %d %d", id.writer, id.number, i)})
		}
	}
	if err := c.ProduceSync(ctx, records...).FirstErr(); err != nil || r.IntN(3) == 0 {
		return aborted, errors.Join(err, c.EndTransaction(ctx, kgo.TryAbort))
	}
	if err := c.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return unknown, err
	}
	return committed, nil
}

// copies is a copier's life, and its lives after its deaths.
func (w *world) copies(ctx context.Context, copier int) {
	r := w.random(uint64(200 + copier))
	var zombies sync.WaitGroup
	defer zombies.Wait()
	for life := 0; w.copying.Load() && ctx.Err() == nil; life++ {
		id := fmt.Sprintf("copier-%d", copier)
		if r.IntN(4) == 0 { // Only time ends what the one before has open.
			id = fmt.Sprintf("copier-%d-%d", copier, life)
		}
		c, err := w.newCopier(id, fmt.Sprintf("%d.%d", copier, life), r, copier%2 == 1)
		if err != nil {
			w.t.Error(err)
			return
		}
		if zombie := c.live(ctx); zombie != nil {
			zombies.Go(func() { zombie(); c.bury() })
		} else {
			c.bury()
		}
	}
}

// copier is one life of a member of the group.
type copier struct {
	w       *world
	r       *rand.Rand
	id      string // Its transactional id.
	name    string
	line    *line
	session *kgo.GroupTransactSession
	turns   int
	commits int
	isCalm  bool // It is new, and began when the world was calm.
}

func (w *world) newCopier(id, name string, r *rand.Rand, isOld bool) (*copier, error) {
	l := &line{}
	further := []kgo.Opt{
		kgo.Dialer(l.dial), kgo.TransactionalID(id), kgo.TransactionTimeout(txnTimeout),
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(source), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(100 * time.Millisecond),
		kgo.SessionTimeout(sessionTimeout), kgo.HeartbeatInterval(200 * time.Millisecond), kgo.RebalanceTimeout(2 * sessionTimeout),
	}
	if r.IntN(2) == 0 {
		further = append(further, kgo.Balancers(kgo.RangeBalancer(), kgo.CooperativeStickyBalancer()))
	}
	if isOld {
		further = append(further, old())
	}
	s, err := kgo.NewGroupTransactSession(w.options(further...)...)
	return &copier{w: w, r: r, id: id, name: name, line: l, session: s, isCalm: !isOld && w.calm.Load()}, err
}

// live copies until the copier dies. A zombie is what it does after its death,
// while the next one is at work already.
func (c *copier) live(ctx context.Context) (zombie func()) {
	for c.w.copying.Load() && ctx.Err() == nil {
		polled, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		fetches := c.session.PollRecords(polled, 1+c.r.IntN(300))
		cancel()
		records := fetches.Records()
		if len(records) == 0 {
			continue
		}
		c.turns++
		fate := c.r.IntN(100)
		if err := c.session.Begin(); err != nil {
			return nil
		}
		tag := fmt.Sprintf("%s.%d", c.name, c.turns)
		if fate < 4 { // Dies with half of its work done.
			_ = c.produce(ctx, tag, records[:(len(records)+1)/2])
			c.line.cut()
			c.w.counts.deaths.Add(1)
			return nil
		}
		if fate < 8 { // The next copier begins before this one has ended.
			return c.zombie(ctx, tag, records)
		}
		ok := c.produce(ctx, tag, records)
		switch {
		case fate < 12 && ok && c.commitOffsets(ctx, records):
			return c.zombieEnd(ctx)
		case fate < 14: // Too late for its transaction and its group.
			c.w.counts.late.Add(1)
			time.Sleep(txnTimeout + time.Second)
		case fate < 21: // Offsets, too, are of no effect then.
			c.commitOffsets(ctx, records)
			if fate < 18 {
				c.line.cut()
				c.w.counts.deaths.Add(1)
				return nil
			}
			ok = false
		case fate < 30:
			ok = false
		}
		if !c.end(ctx, ok, len(records)) {
			return nil
		}
	}
	return nil
}

// zombie returns the second half of a transaction.
func (c *copier) zombie(ctx context.Context, tag string, records []*kgo.Record) func() {
	c.w.counts.zombies.Add(1)
	pause := time.Duration(c.r.Int64N(int64(2 * txnTimeout)))
	ok := c.produce(ctx, tag, records[:len(records)/2])
	return func() {
		time.Sleep(pause)
		ok = c.produce(ctx, tag, records[len(records)/2:]) && ok
		c.w.setSize(tag, len(records))
		c.end(ctx, ok, len(records))
	}
}

// zombieEnd returns the end alone: the transaction is complete, and is
// committed unless the next copier, or time, has aborted it before.
func (c *copier) zombieEnd(ctx context.Context) func() {
	c.w.counts.zombies.Add(1)
	pause := time.Duration(c.r.Int64N(int64(2 * txnTimeout)))
	client := c.session.Client()
	q := kmsg.NewEndTxnRequest()
	q.TransactionalID, q.Commit = c.id, true
	var err error
	q.ProducerID, q.ProducerEpoch, err = client.ProducerID(ctx)
	return func() {
		time.Sleep(pause)
		if r, failed := q.RequestWith(ctx, client); err != nil || failed != nil || r.ErrorCode != 0 {
			c.w.counts.refused.Add(1)
		}
	}
}

// commitOffsets adds the offsets to a transaction, for which a session has no
// call, and tells whether they were taken.
func (c *copier) commitOffsets(ctx context.Context, records []*kgo.Record) bool {
	client := c.session.Client()
	id, epoch, err := client.ProducerID(ctx)
	if err != nil {
		return false
	}
	add := kmsg.NewAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = c.id, id, epoch, group
	if r, err := add.RequestWith(ctx, client); err != nil || r.ErrorCode != 0 {
		return false // It is a zombie.
	}
	q := kmsg.NewTxnOffsetCommitRequest()
	q.TransactionalID, q.ProducerID, q.ProducerEpoch, q.Group = c.id, id, epoch, group
	q.MemberID, q.Generation = client.GroupMetadata()
	topic := kmsg.NewTxnOffsetCommitRequestTopic()
	topic.Topic = source
	for _, r := range records { // The last of each partition counts.
		p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset = r.Partition, r.Offset+1
		topic.Partitions = append(topic.Partitions, p)
	}
	q.Topics = append(q.Topics, topic)
	r, err := q.RequestWith(ctx, client)
	if err != nil || slices.ContainsFunc(r.Topics[0].Partitions, func(p kmsg.TxnOffsetCommitResponseTopicPartition) bool { return p.ErrorCode != 0 }) {
		return false
	}
	c.w.counts.offsets.Add(1)
	return true
}

// produce writes copies and tells whether all were taken.
func (c *copier) produce(ctx context.Context, tag string, records []*kgo.Record) bool {
	c.w.setSize(tag, len(records))
	var pending sync.WaitGroup
	var lost sync.Once
	ok := true
	for _, r := range records {
		pending.Add(1)
		copy := &kgo.Record{Topic: copied, Partition: r.Partition, Key: []byte(tag), Value: r.Value}
		c.session.Produce(ctx, copy, func(_ *kgo.Record, err error) {
			if err != nil {
				lost.Do(func() { ok = false })
			}
			pending.Done()
		})
	}
	pending.Wait()
	return ok
}

// end ends the transaction and tells whether the copier can go on.
func (c *copier) end(ctx context.Context, commit bool, n int) bool {
	isCommitted, err := c.session.End(ctx, kgo.TransactionEndTry(commit))
	switch {
	case err != nil:
		c.w.counts.refused.Add(1)
		return false
	case isCommitted:
		c.w.counts.commits.Add(1)
		c.w.copied.Add(int64(n))
		if c.commits++; c.isCalm && c.commits == 3 {
			c.w.long.Add(1)
		}
	default:
		c.w.counts.aborts.Add(1)
	}
	return true
}

// bury lets go of what the copier had. A dead one cannot say farewell.
func (c *copier) bury() {
	if c.r.IntN(2) == 0 {
		c.line.cut()
	}
	c.session.CloseAllowingRebalance()
}
