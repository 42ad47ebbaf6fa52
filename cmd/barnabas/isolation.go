package main

import (
	"cmp"
	"errors"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// isolation says which records of transactions are read, as Fetch and
// ListOffsets have it.
type isolation int8

const (
	readUncommitted isolation = iota // all there are
	readCommitted                    // those of committed transactions, up to the oldest that is open
)

var isolations = []string{readUncommitted: "read_uncommitted", readCommitted: "read_committed"}

func (l *isolation) String() string { return isolations[*l] }

// Type is what --help calls the value.
func (*isolation) Type() string { return "level" }

// Set makes an isolation a flag.
func (l *isolation) Set(s string) error {
	at := slices.Index(isolations, s)
	if at < 0 {
		return errors.New("want read_committed or read_uncommitted")
	}
	*l = isolation(at)
	return nil
}

// add makes the flag, which also answers to the name that Kafka's console
// consumer has for it.
func (l *isolation) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.Var(l, "isolation", "read_committed: no records of transactions that were aborted, or are open; read_uncommitted: all")
	flags.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "isolation-level" {
			name = "isolation"
		}
		return pflag.NormalizedName(name)
	})
	complete(cmd, "isolation", words(isolations...))
}

// aborts tells which batches of one answer to a fetch of committed records are
// of aborted transactions (KIP-98). The answer lists their producers, and where
// each transaction begins; its marker ends it.
type aborts struct {
	ahead []wire.FetchResponseAbortedTransaction // by offset, those that begin behind what was seen
	open  map[model.ProducerID]bool
}

func newAborts(list []wire.FetchResponseAbortedTransaction) *aborts {
	byOffset := func(a, b wire.FetchResponseAbortedTransaction) int { return cmp.Compare(a.FirstOffset, b.FirstOffset) }
	return &aborts{slices.SortedFunc(slices.Values(list), byOffset), map[model.ProducerID]bool{}}
}

// hides reports whether a batch is of an aborted transaction. It is to be asked for every
// batch of the answer, in order.
func (a *aborts) hides(b record.Batch) (bool, error) {
	for len(a.ahead) > 0 && a.ahead[0].FirstOffset <= int64(b.LastOffset()) {
		a.open[model.ProducerID(a.ahead[0].ProducerID)] = true
		a.ahead = a.ahead[1:]
	}
	switch id := b.ProducerID(); {
	case !b.IsTransactional() || !a.open[id]:
		return false, nil
	case !b.IsControl():
		return true, nil
	case b.Count() == 0: // A marker that compaction took, after all records of its transaction.
		return false, nil
	default:
		c, err := b.Control()
		if c.Type == record.Abort {
			delete(a.open, id)
		}
		return false, err
	}
}
