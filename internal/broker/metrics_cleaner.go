package broker

import "time"

func cleanerMetrics() []metric {
	return []metric{
		{"replicas_cleaner_busy_threads", gauge, "Passes of compaction that are under way. All of log.cleaner.threads all the time: raise them, or log.cleaner.io.max.bytes.per.second.", nil},
		{"replicas_cleaner_moved_bytes_total", counter, "Bytes that compaction read or wrote, of the passes under way too. Not rising while threads are busy: log.cleaner.io.max.bytes.per.second is too low, or the disk hangs.", nil},
		{"replicas_cleaner_passes_total", counter, "Passes of compaction that ended well. 0 although compacted topics grow: look at replicas_cleaner_failed_passes_total and at log.cleaner.enable.", nil},
		{"replicas_cleaner_failed_passes_total", counter, "Passes of compaction that ended with an error. Rising: the log says which partition, and why.", nil},
		{"replicas_cleaner_seconds_total", counter, "Time that compaction took, all threads together. Rising by log.cleaner.threads a second: it is never done, so raise them, or log.cleaner.io.max.bytes.per.second.", nil},
		{"replicas_cleaner_read_bytes_total", counter, "Bytes that compaction read. Much more than is written to compacted topics: raise log.cleaner.dedupe.buffer.size or min.cleanable.dirty.ratio.", nil},
		{"replicas_cleaner_written_bytes_total", counter, "Bytes that compaction wrote. Near what it read: there was little to remove, so raise min.cleanable.dirty.ratio.", nil},
		{"replicas_cleaner_freed_bytes_total", counter, "Bytes by which compaction made logs smaller. Few, for much that was read: keys do not repeat, or min.cleanable.dirty.ratio is too low.", nil},
		{"replicas_cleaner_read_records_total", counter, "Records that compaction looked at. Many times those produced: raise log.cleaner.dedupe.buffer.size or min.cleanable.dirty.ratio.", nil},
		{"replicas_cleaner_removed_records_total", counter, "Records that compaction removed. None, for many that were looked at: keys do not repeat, and cleanup.policy=delete may be what is meant.", nil},
		{"replicas_cleaner_map_used_ratio", gauge, "How full the key map of the last pass was. At 1 one pass does not hold all keys of a log: raise log.cleaner.dedupe.buffer.size.", nil},
		{"replicas_cleaner_dirty_ratio", gauge, "Largest share of bytes of a compacted log that wait for compaction. Far above min.cleanable.dirty.ratio: compaction is too slow, or a log cannot be compacted.", nil},
		{"replicas_cleaner_delay_seconds", gauge, "How much longer than max.compaction.lag.ms something has waited for compaction. Not 0 for long: raise log.cleaner.threads.", nil},
		{"replicas_cleaner_uncleanable_partitions", gauge, "Partitions that cannot be compacted, and so only grow. Not 0: the log says which, and why; mend it and change the topic's configuration, or restart.", nil},
		{"replicas_cleaner_idle_seconds", gauge, "Time since compaction looked for work. Long: all threads are at work on one log each, or log.cleaner.backoff.ms is.", nil},
	}
}

func (c *collector) cleaner(s sink) {
	st := c.b.replicas.Load().CleanerStats()
	s.level("replicas_cleaner_busy_threads", st.Busy.Load())
	s.count("replicas_cleaner_moved_bytes_total", st.BytesMoved.Load())
	s.count("replicas_cleaner_passes_total", st.Passes.Load())
	s.count("replicas_cleaner_failed_passes_total", st.Failed.Load())
	s.send("replicas_cleaner_seconds_total", float64(st.Nanos.Load())/1e9)
	s.count("replicas_cleaner_read_bytes_total", st.BytesRead.Load())
	s.count("replicas_cleaner_written_bytes_total", st.BytesWritten.Load())
	s.count("replicas_cleaner_freed_bytes_total", st.BytesFreed.Load())
	s.count("replicas_cleaner_read_records_total", st.RecordsRead.Load())
	s.count("replicas_cleaner_removed_records_total", st.RecordsRemoved.Load())
	s.send("replicas_cleaner_map_used_ratio", float64(st.MapPercent.Load())/100)
	s.send("replicas_cleaner_dirty_ratio", float64(st.DirtyPercent.Load())/100)
	s.send("replicas_cleaner_delay_seconds", float64(st.DelayMillis.Load())/1000)
	s.level("replicas_cleaner_uncleanable_partitions", st.Uncleanable.Load())
	idle := 0.0
	if at := st.LookedNanos.Load(); at > 0 {
		idle = max(0, c.b.opts.Now().Sub(time.Unix(0, at)).Seconds())
	}
	s.send("replicas_cleaner_idle_seconds", idle)
}
