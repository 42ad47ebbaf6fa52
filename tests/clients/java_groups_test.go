package clients

import (
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/barnabas-log/barnabas/tests/kafka"
	"github.com/barnabas-log/barnabas/tests/node"
)

// quickGroups are settings of the broker that let tests of groups be quick:
// members of the consumer protocol are told by the broker how often to ask.
var quickGroups = []string{
	"group.initial.rebalance.delay.ms=0", "group.consumer.heartbeat.interval.ms=300", "group.consumer.min.heartbeat.interval.ms=300",
	"group.consumer.min.session.timeout.ms=1000", "group.consumer.max.session.timeout.ms=60000", "transaction.state.log.num.partitions=5", "offsets.topic.num.partitions=5",
	"transaction.state.log.min.isr=1", "transaction.state.log.replication.factor=1", "offsets.topic.replication.factor=1",
}

// javaGenerations are the generations, or epochs, of each group of Groups.java
// after each of its steps, and how often members were told of partitions: what
// Apache Kafka 4.4.0 comes to. More would be rebalances that nobody needs.
var javaGenerations = map[string][]string{
	"membership-eager":       {"one 1", "two 2", "three 3", "two left 4", "one left 5", "callbacks 5 3 1"},
	"membership-cooperative": {"one 1", "two 3", "three 5", "two left 6", "one left 7", "callbacks 7 5 2"},
	"membership-uniform":     {"one 2", "two 3", "three 4", "two left 5", "one left 6", "done"},
	"membership-range":       {"one 2", "two 3", "three 4", "two left 5", "one left 6", "done"},
	"static-eager":           {"a 1", "a and b 2", "b is back 2", "a is another 2", "b is gone 3", "done"},
	"static-cooperative":     {"a 1", "a and b 3", "b is back 3", "a is another 3", "b is gone 4", "done"},
	"static-uniform":         {"a 2", "a and b 3", "b is back 3", "b is gone 4", "done"},
	"static-range":           {"a 2", "a and b 3", "b is back 3", "b is gone 4", "done"},
	"regex-eager":            {"two topics 1", "three topics 2", "done"},
	"regex-cooperative":      {"two topics 1", "three topics 2", "done"},
	"regex-uniform":          {"done"},
	"regex-range":            {"done"},
	"migration":              {"classic 1", "both 2", "consumer 3", "both again 4", "classic again 5", "done"},
	"restarts":               {"half", "half"},
	"restart-eager":          {"a 1", "a and b 2", "after the restarts 2", "0 callbacks after restarts"},
	"restart-cooperative":    {"a 1", "a and b 3", "after the restarts 3", "0 callbacks after restarts"},
	"restart-uniform":        {"a 2", "a and b 3", "after the restarts 3", "0 callbacks after restarts"},
	"restart-range":          {"a 2", "a and b 3", "after the restarts 3", "0 callbacks after restarts"},
}

// TestJavaGroups drives groups of both protocols and transactions of Apache
// Kafka's Java client; in the end the broker is stopped and killed under them.
func TestJavaGroups(t *testing.T) {
	t.Parallel()
	java := node.Tool(t, "java")
	classPath := compileClass(t, "java/Groups.java", kafka.Clients)
	n := node.Start(t, quickGroups...)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, java, slices.Concat(jvm, []string{"-cp", classPath, "Groups", n.Addr})...)
	ends := []func(){n.Stop, n.Kill}
	printed := sections(overRestart(t, cmd, n, func() { ends[0](); ends = ends[1:] }))
	if len(ends) != 0 {
		t.Errorf("%d restarts did not come to be", len(ends))
	}
	for _, name := range slices.Sorted(maps.Keys(printed)) {
		wantRows(t, name, printed[name], javaGenerations[name])
	}
	if len(printed) != len(javaGenerations) {
		t.Errorf("%d groups reported, want %d", len(printed), len(javaGenerations))
	}
}

// compileClass compiles a Java file and returns the class path that it runs
// with.
func compileClass(t *testing.T, file string, with kafka.ClassPath) string {
	t.Helper()
	all := filepath.Join(jars(t, with), "*")
	dir := t.TempDir()
	run(t, "", node.Tool(t, "javac"), "-nowarn", "-cp", all, "-d", dir, file)
	return strings.Join([]string{dir, all}, string(os.PathListSeparator))
}
