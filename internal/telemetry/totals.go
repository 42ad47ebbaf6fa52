package telemetry

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"
)

// Bounds of what clients may make us remember.
const (
	maxSeries   = 2000 // Some 400 bytes each.
	maxSoftware = 40   // Names with versions; what comes later is "other".
	maxName     = 200
	maxVersion  = 64
	// maxValue is more than any time, size or count: greater ones would spoil a
	// sum for good, and so would what is no number.
	maxValue = 1e18
	// idleSeries is how long a series is kept that nobody pushes.
	idleSeries = time.Hour
	// roomPause is how long nobody looks for idle series after somebody has: a
	// push that finds no place for its thousands of points must not be dear.
	roomPause = time.Minute
	// maxWindow is over how long the greatest value is kept: between one and two
	// of it.
	maxWindow = 5 * time.Minute
)

// Totals are the metrics of all clients together.
type Totals struct {
	series   map[seriesKey]*series
	software map[software]time.Time // When each was last seen.
	looked   time.Time              // For what is idle, to make room.
	// Dropped counts points that found no place, or were no number; Unasked those
	// that nobody had asked for.
	Dropped, Unasked uint64
}

// software is what a client says it runs.
type software struct{ name, version string }

// seriesKey names a series. Values and distributions of one name share it: both
// are a sum and a count, and whoever shows them has one name for them.
type seriesKey struct {
	metric string
	delta  bool
	of     software
}

type series struct {
	seen     time.Time
	sum      float64
	count    uint64
	max      [2]float64 // Of this window and the one before.
	windowOf time.Time  // Zero if there were distributions only.
}

// NewTotals returns empty totals.
func NewTotals() *Totals {
	return &Totals{series: map[seriesKey]*series{}, software: map[software]time.Time{}}
}

// Add adds one point that a client pushed.
func (t *Totals) Add(now time.Time, who *Identity, p Point) {
	if !(math.Abs(p.Value) <= maxValue) || p.Count > maxValue || !cleanName(p.Name) || p.Kind == Delta && p.Value < 0 {
		t.Dropped++
		return
	}
	// Kafka's clients say -1 where they mean never, as of the last poll. It would
	// spoil a mean, and a sum that falls looks like a node that has started anew.
	if p.Value < 0 {
		return
	}
	s := t.find(now, seriesKey{p.Name, p.Kind == Delta, t.softwareOf(now, who)})
	if s == nil {
		t.Dropped++
		return
	}
	s.seen = now
	s.sum += p.Value
	if p.Kind == Distribution {
		s.count += p.Count
		return
	}
	s.count++
	s.peak(now, p.Value)
}

// kind is what the points of a series were: of values and distributions, values
// if there was one.
func (s *series) kind(delta bool) Kind {
	switch {
	case delta:
		return Delta
	case s.windowOf.IsZero():
		return Distribution
	}
	return Value
}

// greatest is the greatest value lately.
func (s *series) greatest(now time.Time) float64 {
	if now.Sub(s.windowOf) >= maxWindow {
		return s.max[0]
	}
	return max(s.max[0], s.max[1])
}

func (s *series) peak(now time.Time, v float64) {
	switch age := now.Sub(s.windowOf); {
	case s.windowOf.IsZero() || age >= 2*maxWindow:
		s.max, s.windowOf = [2]float64{v, v}, now
	case age >= maxWindow:
		s.max, s.windowOf = [2]float64{v, s.max[0]}, now
	default:
		s.max[0] = max(s.max[0], v)
	}
}

// cleanName reports whether a name may become a label.
func cleanName(name string) bool {
	return name != "" && len(name) <= maxName && !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-' || r == '/')
	})
}

// softwareOf is what a client runs, as far as there is a place for it.
func (t *Totals) softwareOf(now time.Time, who *Identity) software {
	s := software{who.Software, who.Version}
	if len(s.name) > maxVersion || len(s.version) > maxVersion {
		s = software{"other", "other"}
	}
	if _, known := t.software[s]; !known && len(t.software) >= maxSoftware {
		t.makeRoom(now)
		if len(t.software) >= maxSoftware {
			return software{"other", "other"}
		}
	}
	if _, known := t.software[s]; !known {
		s = software{strings.Clone(s.name), strings.Clone(s.version)}
	}
	t.software[s] = now
	return s
}

// find returns a series, made when it is new and there is a place for it.
func (t *Totals) find(now time.Time, k seriesKey) *series {
	if s := t.series[k]; s != nil {
		return s
	}
	if len(t.series) >= maxSeries {
		t.makeRoom(now)
	}
	if len(t.series) >= maxSeries {
		return nil
	}
	k.metric = strings.Clone(k.metric)
	s := &series{}
	t.series[k] = s
	return s
}

func (t *Totals) makeRoom(now time.Time) {
	if now.Sub(t.looked) >= roomPause {
		t.looked = now
		t.expire(now)
	}
}

func (t *Totals) expire(now time.Time) {
	for k, s := range t.series {
		if now.Sub(s.seen) > idleSeries {
			delete(t.series, k)
		}
	}
	for s, seen := range t.software {
		if now.Sub(seen) > idleSeries {
			delete(t.software, s)
		}
	}
}

// Total is one series of Totals.
type Total struct {
	Metric, Software, Version string
	Kind                      Kind
	Sum                       float64
	Count                     uint64
	Max                       float64 // Of values only.
}

// All returns all series that somebody pushed lately, in the order of their
// names.
func (t *Totals) All(now time.Time) []Total {
	t.expire(now)
	out := make([]Total, 0, len(t.series))
	for k, s := range t.series {
		out = append(out, Total{k.metric, k.of.name, k.of.version, s.kind(k.delta), s.sum, s.count, s.greatest(now)})
	}
	slices.SortFunc(out, func(a, b Total) int {
		return cmp.Or(
			strings.Compare(a.Metric, b.Metric), strings.Compare(a.Software, b.Software),
			strings.Compare(a.Version, b.Version), cmp.Compare(a.Kind, b.Kind),
		)
	})
	return out
}
