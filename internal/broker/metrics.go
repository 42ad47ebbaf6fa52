package broker

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/barnabas-log/barnabas/wire"
)

// collector turns the counters of the packages into metrics when they are
// asked for; nothing is counted twice and nothing on a hot path is looked up.
type collector struct{ b *Broker }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("barnabas_"+name, help, labels, nil)
}

// Describe sends nothing: the collector is unchecked, its metrics are all in
// Collect.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the counters.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	send := func(kind prometheus.ValueType, name, help string, v float64) {
		out <- prometheus.MustNewConstMetric(desc(name, help), kind, v)
	}
	count := func(name, help string, v uint64) { send(prometheus.CounterValue, name, help, float64(v)) }
	gauge := func(name, help string, v int64) { send(prometheus.GaugeValue, name, help, float64(v)) }

	c.listeners(count, gauge)
	gauge("listener_frame_bytes", "Bytes of requests in memory. Near the limit, reading pauses: raise queued.max.request.bytes or slow the clients.", c.b.budget.InUse())
	gauge("listener_frame_limit_bytes", "Limit of listener_frame_bytes.", c.b.budget.Total())

	s := c.b.api.Stats()
	count("api_malformed_requests_total", "Requests that could not be understood and closed their connection. Look in the log for who sends them.", s.Malformed.Load())
	count("api_produced_bytes_total", "Bytes of record batches appended for clients.", s.ProducedBytes.Load())
	count("api_produced_records_total", "Records appended for clients.", s.ProducedRecords.Load())
	count("api_produce_errors_total", "Partitions of Produce requests answered with an error. Look at the clients' logs for the code.", s.ProduceErrors.Load())
	count("api_fetched_bytes_total", "Bytes of record batches given to readers.", s.FetchedBytes.Load())
	count("api_fetch_errors_total", "Partitions of Fetch requests answered with an error. Look at the clients' logs for the code.", s.FetchErrors.Load())
	gauge("api_fetch_sessions", "Fetch sessions cached. At max.incremental.fetch.session.cache.slots readers send longer requests.", int64(c.b.api.FetchSessions()))
	requests := desc("api_requests_total", "Requests by API.", "api")
	seconds := desc("api_request_seconds_total", "Time from reading a request to its answer, by API, waits included.", "api")
	s.Requests(func(k wire.Key, n uint64, total time.Duration) {
		out <- prometheus.MustNewConstMetric(requests, prometheus.CounterValue, float64(n), k.String())
		out <- prometheus.MustNewConstMetric(seconds, prometheus.CounterValue, total.Seconds(), k.String())
	})
	c.storage(out, count, gauge)
}

func (c *collector) listeners(count func(string, string, uint64), gauge func(string, string, int64)) {
	var accepted, refused, sent uint64
	var open int64
	for _, s := range c.b.servers {
		st := s.Stats()
		accepted += st.Accepted.Load()
		refused += st.Refused.Load()
		sent += st.BytesOut.Load()
		open += st.Open.Load()
	}
	gauge("listener_connections", "Open client connections.", open)
	count("listener_connections_accepted_total", "Connections accepted. A high rate is a client that does not keep its connections.", accepted)
	count("listener_connections_refused_total", "Connections closed at once because of max.connections or max.connections.per.ip.", refused)
	count("listener_sent_bytes_total", "Bytes sent to clients.", sent)
}

func (c *collector) storage(out chan<- prometheus.Metric, count func(string, string, uint64), gauge func(string, string, int64)) {
	r := c.b.replicas.Load()
	t := r.Totals()
	gauge("replicas_partitions", "Partitions of this node.", int64(t.Partitions))
	gauge("replicas_offline_partitions", "Partitions that cannot be served. Not 0: a disk failed, or a directory is missing; the log says which.", int64(t.Offline))
	gauge("replicas_log_bytes", "Bytes of all logs on disk.", t.Bytes)
	count("replicas_flushes_total", "Groups of appends made durable.", r.Stats().Flushes.Load())
	out <- prometheus.MustNewConstMetric(desc("replicas_flush_seconds_total",
		"Time spent making appends durable. Divided by flushes it is the disk's latency, which every acks=all waits for."),
		prometheus.CounterValue, time.Duration(r.Stats().FlushNanos.Load()).Seconds())
	free := desc("datadir_free_bytes", "Free space of the file system of a data directory. Near 0, produce will be refused: delete, or add space.", "dir")
	size := desc("datadir_size_bytes", "Size of the file system of a data directory.", "dir")
	for _, d := range c.b.dirs {
		if f, total, err := d.Free(); err == nil {
			out <- prometheus.MustNewConstMetric(free, prometheus.GaugeValue, float64(f), d.Path())
			out <- prometheus.MustNewConstMetric(size, prometheus.GaugeValue, float64(total), d.Path())
		}
	}
	image := c.b.quorum.Image()
	gauge("metadata_topics", "Topics of the cluster.", int64(image.TopicCount()))
	gauge("metadata_partitions", "Partitions of the cluster.", int64(image.PartitionCount()))
	gauge("metadata_offset", "End of the metadata log.", int64(image.End()))
}
