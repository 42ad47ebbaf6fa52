package txn

import (
	"slices"
	"strings"
	"time"

	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/wire"
)

// describe tells all about some transactional ids.
func (m *Machine) describe(q *wire.DescribeTransactionsRequest) wire.Response {
	r := wire.NewDescribeTransactionsResponse()
	for _, id := range q.TransactionalIDs {
		x := wire.Extend(&r.TransactionStates)
		x.TransactionalID = id
		switch e := m.ids[id]; {
		case id == "":
			x.ErrorCode = int16(wire.InvalidRequest)
		case e == nil:
			x.ErrorCode = int16(wire.TransactionalIDNotFound)
		default:
			e.describe(x)
		}
	}
	return r
}

func (e *entry) describe(x *wire.DescribeTransactionsResponseTransactionState) {
	x.ProducerID, x.ProducerEpoch, x.TransactionState = int64(e.producer), e.epoch, e.status.String()
	x.TransactionTimeoutMs, x.TransactionStartTimeMs = e.timeout, e.started
	list := e.topics.all()
	if e.status.prepared() {
		list = e.unmarked()
	}
	for _, p := range list {
		if n := len(x.Topics); n == 0 || x.Topics[n-1].Topic != p.Topic {
			wire.Extend(&x.Topics).Topic = p.Topic
		}
		last := &x.Topics[len(x.Topics)-1]
		last.Partitions = append(last.Partitions, p.Index)
	}
}

// list names the transactional ids that pass a filter.
func (m *Machine) list(now time.Time, q *wire.ListTransactionsRequest) wire.Response {
	r := wire.NewListTransactionsResponse()
	f, err := newFilter(now, q)
	if err != nil {
		r.ErrorCode = int16(wire.InvalidRegularExpression)
		return r
	}
	r.UnknownStateFilters = f.unknown
	for _, e := range m.ids {
		if f.passes(e) {
			x := wire.Extend(&r.TransactionStates)
			x.TransactionalID, x.ProducerID, x.TransactionState = e.id, int64(e.producer), e.status.String()
		}
	}
	slices.SortFunc(r.TransactionStates, func(a, b wire.ListTransactionsResponseTransactionState) int {
		return strings.Compare(a.TransactionalID, b.TransactionalID)
	})
	return r
}

// filter says which transactional ids are listed.
type filter struct {
	now       int64
	states    uint16 // A bit for each.
	unknown   []string
	producers []int64
	longer    int64 // Open for longer than so many milliseconds, or negative.
	matches   func(id string) bool
}

func newFilter(now time.Time, q *wire.ListTransactionsRequest) (f filter, err error) {
	f = filter{now: now.UnixMilli(), producers: slices.Clone(q.ProducerIDFilters), longer: q.DurationFilter}
	slices.Sort(f.producers)
	for _, name := range q.StateFilters {
		if s := slices.Index(names[:], name); s >= 0 {
			f.states |= 1 << s
		} else {
			f.unknown = append(f.unknown, name)
		}
	}
	if len(q.StateFilters) == 0 {
		f.states = 1<<len(names) - 1
	}
	f.matches, err = Matcher(q)
	return f, err
}

// Matcher tells which transactional ids have the pattern that is asked for.
func Matcher(q *wire.ListTransactionsRequest) (func(id string) bool, error) {
	p := q.TransactionalIDPattern
	if p == nil || *p == "" {
		return func(string) bool { return true }, nil
	}
	pattern, err := coordinator.CompilePattern(*p)
	if err != nil {
		return nil, err
	}
	return pattern.MatchString, nil
}

func (f *filter) passes(e *entry) bool {
	if f.states&(1<<e.status) == 0 || f.longer >= 0 && f.now-e.started <= f.longer {
		return false
	}
	if len(f.producers) > 0 {
		if _, ok := slices.BinarySearch(f.producers, int64(e.producer)); !ok {
			return false
		}
	}
	return f.matches(e.id)
}
