package dafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/mesh"
	"github.com/barnabas-log/barnabas/internal/zmtp"
)

// Record is what a producer published.
type Record struct {
	Topic    string
	Producer string // Its address: topic and producer make a partition.
	Sequence uint64 // In the partition, from 0.
	Content  []byte
}

// Partition is what one producer publishes on one topic.
type Partition struct {
	Topic    string `json:"topic"`
	Producer string `json:"producer"`
}

// Skipped tells that the records of a partition from From on and before To are
// gone: retention has deleted them at all stores.
type Skipped struct {
	Partition
	From, To uint64
}

// ConsumerOptions say how a consumer behaves.
type ConsumerOptions struct {
	Config *Config // Nil: DefaultConfig.
	// Sink, if not nil, is given the records, a few at a time and one call after
	// the other, instead of Next and Receive. The consumer reads on when it
	// returns. It must not wait for Close, which waits for it.
	Sink func([]Record)
	// Skipped, if not nil, is told of gaps, and must not wait for Close either.
	Skipped func(Skipped)
	// Positions are the sequences wanted next, where an earlier consumer has
	// stopped. Those that are kept (consumer/positions, consumer/group) come before
	// them.
	Positions map[Partition]uint64
	Log       *slog.Logger // Nil: nothing is logged.
}

// Consumer consumes topics. Its methods may be called by several goroutines.
type Consumer struct {
	config *Config
	o      ConsumerOptions
	node   *mesh.Node
	log    *slog.Logger

	mu      sync.Mutex
	machine *fabric.Consumer
	done    map[fabric.Partition]uint64 // Positions of what Next and Receive returned, and Sink took.
	held    map[fabric.Partition]uint64 // Where what the last Next or Receive returned begins.
	saved   bool                        // They are kept.
	ended   bool                        // By Close: nothing is returned any more.
	keeper  keeper                      // Nil if they are not to be.

	records chan []Record
	pending struct { // What Next has not returned yet.
		sync.Mutex
		records []Record
	}
	wake    mesh.Bell
	closing context.Context
	close   context.CancelFunc
	running sync.WaitGroup
	closed  func(context.Context) error // Once.
}

// inletOfRecords is a consumer's only one.
const inletOfRecords = 0

// NewConsumer joins a mesh, of which nobody need be there yet.
func NewConsumer(o ConsumerOptions) (*Consumer, error) {
	c := &Consumer{
		config: orDefault(o.Config), o: o, log: orSilent(o.Log),
		done: map[fabric.Partition]uint64{}, held: map[fabric.Partition]uint64{}, saved: true,
		records: make(chan []Record, 16), wake: mesh.NewBell(),
	}
	if err := c.config.Check(); err != nil {
		return nil, err
	}
	if err := c.loadPositions(); err != nil {
		return nil, err
	}
	if err := c.join(); err != nil {
		return nil, errors.Join(err, c.closeKeeper())
	}
	c.closed = once(c.end)
	c.running.Go(c.run)
	c.running.Go(c.keep)
	return c, nil
}

func (c *Consumer) closeKeeper() error {
	if c.keeper == nil {
		return nil
	}
	return c.keeper.close()
}

func (c *Consumer) join() error {
	x := &c.config.Consumer
	address := mesh.NewAddress()
	resets := map[Reset]fabric.Reset{Latest: fabric.Latest, AfterLatest: fabric.AfterLatest, Earliest: fabric.Earliest}
	c.machine = fabric.NewConsumer(fabric.ConsumerOptions{Address: address, Reset: resets[x.Reset], Siblings: x.Siblings, Positions: maps.Clone(c.done)})
	c.closing, c.close = context.WithCancel(context.Background())
	mo, err := c.config.node(c.log)
	if err != nil {
		return err
	}
	mo.Address, mo.Publisher, mo.HighWater = address, zmtp.XPub, x.HighWatermark
	mo.Inlets = []mesh.Inlet{{Prefixes: fabric.ConsumerPrefixes(address), HighWater: x.HighWatermark, Receive: c.receive}}
	mo.Subscribed = c.subscribed
	c.mu.Lock() // What is received first waits for node.
	defer c.mu.Unlock()
	c.node, err = mesh.Join(mo)
	return err
}

// Address is who the consumer is.
func (c *Consumer) Address() string { return c.node.Address() }

// Stats are those of its node.
func (c *Consumer) Stats() Stats { return Stats(c.node.Stats()) }

// Subscribe begins to consume a topic; the empty one stands for all.
func (c *Consumer) Subscribe(topic string) error {
	if fabric.CheckName(topic) != nil {
		return fmt.Errorf("%w: %q", ErrTopic, topic)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.Contains(c.machine.Subscription(), topic) {
		return nil
	}
	for _, prefix := range fabric.TopicPrefixes(topic) {
		if err := c.node.Subscribe(inletOfRecords, prefix); err != nil {
			return errors.Join(ErrClosed, err)
		}
	}
	c.machine.Subscribe(time.Now(), topic)
	c.turnLocked()
	return nil
}

// Unsubscribe ends that. Records that have come already are still returned.
func (c *Consumer) Unsubscribe(topic string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(c.machine.Subscription(), topic) {
		return nil
	}
	c.machine.Unsubscribe(topic)
	var err error
	for _, prefix := range fabric.TopicPrefixes(topic) {
		err = errors.Join(err, c.node.Unsubscribe(inletOfRecords, prefix))
	}
	return err
}

// Subscription is the topics, sorted.
func (c *Consumer) Subscription() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.machine.Subscription()
}

// Lag is how many records are known to exist and have not come yet, by
// partition, where there are any.
func (c *Consumer) Lag() map[Partition]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return exported(c.machine.Lag())
}

// Positions are the sequences wanted next, after what Next and Receive have
// returned and Sink has taken.
func (c *Consumer) Positions() map[Partition]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return exported(c.done)
}

func exported(m map[fabric.Partition]uint64) map[Partition]uint64 {
	out := make(map[Partition]uint64, len(m))
	for p, n := range m {
		out[Partition{p.Subject, p.Address}] = n
	}
	return out
}

// Next returns the next record. The position is kept behind it as soon as another
// is wanted, or the consumer is closed: whoever crashes before gets it again.
func (c *Consumer) Next(ctx context.Context) (Record, error) {
	records, err := c.ReceiveMost(ctx, 1)
	if err != nil {
		return Record{}, err
	}
	return records[0], nil
}

// Receive returns the next records, at least one.
func (c *Consumer) Receive(ctx context.Context) ([]Record, error) { return c.ReceiveMost(ctx, 0) }

// ReceiveMost returns at least one record and at most that many; 0 is no limit.
func (c *Consumer) ReceiveMost(ctx context.Context, most int) ([]Record, error) {
	c.pending.Lock()
	defer c.pending.Unlock()
	c.release()
	records := c.pending.records
	if len(records) == 0 {
		var err error
		if records, err = c.take(ctx); err != nil {
			return nil, err
		}
	}
	rest := records[len(records):]
	if most > 0 && len(records) > most {
		records, rest = records[:most:most], records[most:]
	}
	c.pending.records = rest
	if !c.passed(records, true) {
		return nil, ErrClosed
	}
	return records, nil
}

func (c *Consumer) take(ctx context.Context) ([]Record, error) {
	select {
	case records := <-c.records:
		return records, nil
	default:
	}
	select {
	case records := <-c.records:
		return records, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-c.closing.Done():
		return nil, ErrClosed
	}
}

// passed moves positions behind records that the user has. Those that are not
// done with are held: what is kept stays before them. It reports false if the
// consumer was closed before.
func (c *Consumer) passed(records []Record, held bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	for i := range records {
		r := &records[i]
		if i > 0 && records[i-1].Topic == r.Topic && records[i-1].Producer == r.Producer {
			continue
		}
		if i > 0 {
			c.passLocked(&records[i-1])
		}
		if at := (fabric.Partition{Subject: r.Topic, Address: r.Producer}); held && c.keeper != nil {
			if _, ok := c.held[at]; !ok {
				c.held[at] = r.Sequence
			}
		}
	}
	c.passLocked(&records[len(records)-1])
	return true
}

func (c *Consumer) passLocked(last *Record) {
	c.done[fabric.Partition{Subject: last.Topic, Address: last.Producer}] = last.Sequence + 1
	c.saved = false
}

// release notes that the user is done with what was returned last.
func (c *Consumer) release() {
	if c.keeper == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.held) > 0 {
		clear(c.held)
		c.saved = false
	}
}

// Close leaves the mesh, and keeps the position, if it is to be kept, behind what
// was returned. What was not is for the next consumer. Further calls wait for the
// first, and return the same.
func (c *Consumer) Close(ctx context.Context) error { return c.closed(ctx) }

func (c *Consumer) end(ctx context.Context) error {
	c.close()
	err := c.node.Close(ctx)
	c.running.Wait()
	c.release()
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	return errors.Join(c.savePositions(context.WithoutCancel(ctx)), c.closeKeeper(), err)
}

// receive is told of records, heads and stores.
func (c *Consumer) receive(b *zmtp.Batch, from string) {
	c.mu.Lock()
	now := time.Now()
	var m fabric.Message
	for _, frames := range b.Messages {
		content, err := m.ParseFrames(frames)
		if err != nil {
			c.node.Malformed()
			continue
		}
		c.machine.Handle(now, &m, content, from)
	}
	records, _ := c.turnLocked()
	c.mu.Unlock()
	c.wake.Ring() // There may be a deadline.
	if len(records) == 0 {
		b.Release()
		return
	}
	c.deliver(records) // They are parts of the batch, which is theirs now.
}

// deliver hands records over, and waits for the user.
func (c *Consumer) deliver(records []Record) {
	if c.o.Sink != nil {
		c.o.Sink(records)
		c.passed(records, false)
		return
	}
	select {
	case c.records <- records:
	case <-c.closing.Done():
	}
}

func (c *Consumer) subscribed(prefix []byte) {
	c.mu.Lock()
	c.machine.Subscribed(prefix)
	c.turnLocked()
	c.mu.Unlock()
	c.wake.Ring() // There may be a deadline.
}

// run looks after deadlines.
func (c *Consumer) run() {
	alarm := time.NewTimer(time.Hour)
	defer alarm.Stop()
	for {
		select {
		case <-c.closing.Done():
			return
		case <-c.wake:
		case <-alarm.C:
			c.mu.Lock()
			c.machine.Tick(time.Now())
			_, skips := c.turnLocked() // A tick delivers nothing.
			c.mu.Unlock()
			c.tell(skips)
		}
		c.mu.Lock()
		at := c.machine.Deadline()
		c.mu.Unlock()
		if at.IsZero() {
			at = time.Now().Add(time.Hour)
		}
		alarm.Reset(time.Until(at))
	}
}

// turnLocked does what the machine wants done, and returns what is to be
// delivered, and, of a tick, what is skipped.
func (c *Consumer) turnLocked() (records []Record, skips []fabric.Skip) {
	e := c.machine.Drain()
	c.node.Publish(e.Sends)
	if len(e.Deliveries) > 0 {
		records = make([]Record, len(e.Deliveries))
	}
	for i := range e.Deliveries {
		d := &e.Deliveries[i]
		records[i] = Record{d.Subject, d.Address, d.Sequence, d.Content}
	}
	clear(e.Deliveries) // The machine need not keep what the user lets go.
	return records, slices.Clone(e.Skips)
}

// tell tells of gaps, without the lock: who hears of them may ask the consumer.
func (c *Consumer) tell(skips []fabric.Skip) {
	for _, s := range skips {
		c.log.Warn("records are gone", "topic", s.Subject, "producer", s.Address, "from", s.From, "to", s.To)
		if c.o.Skipped != nil {
			c.o.Skipped(Skipped{Partition{s.Subject, s.Address}, s.From, s.To})
		}
	}
}
