package commitlog

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// EpochStart says where a leader epoch begins (KIP-101).
type EpochStart struct {
	Epoch model.Epoch
	Start model.Offset
}

// maxEpochFile bounds what is read of an epoch file: far more epochs than
// leaders can have changed.
const maxEpochFile = 64 << 20

// epochs is the history of leader epochs, read when first asked for. Both
// columns grow strictly. The lock is held for memory and while the file is read
// or written; it comes after append and before mu.
type epochs struct {
	mu struct {
		sync.Mutex
		loaded bool
		list   []EpochStart
	}
}

// ParseEpochs reads a leader-epoch-checkpoint: "0", the count, then "epoch
// start" lines.
func ParseEpochs(b []byte) ([]EpochStart, error) {
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if len(lines) < 2 || lines[0] != "0" {
		return nil, errors.New("commitlog: epoch file: unknown version")
	}
	n, err := strconv.Atoi(lines[1])
	if err != nil || n != len(lines)-2 {
		return nil, fmt.Errorf("commitlog: epoch file: %q entries in %d lines", lines[1], len(lines)-2)
	}
	list := make([]EpochStart, 0, n)
	for _, line := range lines[2:] {
		e, s, _ := strings.Cut(line, " ")
		epoch, err1 := strconv.ParseInt(e, 10, 32)
		start, err2 := strconv.ParseInt(s, 10, 64)
		if err := errors.Join(err1, err2); err != nil || epoch < 0 || start < 0 {
			return nil, fmt.Errorf("commitlog: epoch file: line %q", line)
		}
		list = append(list, EpochStart{model.Epoch(epoch), model.Offset(start)})
	}
	return list, nil
}

// FormatEpochs is the reverse of ParseEpochs.
func FormatEpochs(list []EpochStart) []byte {
	b := fmt.Appendf(nil, "0\n%d\n", len(list))
	for _, e := range list {
		b = fmt.Appendf(b, "%d %d\n", e.Epoch, e.Start)
	}
	return b
}

// loadEpochs reads the file once. What lies beyond the log, because a crash took the
// records, is left out, as is what is not monotone. Caller holds epochs.mu.
func (l *Log) loadEpochsLocked() error {
	if l.epochs.mu.loaded {
		return nil
	}
	b, err := vfs.ReadFile(l.fs, filepath.Join(l.dir, EpochFile), maxEpochFile)
	if errors.Is(err, fs.ErrNotExist) {
		l.epochs.mu.loaded = true
		return nil
	}
	if err != nil {
		return err
	}
	list, err := ParseEpochs(b)
	if err != nil {
		return fmt.Errorf("%s: damaged: restore it, or delete it: the log goes on without what it says of old leaders: %w", EpochFile, err)
	}
	l.epochs.mu.list = nil
	for _, e := range list {
		l.epochs.mu.list = assignEpoch(l.epochs.mu.list, e)
	}
	l.epochs.mu.list = epochsBetween(l.epochs.mu.list, l.firstBase(), l.End())
	l.epochs.mu.loaded = true
	return nil
}

func (l *Log) firstBase() model.Offset {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.segments[0].base
}

// viewEpochs returns the epochs of the records that may be read. Those before the start
// stay in the list while their segments do: the start may fall back in a crash.
func (l *Log) viewEpochs() ([]EpochStart, error) {
	l.epochs.mu.Lock()
	defer l.epochs.mu.Unlock()
	if err := l.loadEpochsLocked(); err != nil {
		return nil, l.wrap("epochs", err)
	}
	return epochsBetween(l.epochs.mu.list, l.Start(), l.End()), nil
}

// assignEpoch adds an epoch; later epochs, and those that begin at or after it,
// go: they never had a record.
func assignEpoch(list []EpochStart, e EpochStart) []EpochStart {
	keep := slices.IndexFunc(list, func(x EpochStart) bool { return x.Epoch >= e.Epoch || x.Start >= e.Start })
	if keep >= 0 {
		list = list[:keep:keep]
	}
	return append(list, e)
}

// epochsBetween returns the epochs of the records in [start, end]; the one that
// start belongs to begins there.
func epochsBetween(list []EpochStart, start, end model.Offset) []EpochStart {
	out := make([]EpochStart, 0, len(list))
	for i, e := range list {
		if e.Start > end || i+1 < len(list) && list[i+1].Start <= start {
			continue
		}
		e.Start = max(e.Start, start)
		out = append(out, e)
	}
	return out
}

// Epochs returns the history of epochs; both columns grow.
func (l *Log) Epochs() ([]EpochStart, error) { return l.viewEpochs() }

// LastEpoch is the newest epoch, or model.NoEpoch.
func (l *Log) LastEpoch() (model.Epoch, error) {
	l.epochs.mu.Lock()
	defer l.epochs.mu.Unlock()
	if err := l.loadEpochsLocked(); err != nil {
		return model.NoEpoch, l.wrap("epochs", err)
	}
	return lastEpoch(l.epochs.mu.list), nil
}

func lastEpoch(list []EpochStart) model.Epoch {
	if len(list) == 0 {
		return model.NoEpoch
	}
	return list[len(list)-1].Epoch
}

// EpochEnd answers OffsetForLeaderEpoch (KIP-101, KIP-279): the largest epoch
// that is not above e, and the end of its records. (NoEpoch, NoOffset) if there
// is none, or if e is above the newest.
func (l *Log) EpochEnd(e model.Epoch) (model.Epoch, model.Offset, error) {
	list, err := l.viewEpochs()
	if err != nil {
		return model.NoEpoch, model.NoOffset, err
	}
	if len(list) == 0 || e == model.NoEpoch || e > lastEpoch(list) {
		return model.NoEpoch, model.NoOffset, nil
	}
	if e == lastEpoch(list) {
		return e, l.End(), nil
	}
	next := slices.IndexFunc(list, func(x EpochStart) bool { return x.Epoch > e })
	if next == 0 {
		// Kafka's answer for an epoch before all: itself, ending where the log
		// starts.
		return e, list[0].Start, nil
	}
	return list[next-1].Epoch, list[next].Start, nil
}

// EpochAt is the epoch of the record at an offset, or the newest at the end;
// model.NoEpoch if it is not known.
func (l *Log) EpochAt(o model.Offset) (model.Epoch, error) {
	list, err := l.viewEpochs()
	if err != nil {
		return model.NoEpoch, err
	}
	epoch := model.NoEpoch
	for _, e := range list {
		if e.Start > o {
			break
		}
		epoch = e.Epoch
	}
	return epoch, nil
}

// AssignEpoch says that the records from start on belong to epoch e, and makes
// that durable. An epoch that is not above the newest is ignored.
func (l *Log) AssignEpoch(e model.Epoch, start model.Offset) error {
	l.append.Lock()
	defer l.append.Unlock()
	if err := l.Err(); err != nil {
		return err
	}
	return l.wrap("assign epoch", l.assign(EpochStart{e, start}))
}

func (l *Log) assign(add ...EpochStart) error {
	l.epochs.mu.Lock()
	defer l.epochs.mu.Unlock()
	if err := l.loadEpochsLocked(); err != nil {
		return err
	}
	list := l.epochs.mu.list
	changed := false
	for _, e := range add {
		if e.Epoch > lastEpoch(list) {
			list = assignEpoch(list, e)
			changed = true
		}
	}
	if !changed {
		return nil
	}
	return l.storeEpochsLocked(list)
}

// storeEpochsLocked writes first: what is not on disk is not in memory.
func (l *Log) storeEpochsLocked(list []EpochStart) error {
	if err := vfs.WriteFile(l.fs, filepath.Join(l.dir, EpochFile), FormatEpochs(list)); err != nil {
		return err
	}
	l.epochs.mu.list = list
	return nil
}

// noteEpochs assigns the epochs that an append brings.
func (l *Log) noteEpochs(b []byte, in incoming) error {
	last, err := l.LastEpoch()
	if err != nil || in.epoch <= last {
		return err
	}
	var add []EpochStart
	for rest := b; len(rest) > 0; {
		batch, tail, err := record.Next(rest)
		if err != nil {
			return err
		}
		if e := batch.LeaderEpoch(); e > last {
			last = e
			add = append(add, EpochStart{e, batch.BaseOffset()})
		}
		rest = tail
	}
	return l.assign(add...)
}

// forgetEpochs forgets those of records that are gone. The file is left as it
// is until the next epoch comes: what lies below the log is left out when it is
// read, and retention neither waits for it nor needs space.
func (l *Log) forgetEpochs() error {
	l.epochs.mu.Lock()
	defer l.epochs.mu.Unlock()
	if err := l.loadEpochsLocked(); err != nil {
		return err
	}
	l.epochs.mu.list = epochsBetween(l.epochs.mu.list, l.firstBase(), l.End())
	return nil
}

// trimEpochs keeps the epochs of [start, end], on disk too if anything goes.
func (l *Log) trimEpochs(start, end model.Offset) error {
	l.epochs.mu.Lock()
	defer l.epochs.mu.Unlock()
	if err := l.loadEpochsLocked(); err != nil {
		return err
	}
	list := epochsBetween(l.epochs.mu.list, start, end)
	if slices.Equal(list, l.epochs.mu.list) {
		return nil
	}
	return l.storeEpochsLocked(list)
}
