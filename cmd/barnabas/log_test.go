package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const kafkaLogs = "../../internal/commitlog/testdata/kafka"

func runLog(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := newLogCmd()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(context.Background())
	return out.String(), err
}

// TestLogDump reads every kind of file that Kafka wrote.
func TestLogDump(t *testing.T) {
	out, err := runLog(t, "dump", "--records", kafkaLogs)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"codec=zstd", "codec=gzip", "codec=snappy", "codec=lz4", `key="k4"`, `header.h="x"`, "marker=abort", "marker=commit",
		"index offset=7 position=312", "timeindex timestamp=1700000000002 offset=2", "aborted producerId=6 firstOffset=4 lastOffset=7",
		"producer producerId=", "epoch epoch=0 startOffset=0", "topic_id: ",
	} {
		if !strings.Contains(strings.ToLower(out), strings.ToLower(want)) {
			t.Errorf("no %q", want)
		}
	}
	if strings.Contains(out, "valid=false") || strings.Contains(out, "damage") {
		t.Error("damage in sound files")
	}
	log := filepath.Join(kafkaLogs, "txn-0")
	out, err = runLog(t, "dump", "--json", log)
	if err != nil || !strings.HasPrefix(out, "{") {
		t.Errorf("%.100s %v", out, err)
	}
	for line := range strings.Lines(out) { // Of several logs nobody could tell which line is whose.
		if !strings.Contains(line, `"file":"`+log+"/") {
			t.Fatalf("no file in %s", line)
		}
	}
}

// What is damaged is dumped as far as it goes, with all that comes after it, and
// the end is an error.
func TestLogDumpDamage(t *testing.T) {
	dir := copyLog(t, "txn-0")
	damage(t, dir, "00000000000000000003.log", 200)
	out, err := runLog(t, "dump", "--records", dir)
	if err == nil || isUsage(err) || !strings.Contains(err.Error(), "damage in 1 place") {
		t.Errorf("a bad checksum: %v", err)
	}
	if strings.Count(out, "valid=false") != 1 || !strings.Contains(out, "# "+filepath.Join(dir, "partition.metadata")) {
		t.Errorf("a bad checksum: %s", out)
	}
	damage(t, dir, "00000000000000000003.log", 8) // A length.
	out, err = runLog(t, "dump", "--json", dir)
	if err == nil || !strings.Contains(out, `"kind":"damage"`) || !strings.Contains(out, `"kind":"partition.metadata"`) {
		t.Errorf("a bad length: %v\n%s", err, out)
	}
}

func TestNoLog(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"dump", "verify"} {
		if out, err := runLog(t, verb, dir); !errors.Is(err, errNoLog) || out != "" {
			t.Errorf("%s: %v %q", verb, err, out)
		}
		if _, err := runLog(t, verb, filepath.Join(dir, "nothing")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s of nothing: %v", verb, err)
		}
	}
}

// A directory that is called like a log, or is empty, is none: "verify /etc" would find no problem in what it never read.
func TestNamedLikeALog(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"ImageMagick-6", "empty-0"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "ImageMagick-6", "policy.xml"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := runLog(t, "verify", dir); !errors.Is(err, errNoLog) {
		t.Errorf("%v %q", err, out)
	}
	if err := os.CopyFS(filepath.Join(dir, "txn-0"), os.DirFS(filepath.Join(kafkaLogs, "txn-0"))); err != nil {
		t.Fatal(err)
	}
	if out, err := runLog(t, "verify", dir); err != nil || !strings.HasPrefix(out, "1 log, ") {
		t.Errorf("%v %q", err, out)
	}
}

// copyLog copies a log that Kafka wrote, to be damaged.
func copyLog(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(kafkaLogs, name))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// damage turns one bit of a file over.
func damage(t *testing.T, dir, file string, at int) {
	t.Helper()
	name := filepath.Join(dir, file)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 1
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestLogVerify(t *testing.T) {
	out, err := runLog(t, "verify", kafkaLogs)
	if err != nil || !strings.HasPrefix(out, "6 logs, ") || !strings.HasSuffix(out, ": 0 problems\n") {
		t.Fatalf("%s %v", out, err)
	}
	dir := copyLog(t, "txn-0")
	damage(t, dir, "00000000000000000003.log", 200)
	damage(t, dir, "00000000000000000027.snapshot", 20)
	damage(t, dir, "partition.metadata", 3)
	out, err = runLog(t, "verify", dir)
	if err == nil || isUsage(err) || !strings.Contains(err.Error(), "3 problems in 1 directory") {
		t.Fatalf("%s %v", out, err)
	}
	for _, want := range []string{"00000000000000000003.log: byte 156", "00000000000000000027.snapshot", "partition.metadata"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %s", want, out)
		}
	}
}

// A snapshot of the metadata log is all that is left of what it took the place of.
func TestVerifyMetadataSnapshot(t *testing.T) {
	dir := copyLog(t, "txn-0")
	const snapshot = "00000000000000000007-0000000001.checkpoint"
	if err := os.Rename(filepath.Join(dir, "00000000000000000000.log"), filepath.Join(dir, snapshot)); err != nil {
		t.Fatal(err)
	}
	before, _ := runLog(t, "verify", dir)
	damage(t, dir, snapshot, 100)
	out, err := runLog(t, "verify", dir)
	if err == nil || !strings.Contains(out, snapshot+": byte 79: wrong checksum") || strings.Contains(before, snapshot) {
		t.Errorf("%v: %s, before: %s", err, out, before)
	}
}
