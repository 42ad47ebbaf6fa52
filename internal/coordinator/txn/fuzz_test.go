package txn

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// Whatever is in the log, Apply refuses it or keeps all of it: what the machine
// writes about it says the same, and is small enough.
func FuzzApply(f *testing.F) {
	log, err := os.ReadFile(filepath.Join("testdata", "kafka-4.4.0.log"))
	if err != nil {
		f.Fatal(err)
	}
	for i := 0; len(log) > 0; i++ {
		b, rest, err := record.Next(log)
		if err != nil {
			f.Fatal(err)
		}
		for r := range b.Records(0) {
			if i%8 == 0 {
				f.Add(slices.Clone(r.Key), slices.Clone(r.Value))
			}
		}
		log = rest
	}
	f.Add([]byte{0, 0, 0, 1, 'a'}, []byte(nil))
	f.Add([]byte{0, 1, 0, 1, 'a'}, []byte{0, 9})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		m := New(Options{Settings: settings(), TransactionVersion: 2})
		if m.Apply(coordinator.Origin{}, key, value) != nil || len(m.ids) == 0 {
			if len(m.ids) != 0 || m.bytes != 0 {
				t.Fatal("refused, and kept")
			}
			return
		}
		if m.bytes > 64*(len(key)+len(value))+entryBytes+usualBytes {
			t.Fatalf("%d bytes of state from %d", m.bytes, len(key)+len(value))
		}
		again := New(Options{Settings: settings(), TransactionVersion: 2})
		for id, e := range m.ids {
			m.write(id, &e.transaction)
			r := m.records[0]
			if err := again.Apply(coordinator.Origin{}, r.Key, r.Value); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(hard(m), hard(again)); diff != "" {
			t.Fatal(diff)
		}
		m.Loaded(time.UnixMilli(1 << 40))
		m.Handle(time.UnixMilli(1<<40), 0, nil)
	})
}

// Requests of all kinds and versions, in any order, with anything in them: each
// is answered with what its API answers, the answer can be sent, and the log
// says what the machine knows.
func FuzzRequests(f *testing.F) {
	seed := func(requests ...wire.Request) {
		var b []byte
		for _, q := range requests {
			version := int16(5)
			switch q.(type) {
			case *wire.ListTransactionsRequest:
				version = 2
			case *wire.DescribeTransactionsRequest:
				version = 0
			case *wire.AddOffsetsToTxnRequest:
				version = 4
			}
			body, err := q.AppendTo(nil, version)
			if err != nil {
				f.Fatal(err)
			}
			b = append(b, byte(slices.Index(fuzzed, q.Key())), byte(version))
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(body))), body...)
		}
		f.Add(b)
	}
	id, pattern := "a", "a.*"
	init := &wire.InitProducerIDRequest{TransactionalID: &id, TransactionTimeoutMs: 100, ProducerID: -1, ProducerEpoch: -1}
	add := wire.NewAddPartitionsToTxnRequest()
	x := wire.Extend(&add.Transactions)
	x.TransactionalID, x.ProducerID, x.Topics = "a", 1000, wanted([]topicArg{{"t", []int32{3, 1, 3}}, {"t", []int32{2}}})
	offsets := &wire.AddOffsetsToTxnRequest{TransactionalID: "a", ProducerID: 1000, GroupID: "g"}
	end := &wire.EndTxnRequest{TransactionalID: "a", ProducerID: 1000, Committed: true}
	list := wire.NewListTransactionsRequest()
	list.TransactionalIDPattern = &pattern
	describe := &wire.DescribeTransactionsRequest{TransactionalIDs: []string{"a", ""}}
	seed(init, add, end, end, list, describe)
	seed(init, offsets, list, init, describe, init)
	f.Fuzz(func(t *testing.T, in []byte) {
		p := &machinePeer{t: t, now: time.UnixMilli(1_700_000_000_000), nextID: 1000}
		p.opts = Options{Settings: settings(), TransactionVersion: int16(len(in) % 3), MaxBatch: 4096, Memory: coordinator.NewMemory(4096).Share()}
		p.load(nil)
		for len(in) >= 4 {
			key, version := fuzzed[int(in[0])%len(fuzzed)], int16(in[1]%7)
			n := min(int(binary.BigEndian.Uint16(in[2:])), len(in)-4)
			body := slices.Clone(in[4 : 4+n])
			in = in[4+n:]
			q := newRequest(key)
			if q.ReadFrom(wire.NewReader(body), version) != nil {
				continue
			}
			r := p.ask(q, version, model.Partition{Topic: "__consumer_offsets", Index: 7})
			if r.Key() != key {
				t.Fatalf("%v answered with %v", key, r.Key())
			}
			if _, err := r.AppendTo(nil, version); err != nil {
				t.Fatalf("%v version %d: %v", key, version, err)
			}
			if p.sleep(time.Duration(n) * 10 * time.Millisecond); p.m.bytes > 4096 {
				t.Fatalf("%d bytes", p.m.bytes)
			}
		}
		for _, r := range p.log {
			if len(r.Key)+len(r.Value) > 4096-record.HeaderSize {
				t.Fatalf("a record of %d bytes", len(r.Key)+len(r.Value))
			}
		}
		if diff := cmp.Diff(hard(p.m), hard(replayed(t, p.opts, p.log))); diff != "" {
			t.Fatal(diff)
		}
	})
}

var fuzzed = []wire.Key{
	wire.InitProducerIDKey, wire.AddPartitionsToTxnKey, wire.AddOffsetsToTxnKey, wire.EndTxnKey, wire.ListTransactionsKey, wire.DescribeTransactionsKey,
}

func newRequest(k wire.Key) wire.Request {
	switch k {
	case wire.InitProducerIDKey:
		return wire.NewInitProducerIDRequest()
	case wire.AddPartitionsToTxnKey:
		return wire.NewAddPartitionsToTxnRequest()
	case wire.AddOffsetsToTxnKey:
		return wire.NewAddOffsetsToTxnRequest()
	case wire.EndTxnKey:
		return wire.NewEndTxnRequest()
	case wire.ListTransactionsKey:
		return wire.NewListTransactionsRequest()
	}
	return wire.NewDescribeTransactionsRequest()
}
