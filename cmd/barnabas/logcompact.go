package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/internal/replicas"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// mender works on log directories that no broker has.
type mender struct {
	asJSON    bool
	retention time.Duration
	segment   string
	memory    string
	dropNoKey bool
	out, err  io.Writer
}

func newLogCompactCmd() *cobra.Command {
	m := &mender{}
	cmd := &cobra.Command{
		Use:   "compact DIR…",
		Short: "Compact the logs of a broker that is stopped",
		Long: `Compact log directories while no broker, ours or Apache Kafka's, has them: of each key the last record stays, by the
rules by which a running broker compacts topics whose cleanup.policy has compact. What it does:

- The last segment is closed, so that all that is committed is compacted, however little of it is dirty.
- Tombstones stay for --delete-retention after compaction has met them for the first time; later runs remove them.
- Offsets stay as they are. A log with an open transaction is compacted up to the segment in which that begins.
- A log with records that have no key is refused: its topic is not a compacted one, and it would lose them.

It needs as much space as one segment, and no more memory than --memory, whatever the number of keys; with little
memory it takes more passes. When it is stopped the log is sound, and the next run goes on.`,
		Example: `  barnabas log compact barnabas-data/letters-0
  barnabas log compact --delete-retention 0s --json /var/lib/kafka/__consumer_offsets-7`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, dirs []string) error { return m.each(cmd, dirs, m.compact) },
	}
	cmd.Flags().BoolVar(&m.asJSON, "json", false, "print a JSON object per log")
	cmd.Flags().DurationVar(&m.retention, "delete-retention", 24*time.Hour, "how long tombstones stay (the topic's delete.retention.ms)")
	cmd.Flags().StringVar(&m.segment, "segment-size", "1GiB", "up to which size segments are merged (the topic's segment.bytes)")
	cmd.Flags().StringVar(&m.memory, "memory", "128MiB", "memory for keys: 24 bytes each")
	cmd.Flags().BoolVar(&m.dropNoKey, "drop-keyless", false, "remove records without keys instead of refusing the log")
	return cmd
}

func newLogReindexCmd() *cobra.Command {
	m := &mender{segment: "1GiB"}
	cmd := &cobra.Command{
		Use:   "reindex DIR…",
		Short: "Make the indexes of the logs of a broker that is stopped anew",
		Long: `Make all indexes of log directories anew from their batches, while no broker, ours or Apache Kafka's, has them: by
offset, by time, and of aborted transactions. Batches are read and their checksums looked at, not changed.

A missing index needs no such thing: a broker makes it when it starts.`,
		Example: `  barnabas log reindex barnabas-data/letters-0
  barnabas log reindex --json /var/lib/kafka/letters-*`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, dirs []string) error { return m.each(cmd, dirs, m.reindex) },
	}
	cmd.Flags().BoolVar(&m.asJSON, "json", false, "print a JSON object per log")
	return cmd
}

// each opens one log after the other and does something to it.
func (m *mender) each(cmd *cobra.Command, dirs []string, do func(context.Context, *replicas.Offline, *meter) error) error {
	m.out, m.err = cmd.OutOrStdout(), cmd.ErrOrStderr()
	for _, dir := range dirs {
		c, err := m.topic(dir)
		if err != nil {
			return err
		}
		if err := m.one(cmd.Context(), dir, c, do); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	return nil
}

// topic is how the topic of a log is kept.
func (m *mender) topic(dir string) (*config.Topic, error) {
	segment, err := parseAmount(m.segment)
	if err != nil || segment < 1<<20 {
		return nil, usage("--segment-size %s: want at least 1MiB", m.segment)
	}
	if m.retention < 0 {
		return nil, usage("--delete-retention %v: want 0 or more", m.retention)
	}
	if filepath.Base(filepath.Clean(dir)) == datadir.MetadataLog {
		return nil, fmt.Errorf("%s: the metadata log is the broker's alone, which makes snapshots of it and mends it when it starts", dir)
	}
	b, _, err := config.Load(config.Sources{Flags: map[string]string{"log.dirs": filepath.Dir(dir)}})
	if err != nil {
		return nil, err
	}
	c, err := config.ResolveTopic(b, map[string]string{
		"cleanup.policy": "compact", "durability": "os", "segment.bytes": strconv.FormatInt(int64(min(segment, 1<<31-1)), 10),
		"delete.retention.ms": strconv.FormatInt(m.retention.Milliseconds(), 10), "min.cleanable.dirty.ratio": "0",
	})
	return &c, err
}

func (m *mender) one(ctx context.Context, dir string, c *config.Topic, do func(context.Context, *replicas.Offline, *meter) error) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := hasLog(dir); err != nil {
		return err
	}
	o, err := replicas.OpenOffline(vfs.OS{}, dir, c)
	switch {
	case errors.Is(err, vfs.ErrLocked):
		return fmt.Errorf("a broker has %s: stop it first", filepath.Dir(dir))
	case errors.Is(err, replicas.ErrNoLog):
		return errors.New("not the log of a partition: those are named TOPIC-NUMBER")
	case err != nil:
		return err
	}
	show := &meter{name: filepath.Base(dir), say: showProgress(m.err), began: time.Now()}
	err = do(ctx, o, show)
	show.say("")
	return errors.Join(explain(err), o.Close())
}

// hasLog refuses a directory that is called like a log and has no file of one: opening it would make a log there.
func hasLog(dir string) error {
	if _, ok := datadir.ParseLogDir(filepath.Base(dir)); !ok {
		return nil // That is for others to say.
	}
	infos, err := vfs.OS{}.ReadDir(dir)
	if err == nil && !slices.ContainsFunc(infos, ofLog) {
		err = errors.New("there is no log in it")
	}
	return err
}

// explain says what to do about a log that cannot be mended.
func explain(err error) error {
	var damage *commitlog.Damage
	switch {
	case errors.As(err, &damage) && errors.Is(err, commitlog.ErrNoKey):
		return fmt.Errorf("%s: byte %d: a record without a key: is its topic a compacted one? --drop-keyless removes such records",
			damage.File, damage.Position)
	case damage != nil:
		return fmt.Errorf("%w; barnabas log verify lists all damage", damage)
	case errors.Is(err, record.ErrShort) || errors.Is(err, record.ErrCorrupt): // Found by whom did not know where.
		return fmt.Errorf("%w; barnabas log verify lists all damage", err)
	}
	return err
}

// compacted is what is printed of a log.
type compacted struct {
	Dir       string       `json:"dir"`
	Passes    int          `json:"passes"`
	Offset    model.Offset `json:"compactedTo"`
	End       model.Offset `json:"endOffset"`
	Before    int64        `json:"bytesBefore"`
	After     int64        `json:"bytesAfter"`
	Removed   int64        `json:"recordsRemoved"`
	Keyless   int64        `json:"keylessRemoved"`
	Seconds   float64      `json:"seconds"`
	Segments  int          `json:"segments"`
	Rewritten int          `json:"segmentsReplaced"`
}

func (m *mender) compact(ctx context.Context, o *replicas.Offline, show *meter) error {
	memory, err := parseAmount(m.memory)
	if err != nil || memory < 1<<20 || memory > 1<<40 {
		return usage("--memory %s: want 1MiB to 1TiB", m.memory)
	}
	keys, err := commitlog.NewOffsetMap(int64(memory), 0.9)
	if err != nil {
		return err
	}
	r := compacted{Dir: o.Log().Dir(), Before: o.Log().Size()}
	sum, passes, err := o.Compact(ctx, time.Now(), partition.CleanTools{
		Map: keys, BufferBytes: 1 << 20, KeysRequired: !m.dropNoKey,
		Pace: func(ctx context.Context, bytes int) error { show.add("compacting", bytes); return ctx.Err() },
	})
	if err != nil {
		return err
	}
	r.Passes, r.Offset, r.End, r.After = passes, sum.End, o.Log().End(), o.Log().Size()
	r.Removed, r.Keyless, r.Seconds = sum.RecordsRead-sum.RecordsKept, sum.Keyless, time.Since(show.began).Seconds()
	r.Segments, r.Rewritten = o.Log().Segments(), sum.Replaced
	if m.asJSON {
		return json.NewEncoder(m.out).Encode(r)
	}
	_, err = fmt.Fprintf(m.out, "%s: %s removed, %s of %s left, compacted up to offset %d of %d\n", show.name,
		count(int(r.Removed), "record"), formatBytes(float64(r.After)), formatBytes(float64(r.Before)), r.Offset, r.End)
	return err
}

// reindexed is what is printed of a log.
type reindexed struct {
	Dir      string  `json:"dir"`
	Segments int64   `json:"segments"`
	Batches  int64   `json:"batches"`
	Bytes    int64   `json:"bytes"`
	Offsets  int64   `json:"offsetEntries"`
	Times    int64   `json:"timeEntries"`
	Aborted  int64   `json:"abortedTransactions"`
	Seconds  float64 `json:"seconds"`
}

func (m *mender) reindex(ctx context.Context, o *replicas.Offline, show *meter) error {
	done, err := o.Reindex(ctx, func(bytes int) { show.add("indexing", bytes) })
	if err != nil {
		return err
	}
	if m.asJSON {
		return json.NewEncoder(m.out).Encode(reindexed{
			Dir: o.Log().Dir(), Segments: done.Segments, Batches: done.Batches, Bytes: done.Bytes,
			Offsets: done.Offsets, Times: done.Times, Aborted: done.Aborted, Seconds: time.Since(show.began).Seconds(),
		})
	}
	_, err = fmt.Fprintf(m.out, "%s: %s indexed, %s\n", show.name, count(int(done.Segments), "segment"), formatBytes(float64(done.Bytes)))
	return err
}

// meter shows on a terminal how far it is.
type meter struct {
	name  string
	say   func(string)
	began time.Time
	shown time.Time
	bytes int64
}

// showEvery is how often a terminal shows progress.
const showEvery = 200 * time.Millisecond

func (s *meter) add(doing string, bytes int) {
	s.bytes += int64(bytes)
	if now := time.Now(); now.Sub(s.shown) >= showEvery {
		s.shown = now
		s.say(fmt.Sprintf("%s %s, %s read and written, %.0f MB/s", doing, s.name, formatBytes(float64(s.bytes)),
			float64(s.bytes)/1e6/max(now.Sub(s.began).Seconds(), 0.001)))
	}
}
