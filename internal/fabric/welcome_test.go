package fabric

import (
	"testing"
	"time"
)

// Who subscribes to heads hears of what was published before at once; many who
// do so at a time share a HEAD.
func TestHeadForNewcomers(t *testing.T) {
	now := time.Unix(1000, 0)
	p := NewProducer(now, ProducerOptions{Address: "A", Topic: "letters"})
	heads := func() (n int) {
		for _, s := range p.Drain() {
			if s.Kind == Head && s.Sequence == 0 {
				n++
			}
		}
		return n
	}
	p.Subscribed(now, Head.Prefix("letters"))
	if p.Tick(now); heads() != 0 || !p.Deadline().IsZero() {
		t.Error("a HEAD before the first record")
	}
	if _, err := p.Publish(now, []byte("x")); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		name   string
		prefix []byte
		after  time.Duration // Since the record.
		want   int
	}{
		{"records are not heads", Record.Prefix("letters"), time.Millisecond, 0},
		{"another topic", Head.Prefix("letter."), time.Millisecond, 0},
		{"a longer one", Head.Prefix("letters!"), time.Millisecond, 0},
		{"nothing", nil, time.Millisecond, 0},
		{"the topic", Head.Prefix("letters"), 2 * time.Millisecond, 1},
		{"too soon after", Head.Prefix(""), 3 * time.Millisecond, 0},
		{"all topics, later", Head.Prefix(""), 12 * time.Millisecond, 1},
		{"a sibling's start", Head.Prefix("let"), 50 * time.Millisecond, 1},
	} {
		at := now.Add(x.after)
		for range 100 {
			p.Subscribed(at, x.prefix)
		}
		if p.Tick(at); heads() != x.want {
			t.Errorf("%s: not %d heads", x.name, x.want)
		}
	}
	if p.Deadline() != now.Add(50*time.Millisecond+time.Second) {
		t.Errorf("the next is due at %v", p.Deadline())
	}
}
