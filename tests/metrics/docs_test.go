package metrics

import (
	"encoding/json"
	"os"
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
	Panels []struct {
		Title, Description, Type string
		Targets                  []struct{ Expr string }
	}
}

func dashboardQueries(t *testing.T) (all []named) {
	t.Helper()
	b, err := os.ReadFile(operating + "dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
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
	known := map[string]map[string]bool{}
	for _, f := range b.scrape() {
		for _, name := range series(f) {
			known[name] = labelsOf(f)
		}
	}
	known["up"] = labelsOf(&dto.MetricFamily{})
	asked := 0
	for _, q := range queries {
		parsed := parse(q.expr)
		if len(parsed.metrics) == 0 {
			t.Errorf("%s asks for nothing: %s", q.where, q.expr)
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
