package differential

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
	"github.com/google/go-cmp/cmp"
)

// TestNormalise: ids, ports and times get names by their field; the same number elsewhere stays.
func TestNormalise(t *testing.T) {
	id := model.UUID{1}
	n := newNames("/data", 1234, 1235)
	now := time.Now().UnixMilli()
	produced := wire.NewProduceResponse()
	produced.Responses = []wire.ProduceResponseTopicProduceResponse{{
		Name: "b", TopicID: id,
		PartitionResponses: []wire.ProduceResponsePartitionProduceResponse{{Index: 1, BaseOffset: now, LogAppendTimeMs: now}, {LogAppendTimeMs: 5, BaseOffset: 1234}},
	}}
	want := map[string]any{"Responses": []any{map[string]any{
		"Name": "b", "TopicID": "<topic 1>",
		"PartitionResponses": []any{
			map[string]any{"LogAppendTimeMs": float64(5), "BaseOffset": float64(1234)},
			map[string]any{"LogAppendTimeMs": "<now>", "BaseOffset": float64(now), "Index": float64(1)},
		},
	}}}
	if d := cmp.Diff(want, n.tree(produced)); d != "" {
		t.Error(d)
	}
	cluster := wire.NewDescribeClusterResponse()
	cluster.ClusterID = "x"
	cluster.Brokers = []wire.DescribeClusterResponseDescribeClusterBroker{{BrokerID: 1234, Port: 1234}, {Port: 9}}
	brokers := n.tree(cluster).(map[string]any)["Brokers"]
	if d := cmp.Diff([]any{map[string]any{"BrokerID": float64(1234), "Port": "<port>"}, map[string]any{"Port": float64(9)}}, brokers); d != "" {
		t.Error(d)
	}
}

// TestComparisonSees: a recording with one field changed is another recording. If this fails, all other comparisons say nothing.
func TestComparisonSees(t *testing.T) {
	files, err := filepath.Glob("testdata/answers/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal(err, files)
	}
	seen := 0
	for _, file := range files {
		outcomes, err := readAnswers(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range outcomes {
			changed, ok := clone(o.answer).(map[string]any)
			if !ok {
				continue
			}
			changed["ErrorCode"] = float64(12345)
			if cmp.Equal(settle("Produce", o.step, o.answer), settle("Produce", o.step, changed)) {
				t.Errorf("%s: %s: a changed error code is not seen", file, o.step)
			}
			seen++
		}
	}
	if seen < 500 {
		t.Errorf("only %d answers are recorded", seen)
	}
}

// TestScriptsAreRecorded: every script has its answers, and no answers are left of a script that is gone.
func TestScriptsAreRecorded(t *testing.T) {
	scripts, _ := filepath.Glob("testdata/scripts/*.txt")
	answers, _ := filepath.Glob("testdata/answers/*.json")
	if len(scripts) != len(answers) {
		t.Errorf("%d scripts and %d answers: go test ./differential -record", len(scripts), len(answers))
	}
	for _, file := range scripts {
		s, err := parseScript(file, filepath.Base(file))
		if err != nil {
			t.Error(err)
			continue
		}
		labels := map[string]bool{}
		for i := range s.steps {
			if l := s.steps[i].label(); s.steps[i].verb == "call" && labels[l] {
				t.Errorf("%s: two steps are called %q", file, l)
			} else {
				labels[l] = true
			}
		}
	}
}
