package api

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/internal/histogram"
	"github.com/barnabas-log/barnabas/wire"
)

// Stats counts what the API has done.
type Stats struct {
	// Malformed counts requests that closed their connection.
	Malformed atomic.Uint64
	// ProducedBytes, ProducedRecords and ProducedBatches count what was appended;
	// FetchedBytes counts record bytes handed to readers.
	ProducedBytes, ProducedRecords, ProducedBatches, FetchedBytes atomic.Uint64
	// ProduceErrors and FetchErrors count partitions answered with an error.
	ProduceErrors, FetchErrors atomic.Uint64

	// apis and errors are by the number of the API; those that Kafka has none of
	// share the last one, which nobody is shown.
	apis [tallies]apiStats
	// errors counts what was answered by API and code.
	errors [tallies][maxCode]atomic.Uint64
}

// tallies is more than Kafka has APIs.
const tallies = 128

// tallyOf is where an API is counted.
func tallyOf(k wire.Key) int {
	if k < 0 || k >= tallies {
		return tallies - 1
	}
	return int(k)
}

// maxCode is one more than the greatest error code that is counted, which
// leaves Kafka some to add.
const maxCode = 160

// apiStats counts one API. Most answers are given while the request is
// handled; of the others, the wait is known apart from the work.
type apiStats struct {
	received, requestBytes, answerBytes atomic.Uint64
	unanswered                          atomic.Uint64   // acks=0, and those whose connection ended first.
	direct                              histogram.Times // Whole time of those answered at once.
	whole, worked, waited               histogram.Times // Of those that waited.
}

// received counts a request of so many bytes.
func (s *Stats) received(k wire.Key, bytes int) {
	a := &s.apis[tallyOf(k)]
	a.received.Add(1)
	a.requestBytes.Add(uint64(bytes))
}

// answered counts an answer of so many bytes.
func (s *Stats) answered(c *call, now time.Time, bytes int) {
	a := &s.apis[tallyOf(c.Key)]
	a.answerBytes.Add(uint64(bytes))
	whole := now.Sub(c.began)
	if !c.parked {
		a.direct.Observe(whole)
		return
	}
	a.whole.Observe(whole)
	a.worked.Observe(c.worked)
	a.waited.Observe(whole - c.worked)
}

// unanswered counts a request that gets no answer.
func (s *Stats) unanswered(k wire.Key) { s.apis[tallyOf(k)].unanswered.Add(1) }

func (s *Stats) failed(k wire.Key, e wire.ErrorCode) {
	if e != wire.None {
		s.errors[tallyOf(k)][max(0, min(int(e), maxCode-1))].Add(1) // -1, UNKNOWN_SERVER_ERROR, has place 0.
	}
}

// APIStats is what has become of the requests of one API.
type APIStats struct {
	Received                  uint64
	RequestBytes, AnswerBytes uint64
	Parked                    int64 // Received and not answered yet.
	// Whole is from reading the request to its answer, Worked is of that without
	// waiting for a sync, a timeout or other requests, and Waited is the rest, of
	// those that had to.
	Whole, Worked, Waited histogram.Counts
}

// APIs calls each for every API that was asked.
func (s *Stats) APIs(each func(k wire.Key, a *APIStats)) {
	for i := range s.apis[:tallies-1] {
		a := &s.apis[i]
		if a.received.Load() == 0 {
			continue
		}
		out := APIStats{AnswerBytes: a.answerBytes.Load()}
		direct := a.direct.Counts()
		out.Whole, out.Worked, out.Waited = a.whole.Counts(), a.worked.Counts(), a.waited.Counts()
		out.Whole.Add(direct)
		out.Worked.Add(direct)
		ended := out.Whole.Total() + a.unanswered.Load()
		out.Received, out.RequestBytes = a.received.Load(), a.requestBytes.Load()
		out.Parked = max(0, int64(out.Received)-int64(ended))
		each(wire.Key(i), &out)
	}
}

// Errors calls each for every API and code that was answered; and, of the APIs
// that we serve, for those codes of which a single one matters, before there is
// one: a counter that appears with its first event cannot be seen to rise.
func (s *Stats) Errors(each func(k wire.Key, e wire.ErrorCode, n uint64)) {
	var served [len(s.errors)]bool
	for _, op := range operations() {
		served[op.key] = true
	}
	for i := range s.errors[:tallies-1] {
		for code := range s.errors[i] {
			e := wire.ErrorCode(code)
			if code == 0 {
				e = wire.UnknownServerError
			}
			if n := s.errors[i][code].Load(); n > 0 || served[i] && grave(e) {
				each(wire.Key(i), e, n)
			}
		}
	}
}

// grave reports errors of which a single one is worth an alert.
func grave(e wire.ErrorCode) bool { return e == wire.UnknownServerError || e == wire.KafkaStorageError }

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
