package clients

import (
	"context"
	"os/exec"
	"slices"
	"testing"

	"github.com/barnabas-log/barnabas/tests/kafka"
	"github.com/barnabas-log/barnabas/tests/node"
)

// TestJavaApps runs a word count of Kafka Streams, exactly once, and Kafka
// Connect between two files. The broker is stopped and killed amid their work.
func TestJavaApps(t *testing.T) {
	t.Parallel()
	java := node.Tool(t, "java")
	classPath := compileClass(t, "java/Apps.java", kafka.Apps)
	n := node.Start(t, quickGroups...)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, java, slices.Concat(jvm, []string{"-cp", classPath, "Apps", n.Addr, t.TempDir()})...)
	ends := []func(){n.Stop, n.Kill}
	printed := sections(overRestart(t, cmd, n, func() { ends[0](); ends = ends[1:] }))
	if _, ok := printed["done"]; !ok && len(ends) != 0 {
		t.Errorf("it came to its end with %d restarts left", len(ends))
	}
}
