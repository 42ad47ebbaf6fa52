package wire_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The committed files are what the generator makes of Kafka's jars.
func TestGeneratedFilesAreCurrent(t *testing.T) {
	t.Parallel()
	kafkaJars(t)
	dir := t.TempDir()
	if out, err := exec.Command("sh", "../../tools/wiregen/generate.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("generate.sh: %v\n%s", err, out)
	}
	made, committed := generated(t, dir), generated(t, "../../wire")
	for name, b := range made {
		if !bytes.Equal(committed[name], b) {
			t.Errorf("%s: go generate ./wire would change it", name)
		}
		delete(committed, name)
	}
	for name := range committed {
		t.Errorf("%s: go generate ./wire would remove it", name)
	}
}

func generated(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*_gen.go"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: %d generated files, %v", dir, len(paths), err)
	}
	files := map[string][]byte{}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(p)] = b
	}
	return files
}
