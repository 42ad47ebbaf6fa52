package quota

import "math"

// Bucket is Kafka's token bucket (KIP-599): it fills at the rate of the quota,
// up to what the window's samples hold, and may be overdrawn by one request.
// Unlike a [Rate] it forgives a burst as time passes and not when its sample
// ends. The zero Bucket is full.
type Bucket struct {
	tokens float64
	last   int64
	used   bool
}

// Tokens returns what is left; it is negative when overdrawn.
func (b *Bucket) Tokens(w Window, bound float64, now int64) float64 {
	burst := float64(w.Samples) * inSeconds(w.length()) * bound
	if !b.used {
		b.tokens, b.used = burst, true
	} else {
		b.tokens = math.Min(burst, b.tokens+bound*inSeconds(now-b.last))
	}
	b.last = now
	return b.tokens
}

// inSeconds comes first in every product, as in Kafka: rounded otherwise, waits
// would differ by a millisecond.
func inSeconds(ms int64) float64 { return float64(ms) / 1000 }

// Take takes v tokens, which may overdraw the bucket.
func (b *Bucket) Take(w Window, bound, v float64, now int64) {
	b.tokens = b.Tokens(w, bound, now) - v
}

// Wait returns how many milliseconds fill the bucket to zero.
func (b *Bucket) Wait(w Window, bound float64, now int64) int64 {
	if t := b.Tokens(w, bound, now); t < 0 {
		return round(-t / bound * 1000)
	}
	return 0
}
