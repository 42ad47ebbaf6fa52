package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/barnabas-log/barnabas/internal/vfs"
)

// logOf copies a log of Kafka's to a directory of its own name.
func logOf(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(kafkaLogs, name))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestLogCompact(t *testing.T) {
	dir := logOf(t, "codec-zstd-0")
	out, err := runLog(t, "compact", "--json", dir)
	var r compacted
	if err != nil || json.Unmarshal([]byte(out), &r) != nil || r.Removed != 55 || r.After >= r.Before || r.Offset != 60 || r.End != 60 || r.Passes != 1 {
		t.Errorf("%s %+v %v", out, r, err)
	}
	if out, err = runLog(t, "dump", "--records", dir); err != nil || strings.Count(out, "\nrecord ") != 5 || !strings.Contains(out, "offset=59") {
		t.Errorf("%s %v", out, err)
	}
	if out, err = runLog(t, "verify", dir); err != nil {
		t.Errorf("%s %v", out, err)
	}
	if out, err = runLog(t, "compact", dir); err != nil || !strings.HasPrefix(out, "codec-zstd-0: 0 records removed") || !strings.Contains(out, "compacted up to offset 60 of 60") {
		t.Errorf("%s %v", out, err)
	}
	// Records of a topic that is not compacted stay.
	dir = logOf(t, "txn-0")
	if out, err := runLog(t, "compact", dir); err == nil || !strings.Contains(err.Error(), "byte 0: a record without a key") || out != "" {
		t.Errorf("%s %v", out, err)
	}
	if out, err := runLog(t, "compact", "--drop-keyless", dir); err != nil {
		t.Errorf("%s %v", out, err)
	}
}

func TestLogReindex(t *testing.T) {
	dir := logOf(t, "txn-0")
	want, err := os.ReadFile(filepath.Join(dir, "00000000000000000003.txnindex"))
	if err != nil {
		t.Fatal(err)
	}
	damage(t, dir, "00000000000000000003.txnindex", 9)
	if out, err := runLog(t, "verify", dir); err == nil {
		t.Error(out)
	}
	out, err := runLog(t, "reindex", dir)
	if err != nil || !strings.HasPrefix(out, "txn-0: 2 segments indexed, 2.1 KiB") {
		t.Errorf("%s %v", out, err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "00000000000000000003.txnindex"))
	if err != nil || string(got) != string(want) {
		t.Errorf("%x, want %x, %v", got, want, err)
	}
	if out, err = runLog(t, "verify", dir); err != nil {
		t.Errorf("%s %v", out, err)
	}
	out, err = runLog(t, "reindex", "--json", dir)
	var r reindexed
	if err != nil || json.Unmarshal([]byte(out), &r) != nil || r.Batches != 27 || r.Aborted != 3 {
		t.Errorf("%s %+v %v", out, r, err)
	}
}

// TestLogMendRefuses: what cannot be mended stays as it is, and one sentence
// says why.
func TestLogMendRefuses(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		if out, err := runLog(t, args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %s %v", args, out, err)
		}
	}
	dir := logOf(t, "codec-none-0")
	for _, what := range []string{"compact", "reindex"} {
		f("no such file", what, dir+"0")
		f("not the log of a partition", what, filepath.Dir(dir))
		f("at least 1 arg", what)
	}
	empty := filepath.Join(filepath.Dir(dir), "ImageMagick-6")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"compact", "reindex"} {
		f("there is no log in it", what, empty)
		f("the metadata log is the broker's alone", what, filepath.Join(filepath.Dir(dir), "__cluster_metadata-0")+"/")
	}
	if made, err := os.ReadDir(empty); err != nil || len(made) > 0 {
		t.Errorf("%v was made, %v", made, err)
	}
	if err := os.Remove(empty); err != nil {
		t.Fatal(err)
	}
	f("want 1MiB to 1TiB", "compact", "--memory", "1B", dir)
	f("want 1MiB to 1TiB", "compact", "--memory", "1e30", dir)
	f("want at least 1MiB", "compact", "--segment-size", "x", dir)
	f("want 0 or more", "compact", "--delete-retention", "-1s", dir)
	if _, err := runLog(t, "compact", "--memory", "many", dir); !isUsage(errors.Unwrap(err)) && !isUsage(err) {
		t.Errorf("%v", err)
	}
	// Whoever has the data directory has the log.
	if err := os.WriteFile(filepath.Join(filepath.Dir(dir), "meta.properties"), []byte("version=1\nnode.id=1\ncluster.id=c\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	lock, err := vfs.OS{}.Lock(filepath.Join(filepath.Dir(dir), ".lock"))
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"compact", "reindex"} {
		f("a broker has "+filepath.Dir(dir)+": stop it first", what, dir)
	}
	lock.Close()
	whole, err := os.ReadFile(filepath.Join(dir, "00000000000000000000.log"))
	if err != nil {
		t.Fatal(err)
	}
	damage(t, dir, "00000000000000000000.log", 300)
	before, err := os.ReadFile(filepath.Join(dir, "00000000000000000000.log"))
	if err != nil {
		t.Fatal(err)
	}
	// A clean stop is believed, so that it is not for recovery to cut it off.
	if err := os.WriteFile(filepath.Join(filepath.Dir(dir), ".kafka_cleanshutdown"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(dir), "replication-offset-checkpoint"), []byte("0\n1\ncodec-none 0 60\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"compact", "reindex"} {
		f("checksum", what, dir)
		f("barnabas log verify", what, dir)
	}
	after, err := os.ReadFile(filepath.Join(dir, "00000000000000000000.log"))
	if err != nil || string(after) != string(before) {
		t.Error("the log was changed")
	}
	// A torn end is found before anything is read again.
	if err := os.WriteFile(filepath.Join(dir, "00000000000000000000.log"), whole[:len(whole)-20], 0o644); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"compact", "reindex"} {
		f("barnabas log verify", what, dir)
	}
}
