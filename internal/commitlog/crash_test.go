package commitlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

var (
	crashSeeds = flag.Uint64("crash.seeds", 3000, "worlds of TestCrash, times $BARNABAS_WORLDS")
	crashSeed  = flag.Uint64("crash.seed", 0, "run only this world, with a trace")
)

var errCrash = errors.New("crashed")

// entry of the model: one batch as it was appended.
type modelBatch struct {
	b     []byte
	abort bool // An abort marker: has an entry in the transaction index.
}

func (m modelBatch) first() model.Offset { return record.Batch(m.b).BaseOffset() }
func (m modelBatch) end() model.Offset   { return record.Batch(m.b).End() }

// world is a log on a disk that will crash, and what must be true of it.
type world struct {
	t     *testing.T
	rng   *rand.Rand
	trace bool
	mem   *vfs.Mem
	l     *Log
	opts  Options

	// crashAt counts the durable operations left; clone is what the crash left.
	crashAt int
	clone   *vfs.Mem
	full    bool // Writes fail for want of space now and then.

	batches []modelBatch
	start   model.Offset
	synced  model.Offset
	end     model.Offset
	epoch   model.Epoch
	now     int64

	mark      Mark         // As the caller kept it.
	keptStart model.Offset // Log start as the caller kept it.
	// pending is what a crashed operation may have done to the end or start.
	pending struct {
		truncate model.Offset // -1: none.
		restart  model.Offset // -1: none.
		start    model.Offset // Retention was under way: the start may be up to here.
	}
}

func (w *world) logf(format string, args ...any) {
	if w.trace {
		w.t.Logf(format, args...)
	}
}

func (w *world) fatalf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s (end %d synced %d start %d mark %+v pending %+v)", fmt.Sprintf(format, args...), w.end, w.synced, w.start, w.mark, w.pending)
}

// hook crashes the disk at one of its durable operations.
func (w *world) hook(o vfs.Op) error {
	if w.clone != nil {
		return errCrash
	}
	if w.full && o.Kind == vfs.OpWrite && w.rng.IntN(4) == 0 {
		return vfs.ShortWrite{N: w.rng.IntN(800), Err: syscall.ENOSPC}
	}
	if !o.Durable() {
		return nil
	}
	w.crashAt--
	if w.crashAt > 0 {
		return nil
	}
	w.logf("crash before %s %s", o.Kind, o.Path)
	w.clone = w.mem.CrashClone(w.rng)
	return errCrash
}

func (w *world) open() {
	w.opts = Options{
		SegmentBytes: 2000, IndexInterval: 200, SegmentAge: 50 * time.Millisecond,
		Mark: w.mark, Snapshot: w.snapshot,
	}
	if w.trace {
		w.opts.Events = func(e Event) { w.t.Logf("event %+v", e) }
	}
	l, err := Open(vfs.NewFaulty(w.mem, w.hook), "/d", w.opts)
	if w.clone != nil {
		return // Crashed again during recovery.
	}
	if err != nil {
		w.fatalf("open: %v", err)
	}
	w.l = l
}

// snapshot stands for producer state: it has the offset and a checksum of all
// batches below it, and is empty as long as no batch is of a producer.
func (w *world) snapshot() []byte { return w.snapshotAt(w.end) }

func (w *world) snapshotAt(at model.Offset) []byte {
	sum, producers := uint32(0), false
	for _, m := range w.batches {
		if m.end() > at {
			break
		}
		sum = crc32.Update(sum, castagnoli, m.b)
		producers = producers || isProducer(m)
	}
	if !producers {
		return nil
	}
	b := binary.BigEndian.AppendUint64(nil, uint64(at))
	b = binary.BigEndian.AppendUint32(b, sum)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func isProducer(m modelBatch) bool { return m.abort || record.Batch(m.b).Count() == 7 }

// step does one operation.
func (w *world) step() {
	switch w.rng.IntN(30) {
	case 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11:
		w.append()
	case 12, 13, 14:
		w.appendAt()
	case 15, 16, 17:
		w.logf("sync to %d", w.end)
		if err := w.l.Sync(); w.alive(err, "sync") {
			w.synced = w.l.SyncedEnd()
			if w.synced != w.end {
				w.fatalf("synced end %d after sync", w.synced)
			}
		}
	case 18:
		w.splitSync()
	case 19, 20:
		w.checkpoint()
	case 21:
		w.truncate()
	case 22:
		w.setStart()
	case 23, 24:
		w.retain()
	case 25:
		w.logf("roll")
		w.alive(w.l.Roll(), "roll")
	case 26:
		w.logf("epoch %d at %d", w.epoch+1, w.end)
		w.epoch++
		w.alive(w.l.AssignEpoch(w.epoch, w.end), "epoch")
	case 27:
		w.l.Idle()
	case 28:
		w.logf("close and open")
		if w.alive(w.l.Close(), "close") {
			w.reopen()
		}
	case 29:
		if w.rng.IntN(4) == 0 {
			w.restart()
		}
	}
}

// alive reports whether an operation succeeded; an error must come from the
// crash.
func (w *world) alive(err error, what string) bool {
	w.t.Helper()
	if w.clone != nil {
		return false
	}
	if err != nil {
		w.fatalf("%s: %v", what, err)
	}
	return true
}

func (w *world) batch() (b record.Batch, abort bool) {
	w.now += w.rng.Int64N(20) - 3
	n := 1 + w.rng.IntN(4)
	size := w.rng.IntN(300)
	if w.rng.IntN(3) == 0 {
		size = 100 // Equal sizes, so that a stale batch may follow a new one.
	}
	switch w.rng.IntN(12) {
	case 0:
		n = 7
	case 1:
		n, abort = 1, true
	}
	return makeBatch(n, size, w.now, byte(w.rng.IntN(256))), abort
}

func (w *world) append() {
	var b []byte
	var made []modelBatch
	for range 1 + w.rng.IntN(3) {
		one, abort := w.batch()
		made = append(made, modelBatch{one, abort && w.end > 0})
		b = append(b, one...)
	}
	before := w.end
	if w.rng.IntN(10) == 0 {
		w.full = true
	}
	base, end, err := w.l.Append(b, w.epoch, time.UnixMilli(w.now))
	w.full = false
	w.logf("append %d bytes at %d: end %d, %v", len(b), before, end, err)
	if w.clone == nil && errors.Is(err, syscall.ENOSPC) {
		if w.l.End() != before {
			w.fatalf("end %d after a full disk", w.l.End())
		}
		return
	}
	// The batches may be on disk even if the crash came in between.
	w.note(b, made, before)
	if !w.alive(err, "append") {
		return
	}
	if base != before || end != w.end {
		w.fatalf("append gave [%d,%d)", base, end)
	}
	w.aborts(made)
}

func (w *world) note(b []byte, made []modelBatch, base model.Offset) {
	for i := range made {
		batch, rest, err := record.Next(b)
		if err != nil {
			w.fatalf("%v", err)
		}
		if batch.BaseOffset() != base {
			return // Never stamped: it was refused before.
		}
		made[i].b = slices.Clone(batch)
		base, b = batch.End(), rest
	}
	w.batches = append(w.batches, made...)
	w.end = base
}

func (w *world) aborts(made []modelBatch) {
	for _, m := range made {
		if m.abort && w.clone == nil {
			w.alive(w.l.AppendAborted(abortOf(m)), "aborted")
		}
	}
}

func abortOf(m modelBatch) AbortedTxn {
	last := m.end() - 1
	return AbortedTxn{ProducerID: 5, First: max(0, last-3), Last: last, LastStable: last}
}

func (w *world) appendAt() {
	b, abort := w.batch()
	abort = abort && w.end > 0
	base := w.end
	if w.rng.IntN(3) == 0 {
		base += model.Offset(w.rng.IntN(5))
	}
	b.SetBaseOffset(base)
	if w.rng.IntN(10) == 0 {
		w.epoch++
	}
	b.SetLeaderEpoch(w.epoch)
	w.batches = append(w.batches, modelBatch{slices.Clone(b), abort})
	w.end = b.End()
	w.logf("append at %d", base)
	if end, err := w.l.AppendAt(b); w.alive(err, "append at") {
		if end != w.end {
			w.fatalf("append at: end %d", end)
		}
		w.aborts(w.batches[len(w.batches)-1:])
	}
}

// splitSync does something between the beginning and the end of a sync.
func (w *world) splitSync() {
	s, err := w.l.BeginSync()
	if !w.alive(err, "begin sync") {
		return
	}
	w.logf("begin sync to %d", s.End())
	w.step()
	if w.clone != nil {
		return
	}
	// Whatever step did, opening anew included, may have made the sync void.
	ferr := s.Flush()
	if w.clone == nil && ferr == nil {
		if s.l == w.l {
			w.alive(w.l.FinishSync(s, nil), "finish sync")
			w.synced = max(w.synced, w.l.SyncedEnd())
		} else {
			s.release()
		}
	}
	w.logf("finish sync: %d", w.synced)
}

func (w *world) checkpoint() {
	m, err := w.l.BeginMark(w.snapshot())
	if !w.alive(err, "begin mark") {
		return
	}
	end := w.end
	w.logf("begin mark at %d", end)
	l := w.l
	if w.rng.IntN(3) == 0 {
		w.append()
	}
	if w.clone != nil {
		return
	}
	mark, err := m.Finish()
	if !w.alive(err, "mark") || l != w.l {
		return
	}
	w.synced = max(w.synced, w.l.SyncedEnd())
	if w.synced < end {
		w.fatalf("mark at %d, synced %d", end, w.synced)
	}
	if w.rng.IntN(5) > 0 {
		w.mark = mark
		w.keptStart = max(w.keptStart, mark.Start)
	}
	w.logf("mark %+v, kept %+v", mark, w.mark)
}

func (w *world) truncate() {
	if w.end == w.start {
		return
	}
	to := w.end - model.Offset(w.rng.Int64N(min(40, int64(w.end-w.start))+1))
	w.logf("truncate %d", to)
	w.pending.truncate = to
	if !w.alive(w.l.Truncate(to), "truncate") {
		return
	}
	w.pending.truncate = -1
	for len(w.batches) > 0 && w.batches[len(w.batches)-1].end() > to {
		w.batches = w.batches[:len(w.batches)-1]
	}
	end := w.l.End()
	if to < w.end && end > to || len(w.batches) > 0 && end < w.batches[len(w.batches)-1].end() {
		w.fatalf("truncate to %d: end %d", to, end)
	}
	w.end, w.start = end, w.l.Start()
	w.keptStart = min(w.keptStart, w.start)
	w.synced = w.l.SyncedEnd()
	if to < w.end && w.synced != w.end {
		w.fatalf("truncate: synced %d", w.synced)
	}
}

func (w *world) restart() {
	o := w.end + model.Offset(w.rng.IntN(200)-100)
	o = max(o, 0)
	w.logf("restart at %d", o)
	w.pending.restart = o
	if !w.alive(w.l.TruncateFullyAndStartAt(o), "restart") {
		return
	}
	w.pending.restart = -1
	w.batches = nil
	w.start, w.end, w.synced = o, o, o
	w.keptStart = o
}

func (w *world) setStart() {
	if w.end == w.start {
		return
	}
	o := w.start + model.Offset(w.rng.Int64N(int64(w.end-w.start)/4+1))
	w.logf("start %d", o)
	w.start = max(w.start, o)
	w.alive(w.l.SetStart(o), "set start")
}

func (w *world) retain() {
	r := Retention{Limit: w.synced, Bytes: int64(2000 + w.rng.IntN(20000))}
	w.logf("retain %+v", r)
	w.pending.start = w.synced
	n, err := w.l.Retain(time.UnixMilli(w.now), r)
	if !w.alive(err, "retain") {
		return
	}
	w.pending.start = -1
	w.start = w.l.Start()
	if n > 0 {
		w.keptStart = max(w.keptStart, w.l.mu.segments[0].base) // The directory itself says so.
		w.logf("retained: start %d", w.start)
	}
	_, err = w.l.DeleteExpired(time.UnixMilli(w.now), 0)
	w.alive(err, "delete")
}

// reopen opens the disk as it is, without a crash.
func (w *world) reopen() {
	w.start = max(w.keptStart, w.l.mu.segments[0].base)
	if w.open(); w.clone != nil {
		return
	}
	w.replay()
	if w.clone != nil {
		return
	}
	if w.l.End() != w.end || w.l.Start() != w.start {
		w.fatalf("reopened as [%d,%d)", w.l.Start(), w.l.End())
	}
	w.synced = w.l.SyncedEnd()
	w.check()
}

// replay does what the owner of producer state does: from the newest good
// snapshot, or from RecoveredFrom, on it notes the aborted transactions again.
func (w *world) replay() {
	at := w.l.Start()
	if o, ok := w.l.EmptyUntil(); ok {
		if w.snapshotAt(o) != nil {
			w.fatalf("empty until %d, but there were producers", o)
		}
		at = o
	}
	for below := w.l.RecoveredFrom(); ; {
		o, b, ok, err := w.l.LatestSnapshot(below)
		if !w.alive(err, "snapshot") {
			return
		}
		if !ok || o < at {
			break
		}
		if len(b) == 16 && binary.BigEndian.Uint32(b[12:]) == crc32.Checksum(b[:12], castagnoli) && binary.BigEndian.Uint64(b) == uint64(o) {
			if !bytes.Equal(b, w.snapshotAt(o)) {
				w.fatalf("snapshot at %d is of another history", o)
			}
			at = o
			break
		}
		below = o - 1
	}
	w.logf("replay from %d", at)
	err := w.l.Scan(at, func(b record.Batch) error {
		for _, m := range w.batches {
			if m.abort && m.first() == b.BaseOffset() && m.end() > at {
				return w.l.AppendAborted(abortOf(m))
			}
		}
		return nil
	})
	w.alive(err, "replay")
}

// crash takes what the crash left, opens it, and compares it with the model.
func (w *world) crash() {
	if w.clone == nil {
		w.clone = w.mem.CrashClone(w.rng)
	}
	for w.clone != nil { // Recovery may crash, too.
		w.mem, w.clone = w.clone, nil
		w.crashAt = 1 << 30
		if w.rng.IntN(3) == 0 {
			w.crashAt = 1 + w.rng.IntN(6)
		}
		if w.open(); w.clone != nil {
			w.logf("crashed during recovery")
			continue
		}
		w.recovered()
		if w.clone == nil {
			w.replay()
		}
	}
	w.crashAt = 1 << 30
	w.check()
}

func (w *world) recovered() {
	start, end := w.l.Start(), w.l.End()
	w.logf("recovered [%d,%d)", start, end)
	p := w.pending
	w.pending.truncate, w.pending.restart, w.pending.start = -1, -1, -1
	least := w.synced
	if p.truncate >= 0 {
		least = min(least, w.floorBatch(p.truncate))
	}
	lowest := w.keptStart
	if p.truncate >= 0 && p.truncate <= w.batchesFrom() {
		p.restart = p.truncate // Nothing was to be left.
	}
	if p.restart >= 0 && start == p.restart && end == p.restart {
		w.batches = nil
		w.start, w.end, w.synced, w.keptStart = start, end, end, start
		return
	}
	if p.truncate >= 0 {
		lowest = min(lowest, w.floorBatch(p.truncate)) // Cut at a batch, perhaps below the start.
	}
	if end < least || end > w.end {
		w.fatalf("recovered end %d, at least %d", end, least)
	}
	highest := max(w.start, p.start)
	if start < lowest || start > max(highest, lowest) {
		w.fatalf("recovered start %d, want %d to %d", start, lowest, highest)
	}
	for len(w.batches) > 0 && w.batches[len(w.batches)-1].end() > end {
		w.batches = w.batches[:len(w.batches)-1]
	}
	w.start, w.end, w.synced = start, end, w.l.SyncedEnd()
	w.keptStart = min(w.keptStart, start)
	if w.synced > end {
		w.fatalf("synced %d after recovery to %d", w.synced, end)
	}
	w.epoch = max(w.epoch, 0)
}

// batchesFrom is the base of the first segment at the latest: of what the model
// knows, the first batch.
func (w *world) batchesFrom() model.Offset {
	if len(w.batches) == 0 {
		return w.end
	}
	return max(w.start, w.batches[0].first())
}

// floorBatch is the end of the last batch wholly below an offset.
func (w *world) floorBatch(o model.Offset) model.Offset {
	end := model.Offset(0)
	for _, m := range w.batches {
		if m.end() <= o {
			end = m.end()
		}
	}
	return end
}

// check compares the log with the model.
func (w *world) check() {
	w.t.Helper()
	var want []byte
	var aborted []AbortedTxn
	for _, m := range w.batches {
		if m.end() > w.start {
			want = append(want, m.b...)
		}
		if m.abort && m.end() > w.start {
			aborted = append(aborted, abortOf(m))
		}
	}
	got := readAll(w.t, w.l, w.start, w.end, 1+w.rng.IntN(3000))
	if !bytes.Equal(got, want) {
		w.fatalf("log has %d bytes, model %d: %s", len(got), len(want), firstDifference(got, want))
	}
	verify(w.t, w.l)
	for rest := got; len(rest) > 0; {
		b, tail, err := record.Next(rest)
		if err != nil {
			w.fatalf("%v", err)
		}
		if e, err := w.l.EpochAt(max(b.BaseOffset(), w.start)); err != nil || e != b.LeaderEpoch() {
			w.fatalf("epoch at %d is %d, the batch has %d: %v", b.BaseOffset(), e, b.LeaderEpoch(), err)
		}
		rest = tail
	}
	has, err := w.l.Aborted(w.start, w.end)
	if err != nil || !slices.Equal(has, aborted) {
		w.fatalf("aborted %v, want %v: %v", has, aborted, err)
	}
}

func firstDifference(got, want []byte) string {
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	return fmt.Sprintf("first difference at byte %d", i)
}

func runWorld(t *testing.T, seed uint64, trace bool) {
	rng := rand.New(rand.NewPCG(seed, 7))
	w := &world{t: t, rng: rng, trace: trace, mem: vfs.NewMem(), now: 1000}
	w.pending.truncate, w.pending.restart, w.pending.start = -1, -1, -1
	if err := w.mem.MkdirAll("/d"); err != nil {
		t.Fatal(err)
	}
	w.mem.SyncDir("/")
	w.crashAt = 1 << 30
	w.open()
	for range 3 {
		w.crashAt = 1 + rng.IntN(60)
		for range 10 + rng.IntN(60) {
			if w.step(); w.clone != nil {
				break
			}
		}
		if w.clone == nil {
			w.check()
		}
		w.crash()
	}
}

// TestCrash runs random histories on a disk that loses power at a sync, a
// rename, a removal or a truncation, or between operations, recovers, and
// compares with what was acknowledged: everything below the synced end is there, the
// log is what was appended up to some batch, indexes, epochs, snapshots and
// aborted transactions agree with it.
func TestCrash(t *testing.T) {
	if *crashSeed > 0 {
		runWorld(t, *crashSeed, true)
		return
	}
	worlds := *crashSeeds
	if times, err := strconv.ParseUint(os.Getenv("BARNABAS_WORLDS"), 10, 16); err == nil {
		worlds *= times
	}
	for seed := uint64(1); seed <= worlds; seed++ {
		ok := t.Run("", func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("repeat with -run TestCrash -crash.seed=%d", seed)
				}
			}()
			runWorld(t, seed, false)
		})
		if !ok {
			return
		}
	}
}
