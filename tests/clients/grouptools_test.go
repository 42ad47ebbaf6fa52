package clients

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/barnabas-log/barnabas/tests/kafka"
	"github.com/barnabas-log/barnabas/tests/node"
)

// toolbox is a Java machine that runs Kafka's tools.
type toolbox struct {
	in  io.Writer
	out *bufio.Scanner
}

func newToolbox(t *testing.T) *toolbox {
	t.Helper()
	classPath := compileClass(t, "java/GroupTools.java", kafka.Tools)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	cmd := exec.CommandContext(ctx, node.Tool(t, "java"), slices.Concat(jvm, []string{"-Dlog4j2.level=ERROR", "-cp", classPath, "GroupTools"})...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait(); cancel() })
	return &toolbox{in, bufio.NewScanner(out)}
}

// run runs one tool to its end and returns the words of each line that it
// printed.
func (b *toolbox) run(t *testing.T, class string, args ...string) (rows [][]string) {
	t.Helper()
	if _, err := fmt.Fprintln(b.in, strings.Join(append([]string{"org.apache.kafka.tools." + class}, args...), "\t")); err != nil {
		t.Fatal(err)
	}
	for b.out.Scan() {
		status, isLast := strings.CutPrefix(b.out.Text(), "done ")
		if !isLast {
			if words := strings.Fields(b.out.Text()); len(words) > 0 {
				rows = append(rows, words)
			}
			continue
		}
		if status != "0" {
			t.Errorf("%s %q ended with %s: %q", class, args, status, rows)
		}
		return rows
	}
	t.Fatalf("%s %q did not end: %v, %q", class, args, b.out.Err(), rows)
	return nil
}

// wantRow checks that a row begins with some words.
func wantRow(t *testing.T, what string, rows [][]string, words ...string) {
	t.Helper()
	for _, row := range rows {
		if len(row) >= len(words) && slices.Equal(row[:len(words)], words) {
			return
		}
	}
	t.Errorf("%s: %q, want a row that begins with %q", what, rows, words)
}

// TestGroupTools drives Kafka's ConsumerGroupCommand and ConsoleConsumer.
func TestGroupTools(t *testing.T) {
	t.Parallel()
	b := newToolbox(t)
	n := node.Start(t, quickGroups...)
	writeSamples(t, n, "tools")
	groups := func(args ...string) [][]string {
		t.Helper()
		return b.run(t, "consumer.group.ConsumerGroupCommand", append([]string{"--bootstrap-server", n.Addr}, args...)...)
	}
	for _, protocol := range []string{"classic", "consumer"} {
		name := "console-" + protocol
		rows := b.run(t, "consumer.ConsoleConsumer", "--bootstrap-server", n.Addr, "--topic", "tools", "--group", name, "--from-beginning", "--max-messages", fmt.Sprint(samples),
			"--timeout-ms", "30000", "--command-property", "group.protocol="+protocol, "--formatter-property", "print.value=false", "--formatter-property", "print.offset=true")
		if read := countRows(rows, "Offset:"); read != samples {
			t.Errorf("%s: read %d records: %q", name, read, rows)
		}
		toolsDescribe(t, n, groups, name)
	}

	half := strconv.Itoa(samples / 2)
	wantRow(t, "reset", groups("--group", "console-classic", "--topic", "tools:1", "--reset-offsets", "--to-offset", "7", "--execute"), "console-classic", "tools", "1", "7")
	wantRow(t, "dry run", groups("--group", "console-classic", "--topic", "tools", "--reset-offsets", "--to-earliest", "--dry-run"), "console-classic", "tools", "1", "0")
	wantRow(t, "shift", groups("--group", "console-classic", "--topic", "tools:0", "--reset-offsets", "--shift-by", "-5", "--execute"), "console-classic", "tools", "0", strconv.Itoa(samples/2-5))
	rows := groups("--describe", "--group", "console-classic", "--offsets")
	wantRow(t, "after the reset", rows, "console-classic", "tools", "1", "7", half, strconv.Itoa(samples/2-7))
	wantRow(t, "after the shift", rows, "console-classic", "tools", "0", strconv.Itoa(samples/2-5), half, "5")
	wantRow(t, "by time", groups("--group", "console-classic", "--topic", "tools:1", "--reset-offsets", "--to-datetime", "2023-11-14T22:13:40.001", "--execute"), "console-classic", "tools", "1", "10")
	rows = groups("--group", "console-classic", "--topic", "tools:0", "--delete-offsets")
	wantRow(t, "offsets deleted", rows, "tools", "0", "Successful")
	if rows := groups("--describe", "--group", "console-classic", "--offsets"); countRows(rows, "console-classic") != 1 {
		t.Errorf("after an offset was deleted: %q", rows)
	}
	groups("--delete", "--group", "console-classic", "--group", "console-consumer")
	if rows := groups("--list"); countRows(rows, "console-classic")+countRows(rows, "console-consumer") != 0 {
		t.Errorf("deleted, and listed: %q", rows)
	}
	n.Kill()
	n.Again()
	if rows := groups("--list"); countRows(rows, "console-classic")+countRows(rows, "console-consumer") != 0 {
		t.Errorf("deleted, and listed after a restart: %q", rows)
	}
}

func countRows(rows [][]string, begin string) (n int) {
	for _, r := range rows {
		if strings.HasPrefix(r[0], begin) {
			n++
		}
	}
	return n
}

// toolsDescribe looks at a group whose member has left, and at one with a
// member.
func toolsDescribe(t *testing.T, n *node.Node, groups func(...string) [][]string, name string) {
	t.Helper()
	half := strconv.Itoa(samples / 2)
	rows := groups("--describe", "--group", name, "--offsets")
	wantRow(t, name+" offsets", rows, name, "tools", "0", half, half, "0", "-", "-", "-")
	wantRow(t, name+" offsets", rows, name, "tools", "1", half, half, "0", "-", "-", "-")
	rows = groups("--describe", "--group", name, "--state")
	wantRow(t, name+" is empty", rows, name, n.Addr, "(1)")
	if !slices.Contains(slices.Concat(rows...), "Empty") {
		t.Errorf("%s: state is %q, want Empty", name, rows)
	}

	assigned := make(chan struct{}, 10)
	opts := []kgo.Opt{
		kgo.ConsumerGroup(name), kgo.ConsumeTopics("tools"), kgo.ClientID("tool-member"), kgo.Balancers(kgo.RangeBalancer()), kgo.DisableAutoCommit(),
		kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) { assigned <- struct{}{} }),
	}
	if name == "console-consumer" {
		opts = append(opts, kgo.ServerSideBalancer())
	}
	c := oracle(t, n, opts...)
	select {
	case <-assigned:
	case <-time.After(patience):
		t.Fatalf("%s: no member after %v", name, patience)
	}
	for _, f := range []struct {
		args []string
		want []string // Words that are printed.
	}{
		{[]string{"--describe", "--group", name, "--members", "--verbose"}, []string{name, "tool-member", "/127.0.0.1", "2"}},
		{[]string{"--describe", "--group", name, "--offsets"}, []string{"tools", "tool-member", half}},
		{[]string{"--describe", "--group", name, "--state"}, []string{name, "Stable", "range", "1"}},
		{[]string{"--list", "--state", "stable"}, []string{name, "Stable"}},
	} {
		rows := groups(f.args...)
		for _, want := range f.want {
			if !slices.Contains(slices.Concat(rows...), want) {
				t.Errorf("%q printed %q, want %s", f.args, rows, want)
			}
		}
	}
	c.Close()
}

// TestTransactionTools drives Kafka's TransactionsCommand.
func TestTransactionTools(t *testing.T) {
	t.Parallel()
	b := newToolbox(t)
	n := node.Start(t, quickGroups...)
	create(t, n, "open")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := oracle(t, n, kgo.TransactionalID("tooled"), kgo.TransactionTimeout(10*time.Minute), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := c.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := c.ProduceSync(ctx, &kgo.Record{Topic: "open", Partition: 1, Value: []byte("never")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	id, _, err := c.ProducerID(ctx)
	if err != nil {
		t.Fatal(err)
	}
	transactions := func(args ...string) [][]string {
		t.Helper()
		return b.run(t, "TransactionsCommand", append([]string{"--bootstrap-server", n.Addr}, args...)...)
	}
	wantRow(t, "list", transactions("list"), "tooled", "1", fmt.Sprint(id), "Ongoing")
	rows := transactions("describe", "--transactional-id", "tooled")
	wantRow(t, "describe", rows, "1", "tooled", fmt.Sprint(id))
	if !slices.Contains(slices.Concat(rows...), "open-1") {
		t.Errorf("described as %q", rows)
	}
	wantRow(t, "producers", transactions("describe-producers", "--topic", "open", "--partition", "1"), fmt.Sprint(id))
	if rows := transactions("find-hanging", "--broker-id", "1", "--max-transaction-timeout", "0"); countRows(rows, "open") != 0 {
		t.Errorf("what its coordinator knows hangs: %q", rows)
	}
	transactions("abort", "--topic", "open", "--partition", "1", "--start-offset", "0")
	listed, err := kadm.NewClient(oracle(t, n)).ListCommittedOffsets(ctx, "open")
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := listed.Lookup("open", 1); o.Offset != 2 {
		t.Errorf("aborted, the stable end is %+v", o)
	}
	rows = transactions("describe-producers", "--topic", "open", "--partition", "1")
	wantRow(t, "producers after the abort", rows, fmt.Sprint(id))
	if last := rows[len(rows)-1]; last[len(last)-1] != "None" {
		t.Errorf("aborted, and it has an open transaction: %q", rows)
	}
}
