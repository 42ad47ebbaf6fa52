package commitlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

var testNow = time.UnixMilli(1_700_000_000_000)

// makeBatch builds a batch of n records whose payload is size bytes that this
// package never looks into.
func makeBatch(n int, size int, ts int64, seed byte) record.Batch {
	b := make(record.Batch, record.HeaderSize+size)
	binary.BigEndian.PutUint32(b[8:], uint32(len(b)-12))
	b[16] = record.MagicV2
	binary.BigEndian.PutUint32(b[23:], uint32(n-1))
	binary.BigEndian.PutUint64(b[27:], uint64(ts))
	binary.BigEndian.PutUint64(b[35:], uint64(ts))
	binary.BigEndian.PutUint64(b[43:], ^uint64(0))
	binary.BigEndian.PutUint16(b[51:], 0xffff)
	binary.BigEndian.PutUint32(b[53:], 0xffffffff)
	binary.BigEndian.PutUint32(b[57:], uint32(n))
	for i := record.HeaderSize; i < len(b); i++ {
		b[i] = seed + byte(i)
	}
	b.UpdateCRC()
	return b
}

func mustOpen(t testing.TB, fs vfs.FS, opts Options) *Log {
	t.Helper()
	if err := fs.MkdirAll("/d"); err != nil {
		t.Fatal(err)
	}
	l, err := Open(fs, "/d", opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func mustAppend(t testing.TB, l *Log, b []byte, epoch model.Epoch) (base, end model.Offset) {
	t.Helper()
	base, end, err := l.Append(b, epoch, testNow)
	if err != nil {
		t.Fatal(err)
	}
	return base, end
}

// readAll reads [from, limit) in pieces of at most max bytes and checks that
// views are whole batches.
func readAll(t testing.TB, l *Log, from, limit model.Offset, max int) []byte {
	t.Helper()
	var all []byte
	for {
		v, err := l.Read(from, limit, max, true)
		if err != nil {
			t.Fatalf("read %d: %v", from, err)
		}
		if v.Size() == 0 {
			v.Close()
			return all
		}
		b, err := v.Bytes(nil)
		v.Close()
		if err != nil {
			t.Fatal(err)
		}
		end, batches := model.Offset(0), 0
		for rest := b; len(rest) > 0; batches++ {
			batch, tail, err := record.Next(rest)
			if err != nil {
				t.Fatalf("view from %d is not whole batches: %v", from, err)
			}
			end, rest = batch.End(), tail
		}
		if v.End() < end || v.End() <= from {
			t.Fatalf("view from %d ends at %d, its batches at %d", from, v.End(), end)
		}
		if len(b) > max && batches > 1 {
			t.Fatalf("view of %d bytes for %d", len(b), max)
		}
		all = append(all, b...)
		from = v.End()
	}
}

func TestAppendRead(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	l := mustOpen(t, vfs.NewMem(), Options{SegmentBytes: 20_000, IndexInterval: 500})
	var all []byte
	var ends []model.Offset
	for i := range 300 {
		b := makeBatch(1+rng.IntN(9), rng.IntN(900), int64(i), byte(i))
		if rng.IntN(3) == 0 {
			b = append(b, makeBatch(2, 70, int64(i), 7)...)
		}
		base, end := mustAppend(t, l, b, 3)
		if len(ends) > 0 && base != ends[len(ends)-1] {
			t.Fatalf("append %d at %d, want %d", i, base, ends[len(ends)-1])
		}
		ends = append(ends, end)
		all = append(all, b...)
	}
	if l.Segments() < 5 {
		t.Fatalf("%d segments", l.Segments())
	}
	for _, max := range []int{1, 100, 1000, 5000, 1 << 20} {
		if got := readAll(t, l, 0, l.End(), max); !bytes.Equal(got, all) {
			t.Fatalf("max %d: read %d bytes, want %d", max, len(got), len(all))
		}
	}
	for range 500 {
		limit := ends[rng.IntN(len(ends))]
		from := model.Offset(rng.Int64N(int64(limit)))
		got := readAll(t, l, from, limit, 1+rng.IntN(4000))
		want := cutBatches(t, all, from, limit)
		if !bytes.Equal(got, want) {
			t.Fatalf("read [%d,%d): %d bytes, want %d", from, limit, len(got), len(want))
		}
	}
	if _, err := l.Read(l.End()+1, l.End()+2, 1, true); !errors.Is(err, ErrOutOfRange) {
		t.Fatalf("read behind the end: %v", err)
	}
	verify(t, l)
}

// cutBatches returns the batches of b that end after from and before limit.
func cutBatches(t testing.TB, b []byte, from, limit model.Offset) []byte {
	t.Helper()
	var out []byte
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		if err != nil {
			t.Fatal(err)
		}
		if batch.End() > from && batch.End() <= limit {
			out = append(out, batch...)
		}
		b = rest
	}
	return out
}

// verify checks that the indexes of every segment agree with its batches.
func verify(t testing.TB, l *Log) {
	t.Helper()
	l.append.Lock()
	defer l.append.Unlock()
	for i, s := range l.mu.segments {
		if err := l.loadIndexes(s); err != nil {
			t.Fatal(err)
		}
		positions := map[int64]model.Offset{}
		h, err := l.openFile(s)
		if err != nil {
			t.Fatal(err)
		}
		sc := newScanner(h, 0, s.size)
		next := s.base
		for sc.next() {
			if sc.header.BaseOffset() < next {
				t.Fatalf("segment %d: batch at %d after %d", s.base, sc.header.BaseOffset(), next)
			}
			next = sc.header.End()
			positions[sc.pos] = sc.header.LastOffset()
		}
		if sc.err != nil {
			t.Fatalf("segment %d: %v", s.base, sc.err)
		}
		sc.close()
		h.release()
		if i+1 < len(l.mu.segments) && next > l.mu.segments[i+1].base || i+1 == len(l.mu.segments) && next > l.mu.end {
			t.Fatalf("segment %d reaches to %d", s.base, next)
		}
		last := uint32(0)
		for n := range s.offsets.count() {
			var e [timeWidth]byte
			k := 0
			_, err := s.offsets.search(l.fs, &e, func([]byte) bool { k++; return false })
			if err != nil {
				t.Fatal(err)
			}
			entry(t, l, &s.offsets, n, &e)
			rel, pos := entryOffset(e[:])
			if got, ok := positions[int64(pos)]; !ok || got != s.base+model.Offset(rel) || rel < last {
				t.Fatalf("segment %d: index entry %d is %d at %d, the batch there ends at %d", s.base, n, rel, pos, got)
			}
			last = rel
		}
	}
}

func entry(t testing.TB, l *Log, x *sparse, n int, e *[timeWidth]byte) {
	t.Helper()
	if n >= x.inFile {
		copy(e[:], x.tail[(n-x.inFile)*x.width:][:x.width])
		return
	}
	f, err := l.fs.Open(x.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(e[:x.width], int64(n*x.width)); err != nil {
		t.Fatal(err)
	}
}

func TestReopen(t *testing.T) {
	fs := vfs.NewMem()
	opts := Options{SegmentBytes: 5000, IndexInterval: 300}
	l := mustOpen(t, fs, opts)
	var all []byte
	for i := range 60 {
		b := makeBatch(3, 200, int64(i), byte(i))
		mustAppend(t, l, b, 1)
		all = append(all, b...)
		if i == 40 {
			m, err := l.Checkpoint(nil)
			if err != nil {
				t.Fatal(err)
			}
			opts.Mark = m
		}
	}
	l.Close()
	for _, o := range []Options{opts, {SegmentBytes: 5000}, {Clean: true}} {
		l := mustOpen(t, fs, o)
		if l.End() != 180 {
			t.Fatalf("end %d", l.End())
		}
		if got := readAll(t, l, 0, l.End(), 1000); !bytes.Equal(got, all) {
			t.Fatalf("%d bytes, want %d", len(got), len(all))
		}
		verify(t, l)
		l.Close()
	}
}

func TestTruncate(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	fs := vfs.NewMem()
	l := mustOpen(t, fs, Options{SegmentBytes: 3000, IndexInterval: 300})
	var all []byte
	for i := range 400 {
		b := makeBatch(3, 100, int64(i), byte(i))
		_, end := mustAppend(t, l, b, model.Epoch(i/10))
		all = append(all, b...)
		if rng.IntN(10) == 0 {
			to := model.Offset(rng.Int64N(int64(end)))
			if err := l.Truncate(to); err != nil {
				t.Fatal(err)
			}
			if want := to / 3 * 3; l.End() != want {
				t.Fatalf("truncate to %d: end %d, want %d", to, l.End(), want)
			}
			all = cutBatches(t, all, 0, l.End())
			verify(t, l)
		}
		if got := readAll(t, l, 0, l.End(), 1000); !bytes.Equal(got, all) {
			t.Fatalf("step %d: %d bytes, want %d", i, len(got), len(all))
		}
	}
}
