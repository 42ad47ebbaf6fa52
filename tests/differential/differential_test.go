package differential

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/tests/kafka"
	"github.com/google/go-cmp/cmp"
)

var (
	recordAnew = flag.Bool("record", false, "ask Kafka and write its answers down")
	askKafka   = flag.Bool("kafka", false, "compare Kafka with what was recorded of it, instead of Barnabas")
)

// TestAnswersAsKafka plays every script on a fresh broker and compares what it answers with what Kafka answered.
func TestAnswersAsKafka(t *testing.T) {
	files, err := filepath.Glob("testdata/scripts/*.txt")
	if err != nil || len(files) < 7 {
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
	dir, port, controllerPort := t.TempDir(), freePort(t), freePort(t)
	properties := kafka.Properties(dir, port, controllerPort, s.properties...)
	addr := start(t, dir, port, properties)
	got, err := play(s, addr, newNames(dir, port, controllerPort))
	if err != nil {
		t.Fatal(err)
	}
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

// start runs the broker that is asked and stops it at the end.
func start(t *testing.T, dir string, port int, properties string) string {
	t.Helper()
	if !*recordAnew && !*askKafka {
		t.Parallel()
		return startOurs(t, dir, port, properties)
	}
	b, err := kafka.Start(dir, port, properties)
	if errors.Is(err, kafka.ErrMissing) {
		t.Skip("NOT RUN: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Stop(); err != nil {
			t.Error(err)
		}
	})
	return b.Addr
}

// builtBinary builds barnabas once; the go command's cache makes that cheap from one run to the next.
var builtBinary = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("barnabas-differential-%d", os.Getuid()))
	file := filepath.Join(dir, "barnabas")
	build := exec.Command("go", "build", "-o", file, "./cmd/barnabas")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return file, nil
})

func startOurs(t *testing.T, dir string, port int, properties string) string {
	t.Helper()
	exe, err := builtBinary()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "server.properties")
	if err := os.WriteFile(file, []byte(properties), 0o644); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "serve", "--config", file, "--http", "")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		hang := time.AfterFunc(patience, func() { cmd.Process.Signal(syscall.SIGQUIT) }) // shows the stacks in the log
		if err := cmd.Wait(); err != nil {
			t.Errorf("barnabas ended badly: %v", err)
		}
		hang.Stop()
		if out, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("its log:\n%s", out)
		}
	})
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return addr
		}
	}
	t.Fatal("barnabas takes no connections")
	return ""
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := kafka.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestDifferencesAreFew: the list of what we do otherwise may not become a habit, and tells whom each entry helps.
func TestDifferencesAreFew(t *testing.T) {
	if n := len(differences()); n > 20 {
		t.Errorf("%d differences, at most 20", n)
	}
	for _, d := range differences() {
		if d.what == "" || d.helps == "" || d.api == "" || d.edit == nil {
			t.Errorf("%+v is incomplete", d)
		}
	}
}
