package api

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/internal/histogram"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/telemetry"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// clientMetrics is what clients push about themselves (KIP-714).
type clientMetrics struct {
	stats ClientMetricsStats

	clients struct {
		sync.Mutex
		*telemetry.Clients
		end model.Offset // Of the newest image whose subscriptions are in force.
	}
	totals struct {
		sync.Mutex
		*telemetry.Totals
	}
}

// ClientMetricsStats counts what came of pushes.
type ClientMetricsStats struct {
	Pushes, Bytes, Malformed, Throttled, UnknownSubscription atomic.Uint64
	// Reads is how long it took to read and add up a push.
	Reads histogram.Times
}

func (m *clientMetrics) init(maxBytes int) {
	m.clients.Clients, m.clients.end = telemetry.NewClients(maxBytes), -1
	m.totals.Totals = telemetry.NewTotals()
}

// subscribe takes over the subscriptions of an image, unless a newer one was
// here. One that cannot be read is nobody's.
func (a *API) subscribe(image *metadata.Image) {
	m := &a.metrics
	m.clients.Lock()
	defer m.clients.Unlock()
	if image.End() <= m.clients.end {
		return
	}
	m.clients.end = image.End()
	var all []*telemetry.Subscription
	image.Configs(metadata.ResourceClientMetrics, func(name string, values map[string]string) bool {
		s, err := telemetry.ParseSubscription(name, values)
		if err != nil {
			a.opts.Log.Warn("subscription to client metrics not in force", "err", err)
			return true
		}
		all = append(all, s)
		return true
	})
	m.clients.SetSubscriptions(all)
}

// identity is what selectors see of a session's client.
func (s *session) identity(c *call, id model.UUID) telemetry.Identity {
	who := telemetry.Identity{Instance: id.String(), ClientID: c.client, Software: s.software.name, Version: s.software.version}
	if tcp, ok := s.conn.RemoteAddr().(*net.TCPAddr); ok {
		who.Address, who.Port = tcp.AddrPort().Addr().Unmap().String(), strconv.Itoa(tcp.Port)
	}
	return who
}

// software is what a client said of itself (KIP-511).
type software struct{ name, version string }

// unknownSoftware is what a client runs that has said nothing.
const unknownSoftware = "unknown"

func (s *session) introduce(q *wire.ApiVersionsRequest) {
	if s.software.name != q.ClientSoftwareName || s.software.version != q.ClientSoftwareVersion {
		s.software = software{strings.Clone(q.ClientSoftwareName), strings.Clone(q.ClientSoftwareVersion)}
	}
}

// getTelemetrySubscriptions tells a client which of its metrics we want.
func (s *session) getTelemetrySubscriptions(c *call, q *wire.GetTelemetrySubscriptionsRequest) wire.Response {
	r := wire.NewGetTelemetrySubscriptionsResponse()
	m := &s.metrics
	m.clients.Lock()
	defer m.clients.Unlock()
	id := q.ClientInstanceID
	for id.IsZero() || q.ClientInstanceID.IsZero() && m.clients.Known(id) {
		var err error
		if id, err = model.NewUUID(s.opts.Rules.Random); err != nil {
			r.ErrorCode = s.codeOf(err, c)
			return r
		}
	}
	s.remember(id)
	w, err := m.clients.Get(s.opts.Now(), id, s.identity(c, id))
	if err != nil {
		r.ErrorCode = s.telemetryRefused(err, c)
		return r
	}
	r.ClientInstanceID, r.SubscriptionID, r.RequestedMetrics = id, w.Subscription, w.Metrics
	r.AcceptedCompressionTypes = []int8{int8(record.Zstd), int8(record.LZ4), int8(record.Gzip), int8(record.Snappy)}
	r.PushIntervalMs, r.TelemetryMaxBytes, r.DeltaTemporality = int32(w.Interval.Milliseconds()), int32(m.clients.MaxBytes), true
	return r
}

// remember makes the instance end with the connection, if it is new.
func (s *session) remember(id model.UUID) {
	if !s.metrics.clients.Known(id) {
		s.instance = id
	}
}

// forgetInstance forgets the client instance that came with the connection.
func (s *session) forgetInstance() {
	if s.instance.IsZero() {
		return
	}
	s.metrics.clients.Lock()
	s.metrics.clients.Forget(s.instance)
	s.metrics.clients.Unlock()
}

// pushTelemetry takes a client's metrics.
func (s *session) pushTelemetry(c *call, q *wire.PushTelemetryRequest) wire.Response {
	r := wire.NewPushTelemetryResponse()
	m := &s.metrics
	id := q.ClientInstanceID
	who := s.identity(c, id)
	m.clients.Lock()
	s.remember(id)
	has, err := m.clients.Push(s.opts.Now(), id, who, telemetry.Push{
		Subscription: q.SubscriptionID, Codec: q.CompressionType, Bytes: len(q.Metrics), Last: q.Terminating,
	})
	m.clients.Unlock()
	if err == nil && len(q.Metrics) > 0 {
		err = s.addMetrics(q, &who, has)
	}
	if err != nil {
		r.ErrorCode = s.telemetryRefused(err, c)
	}
	return r
}

// addMetrics reads a push and adds it to the totals. What it unpacks to is
// bounded as the push itself is, as in Kafka.
func (s *session) addMetrics(q *wire.PushTelemetryRequest, who *telemetry.Identity, has func(string) bool) error {
	m := &s.metrics
	now := s.opts.Now()
	defer func() { m.stats.Reads.Observe(s.opts.Now().Sub(now)) }()
	m.stats.Pushes.Add(1)
	m.stats.Bytes.Add(uint64(len(q.Metrics)))
	data := q.Metrics
	if codec := record.Codec(q.CompressionType); codec != record.None {
		unpacked, err := record.Decompress(codec, data, s.opts.Config.TelemetryMaxBytes)
		if err != nil {
			return errors.Join(telemetry.ErrMalformed, err)
		}
		defer unpacked.Release()
		data = unpacked.Bytes()
	}
	var asked []telemetry.Point
	unasked := uint64(0)
	err := telemetry.ReadMetrics(data, func(p telemetry.Point) {
		if !has(p.Name) {
			unasked++
			return
		}
		asked = append(asked, p)
	})
	if err != nil {
		return err
	}
	m.totals.Lock()
	defer m.totals.Unlock()
	m.totals.Unasked += unasked
	for _, p := range asked {
		m.totals.Add(now, who, p)
	}
	return nil
}

// telemetryRefused counts a refusal and returns its code.
func (s *session) telemetryRefused(err error, c *call) int16 {
	switch {
	case errors.Is(err, telemetry.ErrThrottled):
		s.metrics.stats.Throttled.Add(1)
	case errors.Is(err, telemetry.ErrUnknown):
		s.metrics.stats.UnknownSubscription.Add(1)
	case errors.Is(err, telemetry.ErrMalformed):
		s.metrics.stats.Malformed.Add(1)
	}
	return s.codeOf(err, c)
}

// ClientMetricsStats returns the counters of pushes.
func (a *API) ClientMetricsStats() *ClientMetricsStats { return &a.metrics.stats }

// ClientInstances is how many client instances asked for subscriptions lately.
func (a *API) ClientInstances() int {
	a.metrics.clients.Lock()
	defer a.metrics.clients.Unlock()
	return a.metrics.clients.Len()
}

// ClientMetrics is what clients pushed, all together, and how many points were
// dropped because there was no place for them, or not asked for.
func (a *API) ClientMetrics(now time.Time) (all []telemetry.Total, dropped, unasked uint64) {
	a.metrics.totals.Lock()
	defer a.metrics.totals.Unlock()
	return a.metrics.totals.All(now), a.metrics.totals.Dropped, a.metrics.totals.Unasked
}
