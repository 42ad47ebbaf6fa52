package broker

import (
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/internal/quota"
	"github.com/barnabas-log/barnabas/model"
)

func quotaKey(k int) string { return quota.Kind(k).Key() }

func replicaMetrics() []metric {
	dir, part := []string{"dir"}, []string{"topic", "partition"}
	return []metric{
		{"replicas_partitions", gauge, "Partitions that this node has. Tens of thousands: each costs memory and open files, so let topics have fewer.", nil},
		{"replicas_offline_partitions", gauge, "Partitions that cannot be served. Not 0: a disk failed, or a directory is missing; the log says which.", nil},
		{"replicas_log_bytes", gauge, "Bytes of all logs. Shorten retention.ms or retention.bytes before the disk is full.", nil},
		{"replicas_segments", gauge, "Segments of all logs. Hundreds a partition: raise segment.bytes or segment.ms.", nil},
		{"replicas_producers", gauge, "Producer ids remembered, over all partitions. Many: clients get a new id for each few records, so let them keep their producers.", nil},
		{"replicas_oldest_transaction_seconds", gauge, "Age of the oldest transaction that is open in a partition; 0 if none is. Above transaction.max.timeout.ms and some minutes it hangs, and read_committed readers of that partition with it: barnabas txn find-hanging names it, barnabas txn abort ends it.", nil},
		{"replicas_unsynced_records", gauge, "Records appended and not durable yet. With durability=fsync it is what one sync takes; growing without end the disk is too slow.", nil},
		{"replicas_flush_seconds", times, "Time to make a group of appends durable, which every acks=all waits for. When it is long the disk is: use a faster one, or more directories.", nil},
		{"replicas_flushed_bytes_total", counter, "Bytes made durable. Divided by the number of flushes, how much shares one: little, while flushes are slow, means that producers should send larger batches.", nil},
		{"replicas_flushed_partitions_total", counter, "Partitions that flushes made durable. Divided by the number of flushes, how many share one: hundreds make flushes slow, so use more directories.", nil},
		{"datadir_online", gauge, "1 while a data directory can be used. 0: replace the disk, or correct its mount, and restart.", dir},
		{"datadir_free_bytes", gauge, "Free space of the file system of a data directory. Near 0, produce is refused: delete, or add space.", dir},
		{"datadir_size_bytes", gauge, "Size of the file system of a data directory. Smaller than the disk: the directory is not where you think, or not mounted.", dir},
		{"datadir_used_ratio", gauge, "How full the file system of a data directory is, from 0 to 1. Above 0.9: shorten retention, set log.retention.disk.percent, or add space.", dir},
		{"datadir_full", gauge, "1 while a data directory has used up its reserve and refuses writes. Make space at once.", dir},
		{"datadir_partitions", gauge, "Partitions in a data directory, copies on their way there included. Uneven: move some with kafka-reassign-partitions.", dir},
		{"datadir_moving_partitions", gauge, "Partitions that are being copied to a data directory. For long: raise replica.alter.log.dirs.io.max.bytes.per.second.", dir},
		{"datadir_deleted_segments_total", counter, "Segments deleted in a data directory, for whatever reason. Many a second: raise segment.bytes or segment.ms of small topics.", dir},
		{"datadir_deleted_bytes_total", counter, "Bytes of deleted segments in a data directory, for whatever reason. Less than is produced, for longer than retention lasts: the disk fills.", dir},
		{"datadir_percent_limit", gauge, "log.retention.disk.percent, 0 while it is off. Set it where a full disk would be worse than records that go early.", dir},
		{"datadir_percent_deleted_bytes_total", counter, "Bytes deleted because of log.retention.disk.percent. Growing: topics keep less than their retention says, so add space, or shorten it.", dir},
		{"datadir_percent_stuck", gauge, "1 while a file system is fuller than log.retention.disk.percent and nothing is left to delete. Something else fills it, or compacted topics do: make space.", dir},
		{"partition_log_bytes", gauge, "Bytes of a partition's log. Far more than in others of its topic: its keys are uneven. Shown with metrics.partitions=true.", part},
		{"partition_segments", gauge, "Segments of a partition. Hundreds: raise segment.bytes or segment.ms of its topic. Shown with metrics.partitions=true.", part},
		{"partition_start_offset", gauge, "First offset of a partition. Beyond where a group reads: that group has lost records to retention. Shown with metrics.partitions=true.", part},
		{"partition_end_offset", gauge, "One past the last offset of a partition. Its rate is the records per second. Shown with metrics.partitions=true.", part},
		{"partition_committed_offset", gauge, "How far a partition is committed. Behind the end for long: the disk is slow. Shown with metrics.partitions=true.", part},
		{"partition_stable_offset", gauge, "How far read_committed readers get. Behind the committed offset for long: a transaction hangs. Shown with metrics.partitions=true.", part},
		{"partition_oldest_transaction_seconds", gauge, "Age of the oldest transaction that is open in a partition; 0 if none is. See replicas_oldest_transaction_seconds. Shown with metrics.partitions=true.", part},
	}
}

func (c *collector) replicas(s sink) {
	r := c.b.replicas.Load()
	t := r.Totals()
	s.level("replicas_partitions", int64(t.Partitions))
	s.level("replicas_offline_partitions", int64(t.Offline))
	s.level("replicas_log_bytes", t.Bytes)
	s.level("replicas_segments", int64(t.Segments))
	s.level("replicas_producers", int64(t.Producers))
	s.send("replicas_oldest_transaction_seconds", c.age(t.OldestTxn))
	s.level("replicas_unsynced_records", t.Unsynced)
	st := r.Stats()
	s.times("replicas_flush_seconds", st.Flushes.Counts())
	s.count("replicas_flushed_bytes_total", st.FlushedBytes.Load())
	s.count("replicas_flushed_partitions_total", st.FlushedPartitions.Load())
	if c.b.configIn(c.b.quorum.Image()).PartitionMetrics {
		c.partitions(s)
	}
}

// age is for how many seconds something lasts that began at a time in
// milliseconds since 1970; 0 is nothing.
func (c *collector) age(since int64) float64 {
	if since <= 0 {
		return 0
	}
	return max(0, float64(c.b.opts.Now().UnixMilli()-since)/1000)
}

// partitions shows each partition for itself: seven series each, so only who
// asks for it gets it.
func (c *collector) partitions(s sink) {
	c.b.replicas.Load().Numbers(func(p model.Partition, n partition.Numbers) {
		index := strconv.Itoa(int(p.Index))
		s.level("partition_log_bytes", n.Bytes, p.Topic, index)
		s.level("partition_segments", int64(n.Segments), p.Topic, index)
		s.level("partition_start_offset", int64(n.Start), p.Topic, index)
		s.level("partition_end_offset", int64(n.End), p.Topic, index)
		s.level("partition_committed_offset", int64(n.Committed), p.Topic, index)
		s.level("partition_stable_offset", int64(n.Stable), p.Topic, index)
		s.send("partition_oldest_transaction_seconds", c.age(n.OldestTxn), p.Topic, index)
	})
}

func (c *collector) disks(s sink) {
	for _, path := range c.b.config.LogDirs {
		if abs, err := filepath.Abs(path); err == nil {
			s.level("datadir_online", number(c.b.replicas.Load().Online(abs)), inLabel(abs))
		}
	}
	for _, d := range c.b.replicas.Load().DirStats() {
		dir := inLabel(d.Path)
		s.level("datadir_partitions", d.Partitions, dir)
		s.level("datadir_moving_partitions", d.Moving, dir)
		s.count("datadir_deleted_segments_total", d.DeletedSegments, dir)
		s.count("datadir_deleted_bytes_total", d.DeletedBytes, dir)
		s.level("datadir_percent_limit", d.Percent, dir)
		s.count("datadir_percent_deleted_bytes_total", d.PercentBytes, dir)
		s.level("datadir_percent_stuck", number(d.PercentStuck), dir)
	}
	dirs := c.b.dirs
	if !slices.Contains(dirs, c.b.metadata) { // A directory of its own. Were it not usable, nobody would be here to say so.
		dirs = append(slices.Clone(dirs), c.b.metadata)
		s.level("datadir_online", 1, inLabel(c.b.metadata.Path()))
	}
	for _, d := range dirs {
		dir := inLabel(d.Path())
		u, err := d.Usage()
		if err != nil {
			continue
		}
		s.level("datadir_free_bytes", u.Free, dir)
		s.level("datadir_size_bytes", u.Total, dir)
		s.send("datadir_used_ratio", u.Percent()/100, dir)
		s.level("datadir_full", number(d.Full()), dir)
	}
}

// inLabel makes a path fit for a label, which must be UTF-8: a path need not.
func inLabel(path string) string { return strings.ToValidUTF8(path, "\uFFFD") }

// number is 1 for true.
func number(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func clusterMetrics() []metric {
	return []metric{
		{"metadata_topics", gauge, "Topics of the cluster. Growing by itself: clients make them by mistake, so set auto.create.topics.enable=false.", nil},
		{"metadata_partitions", gauge, "Partitions of the cluster. Tens of thousands make starts longer: let topics have fewer.", nil},
		{"metadata_brokers", gauge, "Brokers that are registered, by whether they may be given work. A fenced one: start it again, or unregister it.", []string{"state"}},
		{"metadata_offset", gauge, "End of the metadata log. It grows with every change of topics and configurations: when it never rests, find out who changes them.", nil},
		{"metadata_epoch", gauge, "Leader epoch of the metadata log. It rises with every start: when nobody started the node, look in the log why it ended.", nil},
		{"metadata_controller", gauge, "1 while this node decides for the cluster. The sum over a cluster is 1: else nobody, or more than one, does; look whether its nodes run and reach each other.", []string{"cluster"}},
		{"metadata_leaders", gauge, "Partitions that this node leads. 0 in a cluster that works: it is fenced, or has just started.", nil},
		{"metadata_leaderless_partitions", gauge, "Partitions without a leader, which nobody can use. Not 0: start the brokers that have them.", nil},
		{"metadata_under_replicated_partitions", gauge, "Partitions that this node leads and not all replicas of which are in sync. Not 0 for long: a broker is down or slow.", nil},
		{"metadata_under_min_isr_partitions", gauge, "Partitions that this node leads with fewer in-sync replicas than min.insync.replicas. Not 0: acks=all is refused, so bring replicas back.", nil},
		{"metadata_at_min_isr_partitions", gauge, "Partitions that this node leads with just min.insync.replicas in sync, and more replicas. One more failure stops acks=all.", nil},
	}
}

func (c *collector) cluster(s sink) {
	image := c.b.quorum.Image()
	s.level("metadata_topics", int64(image.TopicCount()))
	s.level("metadata_partitions", int64(image.PartitionCount()))
	live := len(image.Live())
	s.level("metadata_brokers", int64(live), "live")
	s.level("metadata_brokers", int64(len(image.Brokers())-live), "fenced")
	s.level("metadata_offset", int64(image.End()))
	s.level("metadata_epoch", int64(c.b.quorum.Epoch()))
	s.level("metadata_controller", 1, c.b.ClusterID())
	h := c.health(image)
	s.level("metadata_leaders", h.leaders)
	s.level("metadata_leaderless_partitions", h.leaderless)
	s.level("metadata_under_replicated_partitions", h.underReplicated)
	s.level("metadata_under_min_isr_partitions", h.underMinISR)
	s.level("metadata_at_min_isr_partitions", h.atMinISR)
}

// health is how many partitions need somebody.
type health struct {
	leaders, leaderless, underReplicated, underMinISR, atMinISR int64
}

func (c *collector) health(image *metadata.Image) (h health) {
	byDefault := c.b.configIn(image).Topic.MinISR
	image.Topics("", func(t *metadata.Topic) bool {
		minISR := byDefault
		if text, ok := image.Config(metadata.Resource{Type: metadata.ResourceTopic, Name: t.Name})["min.insync.replicas"]; ok {
			if n, err := config.ParseInt(text); err == nil {
				minISR = int(n)
			}
		}
		for _, p := range t.Partitions {
			h.look(p, c.b.self(), minISR)
		}
		return true
	})
	return h
}

func (h *health) look(p *metadata.Partition, self model.NodeID, minISR int) {
	if p.Leader == model.NoNode {
		h.leaderless++
	}
	if p.Leader != self {
		return
	}
	h.leaders++
	minISR = min(minISR, len(p.Replicas))
	switch n := len(p.ISR); {
	case n < minISR:
		h.underMinISR++
	case n == minISR && len(p.Replicas) > minISR:
		h.atMinISR++
	}
	if len(p.ISR) < len(p.Replicas) {
		h.underReplicated++
	}
}
