package broker

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/internal/api"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/wire"
)

// said tells which of the levels a room says now.
func said(l *logging, out *bytes.Buffer, name string) string {
	out.Reset()
	log := l.logger(name).With("topic", "t").WithGroup("g")
	for _, w := range levelWords() {
		log.Log(context.Background(), w.level, w.word, "n", 1)
	}
	var words []string
	for _, w := range levelWords() {
		if strings.Contains(out.String(), "msg="+w.word+" ") {
			words = append(words, w.word)
		}
	}
	return strings.Join(words, " ")
}

func TestLevels(t *testing.T) {
	var out bytes.Buffer
	l, err := newLogging(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: LowestLevel}), "warn,replicas=debug")
	if err != nil {
		t.Fatal(err)
	}
	f := func(room, want string) {
		t.Helper()
		if got := said(l, &out, room); got != want {
			t.Errorf("%s says %s, want %s", room, got, want)
		}
	}
	set := func(name, level string) {
		t.Helper()
		if err := l.Set(name, level); err != nil {
			t.Error(err)
		}
	}
	f("api", "WARN ERROR FATAL")
	f("replicas", "DEBUG INFO WARN ERROR FATAL")
	if !strings.Contains(out.String(), "room=replicas topic=t") {
		t.Errorf("the room is not told: %s", &out)
	}
	set(api.RootLogger, "FATAL")
	f("api", "FATAL")
	f("replicas", "DEBUG INFO WARN ERROR FATAL")
	set("replicas", "")
	f("replicas", "FATAL")
	set("api", "TRACE")
	f("api", "TRACE DEBUG INFO WARN ERROR FATAL")
	want := map[string]string{"root": "FATAL", "api": "TRACE", "bridge": "FATAL", "broker": "FATAL", "coordinator": "FATAL", "quorum": "FATAL", "replicas": "FATAL"}
	if d := cmp.Diff(want, l.Levels()); d != "" {
		t.Error(d)
	}
	set(api.RootLogger, "")
	f("quorum", "INFO WARN ERROR FATAL")
}

// A logger that is made before its level changes follows.
func TestLevelsChangeInPlace(t *testing.T) {
	var out bytes.Buffer
	l, err := newLogging(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: LowestLevel}), "info")
	if err != nil {
		t.Fatal(err)
	}
	log := l.logger("quorum")
	log.Debug("first")
	if err := l.Set("quorum", "DEBUG"); err != nil {
		t.Fatal(err)
	}
	log.Debug("second")
	if s := out.String(); strings.Contains(s, "first") || !strings.Contains(s, "second") {
		t.Error(s)
	}
}

func TestUnknownLoggers(t *testing.T) {
	l, err := newLogging(slog.DiscardHandler, "info")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Set("kitchen", "INFO"); !errors.Is(err, errRoom) || !strings.Contains(err.Error(), "replicas") {
		t.Error(err)
	}
	if err := l.Set("api", "LOUD"); err == nil {
		t.Error("LOUD is a level")
	}
	if _, err := newLogging(slog.DiscardHandler, "info,kitchen=debug"); err == nil || !strings.HasPrefix(err.Error(), "log.level: ") {
		t.Error(err)
	}
}

// Levels are changed and described as Kafka's tools do it (KIP-412).
func TestLoggersOverTheWire(t *testing.T) {
	inWorld(t, []string{"log.level=warn,quorum=error"}, func(w *world) {
		described := func(name string) (level string) {
			t.Helper()
			q := wire.NewDescribeConfigsRequest()
			q.Resources = []wire.DescribeConfigsRequestDescribeConfigsResource{{ResourceType: int8(metadata.ResourceBrokerLogger), ResourceName: "1"}}
			for _, c := range ask[*wire.DescribeConfigsResponse](w.main(), q).Results[0].Configs {
				if c.Name == name {
					level = *c.Value
				}
			}
			return level
		}
		alter := func(name string, op int8, level string) {
			t.Helper()
			q := wire.NewIncrementalAlterConfigsRequest()
			q.Resources = []wire.IncrementalAlterConfigsRequestAlterConfigsResource{{
				ResourceType: int8(metadata.ResourceBrokerLogger), ResourceName: "1",
				Configs: []wire.IncrementalAlterConfigsRequestAlterableConfig{{Name: name, ConfigOperation: op, Value: &level}},
			}}
			if r := ask[*wire.IncrementalAlterConfigsResponse](w.main(), q).Responses[0]; r.ErrorCode != 0 {
				t.Fatalf("%s=%s: %d %s", name, level, r.ErrorCode, *r.ErrorMessage)
			}
		}
		f := func(name, want string) {
			t.Helper()
			if got := described(name); got != want {
				t.Errorf("%s is %s, want %s", name, got, want)
			}
		}
		f("root", "WARN")
		f("quorum", "ERROR")
		f("replicas", "WARN")
		alter("replicas", 0, "TRACE")
		f("replicas", "TRACE")
		if !w.b.log("replicas").Enabled(t.Context(), slog.LevelInfo) || w.b.log("api").Enabled(t.Context(), slog.LevelInfo) {
			t.Error("the level is told and not kept")
		}
		alter("replicas", 1, "")
		f("replicas", "WARN")
	})
}
