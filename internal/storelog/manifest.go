package storelog

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// manifestName is the manifest's in the marks. No topic is named so: see legalName.
var manifestName = model.Partition{Topic: "__dafka_partitions"}

func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// openManifest reads which partitions there are.
func (l *Logs) openManifest(r *datadir.Recovery) error {
	dir := l.dir.LogPath(datadir.StoreLog)
	o := r.Options(manifestName, l.options())
	o.SegmentBytes = 1<<31 - 1
	var err error
	if l.manifest, err = commitlog.Open(l.o.FS, dir, o); err != nil {
		return err
	}
	if err := l.manifest.Scan(0, l.readManifest); err != nil {
		return err
	}
	if l.manifest.End() != model.Offset(len(l.mu.parts)) {
		return fmt.Errorf("%w: %d partitions, end %d", ErrManifest, len(l.mu.parts), l.manifest.End())
	}
	if err := l.checkDirectories(); err != nil {
		return err
	}
	return l.manifest.Sync()
}

func (l *Logs) readManifest(b record.Batch) error {
	if b.ComputeCRC() != b.CRC() {
		return fmt.Errorf("%w: checksum at %d", ErrManifest, b.BaseOffset())
	}
	for r, err := range b.Records(0) {
		switch {
		case err != nil:
			return fmt.Errorf("%w: %w", ErrManifest, err)
		case r.Offset != model.Offset(len(l.mu.parts)):
			return fmt.Errorf("%w: partition %d where %d was due", ErrManifest, r.Offset, len(l.mu.parts))
		}
		l.addLocked(fabric.Partition{Subject: string(r.Key), Address: string(r.Value)})
	}
	return nil
}

// checkDirectories refuses logs whose numbers the manifest has not given: it has
// lost something, and would give them again.
func (l *Logs) checkDirectories() error {
	logs, err := l.dir.Logs()
	if err != nil {
		return err
	}
	for _, d := range logs {
		if int(d.Partition.Index) >= len(l.mu.parts) {
			return fmt.Errorf("%w: there is %s, but no number %d", ErrManifest, d.Name, d.Partition.Index)
		}
	}
	return nil
}

func (l *Logs) addLocked(p fabric.Partition) *Partition {
	it := &Partition{Partition: p, Number: len(l.mu.parts)}
	it.name = model.Partition{Topic: legalName(p.Subject), Index: int32(it.Number)}
	l.mu.parts = append(l.mu.parts, it)
	l.mu.known[p] = it
	return it
}

// maxLegal is how many bytes of a topic are in the name of a directory: Kafka
// allows 249, and a number follows.
const maxLegal = 200

// legalName is a topic as a directory can be named: what Kafka does not allow in
// a topic's name becomes an underscore. Numbers tell apart what becomes the same.
func legalName(topic string) string {
	var b strings.Builder
	for i := 0; i < len(topic) && i < maxLegal; i++ {
		switch c := topic[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			b.WriteByte('_')
		}
	}
	switch name := b.String(); {
	case name == "" || strings.HasPrefix(name, "__"): // Those are Kafka's own, and ours.
		return "dafka" + name
	default:
		return name
	}
}

// number gives numbers to partitions that have none, durably.
func (l *Logs) number(fresh []fabric.Partition) error {
	if len(fresh) == 0 {
		return nil
	}
	now := l.o.Now().UnixMilli()
	b := record.NewBuilder(record.BuilderOptions{BaseOffset: l.manifest.End(), LeaderEpoch: model.NoEpoch})
	for _, p := range fresh {
		if err := b.Add(record.Record{Timestamp: now, Key: []byte(p.Subject), Value: []byte(p.Address)}); err != nil {
			return err
		}
	}
	batch, _, err := b.Build(nil)
	if err != nil {
		return err
	}
	if _, err := l.manifest.AppendAt(batch); err != nil {
		return err
	}
	// An error takes the manifest offline: what was appended is given by the next
	// process or not, and by this one nothing is.
	if err := l.manifest.Sync(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range fresh {
		l.addLocked(p)
	}
	return nil
}

// make makes the directory of a partition, and its log.
func (l *Logs) make(p *Partition) (*commitlog.Log, error) {
	dir := l.dir.LogPath(p.name.String())
	if err := l.o.FS.MkdirAll(dir); err != nil {
		return nil, err
	}
	log, err := commitlog.Open(l.o.FS, dir, l.options())
	if err != nil {
		return nil, err
	}
	p.log.Store(log)
	return log, nil
}
