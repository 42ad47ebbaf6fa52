package commitlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/record"
)

const (
	offsetWidth = 8  // int32 offset - base, int32 position.
	timeWidth   = 12 // int64 timestamp, int32 offset - base.
	// indexBlock is how much of an index is written at once.
	indexBlock = 4096
	// hotBlock is how much of it is read at once and remembered: 2048 entries
	// stand for at least 8 MiB of batches, so that a reader of 1 MiB views reads the
	// index once in eight.
	hotBlock = 2048 * offsetWidth
)

// sparse is a sorted file of fixed-size entries of which the newest may still
// be in memory. The file is not kept open: it is written once per block and
// read only when a reader's position is not known.
type sparse struct {
	path  string
	width int
	// inFile counts the entries in the file, unless unknown: then the file has
	// yet to be asked.
	inFile  int
	unknown bool
	// untrimmed says that the file may hold more than inFile entries: what
	// Kafka preallocated, or what was written before a crash.
	untrimmed bool
	// floor is the last timestamp in the file. Of a time index only, once
	// floorKnown.
	floor      int64
	floorKnown bool
	// tail is the encoded entries behind those in the file.
	tail []byte
	// hot is the block that was read last, beginning at entry hotFrom; never
	// changed, only replaced.
	hot     []byte
	hotFrom int
	// dirty says that the file was written and not synced.
	dirty bool
}

func (x *sparse) count() int { return x.inFile + len(x.tail)/x.width }

func (x *sparse) bytes() int { return x.count() * x.width }

// reset forgets all entries but the first n of the file. What is behind them in
// the file, and whatever an earlier owner did to it, is not durable.
func (x *sparse) reset(n int) {
	x.inFile, x.unknown, x.untrimmed, x.dirty = n, false, true, true
	x.tail, x.hot = nil, nil
	x.floorKnown = false
}

// loadFloor finds the last timestamp in the file of a time index.
func (x *sparse) loadFloor(fsys vfs.FS) error {
	if x.floorKnown {
		return nil
	}
	file := *x
	file.tail = nil
	var e [timeWidth]byte
	ok, err := file.last(fsys, &e)
	if err != nil {
		return err
	}
	x.floor, x.floorKnown = record.NoTimestamp, true
	if ok {
		x.floor, _ = entryTime(e[:])
	}
	return nil
}

// load asks the file how many entries it has. ok tells a sound entry from the
// zeros of a preallocated file and from garbage. A missing file is empty.
func (x *sparse) load(fsys vfs.FS, ok func(entry, before []byte) bool) error {
	if !x.unknown {
		return nil
	}
	f, err := fsys.Open(x.path)
	if errors.Is(err, fs.ErrNotExist) {
		x.inFile, x.unknown = 0, false
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	n, err := x.soundEntries(f, int(size/int64(x.width)), ok)
	if err != nil {
		return err
	}
	x.inFile, x.unknown = n, false
	x.untrimmed = int64(n*x.width) != size
	return nil
}

// soundEntries counts the entries of a file before its zeros. Entries behind
// the first of a sealed segment are not looked at: a lookup only ever names
// places from which headers are read and checked.
func (x *sparse) soundEntries(f vfs.File, n int, ok func(entry, before []byte) bool) (int, error) {
	if n == 0 {
		return 0, nil
	}
	var first, e [timeWidth]byte
	if _, err := f.ReadAt(first[:x.width], 0); err != nil {
		return 0, noEOF(err)
	}
	if !ok(first[:x.width], nil) {
		return 0, nil
	}
	lo, hi := 1, n // Entries below lo are sound; those from hi on are not.
	for probe := n - 1; lo < hi; probe = (lo + hi) / 2 {
		if _, err := f.ReadAt(e[:x.width], int64(probe*x.width)); err != nil {
			return 0, noEOF(err)
		}
		if ok(e[:x.width], first[:x.width]) {
			lo = probe + 1
		} else {
			hi = probe
		}
	}
	return lo, nil
}

// flush writes the tail to the file and gives the file its exact length. The
// caller holds append; mu, which guards what readers see, is taken only to
// publish the result.
func (x *sparse) flush(fsys vfs.FS, mu sync.Locker) error {
	if len(x.tail) == 0 && !x.untrimmed {
		return nil
	}
	if err := x.write(fsys); err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	x.dirty, x.untrimmed = true, false
	x.inFile = x.count()
	if n := len(x.tail); n > 0 && x.width == timeWidth {
		x.floor, _ = entryTime(x.tail[n-timeWidth:])
		x.floorKnown = true
	}
	x.tail = nil // Not reused: readers may hold it.
	return nil
}

func (x *sparse) write(fsys vfs.FS) error {
	f, err := fsys.OpenWrite(x.path)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = fsys.Create(x.path)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if len(x.tail) > 0 {
		if _, err := f.WriteAt(x.tail, int64(x.inFile*x.width)); err != nil {
			return err
		}
	}
	if x.untrimmed {
		return f.Truncate(int64(x.bytes()))
	}
	return nil
}

// syncFile makes a file durable. It is called without locks.
func syncFile(fsys vfs.FS, path string) error {
	f, err := fsys.OpenWrite(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // The segment went away meanwhile.
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// search returns how many entries come before the first one for which after is
// true, as sort.Search does, and copies the one before that into floor.
func (x *sparse) search(fsys vfs.FS, floor *[timeWidth]byte, after func(entry []byte) bool) (int, error) {
	inTail := len(x.tail) / x.width
	if inTail > 0 && !after(x.tail[:x.width]) {
		i := searchBlock(x.tail, x.width, after)
		copy(floor[:], x.tail[(i-1)*x.width:i*x.width])
		return x.inFile + i, nil
	}
	if x.inFile == 0 {
		return 0, nil
	}
	if n, ok := x.searchHot(floor, after); ok {
		return n, nil
	}
	f, err := fsys.Open(x.path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return x.searchFile(f, floor, after)
}

func (x *sparse) searchFile(f vfs.File, floor *[timeWidth]byte, after func(entry []byte) bool) (int, error) {
	var e [timeWidth]byte
	lo, hi := 0, x.inFile // The answer lies in [lo, hi].
	for (hi-lo)*x.width > hotBlock {
		mid := (lo + hi) / 2
		if _, err := f.ReadAt(e[:x.width], int64(mid*x.width)); err != nil {
			return 0, fmt.Errorf("commitlog: %s: %w", x.path, noEOF(err))
		}
		if after(e[:x.width]) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	from := max(lo-1, 0) // With the entry before, which may be the floor.
	to := max(hi, min(x.inFile, from+hotBlock/x.width))
	buf := make([]byte, (to-from)*x.width)
	if n, err := f.ReadAt(buf, int64(from*x.width)); n < len(buf) {
		return 0, fmt.Errorf("commitlog: %s: %w", x.path, noEOF(err))
	}
	x.hot, x.hotFrom = buf, from
	i := searchBlock(buf, x.width, after)
	if i > 0 {
		copy(floor[:], buf[(i-1)*x.width:i*x.width])
	}
	return from + i, nil
}

// searchHot searches the block that was read last, if the answer lies in it.
// The caller has looked into the tail: the answer is not there.
func (x *sparse) searchHot(floor *[timeWidth]byte, after func(entry []byte) bool) (int, bool) {
	n := len(x.hot) / x.width
	if n == 0 || after(x.hot[:x.width]) {
		return 0, false
	}
	last := x.hot[(n-1)*x.width:]
	if !after(last) && x.hotFrom+n != x.inFile {
		return 0, false
	}
	i := searchBlock(x.hot, x.width, after)
	copy(floor[:], x.hot[(i-1)*x.width:i*x.width])
	return x.hotFrom + i, true
}

func searchBlock(b []byte, width int, after func([]byte) bool) int {
	lo, hi := 0, len(b)/width
	for lo < hi {
		mid := (lo + hi) / 2
		if after(b[mid*width : (mid+1)*width]) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo
}

// last reads the newest entry into e; false if there is none.
func (x *sparse) last(fsys vfs.FS, e *[timeWidth]byte) (bool, error) {
	n, err := x.search(fsys, e, func([]byte) bool { return false })
	return n > 0, err
}

// truncate drops the entries from n on.
func (x *sparse) truncate(n int) {
	if n >= x.count() {
		return
	}
	x.untrimmed = true
	x.hot = nil
	if n > x.inFile {
		// A new slice: readers may hold the old one.
		x.tail = append([]byte(nil), x.tail[:(n-x.inFile)*x.width]...)
		return
	}
	x.inFile = n
	x.tail = nil
	x.floorKnown = false
}

// push adds an entry behind the others. The bytes below the old length stay as
// they are, because readers may hold them.
func (x *sparse) push(e []byte) { x.tail = append(x.tail, e...) }

func (x *sparse) pushOffset(rel, pos uint32) {
	var e [offsetWidth]byte
	binary.BigEndian.PutUint32(e[:], rel)
	binary.BigEndian.PutUint32(e[4:], pos)
	x.push(e[:])
}

func (x *sparse) pushTime(ts int64, rel uint32) {
	var e [timeWidth]byte
	binary.BigEndian.PutUint64(e[:], uint64(ts))
	binary.BigEndian.PutUint32(e[8:], rel)
	x.push(e[:])
}

func entryOffset(e []byte) (rel, pos uint32) {
	return binary.BigEndian.Uint32(e), binary.BigEndian.Uint32(e[4:])
}

func entryTime(e []byte) (ts int64, rel uint32) {
	return int64(binary.BigEndian.Uint64(e)), binary.BigEndian.Uint32(e[8:])
}

// soundOffset tells an entry of an offset index from zeros: no entry names
// position 0, because the first batch is never indexed.
func soundOffset(e, first []byte) bool {
	_, pos := entryOffset(e)
	if first == nil {
		return pos != 0
	}
	rel, _ := entryOffset(e)
	rel0, pos0 := entryOffset(first)
	return pos > pos0 && rel > rel0 || (rel == rel0 && pos == pos0)
}

// soundTime tells an entry of a time index from zeros.
func soundTime(e, first []byte) bool {
	ts, _ := entryTime(e)
	if first == nil {
		return ts > 0
	}
	ts0, _ := entryTime(first)
	return ts >= ts0
}

// noEOF turns the end of a file that should go on into an error that says so.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
