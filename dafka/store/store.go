package store

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/barnabas-log/barnabas/dafka"
	"github.com/barnabas-log/barnabas/internal/mesh"
	"github.com/barnabas-log/barnabas/internal/storelog"
	"github.com/barnabas-log/barnabas/internal/vfs"
)

// Options say what is not in the configuration.
type Options struct {
	FS  vfs.FS           // Nil: the operating system's. For tests.
	Now func() time.Time // Nil: time.Now. For tests: it dates records.
	Log *slog.Logger     // Nil: nothing is logged.
}

// Store is a store that runs. Its methods may be called by several goroutines.
type Store struct {
	logs   *storelog.Logs
	writer *writer
	reader *reader

	stop    context.CancelFunc
	running sync.WaitGroup
	closing sync.Once
	closed  error
}

// New opens the directory of a store (store/db), making it if need be, and joins
// the mesh, of which nobody need be there yet. It fails if another process has
// the directory, or if it cannot be read.
func New(c *dafka.Config, o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	x := &c.Store
	logs, err := storelog.Open(x.DB, storelog.Options{
		FS: o.FS, Sync: x.Sync, SegmentBytes: x.SegmentBytes, Age: x.RetentionTime, Bytes: x.RetentionSize, DiskPercent: x.DiskPercent,
		Now: o.Now, Log: o.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("dafka/store: %w", err)
	}
	s := &Store{logs: logs}
	if err := s.join(c, o.Log); err != nil {
		return nil, errors.Join(fmt.Errorf("dafka/store: %w", err), logs.Close())
	}
	return s, nil
}

// join makes the two nodes and lets everything run.
func (s *Store) join(c *dafka.Config, log *slog.Logger) error {
	security, err := mesh.ParseSecurity(c.Public, c.Secret)
	if err != nil {
		return err
	}
	o := mesh.Options{
		Bind: c.Beacon.Bind, Host: c.Beacon.Address, ToTowers: c.Beacon.Sub, FromTowers: c.Beacon.Pub,
		Interval: c.Beacon.Interval, Timeout: c.Beacon.Timeout, HighWater: c.Store.HighWatermark,
		HighWaterBytes: queued, Linger: linger, Security: security, Log: log,
	}
	id := s.logs.Directory()
	writes, reads := strings.ToUpper(hex.EncodeToString(id[:])), mesh.NewAddress()
	s.reader = newReader(s.logs, reads, writes, log)
	s.writer = newWriter(s.logs, writes, reads, log)
	if err := s.reader.Join(reads, o); err != nil {
		return err
	}
	o.Bind = mesh.NextPort(o.Bind)
	if err := s.writer.join(o); err != nil {
		return errors.Join(err, s.reader.Node.Close(context.Background()))
	}
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	s.running.Go(func() { s.reader.run(ctx) })
	s.running.Go(func() { s.writer.run(ctx) })
	s.running.Go(func() { s.logs.Keep(ctx) })
	return nil
}

const (
	// linger is how long the last messages may take when the store leaves.
	linger = 2 * time.Second
	// queued is how many bytes may wait for one peer, besides the messages of
	// store/high_watermark: there may be many who read slowly.
	queued = 8 << 20
)

// Close leaves the mesh and closes the logs. What is not stored by then was not
// acknowledged. ctx bounds how long the last messages may take.
func (s *Store) Close(ctx context.Context) error {
	s.closing.Do(func() {
		s.writer.close()
		s.stop()
		s.running.Wait()
		err := errors.Join(s.writer.node.Close(ctx), s.reader.Node.Close(ctx))
		s.closed = errors.Join(s.logs.Close(), left(ctx, err))
	})
	return s.closed
}

// left is what went wrong in leaving; who did not want to wait is not told.
func left(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Partition is what the store has of a producer's partition.
type Partition struct {
	dafka.Partition
	Number     int    // Its own for ever in this store.
	Start, End uint64 // Of its records; Start is above 0 where earlier ones are gone.
	Bytes      int64
}

// Partitions are all that the store has, by number.
func (s *Store) Partitions() []Partition {
	all := s.logs.Partitions()
	out := make([]Partition, len(all))
	for i, p := range all {
		out[i] = Partition{dafka.Partition{Topic: p.Subject, Producer: p.Address}, p.Number, p.Start(), p.End(), p.Bytes()}
	}
	return out
}

// Address is that of the writer, which acknowledges. It stays over restarts.
func (s *Store) Address() string { return s.writer.node.Address() }

// Stats are what a store has counted since it began.
type Stats struct {
	Writer, Reader dafka.Stats
	Records, Bytes uint64 // Stored; bytes of their contents.
	Syncs          uint64 // Groups of records that were stored, with store/fsync.
	Refused        uint64 // Records that could not be stored.
	Served         uint64 // Records that were sent to who asked.
	Deleted        uint64 // Segments that retention deleted.
	Strangers      uint64 // Messages of partitions beyond what a store can have.
	Full           bool   // The disk is full: nothing is stored until there is space.
}

// Stats returns what was counted.
func (s *Store) Stats() Stats {
	l := s.logs.Stats()
	return Stats{
		dafka.Stats(s.writer.node.Stats()), dafka.Stats(s.reader.Node.Stats()), l.Records, l.Bytes, l.Syncs, l.Refused,
		s.reader.Served.Load(), l.Dropped, s.writer.strangers(), l.Full,
	}
}
