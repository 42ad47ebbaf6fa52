package txn

import (
	"encoding/binary"
	"errors"

	"github.com/barnabas-log/barnabas/internal/producers"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// errAgain says that nobody knows what became of a batch.
var errAgain = errors.New("not now")

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
		case wire.PolicyViolation:
			if c.w.share == nil {
				c.w.fatalf("init is refused, and there is memory")
			}
			c.w.unwelcome++
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
