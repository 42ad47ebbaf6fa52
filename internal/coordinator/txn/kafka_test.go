package txn

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

var rewriteState = flag.Bool("rewrite-state", false, "rewrite testdata/kafka-4.4.0.state")

// testdata/kafka-4.4.0.log is what Kafka 4.4.0 wrote to the partitions of
// __transaction_state, one after the other, while it played scripts of
// testdata/kafka. It loads, and of each record the machine would write the same
// bytes.
func TestLoadKafka(t *testing.T) {
	log, err := os.ReadFile("testdata/kafka-4.4.0.log")
	if err != nil {
		t.Fatal(err)
	}
	m := New(Options{Settings: settings(), TransactionVersion: 2})
	n := 0
	for len(log) > 0 {
		b, rest, err := record.Next(log)
		if err != nil {
			t.Fatal(err)
		}
		log = rest
		for r, err := range b.Records(0) {
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Apply(coordinator.Origin{Timestamp: r.Timestamp}, r.Key, r.Value); err != nil {
				t.Fatal(err)
			}
			n++
			sameBytes(t, m, r)
		}
	}
	if n < 70 {
		t.Errorf("only %d records", n)
	}
	var state strings.Builder
	for _, id := range slices.Sorted(maps.Keys(m.ids)) {
		fmt.Fprintf(&state, "%s %+v\n", id, m.ids[id].transaction)
	}
	const golden = "testdata/kafka-4.4.0.state"
	if *rewriteState {
		if err := os.WriteFile(golden, []byte(state.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if diff := cmp.Diff(string(want), state.String()); err != nil || diff != "" {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
}

// sameBytes compares a record of Kafka's with what the machine makes of the
// state that it has led to. Kafka has no order of topics.
func sameBytes(t *testing.T, m *Machine, r record.Record) {
	t.Helper()
	id, v := decode(t, r.Key, r.Value)
	m.Handle(m.abortAt, 0, News{m.opts.Settings, m.version}) // Clears what was written.
	if v.TransactionLogRecordValue == nil {
		m.remove(id)
	} else {
		m.write(id, &m.ids[id].transaction)
	}
	if !bytes.Equal(m.records[0].Key, r.Key) {
		t.Errorf("key %x, Kafka's %x", m.records[0].Key, r.Key)
	}
	if v.TransactionLogRecordValue != nil && !inOrder(v.TransactionPartitions) {
		return
	}
	if !bytes.Equal(m.records[0].Value, r.Value) {
		t.Errorf("%s: value\n%x, Kafka's\n%x", id, m.records[0].Value, r.Value)
	}
}

func inOrder(list []wire.TransactionLogRecordValuePartitionsSchema) bool {
	return slices.IsSortedFunc(list, func(a, b wire.TransactionLogRecordValuePartitionsSchema) int {
		return strings.Compare(a.Topic, b.Topic)
	}) &&
		!slices.ContainsFunc(list, func(x wire.TransactionLogRecordValuePartitionsSchema) bool { return !slices.IsSorted(x.PartitionIDs) })
}
