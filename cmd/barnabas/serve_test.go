package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/barnabas-log/barnabas/internal/broker"
	"github.com/barnabas-log/barnabas/internal/config"
)

// Flags of the log and of profiles are settings under another name.
func TestServeFlags(t *testing.T) {
	cmd := newServeCmd()
	if err := cmd.ParseFlags([]string{"--log-level", "warn,api=debug", "--log-format", "json", "--pprof", "--node-id", "7"}); err != nil {
		t.Fatal(err)
	}
	f := serveFlags{logLevel: "warn,api=debug", logFormat: "json", pprof: true, nodeID: "7"}
	cfg, _, err := config.Load(f.sources())
	if err != nil {
		t.Fatal(err)
	}
	if cfg.LogLevels != "warn,api=debug" || cfg.LogFormat != "json" || !cfg.HTTPPprof || cfg.NodeID != 7 {
		t.Errorf("%q %q %v %d", cfg.LogLevels, cfg.LogFormat, cfg.HTTPPprof, cfg.NodeID)
	}
}

// log.format decides the form, log.level what is said before the broker runs.
func TestLogSettings(t *testing.T) {
	f := func(want string, options ...string) {
		t.Helper()
		cfg, _, err := config.Load(config.Sources{Options: options})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		log, err := broker.RootLogger(logHandler(&out, cfg), cfg.LogLevels)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("told", "n", 1)
		log.Log(t.Context(), slog.LevelDebug-4, "whispered")
		got := out.String()
		var line map[string]any
		if err := json.Unmarshal(out.Bytes(), &line); err == nil {
			got = "json " + line["msg"].(string)
		}
		if !strings.Contains(got, want) || want == "" && got != "" || strings.Contains(got, "whispered") {
			t.Errorf("%v: %q, want %q", options, got, want)
		}
	}
	f("level=INFO msg=told n=1")
	f("json told", "log.format=json")
	f("", "log.level=warn")
	f("level=INFO msg=told", "log.level=debug,api=error")
}

// What is wrong with a configuration, or a directory, is one sentence for each
// mistake, before anything is written, and no exit code of success.
func TestServeRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := func(code int, want string, args ...string) {
		t.Helper()
		cmd := exec.Command("barnabas", append([]string{"serve", "--listen", "127.0.0.1:0", "--http", "off"}, args...)...)
		cmd.Dir = dir
		out, _ := cmd.CombinedOutput()
		_, said, _ := strings.Cut(string(out), "barnabas: ")
		if cmd.ProcessState.ExitCode() != code || !strings.Contains(said, want) || strings.Contains(said, "broker.id") {
			t.Errorf("%q: exit code %d, want %d; want %q in\n%s", args, cmd.ProcessState.ExitCode(), code, want, out)
		}
	}
	write := func(name, text string) string {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	f(2, `unknown key "num.partition" (did you mean num.partitions?)`, "--config", write("typo.yaml", "num.partition: 3\n"))
	f(2, `unknown key "num.partition" (did you mean num.partitions?)`, "-o", "num.partition=3")
	f(2, "Invalid value three for configuration num.partitions", "--config", write("value.properties", "num.partitions=three\n"))
	f(2, "queued.max.request.bytes must be larger", "--config", write("against.properties", "queued.max.request.bytes=1000\n"))
	f(2, "no such file", "--config", "absent.properties")
	f(2, "--listen", "--listen", "nowhere:port")
	f(2, "node.id", "--node-id", "-7")
	f(2, "Invalid value x for configuration node.id: Not a number of type INT\n", "--node-id", "x")
	f(2, "--data-dir is empty", "--data-dir", "")
	f(2, "--config is empty", "--config", "")
	f(2, "http.listen: Value must be HOST:PORT", "--http", "9644")
	if _, err := os.Stat(filepath.Join(dir, config.DefaultDataDir)); err == nil {
		t.Error("a directory was made nevertheless")
	}
	address := runBroker(t, t.Cleanup, dir)
	f(1, "in use by another broker: stop that one", "--data-dir", filepath.Join(dir, "data"))
	f(1, "stop who has it, or take another port (listeners)", "--data-dir", filepath.Join(dir, "new"), "--listen", address)
	f(1, "stop who has it, or take another port (http.listen)", "--data-dir", filepath.Join(dir, "new"), "--http", address)
}
