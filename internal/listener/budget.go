package listener

import (
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

func (b *Budget) of(n int) *pool {
	if n <= smallFrame {
		return &b.small
	}
	return &b.large
}

// try charges n bytes if nobody has to wait for it.
func (b *Budget) try(n int) bool { return b.of(n).try(int64(n)) }

// acquire charges n bytes, after waiting for its turn, or reports false when
// stop is closed first. A frame larger than the whole budget waits until it is
// alone and then passes, or it could never be read.
func (b *Budget) acquire(n int, stop <-chan struct{}) bool {
	began := time.Now()
	defer func() { b.Waits.Observe(time.Since(began)) }()
	return b.of(n).acquire(int64(n), stop)
}

func (b *Budget) release(n int) { b.of(n).release(int64(n)) }

// pool is a first-come, first-served semaphore of bytes.
type pool struct {
	total int64
	mu    struct {
		sync.Mutex
		used    int64
		waiting []*turn
	}
}

type turn struct {
	n       int64
	granted chan struct{}
}

func (p *pool) init(total int64) { p.total = total }

func (p *pool) inUse() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.used
}

func (p *pool) fitsLocked(n int64) bool { return p.mu.used == 0 || p.mu.used+n <= p.total }

func (p *pool) try(n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tryLocked(n)
}

func (p *pool) tryLocked(n int64) bool {
	if len(p.mu.waiting) > 0 || !p.fitsLocked(n) {
		return false
	}
	p.mu.used += n
	return true
}

func (p *pool) acquire(n int64, stop <-chan struct{}) bool {
	p.mu.Lock()
	if p.tryLocked(n) {
		p.mu.Unlock()
		return true
	}
	t := &turn{n, make(chan struct{})}
	p.mu.waiting = append(p.mu.waiting, t)
	p.mu.Unlock()
	select {
	case <-t.granted:
		return true
	case <-stop:
	}
	p.mu.Lock()
	for i, w := range p.mu.waiting {
		if w == t {
			p.mu.waiting = append(p.mu.waiting[:i], p.mu.waiting[i+1:]...)
			p.grantLocked()
			p.mu.Unlock()
			return false
		}
	}
	p.mu.Unlock() // Granted and stopped at once: give it back.
	p.release(n)
	return false
}

func (p *pool) release(n int64) {
	p.mu.Lock()
	p.mu.used -= n
	p.grantLocked()
	p.mu.Unlock()
}

func (p *pool) grantLocked() {
	for len(p.mu.waiting) > 0 && p.fitsLocked(p.mu.waiting[0].n) {
		t := p.mu.waiting[0]
		p.mu.waiting = p.mu.waiting[1:]
		p.mu.used += t.n
		close(t.granted)
	}
}
