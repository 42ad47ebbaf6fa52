package zmtp

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/tests/node"
)

// patience is how long anything may take on a busy machine.
const patience = time.Minute

// Options of libzmq, by their numbers in zmq.h.
const (
	zmqSendHWM          = 23
	zmqReceiveHWM       = 24
	zmqLinger           = 17
	zmqXPubVerbose      = 40
	zmqIPv6             = 42
	zmqCurveServer      = 47
	zmqCurvePublic      = 48
	zmqCurveSecret      = 49
	zmqCurveServerKey   = 50
	zmqXPubNoDrop       = 69
	zmqWelcome          = 72
	zmqHeartbeat        = 75
	zmqHeartbeatTTL     = 76
	zmqHeartbeatTimeout = 77
)

// program is peer.c, built once for all tests.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "zmtp")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "peer")
	if out, err := exec.Command("gcc", "-O2", "-Wall", "-Werror", "-o", file, filepath.Join("libzmq", "peer.c"), "-lzmq").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return file, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if installed() == "" {
		if file, err := program(); err == nil {
			_ = os.RemoveAll(filepath.Dir(file))
		}
	}
	os.Exit(code)
}

// installed names what is missing for building the program, if anything is.
func installed() (missing string) {
	if _, err := exec.LookPath("gcc"); err != nil {
		return "gcc"
	}
	source := strings.NewReader("#include <zmq.h>\n")
	cmd := exec.Command("gcc", "-E", "-x", "c", "-o", os.DevNull, "-")
	cmd.Stdin = source
	if cmd.Run() != nil {
		return "libzmq3-dev"
	}
	return ""
}

// peer is a process with one libzmq socket.
type peer struct {
	t       testing.TB
	process *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	errors  *bytes.Buffer
}

// start runs a socket, with options as pairs of number and value: an int or a
// string.
func start(t testing.TB, kind string, options ...any) *peer {
	t.Helper()
	if missing := installed(); missing != "" {
		skip(t, missing)
	}
	file, err := program()
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, process: exec.Command(file), errors: &bytes.Buffer{}}
	p.process.Stderr = p.errors
	if p.in, err = p.process.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	p.do("open " + kind)
	for i := 0; i < len(options); i += 2 {
		if s, ok := options[i+1].(string); ok {
			p.do(fmt.Sprintf("bytes %d %s", options[i], inHex(s)))
		} else {
			p.do(fmt.Sprintf("number %d %d", options[i], options[i+1]))
		}
	}
	return p
}

func skip(t testing.TB, missing string) {
	t.Helper()
	if test, ok := t.(*testing.T); ok {
		node.Missing(test, missing)
	}
	t.Skip(missing, "is missing")
}

func inHex(s string) string {
	if s == "" {
		return "-"
	}
	return hex.EncodeToString([]byte(s))
}

// begin gives a command, whose answer has to be fetched with answer.
func (p *peer) begin(command string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, command+"\n"); err != nil {
		p.t.Fatalf("%s: %v\n%s", command, err, p.errors)
	}
}

func (p *peer) answer() string {
	p.t.Helper()
	late := time.AfterFunc(patience, func() { _ = p.process.Process.Kill() })
	defer late.Stop()
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatalf("the peer does not answer: %v\n%s", err, p.errors)
	}
	return strings.TrimSuffix(line, "\n")
}

// do gives a command and returns its answer.
func (p *peer) do(command string) string {
	p.t.Helper()
	p.begin(command)
	return p.answer()
}

func (p *peer) bind() (endpoint string) {
	p.t.Helper()
	return p.do("bind tcp://127.0.0.1:*")
}

func (p *peer) subscribe(prefixes ...string) {
	p.t.Helper()
	for _, s := range prefixes {
		p.do("subscribe " + inHex(s))
	}
}

func (p *peer) send(frames ...string) {
	p.t.Helper()
	command := "send"
	for _, f := range frames {
		command += " " + inHex(f)
	}
	p.do(command)
}

// receive waits for a message, written with | between its frames.
func (p *peer) receive() string {
	p.t.Helper()
	var frames []string
	for word := range strings.FieldsSeq(p.do("receive")) {
		frame, err := hex.DecodeString(strings.TrimPrefix(word, "-"))
		if err != nil {
			p.t.Fatal(err)
		}
		frames = append(frames, string(frame))
	}
	return strings.Join(frames, "|")
}

func (p *peer) expect(messages ...string) {
	p.t.Helper()
	for _, want := range messages {
		if got := p.receive(); got != want {
			p.t.Fatalf("libzmq received %.100q, want %.100q", got, want)
		}
	}
}

func (p *peer) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.process.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// kill ends the process as kill -9 does.
func (p *peer) kill() {
	if p.process.ProcessState == nil {
		_ = p.process.Process.Kill()
		_ = p.process.Wait()
	}
}
