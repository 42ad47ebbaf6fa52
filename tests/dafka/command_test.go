package dafka

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	promodel "github.com/prometheus/common/model"

	"github.com/barnabas-log/barnabas/dafka"
	"github.com/barnabas-log/barnabas/tests/kafka"
	"github.com/barnabas-log/barnabas/tests/node"
)

// barnabas runs a command to its end.
func barnabas(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(patiently(t), node.Binary(t), append([]string{"dafka"}, args...)...)
	var out, err bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &err
	if e := cmd.Run(); e != nil && !errors.As(e, new(*exec.ExitError)) {
		t.Fatal(e)
	}
	return out.String(), err.String(), cmd.ProcessState.ExitCode()
}

// TestCommands: the commands as scripts use them.
func TestCommands(t *testing.T) {
	m := newMeshOfProcesses(t, 1)
	with := func(args ...string) []string { return append(args, m.flags...) }
	out, errs, code := barnabas(t, "one\r\n\nthree", with("produce", "letters", "--json")...)
	var produced struct {
		Topic, Producer string
		Records         int
	}
	if err := json.Unmarshal([]byte(out), &produced); err != nil || code != 0 || produced.Topic != "letters" || produced.Records != 3 || len(produced.Producer) != 32 {
		t.Fatalf("exit code %d, %q %s", code, out, errs)
	}
	out, _, _ = barnabas(t, "", with("consume", "letters", "--from-beginning", "-n", "3")...)
	line := "letters " + produced.Producer + " "
	if want := line + "one\n" + line + "\n" + line + "three\n"; out != want {
		t.Errorf("%q, want %q", out, want)
	}
	out, _, _ = barnabas(t, "", with("consume", "let", "--prefix", "--from-beginning", "-n", "2", "--json")...)
	if want := `{"topic":"letters","producer":"` + produced.Producer + `","sequence":0,"content":"one"}` + "\n"; !strings.HasPrefix(out, want) {
		t.Errorf("%q, want %q first", out, want)
	}
	out, errs, code = barnabas(t, "", with("status", "--json")...)
	var status struct {
		Nodes      []struct{ Role string }
		Partitions []struct {
			Topic     string
			Published int
			Live      bool
			Stored    map[string]int
		}
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil || code != 0 {
		t.Fatalf("exit code %d, %q %s", code, out, errs)
	}
	var roles []string
	for _, n := range status.Nodes {
		roles = append(roles, n.Role)
	}
	if slices.Sort(roles); !slices.Equal(roles, []string{"store-reader", "store-writer"}) {
		t.Errorf("%s", out)
	}
	if p := status.Partitions; len(p) != 1 || p[0].Topic != "letters" || p[0].Published != 3 || p[0].Live || len(p[0].Stored) != 1 {
		t.Errorf("%s", out)
	}
	out, _, _ = barnabas(t, "", with("status")...)
	for _, want := range []string{"ROLE ", "store-reader ", "letters ", " no ", " 3 "} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
}

func TestBenches(t *testing.T) {
	for _, kind := range []string{"store", "catch-up", "live"} {
		out, errs, code := barnabas(t, "", "bench", kind, "--alone", "--count", "2000", "--size", "10", "--json", "--dir", t.TempDir())
		var b struct {
			What             string
			Records          int
			RecordsPerSecond float64 `json:"records_per_second"`
			MicrosecondsEach float64 `json:"cpu_microseconds_per_record"`
		}
		if err := json.Unmarshal([]byte(out), &b); err != nil || code != 0 || b.What != kind || b.Records != 2000 || b.RecordsPerSecond <= 0 {
			t.Errorf("exit code %d, %q %s", code, out, errs)
		}
	}
}

// TestInterrupted: who types lines can leave, and is told of what no store has.
func TestInterrupted(t *testing.T) {
	m := newMeshOfProcesses(t, 1)
	for _, x := range []struct {
		topic, said string
		more        []string
		code        int
	}{
		{"letters", "", nil, 130},
		{"parcels", "not acknowledged: 1", []string{"-o", "producer/min_acks=2"}, 1},
	} {
		cmd := exec.CommandContext(patiently(t), node.Binary(t), slices.Concat([]string{"dafka", "produce", x.topic}, m.flags, x.more)...)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		in, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err == nil {
			_, err = in.Write([]byte("one\n"))
		}
		if err != nil {
			t.Fatal(err)
		}
		if r, err := m.consumer(x.topic).Next(patiently(t)); err != nil || string(r.Content) != "one" {
			t.Fatalf("%+v %v", r, err)
		}
		if x.code == 130 {
			m.awaitStored(x.topic)
		}
		_ = cmd.Process.Signal(os.Interrupt)
		if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != x.code || !strings.Contains(errs.String(), x.said) {
			t.Errorf("%s: %v, %s", x.topic, cmd.ProcessState, &errs)
		}
	}
}

// awaitStored waits until a store has the first record of a topic, and has told
// its producer.
func (m *meshOfProcesses) awaitStored(topic string) {
	m.Helper()
	for ctx := patiently(m.T); ctx.Err() == nil; {
		out, _, _ := barnabas(m.T, "", append([]string{"status", "--json", "--wait", "500ms"}, m.flags...)...)
		var status struct{ Partitions []dafka.PartitionInfo }
		if json.Unmarshal([]byte(out), &status) == nil {
			for _, p := range status.Partitions {
				if p.Topic == topic && len(p.Stored) > 0 {
					return
				}
			}
		}
	}
	m.Fatal("no store has ", topic)
}

// TestUsage: what makes no sense is refused with a sentence and exit code 2.
func TestUsage(t *testing.T) {
	torn := filepath.Join(t.TempDir(), "torn.conf")
	if err := os.WriteFile(torn, []byte("beacon\n   interval = 5\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct{ args, want string }{
		{"produce", "accepts 1 arg"},
		{"produce a b", "accepts 1 arg"},
		{"produce a --min-acks -7", "producer/min_acks"},
		{"produce a --timeout -3s", "--timeout -3s"},
		{"produce a -o key", "key=value"},
		{"produce a -o no/key=1", "no/key"},
		{"produce " + strings.Repeat("x", 256), "illegal topic"},
		{"consume", "at least 1 arg"},
		{"consume a -n -1", "-n -1"},
		{"consume a -o beacon/interval=9999", "beacon/timeout"},
		{"consume a -c /does/not/exist", "no such file"},
		{"consume a -c " + torn, "line 2"},
		{"consume a --positions x --group g", "consumer/group"},
		{"tower -o curve/public_key=x", "keys"},
		{"tower --sub udp://*:1", "udp://"},
		{"store -o store/segment_bytes=1", "store/segment_bytes"},
		{"bench store --count 0", "--count 0"},
		{"bench nothing", "nothing"},
		{"consume a --sub nowhere", "nowhere"},
	} {
		out, errs, code := barnabas(t, "", strings.Fields(x.args)...)
		if code != 2 || !strings.Contains(errs, x.want) || strings.Count(errs, "\n") > 2 || out != "" {
			t.Errorf("%s: exit code %d, %q %q", x.args, code, out, errs)
		}
	}
	_, errs, code := barnabas(t, "x\n", "produce", "a", "--sub", "tcp://127.0.0.1:1", "--pub", "tcp://127.0.0.1:1", "--timeout", "100ms")
	if code != 1 || !strings.Contains(errs, "not acknowledged") {
		t.Errorf("without a store: exit code %d, %q", code, errs)
	}
	_, errs, code = barnabas(t, "", "status", "--sub", "tcp://127.0.0.1:1", "--pub", "tcp://127.0.0.1:1", "--wait", "100ms")
	if code != 1 || !strings.Contains(errs, "does a tower run there") {
		t.Errorf("without a tower: exit code %d, %q", code, errs)
	}
}

// TestPages: towers and stores have metrics, and say that they live.
func TestPages(t *testing.T) {
	m := newMesh(t)
	for _, x := range []struct {
		metric string
		args   []string
	}{
		{"dafka_beacons_total", []string{"tower", "--sub", "tcp://127.0.0.1:*", "--pub", "tcp://127.0.0.1:*"}},
		{"dafka_stored_records_total", []string{"store", "--data-dir", t.TempDir(), "--sub", m.tower.Sub(), "--pub", m.tower.Pub(), "-o", "beacon/bind=tcp://127.0.0.1:*"}},
	} {
		port, err := kafka.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		at := "127.0.0.1:" + strconv.Itoa(port)
		spawn(t, append(x.args, "--http", at)...)
		for _, page := range []string{"live", "ready"} {
			awaitStatus(t, "http://"+at+"/"+page, http.StatusOK)
		}
		if x.args[0] == "store" {
			if err := m.tower.Close(ended()); err != nil {
				t.Fatal(err)
			}
			awaitStatus(t, "http://"+at+"/ready", http.StatusServiceUnavailable)
		}
		r, err := http.Get("http://" + at + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		parser := expfmt.NewTextParser(promodel.LegacyValidation)
		families, err := parser.TextToMetricFamilies(r.Body)
		r.Body.Close()
		if err != nil || families[x.metric] == nil || families["dafka_malformed_total"].GetHelp() == "" {
			t.Errorf("%v: %v", err, families)
		}
	}
}

// awaitStatus waits until a page has a status.
func awaitStatus(t *testing.T, page string, want int) {
	t.Helper()
	for ctx := patiently(t); ; time.Sleep(10 * time.Millisecond) {
		r, err := http.Get(page)
		if err == nil {
			r.Body.Close()
		}
		if err == nil && r.StatusCode == want {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%s: %v %v, not %d", page, r, err, want)
		}
	}
}
