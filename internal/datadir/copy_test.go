package datadir

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"

	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
)

// Marks are about one directory, under whatever name; what they say of a copy
// may be too much.
func TestMarksOfACopy(t *testing.T) {
	at := filepath.Join(t.TempDir(), "data")
	known := func(path string, want bool) {
		t.Helper()
		d, err := Open(vfs.OS{}, path, Identity{Node: 1}, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if _, got, err := d.Marks(); got != want || err != nil {
			t.Errorf("%s: known %v, %v; want %v", path, got, err, want)
		}
	}
	d, err := Open(vfs.OS{}, at, Identity{Node: 1}, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.WriteMarks(Marks{model.Partition{Topic: "t"}: {Offset: 9}}, true); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	known(at, true)
	moved := at + "-moved"
	if err := os.Rename(at, moved); err != nil {
		t.Fatal(err)
	}
	known(moved, true)
	copied := at + "-copied"
	if err := os.CopyFS(copied, os.DirFS(moved)); err != nil {
		t.Fatal(err)
	}
	known(copied, false)
	known(moved, true)
}
