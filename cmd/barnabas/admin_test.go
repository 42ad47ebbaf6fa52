package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/barnabas-log/barnabas/internal/config"
)

func TestParseAmount(t *testing.T) {
	f := func(text string, want float64) {
		t.Helper()
		got, err := parseAmount(text)
		if err != nil != (want < 0) || err == nil && got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	f("0", 0)
	f("1048576", 1<<20)
	f("1MiB", 1<<20)
	f("1.5 GiB", 1.5*(1<<30))
	f("10kB", 10_000)
	f("7B", 7)
	f("0.5", 0.5)
	f("1e3", 1000)
	f("MiB", -1)
	f("fast", -1)
	f("", -1)
	f("NaN", -1)
	f("Inf", -1)
}

func TestFormatBytes(t *testing.T) {
	f := func(n float64, want string) {
		t.Helper()
		if got := formatBytes(n); got != want {
			t.Errorf("%v: %s, want %s", n, got, want)
		}
	}
	f(0, "0 B")
	f(1023, "1023 B")
	f(1024, "1 KiB")
	f(1.25*(1<<20), "1.3 MiB")
	f(5<<40, "5 TiB")
}

func TestParsePairs(t *testing.T) {
	got, err := parsePairs("x", []string{"a=1", "b=c=d", "e="})
	if err != nil || len(got) != 3 || got[1] != (keyValue{"b", "c=d"}) || got[2] != (keyValue{"e", ""}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"a", "=1", ""} {
		if _, err := parsePairs("x", []string{bad}); !isUsage(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestAskYes(t *testing.T) {
	f := func(typed string, want error) {
		t.Helper()
		var out bytes.Buffer
		if err := askYes(strings.NewReader(typed), &out, "Really?"); !errors.Is(err, want) || out.String() != "Really? [y/N] " {
			t.Errorf("%q: %v, %q", typed, err, out.String())
		}
	}
	f("y\n", nil)
	f("YES\n", nil)
	f("\n", errNotConfirmed)
	f("n\n", errNotConfirmed)
	f("", errNotConfirmed)
}

// What completion offers is what brokers take.
func TestCompletedValues(t *testing.T) {
	for _, key := range []string{"cleanup.policy", "compression.type", "message.timestamp.type", "durability", "record.validation", "preallocate"} {
		k, ok := config.LookupTopicKey(key)
		values := valuesOf(kindTopic, key)
		if !ok || len(values) < 2 {
			t.Errorf("%s: %v, %v", key, ok, values)
		}
		for _, v := range values {
			if err := k.Validate(v); err != nil {
				t.Errorf("%s=%s: %v", key, v, err)
			}
		}
	}
	if got := valuesOf(kindBroker, "auto.create.topics.enable"); len(got) != 2 {
		t.Errorf("a boolean: %v", got)
	}
	if got := valuesOf(kindTopic, "retention.ms"); got != nil {
		t.Errorf("a number: %v", got)
	}
}

func TestParseMetrics(t *testing.T) {
	const text = `# HELP barnabas_x What.
# TYPE barnabas_x gauge
barnabas_x{listener="PLAINTEXT",dir="/d 1"} 3 1700000000000
barnabas_x{listener="A} b"} 4
process_open_fds 1.2e+02
nonsense
`
	m, err := parseMetrics(strings.NewReader(text))
	if err != nil || m.sums["barnabas_x"] != 7 || m.sums["process_open_fds"] != 120 || m.dirs["/d 1"]["barnabas_x"] != 3 {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestMetricsURL(t *testing.T) {
	f := func(listen, address, want string) {
		t.Helper()
		if got, err := metricsURL(listen, address); got != want || (err == nil) != (want != "") {
			t.Errorf("%s at %s: %q, %v; want %q", listen, address, got, err, want)
		}
	}
	f("127.0.0.1:9644", "127.0.0.1:9092", "http://127.0.0.1:9644/metrics")
	f("127.0.0.1:9644", "localhost:9092", "http://127.0.0.1:9644/metrics")
	f("127.0.0.1:9644", "broker:9092", "")
	f("localhost:9644", "10.0.0.1:9092", "")
	f("0.0.0.0:9644", "broker:9092", "http://broker:9644/metrics")
	f(":9644", "broker:9092", "http://broker:9644/metrics")
	f("10.0.0.7:9644", "broker:9092", "http://10.0.0.7:9644/metrics")
	f("nonsense", "broker:9092", "")
}

// What strangers call themselves must not write on a terminal.
func TestShown(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		if got := shown(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	f("", "")
	f("loader-1 (ü, 日本)", "loader-1 (ü, 日本)")
	f("a\x1b[31mb", `"a\x1b[31mb"`)
	f("a\nb\t", `"a\nb\t"`)
	f("\xff", `"\xff"`)
	f("a\u202eb", `"a\u202eb"`)
	if got := shownError(errors.New("one\ntwo \x07")); got != "one\n\"two \\a\"" {
		t.Errorf("%q", got)
	}
}
