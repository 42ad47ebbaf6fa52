package metrics

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/barnabas-log/barnabas/tests/kafka"
	"github.com/barnabas-log/barnabas/tests/node"
)

func TestMain(m *testing.M) { node.Main(m) }

// broker is a node whose metrics can be had.
type broker struct {
	*node.Node
	t    *testing.T
	http string
}

func start(t *testing.T, options ...string) *broker {
	t.Helper()
	if node.Peer() {
		t.Skip("Kafka has no /metrics")
	}
	port, err := kafka.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	at := fmt.Sprintf("127.0.0.1:%d", port)
	return &broker{node.Start(t, append(options, "http.listen="+at)...), t, at}
}

// scrape reads the metrics with Prometheus' own parser.
func (b *broker) scrape() map[string]*dto.MetricFamily {
	b.t.Helper()
	r, err := http.Get("http://" + b.http + "/metrics")
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Body.Close()
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(r.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return families
}

func (b *broker) client(options ...kgo.Opt) *kgo.Client {
	b.t.Helper()
	c, err := kgo.NewClient(append(options, kgo.SeedBrokers(b.Addr))...)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(c.Close)
	return c
}

// work has clients do a bit of everything, what fails included, so that every metric has something to show.
func (b *broker) work() {
	t := b.t
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := b.client(kgo.ConsumeTopics("t"), kgo.DefaultProduceTopic("t"), kgo.DisableIdempotentWrite())
	admin := kadm.NewClient(c)
	if _, err := admin.CreateTopic(ctx, 1, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	if r, err := admin.CreateTopic(ctx, 1, 1, nil, "t"); err == nil && r.Err == nil {
		t.Fatal("created twice")
	}
	for range 10 {
		if err := c.ProduceSync(ctx, kgo.StringRecord("x")).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.PollFetches(ctx).Err(); err != nil {
		t.Fatal(err)
	}
}

// subscribe asks clients for all their metrics, often.
func (b *broker) subscribe() {
	t := b.t
	t.Helper()
	q := kmsg.NewPtrIncrementalAlterConfigsRequest()
	x := kmsg.NewIncrementalAlterConfigsRequestResource()
	x.ResourceType, x.ResourceName = kmsg.ConfigResourceTypeClientMetrics, "all"
	for key, value := range map[string]string{"metrics": "*", "interval.ms": "100"} {
		e := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		e.Name, e.Value = key, &value
		x.Configs = append(x.Configs, e)
	}
	q.Resources = append(q.Resources, x)
	r, err := q.RequestWith(t.Context(), b.client())
	if err != nil {
		t.Fatal(err)
	}
	if r.Resources[0].ErrorCode != 0 {
		t.Fatalf("%d: %v", r.Resources[0].ErrorCode, r.Resources[0].ErrorMessage)
	}
}

// series are the names that a family has in queries.
func series(f *dto.MetricFamily) []string {
	name := f.GetName()
	switch f.GetType() {
	case dto.MetricType_HISTOGRAM:
		return []string{name + "_bucket", name + "_sum", name + "_count"}
	case dto.MetricType_SUMMARY:
		return []string{name, name + "_sum", name + "_count"}
	}
	return []string{name}
}

// labelsOf are the labels that a family has, those that Prometheus adds included.
func labelsOf(f *dto.MetricFamily) map[string]bool {
	out := map[string]bool{"job": true, "instance": true}
	if f.GetType() == dto.MetricType_HISTOGRAM {
		out["le"] = true
	}
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			out[l.GetName()] = true
		}
	}
	return out
}

func ours(name string) bool { return strings.HasPrefix(name, "barnabas_") }
