package broker

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/quota"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/wire"
)

var rewrite = flag.Bool("rewrite", false, "write docs/operating/metrics.md anew")

// get asks a broker for a page.
func get(t testing.TB, b *Broker, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	b.pages().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(body)
}

// topics makes topics of so many partitions.
func topics(t testing.TB, b *Broker, name string, partitions int32) {
	t.Helper()
	err := b.quorum.Propose(t.Context(), func(i *metadata.Image) ([]metadata.Record, error) {
		rules := controller.Rules{Config: b.config, Place: b.replicas.Load().Place, Random: rand.Reader}
		records, created, err := rules.CreateTopics(i, []controller.TopicSpec{{Name: name, Partitions: partitions, Replication: 1}})
		if err == nil {
			err = created[0].Err
		}
		return records, err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Every number that a node can have at rest is there, and says what it should.
func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mustStart(t, vfs.NewMem(), "metrics.partitions=true")
		topics(t, b, "t", 3)
		synctest.Wait()
		_, page := get(t, b, "/metrics")
		f := func(want string) {
			t.Helper()
			if !slices.Contains(strings.Split(page, "\n"), want) {
				name := strings.FieldsFunc(want, func(r rune) bool { return r == '{' || r == ' ' })[0]
				t.Errorf("no %q; there is %q", want, regexp.MustCompile(`(?m)^`+name+`[{ ].*$`).FindAllString(page, 3))
			}
		}
		f("barnabas_ready 1")
		f("barnabas_replicas_partitions 3")
		f("barnabas_replicas_offline_partitions 0")
		f("barnabas_metadata_leaders 3")
		f("barnabas_metadata_under_replicated_partitions 0")
		f("barnabas_metadata_under_min_isr_partitions 0")
		f(`barnabas_metadata_brokers{state="live"} 1`)
		f(`barnabas_datadir_online{dir="/a"} 1`)
		f(`barnabas_listener_connections{listener="PLAINTEXT"} 0`)
		f(`barnabas_partition_end_offset{partition="2",topic="t"} 0`)
		f(`barnabas_quota_entities{key="producer_byte_rate"} 0`)
		f(`barnabas_metadata_controller{cluster="` + b.ClusterID() + `"} 1`)
		f(`barnabas_api_errors_total{api="Produce",code="UNKNOWN_SERVER_ERROR"} 0`)
		f(`barnabas_api_errors_total{api="Produce",code="KAFKA_STORAGE_ERROR"} 0`)
		if err := b.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// What the cluster has decided shows as trouble.
func TestHealth(t *testing.T) {
	f := func(isr, replicas, minISR int, want health) {
		t.Helper()
		p := &metadata.Partition{Leader: 1}
		for range replicas {
			p.Replicas = append(p.Replicas, 1)
		}
		p.ISR = p.Replicas[:isr]
		var h health
		if h.look(p, 1, minISR); h != want {
			t.Errorf("%d of %d, at least %d: %+v", isr, replicas, minISR, h)
		}
	}
	f(1, 1, 1, health{leaders: 1})
	f(1, 1, 2, health{leaders: 1}) // No more replicas than it has are asked for.
	f(3, 3, 2, health{leaders: 1})
	f(2, 3, 2, health{leaders: 1, underReplicated: 1, atMinISR: 1})
	f(1, 3, 2, health{leaders: 1, underReplicated: 1, underMinISR: 1})
	var h health
	h.look(&metadata.Partition{Leader: -1}, 1, 1)
	h.look(&metadata.Partition{Leader: 2}, 1, 1)
	if h != (health{leaderless: 1}) {
		t.Errorf("%+v", h)
	}
}

// Per-partition series come and go while the node runs.
func TestPartitionMetrics(t *testing.T) {
	decidesBroker(t, "metrics.partitions=true", false, true, func(w *world) bool {
		w.create("t")
		_, page := get(t, w.b, "/metrics")
		return strings.Contains(page, `barnabas_partition_end_offset{partition="0",topic="t"} 0`)
	})
}

// Per-partition series are there only for who asks for them.
func TestPartitionMetricsAreOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mustStart(t, vfs.NewMem())
		topics(t, b, "secret", 1)
		if _, page := get(t, b, "/metrics"); strings.Contains(page, "secret") {
			t.Error("a topic is named")
		}
		if code, _ := get(t, b, "/debug/pprof/"); code != http.StatusNotFound {
			t.Errorf("profiles: %d", code)
		}
		if err := b.Stop(); err != nil {
			t.Error(err)
		}
	})
}

func TestProfiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mustStart(t, vfs.NewMem(), "http.pprof=true")
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/heap", "/debug/pprof/symbol"} {
			if code, _ := get(t, b, path); code != http.StatusOK {
				t.Errorf("%s: %d", path, code)
			}
		}
		if err := b.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// Whatever clients push, /metrics is a page that Prometheus takes: one name for
// metrics of several kinds must not make two series of one.
func TestMixedClientMetrics(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		w.subscribe("s", "metrics=*")
		get1 := ask[*wire.GetTelemetrySubscriptionsResponse](w.main(), wire.NewGetTelemetrySubscriptionsRequest())
		field := func(number byte, fields ...[]byte) []byte {
			body := slices.Concat(fields...)
			return append([]byte{number<<3 | 2, byte(len(body))}, body...)
		}
		fixed := func(number byte, bits uint64) []byte {
			return binary.LittleEndian.AppendUint64([]byte{number<<3 | 1}, bits)
		}
		varint := func(number, v byte) []byte { return []byte{number << 3, v} }
		value := field(1, fixed(4, math.Float64bits(2)))
		name := field(1, []byte("x"))
		q := wire.NewPushTelemetryRequest()
		q.ClientInstanceID, q.SubscriptionID, q.Terminating = get1.ClientInstanceID, get1.SubscriptionID, true
		q.Metrics = field(1, field(2,
			field(2, name, field(5, value)),
			field(2, name, field(7, value, varint(2, 1), varint(3, 1))),
			field(2, name, field(9, field(1, fixed(4, 3), fixed(5, math.Float64bits(6))), varint(2, 1))),
		))
		if code := ask[*wire.PushTelemetryResponse](w.main(), q).ErrorCode; code != 0 {
			t.Fatal(code)
		}
		code, page := get(t, w.b, "/metrics")
		if code != http.StatusOK {
			t.Fatalf("%d: %s", code, page)
		}
		for _, want := range []string{
			`barnabas_client_values_sum{metric="x",software="unknown",version="unknown"} 8`,
			`barnabas_client_values_count{metric="x",software="unknown",version="unknown"} 4`,
			`barnabas_client_counts_total{metric="x",software="unknown",version="unknown"} 2`,
		} {
			if !strings.Contains(page, want+"\n") {
				t.Errorf("no %s", want)
			}
		}
	})
}

// Who asks for metrics and does not read them keeps others out for a while, not
// for ever.
func TestSlowScrapesEnd(t *testing.T) {
	inWorld(t, nil, func(w *world) {
		l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{}), at: &net.TCPAddr{}}
		server := pageServer(w.b.pages())
		ended := make(chan error)
		go func() { ended <- server.Serve(l) }()
		scrape := func() net.Conn {
			ours, theirs := net.Pipe()
			l.conns <- theirs
			io.WriteString(ours, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
			return ours
		}
		status := func(c net.Conn) int {
			r, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			return r.StatusCode
		}
		var all []net.Conn
		for range maxScrapes {
			all = append(all, scrape())
		}
		synctest.Wait()
		all = append(all, scrape())
		if code := status(all[maxScrapes]); code != http.StatusServiceUnavailable {
			t.Errorf("more than %d scrapes at a time: %d", maxScrapes, code)
		}
		time.Sleep(writeTimeout + time.Second)
		all = append(all, scrape())
		if code := status(all[maxScrapes+1]); code != http.StatusOK {
			t.Errorf("after others did not read for %v: %d", writeTimeout, code)
		}
		for _, c := range all {
			c.Close()
		}
		server.Close()
		<-ended
	})
}

// A directory that has only the metadata log fills as others do.
func TestMetadataDirectoryIsShown(t *testing.T) {
	inWorld(t, []string{"log.dirs=/a", "metadata.log.dir=/m"}, func(w *world) {
		_, page := get(t, w.b, "/metrics")
		for _, want := range []string{`datadir_online{dir="/m"} 1`, `datadir_full{dir="/m"} 0`, `datadir_free_bytes{dir="/m"} `, `datadir_used_ratio{dir="/m"} `, `datadir_online{dir="/a"} 1`} {
			if n := strings.Count(page, "\nbarnabas_"+want); n != 1 {
				t.Errorf("%s: %d times", want, n)
			}
		}
	})
}

// A path may have any bytes, a label may not: no reason to end.
func TestOddDirectory(t *testing.T) {
	inWorld(t, []string{"log.dirs=/a\xff"}, func(w *world) {
		if code, page := get(t, w.b, "/metrics"); code != http.StatusOK || !strings.Contains(page, "barnabas_datadir_online{dir=\"/a\uFFFD\"} 1\n") {
			t.Errorf("%d: %s", code, page)
		}
	})
}

// A quota of an address is seen by whoever looks.
func TestQuotasReachMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mustStart(t, vfs.NewMem())
		err := b.quorum.Propose(t.Context(), func(*metadata.Image) ([]metadata.Record, error) {
			e := quota.Entity{IP: quota.Named("10.0.0.1")}
			return []metadata.Record{{Message: metadata.QuotaRecord(e, quota.Connection.Key(), new(5.0))}}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, page := get(t, b, "/metrics"); !strings.Contains(page, `barnabas_quota_entities{key="connection_creation_rate"} 1`) {
			t.Error("the quota is not shown")
		}
		if err := b.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// Every metric has a name as Prometheus wants it, a sentence, and one place.
func TestMetricTables(t *testing.T) {
	unit := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	seen := map[string]bool{}
	for _, m := range metrics() {
		if seen[m.name] || !unit.MatchString(m.name) {
			t.Errorf("%s: twice, or no name", m.name)
		}
		seen[m.name] = true
		if !strings.HasSuffix(m.help, ".") || len(m.help) < 15 {
			t.Errorf("%s: no sentence: %q", m.name, m.help)
		}
		// What it is, and behind it when to do what.
		if what := strings.TrimSuffix(m.help, " Shown with metrics.partitions=true."); !strings.Contains(what, ". ") && !strings.Contains(what, ": ") {
			t.Errorf("%s: its help does not say what to do: %q", m.name, m.help)
		}
		if total := strings.HasSuffix(m.name, "_total"); total != (m.kind == counter) {
			t.Errorf("%s is a %s", m.name, m.kind)
		}
		if m.kind == times && !strings.HasSuffix(m.name, "_seconds") {
			t.Errorf("%s is in seconds", m.name)
		}
	}
}

const metricsPage = "../../docs/operating/metrics.md"

// TestMetricsPage: the page that operators read is made of the tables that the
// broker runs by.
func TestMetricsPage(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# Metrics

*Made from the tables of internal/broker by its test (` + "`go test ./internal/broker -rewrite`" + `): change them, not this page.*

` + "`http.listen`" + ` (127.0.0.1:9644) serves them at ` + "`/metrics`" + ` in Prometheus' text format, beside ` + "`/live`" + ` (the process answers) and ` + "`/ready`" + ` (it
serves, and no partition is offline). Besides those below there are Go's own (` + "`go_*`" + `) and those of the process (` + "`process_*`" + `). Labels are
bounded by the configuration, never by clients: no client id, user or address is in them. Series of single partitions are there with
` + "`metrics.partitions=true`" + `. [dashboard.json](dashboard.json) is a Grafana dashboard, [alerts.yml](alerts.yml) has rules for Prometheus.

Times are histograms in seconds with the bounds 50 µs to 30 s. What Kafka's operators know by other names: request times are
` + "`api_request_seconds`" + ` (TotalTimeMs), ` + "`api_request_work_seconds`" + ` (LocalTimeMs), ` + "`api_request_wait_seconds`" + ` (RemoteTimeMs) and
` + "`listener_send_seconds`" + ` (ResponseSendTimeMs); there is no request queue. Purgatory sizes are ` + "`api_parked_answers`" + `.

| Metric | Type | Labels | What it says, and what to do |
|---|---|---|---|
`)
	for _, m := range metrics() {
		fmt.Fprintf(&b, "| %s%s | %s | %s | %s |\n", metricPrefix, m.name, m.kind, strings.Join(m.labels, ", "), m.help)
	}
	if *rewrite {
		if err := os.WriteFile(metricsPage, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(metricsPage)
	if err != nil || string(got) != b.String() {
		t.Errorf("docs/operating/metrics.md is not what the tables say: run go test ./internal/broker -rewrite (%v)", err)
	}
}

// A scrape of a node with 10,000 partitions.
func BenchmarkScrape(b *testing.B) {
	for _, each := range []bool{false, true} {
		b.Run(fmt.Sprintf("partitions=10000/each=%v", each), func(b *testing.B) {
			n, err := start(vfs.NewMem(), fmt.Sprintf("metrics.partitions=%v", each))
			if err != nil {
				b.Fatal(err)
			}
			for i := range 2 {
				topics(b, n, fmt.Sprint("t", i), 5000)
			}
			pages := n.pages()
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				pages.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
				if w.Code != http.StatusOK {
					b.Fatal(w.Body)
				}
			}
			if err := n.Stop(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
