package metrics

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/barnabas-log/barnabas/tests/kafka"
	"github.com/barnabas-log/barnabas/tests/node"
)

// The fields of OpenTelemetry's messages, as protobuf writes them.

func message(number int, fields ...[]byte) []byte {
	var body []byte
	for _, f := range fields {
		body = append(body, f...)
	}
	b := binary.AppendUvarint(nil, uint64(number)<<3|2)
	return append(binary.AppendUvarint(b, uint64(len(body))), body...)
}

func varint(number int, v uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(nil, uint64(number)<<3), v)
}

func fixed(number int, bits uint64) []byte {
	return binary.LittleEndian.AppendUint64(binary.AppendUvarint(nil, uint64(number)<<3|1), bits)
}

// otlp is a push with a counter, a gauge and a histogram.
func otlp() []byte {
	number := message(1, message(7, message(1, []byte("client_id"))), fixed(4, math.Float64bits(2.5)))
	distribution := message(1, fixed(4, 3), fixed(5, math.Float64bits(6)))
	metric := func(name string, data []byte) []byte { return message(2, message(1, []byte(name)), data) }
	return message(1, message(
		2,
		metric("org.apache.kafka.test.sent", message(7, number, varint(2, 1), varint(3, 1))),
		metric("org.apache.kafka.test.queue", message(5, number)),
		metric("org.apache.kafka.test.wait", message(9, distribution, varint(2, 1))),
	))
}

// push pushes metrics as a client does.
func (b *broker) push() {
	t := b.t
	t.Helper()
	c := b.client()
	get, err := kmsg.NewPtrGetTelemetrySubscriptionsRequest().RequestWith(t.Context(), c)
	if err != nil || get.ErrorCode != 0 || len(get.RequestedMetrics) != 1 {
		t.Fatalf("%+v, %v", get, err)
	}
	q := kmsg.NewPtrPushTelemetryRequest()
	q.ClientInstanceID, q.SubscriptionID, q.Metrics = get.ClientInstanceID, get.SubscriptionID, otlp()
	r, err := q.RequestWith(t.Context(), c)
	if err != nil || r.ErrorCode != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
}

// total sums up what a client metric has come to; it reports false if there is none of that name.
func total(families map[string]*dto.MetricFamily, family, metric string) (sum float64, found bool) {
	f := families[family]
	if f == nil {
		return 0, false
	}
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() == "metric" && l.GetValue() == metric {
				found = true
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetSummary().GetSampleSum()
			}
		}
	}
	return sum, found
}

// What clients push is added up, by metric and software; nothing tells which client it was.
func TestPush(t *testing.T) {
	b := start(t)
	b.subscribe()
	b.push()
	b.push()
	families := b.scrape()
	f := func(family, metric string, want float64) {
		t.Helper()
		if got, found := total(families, family, metric); !found || got != want {
			t.Errorf("%s of %s: %v (%v), want %v", family, metric, got, found, want)
		}
	}
	f("barnabas_client_counts_total", "org.apache.kafka.test.sent", 5)
	f("barnabas_client_values", "org.apache.kafka.test.queue", 5)
	f("barnabas_client_values_max", "org.apache.kafka.test.queue", 2.5)
	f("barnabas_client_values", "org.apache.kafka.test.wait", 12)
	for name, family := range families {
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if strings.HasPrefix(name, "barnabas_client_") && !strings.Contains("metric software version quantile", l.GetName()) {
					t.Errorf("%s has a label %s", name, l.GetName())
				}
			}
		}
	}
}

// Kafka's own Java client pushes its metrics without being told to, and they are seen.
func TestJavaClientPushes(t *testing.T) {
	file, err := filepath.Abs("java/Pusher.java")
	if err != nil {
		t.Fatal(err)
	}
	b := start(t)
	b.subscribe()
	b.work()
	cmd, err := kafka.Java(kafka.Clients, file, b.Addr, "t", "5000")
	if errors.Is(err, kafka.ErrMissing) {
		node.Missing(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	families := b.scrape()
	sent, found := total(families, "barnabas_client_counts_total", "org.apache.kafka.producer.record.send.total")
	if !found || sent < 100 {
		t.Errorf("%v records sent by the client's own count (%v)", sent, found)
	}
	if _, found := total(families, "barnabas_client_values", "org.apache.kafka.producer.request.latency.avg"); !found {
		t.Error("no latency")
	}
	names := map[string]bool{}
	for name, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if strings.Contains(l.GetValue(), "secret") {
					t.Errorf("%s tells which client it was: %v", name, l)
				}
				if strings.HasPrefix(name, "barnabas_client_") && l.GetName() == "software" {
					names[l.GetValue()] = true
				}
				if strings.HasPrefix(name, "barnabas_client_") && l.GetName() == "metric" {
					names[l.GetValue()] = true
				}
			}
		}
	}
	if !names["apache-kafka-java"] || len(names) < 10 {
		t.Errorf("only %v", names)
	}
	t.Logf("%d names, %v records", len(names), sent)
	if v := families["barnabas_client_pushes_malformed_total"].GetMetric()[0].GetCounter().GetValue(); v != 0 {
		t.Errorf("%v pushes of the Java client could not be read", v)
	}
}

// While a broker works, what it counts never falls from one scrape to the next, and buckets hold what the count says: rates and
// quantiles are nonsense otherwise.
func TestScrapesAgree(t *testing.T) {
	b := start(t, "metrics.partitions=true")
	b.subscribe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.work()
		for range 5 {
			b.push()
		}
	}()
	before, scrapes := map[string]float64{}, 0
	for ended := false; !ended; scrapes++ {
		select {
		case <-done:
			ended = true // This scrape is the last one.
		default:
		}
		for key, v := range counts(t, b.scrape()) {
			if v < before[key] {
				t.Errorf("%s fell from %v to %v", key, before[key], v)
			}
			before[key] = v
		}
	}
	if scrapes < 2 || len(before) < 100 {
		t.Errorf("%d scrapes, %d counters", scrapes, len(before))
	}
}

// counts are all values of ours that only grow.
func counts(t *testing.T, families map[string]*dto.MetricFamily) map[string]float64 {
	t.Helper()
	out := map[string]float64{}
	for name, f := range families {
		for _, m := range f.GetMetric() {
			key := fmt.Sprint(name, m.GetLabel())
			switch {
			case !ours(name):
			case m.GetCounter() != nil:
				out[key] = m.GetCounter().GetValue()
			case m.GetHistogram() != nil:
				h := m.GetHistogram()
				out[key+" count"], out[key+" sum"] = float64(h.GetSampleCount()), h.GetSampleSum()
				last := uint64(0)
				for _, x := range h.GetBucket() {
					if x.GetCumulativeCount() < last {
						t.Errorf("%s: fewer up to %v than below", key, x.GetUpperBound())
					}
					last = x.GetCumulativeCount()
				}
				if last > h.GetSampleCount() {
					t.Errorf("%s: %d in buckets of %d", key, last, h.GetSampleCount())
				}
			case m.GetSummary() != nil:
				out[key+" count"], out[key+" sum"] = float64(m.GetSummary().GetSampleCount()), m.GetSummary().GetSampleSum()
			}
		}
	}
	return out
}
