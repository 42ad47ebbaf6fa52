package commitlog

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

func TestOffsetMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	m, err := NewOffsetMap(2000*slotBytes, 0.9)
	if err != nil {
		t.Fatal(err)
	}
	for _, keys := range []int64{1, 10, 1000, 1 << 40} {
		m.Reset(keys)
		want := map[string]model.Offset{}
		full := false
		for o := range model.Offset(6000) {
			k := fmt.Sprint(rng.Int64N(min(keys, 4000)))
			_, known := want[k]
			if ok := m.Put([]byte(k), o); ok {
				want[k] = o
			} else if known || len(want) < 1800 {
				t.Fatalf("%d keys, %d known: no room for %s", keys, len(want), k)
			} else {
				full = true
			}
		}
		for k := range 4000 {
			o, ok := want[fmt.Sprint(k)]
			if !ok {
				o = model.NoOffset
			}
			if got := m.Get(fmt.Append(nil, k)); got != o {
				t.Fatalf("%d keys: key %d is at %d, want %d", keys, k, got, o)
			}
		}
		if full != (keys > 2000) || len(want) > 1800 || len(m.slots) > 2000 {
			t.Errorf("%d keys: %d known, %d slots, full %v", keys, len(want), len(m.slots), full)
		}
	}
	if m.Get([]byte{}) != model.NoOffset || m.Use() != 1 {
		t.Error("use", m.Use())
	}
	m.Release()
	if m.Get([]byte("1")) != model.NoOffset {
		t.Error("a key in a map without memory")
	}
	for _, bytes := range []int64{0, slotBytes, -1} {
		if _, err := NewOffsetMap(bytes, 0.9); err == nil {
			t.Errorf("a map of %d bytes", bytes)
		}
	}
	if _, err := NewOffsetMap(1000, 0); err == nil {
		t.Error("a map that may not be filled")
	}
}

// TestOffsetMapMemory holds the memory to what was said, whatever is asked.
func TestOffsetMapMemory(t *testing.T) {
	m, err := NewOffsetMap(1<<20, 0.9)
	if err != nil {
		t.Fatal(err)
	}
	m.Reset(1 << 60)
	if got := cap(m.slots) * slotBytes; got > 1<<20 {
		t.Errorf("%d bytes", got)
	}
	m.Reset(100)
	if len(m.slots) > 120 {
		t.Errorf("%d slots for 100 keys", len(m.slots))
	}
}

// keyed builds a batch of "key=value" records; "key" alone is a tombstone.
func keyed(t testing.TB, o record.BuilderOptions, ts int64, items ...string) record.Batch {
	t.Helper()
	b := record.NewBuilder(o)
	for _, item := range items {
		k, v, ok := strings.Cut(item, "=")
		r := record.Record{Timestamp: ts, Key: []byte(k)}
		if ok {
			r.Value = []byte(v)
		}
		if k == "" {
			r.Key = nil
		}
		if err := b.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	_, out, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// put appends batches of one record each and seals their segment.
func put(t testing.TB, l *Log, items ...string) {
	t.Helper()
	for _, item := range items {
		mustAppend(t, l, keyed(t, record.BuilderOptions{}, 1000, item), 0)
	}
	seal(t, l)
}

func seal(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Roll(); err != nil {
		t.Fatal(err)
	}
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
}

func cleanOptions(t testing.TB, l *Log, change ...func(*CleanOptions)) CleanOptions {
	t.Helper()
	m, err := NewOffsetMap(1<<20, 0.9)
	if err != nil {
		t.Fatal(err)
	}
	o := CleanOptions{
		CleanScope: CleanScope{From: model.NoOffset, Limit: l.End(), Mark: anyMark(l)}, Committed: l.End(),
		Now: testNow, DeleteRetention: time.Hour, Map: m,
	}
	for _, f := range change {
		f(&o)
	}
	return o
}

// anyMark is a mark that allows everything.
func anyMark(l *Log) Mark {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Mark{Segment: 1<<63 - 1, Generation: l.mu.generation}
}

func mustClean(t testing.TB, l *Log, change ...func(*CleanOptions)) Cleaned {
	t.Helper()
	done, err := l.Clean(t.Context(), cleanOptions(t, l, change...))
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func at(now time.Time) func(*CleanOptions) { return func(o *CleanOptions) { o.Now = now } }

// contents lists the records of a log as offset:key=value, markers as
// offset:marker, batches without a record as [base,end).
func contents(t testing.TB, l *Log) string {
	t.Helper()
	var out []string
	b := readAll(t, l, l.Start(), l.End(), 1<<20)
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		if err != nil {
			t.Fatal(err)
		}
		b = rest
		if batch.Count() == 0 {
			out = append(out, fmt.Sprintf("[%d,%d)", batch.BaseOffset(), batch.End()))
		}
		for r, err := range batch.Records(0) {
			switch {
			case err != nil:
				t.Fatal(err)
			case batch.IsControl():
				out = append(out, fmt.Sprintf("%d:marker", r.Offset))
			case r.Value == nil:
				out = append(out, fmt.Sprintf("%d:%s", r.Offset, r.Key))
			default:
				out = append(out, fmt.Sprintf("%d:%s=%s", r.Offset, r.Key, r.Value))
			}
		}
	}
	return strings.Join(out, " ")
}

func expect(t testing.TB, l *Log, want string) {
	t.Helper()
	if got := contents(t, l); got != want {
		t.Errorf("log has %s\n   want %s", got, want)
	}
}

func names(t testing.TB, fsys vfs.FS) []string {
	t.Helper()
	infos, err := fsys.ReadDir("/d")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, i := range infos {
		list = append(list, i.Name)
	}
	return list
}

// TestClean follows a log through the passes of its life.
func TestClean(t *testing.T) {
	mem := vfs.NewMem()
	l := mustOpen(t, mem, Options{})
	put(t, l, "a=1", "b=1", "a=2", "c=1")
	put(t, l, "b=2", "c", "d=1")
	mustAppend(t, l, keyed(t, record.BuilderOptions{}, 1000, "a=3"), 0)
	done := mustClean(t, l)
	// The active segment is not cleaned: a=3 does not count yet.
	expect(t, l, "2:a=2 4:b=2 5:c 6:d=1 7:a=3")
	if done.End != 7 || done.Replaced != 2 || l.Segments() != 2 || done.RecordsRead != 7 || done.RecordsKept != 4 || done.Freed <= 0 {
		t.Errorf("%+v, %d segments", done, l.Segments())
	}
	// Another pass finds nothing: the tombstone's time has not come.
	done = mustClean(t, l, func(o *CleanOptions) { o.From = done.End })
	if done.BytesRead != 0 {
		t.Errorf("%+v", done)
	}
	seal(t, l)
	done = mustClean(t, l, at(testNow.Add(time.Hour-time.Millisecond)), func(o *CleanOptions) { o.From = 7 })
	expect(t, l, "4:b=2 5:c 6:d=1 7:a=3")
	if done.End != 8 || l.Segments() != 2 {
		t.Errorf("%+v, %d segments", done, l.Segments())
	}
	put(t, l, "b=3")
	mustClean(t, l, at(testNow.Add(time.Hour)), func(o *CleanOptions) { o.From = 8 })
	expect(t, l, "6:d=1 7:a=3 8:b=3")
	if n, err := l.DeleteExpired(testNow.Add(2*time.Hour), time.Hour); n != 0 || err != nil {
		t.Error(n, err)
	}
	l.Close()
	for _, name := range names(t, mem) {
		if strings.Contains(name, "deleted") || strings.Contains(name, "cleaned") || strings.Contains(name, "swap") {
			t.Errorf("%s is left", name)
		}
	}
	l = mustOpen(t, mem, Options{Foreign: true})
	expect(t, l, "6:d=1 7:a=3 8:b=3")
	verify(t, l)
}

// TestCleanTransactions: aborted records go at once; markers stay until their
// records are gone and their time has come.
func TestCleanTransactions(t *testing.T) {
	l := mustOpen(t, vfs.NewMem(), Options{})
	txn := func(id model.ProducerID) record.BuilderOptions {
		return record.BuilderOptions{Producer: &record.Producer{ID: id}, Transactional: true}
	}
	mustAppend(t, l, keyed(t, txn(1), 1000, "a=1", "b=1"), 0)              // 0, 1
	mustAppend(t, l, keyed(t, txn(2), 1000, "a=2", "c=1"), 0)              // 2, 3
	mustAppend(t, l, record.EndTxnMarker(2, 0, 0, record.Commit, 1000), 0) // 4
	mustAppend(t, l, record.EndTxnMarker(1, 0, 0, record.Abort, 1000), 0)  // 5
	if err := l.AppendAborted(AbortedTxn{ProducerID: 1, First: 0, Last: 5, LastStable: 6}); err != nil {
		t.Fatal(err)
	}
	seal(t, l)
	producers := func(o *CleanOptions) {
		o.Producers = func() map[model.ProducerID]LastBatch { return map[model.ProducerID]LastBatch{2: {Offset: 3}} }
	}
	mustClean(t, l, producers)
	expect(t, l, "2:a=2 3:c=1 4:marker 5:marker")
	list, err := l.Aborted(0, l.End())
	if err != nil || len(list) != 1 {
		t.Error(list, err)
	}
	// Now nothing is left of the aborted one: its marker gets a horizon, and its
	// line in the index goes.
	mustClean(t, l, producers)
	if list, err = l.Aborted(0, l.End()); err != nil || len(list) != 0 {
		t.Error(list, err)
	}
	put(t, l, "a=3", "c=2")
	// All records of the committed one go; its batch stays for its sequence, and
	// with it the marker.
	mustClean(t, l, producers, at(testNow.Add(time.Hour-1)))
	expect(t, l, "[2,4) 4:marker 5:marker 6:a=3 7:c=2")
	mustClean(t, l, producers, at(testNow.Add(time.Hour)))
	expect(t, l, "[2,4) 4:marker 6:a=3 7:c=2")
	// The producer is forgotten: its batch goes, and the marker gets a horizon.
	mustClean(t, l, at(testNow.Add(2*time.Hour)))
	expect(t, l, "4:marker 6:a=3 7:c=2")
	mustClean(t, l, at(testNow.Add(2*time.Hour)))
	expect(t, l, "4:marker 6:a=3 7:c=2")
	mustClean(t, l, at(testNow.Add(3*time.Hour)))
	expect(t, l, "6:a=3 7:c=2")
	// A marker with the last epoch of a producer that has no batch stays.
	mustAppend(t, l, record.EndTxnMarker(9, 4, 0, record.Commit, 1000), 0)
	put(t, l, "x=1")
	epoch := func(o *CleanOptions) {
		o.DeleteRetention = 0
		o.Producers = func() map[model.ProducerID]LastBatch {
			return map[model.ProducerID]LastBatch{9: {Offset: -1, Epoch: 4}}
		}
	}
	mustClean(t, l, epoch)
	mustClean(t, l, epoch)
	expect(t, l, "6:a=3 7:c=2 [8,9) 9:x=1")
}

// TestCleanKeepsTheEnd: the batch that ends at the commit point stays, if empty.
func TestCleanKeepsTheEnd(t *testing.T) {
	l := mustOpen(t, vfs.NewMem(), Options{})
	put(t, l, "a=1", "a")
	mustClean(t, l, func(o *CleanOptions) { o.DeleteRetention = 0 })
	mustClean(t, l, func(o *CleanOptions) { o.DeleteRetention = 0 })
	expect(t, l, "[1,2)")
	put(t, l, "b=1")
	mustClean(t, l)
	expect(t, l, "2:b=1")
}

// TestCleanNeverHorizon: a retention for ever sets no horizon.
func TestCleanNeverHorizon(t *testing.T) {
	l := mustOpen(t, vfs.NewMem(), Options{})
	put(t, l, "a=1", "a")
	forever := func(o *CleanOptions) { o.DeleteRetention = 1<<63 - 1 }
	mustClean(t, l, forever)
	mustClean(t, l, forever, at(testNow.Add(1e6*time.Hour)))
	expect(t, l, "1:a")
}

// TestCleanSmallMap reaches the end in many passes whose map holds few keys.
func TestCleanSmallMap(t *testing.T) {
	l := mustOpen(t, vfs.NewMem(), Options{SegmentBytes: 600})
	for i := range 60 {
		mustAppend(t, l, keyed(t, record.BuilderOptions{}, 1000, fmt.Sprintf("k%d=1", i%20), fmt.Sprintf("k%d=2", (i*7)%20)), 0)
	}
	seal(t, l)
	from, passes := model.NoOffset, 0
	for from < l.End() {
		m, err := NewOffsetMap(5*slotBytes, 0.9)
		if err != nil {
			t.Fatal(err)
		}
		done := mustClean(t, l, func(o *CleanOptions) { o.From, o.Map = from, m })
		if done.End <= from {
			t.Fatalf("no progress: %+v", done)
		}
		from = done.End
		if passes++; passes > 200 {
			t.Fatal("no end")
		}
	}
	if got := strings.Count(contents(t, l), "="); got != 20 || passes < 3 {
		t.Errorf("%d records after %d passes", got, passes)
	}
	verify(t, l)
}

// TestCleanWritesOnlyChanges: of a segment that stays as it is nothing is
// written; of one that changes late, the beginning is copied.
func TestCleanWritesOnlyChanges(t *testing.T) {
	writes := 0
	fsys := vfs.NewFaulty(vfs.NewMem(), func(o vfs.Op) error {
		if o.Kind == vfs.OpWrite && strings.HasSuffix(o.Path, cleanedSuffix) {
			writes++
		}
		return nil
	})
	l := mustOpen(t, fsys, Options{SegmentBytes: 400})
	for i := range 30 {
		mustAppend(t, l, keyed(t, record.BuilderOptions{}, 1000, fmt.Sprintf("k%d=%0*d", i, i, 0)), 0)
	}
	seal(t, l)
	before := contents(t, l)
	if done := mustClean(t, l); done.Replaced != 0 || done.BytesWritten != 0 || writes != 0 || done.BytesRead == 0 {
		t.Errorf("%+v, %d writes", done, writes)
	}
	put(t, l, "k17=new", "k29=new")
	done := mustClean(t, l, func(o *CleanOptions) { o.From = 30; o.BufferBytes = 100 })
	if done.Replaced == 0 || done.Replaced > 4 || writes == 0 {
		t.Errorf("%+v, %d writes", done, writes)
	}
	want := strings.Replace(before, " 17:k17="+strings.Repeat("0", 17), "", 1)
	want = strings.Replace(want, " 29:k29="+strings.Repeat("0", 29), "", 1)
	expect(t, l, want+" 30:k17=new 31:k29=new")
	verify(t, l)
}

// TestCleanMerges: small segments become one, up to the size of a segment.
func TestCleanMerges(t *testing.T) {
	mem := vfs.NewMem()
	l := mustOpen(t, mem, Options{SegmentBytes: 1000})
	for i := range 40 {
		put(t, l, fmt.Sprintf("k%d=%0*d", i, 50, i))
	}
	mem.SetTime(77)
	mustClean(t, l)
	if n := l.Segments(); n < 5 || n > 8 {
		t.Errorf("%d segments", n)
	}
	for _, s := range l.mu.segments {
		if s.size > 1000 {
			t.Errorf("segment of %d bytes", s.size)
		}
	}
	info, err := mem.Stat("/d/" + FileName(0, logSuffix))
	if err != nil || info.ModTime == 77 {
		t.Errorf("the file's time is not that of its originals: %+v %v", info, err)
	}
	verify(t, l)
}

// TestDirt measures the parts of a log as Kafka does.
func TestDirt(t *testing.T) {
	l := mustOpen(t, vfs.NewMem(), Options{})
	sizes := []int64{}
	for i, ts := range []int64{100, 200, 300} {
		mustAppend(t, l, keyed(t, record.BuilderOptions{}, ts, fmt.Sprintf("k=%0*d", 10*i, 0), "x=1"), 0)
		sizes = append(sizes, l.Size())
		seal(t, l)
	}
	mustAppend(t, l, keyed(t, record.BuilderOptions{}, 400, "k=active"), 0)
	f := func(from, limit model.Offset, now int64, minLag time.Duration, want Dirt) {
		t.Helper()
		d, err := l.Dirt(CleanScope{from, limit, anyMark(l)}, time.UnixMilli(now), minLag, true)
		if err != nil || d != want {
			t.Errorf("from %d to %d: %+v %v, want %+v", from, limit, d, err, want)
		}
	}
	f(-1, 7, 1000, 0, Dirt{0, 6, 0, sizes[2], 100})
	f(0, 7, 1000, 0, Dirt{0, 6, 0, sizes[2], 100})
	f(2, 7, 1000, 0, Dirt{2, 6, sizes[0], sizes[2] - sizes[0], 200})
	f(3, 7, 1000, 0, Dirt{3, 6, sizes[1], sizes[2] - sizes[0], 200}) // The segment in the middle counts for both.
	f(0, 5, 1000, 0, Dirt{0, 4, 0, sizes[1], 100})
	f(6, 7, 1000, 0, Dirt{6, 6, sizes[2], 0, -1})
	f(0, 7, 1000, 800*time.Millisecond, Dirt{0, 4, 0, sizes[1], 100})
	f(0, 7, 1000, 801*time.Millisecond, Dirt{0, 2, 0, sizes[0], 100})
	f(0, 7, 1000, 901*time.Millisecond, Dirt{0, 0, 0, 0, 100})
	if r := (Dirt{Clean: 30, Dirty: 10}).Ratio(); r != 0.25 {
		t.Error(r)
	}
	if r := (Dirt{}).Ratio(); r != 0 {
		t.Error(r)
	}
}

// TestInterruptedSwap opens directories as Kafka's cleaner, or ours, may leave
// them when it is killed, and finds in them what LogLoader of Kafka 4.4.0 does.
func TestInterruptedSwap(t *testing.T) {
	old := map[model.Offset]string{0: "a=1 b=1", 2: "a=2 c=1", 4: "b=2"}
	f := func(name string, files []string, want string) {
		t.Helper()
		mem := vfs.NewMem()
		if err := mem.MkdirAll("/d"); err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			base, suffix, _ := ParseFileName(file)
			var b []byte
			if strings.HasPrefix(suffix, logSuffix) {
				b = segmentBytes(t, base, old[base])
				if last := filepath.Ext(suffix); last == swapSuffix || last == cleanedSuffix {
					b = segmentBytes(t, base, "", "", "a=2 c=1") // Its batch at 2.
				}
			}
			writeFile(t, mem, file, b)
		}
		writeFile(t, mem, FileName(6, logSuffix), segmentBytes(t, 6, "d=1"))
		l := mustOpen(t, mem, Options{Clean: true, Foreign: true})
		if got := contents(t, l); got != want {
			t.Errorf("%s: %s\nwant %s", name, got, want)
		}
		for _, n := range names(t, mem) {
			if _, suffix, ok := ParseFileName(n); ok && strings.Count(suffix, ".") > 1 {
				t.Errorf("%s: %s is left", name, n)
			}
		}
		l.Close()
	}
	log, index := func(o model.Offset) string { return FileName(o, logSuffix) }, func(o model.Offset) string { return FileName(o, indexSuffix) }
	const before, after = "0:a=1 1:b=1 2:a=2 3:c=1 4:b=2 6:d=1", "2:a=2 3:c=1 4:b=2 6:d=1"
	f("unfinished", []string{log(0), log(2), log(4), log(0) + cleanedSuffix, index(0) + cleanedSuffix}, before)
	f("half renamed", []string{log(0), log(2), log(4), log(0) + swapSuffix, index(0) + cleanedSuffix}, before)
	f("index renamed", []string{log(0), log(2), log(4), log(0) + cleanedSuffix, index(0) + swapSuffix}, before)
	f("complete", []string{log(0), index(0), log(2), log(4), log(0) + swapSuffix, index(0) + swapSuffix}, after)
	f("first retired", []string{log(0) + deletedSuffix, index(0), log(2), log(4), log(0) + swapSuffix, index(0) + swapSuffix}, after)
	f("all retired", []string{log(0) + deletedSuffix, log(2) + deletedSuffix, log(4), log(0) + swapSuffix, index(0) + swapSuffix}, after)
	f("log named", []string{log(2) + deletedSuffix, log(4), log(0) + swapSuffix}, after)
	f("swap behind an unfinished one", []string{log(0), log(2), log(4), log(0) + cleanedSuffix, log(2) + swapSuffix}, before)
	f("swap before an unfinished one", []string{log(0), log(2), log(4), log(0) + swapSuffix, log(4) + cleanedSuffix}, after)
}

// segmentBytes is a segment at base with a batch for each text of records.
func segmentBytes(t *testing.T, base model.Offset, batches ...string) []byte {
	t.Helper()
	var b []byte
	for i, text := range batches {
		if text == "" {
			continue
		}
		batch := keyed(t, record.BuilderOptions{BaseOffset: base + model.Offset(i)}, 5, strings.Fields(text)...)
		b = append(b, batch...)
	}
	return b
}

func writeFile(t *testing.T, fsys vfs.FS, name string, b []byte) {
	t.Helper()
	f, err := fsys.Create("/d/" + name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(b, 0); err != nil && !errors.Is(err, fs.ErrInvalid) {
		t.Fatal(err)
	}
	f.Close()
}
