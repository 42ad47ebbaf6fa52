package producers

import (
	"encoding/binary"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func batches(t testing.TB, log []byte) []record.Batch {
	t.Helper()
	var out []record.Batch
	for len(log) > 0 {
		b, rest, err := record.Next(log)
		if err != nil {
			t.Fatal(err)
		}
		out, log = append(out, b), rest
	}
	return out
}

// A partition that Apache Kafka 4.4.0 wrote with an idempotent producer and two
// transactional ones (transactions version 2): committed, aborted, interleaved
// and open. Replaying its log gives Kafka's own snapshot and .txnindex.
func TestReplayKafka(t *testing.T) {
	s := New(Options{})
	var index []byte
	end := int64(0)
	for _, b := range batches(t, read(t, "kafka-4.4.0.log")) {
		origin := Coordinator
		if !b.IsControl() {
			origin = Client
		}
		if v, err := s.Check(b, CheckOptions{Origin: origin, TransactionVersion: 2, Unverified: true}); err != nil || v.Duplicate {
			t.Fatalf("offset %d: %+v, %v", b.BaseOffset(), v, err)
		}
		if c, ok := s.Apply(b); ok && c.Aborted {
			index = binary.BigEndian.AppendUint16(index, 0)
			for _, v := range []int64{int64(c.ProducerID), int64(c.FirstOffset), int64(c.LastOffset), int64(c.LastStable)} {
				index = binary.BigEndian.AppendUint64(index, uint64(v))
			}
		}
		end = int64(b.End())
	}
	if want := read(t, "kafka-4.4.0.txnindex"); !slices.Equal(want, index) {
		t.Errorf("txnindex: have\n%x\nKafka\n%x", index, want)
	}
	loaded := New(Options{})
	if err := loaded.Load(read(t, "kafka-4.4.0.snapshot")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(byID(loaded.Active()), byID(s.Active())); diff != "" {
		t.Errorf("state (-Kafka's snapshot +our replay)\n%s", diff)
	}
	s.Committed(model.Offset(end))
	have, _ := s.FirstUnstable()
	want, open := loaded.FirstUnstable()
	if !open || have != want || int64(want) >= end {
		t.Errorf("first unstable %d, Kafka's %d, end %d", have, want, end)
	}
}

// Kafka's snapshot, loaded and written, is Kafka's snapshot: one entry for each
// producer, since that is all it told us.
func TestSnapshotLikeKafka(t *testing.T) {
	want := read(t, "kafka-4.4.0.snapshot")
	s := New(Options{})
	if err := s.Load(want); err != nil {
		t.Fatal(err)
	}
	if got := s.Snapshot([]byte("before"))[len("before"):]; !slices.Equal(want, got) {
		t.Errorf("have\n%x\nKafka\n%x", got, want)
	}
}

func byID(ps []Producer) []Producer {
	slices.SortFunc(ps, func(a, b Producer) int { return int(a.ID - b.ID) })
	return ps
}

func TestLoadRefuses(t *testing.T) {
	good := read(t, "kafka-4.4.0.snapshot")
	f := func(name string, bad []byte) {
		t.Helper()
		s := New(Options{})
		if err := s.Load(good); err != nil {
			t.Fatal(err)
		}
		before := s.Snapshot(nil)
		if err := s.Load(bad); err == nil {
			t.Errorf("%s: loaded", name)
		}
		if !slices.Equal(before, s.Snapshot(nil)) {
			t.Errorf("%s: changed the state", name)
		}
	}
	f("nothing", nil)
	f("cut short", good[:len(good)-1])
	f("one byte more", append(slices.Clone(good), 0))
	for i := range good {
		flipped := slices.Clone(good)
		flipped[i] ^= 0x10
		f("flipped bit", flipped)
	}
}

// No snapshot makes Load panic; what it takes, Snapshot keeps.
func FuzzLoad(f *testing.F) {
	f.Add(read(f, "kafka-4.4.0.snapshot"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) >= snapshotHead { // Let the fuzzer past the checksum.
			data = seal(slices.Clone(data))
		}
		s := New(Options{MaxProducers: 100})
		if s.Load(data) != nil {
			return
		}
		again := New(Options{MaxProducers: 100})
		if err := again.Load(s.Snapshot(nil)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s.Active(), again.Active()); diff != "" {
			t.Fatal(diff)
		}
		s.Stable(100)
		s.LogStart(50)
	})
}

// seal repairs count and checksum of a snapshot.
func seal(b []byte) []byte {
	b = b[:len(b)-(len(b)-snapshotHead)%entrySize]
	binary.BigEndian.PutUint16(b, snapshotVersion)
	binary.BigEndian.PutUint32(b[snapshotBody:], uint32((len(b)-snapshotHead)/entrySize))
	binary.BigEndian.PutUint32(b[snapshotCRC:], crc(b[snapshotBody:]))
	return b
}
