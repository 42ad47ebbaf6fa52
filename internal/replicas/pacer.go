package replicas

import (
	"context"
	"math"
	"sync"
	"time"
)

// maxBurst is how far ahead of its rate the cleaner may be: less costs a timer
// for every read, more would be noticed.
const maxBurst = 50 * time.Millisecond

// pacer holds the workers of the cleaner together to a number of bytes per
// second.
type pacer struct {
	mu struct {
		sync.Mutex
		rate float64
		// free is when all bytes so far would have been due.
		free time.Time
	}
}

func (p *pacer) setRate(bytesPerSecond float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.rate = bytesPerSecond
}

// pace waits as long as the rate wants it after so many bytes. A rate that is
// not above zero waits until ctx ends.
func (p *pacer) pace(ctx context.Context, bytes int) error {
	p.mu.Lock()
	rate := p.mu.rate
	if math.IsInf(rate, 1) {
		p.mu.Unlock()
		return ctx.Err()
	}
	now := time.Now()
	if p.mu.free.Before(now) {
		p.mu.free = now
	}
	if rate > 0 {
		p.mu.free = p.mu.free.Add(time.Duration(float64(bytes) / rate * float64(time.Second)))
	}
	wait := p.mu.free.Sub(now)
	p.mu.Unlock()
	if rate <= 0 {
		<-ctx.Done()
	} else if wait > maxBurst {
		pause(ctx, wait)
	}
	return ctx.Err()
}
