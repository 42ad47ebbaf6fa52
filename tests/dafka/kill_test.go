package dafka

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/tests/node"
)

func TestMain(m *testing.M) { node.Main(m) }

// process is a barnabas that is killed, and started again.
type process struct {
	t      *testing.T
	args   []string
	cmd    *exec.Cmd
	stderr *bytes.Buffer
}

// spawn runs a command whose output begins with a line that says it is ready.
func spawn(t *testing.T, args ...string) *process {
	p := &process{t: t, args: append([]string{"dafka"}, args...)}
	p.start()
	t.Cleanup(p.kill)
	return p
}

func (p *process) start() {
	p.t.Helper()
	p.cmd, p.stderr = exec.Command(node.Binary(p.t), p.args...), new(bytes.Buffer)
	p.cmd.Stderr = p.stderr
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		p.t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.Contains(line, "is ready") {
		p.t.Fatalf("%v says %q: %v\n%s", p.args, line, err, p.stderr)
	}
}

func (p *process) kill() {
	if p.cmd.Process.Kill() == nil {
		_ = p.cmd.Wait()
	}
}

// rounds of a test, more with BARNABAS_ROUNDS.
func rounds(otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv("BARNABAS_ROUNDS")); err == nil && n > 0 {
		return n
	}
	return otherwise
}

// meshOfProcesses has a tower and stores that are processes, on ports that stay.
type meshOfProcesses struct {
	*mesh
	tower  *process
	stores []*process
	flags  []string
}

func newMeshOfProcesses(t *testing.T, stores int) *meshOfProcesses {
	m := &meshOfProcesses{mesh: newMesh(t)}
	_ = m.mesh.tower.Close(ended()) // Its ports are free, and known.
	sub, pub := m.mesh.tower.Sub(), m.mesh.tower.Pub()
	m.tower = spawn(t, "tower", "--sub", sub, "--pub", pub)
	m.flags = []string{
		"--sub", sub, "--pub", pub, "-o", "beacon/bind=tcp://127.0.0.1:*", "-o", "beacon/address=127.0.0.1", "-o", "beacon/interval=50",
		"-o", "beacon/timeout=1000", "-o", "producer/head_interval=100",
	}
	for range stores {
		m.stores = append(m.stores, spawn(t, append([]string{"store", "--data-dir", t.TempDir()}, m.flags...)...))
	}
	return m
}

// life is one life of a producer process: how many lines it was given, and
// whether it ended well, which is when stores have them all.
type life struct {
	dir   string
	lines int
	ended bool
}

// produce runs a durable producer that is killed after a while, unless it has
// ended. Its lines name the life.
func (m *meshOfProcesses) produce(number, lines int, dir string, limit time.Duration) life {
	var in bytes.Buffer
	for i := range lines {
		fmt.Fprintf(&in, "%d/%d %s\n", number, i, strings.Repeat("x", i%100))
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, node.Binary(m.T), append([]string{"dafka", "produce", "letters", "-o", "producer/dir=" + dir}, m.flags...)...)
	cmd.Stdin = &in
	out, err := cmd.CombinedOutput()
	if err != nil && ctx.Err() == nil {
		m.Errorf("life %d: %v\n%s", number, err, out)
	}
	return life{dir, lines, err == nil}
}

// TestKills: towers, stores and producers are killed again and again. What a
// producer ended well with is there, in order, once; of one that was killed what
// comes before the first record that is missing.
func TestKills(t *testing.T) {
	m := newMeshOfProcesses(t, 2)
	var mu sync.Mutex
	lives := map[int]life{}
	var producing sync.WaitGroup
	for w := range 3 {
		dir := filepath.Join(t.TempDir(), strconv.Itoa(w))
		producing.Go(func() {
			for i := range rounds(6) {
				number, limit := w*1000+i, time.Duration(50+rand.IntN(1500))*time.Millisecond
				if i == rounds(6)-1 {
					limit = 2 * patience // The last one brings all home.
				}
				l := m.produce(number, 1+rand.IntN(3000), dir, limit)
				mu.Lock()
				lives[number] = l
				mu.Unlock()
			}
		})
	}
	done := make(chan struct{})
	go func() { producing.Wait(); close(done) }()
	victims := append([]*process{m.tower}, m.stores...)
	for going := true; going; {
		select {
		case <-done:
			going = false
		case <-time.After(time.Duration(rand.IntN(600)) * time.Millisecond):
			v := victims[rand.IntN(len(victims))]
			v.kill()
			time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
			v.start()
		}
	}
	m.check(lives)
}

// check consumes everything, and compares it with what the lives have promised.
func (m *meshOfProcesses) check(lives map[int]life) {
	m.Helper()
	c := m.consumer("letters")
	got, wants := map[int]int{}, 0 // Lines by life.
	for _, l := range lives {
		if l.ended {
			wants += l.lines
		}
	}
	next := map[string]uint64{} // Sequence by producer.
	for ctx := patiently(m.T); wants > 0; {
		r, err := c.Next(ctx)
		if err != nil {
			m.Fatalf("%d lines are missing: %v; lag %v", wants, err, c.Lag())
		}
		var number, line int
		if _, err := fmt.Sscanf(string(r.Content), "%d/%d", &number, &line); err != nil {
			m.Fatalf("%q: %v", r.Content, err)
		}
		if r.Sequence != next[r.Producer] || line != got[number] {
			m.Fatalf("life %d: line %d, sequence %d; line %d and %d come next", number, line, r.Sequence, got[number], next[r.Producer])
		}
		next[r.Producer]++
		got[number]++
		if l := lives[number]; l.ended {
			wants--
		} else if got[number] > l.lines {
			m.Fatalf("life %d had %d lines", number, l.lines)
		}
	}
	if len(next) != 3 {
		m.Errorf("3 producers, and %d addresses", len(next))
	}
	if _, err := c.Next(soon(m.T)); !errors.Is(err, context.DeadlineExceeded) {
		m.Errorf("one more record: %v", err)
	}
}

// soon is a context for what should not come.
func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}
