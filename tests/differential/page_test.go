package differential

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestDifferencesAreDocumented: users can read what the comparison overlooks.
func TestDifferencesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range differences() {
		if line := fmt.Sprintf("| %s | %s | %s |\n", d.api, d.what, d.helps); !strings.Contains(string(page), line) {
			t.Errorf("docs/compatibility.md lacks:\n%s", line)
		}
	}
}
