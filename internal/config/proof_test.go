package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestEveryKeyIsTested: a key of which the page says that it works names a test
// that is there, in a file that names the key.
func TestEveryKeyIsTested(t *testing.T) {
	known := map[string]bool{}
	for _, k := range slices.Concat(TopicKeys(), BrokerKeys(), GroupKeys(), ClientMetricsKeys()) {
		known[k.Name] = true
		works := k.Status == Works || k.Status == Partial
		switch {
		case !works && k.Test != "":
			continue // A key of groups may work before the broker's of the same name, or the other way round.
		case works && k.Test == "":
			t.Errorf("%s works, says its status, but no test is named in proof.go", k.Name)
		case works:
			checkProof(t, k)
		}
	}
	once := map[string]string{}
	for test, keys := range proofs() {
		for _, key := range strings.Fields(keys) {
			if !known[key] {
				t.Errorf("%s proves %s, which is no key", test, key)
			}
			if once[key] != "" {
				t.Errorf("%s is proved by %s and %s: name one", key, once[key], test)
			}
			once[key] = test
		}
	}
}

func checkProof(t *testing.T, k Key) {
	t.Helper()
	i := strings.LastIndexByte(k.Test, '.')
	if i < 0 {
		t.Fatalf("%s: %q is no package.TestName", k.Name, k.Test)
	}
	dir := filepath.Join("..", k.Test[:i])
	if _, err := os.Stat(dir); err != nil {
		dir = filepath.Join("..", "..", k.Test[:i])
	}
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(b), "\nfunc "+k.Test[i+1:]+"(t *testing.T) {") {
			continue
		}
		if !strings.Contains(string(b), k.Name) {
			t.Errorf("%s: %s is in %s, which does not name the key", k.Name, k.Test, file)
		}
		return
	}
	t.Errorf("%s: there is no test %s", k.Name, k.Test)
}
