package listener

import (
	"slices"
	"sync"
	"time"

	"github.com/barnabas-log/barnabas/internal/histogram"
)

// smallFrame is the greatest frame that is charged to the reserve: every
// request that only asks or keeps alive fits, record data seldom does.
const smallFrame = 16 << 10

// Budget bounds the bytes of all frames in flight.
type Budget struct {
	large, small pool
	// Waits is how often and how long a frame had to wait for its turn.
	Waits histogram.Times
}

// NewBudget returns a budget of total bytes; a sixteenth of it, but at least
// room for sixteen small frames, is the reserve for small frames.
func NewBudget(total int64) *Budget {
	reserve := max(total/16, 16*smallFrame)
	b := &Budget{}
	b.large.init(max(total-reserve, 1))
	b.small.init(reserve)
	return b
}

// InUse returns the bytes charged now.
func (b *Budget) InUse() int64 { return b.large.inUse() + b.small.inUse() }

// Total returns what may be charged at most.
func (b *Budget) Total() int64 { return b.large.total + b.small.total }

// claim begins the claim of a frame of n bytes, which has nothing yet.
func (b *Budget) claim(n int) claim {
	if n <= smallFrame {
		return claim{pool: &b.small}
	}
	return claim{pool: &b.large}
}

// acquire charges n bytes more to a claim, after waiting for its turn, or reports
// false when stop is closed first.
func (b *Budget) acquire(c *claim, n int, stop <-chan struct{}) bool {
	began := time.Now()
	defer func() { b.Waits.Observe(time.Since(began)) }()
	return c.acquire(n, stop)
}

// claim is what one frame has of a pool. It grows with what arrives of the frame:
// a size alone is quickly said.
type claim struct {
	pool *pool
	held int
}

// try charges n bytes more if nobody has to wait for it.
func (c *claim) try(n int) bool {
	p := c.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tryLocked(c, n)
}

func (c *claim) acquire(n int, stop <-chan struct{}) bool {
	p := c.pool
	p.mu.Lock()
	if p.tryLocked(c, n) {
		p.mu.Unlock()
		return true
	}
	t := &turn{c, n, make(chan struct{})}
	q := p.queueLocked(c)
	*q = append(*q, t)
	p.mu.Unlock()
	select {
	case <-t.granted:
		return true
	case <-stop:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(*q, t); i >= 0 {
		*q = slices.Delete(*q, i, i+1)
		p.grantLocked()
		return false
	}
	return true // Granted and stopped at once.
}

// release gives back what the claim has.
func (c *claim) release() {
	p := c.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.used -= int64(c.held)
	c.held = 0
	if p.mu.overdrawn == c {
		p.mu.overdrawn = nil
	}
	p.grantLocked()
}

// pool is a semaphore of bytes: first come, first served, but who has begun goes
// before who has not.
type pool struct {
	total int64
	mu    struct {
		sync.Mutex
		used int64
		// growing have something and want more, waiting have nothing yet.
		growing, waiting []*turn
		// overdrawn is the one claim that may have what is not there: if all were
		// held by claims that want more, none would ever be whole.
		overdrawn *claim
	}
}

type turn struct {
	c       *claim
	n       int
	granted chan struct{}
}

func (p *pool) init(total int64) { p.total = total }

func (p *pool) inUse() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.used
}

// queueLocked is where a claim waits.
func (p *pool) queueLocked(c *claim) *[]*turn {
	if c.held > 0 {
		return &p.mu.growing
	}
	return &p.mu.waiting
}

func (p *pool) tryLocked(c *claim, n int) bool {
	isFirst := len(p.mu.growing) == 0 && (c.held > 0 || len(p.mu.waiting) == 0)
	return (isFirst || p.mu.overdrawn == c) && p.takeLocked(c, n)
}

// takeLocked charges n bytes to a claim if they are there, if nobody else has
// any, or if it is the one that may go beyond.
func (p *pool) takeLocked(c *claim, n int) bool {
	if p.mu.used+int64(n) > p.total && p.mu.used > int64(c.held) {
		if c.held == 0 || p.mu.overdrawn != nil && p.mu.overdrawn != c {
			return false
		}
		p.mu.overdrawn = c
	}
	c.held += n
	p.mu.used += int64(n)
	return true
}

func (p *pool) grantLocked() {
	for _, q := range [...]*[]*turn{&p.mu.growing, &p.mu.waiting} {
		for len(*q) > 0 {
			t := (*q)[0]
			if !p.takeLocked(t.c, t.n) {
				return
			}
			*q = slices.Delete(*q, 0, 1)
			close(t.granted)
		}
	}
}
