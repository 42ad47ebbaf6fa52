package api

import (
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/quota"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// anonymous is who everybody is, as long as nobody has to log in.
const anonymous = "ANONYMOUS"

// throttle enforces the quotas of users and clients. Who has to wait is
// answered at once, told for how long, and not read meanwhile (KIP-219).
type throttle struct {
	produce, fetch, request meter
	mutation                mutationMeter

	mu  sync.Mutex
	end model.Offset // Of the newest image whose limits are enforced.
}

// meter is one of quota's meters, for many at once.
type meter struct {
	on atomic.Bool // Whether anybody is limited: usually nobody is, and that must cost nothing.
	mu sync.Mutex
	m  *quota.Meter
	throttled
}

// throttled counts who had to wait, and how long together.
type throttled struct{ Answers, Nanos atomic.Uint64 }

func (t *throttled) count(wait time.Duration) {
	if wait > 0 {
		t.Answers.Add(1)
		t.Nanos.Add(uint64(wait))
	}
}

// init makes the meters. Before, nobody is limited.
func (t *throttle) init(cfg *config.Broker, now time.Time) {
	t.end = -1
	w := quota.Window{Samples: cfg.QuotaSamples, Length: cfg.QuotaSample}
	t.produce.m, t.fetch.m, t.request.m = quota.NewMeter(quota.Produce, w, now), quota.NewMeter(quota.Fetch, w, now), quota.NewMeter(quota.Request, w, now)
	t.mutation.m = quota.NewMutations(quota.Window{Samples: cfg.MutationSamples, Length: cfg.MutationSample}, now)
}

// set enforces what an image says, unless a newer one was here.
func (t *throttle) set(image *metadata.Image) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if image.End() <= t.end {
		return
	}
	t.end = image.End()
	for kind, m := range map[quota.Kind]*meter{quota.Produce: &t.produce, quota.Fetch: &t.fetch, quota.Request: &t.request} {
		l := image.Limits(kind)
		m.mu.Lock()
		m.m.SetLimits(l)
		m.mu.Unlock()
		m.on.Store(!l.None())
	}
	l := image.Limits(quota.Mutation)
	t.mutation.mu.Lock()
	t.mutation.m.SetLimits(l)
	t.mutation.mu.Unlock()
	t.mutation.on.Store(!l.None())
}

// charge counts what a client uses and returns how long it has to wait.
func (m *meter) charge(now time.Time, client string, v float64) time.Duration {
	if !m.on.Load() {
		return 0
	}
	m.mu.Lock()
	wait := m.m.Charge(now, anonymous, client, v)
	m.mu.Unlock()
	m.count(wait)
	return wait
}

// refund takes back what was charged and then not given.
func (m *meter) refund(now time.Time, client string, v float64) {
	m.mu.Lock()
	m.m.Note(now, anonymous, client, -v)
	m.mu.Unlock()
}

// largest bounds n by what a client may use at once without being sure to wait.
func (m *meter) largest(client string, n int) int {
	if !m.on.Load() {
		return n
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if most, limited := m.m.Largest(anonymous, client); limited && most < float64(n) {
		return int(most)
	}
	return n
}

func (m *meter) clients() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.m.Clients()
}

// mutationMeter is the same for mutations.
type mutationMeter struct {
	on atomic.Bool
	mu sync.Mutex
	m  *quota.Mutations
	throttled
}

func (m *mutationMeter) charge(now time.Time, client string, n int, strict bool) (wait time.Duration, refused bool) {
	if !m.on.Load() {
		return 0, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.m.Charge(now, anonymous, client, float64(n), strict)
}

func (m *mutationMeter) clients() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.m.Clients()
}

// named returns the client's id in memory of its own, where somebody will need
// it after the frame is gone: to charge it.
func (s *session) named(client string) string {
	if !s.throttle.fetch.on.Load() && !s.throttle.request.on.Load() {
		return ""
	}
	if s.client != client {
		s.client = strings.Clone(client)
	}
	return s.client
}

// mute keeps the connection of a call silent, and remembers what to tell it.
func (c *call) mute(wait time.Duration) {
	if wait > 0 {
		c.wait = max(c.wait, wait)
		c.a.Conn().Mute(wait)
	}
}

// chargeProduce counts the bytes of a Produce.
func (s *session) chargeProduce(c *call) {
	c.mute(s.throttle.produce.charge(c.began, c.client, float64(c.bytes)))
}

// chargeTime counts the time that an answer took to make.
func (s *session) chargeTime(c *call, now time.Time) {
	if s.throttle.request.on.Load() {
		c.mute(s.throttle.request.charge(now, c.client, percent(c.work(now))))
	}
}

// percent is how much of a second of one core it was, in percent (KIP-124).
func percent(d time.Duration) float64 { return 100 * d.Seconds() }

// tell writes into an answer how long its client has to wait. Only such answers
// pay for the field being looked up by its name.
func (c *call) tell(r wire.Response) {
	if c.wait <= 0 {
		return
	}
	if f := reflect.ValueOf(r).Elem().FieldByName("ThrottleTimeMs"); f.IsValid() {
		f.SetInt(c.wait.Milliseconds())
	}
}

// mutations is what one request may change, by its client's quota (KIP-599).
type mutations struct {
	session *session
	client  string // In memory of its own: it may be charged after the request was given up.
	strict  bool

	mu    sync.Mutex
	until time.Time
}

// mutations begins a request that changes topics. From some version on, clients
// know the error of quotas and are refused what is too much; older ones get
// everything and wait afterwards.
func (s *session) mutations(c *call, strictFrom int16) *mutations {
	return &mutations{session: s, client: strings.Clone(c.client), strict: c.Version >= strictFrom}
}

// charge counts partitions that are about to be made or deleted. An error says
// that they must not be.
func (m *mutations) charge(partitions int) error {
	s := m.session
	now := s.opts.Now()
	wait, refused := s.throttle.mutation.charge(now, m.client, partitions, m.strict)
	if wait > 0 {
		m.mu.Lock()
		m.until = now.Add(wait)
		m.mu.Unlock()
	}
	if refused {
		return wire.ThrottlingQuotaExceeded
	}
	return nil
}

// rules are the node's, under this quota.
func (m *mutations) rules() controller.Rules {
	r := m.session.opts.Rules
	r.Charge = m.charge
	return r
}

// end makes the client of a request wait for what it has changed.
func (m *mutations) end(c *call) {
	m.mu.Lock()
	wait := m.until.Sub(m.session.opts.Now())
	m.mu.Unlock()
	if wait > 0 {
		m.session.throttle.mutation.count(wait)
		c.mute(wait)
	}
}

// Throttled is what one kind of quota has done.
type Throttled struct {
	Kind    quota.Kind
	Answers uint64        // To clients that had to wait.
	Wait    time.Duration // All of them together.
	Clients int           // Whose use is counted now.
}

// Throttled tells what the quotas have done.
func (a *API) Throttled() []Throttled {
	t := &a.throttle
	of := func(k quota.Kind, x *throttled, clients int) Throttled {
		return Throttled{k, x.Answers.Load(), time.Duration(x.Nanos.Load()), clients}
	}
	return []Throttled{
		of(quota.Produce, &t.produce.throttled, t.produce.clients()),
		of(quota.Fetch, &t.fetch.throttled, t.fetch.clients()),
		of(quota.Request, &t.request.throttled, t.request.clients()),
		of(quota.Mutation, &t.mutation.throttled, t.mutation.clients()),
	}
}
