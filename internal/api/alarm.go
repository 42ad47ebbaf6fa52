package api

import (
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/internal/listener"
)

// alarm wakes an answer at its deadline. It is used again for later answers;
// ringing late for an earlier one costs the later one a Poll in vain.
type alarm struct {
	timer *time.Timer
	a     atomic.Pointer[listener.Answer]
}

func (t *alarm) set(d time.Duration, a *listener.Answer) {
	t.a.Store(a)
	if t.timer == nil {
		t.timer = time.AfterFunc(d, func() { t.a.Load().Wake() })
		return
	}
	t.timer.Reset(d)
}

func (t *alarm) stop() { t.timer.Stop() }
