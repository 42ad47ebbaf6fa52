// Package deploy holds unit and image of docs/operating to what they promise: the static
// binary runs where there is nothing else, and the flags that the unit and the
// image give are flags of serve. It cannot build the image: that takes a
// container engine and a network.
package deploy

import (
	"bufio"
	"debug/elf"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/tests/node"
)

// The binary of "make static" is the whole of an image: it serves in a root
// that holds it and an empty directory.
func TestScratch(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	binary := filepath.Join(root, "barnabas")
	build(t, binary)
	f, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("it needs a dynamic linker")
		}
	}
	if err := os.Mkdir(filepath.Join(root, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	args := append(imageCommand(t), "--listen", "127.0.0.1:0", "--http", "off") // The last of a flag counts.
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Path, cmd.Dir, cmd.Env = args[0], "/", []string{}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Chroot: root, Cloneflags: syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 65532, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 65532, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL) {
		node.Missing(t, "leave to make user namespaces ("+err.Error()+")")
	} else if err != nil {
		t.Fatal(err)
	}
	address := ready(t, out)
	client := exec.Command(binary, "topic", "create", "letters", "--brokers", address)
	if said, err := client.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(root, "data", "letters-0")); err != nil {
		t.Error(err)
	}
}

// build does what "make static" does, without writing into the tree.
func build(t *testing.T, binary string) {
	t.Helper()
	line := regexp.MustCompile(`(?m)^static:\n\t@CGO_ENABLED=0 \$\(GO\) (build .*) -o barnabas (\S+)$`).FindStringSubmatch(read(t, "Makefile"))
	if line == nil {
		t.Fatal("the Makefile has no target static, or another one")
	}
	args := append(words(line[1]), "-o", binary, line[2])
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func ready(t *testing.T, out io.Reader) string {
	t.Helper()
	found := make(chan string, 1)
	go func() {
		defer close(found)
		for s := bufio.NewScanner(out); s.Scan(); {
			if m := regexp.MustCompile(`ready on (\S+)`).FindStringSubmatch(s.Text()); m != nil {
				found <- m[1]
			}
		}
	}()
	select {
	case address, ok := <-found:
		if !ok {
			t.Fatal("the broker ended")
		}
		return address
	case <-time.After(time.Minute):
		t.Fatal("the broker is not ready")
		return ""
	}
}

// imageCommand is what the image runs, with its defaults.
func imageCommand(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, instruction := range []string{"ENTRYPOINT", "CMD"} {
		m := regexp.MustCompile(`(?m)^` + instruction + ` (\[.*\])$`).FindStringSubmatch(read(t, "docs/operating/Containerfile"))
		if m == nil {
			t.Fatalf("the image has no %s", instruction)
		}
		var part []string
		if err := json.Unmarshal([]byte(m[1]), &part); err != nil {
			t.Fatal(err)
		}
		all = append(all, part...)
	}
	return all
}

// Flags of the unit and of the image are flags of serve.
func TestFlags(t *testing.T) {
	t.Parallel()
	help := exec.Command("go", "run", "./cmd/barnabas", "serve", "--help")
	help.Dir = "../.."
	out, err := help.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	start := regexp.MustCompile(`(?m)^ExecStart=(.*)$`).FindStringSubmatch(read(t, "docs/operating/barnabas.service"))
	if start == nil {
		t.Fatal("the unit starts nothing")
	}
	for _, command := range [][]string{strings.Fields(start[1]), imageCommand(t)} {
		if filepath.Base(command[0]) != "barnabas" || command[1] != "serve" {
			t.Errorf("%q does not serve", command)
		}
		for _, w := range command[2:] {
			if strings.HasPrefix(w, "-") && !strings.Contains(string(out), w+" ") {
				t.Errorf("serve has no %s", w)
			}
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../..", file))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// words cuts a command as a shell does, as far as the Makefile needs it.
func words(s string) (out []string) {
	for _, w := range regexp.MustCompile(`'[^']*'|\S+`).FindAllString(s, -1) {
		out = append(out, strings.Trim(w, "'"))
	}
	return out
}
