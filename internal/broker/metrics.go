package broker

import (
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/barnabas-log/barnabas/internal/histogram"
	"github.com/barnabas-log/barnabas/internal/invariant"
)

// metric is a row of the tables of metrics: what /metrics shows, and what
// docs/operating/metrics.md says of it.
type metric struct {
	name   string // Without the prefix.
	kind   kind
	help   string // What to do about it.
	labels []string
}

type kind int8

const (
	counter kind = iota
	gauge
	times // A histogram of seconds.
	// mean is a summary of values that say nothing alone: their sum and how many.
	mean
)

func (k kind) String() string { return [...]string{"counter", "gauge", "histogram", "summary"}[k] }

func (k kind) valueType() prometheus.ValueType {
	if k == counter {
		return prometheus.CounterValue
	}
	return prometheus.GaugeValue
}

const metricPrefix = "barnabas_"

// metrics are all that we have, but for those of Go and of the process.
func metrics() []metric {
	var all []metric
	for _, table := range [][]metric{listenerMetrics(), apiMetrics(), clientMetrics(), replicaMetrics(), cleanerMetrics(), bridgeMetrics(), clusterMetrics(), nodeMetrics()} {
		all = append(all, table...)
	}
	return all
}

// described are the metrics as Prometheus knows them, made once.
var described = sync.OnceValue(func() map[string]describedMetric {
	all := map[string]describedMetric{}
	for _, m := range metrics() {
		all[m.name] = describedMetric{m.kind, prometheus.NewDesc(metricPrefix+m.name, m.help, m.labels, nil)}
	}
	return all
})

type describedMetric struct {
	kind kind
	desc *prometheus.Desc
}

// collector turns the counters of the packages into metrics when they are
// asked for; nothing is counted twice and nothing on a hot path is looked up.
type collector struct{ b *Broker }

// Describe sends nothing: the collector is unchecked, its metrics are all in
// Collect.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the counters. While the node starts there are none, and it says
// so: ready is 0.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := sink{out, described()}
	c.node(s)
	if !c.b.opened.Load() {
		return
	}
	c.listeners(s)
	c.api(s)
	c.quotas(s)
	c.clients(s)
	c.replicas(s)
	c.cleaner(s)
	c.bridge(s)
	c.disks(s)
	c.cluster(s)
}

// sink sends metrics. Values of labels are in the order of the metric's table.
type sink struct {
	out  chan<- prometheus.Metric
	desc map[string]describedMetric
}

func (s sink) of(name string) describedMetric {
	d, ok := s.desc[name]
	invariant.Must(ok, "broker: metric %s is in no table", name)
	return d
}

// send sends a counter or a gauge.
func (s sink) send(name string, v float64, labels ...string) {
	d := s.of(name)
	s.out <- prometheus.MustNewConstMetric(d.desc, d.kind.valueType(), v, labels...)
}

func (s sink) count(name string, v uint64, labels ...string) { s.send(name, float64(v), labels...) }

func (s sink) level(name string, v int64, labels ...string) { s.send(name, float64(v), labels...) }

// times sends a histogram of durations.
func (s sink) times(name string, c histogram.Counts, labels ...string) {
	s.out <- prometheus.MustNewConstHistogram(s.of(name).desc, c.Total(), c.Sum.Seconds(), c.Buckets(), labels...)
}

// mean sends a sum and a count.
func (s sink) mean(name string, n uint64, sum float64, labels ...string) {
	s.out <- prometheus.MustNewConstSummary(s.of(name).desc, n, sum, nil, labels...)
}

func nodeMetrics() []metric {
	return []metric{
		{"build_info", gauge, "Always 1; the labels say which version runs. Two versions in one cluster for longer than an upgrade: finish it.", []string{"version", "goversion"}},
		{"ready", gauge, "1 while the node serves and none of its partitions is offline, as /ready says. 0 for longer than a start: look in the log.", nil},
	}
}

func (c *collector) node(s sink) {
	version := "dev"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		version = info.Main.Version
	}
	s.level("build_info", 1, version, runtime.Version())
	s.level("ready", number(c.b.notReady() == ""))
}
