package quota

import (
	"math"
	"time"
)

// Meter counts what clients use of one kind, and says how long they wait.
type Meter struct {
	kind   Kind
	window Window
	start  time.Time
	limits Limits
	rates  accounts[Rate]
}

// NewMeter returns a meter that limits nobody.
func NewMeter(kind Kind, w Window, now time.Time) *Meter {
	return &Meter{kind: kind, window: w, start: now}
}

// millis is a clock that does not go back when the wall clock does.
func millis(start, now time.Time) int64 { return now.Sub(start).Milliseconds() }

// SetLimits replaces the limits. What clients have used stays counted.
func (m *Meter) SetLimits(l Limits) { m.limits = l }

// Charge counts v for a client and returns how long it has to wait now: 0 if
// it may go on or nothing limits it.
func (m *Meter) Charge(now time.Time, user, client string, v float64) time.Duration {
	bound, who, ok := m.limits.find(user, client)
	if !ok {
		return 0
	}
	at := millis(m.start, now)
	r := m.rates.get(who, at)
	r.Record(m.window, v, at)
	return m.wait(r.Wait(m.window, bound, at))
}

// wait bounds the wait for request time and connections by one sample, as Kafka
// does: it cannot be known how long the next request takes, and one slow one
// must not stop a client for minutes.
func (m *Meter) wait(ms int64) time.Duration {
	if m.kind == Request || m.kind == Connection {
		ms = min(ms, m.window.length())
	}
	return time.Duration(ms) * time.Millisecond
}

// Note counts v without looking whether it is too much: the next Charge will.
func (m *Meter) Note(now time.Time, user, client string, v float64) {
	if _, who, ok := m.limits.find(user, client); ok {
		at := millis(m.start, now)
		m.rates.get(who, at).Record(m.window, v, at)
	}
}

// Largest is the most that one request may use without being sure to wait, and
// false if nothing limits the client.
func (m *Meter) Largest(user, client string) (float64, bool) {
	bound, _, ok := m.limits.find(user, client)
	if !ok {
		return math.MaxFloat64, false
	}
	return bound * float64(m.window.Samples-1) * inSeconds(m.window.length()), true
}

// Rate returns what a client uses now; 0 for one that nothing limits.
func (m *Meter) Rate(now time.Time, user, client string) float64 {
	if _, who, ok := m.limits.find(user, client); ok {
		if r := m.rates.find(who); r != nil {
			return r.Measure(m.window, millis(m.start, now))
		}
	}
	return 0
}

// Clients is how many clients are remembered.
func (m *Meter) Clients() int { return m.rates.len() }

// Mutations is the meter of controller mutations, which counts in buckets.
type Mutations struct {
	window  Window
	start   time.Time
	limits  Limits
	buckets accounts[Bucket]
}

// NewMutations returns a meter that limits nobody.
func NewMutations(w Window, now time.Time) *Mutations { return &Mutations{window: w, start: now} }

// SetLimits replaces the limits. What clients have used stays counted.
func (m *Mutations) SetLimits(l Limits) { m.limits = l }

// Charge takes v tokens of a client and returns how long it has to wait. A
// strict charge of an overdrawn bucket takes nothing: what was asked for must
// not be done. Otherwise the work is done and the client waits afterwards.
func (m *Mutations) Charge(now time.Time, user, client string, v float64, strict bool) (wait time.Duration, refused bool) {
	bound, who, ok := m.limits.find(user, client)
	if !ok {
		return 0, false
	}
	at := millis(m.start, now)
	b := m.buckets.get(who, at)
	if strict {
		if ms := b.Wait(m.window, bound, at); ms > 0 || b.tokens < 0 {
			return time.Duration(ms) * time.Millisecond, true
		}
		b.Take(m.window, bound, v, at)
		return 0, false
	}
	b.Take(m.window, bound, v, at)
	return time.Duration(b.Wait(m.window, bound, at)) * time.Millisecond, false
}

// Clients is how many clients are remembered.
func (m *Mutations) Clients() int { return m.buckets.len() }
