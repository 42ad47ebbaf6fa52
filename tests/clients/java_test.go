package clients

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/tests/kafka"
	"github.com/barnabas-log/barnabas/tests/node"
)

// TestJava drives Apache Kafka's Java client 4.4.0.
func TestJava(t *testing.T) {
	t.Parallel()
	j := compileJava(t)
	n := node.Start(t)
	t.Run("admin", func(t *testing.T) { j.run(t, "admin", n.Addr) })
	t.Run("administrators", func(t *testing.T) { j.runClass(t, "Admin", n.Addr) })
	t.Run("produce", func(t *testing.T) {
		var topics []string
		for _, codec := range codecs {
			for _, acks := range []string{"0", "1", "all", "idempotent"} {
				topics = append(topics, "java-"+codec+"-"+acks)
				create(t, n, topics[len(topics)-1])
			}
		}
		j.run(t, "matrix", n.Addr)
		for _, topic := range topics {
			wantSamples(t, n, topic)
		}
	})
	t.Run("read", func(t *testing.T) {
		writeSamples(t, n, "java-read")
		got := sections(j.run(t, "read", n.Addr, "java-read"))
		rows := sampleRows()
		wantRows(t, "all", got["all"], rows)
		wantRows(t, "from offset 7", got["offset"], rows[samples/2+7:])
		wantRows(t, "from time", got["time"], rows[samples/2+10:])
	})
	t.Run("too large", func(t *testing.T) {
		create(t, n, "java-large")
		j.run(t, "large", n.Addr, "java-large")
		readAll(t, n, "java-large", 0)
	})
	t.Run("restart", func(t *testing.T) { javaRestart(t, j, n, "java-restart", n.Stop) })
	t.Run("kill", func(t *testing.T) { javaRestart(t, j, n, "java-kill", n.Kill) })
}

// javaRestart ends the broker between two halves of what a program writes and
// reads.
func javaRestart(t *testing.T, j javaClient, n *node.Node, topic string, end func()) {
	create(t, n, topic)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	printed := overRestart(t, j.command(t, ctx, "restart", n.Addr, topic), n, end)
	wantRows(t, "read over the restart", sections(printed)["all"], sampleRows())
	wantSamples(t, n, topic)
}

// overRestart runs a program; when it says "half", the broker is ended and
// started again, and the program is told.
func overRestart(t *testing.T, cmd *exec.Cmd, n *node.Node, end func()) string {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var printed strings.Builder
	restarted := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		printed.WriteString(lines.Text() + "\n")
		if lines.Text() == "half" {
			restarted = true
			end()
			n.Again()
			if _, err := in.Write([]byte("on\n")); err != nil {
				t.Error(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil || !restarted {
		t.Fatalf("restarted %v, %v\n%s", restarted, err, tail(errs.String()))
	}
	return printed.String()
}

// sections cuts what a program printed at its titles.
func sections(out string) map[string][]string {
	cut := map[string][]string{}
	title := ""
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if t, ok := strings.CutPrefix(line, "# "); ok {
			title = t
		} else if title != "" {
			cut[title] = append(cut[title], line)
		}
	}
	return cut
}

// javaClient is the compiled programs of java/ and their class path.
type javaClient struct{ classPath string }

func compileJava(t *testing.T) javaClient {
	t.Helper()
	javac := node.Tool(t, "javac")
	jars := jars(t, kafka.Clients)
	dir := t.TempDir()
	run(t, "", javac, "-cp", filepath.Join(jars, "*"), "-d", dir, "java/Client.java", "java/Admin.java", "java/Dafka.java")
	return javaClient{dir + string(os.PathListSeparator) + filepath.Join(jars, "*")}
}

// jars is the directory of a class path of Kafka's.
func jars(t *testing.T, c kafka.ClassPath) string {
	t.Helper()
	dir, err := kafka.Jars(c)
	if errors.Is(err, kafka.ErrMissing) {
		node.Missing(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func (j javaClient) command(t *testing.T, ctx context.Context, args ...string) *exec.Cmd {
	t.Helper()
	return exec.CommandContext(ctx, node.Tool(t, "java"), slices.Concat(jvm, []string{"-cp", j.classPath, "Client"}, args)...)
}

func (j javaClient) run(t *testing.T, args ...string) string {
	t.Helper()
	return j.runClass(t, "Client", args...)
}

func (j javaClient) runClass(t *testing.T, class string, args ...string) string {
	t.Helper()
	return run(t, "", node.Tool(t, "java"), slices.Concat(jvm, []string{"-cp", j.classPath, class}, args)...)
}

// jvm makes a Java machine start fast and stay small.
var jvm = []string{"-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"}

// TestTools drives the command line tools of Apache Kafka 4.3.1.
func TestTools(t *testing.T) {
	t.Parallel()
	java := node.Tool(t, "java")
	dir := jars(t, kafka.Tools)
	n := node.Start(t)
	tool := func(t *testing.T, in, class string, args ...string) string {
		t.Helper()
		began := time.Now()
		defer func() { t.Logf("%s took %v", class, time.Since(began).Round(time.Millisecond)) }()
		return run(t, in, java, slices.Concat(jvm, []string{"-Dlog4j2.level=ERROR", "-cp", filepath.Join(dir, "*"), "org.apache.kafka.tools." + class}, args)...)
	}
	server := []string{"--bootstrap-server", n.Addr}
	with := func(args ...string) []string { return append(slices.Clone(server), args...) }

	// One after the other: each uses what the one before made.
	tool(t, "", "TopicCommand", with("--create", "--topic", "tools", "--partitions", "2", "--replication-factor", "1", "--config", "segment.bytes=2000000")...)
	if got := tool(t, "", "TopicCommand", with("--describe", "--topic", "tools")...); !strings.Contains(got, "PartitionCount: 2") || !strings.Contains(got, "segment.bytes=2000000") || !strings.Contains(got, "Isr: 1") {
		t.Errorf("described as %s", got)
	}
	var in, want []string
	for i := range 100 {
		in = append(in, "k:line "+strings.Repeat("x", i))
		want = append(want, "k=line "+strings.Repeat("x", i))
	}
	tool(t, strings.Join(in, "\n")+"\n", "ConsoleProducer", with("--topic", "tools", "--compression-codec", "zstd", "--reader-property", "parse.key=true", "--reader-property", "key.separator=:")...)
	partition := "0" // One key: one partition.
	offsets := tool(t, "", "GetOffsetShell", with("--topic", "tools")...)
	if strings.Contains(offsets, "tools:1:100") {
		partition = "1"
	}
	if !strings.Contains(offsets, "tools:"+partition+":100") {
		t.Errorf("offsets are %s", offsets)
	}
	got := tool(t, "", "consumer.ConsoleConsumer", with("--topic", "tools", "--partition", partition, "--offset", "earliest", "--max-messages", "100",
		"--formatter-property", "print.key=true", "--formatter-property", "key.separator==")...)
	wantRows(t, "ConsoleConsumer", strings.Split(strings.TrimSpace(got), "\n"), want)
	got = tool(t, "", "consumer.ConsoleConsumer", with("--topic", "tools", "--partition", partition, "--offset", "97", "--max-messages", "3",
		"--formatter-property", "print.key=true", "--formatter-property", "key.separator==")...)
	wantRows(t, "ConsoleConsumer from offset 97", strings.Split(strings.TrimSpace(got), "\n"), want[97:])

	got = tool(t, "", "ProducerPerformance", "--topic", "tools", "--num-records", "5000", "--record-size", "1000", "--throughput", "-1",
		"--producer-props", "bootstrap.servers="+n.Addr, "acks=all", "compression.type=lz4")
	if !strings.Contains(got, "5000 records sent") {
		t.Errorf("ProducerPerformance says %s", got)
	}
	readAll(t, n, "tools", 5100)

	// What the broker wrote is what Kafka's own reader takes for sound.
	n.Stop()
	segments, err := filepath.Glob(filepath.Join(n.Data, "tools-*", "*.log"))
	if err != nil || len(segments) < 2 {
		t.Fatalf("segments are %v, %v", segments, err)
	}
	got = tool(t, "", "DumpLogSegments", "--deep-iteration", "--print-data-log", "--files", strings.Join(segments, ","))
	if records := strings.Count(got, "| offset: "); records != 5100 || strings.Contains(got, "isvalid: false") {
		t.Errorf("DumpLogSegments found %d records:\n%s", records, tail(got))
	}
	var indexes []string
	for _, s := range segments {
		indexes = append(indexes, strings.TrimSuffix(s, ".log")+".index", strings.TrimSuffix(s, ".log")+".timeindex")
	}
	if got = tool(t, "", "DumpLogSegments", "--index-sanity-check", "--files", strings.Join(indexes, ",")); strings.Count(got, "passed sanity check") != len(indexes) {
		t.Errorf("DumpLogSegments says of the indexes: %s", tail(got))
	}
	n.Again()
	tool(t, "", "TopicCommand", with("--delete", "--topic", "tools")...)
	if got := tool(t, "", "TopicCommand", with("--list")...); strings.Contains(got, "tools") {
		t.Errorf("deleted, and listed: %s", got)
	}
}
