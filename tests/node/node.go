// Package node runs the broker under test as its users do: the built binary,
// as a process of its own, on a port of 127.0.0.1. With
// BARNABAS_TEST_PEER=kafka it runs a real Apache Kafka in its place, which is
// how the tests themselves are tested; BARNABAS_TEST_BINARY names a binary to
// run instead of the one built from the tree.
//
// It must never know what the tests ask of the broker.
package node

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/tests/kafka"
)

// patience is how long a broker may take to start or stop on a busy machine.
const patience = time.Minute

// Node is one broker, started again after it has ended.
type Node struct {
	Addr string // 127.0.0.1:port, the same after each start.
	Data string // Its data directory: one directory per partition in it.

	t       *testing.T
	dir     string
	options []string
	process *exec.Cmd
	log     *log
	peer    *kafka.Broker
}

// Peer reports whether Apache Kafka runs in place of Barnabas.
func Peer() bool { return os.Getenv("BARNABAS_TEST_PEER") == "kafka" }

// Start runs a broker with an empty data directory and settings (key=value),
// and stops it when the test ends.
func Start(t *testing.T, options ...string) *Node {
	t.Helper()
	dir := t.TempDir()
	n := &Node{t: t, dir: dir, Data: filepath.Join(dir, "data"), options: options, log: &log{}}
	n.Again()
	t.Cleanup(func() {
		if t.Failed() && n.process != nil { // What is it doing? Goroutines go to its log.
			_ = n.process.Process.Signal(syscall.SIGQUIT)
			_ = n.process.Wait()
			n.process = nil
		}
		n.Stop()
		if t.Failed() {
			t.Logf("the broker's log ends with:\n%s", n.log.tail())
		}
	})
	return n
}

// Again starts the broker on its old directory and port, after Stop or Kill.
func (n *Node) Again() {
	n.t.Helper()
	if Peer() {
		n.startPeer()
		return
	}
	file, err := built()
	if err != nil {
		n.t.Fatal(err)
	}
	listen := n.Addr
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	args := []string{"serve", "--listen", listen}
	sets := func(key string) bool {
		return slices.ContainsFunc(n.options, func(o string) bool { return strings.HasPrefix(o, key+"=") })
	}
	if !sets("log.dirs") {
		args = append(args, "--data-dir", n.Data)
	}
	if !sets("http.listen") {
		args = append(args, "--http", "off")
	}
	for _, o := range n.options {
		args = append(args, "-o", o)
	}
	n.process = exec.Command(file, args...)
	n.process.Stderr = n.log
	out, err := n.process.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	if err := n.process.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.awaitReady(out)
}

// ready is what serve prints once it takes connections.
var ready = regexp.MustCompile(`ready on (127\.0\.0\.1:\d+)`)

func (n *Node) awaitReady(out io.Reader) {
	n.t.Helper()
	addr := make(chan string, 1)
	go func() {
		defer close(addr)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if m := ready.FindStringSubmatch(lines.Text()); m != nil {
				addr <- m[1]
			}
		}
	}()
	select {
	case a := <-addr:
		if a == "" {
			n.t.Fatalf("the broker ended: %v\n%s", n.process.Wait(), n.log.tail())
		}
		n.Addr = a
	case <-time.After(patience):
		n.Kill()
		n.t.Fatalf("the broker is not ready after %v\n%s", patience, n.log.tail())
	}
}

func (n *Node) startPeer() {
	n.t.Helper()
	var ports [2]int
	for i := range ports {
		var err error
		if ports[i], err = kafka.FreePort(); err != nil {
			n.t.Fatal(err)
		}
	}
	if n.Addr != "" {
		fmt.Sscanf(n.Addr, "127.0.0.1:%d", &ports[0])
	}
	var err error
	if n.peer, err = kafka.Start(n.dir, ports[0], kafka.Properties(n.dir, ports[0], ports[1], n.options...)); err != nil {
		n.t.Fatal(err)
	}
	n.Addr = n.peer.Addr
}

// PID is the broker's process id, or 0 where Apache Kafka runs.
func (n *Node) PID() int {
	if n.process == nil {
		return 0
	}
	return n.process.Process.Pid
}

// Stop asks the broker to end, with SIGTERM, and waits for it.
func (n *Node) Stop() {
	n.t.Helper()
	switch {
	case n.peer != nil:
		if err := n.peer.Stop(); err != nil {
			n.t.Error(err)
		}
		n.peer = nil
	case n.process != nil:
		_ = n.process.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(patience, func() {
			n.t.Errorf("the broker did not stop within %v of SIGTERM", patience)
			_ = n.process.Process.Signal(syscall.SIGQUIT) // For its goroutines.
		})
		if err := n.process.Wait(); err != nil {
			n.t.Errorf("the broker ended badly: %v", err)
		}
		late.Stop()
		n.process = nil
	}
}

// Kill ends the broker at once, as kill -9 does.
func (n *Node) Kill() {
	n.t.Helper()
	switch {
	case n.peer != nil:
		if err := n.peer.Kill(); err != nil {
			n.t.Error(err)
		}
		n.peer = nil
	case n.process != nil:
		_ = n.process.Process.Kill()
		_ = n.process.Wait() // Says that it was killed.
		n.process = nil
	}
}

// binary is built once per test program; the go command's cache makes that
// cheap.
var binary struct {
	once sync.Once
	file string
	err  error
}

func built() (string, error) {
	binary.once.Do(func() {
		if file := os.Getenv("BARNABAS_TEST_BINARY"); file != "" {
			binary.file = file
			return
		}
		dir, err := os.MkdirTemp("", "barnabas-tests-")
		if err != nil {
			binary.err = err
			return
		}
		binary.file = filepath.Join(dir, "barnabas")
		build := exec.Command("go", "build", "-o", binary.file, "./cmd/barnabas")
		build.Dir = "../.." // Tests run in their package's directory.
		if out, err := build.CombinedOutput(); err != nil {
			binary.err = fmt.Errorf("go build ./cmd/barnabas: %w\n%s", err, out)
		}
	})
	return binary.file, binary.err
}

// Binary is the program, for tests that start other commands than serve.
func Binary(t *testing.T) string {
	t.Helper()
	file, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// Main runs a package's tests and removes the binary that they built.
func Main(m *testing.M) {
	code := m.Run()
	if binary.file != "" && os.Getenv("BARNABAS_TEST_BINARY") == "" {
		_ = os.RemoveAll(filepath.Dir(binary.file))
	}
	os.Exit(code)
}

// Missing skips a test for want of a tool. In CI every tool has to be there.
func Missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing, and CI runs every test", what)
	}
	t.Skipf("%s is missing", what)
}

// Tool returns the path of a program, or skips the test.
func Tool(t *testing.T, name string) string {
	t.Helper()
	file, err := exec.LookPath(name)
	if err != nil {
		Missing(t, name)
	}
	return file
}

// log keeps the end of what a broker said.
type log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const keptLog = 64 << 10

func (l *log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Write(b)
	if extra := l.buf.Len() - keptLog; extra > keptLog {
		l.buf.Next(extra)
	}
	return len(b), nil
}

func (l *log) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buf.Bytes()
	return string(b[max(0, len(b)-keptLog):])
}
