package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
)

// TestMain makes the test binary the command, so that scripts run what users
// run.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"barnabas": main})
}

// TestScripts runs testdata/script/*.txt, each with a broker of its own. With
// BARNABAS_TEST_BROKER=host:port they talk to that one instead: an empty Apache
// Kafka, say, which judges the commands.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"transaction": transaction},
		Setup: func(env *testscript.Env) error {
			address := os.Getenv("BARNABAS_TEST_BROKER")
			if address == "" {
				address = startBroker(env)
			}
			env.Setenv("BARNABAS_BROKERS", address)
			// A line that is too large for a small max.message.bytes.
			return os.WriteFile(env.WorkDir+"/big", bytes.Repeat([]byte{'x'}, 200_000), 0o644)
		},
	})
}

// startBroker runs a broker until the script is over and returns its address.
func startBroker(env *testscript.Env) string {
	return runBroker(env.T().(testing.TB), env.Defer, env.WorkDir)
}

// runBroker runs a broker with its data under dir until after, and returns its
// address.
func runBroker(t testing.TB, after func(func()), dir string, flags ...string) string {
	path, err := exec.LookPath("barnabas")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"serve", "--data-dir", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--http", "off", "-o", "durability=os"}
	cmd := exec.Command(path, append(args, flags...)...)
	cmd.Dir = dir
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	after(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the broker ended with %v", err)
		}
	})
	var seen strings.Builder
	ready := regexp.MustCompile(`ready on (\S+)`)
	for s := bufio.NewScanner(out); s.Scan(); {
		seen.WriteString(s.Text() + "\n")
		if m := ready.FindStringSubmatch(s.Text()); m != nil {
			go func() { _, _ = io.Copy(io.Discard, out) }() // Ends when the broker does.
			return m[1]
		}
	}
	t.Fatalf("the broker did not become ready:\n%s", seen.String())
	return ""
}

// The exit codes are part of the interface.
func TestExitCodes(t *testing.T) {
	f := func(want int, args ...string) {
		t.Helper()
		path, err := exec.LookPath("barnabas")
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(path, args...)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("%q: exit code %d, want %d\n%s", args, got, want, out)
		}
	}
	f(0)
	f(0, "version")
	f(0, "topic", "--help")
	f(2, "nonsense")
	f(2, "topic", "nonsense")
	f(2, "topic", "create")
	f(2, "log", "nonsense")
	f(2, "topic", "list", "--brokers", "")
	f(2, "topic", "list", "--timeout", "0s")
	f(2, "consume", "letters", "--nonsense")
	f(2, "produce", "letters", "--acks", "2")
	f(1, "topic", "list", "--brokers", "127.0.0.1:1")
}

// README.md promises examples with every command. A word that is no command is a mistake, not a question for help.
func TestEveryCommand(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Example == "" || cmd.Short == "" {
			t.Errorf("%s: no example, or no sentence", cmd.CommandPath())
		}
		for line := range strings.Lines(cmd.Example) {
			if err := parseExample(line); err != nil {
				t.Errorf("%s: example %q: %v", cmd.CommandPath(), line, err)
			}
		}
		if usage := cmd.UsageString(); strings.Contains(usage, "Slice") || strings.Contains(usage, "(default [])") || strings.Contains(usage, "(default )") {
			t.Errorf("%s speaks Go:\n%s", cmd.CommandPath(), usage)
		}
		if !cmd.Runnable() {
			t.Errorf("%s takes any word", cmd.CommandPath())
		}
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(newRootCmd())
}

// parseExample looks whether a line of a shell is a command of ours, with flags and arguments that it has.
func parseExample(line string) error {
	_, ours, ok := strings.Cut(line, "barnabas ")
	if !ok {
		return errors.New("it is no command of ours")
	}
	var words []string
	ours = strings.ReplaceAll(ours, "$(pidof barnabas)", "1")
	for _, w := range regexp.MustCompile(`"[^"]*"|'[^']*'|\S+`).FindAllString(ours, -1) {
		if slices.Contains([]string{"|", ">", "&", "&&", "#", "<<<", "\\"}, w) {
			break
		}
		words = append(words, strings.Trim(w, `"'`))
	}
	cmd, rest, err := newRootCmd().Find(words)
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err == nil {
		err = cmd.ValidateArgs(cmd.Flags().Args())
	}
	return err
}

// What the pages for users say to type has a meaning.
func TestDocumentedCommands(t *testing.T) {
	pages, err := filepath.Glob("../../docs/operating/*.md")
	if err != nil {
		t.Fatal(err)
	}
	command := regexp.MustCompile(`(?m)^    (?:.*[|&] |sudo )?(?:\./)?(barnabas \S.*)$`)
	tried := 0
	for _, page := range append(pages, "../../README.md", "../../docs/dafka.md", "../../docs/performance.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range command.FindAllStringSubmatch(string(text), -1) {
			tried++
			if err := parseExample(m[1]); err != nil {
				t.Errorf("%s: %s: %v", page, m[1], err)
			}
		}
	}
	if tried < 50 {
		t.Errorf("%d commands were found in the pages", tried)
	}
}
