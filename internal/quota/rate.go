package quota

import (
	"math"
	"time"
)

// Window says how use is measured: in so many samples of a length (Kafka's
// quota.window.num and quota.window.size.seconds).
type Window struct {
	Samples int
	Length  time.Duration
}

// length is that of a sample in milliseconds, never 0.
func (w Window) length() int64 { return max(w.Length.Milliseconds(), 1) }

// span is how many milliseconds a sample counts after it was last added to.
func (w Window) span() int64 { return int64(w.Samples) * w.length() }

// Rate is what is used per second, as Kafka's Rate over a WindowedSum measures
// it. Times are milliseconds of any clock that does not go back. The zero Rate
// has seen nothing.
type Rate struct {
	samples []sample // At most one more than the window has: the oldest may overlap its edge.
	current int
}

type sample struct {
	start, last int64
	sum         float64
}

// Record adds what was used. A negative value takes back.
func (r *Rate) Record(w Window, v float64, now int64) {
	s := r.at(now)
	if now-s.start >= w.length() {
		s = r.advance(w, now)
	}
	s.sum += v
	s.last = now
}

// at is the sample that is being filled.
func (r *Rate) at(now int64) *sample {
	if len(r.samples) == 0 {
		r.samples = append(r.samples, sample{start: now, last: now})
	}
	return &r.samples[r.current]
}

// advance begins the next sample, in the place of the oldest when there are
// enough.
func (r *Rate) advance(w Window, now int64) *sample {
	r.current = (r.current + 1) % (w.Samples + 1)
	if r.current == len(r.samples) {
		r.samples = append(r.samples, sample{})
	}
	r.samples[r.current] = sample{start: now, last: now}
	return &r.samples[r.current]
}

// Measure returns the use per second.
func (r *Rate) Measure(w Window, now int64) float64 {
	elapsed := r.elapsed(w, now)
	sum := 0.0
	for i := range r.samples {
		sum += r.samples[i].sum
	}
	return sum / inSeconds(elapsed)
}

// elapsed is over how many milliseconds the samples are spread. A young rate
// counts as if it had been idle for all samples but one, or its first request
// would look like a flood.
func (r *Rate) elapsed(w Window, now int64) int64 {
	r.at(now)
	oldest := int64(math.MaxInt64)
	for i := range r.samples {
		s := &r.samples[i]
		if now-s.last >= w.span() {
			*s = sample{start: now, last: now}
		}
		oldest = min(oldest, s.start)
	}
	total := now - oldest
	if missing := int64(w.Samples-1) - total/w.length(); missing > 0 {
		total += missing * w.length()
	}
	return max(total, 1)
}

// Wait returns how many milliseconds without use bring the rate down to bound:
// 0 if it is not above.
func (r *Rate) Wait(w Window, bound float64, now int64) int64 {
	rate := r.Measure(w, now)
	if rate <= bound {
		return 0
	}
	return round((rate - bound) / bound * float64(r.elapsed(w, now)))
}

// round is Java's Math.round, and bounded by what a throttle time can say.
func round(ms float64) int64 {
	return int64(math.Min(math.Floor(ms+0.5), math.MaxInt32))
}
