package replicas

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
)

// A partition whose epoch file is damaged goes offline, and that is logged once
// and with the reason.
func TestTellOffline(t *testing.T) {
	mem := vfs.NewMem()
	w := newWorld(t, mem)
	w.start()
	w.create("x", 2)
	w.mustAppend("x", 0, 10, 1)
	w.ok(w.Close(1)) // After a clean stop the file is read when it is needed.
	w.drop()
	w.ok(vfs.WriteFile(mem, "/a/x-0/"+commitlog.EpochFile, []byte("garbage")))
	w.start()
	var logged bytes.Buffer
	w.opts.Log = slog.New(slog.NewTextHandler(&logged, nil))
	if err := w.append("x", 0, 10); err == nil {
		t.Fatal("appended without its epochs")
	}
	w.mustAppend("x", 1, 10, 1)
	for range 2 {
		w.ok(w.disks[0].tellOffline())
	}
	if got := logged.String(); strings.Count(got, "partition offline") != 1 || !strings.Contains(got, "epoch file") {
		t.Errorf("logged %q", got)
	}
}

// Events without an error say nothing of one.
func TestTellEvents(t *testing.T) {
	w := newWorld(t, vfs.NewMem())
	w.start()
	var logged bytes.Buffer
	w.opts.Log = slog.New(slog.NewTextHandler(&logged, nil))
	w.disks[0].tell(model.Partition{Topic: "x"})(commitlog.Event{Kind: commitlog.EventMarkLost, Bytes: 5})
	if got := logged.String(); !strings.Contains(got, "bytes=5") || strings.Contains(got, "nil") {
		t.Errorf("logged %q", got)
	}
}
