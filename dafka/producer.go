package dafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/mesh"
	"github.com/barnabas-log/barnabas/internal/zmtp"
)

// Errors of producers and consumers.
var (
	// ErrClosed is the answer of what was closed.
	ErrClosed = errors.New("dafka: closed")
	// ErrTooLarge says that a record is larger than all that may be
	// unacknowledged.
	ErrTooLarge = errors.New("dafka: record is too large")
	// ErrUnacked says that a producer was closed with records that too few stores
	// have.
	ErrUnacked = errors.New("dafka: records are not acknowledged")
	// ErrTopic says that a topic has more than 255 bytes, or a zero byte, or, for
	// a producer, none.
	ErrTopic = errors.New("dafka: illegal topic")
)

// ProducerOptions say how a producer behaves.
type ProducerOptions struct {
	Config *Config      // Nil: DefaultConfig.
	Log    *slog.Logger // Nil: nothing is logged.
}

// Producer publishes on one topic. Its methods may be called by several
// goroutines.
type Producer struct {
	config *Config
	topic  string
	node   *mesh.Node
	log    *slog.Logger

	outbox *outbox // Nil unless it is durable; the running goroutine's.

	mu      sync.Mutex
	machine *fabric.Producer
	moved   chan struct{}   // Closed, and made anew, when something was acknowledged or kept.
	kept    uint64          // One past the last record that the outbox has.
	failed  error           // Of the outbox: nothing is published any more.
	met     map[string]bool // Peers that listen.
	joined  time.Time
	// gathered is how many records were published while what was there before is
	// kept or sent; 0 also if nothing is.
	gathered int
	sending  bool
	leaving  []fabric.Send // What is being kept or sent; memory that run uses again.

	wake    mesh.Bell
	closing context.Context
	close   context.CancelFunc
	running sync.WaitGroup
	closed  func(context.Context) error // Once.
}

// NewProducer joins a mesh, of which nobody need be there yet. Its address is a
// new one, and so is the partition that it publishes: its records are numbered
// from 0. With a directory (producer/dir) it is durable: it goes on as who it was
// there, and publishes again what is not acknowledged.
func NewProducer(topic string, o ProducerOptions) (*Producer, error) {
	if topic == "" || fabric.CheckName(topic) != nil {
		return nil, fmt.Errorf("%w: %q", ErrTopic, topic)
	}
	p := &Producer{topic: topic, config: orDefault(o.Config), log: orSilent(o.Log), moved: make(chan struct{}), wake: mesh.NewBell()}
	p.met, p.joined = map[string]bool{}, time.Now()
	p.closing, p.close = context.WithCancel(context.Background())
	if err := p.join(); err != nil {
		if p.outbox != nil {
			err = errors.Join(err, p.outbox.close())
		}
		return nil, err
	}
	p.closed = once(p.end)
	p.running.Go(p.run)
	return p, nil
}

func (p *Producer) join() error {
	x, address := &p.config.Producer, mesh.NewAddress()
	var resume *fabric.ProducerState
	var err error
	if x.Dir != "" {
		if p.outbox, address, resume, err = openOutbox(x.Dir, p.topic, x.Sync); err != nil {
			return err
		}
		p.kept = resume.First + uint64(len(resume.Contents))
	}
	p.machine = fabric.NewProducer(time.Now(), fabric.ProducerOptions{
		Address: address, Topic: p.topic, HeadInterval: x.HeadInterval, MinAcks: x.MinAcks, TerminateUnacked: x.TerminateUnacked,
		MaxRecords: x.MaxRecords, MaxBytes: x.MaxBytes, Resume: resume,
	})
	mo, err := p.config.node(p.log)
	if err != nil {
		return err
	}
	mo.Address, mo.Publisher, mo.HighWater = address, zmtp.XPub, x.HighWatermark // To peers an XPUB is a PUB.
	mo.HighWaterBytes = queueRoom(x.MaxBytes, x.MaxRecords, p.topic)
	mo.Inlets = []mesh.Inlet{{Prefixes: fabric.ProducerPrefixes(address), HighWater: x.HighWatermark, Receive: p.receive}}
	mo.Subscribed, mo.Left = p.subscribed, p.left
	p.mu.Lock() // What is received first waits for node.
	defer p.mu.Unlock()
	p.node, err = mesh.Join(mo)
	return err
}

// minQueue is how many bytes may wait for a peer at least.
const minQueue = 64 << 20

// queueRoom is how many bytes may wait for a peer: all that may be
// unacknowledged, with what is sent before each record. With less a producer
// that is faster than a store would drop what it then has to send again.
func queueRoom(bytes, records int, topic string) int {
	head := 96 + 2*len(topic)
	if records > (math.MaxInt-bytes)/head {
		return math.MaxInt
	}
	return max(minQueue, bytes+records*head)
}

func orDefault(c *Config) *Config {
	if c == nil {
		return DefaultConfig()
	}
	return c
}

func orSilent(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}

// Address is who the producer is, which is the name of its partition.
func (p *Producer) Address() string { return p.node.Address() }

// Topic is what it publishes on.
func (p *Producer) Topic() string { return p.topic }

// Stats are those of its node.
func (p *Producer) Stats() Stats { return Stats(p.node.Stats()) }

// Stats are what a node of a mesh has counted.
type Stats mesh.Stats

// Publish publishes a record, which the caller must not change afterwards, and
// returns its sequence. It waits while as much as is allowed is unacknowledged:
// if stores are slow, or there is none; and while as much as is allowed waits to be
// sent. It does not wait for an acknowledgement; see Flush.
func (p *Producer) Publish(ctx context.Context, record []byte) (sequence uint64, err error) {
	for {
		p.mu.Lock()
		if err := p.usableLocked(); err != nil {
			p.mu.Unlock()
			return 0, err
		}
		sequence, err := p.publishOneLocked(record)
		moved := p.moved
		p.mu.Unlock()
		switch {
		case err == nil:
			p.wake.Ring()
			return sequence, nil
		case errors.Is(err, fabric.ErrTerminated):
			return 0, ErrClosed
		case errors.Is(err, fabric.ErrTooLarge):
			return 0, fmt.Errorf("%w: %d bytes", ErrTooLarge, len(record))
		case !errors.Is(err, fabric.ErrFull):
			return 0, err
		}
		if err := p.await(ctx, moved); err != nil {
			return 0, err
		}
	}
}

// maxGathered is how many records may be published while others are being kept,
// or wait for slow peers.
const maxGathered = 1 << 14

func (p *Producer) publishOneLocked(record []byte) (uint64, error) {
	if p.sending && p.gathered >= maxGathered {
		return 0, fabric.ErrFull
	}
	sequence, err := p.machine.Publish(time.Now(), record)
	if err == nil {
		p.gathered++
	}
	return sequence, err
}

func (p *Producer) usableLocked() error {
	if p.closing.Err() != nil {
		return ErrClosed
	}
	return p.failed
}

// await waits until something was acknowledged.
func (p *Producer) await(ctx context.Context, moved <-chan struct{}) error {
	select {
	case <-moved:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-p.closing.Done():
		return ErrClosed
	}
}

// Flush waits until enough stores have everything that was published before. If
// none is needed it has nothing to wait for.
func (p *Producer) Flush(ctx context.Context) error {
	if p.config.Producer.MinAcks < 0 {
		return nil
	}
	p.mu.Lock()
	end := p.machine.Next()
	p.mu.Unlock()
	for {
		p.mu.Lock()
		first, moved, failed := p.machine.First(), p.moved, p.failed
		p.mu.Unlock()
		if first >= end || failed != nil {
			return failed
		}
		if err := p.await(ctx, moved); err != nil {
			return err
		}
	}
}

// Persist waits until what was published before survives a crash of this
// process, and with producer/fsync of the machine. A producer that is not durable
// has nothing to wait for.
func (p *Producer) Persist(ctx context.Context) error {
	p.mu.Lock()
	end := p.machine.Next()
	p.mu.Unlock()
	for p.outbox != nil {
		p.mu.Lock()
		kept, moved, failed := p.kept, p.moved, p.failed
		p.mu.Unlock()
		if kept >= end || failed != nil {
			return failed
		}
		if err := p.await(ctx, moved); err != nil {
			return err
		}
	}
	return nil
}

// Unacked is how many records are kept because too few stores have them, and
// their bytes.
func (p *Producer) Unacked() (records, bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.machine.Unacked()
}

// Close waits until enough stores have everything, as C does, and its peers have
// heard of it, which takes at most a HEAD interval, and leaves the mesh. When ctx
// ends first, or with producer/terminate_unacked, what is not acknowledged is
// lost, unless the producer is durable, and the error is ErrUnacked. Nothing can
// be published from its call on. Further calls wait for the first, and return the
// same.
func (p *Producer) Close(ctx context.Context) error { return p.closed(ctx) }

func (p *Producer) end(ctx context.Context) error {
	p.mu.Lock()
	p.machine.Terminate()
	p.tellAllLocked() // Publish need not wait any more.
	p.mu.Unlock()
	p.wake.Ring()
	for {
		p.mu.Lock()
		done, moved := p.machine.Done() || p.failed != nil, p.moved
		p.mu.Unlock()
		if done || p.await(ctx, moved) != nil {
			break
		}
	}
	p.part(ctx)
	p.close()
	p.running.Wait()
	err := errors.Join(p.failed, p.node.Close(ctx))
	if p.outbox != nil {
		p.outbox.forget(p.machine.First(), p.log)
		err = errors.Join(err, p.outbox.close())
	}
	if n, _ := p.Unacked(); n > 0 && p.config.Producer.MinAcks >= 0 {
		err = errors.Join(fmt.Errorf("%w: %d", ErrUnacked, n), err)
	}
	return err
}

// once lets the first call do it, and the others wait for its result.
func once(do func(context.Context) error) func(context.Context) error {
	var first sync.Once
	var err error
	return func(ctx context.Context) error {
		first.Do(func() { err = do(ctx) })
		return err
	}
}

const (
	// acquaintance is how long after it joined a producer stays at least: until
	// then peers may not know of it.
	acquaintance = 250 * time.Millisecond
	// maxMet bounds how many peers are told apart.
	maxMet = 1 << 14
)

// part lets peers hear of the producer before it goes. A store may have
// everything before a consumer is connected, and C's consumers ask stores for
// nothing that they have not heard of.
func (p *Producer) part(ctx context.Context) {
	x := &p.config.Producer
	p.mu.Lock()
	silent := p.machine.Next() == 0 || x.TerminateUnacked || p.failed != nil
	p.mu.Unlock()
	if silent {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, x.HeadInterval)
	defer cancel()
	soonest := p.joined.Add(min(acquaintance, x.HeadInterval))
	for ctx.Err() == nil && (time.Now().Before(soonest) || p.unknown()) {
		pause(ctx, breath)
	}
}

// unknown reports whether there is a peer that does not listen yet, or has not
// been told what there is.
func (p *Producer) unknown() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.machine.Welcomes() || slices.ContainsFunc(p.node.Peers(), func(x fabric.Peer) bool { return !p.met[x.Address] })
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// receive is told of acknowledgements and fetches.
func (p *Producer) receive(b *zmtp.Batch, from string) {
	p.mu.Lock()
	first := p.machine.First()
	var m fabric.Message
	for _, frames := range b.Messages {
		if _, err := m.ParseFrames(frames); err != nil {
			p.node.Malformed()
			continue
		}
		p.machine.Handle(&m, from)
	}
	p.tellLocked(first)
	p.mu.Unlock()
	b.Release()
	p.wake.Ring()
}

// tellLocked wakes those who wait if the first record that is kept is another.
func (p *Producer) tellLocked(first uint64) {
	if p.machine.First() != first || p.machine.Done() {
		p.tellAllLocked()
	}
}

func (p *Producer) tellAllLocked() {
	close(p.moved)
	p.moved = make(chan struct{})
}

func (p *Producer) subscribed(prefix []byte) {
	p.mu.Lock()
	p.machine.Subscribed(time.Now(), prefix)
	if len(prefix) > 1 && len(p.met) < maxMet {
		p.met[string(prefix[1:])] = true // Every node wants what is for itself.
	}
	p.mu.Unlock()
	p.wake.Ring()
}

func (p *Producer) left(peer fabric.Peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.machine.Gone(peer.Address)
	delete(p.met, peer.Address)
}

const (
	// served is how many records of answers are published in one go.
	served = 256
	// breath is how long answers wait for somebody whose queue is full, and pause
	// then.
	breath = 5 * time.Millisecond
)

// run publishes what the machine wants published. Publishing callers only put
// records into the machine, so that many leave together.
func (p *Producer) run() {
	alarm := time.NewTimer(0)
	defer alarm.Stop()
	for {
		select {
		case <-p.closing.Done():
			p.turn()
			return
		case <-p.wake:
		case <-alarm.C:
		}
		next := p.turn()
		alarm.Reset(next)
	}
}

// turn does what is to be done, and returns after what time there is more.
func (p *Producer) turn() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	first := p.machine.First()
	p.machine.Tick(now)
	more := p.machine.Serve(served)
	slow := p.publishLocked()
	p.tellLocked(first)
	switch {
	case slow:
		return breath
	case more:
		return 0
	}
	if at := p.machine.Deadline(); !at.IsZero() {
		return max(0, at.Sub(now))
	}
	return time.Hour
}

// publishLocked lets out what the machine has gathered, without the lock while
// that takes its time: meanwhile somebody publishes on, acknowledgements come, and
// whoever waits can give up. Only run calls it, so that everything leaves in order.
// It reports whether somebody who asked reads slowly: who does not get everything
// would ask again only after a second.
func (p *Producer) publishLocked() (slow bool) {
	sends := p.machine.Drain()
	answers := len(sends) // They are the last.
	for answers > 0 && isAnswer(&sends[answers-1]) {
		answers--
	}
	if p.outbox == nil && !p.config.Producer.BackPressure && answers == len(sends) {
		p.node.Publish(sends)
		return false
	}
	p.leaving = append(p.leaving[:0], sends...)
	sends = p.leaving
	p.sending, p.gathered = true, 0
	if p.outbox != nil && !p.keepLocked(sends) {
		sends, answers = nil, 0
	}
	p.mu.Unlock()
	p.publish(sends[:answers])
	unsent := p.answer(sends[answers:])
	p.mu.Lock()
	p.machine.Unserved(unsent)
	p.sending = false
	p.tellAllLocked()
	if clear(p.leaving); cap(p.leaving) > 2*maxGathered {
		p.leaving = nil
	}
	return len(unsent) > 0
}

func isAnswer(s *fabric.Send) bool {
	return s.Kind == fabric.DirectRecord || s.Kind == fabric.DirectHead
}

func (p *Producer) publish(sends []fabric.Send) {
	if !p.config.Producer.BackPressure {
		p.node.Publish(sends)
		return
	}
	if done, err := p.node.PublishWait(p.closing, sends); err != nil {
		p.node.Publish(sends[done:])
	}
}

// answer waits a little for who asked and reads slowly, and returns what could not
// be sent.
func (p *Producer) answer(sends []fabric.Send) (unsent []fabric.Send) {
	if len(sends) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(p.closing, breath)
	defer cancel()
	done, _ := p.node.PublishWait(ctx, sends)
	return sends[done:]
}

// keepLocked writes new records to the outbox, without the lock: what is
// published meanwhile is written together then. It reports whether they may be
// published.
func (p *Producer) keepLocked(sends []fabric.Send) bool {
	if p.failed != nil {
		return false
	}
	first := p.machine.First()
	p.mu.Unlock()
	p.outbox.forget(first, p.log)
	err := p.outbox.keep(sends)
	p.mu.Lock()
	p.kept = uint64(p.outbox.log.End())
	if err != nil {
		p.failed = fmt.Errorf("%w: %w", ErrDir, err)
		p.log.Error("records cannot be kept, and are not published", "err", err)
	}
	p.tellAllLocked()
	return err == nil
}
