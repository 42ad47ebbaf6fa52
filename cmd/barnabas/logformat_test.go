package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/barnabas-log/barnabas/internal/config"
)

func TestFormatOfLog(t *testing.T) {
	f := func(want string, options ...string) {
		t.Helper()
		cfg, _, err := config.Load(config.Sources{Options: options})
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		slog.New(logHandler(&out, cfg)).Info("hello", "to", "you")
		if !strings.Contains(out.String(), want) {
			t.Errorf("%v: %s", options, &out)
		}
	}
	f(`msg=hello to=you`)
	f(`msg=hello to=you`, "log.format=text")
	f(`"msg":"hello","to":"you"`, "log.format=json")
}
