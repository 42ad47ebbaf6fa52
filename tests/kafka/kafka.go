// Package kafka starts a real Apache Kafka, the judge of what is right, and finds its tools and client classes. It needs
// Java 17 and, the first time, Maven: jars are fetched from Maven Central and kept in the user's cache directory.
//
// It must never know what is tested with them.
package kafka

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// ClassPath is one of the sets of jars that pom.xml describes.
type ClassPath string

// The broker 4.4.0, the command line tools 4.3.1, the client classes 4.4.0, and Streams and Connect 4.3.1.
const (
	Server  ClassPath = "server"
	Tools   ClassPath = "tools"
	Clients ClassPath = "clients"
	Apps    ClassPath = "apps"
)

// ErrMissing says that this machine lacks Java or Maven: who asked is to say so and skip, or fail in CI.
var ErrMissing = errors.New("kafka: not on this machine")

//go:embed pom.xml
var pom []byte

// Jars returns the directory of a class path and fetches it the first time. $BARNABAS_KAFKA_CACHE says where to keep it.
func Jars(c ClassPath) (string, error) {
	if _, err := exec.LookPath("java"); err != nil {
		return "", fmt.Errorf("%w: %w", ErrMissing, err)
	}
	cache := os.Getenv("BARNABAS_KAFKA_CACHE")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("kafka: %w", err)
		}
		cache = filepath.Join(user, "barnabas", "kafka")
	}
	dir := filepath.Join(cache, string(c))
	done := filepath.Join(dir, ".complete")
	if _, err := os.Stat(done); err == nil {
		return dir, nil
	}
	if err := fetch(c, dir); err != nil {
		return "", err
	}
	return dir, os.WriteFile(done, nil, 0o644)
}

func fetch(c ClassPath, dir string) error {
	maven, err := exec.LookPath("mvn")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMissing, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	file := filepath.Join(dir, "pom.xml")
	if err := os.WriteFile(file, pom, 0o644); err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	cmd := exec.Command(maven, "-q", "-B", "-f", file, "-P", string(c), "dependency:copy-dependencies", "-DoutputDirectory="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kafka: fetch %s: %w\n%s", c, err, out)
	}
	return nil
}

// Java returns the command that runs a class of a class path. It is small: one test machine runs several of them.
func Java(c ClassPath, class string, args ...string) (*exec.Cmd, error) {
	return java(c, nil, class, args...)
}

// java is Java with directories of further classes.
func java(c ClassPath, further []string, class string, args ...string) (*exec.Cmd, error) {
	dir, err := Jars(c)
	if err != nil {
		return nil, err
	}
	path := strings.Join(append([]string{filepath.Join(dir, "*")}, further...), ":")
	options := []string{"-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=WARN", "-cp", path, class}
	return exec.Command("java", append(options, args...)...), nil
}

// Compile compiles a Java file against a class path, into a directory of classes.
func Compile(c ClassPath, file, to string) error {
	dir, err := Jars(c)
	if err != nil {
		return err
	}
	out, err := exec.Command("javac", "-d", to, "-cp", filepath.Join(dir, "*"), file).CombinedOutput()
	if err != nil {
		return fmt.Errorf("kafka: compile %s: %w\n%s", file, err, out)
	}
	return nil
}

// Properties is the configuration of a single-node broker on a port of 127.0.0.1, its controller on another, and data under dir;
// further lines come after it and win.
func Properties(dir string, port, controllerPort int, further ...string) string {
	lines := []string{
		"process.roles=broker,controller",
		"node.id=1",
		fmt.Sprintf("controller.quorum.voters=1@127.0.0.1:%d", controllerPort),
		fmt.Sprintf("listeners=PLAINTEXT://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d", port, controllerPort),
		fmt.Sprintf("advertised.listeners=PLAINTEXT://127.0.0.1:%d", port),
		"controller.listener.names=CONTROLLER",
		"log.dirs=" + filepath.Join(dir, "data"),
		"offsets.topic.replication.factor=1",
		"transaction.state.log.replication.factor=1",
		"transaction.state.log.min.isr=1",
		"share.coordinator.state.topic.replication.factor=1",
		"share.coordinator.state.topic.min.isr=1",
		"group.initial.rebalance.delay.ms=0",
	}
	return strings.Join(append(lines, further...), "\n") + "\n"
}

// Broker is a running Kafka.
type Broker struct {
	Addr string // 127.0.0.1:port
	cmd  *exec.Cmd
	log  bytes.Buffer
	done chan error
}

// Start runs a broker on the port with the given server.properties, whose log.dirs is dir/data, and waits until it takes
// connections. An empty data directory is formatted first. Plugins are directories of classes that the properties name.
func Start(dir string, port int, properties string, plugins ...string) (*Broker, error) {
	file := filepath.Join(dir, "server.properties")
	if err := os.WriteFile(file, []byte(properties), 0o644); err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "data", "meta.properties")); err != nil {
		format, err := java(Server, plugins, "kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", file)
		if err != nil {
			return nil, err
		}
		if out, err := format.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("kafka: format: %w\n%s", err, out)
		}
	}
	cmd, err := java(Server, plugins, "kafka.Kafka", file)
	if err != nil {
		return nil, err
	}
	b := &Broker{Addr: fmt.Sprintf("127.0.0.1:%d", port), cmd: cmd, done: make(chan error, 1)}
	cmd.Stdout, cmd.Stderr = &b.log, &b.log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("kafka: %w", err)
	}
	go func() { b.done <- cmd.Wait() }()
	return b, b.await(time.Minute)
}

func (b *Broker) await(limit time.Duration) error {
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if c, err := net.Dial("tcp", b.Addr); err == nil {
			return c.Close()
		}
		select {
		case err := <-b.done:
			b.done <- err
			return fmt.Errorf("kafka: it stopped: %v\n%s", err, &b.log)
		default:
		}
	}
	return errors.Join(fmt.Errorf("kafka: not ready after %v", limit), b.Stop())
}

// Stop ends the broker cleanly and waits for it.
func (b *Broker) Stop() error {
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kafka: stop: %w", err)
	}
	select {
	case err := <-b.done:
		b.done <- err
		return nil // Java tells of SIGTERM by its exit status
	case <-time.After(time.Minute):
		return errors.Join(errors.New("kafka: did not stop"), b.cmd.Process.Kill())
	}
}

// Kill ends the broker as kill -9 does and waits for it.
func (b *Broker) Kill() error {
	if err := b.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kafka: kill: %w", err)
	}
	b.done <- <-b.done
	return nil
}

// FreePort finds a port of 127.0.0.1 that nobody listens on. Somebody may take it before it is used.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("kafka: %w", err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, l.Close()
}
