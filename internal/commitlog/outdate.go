package commitlog

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
)

// A mark that the caller kept would, after a truncation below it, vouch for what is appended
// there next. So before a truncation changes anything it is noted in a file,
// with the generation that it begins: marks of earlier generations count only
// up to where it cut.

// truncation is one line of that file.
type truncation struct {
	generation int64
	// offset is the end of the log after the truncation, segment the base of
	// the segment in which it lies.
	offset, segment model.Offset
	// restart says that everything was removed and the log went on at offset,
	// pending that this may not be complete: then the next start completes it.
	// Half of it would be a log that lacks its beginning.
	restart, pending bool
}

// maxTruncations bounds the file. Beyond it the two oldest become one, which
// may cost reading more after a crash, never less.
const maxTruncations = 64

// add appends a truncation. Earlier ones that cut higher say nothing any more.
func addTruncation(list []truncation, t truncation) []truncation {
	out := make([]truncation, 0, len(list)+1)
	for _, old := range list {
		if !t.restart && (old.restart || old.offset < t.offset || old.segment < t.segment) {
			out = append(out, old)
		}
	}
	out = append(out, t)
	if len(out) > maxTruncations {
		second := out[1]
		out = append(out[:1], out[2:]...)
		out[0].generation = second.generation
		out[0].offset = min(out[0].offset, second.offset)
		out[0].segment = min(out[0].segment, second.segment)
	}
	return out
}

// outdateMarks notes a truncation that is about to happen.
func (l *Log) outdateMarks(t truncation) error {
	l.mu.Lock()
	t.generation = l.mu.generation + 1
	l.mu.Unlock()
	return l.storeTruncations(addTruncation(l.truncations, t))
}

// restartDone notes that the last truncation, a restart, is complete.
func (l *Log) restartDone() error {
	list := slices.Clone(l.truncations)
	list[len(list)-1].pending = false
	return l.storeTruncations(list)
}

func (l *Log) storeTruncations(list []truncation) error {
	b := fmt.Appendf(nil, "0\n%d\n", len(list))
	for _, t := range list {
		b = fmt.Appendf(b, "%d %d %d %t %t\n", t.generation, t.offset, t.segment, t.restart, t.pending)
	}
	if err := vfs.WriteFile(l.fs, filepath.Join(l.dir, truncationFile), b); err != nil {
		return err
	}
	l.truncations = list
	return nil
}

func parseTruncations(b []byte) ([]truncation, error) {
	in := bufio.NewReader(bytes.NewReader(b))
	var version, n int
	if _, err := fmt.Fscanf(in, "%d\n%d\n", &version, &n); err != nil || version != 0 || n < 0 || n > maxTruncations {
		return nil, fmt.Errorf("commitlog: %s: not of version 0: %w", truncationFile, err)
	}
	list := make([]truncation, n)
	for i := range list {
		t := &list[i]
		if _, err := fmt.Fscanf(in, "%d %d %d %t %t\n", &t.generation, &t.offset, &t.segment, &t.restart, &t.pending); err != nil {
			return nil, fmt.Errorf("commitlog: %s: line %d: %w", truncationFile, i+2, err)
		}
	}
	return list, nil
}

// applyTruncations lowers the mark that the caller kept to what later
// truncations left of it.
func (l *Log) applyTruncations() error {
	b, err := vfs.ReadFile(l.fs, filepath.Join(l.dir, truncationFile), 64<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	list, err := parseTruncations(b)
	if err != nil {
		return err
	}
	generation := l.mark.Generation
	for _, t := range list {
		if t.generation <= generation {
			continue // The caller kept a later mark: it will never give an older one.
		}
		l.truncations = append(l.truncations, t)
		l.mark = l.mark.after(t)
		if l.kept = min(l.kept, t.offset); t.restart {
			l.kept = t.offset
		}
	}
	return nil
}

// interrupted returns a restart that has to be completed.
func (l *Log) interrupted() (truncation, bool) {
	if n := len(l.truncations); n > 0 && l.truncations[n-1].pending {
		return l.truncations[n-1], true
	}
	return truncation{}, false
}

// after is what a truncation leaves of a mark.
func (m Mark) after(t truncation) Mark {
	switch {
	case t.restart:
		// What the mark vouched for is gone.
		m = Mark{Producers: true}
	case t.offset < m.Offset || t.segment < m.Segment:
		// Everything below the cut was durable, but how many index entries lie
		// there is not known: that segment, which grows again, is read whole.
		m = Mark{Offset: t.segment, Segment: t.segment, Producers: true}
	}
	m.Generation = t.generation
	return m
}
