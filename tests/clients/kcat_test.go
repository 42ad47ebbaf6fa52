package clients

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/barnabas-log/barnabas/tests/node"
)

// TestKcat drives librdkafka.
func TestKcat(t *testing.T) {
	t.Parallel()
	kcat := node.Tool(t, "kcat")
	n := node.Start(t)
	k := func(t *testing.T, in string, args ...string) string {
		t.Helper()
		return run(t, in, kcat, append([]string{"-b", n.Addr, "-q"}, args...)...)
	}
	for _, codec := range codecs {
		t.Run(codec, func(t *testing.T) {
			for _, acks := range []string{"0", "1", "all"} {
				topic := "kcat-" + codec + "-" + acks
				create(t, n, topic)
				k(t, lines(100), "-P", "-t", topic, "-p", "1", "-z", codec, "-X", "acks="+acks, "-K", ":", "-H", "h=1", "-H", "g=")
				wantLines(t, n, topic, 100)
			}
			topic := "kcat-" + codec + "-idempotent"
			create(t, n, topic)
			k(t, lines(100), "-P", "-t", topic, "-p", "1", "-z", codec, "-X", "enable.idempotence=true", "-K", ":", "-H", "h=1", "-H", "g=")
			wantLines(t, n, topic, 100)
		})
	}
	t.Run("auto create", func(t *testing.T) {
		k(t, "one\n", "-P", "-t", "kcat-auto")
		if got := k(t, "", "-C", "-t", "kcat-auto", "-e"); got != "one\n" {
			t.Errorf("read %q", got)
		}
	})
	t.Run("list", func(t *testing.T) {
		got := run(t, "", kcat, "-b", n.Addr, "-L", "-J")
		for _, want := range []string{`"brokers":[{"id":1,"name":"` + n.Addr + `"}]`, `"topic":"kcat-gzip-1"`, `"controllerid":1`} {
			if !strings.Contains(got, want) {
				t.Errorf("-L lacks %s: %s", want, got)
			}
		}
	})
	t.Run("large", func(t *testing.T) {
		create(t, n, "kcat-large")
		file := filepath.Join(t.TempDir(), "large")
		if err := os.WriteFile(file, sample(largeIndex).Value, 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, "", kcat, "-b", n.Addr, "-q", "-P", "-t", "kcat-large", "-p", "0", file)
		if got := k(t, "", "-C", "-t", "kcat-large", "-p", "0", "-e", "-f", "%S"); got != fmt.Sprint(largeBytes) {
			t.Errorf("a large record came back with %s bytes", got)
		}
	})
	t.Run("read", func(t *testing.T) { kcatRead(t, n, k) })
}

// kcatRead reads what franz-go wrote.
func kcatRead(t *testing.T, n *node.Node, k func(*testing.T, string, ...string) string) {
	const topic = "kcat-read"
	writeSamples(t, n, topic)
	var all []string
	for i := 1; i < samples; i += partitions {
		r := sample(i)
		all = append(all, fmt.Sprintf("%d %d %d %d h=%d,empty=", i/2, r.Timestamp.UnixMilli(), length(r.Key), length(r.Value), i))
	}
	f := func(what string, want []string, args ...string) {
		t.Helper()
		args = append([]string{"-C", "-t", topic, "-p", "1", "-e", "-f", "%o %T %K %S %h\n"}, args...)
		wantRows(t, what, strings.Split(strings.TrimSpace(k(t, "", args...)), "\n"), want)
	}
	f("all", all)
	f("offset 7", all[7:], "-o", "7")
	f("last 3", all[len(all)-3:], "-o", "-3")
	f("time", all[10:], "-o", fmt.Sprintf("s@%d", firstTime+20_001))
	f("times", all[10:15], "-o", fmt.Sprintf("s@%d", firstTime+20_001), "-o", fmt.Sprintf("e@%d", firstTime+30_001))
	if got := strings.TrimSpace(k(t, "", "-Q", "-t", fmt.Sprintf("%s:1:%d", topic, firstTime+20_001))); got != topic+" [1] offset 10" {
		t.Errorf("offset by time: %q", got)
	}
}

// length is how kcat prints it: -1 for null.
func length(b []byte) int {
	if b == nil {
		return -1
	}
	return len(b)
}

func lines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "k%d:%s\n", i, strings.Repeat("v", i))
	}
	return b.String()
}

// wantLines checks that a topic holds lines(want), with the headers h=1 and g=,
// once and in order.
func wantLines(t *testing.T, n *node.Node, topic string, want int) {
	t.Helper()
	for i, r := range readAll(t, n, topic, want) {
		// kcat sends an empty value as null unless told otherwise.
		if string(r.Key) != fmt.Sprint("k", i) || string(r.Value) != strings.Repeat("v", i) || len(r.Headers) != 2 || string(r.Headers[0].Value) != "1" {
			t.Fatalf("%s: record %d is %s", topic, i, row(r))
		}
	}
}

// run runs a program to its end and returns what it printed.
func run(t *testing.T, in, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in), &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %q: %v\n%s%s", filepath.Base(name), args, errors.Join(err, ctx.Err()), tail(out.String()), tail(errs.String()))
	}
	return out.String()
}

func tail(s string) string { return s[max(0, len(s)-4000):] }
