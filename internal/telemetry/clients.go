package telemetry

import (
	"container/list"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"github.com/barnabas-log/barnabas/model"
)

// Why a request is refused.
var (
	ErrThrottled    = errors.New("telemetry: before the push interval is over")
	ErrUnknown      = errors.New("telemetry: unknown subscription id")
	ErrCompression  = errors.New("telemetry: unknown compression type")
	ErrTooLarge     = errors.New("telemetry: push too large")
	ErrAfterEnd     = errors.New("telemetry: the client had said it was its last push")
	ErrBadInstances = errors.New("telemetry: invalid client instance id")
)

const (
	// maxClients is how many instances are remembered, as in Kafka: the one that
	// asked longest ago is forgotten, and asks anew.
	maxClients = 16384
	// minIdle is how long one is remembered at least; three intervals otherwise.
	minIdle = time.Minute
	// codecs are Kafka's compression types, none included.
	codecs = 5
)

// Clients are the client instances that asked lately.
type Clients struct {
	MaxBytes int // telemetry.max.bytes

	subscriptions []*Subscription
	version       int // Of subscriptions.
	byID          map[model.UUID]*list.Element
	order         list.List // Of *client, the last one that asked first.
}

// client is one client instance.
type client struct {
	id           model.UUID
	who          Identity
	version      int // Of the subscriptions that wanted is made of.
	wanted       wanted
	subscription int32

	// When it last asked, for what: zero if it never did.
	got, pushed, seen time.Time
	ended             bool
	// mayAsk is set when a push was refused for what only a new Get can tell.
	mayAsk bool
}

// NewClients returns an empty memory without subscriptions.
func NewClients(maxBytes int) *Clients {
	return &Clients{MaxBytes: maxBytes, byID: map[model.UUID]*list.Element{}}
}

// Len is how many instances are remembered.
func (c *Clients) Len() int { return c.order.Len() }

// SetSubscriptions replaces what clients are asked for: each learns it with its
// next request.
func (c *Clients) SetSubscriptions(all []*Subscription) {
	c.subscriptions = all
	c.version++
}

// Wanted is what a client is told to push.
type Wanted struct {
	Subscription int32
	Metrics      []string
	Interval     time.Duration
}

// Known reports whether an instance is remembered.
func (c *Clients) Known(id model.UUID) bool { return c.byID[id] != nil }

// Get tells a client what to push. Who asks again before the interval is over
// is refused, unless there is something new to tell.
func (c *Clients) Get(now time.Time, id model.UUID, who Identity) (Wanted, error) {
	x := c.client(now, id, who)
	last := x.got
	if x.pushed.After(last) {
		last = x.pushed
	}
	switch {
	case last.IsZero() || now.Sub(last) >= x.wanted.interval:
		x.got = now
	case !x.mayAsk:
		return Wanted{}, ErrThrottled
	}
	x.mayAsk = false
	return Wanted{x.subscription, x.wanted.metrics, x.wanted.interval}, nil
}

// Push is what a client wants to push.
type Push struct {
	Subscription int32
	Codec        int8
	Bytes        int
	Last         bool // The client is about to end.
}

// Push reports whether a client may push, and if so which metrics were asked
// for.
func (c *Clients) Push(now time.Time, id model.UUID, who Identity, p Push) (has func(name string) bool, err error) {
	if reserved(id) {
		return nil, ErrBadInstances
	}
	x := c.client(now, id, who)
	err = c.mayPush(now, x, p)
	x.ended = p.Last
	x.mayAsk = errors.Is(err, ErrUnknown) || errors.Is(err, ErrCompression)
	asked := x.wanted // Used when the client may already be asked for something else.
	return asked.has, err
}

func reserved(id model.UUID) bool { return id.IsZero() || id == model.UUID{15: 1} }

func (c *Clients) mayPush(now time.Time, x *client, p Push) error {
	if x.ended {
		return ErrAfterEnd
	}
	// The first push after a Get comes at any time: clients spread it.
	inTime := x.got.After(x.pushed) || x.pushed.IsZero() || now.Sub(x.pushed) >= x.wanted.interval
	if inTime {
		x.pushed = now
	}
	switch {
	case !inTime && !p.Last:
		return ErrThrottled
	case p.Subscription != x.subscription:
		return ErrUnknown
	case p.Codec < 0 || p.Codec >= codecs:
		return ErrCompression
	case p.Bytes > c.MaxBytes:
		return ErrTooLarge
	}
	return nil
}

// client finds an instance, or makes it. When subscriptions have changed, what
// it did before counts no longer, as in Kafka.
func (c *Clients) client(now time.Time, id model.UUID, who Identity) *client {
	c.expire(now)
	if e := c.byID[id]; e != nil {
		x := e.Value.(*client)
		if x.version != c.version {
			*x = c.make(id, x.who)
		}
		x.seen = now
		c.order.MoveToFront(e)
		return x
	}
	if c.order.Len() >= maxClients {
		c.remove(c.order.Back())
	}
	x := c.make(id, who.clone())
	x.seen = now
	c.byID[id] = c.order.PushFront(&x)
	return &x
}

func (i Identity) clone() Identity {
	return Identity{
		strings.Clone(i.Instance), strings.Clone(i.ClientID), strings.Clone(i.Software), strings.Clone(i.Version),
		strings.Clone(i.Address), strings.Clone(i.Port),
	}
}

func (c *Clients) make(id model.UUID, who Identity) client {
	w := forClient(c.subscriptions, &who)
	return client{id: id, who: who, version: c.version, wanted: w, subscription: subscriptionID(id, &w)}
}

// castagnoli is the polynomial of CRC-32C.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// subscriptionID is a number that changes with what is wanted, made as Kafka
// makes it.
func subscriptionID(id model.UUID, w *wanted) int32 {
	text := fmt.Sprintf("[%s]%d", strings.Join(w.metrics, ", "), w.interval.Milliseconds())
	sum := crc32.Checksum([]byte(text), castagnoli)
	for i := 0; i < len(id); i += 4 {
		sum ^= uint32(id[i])<<24 | uint32(id[i+1])<<16 | uint32(id[i+2])<<8 | uint32(id[i+3])
	}
	return int32(sum)
}

// expire forgets who has been silent for three intervals.
func (c *Clients) expire(now time.Time) {
	for e := c.order.Back(); e != nil; e = c.order.Back() {
		x := e.Value.(*client)
		if now.Sub(x.seen) < max(minIdle, 3*x.wanted.interval) {
			return
		}
		c.remove(e)
	}
}

// Forget forgets an instance whose connection has ended.
func (c *Clients) Forget(id model.UUID) {
	if e := c.byID[id]; e != nil {
		c.remove(e)
	}
}

func (c *Clients) remove(e *list.Element) {
	delete(c.byID, e.Value.(*client).id)
	c.order.Remove(e)
}
