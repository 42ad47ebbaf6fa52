package commitlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// The functions in this file read a directory without opening it as a log: they
// change nothing, whoever owns it.

// maxIndexFile bounds what is read of an index: positions have 31 bits, and
// Kafka allows no larger index than that.
const maxIndexFile = 1<<31 - 1

// Damage says where a file stops being what it should be.
type Damage struct {
	File     string
	Position int64
	Err      error
}

// Error implements error.
func (d *Damage) Error() string { return fmt.Sprintf("%s: byte %d: %v", d.File, d.Position, d.Err) }

// Unwrap returns the reason.
func (d *Damage) Unwrap() error { return d.Err }

// IndexEntry is one entry of a .index: the batch that ends with Offset begins
// at Position.
type IndexEntry struct {
	Offset   model.Offset
	Position int64
}

// TimeEntry is one entry of a .timeindex: no record up to Offset is later than
// Timestamp.
type TimeEntry struct {
	Timestamp int64
	Offset    model.Offset
}

// ParseIndex reads a .index of the segment at base. The zeros of a preallocated
// file are left out.
func ParseIndex(b []byte, base model.Offset) []IndexEntry {
	var list []IndexEntry
	for ; len(b) >= offsetWidth && soundOffset(b[:offsetWidth], nil); b = b[offsetWidth:] {
		rel, pos := entryOffset(b)
		list = append(list, IndexEntry{base + model.Offset(rel), int64(pos)})
	}
	return list
}

// ParseTimeIndex reads a .timeindex of the segment at base. The zeros of a
// preallocated file are left out.
func ParseTimeIndex(b []byte, base model.Offset) []TimeEntry {
	var list []TimeEntry
	for ; len(b) >= timeWidth && binary.BigEndian.Uint64(b) != 0; b = b[timeWidth:] {
		ts, rel := entryTime(b)
		list = append(list, TimeEntry{ts, base + model.Offset(rel)})
	}
	return list
}

// EachBatch calls each with every batch of a .log and its position. The batch
// is valid during the call only. The first byte that cannot belong to a whole
// batch ends it with a *Damage; wrong checksums and offsets are for each to
// judge. An error of each is returned as it is.
func EachBatch(fsys vfs.FS, path string, each func(pos int64, b record.Batch) error) error {
	f, err := fsys.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return err
	}
	sc := newScanner(f, 0, size)
	defer sc.close()
	var buf []byte
	for sc.next() {
		if int64(cap(buf)) < sc.size {
			buf = make([]byte, sc.size)
		}
		buf = buf[:sc.size]
		if n, err := f.ReadAt(buf, sc.pos); n < len(buf) {
			return noEOF(err)
		}
		if err := each(sc.pos, record.Batch(buf)); err != nil {
			return err
		}
	}
	if sc.err != nil {
		return &Damage{filepath.Base(path), sc.pos, sc.err}
	}
	return nil
}

// Report is what Verify found.
type Report struct {
	Segments, Batches, Records, Bytes int64
	// Start and End are the offsets of the first segment and after the last
	// batch.
	Start, End model.Offset
	// Problems are in the order of the files; at most maxProblems of them.
	Problems []*Damage
}

// maxProblems is how many problems of one directory are reported: enough to see
// what happened.
const maxProblems = 100

func (r *Report) problem(file string, pos int64, format string, args ...any) {
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, &Damage{file, pos, fmt.Errorf(format, args...)})
	}
}

// Verify reads all of a log directory, ours or Kafka's: lengths, checksums and
// order of the batches, their records, and whether indexes, aborted
// transactions and epochs agree with them. The error is of the disk; what is
// wrong with the files is in the report.
func Verify(fsys vfs.FS, dir string) (*Report, error) {
	l := &Log{fs: fsys, dir: dir}
	ls, err := l.list()
	if err != nil {
		return nil, err
	}
	r := &Report{}
	v := &verifier{fs: fsys, dir: dir, r: r, maxRecords: record.DefaultMaxDecompressed}
	if err := v.loadEpochs(); err != nil {
		return nil, err
	}
	if len(ls.logs) > 0 {
		r.Start, r.End = ls.logs[0], ls.logs[0]
	}
	for i, base := range ls.logs {
		v.limit = 1<<63 - 1
		if i+1 < len(ls.logs) {
			v.limit = ls.logs[i+1]
		}
		if err := v.segment(base); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// verifier walks one segment after the other; the fields below the line are
// those of the segment.
type verifier struct {
	fs         vfs.FS
	dir        string
	r          *Report
	epochs     []EpochStart
	maxRecords int

	base, next, limit model.Offset
	log               string
	offsets           []IndexEntry
	times             []TimeEntry
	txns              []AbortedTxn
	maxTime           int64
}

func (v *verifier) loadEpochs() error {
	b, err := v.read(EpochFile)
	if err != nil || b == nil {
		return err
	}
	if v.epochs, err = ParseEpochs(b); err != nil {
		v.r.problem(EpochFile, 0, "%w", err)
	}
	for i := 1; i < len(v.epochs); i++ {
		if a, b := v.epochs[i-1], v.epochs[i]; a.Epoch >= b.Epoch || a.Start >= b.Start {
			v.r.problem(EpochFile, 0, "epoch %d from %d after epoch %d from %d", b.Epoch, b.Start, a.Epoch, a.Start)
		}
	}
	return nil
}

// read returns the content of a file, nil if it is missing.
func (v *verifier) read(name string) ([]byte, error) {
	b, err := vfs.ReadFile(v.fs, filepath.Join(v.dir, name), maxIndexFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

func (v *verifier) segment(base model.Offset) error {
	v.base, v.next, v.log, v.maxTime = base, base, FileName(base, logSuffix), record.NoTimestamp
	if err := v.loadIndexes(); err != nil {
		return err
	}
	end := int64(0)
	err := EachBatch(v.fs, filepath.Join(v.dir, v.log), func(pos int64, b record.Batch) error {
		v.batch(pos, b)
		end = pos + int64(len(b))
		return nil
	})
	var damage *Damage
	if errors.As(err, &damage) {
		v.r.Problems = append(v.r.Problems, damage)
	} else if err != nil {
		return err
	}
	v.r.Segments++
	v.r.Bytes += end
	v.r.End = max(v.r.End, v.next)
	for _, e := range v.offsets {
		v.r.problem(FileName(base, indexSuffix), 0, "entry for offset %d at %d: the log ends at %d", e.Offset, e.Position, end)
	}
	for _, e := range v.times {
		v.timeEntry(e)
	}
	for _, t := range v.txns {
		v.r.problem(FileName(base, txnSuffix), 0, "aborted transaction of producer %d: no marker at %d", t.ProducerID, t.Last)
	}
	return nil
}

func (v *verifier) loadIndexes() error {
	b, err := v.read(FileName(v.base, indexSuffix))
	if err != nil {
		return err
	}
	v.offsets = ParseIndex(b, v.base)
	ordered(v.r, FileName(v.base, indexSuffix), v.offsets, func(a, b IndexEntry) bool {
		return a.Offset < b.Offset && a.Position < b.Position
	})
	if b, err = v.read(FileName(v.base, timeSuffix)); err != nil {
		return err
	}
	v.times = ParseTimeIndex(b, v.base)
	ordered(v.r, FileName(v.base, timeSuffix), v.times, func(a, b TimeEntry) bool {
		return a.Timestamp < b.Timestamp && a.Offset <= b.Offset
	})
	if b, err = v.read(FileName(v.base, txnSuffix)); err != nil {
		return err
	}
	if v.txns, err = ParseAborted(b); err != nil {
		v.r.problem(FileName(v.base, txnSuffix), 0, "%w", err)
	}
	if n := len(b) % txnWidth; n != 0 {
		v.r.problem(FileName(v.base, txnSuffix), int64(len(b)-n), "%d bytes are not an entry", n)
	}
	ordered(v.r, FileName(v.base, txnSuffix), v.txns, func(a, b AbortedTxn) bool { return a.Last < b.Last })
	return nil
}

func ordered[E any](r *Report, file string, list []E, less func(a, b E) bool) {
	for i := 1; i < len(list); i++ {
		if !less(list[i-1], list[i]) {
			r.problem(file, 0, "entry %d, %+v, follows %+v", i, list[i], list[i-1])
		}
	}
}

func (v *verifier) batch(pos int64, b record.Batch) {
	v.r.Batches++
	v.r.Records += int64(b.Count())
	if crc := b.ComputeCRC(); crc != b.CRC() {
		v.r.problem(v.log, pos, "batch at offset %d: checksum %08x, stored %08x", b.BaseOffset(), crc, b.CRC())
	} else {
		v.records(pos, b)
	}
	if b.BaseOffset() < v.next || b.LastOffset() < b.BaseOffset() || b.LastOffset() >= v.limit || b.LastOffset()-v.base > maxRelative {
		v.r.problem(v.log, pos, "batch of offsets %d to %d after %d, in a segment of %d to %d", b.BaseOffset(), b.LastOffset(), v.next-1, v.base, v.limit-1)
	}
	v.next = max(v.next, b.End())
	v.epoch(pos, b)
	for len(v.offsets) > 0 && v.offsets[0].Position <= pos {
		if e := v.offsets[0]; e.Position < pos || e.Offset < b.BaseOffset() {
			v.r.problem(FileName(v.base, indexSuffix), 0, "entry for offset %d at %d: the batch at %d begins with offset %d", e.Offset, e.Position, pos, b.BaseOffset())
		}
		v.offsets = v.offsets[1:]
	}
	for len(v.times) > 0 && v.times[0].Offset < b.LastOffset() {
		v.timeEntry(v.times[0])
		v.times = v.times[1:]
	}
	v.maxTime = max(v.maxTime, b.MaxTimestamp())
	for len(v.txns) > 0 && v.txns[0].Last <= b.LastOffset() {
		t := v.txns[0]
		if c, err := b.Control(); t.Last < b.BaseOffset() || t.First >= t.Last || err != nil || c.Type != record.Abort || b.ProducerID() != t.ProducerID {
			v.r.problem(FileName(v.base, txnSuffix), 0, "%+v: no abort marker there", t)
		}
		v.txns = v.txns[1:]
	}
}

func (v *verifier) timeEntry(e TimeEntry) {
	if e.Timestamp < v.maxTime {
		v.r.problem(FileName(v.base, timeSuffix), 0, "entry for offset %d says %d, a record before has %d", e.Offset, e.Timestamp, v.maxTime)
	}
}

func (v *verifier) epoch(pos int64, b record.Batch) {
	i, found := slices.BinarySearchFunc(v.epochs, b.BaseOffset(), func(e EpochStart, o model.Offset) int {
		return int(max(-1, min(1, int64(e.Start-o))))
	})
	if !found {
		i--
	}
	if i >= 0 && b.LeaderEpoch() != v.epochs[i].Epoch {
		v.r.problem(v.log, pos, "batch at offset %d has epoch %d, %s says %d", b.BaseOffset(), b.LeaderEpoch(), EpochFile, v.epochs[i].Epoch)
	}
}

// records reads every record, as a consumer would.
func (v *verifier) records(pos int64, b record.Batch) {
	last := b.BaseOffset() - 1
	for r, err := range b.Records(v.maxRecords) {
		if err != nil {
			v.r.problem(v.log, pos, "batch at offset %d: %w", b.BaseOffset(), err)
			return
		}
		if r.Offset <= last || r.Offset > b.LastOffset() {
			v.r.problem(v.log, pos, "record at offset %d after %d, in a batch of %d to %d", r.Offset, last, b.BaseOffset(), b.LastOffset())
			return
		}
		last = r.Offset
	}
}
