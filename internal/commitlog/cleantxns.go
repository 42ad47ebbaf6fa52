package commitlog

import (
	"cmp"
	"slices"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// cleanTxns follows the transactions of a log while it is read from one end to
// the other: which batches were aborted, and whose marker still has a batch.
// Producers are as many as wrote to the segments being read.
type cleanTxns struct {
	// aborted are those to come, by first offset; they may repeat.
	aborted []AbortedTxn
	// aborting are the aborted ones under way, committing the producers of other
	// transactions.
	aborting   map[model.ProducerID]*abortingTxn
	committing map[model.ProducerID]bool
	// retained are the aborted ones whose marker was read, and had a batch.
	retained []AbortedTxn
}

// abortingTxn is an aborted transaction; seen says that a batch of it was read.
type abortingTxn struct {
	AbortedTxn
	seen bool
}

func newCleanTxns() *cleanTxns {
	return &cleanTxns{aborting: map[model.ProducerID]*abortingTxn{}, committing: map[model.ProducerID]bool{}}
}

// add tells of the aborted transactions of a segment about to be read.
func (t *cleanTxns) add(list []AbortedTxn) {
	t.aborted = append(t.aborted, list...)
	slices.SortStableFunc(t.aborted, func(a, b AbortedTxn) int { return cmp.Compare(a.First, b.First) })
}

// upTo begins the aborted transactions that a batch may belong to.
func (t *cleanTxns) upTo(last model.Offset) {
	for len(t.aborted) > 0 && t.aborted[0].First <= last {
		next := t.aborted[0]
		t.aborted = t.aborted[1:]
		if t.aborting[next.ProducerID] == nil {
			t.aborting[next.ProducerID] = &abortingTxn{AbortedTxn: next}
		}
	}
}

// data takes a batch of records, and says whether it was aborted.
func (t *cleanTxns) data(b record.Batch) bool {
	t.upTo(b.LastOffset())
	if !b.IsTransactional() {
		return false
	}
	id := b.ProducerID()
	if txn := t.aborting[id]; txn != nil {
		txn.seen = true
		return true
	}
	t.committing[id] = true
	return false
}

// control takes a control batch, and says whether nothing is left of what it
// ends. One that a cleaning emptied ends nothing.
func (t *cleanTxns) control(b record.Batch) (spent bool, err error) {
	t.upTo(b.LastOffset())
	if b.Count() == 0 {
		return true, nil
	}
	c, err := b.Control()
	if err != nil {
		return false, err
	}
	id := b.ProducerID()
	switch c.Type {
	case record.Abort:
		txn := t.aborting[id]
		delete(t.aborting, id)
		if txn == nil || !txn.seen {
			return true, nil
		}
		t.retained = append(t.retained, txn.AbortedTxn)
		return false, nil
	case record.Commit:
		had := t.committing[id]
		delete(t.committing, id)
		return !had, nil
	}
	return false, nil
}

// takeRetained returns those that the next transaction index is to name, which
// are those whose marker was read since the last call.
func (t *cleanTxns) takeRetained() []AbortedTxn {
	list := t.retained
	t.retained = nil
	return list
}
