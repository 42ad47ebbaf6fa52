package storelog

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
)

// Options say how partitions are kept. The zero value keeps everything, and
// calls stored what survives the end of the process.
type Options struct {
	FS vfs.FS // Nil: the operating system's.
	// Sync makes records durable before they count as stored: then they survive a
	// power failure.
	Sync bool
	// SegmentBytes is the size of a segment; 0 means 64 MiB.
	SegmentBytes int64
	// Age and Bytes, if not 0, are what a partition keeps.
	Age   time.Duration
	Bytes int64
	// DiskPercent, if not 0, is how full the file system may be: then the oldest
	// segments of all partitions go.
	DiskPercent int
	Now         func() time.Time // Nil: time.Now.
	Log         *slog.Logger     // Nil: nothing is logged.
}

func (o *Options) setDefaults() {
	if o.FS == nil {
		o.FS = vfs.OS{}
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 64 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Logs is a directory of partitions. Its methods may be called concurrently, but
// for Append and Keep, which have one goroutine each.
type Logs struct {
	o        Options
	dir      *datadir.Dir
	manifest *commitlog.Log
	mu       struct {
		sync.RWMutex
		parts    []*Partition // By number.
		known    map[fabric.Partition]*Partition
		watchers []func(*Partition)
	}
	a    appender
	keep keeper
	brim brim
	stat struct{ records, bytes, syncs, refused, dropped atomic.Uint64 }
}

// Partition is the log of what one producer published on one topic.
type Partition struct {
	fabric.Partition
	// Number is its own for ever, in this directory.
	Number int

	name   model.Partition
	log    atomic.Pointer[commitlog.Log] // Nil before the first record.
	stored atomic.Int64                  // Records below it are stored.
	used   atomic.Bool                   // Since the keeper's last sweep.
	due    time.Time                     // The keeper's: when retention may have something to do.
}

// Start is the first sequence that is there.
func (p *Partition) Start() uint64 {
	if l := p.log.Load(); l != nil {
		return uint64(l.Start())
	}
	return 0
}

// End is one past the last sequence that is stored.
func (p *Partition) End() uint64 { return uint64(p.stored.Load()) }

// Bytes is what its segments take.
func (p *Partition) Bytes() int64 {
	if l := p.log.Load(); l != nil {
		return l.Size()
	}
	return 0
}

// ErrManifest says that the manifest does not go with the directories beside it.
var ErrManifest = errors.New("storelog: the list of partitions is damaged")

// Open takes a directory into possession, making it if need be, and recovers its
// logs. What it then calls stored is as durable as Sync says.
func Open(path string, o Options) (*Logs, error) {
	o.setDefaults()
	dir, err := datadir.Open(o.FS, path, datadir.Identity{Node: model.NoNode, Store: true}, rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("storelog: %w", err)
	}
	l := &Logs{o: o, dir: dir}
	l.mu.known = map[fabric.Partition]*Partition{}
	l.a.init()
	l.keep.init()
	l.brim.holders = map[*Partition]struct{}{}
	if err := l.recover(); err != nil {
		return nil, errors.Join(err, l.closeLogs(), dir.Close())
	}
	return l, nil
}

func (l *Logs) recover() error {
	r, err := l.dir.TakeRecovery()
	if err != nil {
		return fmt.Errorf("storelog: %w", err)
	}
	l.keep.marks = datadir.Marks{}
	if r.Known {
		maps.Copy(l.keep.marks, r.Marks)
	}
	if err := l.openManifest(&r); err != nil {
		return fmt.Errorf("storelog: %w", err)
	}
	if err := l.openAll(&r); err != nil {
		return fmt.Errorf("storelog: %w", err)
	}
	return l.syncRecovered()
}

// openAll opens the logs, a few at a time.
func (l *Logs) openAll(r *datadir.Recovery) error {
	todo := make(chan *Partition)
	var failed atomic.Pointer[error]
	var running sync.WaitGroup
	for range 2 * runtime.GOMAXPROCS(0) {
		running.Go(func() {
			for p := range todo {
				if err := l.reopen(p, r); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	for _, p := range l.mu.parts {
		if failed.Load() != nil {
			break
		}
		todo <- p
	}
	close(todo)
	running.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// reopen opens the log of a partition, if there is one. It may have been lost
// with its records before they counted, or never been made.
func (l *Logs) reopen(p *Partition, r *datadir.Recovery) error {
	dir := l.dir.LogPath(p.name.String())
	if _, err := l.o.FS.Stat(dir); isMissing(err) {
		return nil
	} else if err != nil {
		return err
	}
	log, err := commitlog.Open(l.o.FS, dir, r.Options(p.name, l.options()))
	if err != nil {
		return err
	}
	log.Idle()
	log.Idle() // Twice: what was used since the last one stays open.
	p.log.Store(log)
	p.stored.Store(int64(log.End()))
	return nil
}

func (l *Logs) options() commitlog.Options {
	o := commitlog.Options{SegmentBytes: l.o.SegmentBytes, Events: l.tell}
	if l.o.Age > 0 {
		// Else a partition with little in it would keep that for a week.
		o.SegmentAge = max(l.o.Age/8, time.Minute)
	}
	return o
}

// tell logs what happens to logs.
func (l *Logs) tell(e commitlog.Event) {
	level := slog.LevelDebug
	switch e.Kind {
	case commitlog.EventTornTail, commitlog.EventDropped, commitlog.EventMarkLost:
		level = slog.LevelWarn
	case commitlog.EventOffline:
		level = slog.LevelError
	}
	l.o.Log.Log(context.Background(), level, string(e.Kind), "dir", filepath.Base(e.Dir), "offset", e.Offset, "bytes", e.Bytes, "err", e.Err)
}

// syncRecovered makes durable what an earlier process wrote and did not sync.
func (l *Logs) syncRecovered() error {
	if !l.o.Sync {
		return nil
	}
	var dirty []*Partition
	for _, p := range l.mu.parts {
		if log := p.log.Load(); log != nil && log.SyncedEnd() < log.End() {
			dirty = append(dirty, p)
		}
	}
	if err := l.dir.SyncNames(); err != nil {
		return err
	}
	if len(dirty) >= manyDirty { // Then the sync of each has nothing to do.
		if err := l.dir.SyncAll(); err != nil {
			return err
		}
	}
	return errors.Join(l.sync(dirty)...)
}

// Directory is the id of the directory, which it keeps for life.
func (l *Logs) Directory() model.UUID { return l.dir.Meta().Directory }

// Partitions are all there are, by number. The slice only grows.
func (l *Logs) Partitions() []*Partition {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mu.parts[:len(l.mu.parts):len(l.mu.parts)]
}

// Partition is the one of a number, which must be one.
func (l *Logs) Partition(number int) *Partition {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mu.parts[number]
}

// Log is where the records of a partition are, or nil if there never were any. It
// is for reading, up to the partition's End.
func (l *Logs) Log(p *Partition) *commitlog.Log {
	l.touch(p)
	return p.log.Load()
}

// Watch has f called whenever a partition has got records or its start has moved,
// without any lock, by the goroutine that did it.
func (l *Logs) Watch(f func(*Partition)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.watchers = append(l.mu.watchers, f)
}

func (l *Logs) changed(p *Partition) {
	l.mu.RLock()
	watchers := l.mu.watchers
	l.mu.RUnlock()
	for _, f := range watchers {
		f(p)
	}
}

// Close makes everything durable, marks it and gives the directory back. Append
// and Keep have returned.
func (l *Logs) Close() error {
	l.sweep()
	err := l.mark()
	err = errors.Join(err, l.closeLogs())
	if err == nil {
		err = l.dir.WriteClean(-1)
	}
	return errors.Join(err, l.dir.Close())
}

func (l *Logs) closeLogs() error {
	var errs []error
	for _, p := range l.Partitions() {
		if log := p.log.Load(); log != nil {
			errs = append(errs, log.Close())
		}
	}
	if l.manifest != nil {
		errs = append(errs, l.manifest.Close())
	}
	return errors.Join(errs...)
}

// Stats are counts since Open.
type Stats struct {
	Records, Bytes uint64 // Appended; bytes of contents.
	Syncs          uint64 // Groups that were made durable.
	Refused        uint64 // Records that could not be appended.
	Dropped        uint64 // Segments that retention deleted.
	Full           bool   // The disk is full, or nearly: records are refused.
}

// Stats returns what was counted.
func (l *Logs) Stats() Stats {
	s := &l.stat
	return Stats{s.records.Load(), s.bytes.Load(), s.syncs.Load(), s.refused.Load(), s.dropped.Load(), l.dir.Full()}
}
