package txn

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// read returns what read_committed sees of a topic in which nothing is open.
func (w *world) read(topic string) (all [partitions][]*kgo.Record) {
	w.t.Helper()
	c := w.client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), kgo.FetchMaxWait(100*time.Millisecond))
	defer c.Close()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	ends, err := kadm.NewClient(c).ListCommittedOffsets(ctx, topic)
	if err != nil || ends.Error() != nil {
		w.t.Fatal(err, ends.Error())
	}
	for at := [partitions]int64{}; ; {
		left := 0
		for p := range at {
			if end, _ := ends.Lookup(topic, int32(p)); at[p] < end.Offset {
				left++
			}
		}
		if left == 0 {
			return all
		}
		fetches := c.PollFetches(ctx)
		if ctx.Err() != nil {
			w.t.Fatalf("%s: read up to %v of %v", topic, at, ends)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			at[r.Partition] = r.Offset + 1
			if !r.Attrs.IsControl() {
				all[r.Partition] = append(all[r.Partition], r)
			}
		})
	}
}

// check reads the source: each transaction is there in all partitions or in
// none, once, in order, as its writer was told. It returns the values.
func (w *world) check(topic string) (values [partitions][]string) {
	w.t.Helper()
	w.awaitStable(topic)
	seen := [partitions]map[txnID]int{}
	for p, records := range w.read(topic) {
		seen[p] = map[txnID]int{}
		last := map[int]txnID{}
		for _, r := range records {
			id, i := parse(w, r)
			if i != seen[p][id] || id.number < last[id.writer].number {
				w.t.Errorf("%s %d: %q at %d comes %d th, after %v", topic, p, r.Value, r.Offset, seen[p][id], last[id.writer])
			}
			last[id.writer] = id
			seen[p][id]++
			values[p] = append(values[p], string(r.Value))
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, s := range w.status {
		n := seen[0][id]
		for p := range seen {
			if seen[p][id] != n {
				w.t.Errorf("%s: transaction %v is torn: %d records in partition 0, %d in %d", topic, id, n, seen[p][id], p)
			}
		}
		if s == committed && n == 0 || s == aborted && n != 0 {
			w.t.Errorf("%s: transaction %v has %d records, its writer knows %d of its end", topic, id, n, s)
		}
	}
	return values
}

func parse(w *world, r *kgo.Record) (id txnID, i int) {
	if _, err := fmt.Sscanf(string(r.Value), "%d %d %d", &id.writer, &id.number, &i); err != nil {
		w.t.Fatalf("%s %d: offset %d is %q: %v", r.Topic, r.Partition, r.Offset, r.Value, err)
	}
	return id, i
}

// copiesAll waits until the group has committed that it has read all there is.
func (w *world) copiesAll() {
	w.t.Helper()
	last := w.read(source)
	w.admin(func(ctx context.Context, a *kadm.Client) error {
		for {
			offsets, err := a.FetchOffsets(ctx, group)
			if err != nil {
				return err
			}
			left := int64(0)
			for p, records := range last {
				if o, _ := offsets.Lookup(source, int32(p)); len(records) > 0 {
					left += max(0, records[len(records)-1].Offset+1-o.At)
				}
			}
			if left == 0 {
				return nil
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("%d offsets are not copied: %v", left, offsets)
			}
		}
	})
}

// checkCopy compares source and copy, and looks for torn transactions of
// copiers.
func (w *world) checkCopy(want [partitions][]string) {
	w.t.Helper()
	w.awaitStable(copied)
	parts := map[string]int{}
	epochs := map[string]map[int16]bool{} // By a copier's life.
	for p, records := range w.read(copied) {
		var got []string
		for _, r := range records {
			got = append(got, string(r.Value))
			parts[string(r.Key)]++
			life := string(r.Key[:strings.LastIndexByte(string(r.Key), '.')])
			if epochs[life] == nil {
				epochs[life] = map[int16]bool{}
			}
			epochs[life][r.ProducerEpoch] = true
		}
		w.compare(p, got, want[p])
	}
	for tag, n := range parts {
		if n != w.sizes[tag] {
			w.t.Errorf("transaction %s is torn: %d of %d records", tag, n, w.sizes[tag])
		}
	}
	w.checkVersions(epochs)
}

func (w *world) compare(p int, got, want []string) {
	w.t.Helper()
	if slices.Equal(got, want) {
		return
	}
	w.t.Errorf("partition %d: %d records are copied, want %d", p, len(got), len(want))
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			w.t.Errorf("partition %d: record %d: %q, want %q", p, i, at(got, i), at(want, i))
			return
		}
	}
}

func at(list []string, i int) string {
	if i < len(list) {
		return list[i]
	}
	return "nothing"
}

// checkVersions makes sure that both versions of transactions were at work:
// the second changes the epoch with each.
func (w *world) checkVersions(epochs map[string]map[int16]bool) {
	w.t.Helper()
	one, two := 0, 0
	for _, of := range epochs {
		if len(of) > 2 {
			two++
		} else {
			one++
		}
	}
	if w.t.Logf("%d lives with few epochs, %d with many", one, two); one == 0 || two == 0 {
		w.t.Error("only one version of transactions was at work")
	}
}

// checkQuiet makes sure that nothing is open any more: the stable end is the
// end, in the coordinators' own log, too.
func (w *world) checkQuiet() {
	w.t.Helper()
	w.awaitStable(source)
	w.awaitStable("__consumer_offsets")
	w.admin(func(ctx context.Context, a *kadm.Client) error {
		open, err := a.ListTransactions(ctx, nil, []string{"Ongoing", "PrepareCommit", "PrepareAbort"})
		for _, t := range open {
			w.t.Errorf("transaction %s is %s in the end", t.TxnID, t.State)
		}
		return err
	})
}

// awaitStable waits until a topic's stable ends are its ends: what nobody ends
// times out.
func (w *world) awaitStable(topic string) {
	w.t.Helper()
	w.admin(func(ctx context.Context, a *kadm.Client) error {
		for {
			ends, err := a.ListEndOffsets(ctx, topic)
			if err != nil {
				return err
			}
			stable, err := a.ListCommittedOffsets(ctx, topic)
			if err != nil {
				return err
			}
			open := false
			ends.Each(func(o kadm.ListedOffset) {
				s, _ := stable.Lookup(topic, o.Partition)
				open = open || o.Err != nil || s.Err != nil || s.Offset < o.Offset
			})
			if !open {
				return nil
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("%s has open transactions: ends %v, stable %v", topic, ends, stable)
			}
		}
	})
}
