package metrics

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"go.yaml.in/yaml/v3"
)

const operating = "../../docs/operating/"

// named is an expression and where it stands.
type named struct{ where, expr string }

// dashboard is what matters of Grafana's format.
type dashboard struct {
	Templating struct {
		List []struct{ Name, Type, Query string }
	}
	Panels []panel
}

type panel struct {
	Title, Description, Type string
	Targets                  []struct{ Expr, LegendFormat string }
	Options                  struct{ ColorMode string }
	FieldConfig              struct {
		Defaults struct {
			Unit       string
			Thresholds struct{ Steps []any }
		}
		Overrides []struct {
			Matcher    struct{ ID, Options string }
			Properties []struct {
				ID    string
				Value any
			}
		}
	}
}

// unit is in which a line of the panel is drawn.
func (p *panel) unit(legend string) string {
	for _, o := range p.FieldConfig.Overrides {
		if o.Matcher.ID == "byName" && o.Matcher.Options == legend {
			for _, x := range o.Properties {
				if x.ID == "unit" {
					return x.Value.(string)
				}
			}
		}
	}
	return p.FieldConfig.Defaults.Unit
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	b, err := os.ReadFile(operating + "dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func dashboardQueries(t *testing.T) (all []named) {
	t.Helper()
	d := readDashboard(t)
	for _, p := range d.Panels {
		if p.Type != "row" && (p.Title == "" || p.Description == "" || len(p.Targets) == 0) {
			t.Errorf("panel %q says nothing, or nothing of what it is", p.Title)
		}
		for _, x := range p.Targets {
			all = append(all, named{"panel " + p.Title, x.Expr})
		}
	}
	for _, v := range d.Templating.List {
		if metric, ok := strings.CutPrefix(v.Query, "label_values("); ok {
			metric = metric[:strings.LastIndex(metric, ",")]
			all = append(all, named{"variable " + v.Name, metric})
		}
	}
	return all
}

// rules are Prometheus' groups of rules.
type rules struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert, Expr, For    string
			Labels, Annotations map[string]string
		}
	}
}

func alertQueries(t *testing.T) (all []named) {
	t.Helper()
	b, err := os.ReadFile(operating + "alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	var r rules
	if err := yaml.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, g := range r.Groups {
		for _, x := range g.Rules {
			if seen[x.Alert] || x.Alert == "" || x.Annotations["summary"] == "" || x.Annotations["description"] == "" {
				t.Errorf("%q: twice, or it does not say what to do", x.Alert)
			}
			if !slices.Contains([]string{"page", "ticket"}, x.Labels["severity"]) {
				t.Errorf("%s: severity %q", x.Alert, x.Labels["severity"])
			}
			seen[x.Alert] = true
			all = append(all, named{"alert " + x.Alert, x.Expr})
		}
	}
	return all
}

// No panel and no alert asks for a metric, or a label of it, that a broker does not have.
func TestQueries(t *testing.T) {
	queries := append(dashboardQueries(t), alertQueries(t)...)
	if len(queries) < 80 {
		t.Errorf("only %d queries", len(queries))
	}
	b := start(t)
	b.work()
	b.subscribe()
	b.push()
	known, types := map[string]map[string]bool{}, map[string]dto.MetricType{}
	for _, f := range b.scrape() {
		for _, name := range series(f) {
			known[name], types[name] = labelsOf(f), f.GetType()
		}
	}
	known["up"], types["up"] = labelsOf(&dto.MetricFamily{}), dto.MetricType_GAUGE
	asked := 0
	for _, q := range queries {
		parsed := parse(q.expr)
		if len(parsed.metrics) == 0 {
			t.Errorf("%s asks for nothing: %s", q.where, q.expr)
		}
		for _, wrong := range checkForm(q.expr, types) {
			t.Errorf("%s: %s: %s", q.where, wrong, q.expr)
		}
		labels := map[string]bool{}
		for _, name := range parsed.metrics {
			asked++
			if known[name] == nil {
				t.Errorf("%s: no metric %s", q.where, name)
			}
			for l := range known[name] {
				labels[l] = true
			}
		}
		for _, l := range parsed.labels {
			if !labels[l] {
				t.Errorf("%s: none of %v has a label %s", q.where, parsed.metrics, l)
			}
		}
	}
	t.Logf("%d queries, %d metrics in them, %d series known", len(queries), asked, len(known))
}

// A panel is drawn in the unit of what it asks for, also where two lines have different ones, and one whose background tells good from
// bad says from which value on.
func TestPanels(t *testing.T) {
	d := readDashboard(t)
	checked := 0
	for i := range d.Panels {
		p := &d.Panels[i]
		for _, x := range p.Targets {
			want := unitOf(x.Expr)
			if want == "" {
				continue
			}
			checked++
			if got := p.unit(x.LegendFormat); got != want {
				t.Errorf("panel %s draws %s as %q, which is %q", p.Title, x.LegendFormat, got, want)
			}
		}
		if p.Options.ColorMode == "background" && len(p.FieldConfig.Defaults.Thresholds.Steps) < 2 {
			t.Errorf("panel %s is green whatever it shows", p.Title)
		}
	}
	if checked < 35 {
		t.Errorf("only %d units looked at", checked)
	}
}

// unitOf is Grafana's unit of an expression, "" if its names do not say it.
func unitOf(expr string) string {
	metrics := parse(expr).metrics
	name := metrics[0]
	has := func(ends ...string) bool {
		return slices.ContainsFunc(ends, func(e string) bool { return strings.HasSuffix(name, e) })
	}
	switch {
	case len(metrics) > 1: // A ratio.
		if has("_bytes_total") {
			return "bytes"
		}
	case strings.Contains(expr, "histogram_quantile") && has("_seconds_bucket"):
		return "s"
	case strings.Contains(expr, "rate(") && has("_bytes_total"):
		return "Bps"
	case strings.Contains(expr, "rate("):
	case has("_bytes"):
		return "bytes"
	case has("_seconds"):
		return "s"
	case has("_ratio"):
		return "percentunit"
	}
	return ""
}

var (
	rated    = regexp.MustCompile(`\b(?:rate|irate|increase)\(\s*([a-zA-Z_:]+)`)
	gauged   = regexp.MustCompile(`\b(?:deriv|predict_linear|delta)\(\s*([a-zA-Z_:]+)`)
	quantile = regexp.MustCompile(`histogram_quantile\([0-9.]+, sum by \(le[,)]`)
)

// checkForm finds what is wrong with an expression, given what its metrics are: a counter is of use as a rate only, a gauge has none,
// and quantiles come from rates of buckets.
func checkForm(expr string, types map[string]dto.MetricType) (wrong []string) {
	inRate := rated.FindAllStringSubmatch(expr, -1)
	inDeriv := gauged.FindAllStringSubmatch(expr, -1)
	for _, name := range parse(expr).metrics {
		times := strings.Count(expr, name)
		rates := count(inRate, name)
		switch types[name] {
		case dto.MetricType_GAUGE:
			if rates > 0 {
				wrong = append(wrong, name+" is a gauge, which has no rate")
			}
		case dto.MetricType_UNTYPED: // Prometheus' own.
		default:
			if rates < times || count(inDeriv, name) > 0 {
				wrong = append(wrong, name+" only grows: its rate says something")
			}
		}
		if strings.HasSuffix(name, "_bucket") && !quantile.MatchString(expr) {
			wrong = append(wrong, name+" is in no histogram_quantile by le")
		}
	}
	return wrong
}

func count(found [][]string, name string) (n int) {
	for _, f := range found {
		if f[1] == name {
			n++
		}
	}
	return n
}

func TestCheckForm(t *testing.T) {
	types := map[string]dto.MetricType{
		"c_total": dto.MetricType_COUNTER, "g": dto.MetricType_GAUGE, "h_bucket": dto.MetricType_HISTOGRAM, "h_count": dto.MetricType_HISTOGRAM,
	}
	f := func(expr string, right bool) {
		t.Helper()
		if wrong := checkForm(expr, types); len(wrong) > 0 == right {
			t.Errorf("%s: %q", expr, wrong)
		}
	}
	f("sum(rate(c_total[5m])) > 0", true)
	f("sum(c_total) > 0", false)
	f("deriv(c_total[5m])", false)
	f("rate(c_total[5m]) / c_total", false)
	f("g > 1 and on (job) deriv(g[5m]) > 0", true)
	f("rate(g[5m])", false)
	f("histogram_quantile(0.99, sum by (le, job) (rate(h_bucket[5m])))", true)
	f("histogram_quantile(0.99, sum by (job) (rate(h_bucket[5m])))", false)
	f("histogram_quantile(0.99, sum by (le) (h_bucket))", false)
	f("rate(h_count[5m])", true)
}

// Every metric of ours has its place in the dashboard: what is not shown nobody looks at. Those of single partitions are off by default.
func TestDashboardShowsAll(t *testing.T) {
	page, err := os.ReadFile(operating + "metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var shown []string
	for _, q := range dashboardQueries(t) {
		shown = append(shown, parse(q.expr).metrics...)
	}
	for _, line := range strings.Split(string(page), "\n") {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " ")
		if ours(name) && !strings.HasPrefix(name, "barnabas_partition_") &&
			!slices.ContainsFunc(shown, func(s string) bool { return s == name || strings.HasPrefix(s, name+"_") }) {
			t.Errorf("no panel shows %s", name)
		}
	}
}

// Every metric of ours is in the page for operators, with the help that the broker gives, and the page names no other.
func TestPage(t *testing.T) {
	page, err := os.ReadFile(operating + "metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	b := start(t, "metrics.partitions=true")
	b.work()
	b.subscribe()
	b.push()
	families := b.scrape()
	for name, f := range families {
		if ours(name) && !strings.Contains(string(page), "| "+name+" | "+strings.ToLower(f.GetType().String())+" | ") {
			t.Errorf("%s is not in metrics.md as a %s", name, f.GetType())
		}
		if ours(name) && !strings.Contains(string(page), f.GetHelp()) {
			t.Errorf("%s: its help is not in metrics.md", name)
		}
	}
	for _, line := range strings.Split(string(page), "\n") {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " ")
		if ours(name) && families[name] == nil {
			t.Errorf("metrics.md names %s, which a broker with work to do does not show", name)
		}
	}
}
