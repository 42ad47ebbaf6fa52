package differential

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/tests/kafka"
)

// builtBinary builds barnabas once; the go command's cache makes that cheap from one run to the next.
var builtBinary = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("barnabas-differential-%d", os.Getuid()))
	file := filepath.Join(dir, "barnabas")
	build := exec.Command("go", "build", "-o", file, "./cmd/barnabas")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return file, nil
})

// made are the data directories that this run has recorded.
var made sync.Map

// process is a running broker, Kafka's or ours.
type process interface {
	Stop() error
	Kill() error
}

// server is the broker that a script is played on.
type server struct {
	t                    *testing.T
	kafka                bool
	dir                  string
	port, controllerPort int
	properties           string
	plugin               string
	running              process
}

func newServer(t *testing.T, s *script, kafkas bool) *server {
	b := &server{t: t, kafka: kafkas, dir: t.TempDir(), port: freePort(t), controllerPort: freePort(t), plugin: s.plugin}
	properties := strings.ReplaceAll(strings.Join(s.properties, "\n"), "${dir}", b.dir)
	b.properties = kafka.Properties(b.dir, b.port, b.controllerPort, properties)
	return b
}

// begin starts the broker for the first time, and stops it at the end of the test.
func (b *server) begin() {
	b.t.Helper()
	if err := b.start(); errors.Is(err, kafka.ErrMissing) {
		b.t.Skip("NOT RUN: ", err)
	} else if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if err := b.running.Stop(); err != nil {
			b.t.Error(err)
		}
	})
}

func (b *server) start() (err error) {
	if b.kafka {
		classes := filepath.Join(b.dir, "classes")
		if b.plugin != "" {
			if err := kafka.Compile(kafka.Server, filepath.Join("java", b.plugin+".java"), classes); err != nil {
				return err
			}
		}
		b.running, err = kafka.Start(b.dir, b.port, b.properties, classes)
		return err
	}
	b.running, err = startOurs(b.t, b.dir, b.port, b.properties)
	return err
}

func (b *server) address() string { return fmt.Sprintf("127.0.0.1:%d", b.port) }

// settle gives Kafka's broker time to follow its controller, which answers
// before it does. Nothing tells when that is done.
func (b *server) settle() {
	if b.kafka {
		time.Sleep(500 * time.Millisecond)
	}
}

// again ends the broker, cleanly or as kill -9 does, and starts it anew.
func (b *server) again(kill bool) error {
	end := b.running.Stop
	if kill {
		end = b.running.Kill
	}
	if err := end(); err != nil {
		return err
	}
	return b.start()
}

// spoil puts a file in the place of a data directory.
func (b *server) spoil(dir string, running bool) error {
	at := filepath.Join(b.dir, dir)
	replace := func() error { return errors.Join(os.Rename(at, at+".kept"), os.WriteFile(at, nil, 0o644)) }
	if running {
		return replace()
	}
	if err := errors.Join(b.running.Stop(), replace()); err != nil {
		return err
	}
	return b.start()
}

// mend puts the directory back.
func (b *server) mend(dir string) error {
	at := filepath.Join(b.dir, dir)
	if err := errors.Join(b.running.Stop(), os.Remove(at), os.Rename(at+".kept", at)); err != nil {
		return err
	}
	return b.start()
}

// ours is a running Barnabas.
type ours struct {
	cmd  *exec.Cmd
	done chan error
}

func startOurs(t *testing.T, dir string, port int, properties string) (*ours, error) {
	exe, err := builtBinary()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "server.properties")
	if err := os.WriteFile(file, []byte(properties), 0o644); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	o := &ours{exec.Command(exe, "serve", "--config", file, "--http", ""), make(chan error, 1)}
	o.cmd.Stdout, o.cmd.Stderr = log, log
	if err := o.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { o.done <- o.cmd.Wait(); log.Close() }()
	t.Cleanup(func() {
		if out, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("its log:\n%s", out)
		}
	})
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return o, c.Close()
		}
	}
	return o, errors.Join(errors.New("barnabas takes no connections"), o.Kill())
}

// Stop ends it cleanly. If it hangs, its stacks are in the log.
func (o *ours) Stop() error {
	o.cmd.Process.Signal(syscall.SIGTERM)
	hang := time.AfterFunc(patience, func() { o.cmd.Process.Signal(syscall.SIGQUIT) })
	defer hang.Stop()
	if err := <-o.done; err != nil {
		return fmt.Errorf("barnabas ended badly: %w", err)
	}
	return nil
}

// Kill ends it as kill -9 does.
func (o *ours) Kill() error {
	err := o.cmd.Process.Kill()
	<-o.done
	return err
}

// makeData has Kafka write the data directory that scripts take over, once for all of them: testdata/data/NAME.txt says how.
func makeData(t *testing.T, name string) {
	t.Helper()
	if _, done := made.LoadOrStore(name, true); done {
		return
	}
	s, err := parseScript(filepath.Join("testdata", "data", name+".txt"), name)
	if err != nil {
		t.Fatal(err)
	}
	b := newServer(t, s, true)
	b.begin()
	outcomes, err := play(s, b, newNames(b.dir, b.port, b.controllerPort))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range outcomes {
		t.Logf("%s: %v", o.step, o.answer)
	}
	if err := b.running.Stop(); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join("testdata", "data", name)
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := copyData(filepath.Join(b.dir, "data"), to, false); err != nil {
		t.Fatal(err)
	}
}

// cleanFile is how Kafka says that it had time to stop.
const cleanFile = ".kafka_cleanshutdown"

// copyData copies a data directory, without the lock and what is rebuilt. unclean leaves out what says that the broker
// stopped in peace, too.
func copyData(from, to string, unclean bool) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		at := filepath.Join(to, rel)
		name := d.Name()
		switch {
		case d.IsDir():
			return os.MkdirAll(at, 0o755)
		case name == ".lock" || strings.HasSuffix(name, ".index") || strings.HasSuffix(name, ".timeindex") || unclean && name == cleanFile:
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(at, b, 0o644)
	})
}
