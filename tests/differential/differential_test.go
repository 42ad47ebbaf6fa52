package differential

import (
	"flag"
	"path/filepath"
	"strings"
	"testing"

	"github.com/barnabas-log/barnabas/tests/kafka"
	"github.com/google/go-cmp/cmp"
)

var (
	recordAnew = flag.Bool("record", false, "ask Kafka and write its answers down")
	askKafka   = flag.Bool("kafka", false, "compare Kafka with what was recorded of it, instead of Barnabas")
	some       = flag.String("scripts", "*", "play those scripts only, by their names, as in 'admin-*'")
)

// TestAnswersAsKafka plays every script on a fresh broker and compares what it answers with what Kafka answered.
func TestAnswersAsKafka(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "scripts", *some+".txt"))
	if err != nil || len(files) == 0 || *some == "*" && len(files) < 7 {
		t.Fatalf("%d scripts, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		t.Run(name, func(t *testing.T) { playAndCompare(t, file, name) })
	}
}

func playAndCompare(t *testing.T, file, name string) {
	s, err := parseScript(file, name)
	if err != nil {
		t.Fatal(err)
	}
	answers := filepath.Join("testdata", "answers", name+".json")
	if !*recordAnew && !*askKafka {
		t.Parallel()
	}
	got := playOn(t, s)
	if *recordAnew {
		if err := writeAnswers(answers, got); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := readAnswers(answers)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, s, want, got)
}

// playOn plays a script on a fresh broker, on the data that the script asks for.
func playOn(t *testing.T, s *script) []outcome {
	t.Helper()
	b := newServer(t, s, *recordAnew || *askKafka)
	if s.data != "" {
		if *recordAnew {
			makeData(t, s.data)
		}
		if err := copyData(filepath.Join("testdata", "data", s.data), filepath.Join(b.dir, "data"), s.unclean); err != nil {
			t.Fatal(err)
		}
	}
	b.begin()
	got, err := play(s, b, newNames(b.dir, b.port, b.controllerPort))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func compare(t *testing.T, s *script, want, got []outcome) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d outcomes, recorded were %d", len(got), len(want))
	}
	for i := range min(len(got), len(want)) {
		w, g := want[i], got[i]
		if w.step != g.step || w.version != g.version {
			t.Fatalf("the recording has step %q version %d where the script has %q version %d: record it anew", w.step, w.version, g.step, g.version)
		}
		api := apiOf(s, w.step)
		if d := cmp.Diff(settle(api, w.step, w.answer), settle(api, g.step, g.answer)); d != "" {
			t.Errorf("%s, version %d (-kafka +ours):\n%s", w.step, w.version, d)
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := kafka.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestDifferencesAreFew: the list of what we do otherwise may not become a habit, tells whom each entry helps, and names steps
// that there are.
func TestDifferencesAreFew(t *testing.T) {
	if n := len(differences()); n > 20 {
		t.Errorf("%d differences, at most 20", n)
	}
	steps := map[string]bool{}
	files, err := filepath.Glob("testdata/scripts/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		s, err := parseScript(file, file)
		if err != nil {
			t.Fatal(err)
		}
		for i := range s.steps {
			steps[s.steps[i].apiName()+" "+s.steps[i].label()] = true
		}
	}
	for _, d := range differences() {
		if d.what == "" || d.helps == "" || d.api == "" || d.edit == nil {
			t.Errorf("%+v is incomplete", d)
		}
		for _, step := range d.steps {
			if !steps[d.api+" "+step] {
				t.Errorf("%q names the step %q, which no script has", d.what, step)
			}
		}
	}
}
