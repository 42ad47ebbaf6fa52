package commitlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
)

// AbortedTxn is one entry of a .txnindex.
type AbortedTxn struct {
	ProducerID model.ProducerID
	// First is the transaction's first offset, Last that of its abort marker.
	First, Last model.Offset
	// LastStable is the last stable offset when the marker was written: no
	// transaction that aborts later begins below it.
	LastStable model.Offset
}

const (
	txnWidth = 34
	// maxTxnIndex bounds what is read of a transaction index: the markers that
	// fit into a segment.
	maxTxnIndex = 1 << 30
)

// ParseAborted reads a .txnindex. A torn entry at the end is left out.
func ParseAborted(b []byte) ([]AbortedTxn, error) {
	list := make([]AbortedTxn, 0, len(b)/txnWidth)
	for ; len(b) >= txnWidth; b = b[txnWidth:] {
		if v := binary.BigEndian.Uint16(b); v != 0 {
			return list, fmt.Errorf("commitlog: transaction index: version %d", v)
		}
		list = append(list, AbortedTxn{
			ProducerID: model.ProducerID(binary.BigEndian.Uint64(b[2:])),
			First:      model.Offset(binary.BigEndian.Uint64(b[10:])),
			Last:       model.Offset(binary.BigEndian.Uint64(b[18:])),
			LastStable: model.Offset(binary.BigEndian.Uint64(b[26:])),
		})
	}
	return list, nil
}

func appendAborted(b []byte, t AbortedTxn) []byte {
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(t.ProducerID))
	b = binary.BigEndian.AppendUint64(b, uint64(t.First))
	b = binary.BigEndian.AppendUint64(b, uint64(t.Last))
	return binary.BigEndian.AppendUint64(b, uint64(t.LastStable))
}

// AppendAborted notes a transaction whose abort marker is in the log, in the
// segment of the marker. One that is known already, by its marker, is left
// out, so that replay may repeat it.
func (l *Log) AppendAborted(t AbortedTxn) error {
	l.append.Lock()
	defer l.append.Unlock()
	if err := l.Err(); err != nil {
		return err
	}
	s := l.mu.segments[l.segmentIndexOf(t.Last)]
	if err := l.loadAborted(s); err != nil {
		return l.wrap("aborted", err)
	}
	list := s.aborted
	if n := len(list); n > 0 && list[n-1].Last >= t.Last {
		return nil
	}
	return l.wrap("aborted", l.writeAborted(s, append(slices.Clip(list), t)))
}

// writeAborted writes the entries of list that the file lacks: all in one go,
// because the file is small and this is rare.
func (l *Log) writeAborted(s *segment, list []AbortedTxn) error {
	path := l.path(s.base, txnSuffix)
	f, err := l.fs.OpenWrite(path)
	created := errors.Is(err, fs.ErrNotExist)
	if created {
		f, err = l.fs.Create(path)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	at := len(list) - 1
	if _, err := f.WriteAt(appendAborted(nil, list[at]), int64(at*txnWidth)); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if created {
		l.mu.dirChanges++
	}
	s.aborted, s.hasTxns, s.txnsKnown, s.txnsDirty = list, true, true, true
	return nil
}

// loadAborted reads the transaction index of a segment, once.
func (l *Log) loadAborted(s *segment) error {
	l.mu.Lock()
	need := s.hasTxns && !s.txnsKnown
	s.used = true
	l.mu.Unlock()
	if !need {
		return nil
	}
	b, err := vfs.ReadFile(l.fs, l.path(s.base, txnSuffix), maxTxnIndex)
	if l.isGone(s) {
		return errGone // What was read may belong to another segment.
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	list, err := ParseAborted(b)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !s.txnsKnown {
		s.aborted, s.txnsKnown = list, true
	}
	return nil
}

// Aborted returns the aborted transactions that overlap [from, upper), for
// consumers that read committed data.
func (l *Log) Aborted(from, upper model.Offset) ([]AbortedTxn, error) {
	list, err := again(l, func() ([]AbortedTxn, error) { return l.abortedBetween(from, upper) })
	return list, l.wrap("aborted", err)
}

func (l *Log) abortedBetween(from, upper model.Offset) ([]AbortedTxn, error) {
	l.mu.Lock()
	first := l.segmentIndexLocked(from)
	segments := l.mu.segments[first:]
	l.mu.Unlock()
	var out []AbortedTxn
	for s := l.nextWithTxns(&segments); s != nil; s = l.nextWithTxns(&segments) {
		if err := l.loadAborted(s); err != nil {
			return nil, err
		}
		l.mu.Lock()
		list := s.aborted
		l.mu.Unlock()
		for _, t := range list {
			if t.Last >= from && t.First < upper {
				out = append(out, t)
			}
			if t.LastStable >= upper {
				return out, nil
			}
		}
	}
	return out, nil
}

// nextWithTxns takes from the front of a list the first segment in which
// transactions were aborted, and what comes before it; nil if there is none. A
// pass of compaction asks for each segment, and most logs have none.
func (l *Log) nextWithTxns(list *[]*segment) *segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(*list) > 0 {
		s := (*list)[0]
		*list = (*list)[1:]
		if s.hasTxns {
			return s
		}
	}
	return nil
}

// truncateTxns drops the entries whose marker lies at or after an offset.
func (l *Log) truncateTxns(s *segment, end model.Offset) error {
	if !s.hasTxns {
		return nil
	}
	if err := l.loadAborted(s); err != nil {
		return err
	}
	n := slices.IndexFunc(s.aborted, func(t AbortedTxn) bool { return t.Last >= end })
	if n < 0 {
		n = len(s.aborted)
	}
	return l.cutTxns(s, n)
}

// cutTxns keeps the first n entries, durably: another marker may get the offset
// of one that goes, and must not be taken for an abort after a crash.
func (l *Log) cutTxns(s *segment, n int) error {
	f, err := l.fs.OpenWrite(l.path(s.base, txnSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || size == int64(n*txnWidth) {
		return err
	}
	if err := f.Truncate(int64(n * txnWidth)); err != nil {
		return err
	}
	l.mu.Lock()
	s.aborted = s.aborted[:n:n]
	l.mu.Unlock()
	return f.Sync()
}

// recoverTxns keeps the entries below an offset that are entries at all. Those
// above come back when the caller replays what was recovered.
func (l *Log) recoverTxns(s *segment, vouched model.Offset) error {
	if !s.hasTxns {
		return nil
	}
	if err := l.loadAborted(s); err != nil {
		s.aborted, s.txnsKnown = nil, true
	}
	// Zeros of a page that was lost look like entries: offsets must grow, and a
	// marker comes after what it aborts.
	n := 0
	for i, t := range s.aborted {
		if t.Last >= vouched || t.Last < s.base || t.First >= t.Last || i > 0 && t.Last <= s.aborted[i-1].Last {
			break
		}
		n++
	}
	return l.cutTxns(s, n)
}
