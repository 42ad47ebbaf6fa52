package dafka

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/barnabas-log/barnabas/tests/node"
)

const inside = "BARNABAS_TEST_NETWORK" // Set in the process that has a network of its own.

// enter runs a test once more, in a network of its own that has a loopback
// interface and nothing else, and reports whether this is that one.
func enter(t *testing.T) bool {
	if os.Getenv(inside) != "" {
		if err := loopbackUp(); err != nil {
			t.Fatal(err)
		}
		return true
	}
	again := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	again.Env = append(os.Environ(), inside+"=1", "BARNABAS_TEST_BINARY="+node.Binary(t))
	again.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET}
	out, err := again.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		node.Missing(t, "the right to make a network namespace (root)")
	}
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	return false
}

func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo)
}

// TestWithoutSettings: the four commands of the documentation, without a single
// option, on a machine that has no network; each of the processes is killed once.
func TestWithoutSettings(t *testing.T) {
	if !enter(t) {
		return
	}
	tower := spawn(t, "tower")
	store := spawn(t, "store", "--data-dir", t.TempDir())
	produce := func(line string) {
		t.Helper()
		cmd := exec.CommandContext(patiently(t), node.Binary(t), "dafka", "produce", "letters")
		cmd.Stdin = strings.NewReader(line + "\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
	consume := func(n string) string {
		t.Helper()
		out, err := exec.CommandContext(patiently(t), node.Binary(t), "dafka", "consume", "letters", "--from-beginning", "-n", n).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	produce("one")
	if got := consume("1"); !strings.HasSuffix(got, " one\n") || !strings.HasPrefix(got, "letters ") {
		t.Errorf("%q", got)
	}
	for _, p := range []*process{tower, store} {
		p.kill()
		p.start()
	}
	produce("two")
	if got := consume("2"); !strings.Contains(got, " one\n") || !strings.Contains(got, " two\n") {
		t.Errorf("%q", got)
	}
	// A producer that is killed before a store comes has promised nothing; one that
	// is not waits for it.
	store.kill()
	for _, killed := range []bool{true, false} {
		cmd := exec.Command(node.Binary(t), "dafka", "produce", "letters")
		var out bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader("three\n"), &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if killed {
			time.Sleep(100 * time.Millisecond)
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			continue
		}
		store.start()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v\n%s", err, &out)
		}
	}
	if got := consume("3"); strings.Count(got, " three\n") != 1 {
		t.Errorf("%q", got)
	}
}

// TestIPv6: a mesh on IPv6 alone. A kernel without it has nothing to show; the
// endpoints themselves are tested in package zmtp.
func TestIPv6(t *testing.T) {
	if !enter(t) {
		return
	}
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Logf("this machine has no IPv6: %v", err)
		return
	}
	_ = l.Close()
	m := newMesh(t)
	m.config.Tower.Sub, m.config.Tower.Pub = "tcp://[::1]:*", "tcp://[::1]:*"
	m.startTower()
	m.config.Beacon.Bind, m.config.Beacon.Address = "tcp://[::1]:*", ""
	p, c := m.producer("letters"), m.consumer("letters")
	m.publish(p, 0, 10)
	m.expect(c, p, 0, 10)
}
