package commitlog

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

var (
	cleanSeeds = flag.Uint64("clean.seeds", 700, "worlds of TestCleanWorlds, times $BARNABAS_WORLDS")
	cleanSeed  = flag.Uint64("clean.seed", 0, "run only this world, with a trace")
)

// cleanRecord is a record as it was appended.
type cleanRecord struct {
	offset     model.Offset
	key, value []byte
	time       int64
	txn        int // Index into cleanWorld.txns, -1 for none.
}

// cleanTxn is a transaction; marker is -1 while it is open.
type cleanTxn struct {
	producer model.ProducerID
	first    model.Offset
	marker   model.Offset
	abort    bool
}

// cleanBatch is a batch as it was appended, header only.
type cleanBatch struct {
	header record.Batch
	txn    int
	marker bool
}

// cleanWorld is a compacted log on a disk that will crash, and what must be
// true of it.
type cleanWorld struct {
	t     *testing.T
	rng   *rand.Rand
	trace bool
	mem   *vfs.Mem
	l     *Log

	crashAt int
	clone   *vfs.Mem

	now                int64
	records            []cleanRecord
	batches            []cleanBatch
	txns               []cleanTxn
	start, synced, end model.Offset
	epoch              model.Epoch
	mark               Mark
	// cleaned is where the dirty part begins, as the caller kept it; covered
	// is how far a pass has reached whose result was seen.
	cleaned, covered model.Offset
	// horizons are those seen of tombstones; hidden is the greatest start, below
	// which none was looked for.
	horizons  map[model.Offset]int64
	hidden    model.Offset
	retention time.Duration
	// forgotten are producers whose last batch a crash took: the one before may
	// have been cleaned away because of it, and the snapshot of the mark has
	// its sequence.
	forgotten map[model.ProducerID]bool
}

func (w *cleanWorld) logf(format string, args ...any) {
	if w.trace {
		w.t.Logf(format, args...)
	}
}

func (w *cleanWorld) hook(o vfs.Op) error {
	if w.clone != nil {
		return errCrash
	}
	if !o.Durable() {
		return nil
	}
	if w.crashAt--; w.crashAt > 0 {
		return nil
	}
	w.logf("crash before %s %s", o.Kind, o.Path)
	w.clone = w.mem.CrashClone(w.rng)
	return errCrash
}

func (w *cleanWorld) alive(err error, what string) bool {
	w.t.Helper()
	if w.clone != nil {
		return false
	}
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
	return true
}

func (w *cleanWorld) open() {
	// Segments that were small are merged when they may be larger.
	o := Options{SegmentBytes: [...]int64{1200, 1200, 4000}[w.rng.IntN(3)], IndexInterval: 200, MaxIndexBytes: 200, Mark: w.mark}
	o.Events = func(e Event) {
		w.logf("event %+v", e)
		if e.Kind == EventMarkLost || e.Kind == EventOffline && w.clone == nil {
			w.t.Errorf("%+v", e)
		}
	}
	l, err := Open(vfs.NewFaulty(w.mem, w.hook), "/d", o)
	if w.clone != nil {
		return
	}
	if err != nil {
		w.t.Fatalf("open: %v", err)
	}
	w.l = l
}

func (w *cleanWorld) key() []byte { return fmt.Appendf(nil, "key-%d", w.rng.IntN(12)) }

func (w *cleanWorld) append() {
	w.now += w.rng.Int64N(20)
	o := record.BuilderOptions{Codec: record.Codec(w.rng.IntN(5)), LogAppendTime: w.rng.IntN(8) == 0}
	if w.rng.IntN(3) > 0 {
		o.Codec = record.None
	}
	b := cleanBatch{txn: -1}
	if w.rng.IntN(2) == 0 {
		id := model.ProducerID(1 + w.rng.IntN(4))
		o.Producer = &record.Producer{ID: id, Sequence: int32(len(w.records))}
		if b.txn = w.openTxn(id); b.txn >= 0 || w.rng.IntN(3) == 0 {
			o.Transactional = true
			if b.txn < 0 {
				b.txn = len(w.txns)
				w.txns = append(w.txns, cleanTxn{producer: id, first: w.end, marker: -1})
			}
		}
	}
	builder := record.NewBuilder(o)
	n := 1 + w.rng.IntN(5)
	for i := range n {
		r := cleanRecord{offset: w.end + model.Offset(i), key: w.key(), time: w.now + w.rng.Int64N(9) - 4, txn: b.txn}
		if w.rng.IntN(4) > 0 {
			r.value = fmt.Appendf(nil, "value %d %*s", r.offset, w.rng.IntN(150), "")
		}
		if err := builder.Add(record.Record{Timestamp: r.time, Key: r.key, Value: r.value}); err != nil {
			w.t.Fatal(err)
		}
		w.records = append(w.records, r)
	}
	_, batch, err := builder.Build(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if o.LogAppendTime {
		for i := len(w.records) - n; i < len(w.records); i++ {
			w.records[i].time = batch.MaxTimestamp()
		}
	}
	w.write(batch, b)
}

// write appends a batch; a crash in between may have written it.
func (w *cleanWorld) write(batch record.Batch, b cleanBatch) bool {
	_, end, err := w.l.Append(batch, w.epoch, time.UnixMilli(w.now))
	if batch.BaseOffset() != w.end {
		batch.SetBaseOffset(w.end) // Never stamped.
	}
	b.header = slices.Clone(batch[:record.HeaderSize])
	if !b.marker {
		delete(w.forgotten, batch.ProducerID())
	}
	w.batches = append(w.batches, b)
	w.end = batch.End()
	w.logf("append [%d,%d) txn %d, %v", batch.BaseOffset(), batch.End(), b.txn, err)
	if !w.alive(err, "append") {
		return false
	}
	if end != w.end {
		w.t.Fatalf("append ends at %d, want %d", end, w.end)
	}
	return true
}

func (w *cleanWorld) openTxn(id model.ProducerID) int {
	return slices.IndexFunc(w.txns, func(t cleanTxn) bool { return t.producer == id && t.marker < 0 })
}

// finish ends an open transaction, or writes a marker that ends nothing.
func (w *cleanWorld) finish() {
	id := model.ProducerID(1 + w.rng.IntN(4))
	abort := w.rng.IntN(2) == 0
	kind := record.Commit
	if abort {
		kind = record.Abort
	}
	marker := record.EndTxnMarker(id, 0, 3, kind, w.now)
	i := w.openTxn(id)
	if i >= 0 {
		w.txns[i].marker, w.txns[i].abort = w.end, abort
	}
	if w.write(marker, cleanBatch{txn: i, marker: true}) && i >= 0 && abort {
		w.alive(w.l.AppendAborted(w.abortedOf(i)), "aborted")
	}
}

func (w *cleanWorld) abortedOf(i int) AbortedTxn {
	t := w.txns[i]
	stable := t.marker + 1
	for _, other := range w.txns {
		if other.first < t.marker && (other.marker < 0 || other.marker > t.marker) {
			stable = min(stable, other.first)
		}
	}
	return AbortedTxn{ProducerID: t.producer, First: t.first, Last: t.marker, LastStable: stable}
}

// stable is the last stable offset of what is synced.
func (w *cleanWorld) stable() model.Offset {
	stable := w.synced
	for _, t := range w.txns {
		if t.marker < 0 || t.marker >= w.synced {
			stable = min(stable, t.first)
		}
	}
	return stable
}

func (w *cleanWorld) checkpoint() {
	mark, err := w.l.Checkpoint(nil)
	if !w.alive(err, "mark") {
		return
	}
	w.mark, w.synced = mark, w.l.SyncedEnd()
}

// lastBatches are those of the producers that are remembered.
func (w *cleanWorld) lastBatches() map[model.ProducerID]LastBatch {
	last := map[model.ProducerID]LastBatch{}
	for _, b := range w.batches {
		id := b.header.ProducerID()
		if id == model.NoProducer {
			continue
		}
		if b.marker {
			if _, known := last[id]; !known {
				last[id] = LastBatch{Offset: model.NoOffset, Epoch: b.header.ProducerEpoch()}
			}
			continue
		}
		last[id] = LastBatch{Offset: b.header.LastOffset(), Epoch: b.header.ProducerEpoch()}
	}
	return last
}

func (w *cleanWorld) clean() {
	slots := 2 + w.rng.IntN(3)
	if w.rng.IntN(3) > 0 {
		slots = 100
	}
	m, err := NewOffsetMap(int64(slots*slotBytes), 0.9)
	if err != nil {
		w.t.Fatal(err)
	}
	o := CleanOptions{
		CleanScope: CleanScope{From: w.cleaned, Limit: w.stable(), Mark: w.mark}, Committed: w.synced,
		Now: time.UnixMilli(w.now), DeleteRetention: w.retention, Producers: w.lastBatches, Map: m,
		BufferBytes: record.HeaderSize + w.rng.IntN(1000),
	}
	w.logf("clean [%d,%d) at %d, %d slots", o.From, o.Limit, w.now, slots)
	if w.rng.IntN(4) == 0 {
		w.crashAt = 1 + w.rng.IntN(30)
	}
	if w.rng.IntN(6) == 0 {
		// Somebody deletes records meanwhile.
		o.Pace = func(context.Context, int) error {
			if w.clone == nil && w.rng.IntN(8) == 0 {
				w.retain()
			}
			return nil
		}
	}
	done, err := w.l.Clean(w.t.Context(), o)
	w.logf("cleaned %+v, %v", done, err)
	if !w.alive(err, "clean") {
		return
	}
	if done.End < o.From || done.End > max(min(o.Limit, w.mark.Segment), o.From, w.start) {
		w.t.Fatalf("cleaned up to %d", done.End)
	}
	w.covered = max(w.covered, done.End)
	if w.rng.IntN(4) > 0 {
		w.cleaned = done.End
	}
	w.check()
}

func (w *cleanWorld) retain() {
	if w.end == w.start {
		return
	}
	o := w.start + model.Offset(w.rng.Int64N(int64(w.synced-w.start)/4+1))
	w.logf("start %d", o)
	w.start = max(w.start, o)
	w.hidden = max(w.hidden, w.start)
	if !w.alive(w.l.SetStart(o), "set start") {
		return
	}
	_, err := w.l.Retain(time.UnixMilli(w.now), Retention{Limit: w.synced})
	if w.alive(err, "retain") {
		_, err = w.l.DeleteExpired(time.UnixMilli(w.now), 0)
		w.alive(err, "delete")
	}
}

func (w *cleanWorld) step() {
	switch w.rng.IntN(20) {
	case 0, 1, 2, 3, 4, 5, 6, 7:
		w.append()
	case 8, 9:
		w.finish()
	case 10, 11:
		w.checkpoint()
	case 12:
		w.l.Tune(Options{SegmentBytes: [...]int64{1200, 4000}[w.rng.IntN(2)], IndexInterval: 200, MaxIndexBytes: 200})
		w.alive(w.l.Roll(), "roll")
	case 13:
		w.l.Idle()
	case 14:
		if w.rng.IntN(3) == 0 {
			w.retain()
		}
	case 15:
		w.epoch++
		w.alive(w.l.AssignEpoch(w.epoch, w.end), "epoch")
	case 16:
		w.now += w.rng.Int64N(2 * w.retention.Milliseconds())
	case 17:
		if w.alive(w.l.Close(), "close") {
			w.reopen()
		}
	default:
		w.clean()
	}
}

// crash takes what the crash left and opens it.
func (w *cleanWorld) crash() {
	if w.clone == nil {
		w.clone = w.mem.CrashClone(w.rng)
	}
	for w.clone != nil {
		w.mem, w.clone = w.clone, nil
		w.crashAt = 1 << 30
		if w.rng.IntN(3) == 0 {
			w.crashAt = 1 + w.rng.IntN(10)
		}
		w.reopen()
	}
	w.crashAt = 1 << 30
}

func (w *cleanWorld) reopen() {
	if w.open(); w.clone != nil {
		return
	}
	end := w.l.End()
	w.logf("opened as [%d,%d)", w.l.Start(), end)
	if end < w.synced || end > w.end || w.l.Start() > w.start {
		w.t.Fatalf("opened as [%d,%d), want [%d,%d to %d)", w.l.Start(), end, w.start, w.synced, w.end)
	}
	w.start = w.l.Start()
	w.lose(end)
	// What the owner of producer state does: it replays what lies above the mark.
	for _, b := range w.batches {
		if b.marker && b.txn >= 0 && w.txns[b.txn].abort && b.header.BaseOffset() >= w.l.RecoveredFrom() &&
			!w.alive(w.l.AppendAborted(w.abortedOf(b.txn)), "replay") {
			return
		}
	}
	w.check()
}

// lose forgets what lies at or after an offset.
func (w *cleanWorld) lose(end model.Offset) {
	w.end = end
	for i := range w.txns {
		if t := &w.txns[i]; t.marker >= end {
			t.marker, t.abort = -1, false
		}
	}
	for len(w.txns) > 0 && w.txns[len(w.txns)-1].first >= end {
		w.txns = w.txns[:len(w.txns)-1]
	}
	w.batches = slices.DeleteFunc(w.batches, func(b cleanBatch) bool {
		lost := b.header.BaseOffset() >= end
		w.forgotten[b.header.ProducerID()] = w.forgotten[b.header.ProducerID()] || lost
		return lost
	})
	w.records = slices.DeleteFunc(w.records, func(r cleanRecord) bool { return r.offset >= end })
	w.synced = min(w.l.SyncedEnd(), end)
}

// seen is what a reader finds in the log.
type seen struct {
	batches []record.Batch
	records map[model.Offset]record.Record
}

func (w *cleanWorld) read() seen {
	s := seen{records: map[model.Offset]record.Record{}}
	next := model.Offset(0)
	b := readAll(w.t, w.l, w.start, w.end, 1+w.rng.IntN(3000))
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		if err != nil || batch.CRC() != batch.ComputeCRC() || batch.BaseOffset() < next {
			w.t.Fatalf("batch at %d after %d: %v", batch.BaseOffset(), next, err)
		}
		next, b = batch.End(), rest
		s.batches = append(s.batches, batch)
		last := model.NoOffset
		for r, err := range batch.Records(0) {
			if err != nil || r.Offset <= last {
				w.t.Fatalf("record at %d after %d: %v", r.Offset, last, err)
			}
			last = r.Offset
			if batch.IsControl() || r.Offset < w.start {
				continue
			}
			s.records[r.Offset] = r
			if horizon, set := batch.DeleteHorizon(); set {
				w.horizons[r.Offset] = horizon
			} else if r.Value == nil && r.Offset < w.covered {
				w.t.Fatalf("tombstone at %d has no horizon below %d", r.Offset, w.covered)
			}
		}
	}
	return s
}

func (w *cleanWorld) aborted(r cleanRecord) bool { return r.txn >= 0 && w.txns[r.txn].abort }

// check compares what a reader finds with what was appended.
func (w *cleanWorld) check() {
	w.t.Helper()
	if w.clone != nil {
		return
	}
	s := w.read()
	w.checkRecords(s)
	w.checkHeaders(s)
	w.checkKeys(s)
	w.checkTimes(s)
	verify(w.t, w.l)
	report, err := Verify(w.mem, "/d")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range report.Problems {
		// The indexes of the active segment are trimmed when they are written next.
		if base, _, ok := ParseFileName(p.File); !ok || base < w.l.mu.segments[w.l.Segments()-1].base {
			w.t.Fatal(p)
		}
	}
}

// checkRecords: what is there is what was appended, and all that no pass has
// reached is there.
func (w *cleanWorld) checkRecords(s seen) {
	w.t.Helper()
	last := map[string]model.Offset{} // Of each key, below covered.
	for _, r := range w.records {
		if !w.aborted(r) && r.offset < w.covered {
			last[string(r.key)] = r.offset
		}
	}
	n := 0
	for _, r := range w.records {
		if r.offset < w.start {
			continue
		}
		got, ok := s.records[r.offset]
		if ok {
			n++
			if string(got.Key) != string(r.key) || string(got.Value) != string(r.value) || (got.Value == nil) != (r.value == nil) || got.Timestamp != r.time {
				w.t.Fatalf("record %+v was %+v", got, r)
			}
			if r.offset < w.covered && (w.aborted(r) || last[string(r.key)] != r.offset) {
				w.t.Fatalf("record %+v is there, below %d (last %d)", r, w.covered, last[string(r.key)])
			}
			continue
		}
		if r.offset >= min(w.mark.Segment, w.stable()) {
			w.t.Fatalf("record %+v is gone", r)
		}
	}
	if n != len(s.records) {
		w.t.Fatalf("%d records were never appended", len(s.records)-n)
	}
}

// checkHeaders: batches keep their offsets, sequences and epochs; the last of
// each producer is there, and the marker of every transaction that has a batch.
func (w *cleanWorld) checkHeaders(s seen) {
	w.t.Helper()
	there := map[model.Offset]record.Batch{}
	for _, b := range s.batches {
		there[b.BaseOffset()] = b
	}
	last := w.lastBatches()
	known := 0
	for _, m := range w.batches {
		h := m.header
		b, ok := there[h.BaseOffset()]
		if h.LastOffset() < w.start {
			continue
		}
		if !ok {
			if l, is := last[h.ProducerID()]; is && l.Offset == h.LastOffset() && !w.forgotten[h.ProducerID()] {
				w.t.Fatalf("the last batch of producer %d at %d is gone", h.ProducerID(), h.BaseOffset())
			}
			continue
		}
		known++
		if b.LastOffset() != h.LastOffset() || b.LeaderEpoch() != h.LeaderEpoch() || b.ProducerID() != h.ProducerID() ||
			b.ProducerEpoch() != h.ProducerEpoch() || b.BaseSequence() != h.BaseSequence() || b.IsTransactional() != h.IsTransactional() ||
			b.IsControl() != h.IsControl() || b.IsLogAppendTime() != h.IsLogAppendTime() {
			w.t.Fatalf("batch at %d: %x, was %x", h.BaseOffset(), b[:record.HeaderSize], h)
		}
		if m.txn >= 0 && !m.marker {
			if marker := w.txns[m.txn].marker; marker >= 0 && there[marker] == nil {
				w.t.Fatalf("batch at %d of a transaction has no marker at %d", h.BaseOffset(), marker)
			}
		}
	}
	if known != len(s.batches) {
		w.t.Fatalf("%d batches were never appended", len(s.batches)-known)
	}
}

// checkKeys: who reads committed records from the start finds the last value of
// each key, or none if it was deleted; tombstones do not go before their time.
func (w *cleanWorld) checkKeys(s seen) {
	w.t.Helper()
	want, got, deleted := map[string]model.Offset{}, map[string]model.Offset{}, map[string]model.Offset{}
	stable := w.stable()
	for _, r := range w.records {
		if w.aborted(r) || r.offset >= stable || r.offset < w.start {
			continue
		}
		delete(want, string(r.key))
		delete(deleted, string(r.key))
		if r.value != nil {
			want[string(r.key)] = r.offset
		} else {
			deleted[string(r.key)] = r.offset
		}
	}
	for k, o := range deleted {
		if _, there := s.records[o]; !there {
			if at, ok := w.horizons[o]; at > w.now || !ok && o >= w.hidden {
				w.t.Fatalf("tombstone of %s at %d went at %d, its horizon %d", k, o, w.now, at)
			}
		}
	}
	aborted, err := w.l.Aborted(w.start, stable)
	if err != nil {
		w.t.Fatal(err)
	}
	slices.SortFunc(aborted, func(a, b AbortedTxn) int { return int(a.First - b.First) })
	aborting := map[model.ProducerID]bool{}
	for _, b := range s.batches {
		if b.BaseOffset() >= stable {
			break
		}
		for len(aborted) > 0 && aborted[0].First <= b.LastOffset() {
			aborting[aborted[0].ProducerID] = true
			aborted = aborted[1:]
		}
		if b.IsControl() {
			if c, err := b.Control(); err == nil && c.Type == record.Abort {
				delete(aborting, b.ProducerID())
			}
			continue
		}
		if b.IsTransactional() && aborting[b.ProducerID()] {
			continue
		}
		for r, err := range b.Records(0) {
			if err != nil {
				w.t.Fatal(err)
			}
			if r.Offset < w.start {
				continue
			}
			delete(got, string(r.Key))
			if r.Value != nil {
				got[string(r.Key)] = r.Offset
			}
		}
	}
	for k, o := range want {
		if got[k] != o {
			w.t.Fatalf("key %s is at %d, want %d", k, got[k], o)
		}
	}
	if len(got) != len(want) {
		w.t.Fatalf("keys %v, want %v", got, want)
	}
}

// checkTimes: offsets are found by time, and reading begins anywhere.
func (w *cleanWorld) checkTimes(s seen) {
	w.t.Helper()
	ts := w.now - w.rng.Int64N(200)
	want := model.NoOffset
	for _, b := range s.batches {
		for r, err := range b.Records(0) {
			if err == nil && r.Offset >= w.start && r.Timestamp >= ts && want < 0 {
				want = r.Offset
			}
		}
	}
	if p, err := w.l.OffsetForTime(ts); err != nil || p.Offset != want {
		w.t.Fatalf("offset for %d is %d, want %d: %v", ts, p.Offset, want, err)
	}
	from := w.start + model.Offset(w.rng.Int64N(int64(w.end-w.start)+1))
	var first model.Offset = model.NoOffset
	for _, b := range s.batches {
		if b.LastOffset() >= from {
			first = b.BaseOffset()
			break
		}
	}
	v, err := w.l.Read(from, w.end, 1, true)
	if err != nil {
		w.t.Fatal(err)
	}
	defer v.Close()
	b, err := v.Bytes(nil)
	if err != nil || len(b) == 0 && first >= 0 || len(b) > 0 && record.Batch(b).BaseOffset() != first {
		w.t.Fatalf("read at %d gave %d bytes, want the batch at %d: %v", from, len(b), first, err)
	}
}

func runCleanWorld(t *testing.T, seed uint64, trace bool) {
	rng := rand.New(rand.NewPCG(seed, 11))
	w := &cleanWorld{
		t: t, rng: rng, trace: trace, mem: vfs.NewMem(), now: 1000, horizons: map[model.Offset]int64{},
		forgotten: map[model.ProducerID]bool{},
		retention: time.Duration(50+rng.IntN(500)) * time.Millisecond,
	}
	if err := w.mem.MkdirAll("/d"); err != nil {
		t.Fatal(err)
	}
	w.mem.SyncDir("/")
	w.crashAt = 1 << 30
	w.open()
	w.checkpoint()
	for range 5 {
		w.crashAt = 1 + rng.IntN(150)
		for range 20 + rng.IntN(120) {
			if w.step(); w.clone != nil {
				break
			}
		}
		w.crash()
	}
	// After all crashes everything can still be cleaned.
	w.alive(w.l.Roll(), "roll")
	w.checkpoint()
	w.check()
	w.clean()
	w.l.Close()
}

// TestCleanWorlds compacts logs of random histories, with transactions,
// tombstones, retention and all codecs, on a disk that loses power at a sync, a
// rename or a removal, and compares what a reader finds with a model.
func TestCleanWorlds(t *testing.T) {
	if *cleanSeed > 0 {
		runCleanWorld(t, *cleanSeed, true)
		return
	}
	worlds := *cleanSeeds
	if times, err := strconv.ParseUint(os.Getenv("BARNABAS_WORLDS"), 10, 16); err == nil {
		worlds *= times
	}
	for seed := uint64(1); seed <= worlds; seed++ {
		ok := t.Run("", func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("repeat with -run TestCleanWorlds -clean.seed=%d", seed)
				}
			}()
			runCleanWorld(t, seed, false)
		})
		if !ok {
			return
		}
	}
}

// fork is the world on a copy of its disk, after the process has ended.
func (w *cleanWorld) fork(mem *vfs.Mem, rng *rand.Rand) *cleanWorld {
	f := *w
	f.mem, f.rng, f.clone, f.crashAt = mem, rng, nil, 1<<30
	f.records, f.batches, f.txns = slices.Clone(w.records), slices.Clone(w.batches), slices.Clone(w.txns)
	f.horizons, f.forgotten = maps.Clone(w.horizons), maps.Clone(w.forgotten)
	return &f
}

// TestCleanCrashEverywhere crashes one pass at each of its durable operations,
// and looks at many of the disks that each crash may leave.
func TestCleanCrashEverywhere(t *testing.T) {
	for seed := range uint64(2) {
		rng := rand.New(rand.NewPCG(seed, 12))
		w := &cleanWorld{
			t: t, rng: rng, mem: vfs.NewMem(), now: 1000, horizons: map[model.Offset]int64{}, forgotten: map[model.ProducerID]bool{},
			retention: 100 * time.Millisecond, crashAt: 1 << 30,
		}
		if err := w.mem.MkdirAll("/d"); err != nil {
			t.Fatal(err)
		}
		w.open()
		w.l.Tune(Options{SegmentBytes: 1000, IndexInterval: 200, MaxIndexBytes: 200})
		for range 60 {
			w.append()
			if rng.IntN(3) == 0 {
				w.finish()
			}
		}
		w.alive(w.l.Roll(), "roll")
		w.checkpoint()
		w.l.Close()
		w.mem.SyncFS("/d")
		for n := 1; ; n++ {
			f := w.fork(w.mem.KillClone(), rng)
			f.open()
			f.l.Tune(Options{SegmentBytes: 3000, IndexInterval: 200, MaxIndexBytes: 200})
			f.pass(n)
			if f.clone == nil {
				if n < 10 {
					t.Fatalf("the pass had %d durable operations", n-1)
				}
				break
			}
			for range 10 {
				f.fork(f.mem.CrashClone(rng), rng).reopen()
			}
		}
	}
}

// pass cleans all that can be, and crashes at the n-th durable operation.
func (w *cleanWorld) pass(n int) {
	m, err := NewOffsetMap(1<<20, 0.9)
	if err != nil {
		w.t.Fatal(err)
	}
	w.crashAt = n
	_, err = w.l.Clean(w.t.Context(), CleanOptions{
		CleanScope: CleanScope{From: model.NoOffset, Limit: w.stable(), Mark: w.mark}, Committed: w.synced,
		Now: time.UnixMilli(w.now), DeleteRetention: w.retention, Producers: w.lastBatches, Map: m,
	})
	w.alive(err, "clean")
}
