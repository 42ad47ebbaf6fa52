package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
)

// maxTextFile bounds what is read of a text file: a million partitions with
// names of the greatest length.
const maxTextFile = 512 << 20

// ErrDamaged says that a file cannot be what its name says: a disk that forgets, or somebody's editor.
var ErrDamaged = errors.New("damaged")

// Offsets is the content of one of Kafka's checkpoint files: one offset for
// each log.
type Offsets map[model.Partition]model.Offset

// ParseOffsets reads a checkpoint: "0", the count, then lines of topic,
// partition and offset. An empty file, as Kafka makes it at the first start, is
// an empty map.
func ParseOffsets(b []byte) (Offsets, error) {
	if len(b) == 0 {
		return Offsets{}, nil
	}
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if len(lines) < 2 || lines[0] != "0" {
		return nil, errors.New("datadir: checkpoint: unknown version")
	}
	n, err := strconv.Atoi(lines[1])
	if err != nil || n != len(lines)-2 {
		return nil, fmt.Errorf("datadir: checkpoint: %q entries in %d lines", lines[1], len(lines)-2)
	}
	offsets := make(Offsets, n)
	for _, line := range lines[2:] {
		f := strings.Split(line, " ")
		if len(f) != 3 {
			return nil, fmt.Errorf("datadir: checkpoint: line %q", line)
		}
		index, err1 := strconv.ParseInt(f[1], 10, 32)
		offset, err2 := strconv.ParseInt(f[2], 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("datadir: checkpoint: line %q", line)
		}
		offsets[model.Partition{Topic: f[0], Index: int32(index)}] = model.Offset(offset)
	}
	return offsets, nil
}

// Format is the reverse of ParseOffsets, in the order of the partitions.
func (o Offsets) Format() []byte {
	b := fmt.Appendf(nil, "0\n%d\n", len(o))
	for _, p := range sorted(o) {
		b = fmt.Appendf(b, "%s %d %d\n", p.Topic, p.Index, o[p])
	}
	return b
}

func sorted[V any](m map[model.Partition]V) []model.Partition {
	keys := make([]model.Partition, 0, len(m))
	for p := range m {
		keys = append(keys, p)
	}
	slices.SortFunc(keys, func(a, b model.Partition) int {
		if c := strings.Compare(a.Topic, b.Topic); c != 0 {
			return c
		}
		return int(a.Index) - int(b.Index)
	})
	return keys
}

// Checkpoint reads one of the checkpoint files; one that is missing is empty.
// ErrDamaged if it makes no sense.
func (d *Dir) Checkpoint(file string) (Offsets, error) {
	b, err := d.readText(file)
	if err != nil {
		return nil, err
	}
	offsets, err := ParseOffsets(b)
	if err != nil {
		return nil, fmt.Errorf("datadir: %s: %w: %w", filepath.Join(d.path, file), ErrDamaged, err)
	}
	return offsets, nil
}

// WriteCheckpoint replaces one of the checkpoint files, durably.
func (d *Dir) WriteCheckpoint(file string, o Offsets) error {
	return d.Spend(func() error { return vfs.WriteFile(d.fs, filepath.Join(d.path, file), o.Format()) })
}

// readText returns the content of a file, nil if it is missing.
func (d *Dir) readText(file string) ([]byte, error) {
	b, err := vfs.ReadFile(d.fs, filepath.Join(d.path, file), maxTextFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("datadir: %w", err)
	}
	return b, nil
}
