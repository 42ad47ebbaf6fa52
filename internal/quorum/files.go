package quorum

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

const (
	stateFile      = "quorum-state"
	snapshotSuffix = ".checkpoint"
	// maxState is far above what a quorum-state of many voters takes.
	maxState = 1 << 20
	// maxSnapshot bounds what is read of one snapshot into memory.
	maxSnapshot = 4 << 30
	// snapshotBatch is how many records share a batch of a snapshot.
	snapshotBatch = 1024
)

// metadataTopicID is the id that Kafka reserves for its metadata topic.
func metadataTopicID() model.TopicID { return model.TopicID{15: 1} }

// prepareDir makes the directory of the metadata log.
func (q *Quorum) prepareDir() error {
	_, err := q.fs.Stat(q.path(datadir.PartitionMetaFile))
	if errors.Is(err, fs.ErrNotExist) {
		if err := q.fs.MkdirAll(q.dir); err != nil {
			return err
		}
		err = vfs.WriteFile(q.fs, q.path(datadir.PartitionMetaFile), datadir.FormatTopicID(metadataTopicID()))
	}
	if err != nil {
		return err
	}
	// An earlier start may have been killed before it synced the name.
	return q.fs.SyncDir(q.opts.Dir.Path())
}

// state is Kafka's quorum-state, data version 0: with static voters.
type state struct {
	ClusterID     string  `json:"clusterId"`
	LeaderID      int32   `json:"leaderId"`
	LeaderEpoch   int32   `json:"leaderEpoch"`
	VotedID       int32   `json:"votedId"`
	AppliedOffset int64   `json:"appliedOffset"`
	CurrentVoters []voter `json:"currentVoters"`
	DataVersion   int     `json:"data_version"`
}

type voter struct {
	VoterID int32 `json:"voterId"`
}

func (q *Quorum) readState() (state, error) {
	var s state
	b, err := vfs.ReadFile(q.fs, q.path(stateFile), maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("%s: damaged: delete it, for the log knows its epoch, too: %w", q.path(stateFile), err)
	}
	for _, v := range s.CurrentVoters {
		if v.VoterID != int32(q.opts.Self) {
			return s, fmt.Errorf("%s: node %d is a voter too; a directory of a larger quorum cannot be taken over by one node",
				q.path(stateFile), v.VoterID)
		}
	}
	return s, nil
}

func (q *Quorum) writeState() error {
	self := int32(q.opts.Self)
	b, err := json.Marshal(state{LeaderID: self, LeaderEpoch: int32(q.epoch), VotedID: -1, CurrentVoters: []voter{{self}}})
	if err != nil {
		return err
	}
	return q.opts.Dir.Spend(func() error { return vfs.WriteFile(q.fs, q.path(stateFile), b) })
}

// snapshotName is Kafka's: end and epoch of what the snapshot contains.
func snapshotName(end model.Offset, epoch model.Epoch) string {
	return fmt.Sprintf("%020d-%010d%s", end, epoch, snapshotSuffix)
}

func parseSnapshotName(name string) (end model.Offset, ok bool) {
	plain, ok := strings.CutSuffix(name, snapshotSuffix)
	if !ok || len(plain) != 31 || plain[20] != '-' {
		return 0, false
	}
	n, err := strconv.ParseInt(plain[:20], 10, 64)
	if _, err2 := strconv.ParseInt(plain[21:], 10, 32); err != nil || err2 != nil || n < 0 {
		return 0, false
	}
	return model.Offset(n), true
}

// snapshots lists the snapshots, the newest first.
func (q *Quorum) snapshots() ([]string, error) {
	infos, err := q.fs.ReadDir(q.dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, i := range infos {
		if _, ok := parseSnapshotName(i.Name); ok {
			names = append(names, i.Name)
		}
	}
	slices.Sort(names)
	slices.Reverse(names)
	return names, nil
}

// loadSnapshot returns the image of the newest snapshot that is whole. One
// that is not was being written when the node stopped: the log still has what
// it was made from. One that is whole and not understood is refused: the log
// behind it is gone, or holds the same.
func (q *Quorum) loadSnapshot() (*metadata.Image, error) {
	names, err := q.snapshots()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		image, err := q.readSnapshot(name)
		if !errors.Is(err, errTorn) {
			return image, err
		}
		q.opts.Log.Warn("metadata snapshot skipped", "file", q.path(name), "err", err)
	}
	return metadata.Empty(), nil
}

// errTorn says that a snapshot is not whole.
var errTorn = errors.New("snapshot not whole")

func (q *Quorum) readSnapshot(name string) (*metadata.Image, error) {
	end, _ := parseSnapshotName(name)
	b, err := vfs.ReadFile(q.fs, q.path(name), maxSnapshot)
	if err != nil {
		return nil, err
	}
	var records []metadata.Record
	whole := false
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errTorn, err)
		}
		if batch.CRC() != batch.ComputeCRC() {
			return nil, fmt.Errorf("%w: %w", errTorn, record.ErrCorrupt)
		}
		b = rest
		if batch.IsControl() {
			c, err := batch.Control()
			if err != nil {
				return nil, err
			}
			whole = c.Type == record.SnapshotFooter
			continue
		}
		some, err := decode(batch)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", q.path(name), err)
		}
		records = append(records, some...)
	}
	if !whole {
		return nil, fmt.Errorf("%w: no footer", errTorn)
	}
	return metadata.FromSnapshot(end, records)
}

// maybeSnapshot writes a snapshot when the log has grown enough, and gives up
// the log and the snapshots before it. What fails is tried again when the log
// has grown as much once more: the log has everything. Only a log that can no
// longer be trusted is an error.
func (q *Quorum) maybeSnapshot() error {
	now := q.opts.Now()
	old := q.opts.SnapshotInterval > 0 && q.sinceBytes > 0 && now.Sub(q.snapshotAt) >= q.opts.SnapshotInterval
	if q.sinceBytes < q.opts.SnapshotBytes && !old || q.tracker.Open() {
		return nil
	}
	image := q.tracker.Image()
	q.sinceBytes, q.snapshotAt = 0, now
	err := q.opts.Dir.Spend(func() error { return q.writeSnapshot(image) })
	if err == nil {
		q.snapshotted = image.End()
		err = q.opts.Dir.Spend(q.trim)
	}
	if err != nil {
		q.opts.Log.Error("metadata snapshot not written", "dir", q.dir, "err", err)
	} else {
		q.opts.Log.Info("metadata snapshot written", "dir", q.dir, "offset", image.End())
	}
	return q.log.Err()
}

func (q *Quorum) writeSnapshot(image *metadata.Image) error {
	now := q.opts.Now().UnixMilli()
	at := model.Offset(0)
	var out []byte
	batch := func(control bool, records []record.Record) error {
		b := record.NewBuilder(record.BuilderOptions{BaseOffset: at, LeaderEpoch: q.epoch, Control: control})
		for _, r := range records {
			if err := b.Add(r); err != nil {
				return err
			}
		}
		at += model.Offset(len(records))
		var err error
		out, _, err = b.Build(out)
		return err
	}
	if err := batch(true, []record.Record{record.SnapshotHeaderRecord(now, q.lastRecordAt)}); err != nil {
		return err
	}
	for some := range slices.Chunk(image.Snapshot(), snapshotBatch) {
		records := make([]record.Record, 0, len(some))
		for _, r := range some {
			value, err := wire.AppendMetadataRecord(nil, r.Message, r.Version)
			if err != nil {
				return err
			}
			records = append(records, record.Record{Timestamp: now, Value: value})
		}
		if err := batch(false, records); err != nil {
			return err
		}
	}
	if err := batch(true, []record.Record{record.SnapshotFooterRecord(now)}); err != nil {
		return err
	}
	return vfs.WriteFile(q.fs, q.path(snapshotName(image.End(), q.epoch)), out)
}

// trim removes the snapshots before the newest, and segments that lie wholly
// below it.
func (q *Quorum) trim() error {
	names, err := q.snapshots()
	if err != nil {
		return err
	}
	for _, name := range names {
		if end, _ := parseSnapshotName(name); end < q.snapshotted {
			if err := q.fs.Remove(q.path(name)); err != nil {
				return err
			}
		}
	}
	if err := q.log.Roll(); err != nil {
		return err
	}
	if err := q.log.SetStart(q.snapshotted); err != nil {
		return err
	}
	now := q.opts.Now()
	if _, err := q.log.Retain(now, commitlog.Retention{Limit: q.snapshotted}); err != nil {
		return err
	}
	_, err = q.log.DeleteExpired(now, 0)
	return err
}
