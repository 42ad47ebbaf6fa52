package metrics

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	f := func(expr string, metrics, labels []string) {
		t.Helper()
		if d := cmp.Diff(query{metrics, labels}, parse(expr), cmp.AllowUnexported(query{})); d != "" {
			t.Errorf("%s: %s", expr, d)
		}
	}
	f(`up`, []string{"up"}, nil)
	f(`a_total{x="y",z=~"a.*"}[5m]`, []string{"a_total"}, []string{"x", "z"})
	f(`a{x!="y", z!~"b"} > 0.5`, []string{"a"}, []string{"x", "z"})
	f(`sum by (le, x) (rate(a_bucket[5m]))`, []string{"a_bucket"}, []string{"le", "x"})
	f(`sum(rate(a[5m])) by (x)`, []string{"a"}, []string{"x"})
	f(`a / on (x) group_left (y) b`, []string{"a", "b"}, []string{"x", "y"})
	f(`absent(a) or up{job=~"x} by (z"} == 0`, []string{"a", "up"}, []string{"job"})
	f(`predict_linear(a[6h], 24 * 3600) < 0`, []string{"a"}, nil)
	f(`histogram_quantile(0.99, sum by (le) (rate(a_bucket{x="a"}[$__rate_interval]))) > bool 1e3`, []string{"a_bucket"}, []string{"le", "x"})
	f(`topk(10, max by (m) (a{j=~"$job"} offset 5m))`, []string{"a"}, []string{"m", "j"})
	f(`label_values(a{j=~"$job"}, instance)`, []string{"a", "instance"}, []string{"j"})
}
