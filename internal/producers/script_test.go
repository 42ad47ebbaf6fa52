package producers

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the outputs in testdata/*.script")

// Scripts are blocks of a command, a line "----", and what it printed; a blank
// line ends a block. Lines with # are comments.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.script")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			got := run(t, string(text))
			if *rewrite {
				if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(text), got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func run(t *testing.T, text string) string {
	var out strings.Builder
	m := player{t: t, s: New(Options{})}
	for i, block := range strings.Split(strings.TrimSuffix(text, "\n"), "\n\n") {
		if i > 0 {
			out.WriteString("\n")
		}
		for line := range strings.Lines(block) {
			if line = strings.TrimSpace(line); line == "----" {
				break
			}
			out.WriteString(line + "\n")
			if !strings.HasPrefix(line, "#") {
				out.WriteString("----\n" + m.play(line) + "\n")
			}
		}
	}
	return out.String()
}

// player is a partition without a log.
type player struct {
	t      *testing.T
	s      *State
	end    model.Offset
	guards []Guard // In the order of their first appearance, by which scripts call them.
}

// call is what scripts call a guard.
func (p *player) call(g Guard) int {
	if g == NoGuard {
		return 0
	}
	if !slices.Contains(p.guards, g) {
		p.guards = append(p.guards, g)
	}
	return slices.Index(p.guards, g) + 1
}

// guard is the one that a command shows; one that was never given is nobody's.
func (p *player) guard(a args) Guard {
	n := int(a.num("guard", 0))
	if n > 0 && n <= len(p.guards) {
		return p.guards[n-1]
	}
	return Guard(n)
}

// args are the key=value words of a command; a word alone is "true".
type args map[string]string

func (a args) num(key string, otherwise int64) int64 {
	v, ok := a[key]
	if !ok {
		return otherwise
	}
	var n int64
	if _, err := fmt.Sscan(v, &n); err != nil {
		panic(key + "=" + v)
	}
	return n
}

func (p *player) play(line string) string {
	words := strings.Fields(line)
	a := args{}
	for _, w := range words[1:] {
		k, v, ok := strings.Cut(w, "=")
		if !ok {
			v = "true"
		}
		a[k] = v
	}
	id, epoch := model.ProducerID(a.num("pid", 1)), int16(a.num("epoch", 0))
	switch words[0] {
	case "write":
		o := CheckOptions{Guard: p.guard(a), Unverified: a["guard"] == "" && a["strict"] == ""}
		if a["coordinator"] != "" {
			o.Origin = Coordinator
		}
		return p.append(data(p.end, record.Producer{ID: id, Epoch: epoch, Sequence: int32(a.num("seq", 0))}, int(a.num("n", 1)), a["txn"] != "", a.num("at", 0)), o)
	case "verify":
		g, err := p.s.Verify(millis(a.num("now", 0)), record.Producer{ID: id, Epoch: epoch, Sequence: int32(a.num("seq", 0))}, a["v2"] != "")
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint("guard ", p.call(g))
	case "confirm":
		p.s.Confirm(id, epoch, p.guard(a))
		return "ok"
	case "oldest":
		o, ok := p.s.OldestOpen()
		return fmt.Sprintf("%+v %v", o, ok)
	case "abort", "commit":
		kind := record.Abort
		if words[0] == "commit" {
			kind = record.Commit
		}
		return p.append(marker(p.end, id, epoch, int32(a.num("coord", 0)), kind, a.num("at", 0)),
			CheckOptions{Origin: Coordinator, TransactionVersion: int16(a.num("tv", 1))})
	case "stable":
		return fmt.Sprint(p.s.Stable(model.Offset(a.num("hw", int64(p.end)))))
	case "committed":
		p.s.Committed(model.Offset(a.num("hw", int64(p.end))))
		first, ok := p.s.FirstUnstable()
		return fmt.Sprintf("first unstable %d %v", first, ok)
	case "expire":
		return fmt.Sprint(p.s.Expire(millis(a.num("now", 0)), time.Duration(a.num("after", 0))*time.Millisecond))
	case "restart":
		s := New(Options{})
		if err := s.Load(p.s.Snapshot(nil)); err != nil {
			p.t.Fatal(err)
		}
		p.s = s
		return "ok"
	case "producers":
		var out []string
		for _, x := range p.s.Active() {
			out = append(out, fmt.Sprintf("pid %d epoch %d last %d at %d coordinator %d txn %d", x.ID, x.Epoch, x.LastSequence, x.LastTimestamp, x.CoordinatorEpoch, x.TxnFirst))
		}
		return strings.Join(append(out, fmt.Sprintf("%d producers", p.s.Len())), "\n")
	}
	p.t.Fatalf("unknown command %q", line)
	return ""
}

func (p *player) append(b record.Batch, o CheckOptions) string {
	v, err := p.s.Check(b, o)
	if err != nil {
		return err.Error()
	}
	if v.Duplicate {
		return fmt.Sprintf("duplicate of %d to %d at %d", v.BaseOffset, v.LastOffset, v.Timestamp)
	}
	out := fmt.Sprintf("offsets %d to %d", b.BaseOffset(), b.LastOffset())
	p.end = b.End()
	if c, ok := p.s.Apply(b); ok {
		out += fmt.Sprintf("\ncompleted %d: %d to %d aborted %v stable %d", c.ProducerID, c.FirstOffset, c.LastOffset, c.Aborted, c.LastStable)
	}
	return out
}
