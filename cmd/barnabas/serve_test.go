package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
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
