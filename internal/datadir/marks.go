package datadir

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
)

// Marks says of each log how far it is durable and checked.
type Marks map[model.Partition]commitlog.Mark

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errMarks says that a marks file is not one, or is damaged. Without it every
// log is recovered whole: slow, not wrong.
var errMarks = errors.New("datadir: marks file damaged")

// marksVersion begins the first line. A file of another version is ignored,
// which costs a full recovery.
const marksVersion = "barnabas-marks 2"

// witness tells whether the marks are about what stands beside them.
type witness struct {
	// points is two checksums, CRC-32C, of recovery-point-offset-checkpoint: as
	// it was when the marks were written, and as it was about to be. If the file
	// has neither, Kafka ran on the directory since, and the marks mean nothing:
	// it may have truncated, appended or compacted what they vouch for.
	points [2]uint32
	// birth is the directory's (vfs.FS.Birth). In a copy, the marks mean nothing
	// either: if it was made while a broker ran, they may be older or younger than
	// the logs, and so vouch for what the copy does not have.
	birth uint64
}

func (w witness) saw(recoveryPoints []byte, birth uint64) bool {
	sum := crc32.Checksum(recoveryPoints, castagnoli)
	return (sum == w.points[0] || sum == w.points[1]) && w.birth == birth
}

// formatMarks returns the file: a line with name, version and witness, one with
// the count, one for each log, and the CRC-32C, in hexadecimal, of everything
// before it.
func formatMarks(m Marks, w witness) []byte {
	b := fmt.Appendf(nil, "%s %08x %08x %016x\n%d\n", marksVersion, w.points[0], w.points[1], w.birth, len(m))
	for _, p := range sorted(m) {
		k := m[p]
		producers := 0
		if k.Producers {
			producers = 1
		}
		b = fmt.Appendf(b, "%s %d %d %d %d %d %d %d %d %d %d %d\n", p.Topic, p.Index, k.Offset, k.Segment, k.Position,
			k.Start, k.MaxTimestamp, k.MaxTimestampOffset, k.IndexEntries, k.TimeEntries, producers, k.Generation)
	}
	return fmt.Appendf(b, "%08x\n", crc32.Checksum(b, castagnoli))
}

// parseMarks is the reverse of formatMarks.
func parseMarks(b []byte) (m Marks, w witness, err error) {
	const sumLen = 9
	if len(b) < sumLen {
		return nil, w, errMarks
	}
	body, sum := b[:len(b)-sumLen], b[len(b)-sumLen:]
	if fmt.Sprintf("%08x\n", crc32.Checksum(body, castagnoli)) != string(sum) {
		return nil, w, errMarks
	}
	lines := bytes.Split(bytes.TrimSuffix(body, []byte("\n")), []byte("\n"))
	if len(lines) < 2 || string(lines[1]) != fmt.Sprint(len(lines)-2) {
		return nil, w, errMarks
	}
	if n, err := fmt.Sscanf(string(lines[0]), marksVersion+" %08x %08x %016x", &w.points[0], &w.points[1], &w.birth); n != 3 || err != nil {
		return nil, w, errMarks
	}
	m = make(Marks, len(lines)-2)
	for _, line := range lines[2:] {
		p, k, err := parseMark(line)
		if err != nil {
			return nil, w, err
		}
		m[p] = k
	}
	return m, w, nil
}

func parseMark(line []byte) (p model.Partition, k commitlog.Mark, err error) {
	topic, rest, _ := bytes.Cut(line, []byte(" "))
	p.Topic = string(topic)
	var n [11]int64
	for i := range n {
		var field []byte
		field, rest, _ = bytes.Cut(rest, []byte(" "))
		if n[i], err = parseInt(field); err != nil {
			return p, k, errMarks
		}
	}
	p.Index = int32(n[0])
	k = commitlog.Mark{
		Offset: model.Offset(n[1]), Segment: model.Offset(n[2]), Position: n[3], Start: model.Offset(n[4]),
		MaxTimestamp: n[5], MaxTimestampOffset: model.Offset(n[6]),
		IndexEntries: int32(n[7]), TimeEntries: int32(n[8]), Producers: n[9] == 1, Generation: n[10],
	}
	return p, k, nil
}

// parseInt is strconv.ParseInt without the string.
func parseInt(b []byte) (int64, error) {
	neg := len(b) > 0 && b[0] == '-'
	if neg {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 19 {
		return 0, errMarks
	}
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, errMarks
		}
		n = n*10 + uint64(c-'0')
	}
	if n > 1<<63-1 {
		return 0, errMarks
	}
	if neg {
		return -int64(n), nil
	}
	return int64(n), nil
}

// Marks reads the marks. known is false if there is no marks file, or a damaged
// one, if the directory is a copy, or if Kafka ran on it since: then Kafka's
// checkpoints and its clean shutdown file decide what is trusted.
func (d *Dir) Marks() (m Marks, known bool, err error) {
	b, err := d.readText(MarksFile)
	if err != nil || len(b) == 0 {
		return Marks{}, false, err
	}
	recovery, err := d.readText(RecoveryPointFile)
	if err != nil {
		return Marks{}, false, err
	}
	birth, err := d.fs.Birth(d.path)
	if err != nil {
		return Marks{}, false, fmt.Errorf("datadir: %w", err)
	}
	m, w, err := parseMarks(b)
	if err != nil || !w.saw(recovery, birth) {
		return Marks{}, false, nil
	}
	return m, true, nil
}

// WriteMarks replaces the marks, durably. With recoveryPoints it also tells
// Kafka how far each log is durable, which only matters to a Kafka that takes
// the directory over: at a clean shutdown, and now and then.
func (d *Dir) WriteMarks(m Marks, recoveryPoints bool) error {
	d.marks.Lock()
	defer d.marks.Unlock()
	old, err := d.readText(RecoveryPointFile)
	if err != nil {
		return err
	}
	birth, err := d.fs.Birth(d.path)
	if err != nil {
		return fmt.Errorf("datadir: %w", err)
	}
	w := witness{[2]uint32{crc32.Checksum(old, castagnoli), crc32.Checksum(old, castagnoli)}, birth}
	points := Offsets{}
	if recoveryPoints {
		for p, k := range m {
			points[p] = k.Offset
		}
		w.points[1] = crc32.Checksum(points.Format(), castagnoli)
	}
	path := filepath.Join(d.path, MarksFile)
	if err := d.Spend(func() error { return vfs.WriteFile(d.fs, path, formatMarks(m, w)) }); err != nil {
		return fmt.Errorf("datadir: marks: %w", err)
	}
	if !recoveryPoints {
		return nil
	}
	return d.WriteCheckpoint(RecoveryPointFile, points)
}
