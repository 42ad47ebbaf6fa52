package fabric

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// Reset says where a consumer begins in a partition that it has no position in.
type Reset uint8

const (
	// Latest begins with the first message that comes. If that is a HEAD, the
	// record it tells of is fetched: the last one that was published before. So
	// does C.
	Latest Reset = iota
	// Earliest begins with the first record, and asks stores for partitions
	// whose producers are gone.
	Earliest
	// AfterLatest begins as Latest, but after the record that a HEAD tells of. So
	// does jdafka.
	AfterLatest
)

// ConsumerOptions say how a [Consumer] behaves. Zero values mean the defaults.
type ConsumerOptions struct {
	Address string // Its own: new for each life.
	Reset   Reset
	// Siblings delivers records of all topics that start with a subscribed one,
	// as C does.
	Siblings bool
	// Positions are where an earlier life stopped: the sequences wanted next.
	// Each is at most MaxSequence+1.
	Positions map[Partition]uint64
	// Retry is how long a fetch may take until it is sent again, 1 s; then twice
	// as long, and so on up to MaxRetry, 8 s.
	Retry, MaxRetry time.Duration
	// Patience is how long it waits for somebody to have a record of which a
	// store says that retention took it: 5 s. Then it is left out, and the user
	// is told.
	Patience time.Duration
	// AskHeads is how often stores are asked for their heads, lest an answer was
	// lost: 60 s.
	AskHeads time.Duration
	// MaxPartitions bounds how many are followed: 131,072. Further ones are
	// dropped and counted.
	MaxPartitions int

	chunk int // For tests; 0 is C's.
}

// Delivery is a record for the user.
type Delivery struct {
	Partition
	Sequence uint64
	// Content is a part of what was given to Handle.
	Content []byte
}

// Skip tells that records from From on and before To are left out: the stores
// have deleted them.
type Skip struct {
	Partition
	From, To uint64
}

// ConsumerEffects is what a consumer wants done, each list in order.
type ConsumerEffects struct {
	Sends      []Send
	Deliveries []Delivery
	Skips      []Skip
}

// Consumer delivers the records of its topics: those of a partition in order,
// each once.
//
//	                 Reset, or a position
//	(unknown) ──────────────────────────────▶ following ──────────────────────▶ fetching
//	           first message of a partition     │  ▲     a record is missing      │
//	                                            └──┘ ◀───────────────────────────┘
//	                                        next record             it came
//
// What it wants done gathers until [Consumer.Drain].
type Consumer struct {
	o      ConsumerOptions
	topics []string // Sorted.
	fetcher
	all   []*followed // In the order in which they were met.
	known map[Partition]*followed
	last  *followed // The one of the last message.
	askAt time.Time // When to ask for heads, or zero.
	// strangers are partitions that there was no room for, by messages.
	strangers uint64
	out       ConsumerEffects
}

// followed is a partition that the consumer has a position in.
type followed struct {
	cursor
	// wanted is whether the user subscribes to it at present.
	wanted bool
}

// NewConsumer returns a consumer without topics.
func NewConsumer(o ConsumerOptions) *Consumer {
	o.AskHeads = orSpan(o.AskHeads, time.Minute)
	o.MaxPartitions = orDefault(o.MaxPartitions, 1<<17)
	c := &Consumer{o: o, known: map[Partition]*followed{}}
	c.fetcher = newFetcher(o.Address, o.Retry, o.MaxRetry, orSpan(o.Patience, 5*time.Second), o.chunk)
	for _, p := range slices.SortedFunc(maps.Keys(o.Positions), Partition.compare) {
		c.follow(p, o.Positions[p])
	}
	return c
}

// asksHeads reports whether what stores have is of interest: to begin with, or
// to go on from a position. C asks only in the first case; who begins with the
// latest misses the end of a partition there, if the producer dies before it is
// fetched.
func (c *Consumer) asksHeads() bool { return c.o.Reset == Earliest || len(c.all) > 0 }

// Subscribe adds a topic that [CheckName] accepts; the empty one stands for all. The caller subscribes to
// [TopicPrefixes] before it publishes what follows.
func (c *Consumer) Subscribe(now time.Time, topic string) {
	at, there := slices.BinarySearch(c.topics, topic)
	if there {
		return
	}
	c.topics = slices.Insert(c.topics, at, topic)
	c.sift()
	c.askAt = now.Add(c.o.AskHeads)
	if c.asksHeads() {
		c.getHeads(topic)
	}
}

// Unsubscribe takes a topic away. Positions in its partitions are kept, lest it
// is subscribed to again.
func (c *Consumer) Unsubscribe(topic string) {
	if at, there := slices.BinarySearch(c.topics, topic); there {
		c.topics = slices.Delete(c.topics, at, at+1)
		c.sift()
	}
	if len(c.topics) == 0 {
		c.askAt = time.Time{}
	}
}

// Subscription is the topics, sorted.
func (c *Consumer) Subscription() []string { return slices.Clone(c.topics) }

// sift looks again which partitions are wanted. Those that are not fetch
// nothing.
func (c *Consumer) sift() {
	c.last = nil
	for _, f := range c.all {
		if f.wanted = c.wants(f.Subject); !f.wanted {
			c.rest(&f.cursor)
		}
	}
}

func (c *Consumer) wants(subject string) bool {
	if c.o.Siblings {
		return slices.ContainsFunc(c.topics, func(t string) bool { return strings.HasPrefix(subject, t) })
	}
	_, there := slices.BinarySearch(c.topics, subject)
	return there || len(c.topics) > 0 && c.topics[0] == ""
}

func (c *Consumer) getHeads(topic string) {
	c.sends = append(c.sends, Send{Message: Message{Kind: GetHeads, Topic: []byte(topic), Address: c.self}})
}

// Subscribed notes that somebody subscribed to this prefix at the consumer's
// publisher. A store that listens is greeted.
func (c *Consumer) Subscribed(prefix []byte) {
	c.listens(prefix)
	if len(prefix) > 1 && len(prefix) <= 1+maxName && Kind(prefix[0]) == ConsumerHello {
		c.greet(prefix[1:])
	}
}

// greet tells a store's reader which heads are wanted.
func (c *Consumer) greet(reader []byte) {
	hello := Message{Kind: ConsumerHello, Topic: slices.Clone(reader), Address: c.self}
	if c.asksHeads() {
		hello.Topics = MakeTopics(c.topics...)
	}
	c.sends = append(c.sends, Send{Message: hello})
}

// Handle takes a message that came, with its content if it has one. from is who
// sent it, as far as that is known: the address in the beacon of the endpoint.
func (c *Consumer) Handle(now time.Time, m *Message, content []byte, from string) {
	switch m.Kind {
	case Record:
		c.record(now, m, content)
	case DirectRecord, DirectHead, StoreHello:
		if string(m.Topic) != c.o.Address {
			return
		}
		switch m.Kind {
		case DirectRecord:
			c.record(now, m, content)
		case DirectHead:
			c.directHead(now, m, from)
		default:
			c.greet(m.Address)
		}
	case Head:
		c.head(now, m)
	}
}

func (c *Consumer) record(now time.Time, m *Message, content []byte) {
	f := c.find(m)
	switch {
	case f == nil || m.Sequence < f.next:
	case m.Sequence == f.next:
		c.out.Deliveries = append(c.out.Deliveries, Delivery{Partition: f.Partition, Sequence: m.Sequence, Content: content})
		c.took(now, &f.cursor)
	default:
		f.exists(m.Sequence)
		c.want(now, &f.cursor)
	}
}

func (c *Consumer) head(now time.Time, m *Message) {
	if f := c.find(m); f != nil {
		f.exists(m.Sequence)
		c.want(now, &f.cursor)
	}
}

// directHead takes a head from a store, or, where C would stop asking, from a
// producer. A producer's word that something is gone means only that stores have
// it.
func (c *Consumer) directHead(now time.Time, m *Message, from string) {
	f := c.find(m)
	if f == nil {
		return
	}
	f.exists(m.Sequence)
	c.want(now, &f.cursor)
	switch {
	case m.First <= f.next:
		c.hasIt(&f.cursor)
	case from != f.Address:
		c.isGone(now, &f.cursor, m.First)
	}
}

// find is the partition of a message, which is followed from now on if the user
// wants it; else nil.
func (c *Consumer) find(m *Message) *followed {
	if c.last != nil && c.last.is(m.Subject, m.Address) {
		return c.last
	}
	f := c.known[Partition{Subject: string(m.Subject), Address: string(m.Address)}]
	if f == nil {
		f = c.meet(m)
	}
	if f == nil || !f.wanted {
		return nil
	}
	c.last = f
	return f
}

func (c *Consumer) meet(m *Message) *followed {
	p := Partition{Subject: string(m.Subject), Address: string(m.Address)}
	if !c.wants(p.Subject) || m.Kind == DirectHead && c.o.Reset != Earliest {
		return nil // What it does not begin with, or was published long ago.
	}
	if len(c.known) >= c.o.MaxPartitions {
		c.strangers++
		return nil
	}
	return c.follow(p, c.start(m))
}

// start is where to begin, given the first message of a partition.
func (c *Consumer) start(m *Message) uint64 {
	switch {
	case c.o.Reset == Earliest:
		return 0
	case m.Kind == Head && c.o.Reset == AfterLatest:
		return m.Sequence + 1
	}
	return m.Sequence
}

func (c *Consumer) follow(p Partition, next uint64) *followed {
	f := &followed{cursor: newCursor(p), wanted: c.wants(p.Subject)}
	f.next, f.end = next, next
	c.known[p] = f
	c.all = append(c.all, f)
	return f
}

// Tick does what is due.
func (c *Consumer) Tick(now time.Time) {
	c.tick(now, func(cur *cursor, to uint64) {
		c.out.Skips = append(c.out.Skips, Skip{Partition: cur.Partition, From: cur.next, To: to})
		cur.next = to
	})
	if c.askAt.IsZero() || now.Before(c.askAt) {
		return
	}
	c.askAt = now.Add(c.o.AskHeads)
	if !c.asksHeads() {
		return
	}
	for _, topic := range c.topics {
		c.getHeads(topic)
	}
}

// Deadline is when Tick has something to do, or zero.
func (c *Consumer) Deadline() time.Time { return sooner(c.deadline(), c.askAt) }

// Drain returns what the consumer wants done. It is valid until the next call of
// anything.
func (c *Consumer) Drain() ConsumerEffects {
	out := c.out
	out.Sends = c.sends
	c.out = ConsumerEffects{Deliveries: out.Deliveries[:0], Skips: out.Skips[:0]}
	c.sends = c.sends[:0]
	return out
}

// Positions are the sequences wanted next, of all that is followed.
func (c *Consumer) Positions() map[Partition]uint64 {
	all := make(map[Partition]uint64, len(c.known))
	for p, f := range c.known {
		all[p] = f.next
	}
	return all
}

// Lag is how many records are known to exist and not delivered, by partition,
// where there are any.
func (c *Consumer) Lag() map[Partition]uint64 {
	lag := map[Partition]uint64{}
	for p, f := range c.known {
		if f.end > f.next {
			lag[p] = f.end - f.next
		}
	}
	return lag
}

// Strangers counts messages of partitions that there was no room for.
func (c *Consumer) Strangers() uint64 { return c.strangers }
