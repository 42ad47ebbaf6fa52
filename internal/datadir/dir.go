package datadir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
)

// Dir is a data directory that this process owns. Methods may be called
// concurrently.
type Dir struct {
	fs   vfs.FS
	path string
	lock io.Closer
	meta Meta
	// marks is held while the marks and the recovery points are replaced.
	marks sync.Mutex
	// reserve is guarded by its lock, which is held while the file is made or
	// removed.
	reserve struct {
		sync.Mutex
		spent atomic.Bool // Read without the lock, before every append.
	}
}

// Open takes a data directory into possession, making it if need be: it locks
// it, and reads meta.properties or writes one with the identity wanted and a
// new directory id.
//
// vfs.ErrLocked if another process has it, ErrIdentity if it belongs to another
// node or cluster.
func Open(fs vfs.FS, path string, want Identity, random io.Reader) (*Dir, error) {
	if err := makeDir(fs, path); err != nil {
		return nil, fmt.Errorf("datadir: %w", err)
	}
	lock, err := fs.Lock(filepath.Join(path, LockFile))
	if err != nil {
		return nil, fmt.Errorf("datadir: %w", err)
	}
	d := &Dir{fs: fs, path: path, lock: lock}
	err = d.checkOwner(want.Store)
	if err == nil {
		err = d.identify(want, random)
	}
	if err != nil {
		lock.Close()
		return nil, err
	}
	// A disk that is full already has no room for a reserve; Restore tries again.
	d.reserve.spent.Store(d.makeReserve() != nil)
	return d, nil
}

// checkOwner keeps brokers and Dafka stores out of each other's directories: they
// would take the logs there for strays.
func (d *Dir) checkOwner(store bool) error {
	log := d.LogPath(StoreLog)
	isStore, err := exists(d.fs, log)
	if err != nil {
		return fmt.Errorf("datadir: %w", err)
	}
	used, err := exists(d.fs, filepath.Join(d.path, MetaFile))
	switch {
	case err != nil:
		return fmt.Errorf("datadir: %w", err)
	case isStore && !store:
		return fmt.Errorf("%w: %s is the directory of a Dafka store", ErrIdentity, d.path)
	case used && store && !isStore:
		return fmt.Errorf("%w: %s has no %s, so it is the data directory of a broker", ErrIdentity, d.path, StoreLog)
	case store && !isStore: // Before meta.properties: a crash in between must not make it a broker's.
		return errors.Join(d.fs.MkdirAll(log), d.SyncNames())
	}
	return nil
}

func exists(fsys vfs.FS, path string) (bool, error) {
	switch _, err := fsys.Stat(path); {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	default:
		return false, err
	}
}

// OpenAsIs takes a data directory that is there into possession, ours or
// Kafka's, and changes nothing in it: for who mends logs while no broker runs.
//
// fs.ErrNotExist if it is not a data directory, vfs.ErrLocked if another process
// has it.
func OpenAsIs(fs vfs.FS, path string) (*Dir, error) {
	b, err := vfs.ReadFile(fs, filepath.Join(path, MetaFile), maxTextFile)
	if err != nil {
		return nil, fmt.Errorf("datadir: %w", err)
	}
	d := &Dir{fs: fs, path: path}
	if d.meta, err = ParseMeta(b); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(path, MetaFile), err)
	}
	if d.lock, err = fs.Lock(filepath.Join(path, LockFile)); err != nil {
		return nil, fmt.Errorf("datadir: %w", err)
	}
	return d, nil
}

// makeDir makes the directory, and the names on the way to it durable: what is
// promised in it must not hang on a name that a power cut takes. A directory
// that is there may be one that an earlier start made and was killed before it
// could sync the name, so all names are synced at each start; where that is not
// allowed, somebody else made them.
func makeDir(fs vfs.FS, path string) error {
	var missing []string
	for p := path; ; p = filepath.Dir(p) {
		if _, err := fs.Stat(p); err == nil || p == filepath.Dir(p) {
			break
		}
		missing = append(missing, p)
	}
	if err := fs.MkdirAll(path); err != nil {
		return err
	}
	for p := path; p != filepath.Dir(p); p = filepath.Dir(p) {
		if err := fs.SyncDir(filepath.Dir(p)); err != nil && slices.Contains(missing, p) {
			return err
		}
	}
	return nil
}

// Path is the directory.
func (d *Dir) Path() string { return d.path }

// FS is the file system it is on.
func (d *Dir) FS() vfs.FS { return d.fs }

// Meta is the identity found or written at Open.
func (d *Dir) Meta() Meta { return d.meta }

// Close gives the directory back. It says nothing of a clean shutdown:
// WriteClean does.
func (d *Dir) Close() error { return d.lock.Close() }

// Check looks whether the directory is still there, and still this one. An
// error says that the disk was taken away, or does not work.
func (d *Dir) Check() error {
	b, err := vfs.ReadFile(d.fs, filepath.Join(d.path, MetaFile), maxTextFile)
	if err != nil {
		return fmt.Errorf("datadir: %w", err)
	}
	m, err := ParseMeta(b)
	if err == nil && m.Directory != d.meta.Directory {
		err = fmt.Errorf("%w: %s is another directory now", ErrIdentity, d.path)
	}
	return err
}

// Free is the space left and the size of the file system, in bytes.
func (d *Dir) Free() (free, total int64, err error) {
	u, err := d.Usage()
	return u.Free, u.Total, err
}

// Usage tells how full the file system is that holds the directory.
func (d *Dir) Usage() (vfs.Usage, error) { return d.fs.DiskUsage(d.path) }

// clean is the content of Kafka's clean shutdown file.
type clean struct {
	Version     int   `json:"version"`
	BrokerEpoch int64 `json:"brokerEpoch"`
}

// TakeClean reports whether the last owner stopped cleanly and its broker epoch
// (-1 if not known), and takes the file away, durably, before anything is
// written: from now on a crash is a crash.
func (d *Dir) TakeClean() (brokerEpoch int64, wasClean bool, err error) {
	b, err := d.readText(CleanFile)
	if err != nil {
		return -1, false, err
	}
	err = d.fs.Remove(filepath.Join(d.path, CleanFile))
	if errors.Is(err, fs.ErrNotExist) {
		return -1, false, nil
	}
	if err == nil {
		err = d.fs.SyncDir(d.path)
	}
	if err != nil {
		return -1, false, fmt.Errorf("datadir: %w", err)
	}
	c := clean{BrokerEpoch: -1}
	if json.Unmarshal(b, &c) != nil {
		c.BrokerEpoch = -1 // Kafka before 3.8 left an empty file.
	}
	return c.BrokerEpoch, true, nil
}

// WriteClean says, as the last thing of an owner, that all logs are marked and
// closed.
func (d *Dir) WriteClean(brokerEpoch int64) error {
	b, err := json.Marshal(clean{0, brokerEpoch})
	if err != nil {
		return err
	}
	return d.Spend(func() error { return vfs.WriteFile(d.fs, filepath.Join(d.path, CleanFile), b) })
}

// Logs lists the directories of logs, the metadata log not among them.
func (d *Dir) Logs() ([]LogDir, error) {
	infos, err := d.fs.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("datadir: %w", err)
	}
	var logs []LogDir
	for _, info := range infos {
		if !info.Dir || info.Name == MetadataLog {
			continue
		}
		if l, ok := ParseLogDir(info.Name); ok {
			logs = append(logs, l)
		}
	}
	return logs, nil
}

// LogPath is the path of a log's directory by its name.
func (d *Dir) LogPath(name string) string { return filepath.Join(d.path, name) }

// CreateLog makes the directory of a partition with its topic id. The directory
// is durable when it returns, or after SyncNames if many are made. One that is
// there already keeps what it holds, unless it is of another topic: ErrTopicID.
func (d *Dir) CreateLog(p model.Partition, id model.TopicID, sync bool) error {
	return d.Spend(func() error { return d.createLog(p, id, sync) })
}

func (d *Dir) createLog(p model.Partition, id model.TopicID, sync bool) error {
	dir := d.LogPath(p.String())
	if err := d.fs.MkdirAll(dir); err != nil {
		return fmt.Errorf("datadir: %w", err)
	}
	switch have, ok, err := d.TopicID(p.String()); {
	case err != nil:
		return err
	case ok && have != id:
		return fmt.Errorf("%w: %s has %s, want %s", ErrTopicID, dir, have, id)
	case !ok:
		if err := d.writeTopicID(dir, id, sync); err != nil {
			return err
		}
	}
	if !sync {
		return nil
	}
	return d.SyncNames()
}

func (d *Dir) writeTopicID(dir string, id model.TopicID, sync bool) error {
	path := filepath.Join(dir, PartitionMetaFile)
	if sync {
		return vfs.WriteFile(d.fs, path, FormatTopicID(id))
	}
	f, err := d.fs.Create(path)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(FormatTopicID(id), 0)
	if err = errors.Join(err, f.Close()); err != nil {
		d.fs.Remove(path) // Half of it would stand in the way of the next try.
	}
	return err
}

// SyncAll makes everything on the file system durable, for those who made or
// wrote many logs without syncing each.
func (d *Dir) SyncAll() error {
	if lock, ok := d.lock.(interface{ SyncFS() error }); ok {
		return lock.SyncFS()
	}
	return d.fs.SyncFS(d.path)
}

// SyncNames makes the names in the data directory durable.
func (d *Dir) SyncNames() error {
	if err := d.fs.SyncDir(d.path); err != nil {
		return fmt.Errorf("datadir: %w", err)
	}
	return nil
}

// RetireLog renames the directory of a partition, durably, to what Rename says,
// and returns the new name. RemoveLog may follow at leisure.
func (d *Dir) RetireLog(p model.Partition, kind DirKind, random io.Reader) (name string, err error) {
	id, err := model.NewUUID(random)
	if err != nil {
		return "", err
	}
	name = Rename(p, kind, id)
	if err := d.fs.Rename(d.LogPath(p.String()), d.LogPath(name)); err != nil {
		return "", fmt.Errorf("datadir: %w", err)
	}
	return name, d.SyncNames()
}

// RemoveLog removes the directory of a log that was retired.
func (d *Dir) RemoveLog(name string) error {
	if l, ok := ParseLogDir(name); !ok || l.Kind == Live {
		return fmt.Errorf("datadir: remove %s: not retired", name)
	}
	if err := d.fs.RemoveAll(d.LogPath(name)); err != nil {
		return fmt.Errorf("datadir: %w", err)
	}
	return nil
}

// ErrTopicID says that a directory belongs to another topic of the same name.
var ErrTopicID = errors.New("datadir: directory of another topic id")

// TopicID reads the topic id of a log's directory; ok is false if it has none.
func (d *Dir) TopicID(name string) (id model.TopicID, ok bool, err error) {
	b, err := d.readText(filepath.Join(name, PartitionMetaFile))
	if err != nil || len(b) == 0 {
		// Empty: a crash took the content of a file that was made with many
		// others and never synced; nothing was in that log.
		return id, false, err
	}
	if id, err = ParseTopicID(b); err != nil {
		return id, false, fmt.Errorf("datadir: %s: %w", d.LogPath(name), err)
	}
	return id, true, nil
}

// ParseTopicID reads a partition.metadata: "version: 0" and "topic_id: " with
// the 22 characters.
func ParseTopicID(b []byte) (model.TopicID, error) {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) != 2 || lines[0] != "version: 0" {
		return model.TopicID{}, fmt.Errorf("datadir: %s: unknown version", PartitionMetaFile)
	}
	text, ok := strings.CutPrefix(lines[1], "topic_id: ")
	if !ok {
		return model.TopicID{}, fmt.Errorf("datadir: %s: line %q", PartitionMetaFile, lines[1])
	}
	return model.ParseUUID(text)
}

// FormatTopicID is the reverse of ParseTopicID, byte for byte as Kafka writes
// it: without a newline at the end.
func FormatTopicID(id model.TopicID) []byte {
	return []byte("version: 0\ntopic_id: " + id.String())
}
