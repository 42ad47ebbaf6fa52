package record_test

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// javaBatches reads testdata/java-4.4.0.txt: batches that kafka-clients 4.4.0
// built, "name<tab>hex".
func javaBatches(t testing.TB) map[string]record.Batch {
	t.Helper()
	batches := make(map[string]record.Batch)
	for line := range lines(t, "testdata/java-4.4.0.txt") {
		name, text, _ := strings.Cut(line, "\t")
		b, rest, err := record.Next(unhex(t, text))
		if err != nil || len(rest) > 0 {
			t.Fatalf("%s: %v, %d bytes left", name, err, len(rest))
		}
		batches[name] = b
	}
	return batches
}

func lines(t testing.TB, name string) func(func(string) bool) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return func(yield func(string) bool) {
		for s := bufio.NewScanner(f); s.Scan(); {
			if !yield(s.Text()) {
				return
			}
		}
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// javaRecords are what the Java program put into each of its data batches.
func javaRecords() []record.Record {
	return []record.Record{
		{
			Offset: 0, Timestamp: 1700000000000, Key: []byte("key"), Value: []byte("value"),
			Headers: []record.Header{{Key: "h", Value: []byte("1")}, {Key: "h"}, {Value: []byte{}}},
		},
		{Offset: 1, Timestamp: 1700000000007, Value: []byte("v")},
		{Offset: 2, Timestamp: 1699999999990, Key: []byte("k")},
		{Offset: 3, Timestamp: 1700000090000, Key: []byte{}, Value: []byte{}},
		{Offset: 4, Timestamp: 1700000000000, Value: []byte(strings.Repeat("x", 300))},
	}
}

func collect(t testing.TB, b record.Batch) []record.Record {
	t.Helper()
	var out []record.Record
	for r, err := range b.Records(0) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func at(rs []record.Record, offsets ...model.Offset) []record.Record {
	for i := range rs {
		if len(offsets) == 1 {
			rs[i].Offset += offsets[0]
		} else {
			rs[i].Offset = offsets[i]
		}
	}
	return rs
}

// Every Java batch reads back as what went in, and passes Check.
func TestReadJava(t *testing.T) {
	batches := javaBatches(t)
	f := func(name string, want []record.Record) {
		t.Helper()
		b := batches[name]
		if diff := cmp.Diff(want, collect(t, b)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
		if b.BaseOffset() == 0 {
			info, err := record.Check(append(record.Batch(nil), b...), record.CheckOptions{})
			if err != nil || info.Rewritten || info.MaxTimestamp != 1700000090000 || info.MaxTimestampDelta != 3 || info.Count != 5 {
				t.Errorf("%s: check says %+v, %v", name, info, err)
			}
		}
	}
	for c := record.None; c <= record.Zstd; c++ {
		f(c.String(), javaRecords())
		f("idempotent-"+c.String(), at(javaRecords(), 1000))
		f("transactional-"+c.String(), at(javaRecords(), 1000))
	}
	f("gaps", at(javaRecords(), 50, 53, 60, 61, 99))
	stamped := at(javaRecords(), 50)
	for i := range stamped {
		stamped[i].Timestamp = 1700000000123
	}
	f("logappendtime", stamped)
}

// A Builder given Java's input writes Java's bytes; compressed blocks may differ,
// the headers around them may not.
func TestBuildLikeJava(t *testing.T) {
	batches := javaBatches(t)
	f := func(name string, o record.BuilderOptions, rs []record.Record) {
		t.Helper()
		b := record.NewBuilder(o)
		for _, r := range rs {
			if err := b.AddAt(r); err != nil {
				t.Fatal(err)
			}
		}
		_, got, err := b.Build(nil)
		if err != nil {
			t.Fatal(err)
		}
		want := append(record.Batch(nil), batches[name]...)
		if diff := cmp.Diff(collect(t, want), collect(t, got)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
		if o.Codec != record.None { // Length and checksum follow the block.
			got, want = got[:record.HeaderSize], want[:record.HeaderSize]
			copy(want[8:12], got[8:12])
			copy(want[17:21], got[17:21])
		}
		if diff := cmp.Diff(hex.Dump(want), hex.Dump(got)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
	for c := record.None; c <= record.Zstd; c++ {
		f(c.String(), record.BuilderOptions{LeaderEpoch: -1, Codec: c}, javaRecords())
		f("idempotent-"+c.String(), record.BuilderOptions{
			BaseOffset: 1000, LeaderEpoch: 9, Codec: c,
			Producer: &record.Producer{ID: 7, Epoch: 3, Sequence: 2147483645},
		}, at(javaRecords(), 1000))
		f("transactional-"+c.String(), record.BuilderOptions{
			BaseOffset: 1000, LeaderEpoch: 9, Codec: c, Transactional: true,
			Producer: &record.Producer{ID: 7, Epoch: 3, Sequence: 5},
		}, at(javaRecords(), 1000))
	}
	f("gaps", record.BuilderOptions{BaseOffset: 50, LeaderEpoch: -1}, at(javaRecords(), 50, 53, 60, 61, 99))
}

func TestControlLikeJava(t *testing.T) {
	batches := javaBatches(t)
	const now = 1700000000000
	f := func(name string, got record.Batch, kind record.ControlType, coordinator int32) {
		t.Helper()
		if diff := cmp.Diff(hex.Dump(batches[name]), hex.Dump(got)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
		c, err := batches[name].Control()
		if err != nil || c.Type != kind || c.CoordinatorEpoch != coordinator {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	marker := func(kind record.ControlType) record.Batch {
		b := record.EndTxnMarker(7, 3, 11, kind, now)
		b.SetBaseOffset(10)
		b.SetLeaderEpoch(4)
		return b
	}
	control := func(r record.Record) record.Batch {
		b := record.NewBuilder(record.BuilderOptions{BaseOffset: 20, LeaderEpoch: 4, Control: true})
		if err := b.Add(r); err != nil {
			t.Fatal(err)
		}
		_, batch, err := b.Build(nil)
		if err != nil {
			t.Fatal(err)
		}
		return batch
	}
	f("abort", marker(record.Abort), record.Abort, 11)
	f("commit", marker(record.Commit), record.Commit, 11)
	f("leaderchange", record.LeaderChangeBatch(20, 4, now, 1, []model.NodeID{1, 2}, []model.NodeID{1}), record.LeaderChange, 0)
	f("snapshotheader", control(record.SnapshotHeaderRecord(now, 1600000000000)), record.SnapshotHeader, 0)
	f("snapshotfooter", control(record.SnapshotFooterRecord(now)), record.SnapshotFooter, 0)
	f("kraftversion", control(record.ControlRecord(record.KRaftVersion, now, []byte{0, 0, 0, 1, 0})), record.KRaftVersion, 0)
}

// kafkaCode is the code that the broker's API gives a kind.
func kafkaCode(err error) int {
	var e *record.Error
	if !errors.As(err, &e) {
		return 0
	}
	return map[record.Kind]int{
		record.InvalidRecord: 87, record.CorruptMessage: 2, record.InvalidTimestamp: 32,
		record.UnsupportedCompression: 76, record.TooLarge: 10, record.Unreadable: -1,
	}[e.Kind]
}

// ours are the raw batches on which we differ from Kafka on purpose, with the
// code we give.
var ours = map[string]int{
	// Kafka stores these although no consumer can read them.
	"rec size 0 lz4": 87, "rec size +1 lz4": 87, "rec size -1 short lz4": 87, "rec size 63 lz4": 87,
}

// Some 140 raw batches, most of them wrong, were sent to Apache Kafka 4.4.0;
// its answers are in testdata: "label, topic, code, error_message, record
// errors, hex".
func TestKafkaVerdicts(t *testing.T) {
	topics := map[string]record.CheckOptions{
		"plain":   {TimestampAfter: 3600_000},
		"compact": {TimestampAfter: 3600_000, KeysRequired: true},
		"lat":     {LogAppendTime: true},
		"narrow":  {TimestampBefore: 1000, TimestampAfter: 1000},
		"lz4":     {TimestampAfter: 3600_000},
	}
	now, n := int64(0), 0
	for line := range lines(t, "testdata/kafka-4.4.0-verdicts.txt") {
		if text, ok := strings.CutPrefix(line, "# now "); ok {
			now, _ = strconv.ParseInt(text, 10, 64)
			continue
		}
		n++
		v := strings.Split(line, "\t")
		label, topic, message, faulty := v[0], v[1], v[3], v[4]
		code, _ := strconv.Atoi(v[2])
		o := topics[topic]
		o.Name, o.Now, o.MaxBytes = topic+"-0", now, 1048588
		b, err := record.Single(unhex(t, v[5]))
		if err == nil {
			if label == "narrow ok" {
				o.Now = b.BaseTimestamp() // It was built later than the others.
			}
			_, err = record.Check(b, o)
		}
		if want, ok := ours[label]; ok {
			code = want
		}
		if got := kafkaCode(err); got != code {
			t.Errorf("%s: code %d, Kafka %d: %v", label, got, code, err)
			continue
		}
		checkTexts(t, label, err, message, faulty)
	}
	if n < 130 {
		t.Errorf("only %d verdicts in testdata", n)
	}
}

// checkTexts compares messages, except where Kafka's hold the time of day.
func checkTexts(t *testing.T, label string, err error, message, faulty string) {
	t.Helper()
	var e *record.Error
	if !errors.As(err, &e) {
		return
	}
	if e.Shown != (message != "-") {
		t.Errorf("%s: shown is %v, Kafka says %q", label, e.Shown, message)
	}
	if e.Shown && e.Message != message {
		t.Errorf("%s: message\n%q, Kafka\n%q", label, e.Message, message)
	}
	var got []string
	for _, r := range e.Records {
		got = append(got, fmt.Sprintf("%d %s", r.Index, r.Message))
	}
	cut := func(s string) string { s, _, _ = strings.Cut(s, "should be within"); return s }
	for i, want := range strings.Split(faulty, "|") {
		if want == "" {
			continue
		}
		if i >= len(got) || cut(got[i]) != cut(want) {
			t.Errorf("%s: record error %d: have %q, Kafka %q", label, i, got, want)
			return
		}
	}
}

func TestSequenceWraps(t *testing.T) {
	b := javaBatches(t)["idempotent-none"]
	if b.BaseSequence() != 2147483645 || b.LastSequence() != 1 {
		t.Errorf("sequences %d to %d, want 2147483645 to 1", b.BaseSequence(), b.LastSequence())
	}
	if got := record.AddSequence(1, -4); got != 2147483645 {
		t.Errorf("1 - 4 = %d", got)
	}
	if n := binary.BigEndian.Uint32(b[8:]); int(n)+12 != len(b) {
		t.Errorf("length field %d of %d bytes", n, len(b))
	}
}
