package producers

import (
	"errors"
	"flag"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

func crc(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// data is a batch of n records at base, as a log holds it.
func data(base model.Offset, p record.Producer, n int, txn bool, timestamp int64) record.Batch {
	b := record.NewBuilder(record.BuilderOptions{BaseOffset: base, Producer: &p, Transactional: txn})
	for range n {
		if err := b.Add(record.Record{Timestamp: timestamp}); err != nil {
			panic(err)
		}
	}
	_, batch, err := b.Build(nil)
	if err != nil {
		panic(err)
	}
	return batch
}

func marker(base model.Offset, id model.ProducerID, epoch int16, coordinator int32, t record.ControlType, timestamp int64) record.Batch {
	b := record.EndTxnMarker(id, epoch, coordinator, t, timestamp)
	b.SetBaseOffset(base)
	return b
}

// naive is the same memory kept the long way round: every batch, for ever.
type naive struct {
	batches []record.Batch
	hw      model.Offset
}

// of returns the batches that count for a producer: those of its last epoch.
func (m *naive) of(id model.ProducerID) (epoch int16, coordinator int32, ours []record.Batch, open model.Offset, known bool) {
	epoch, coordinator, open = -1, -1, model.NoOffset
	for _, b := range m.batches {
		if b.ProducerID() != id {
			continue
		}
		known = true
		if b.ProducerEpoch() != epoch {
			epoch, ours = b.ProducerEpoch(), nil
		}
		if b.IsControl() {
			c, _ := b.Control()
			coordinator, open = c.CoordinatorEpoch, model.NoOffset
			continue
		}
		ours = append(ours, b)
		if b.IsTransactional() && open == model.NoOffset {
			open = b.BaseOffset()
		}
	}
	return epoch, coordinator, ours, open, known
}

func (m *naive) check(b record.Batch) (Verdict, error) {
	epoch, coordinator, ours, open, known := m.of(b.ProducerID())
	switch {
	case !known:
		return Verdict{}, nil
	case b.IsControl():
		c, _ := b.Control()
		if b.ProducerEpoch() < epoch {
			return Verdict{}, ErrInvalidEpoch
		}
		if c.CoordinatorEpoch < coordinator {
			return Verdict{}, ErrCoordinatorFenced
		}
		return Verdict{}, nil
	}
	last := int32(-1)
	for i, o := range ours {
		last = o.LastSequence()
		if i >= len(ours)-5 && b.ProducerEpoch() == epoch && o.BaseSequence() == b.BaseSequence() && o.LastSequence() == b.LastSequence() {
			return Verdict{Duplicate: true, BaseOffset: o.BaseOffset(), LastOffset: o.LastOffset(), Timestamp: o.MaxTimestamp()}, nil
		}
	}
	switch {
	case b.ProducerEpoch() < epoch:
		return Verdict{}, ErrInvalidEpoch
	case epoch != -1 && (b.ProducerEpoch() > epoch && b.BaseSequence() != 0 || b.ProducerEpoch() == epoch && b.BaseSequence() != record.AddSequence(last, 1)):
		return Verdict{}, ErrOutOfOrderSequence
	case open != model.NoOffset && !b.IsTransactional():
		return Verdict{}, ErrInvalidTxnState
	}
	return Verdict{}, nil
}

// stable looks for the first offset that a transaction holds.
func (m *naive) stable() model.Offset {
	type span struct{ first, marker model.Offset }
	open, all := map[model.ProducerID]*span{}, []*span{}
	for _, b := range m.batches {
		id := b.ProducerID()
		switch {
		case b.IsControl() && open[id] != nil:
			open[id].marker = b.BaseOffset()
			delete(open, id)
		case !b.IsControl() && b.IsTransactional() && open[id] == nil:
			open[id] = &span{b.BaseOffset(), math.MaxInt64}
			all = append(all, open[id])
		}
	}
	stable := m.hw
	for _, s := range all {
		if s.marker >= m.hw {
			stable = min(stable, s.first)
		}
	}
	return stable
}

// world throws producers' batches and coordinators' markers, right and wrong,
// at a State and at the naive model, and reloads the State from its snapshot
// now and then: verdicts, stable offsets and memory must agree all the time.
type world struct {
	t   *testing.T
	r   *rand.Rand
	s   *State
	m   naive
	end model.Offset
	now int64
	// reloaded says that a snapshot was used.
	reloaded bool
}

func (w *world) step() {
	w.now++
	switch w.r.IntN(12) {
	case 0:
		w.m.hw = w.m.hw + model.Offset(w.r.Int64N(int64(w.end-w.m.hw)+1))
		w.s.Committed(w.m.hw)
	case 1:
		w.reload()
	case 2, 3:
		kind := record.ControlType(w.r.IntN(2))
		epoch, coordinator, _, _, _ := w.m.of(w.id())
		w.try(marker(w.end, w.id(), epoch+int16(w.r.IntN(3)-1), max(0, coordinator+int32(w.r.IntN(3)-1)), kind, w.now), Coordinator)
	default:
		w.try(w.anyBatch(), Client)
	}
	if got, want := w.s.Stable(w.m.hw), w.m.stable(); got != want {
		w.t.Fatalf("stable offset %d at commit point %d, want %d", got, w.m.hw, want)
	}
}

func (w *world) id() model.ProducerID { return model.ProducerID(w.r.IntN(4)) }

// anyBatch is mostly the next one of a producer, sometimes a repeat, a gap, or
// of another epoch.
func (w *world) anyBatch() record.Batch {
	id := w.id()
	epoch, _, ours, open, _ := w.m.of(id)
	if len(ours) > 0 && w.r.IntN(4) == 0 {
		repeat := append(record.Batch(nil), ours[max(0, len(ours)-1-w.r.IntN(7))]...)
		return repeat
	}
	sequence := int32(math.MaxInt32 - w.r.IntN(12))
	if len(ours) > 0 {
		sequence = record.AddSequence(ours[len(ours)-1].LastSequence(), 1)
	} else if epoch >= 0 {
		sequence = 0
	}
	epoch = max(epoch, 0)
	switch w.r.IntN(12) {
	case 0:
		sequence = record.AddSequence(sequence, int32(w.r.IntN(5)-2))
	case 1:
		epoch += int16(w.r.IntN(3) - 1)
	case 2:
		epoch, sequence = epoch+1, 0
	}
	txn := open != model.NoOffset || w.r.IntN(2) == 0
	if w.r.IntN(10) == 0 {
		txn = !txn
	}
	return data(w.end, record.Producer{ID: id, Epoch: epoch, Sequence: sequence}, 1+w.r.IntN(4), txn, w.now)
}

func (w *world) try(b record.Batch, o Origin) {
	got, err := w.s.Check(b, CheckOptions{Origin: o, Unverified: true})
	want, wantErr := w.m.check(b)
	if w.reloaded { // The format has one timestamp for a producer and its last batch: the producer's.
		got.Timestamp, want.Timestamp = 0, 0
	}
	if got != want || !errors.Is(err, wantErr) || (err == nil) != (wantErr == nil) {
		w.t.Fatalf("producer %d epoch %d sequence %d control %v: verdict %+v, %v; want %+v, %v",
			b.ProducerID(), b.ProducerEpoch(), b.BaseSequence(), b.IsControl(), got, err, want, wantErr)
	}
	if err != nil || got.Duplicate {
		return
	}
	b.SetBaseOffset(w.end)
	w.end = b.End()
	_, _, _, open, _ := w.m.of(b.ProducerID())
	c, done := w.s.Apply(b)
	if done != (b.IsControl() && open != model.NoOffset) || done && (c.FirstOffset != open || c.LastOffset != b.BaseOffset()) {
		w.t.Fatalf("completed %+v, %v; transaction began at %d", c, done, open)
	}
	w.m.batches = append(w.m.batches, b)
}

// reload restarts from a snapshot; what is undecided then is known again only
// if the commit point is below the snapshot, so the world commits all first.
func (w *world) reload() {
	w.m.hw = w.end
	w.s.Committed(w.end)
	before := w.s.Active()
	s := New(Options{})
	if err := s.Load(w.s.Snapshot(nil)); err != nil {
		w.t.Fatal(err)
	}
	if diff := cmp.Diff(before, s.Active()); diff != "" {
		w.t.Fatalf("reloaded: (-before +after)\n%s", diff)
	}
	w.s, w.reloaded = s, true
}

var worlds = flag.Int("producers.worlds", 1000, "worlds of TestWorlds, times $BARNABAS_WORLDS")

func TestWorlds(t *testing.T) {
	n := *worlds
	if times, err := strconv.Atoi(os.Getenv("BARNABAS_WORLDS")); err == nil && times > 1 {
		n *= times
	}
	if testing.Short() {
		n = 20
	}
	for seed := range uint64(n) {
		playWorld(t, seed)
	}
}

func playWorld(t *testing.T, seed uint64) {
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	w := world{t: t, r: rand.New(rand.NewPCG(seed, 1)), s: New(Options{}), now: 1000}
	for range 200 {
		w.step()
	}
	if w.end < 20 {
		t.Fatalf("only %d records were let in", w.end)
	}
}

// Strangers with a new id for each record do not take the memory; those with an
// open transaction stay.
func TestMaxProducers(t *testing.T) {
	s := New(Options{MaxProducers: 10})
	s.Apply(data(0, record.Producer{ID: 1000}, 1, true, 5))
	for i := range 500 {
		s.Apply(data(model.Offset(i+1), record.Producer{ID: model.ProducerID(i)}, 1, false, 5))
	}
	if s.Len() != 10 {
		t.Errorf("%d producers", s.Len())
	}
	if first, ok := s.FirstUnstable(); !ok || first != 0 {
		t.Errorf("the open transaction was forgotten")
	}
	if v, err := s.Check(data(600, record.Producer{ID: 499}, 1, false, 5), CheckOptions{}); err != nil || !v.Duplicate {
		t.Errorf("the latest was forgotten: %+v, %v", v, err)
	}
}

func BenchmarkCheckApply(b *testing.B) {
	s := New(Options{})
	batch := data(0, record.Producer{ID: 1}, 10, false, 5)
	b.ReportAllocs()
	sequence := int32(0)
	for b.Loop() {
		batch[53], batch[54], batch[55], batch[56] = byte(sequence>>24), byte(sequence>>16), byte(sequence>>8), byte(sequence)
		if _, err := s.Check(batch, CheckOptions{}); err != nil {
			b.Fatal(err)
		}
		s.Apply(batch)
		sequence = record.AddSequence(sequence, 10)
	}
}

func millis(ms int64) time.Time { return time.UnixMilli(ms) }

// A guard that was taken from the state of before, as of a log that has moved to
// another directory since, is none here, whatever was asked here: the answer that
// it waits for may be as old as it is.
func TestGuardsOfAnotherState(t *testing.T) {
	p := record.Producer{ID: 1, Sequence: 0}
	before, now := New(Options{}), New(Options{})
	old, err := before.Verify(time.UnixMilli(1000), p, false)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := now.Verify(time.UnixMilli(1001), p, false)
	if err != nil || fresh == old {
		t.Fatalf("guards %d and %d, %v", old, fresh, err)
	}
	b := data(0, p, 1, true, 5)
	if _, err := now.Check(b, CheckOptions{Guard: old}); !errors.Is(err, ErrInvalidTxnState) {
		t.Errorf("the guard of before: %v", err)
	}
	if _, err := now.Check(b, CheckOptions{Guard: fresh}); err != nil {
		t.Error(err)
	}
}
