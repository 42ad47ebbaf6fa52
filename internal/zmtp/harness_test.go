package zmtp

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is far more than anything here takes, also on a busy machine.
const patience = time.Minute

func patient(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// open makes a socket that is closed when the test ends.
func open(t testing.TB, o Options) *Socket {
	t.Helper()
	s := New(o)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = s.Close(ctx)
	})
	return s
}

// bind binds a socket to a free port of 127.0.0.1.
func bind(t testing.TB, s *Socket) (endpoint string) {
	t.Helper()
	endpoint, err := s.Bind("tcp://127.0.0.1:*")
	if err != nil {
		t.Fatal(err)
	}
	return endpoint
}

func connect(t testing.TB, s *Socket, endpoint string) {
	t.Helper()
	if err := s.Connect(endpoint); err != nil {
		t.Fatal(err)
	}
}

func subscribe(t testing.TB, s *Socket, prefixes ...string) {
	t.Helper()
	for _, p := range prefixes {
		if err := s.Subscribe([]byte(p)); err != nil {
			t.Fatal(err)
		}
	}
}

// expectEvents receives subscriptions until there are as many as wanted, and
// compares them. An event is written +PREFIX or -PREFIX, and its count.
func expectEvents(t testing.TB, s *Socket, want ...string) (from *Peer) {
	t.Helper()
	var got []string
	for len(got) < len(want) {
		b, err := s.Receive(patient(t))
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		for _, e := range b.Subscriptions {
			sign := "-"
			if e.Subscribe {
				sign = "+"
			}
			got = append(got, fmt.Sprintf("%s%s %d", sign, e.Prefix, e.Count))
		}
		from = b.From
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	return from
}

// expectMessages receives as many messages as wanted, and compares them. Frames
// are written with | between them.
func expectMessages(t testing.TB, s *Socket, want ...string) (from *Peer) {
	t.Helper()
	var got []string
	for len(got) < len(want) {
		b, err := s.Receive(patient(t))
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		size := 0
		for _, m := range b.Messages {
			got = append(got, text(m))
			size += len(bytes.Join(m, nil))
		}
		if b.Bytes() != size {
			t.Errorf("a batch of %d bytes says it has %d", size, b.Bytes())
		}
		from = b.From
		b.Release()
	}
	if !slices.Equal(got, want) {
		t.Fatalf("got %.200q, want %.200q", got, want)
	}
	return from
}

func text(m Message) string {
	s := ""
	for i, f := range m {
		if i > 0 {
			s += "|"
		}
		s += string(f)
	}
	return s
}

func send(s *Socket, frames ...string) (peers, dropped int) {
	var m Message
	for _, f := range frames {
		m = append(m, []byte(f))
	}
	return s.Send(m...)
}
