package api

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/wire"
)

// Stats counts what the API has done.
type Stats struct {
	// Malformed counts requests that closed their connection.
	Malformed atomic.Uint64
	// ProducedBytes and ProducedRecords count what was appended; FetchedBytes
	// counts record bytes handed to readers.
	ProducedBytes, ProducedRecords, FetchedBytes atomic.Uint64
	// ProduceErrors and FetchErrors count partitions answered with an error.
	ProduceErrors, FetchErrors atomic.Uint64

	requests [128]atomic.Uint64
	nanos    [128]atomic.Uint64
}

func (s *Stats) count(k wire.Key) { s.requests[k&127].Add(1) }

func (s *Stats) observe(k wire.Key, d time.Duration) { s.nanos[k&127].Add(uint64(max(d, 0))) }

// Requests calls each for every API that was asked: how often, and how long
// its answers took together.
func (s *Stats) Requests(each func(k wire.Key, count uint64, total time.Duration)) {
	for i := range s.requests {
		if n := s.requests[i].Load(); n > 0 {
			each(wire.Key(i), n, time.Duration(s.nanos[i].Load()))
		}
	}
}

// logLimit lets through what strangers can provoke, a few lines in a while.
type logLimit struct {
	now func() time.Time
	mu  sync.Mutex
	// left lines until the window ends.
	left  int
	until time.Time
}

const (
	logWindow   = 10 * time.Second
	logInWindow = 10
)

func newLogLimit(now func() time.Time) *logLimit { return &logLimit{now: now} }

func (l *logLimit) allow() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.now(); now.After(l.until) {
		l.until, l.left = now.Add(logWindow), logInWindow
	}
	l.left--
	return l.left >= 0
}
