package mesh

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/zmtp"
)

// tower is one whose two halves start when a test wants it.
type tower struct {
	*testing.T
	ctx       context.Context
	to, from  *zmtp.Socket
	endpoints [2]string
}

func newTower(t *testing.T) *tower {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	w := &tower{T: t, ctx: ctx}
	w.to = w.open(zmtp.Options{Kind: zmtp.XSub})
	w.from = w.open(zmtp.Options{Kind: zmtp.XPub, Welcome: fabric.Welcome()})
	for i, s := range []*zmtp.Socket{w.to, w.from} { // The ports are free, and known.
		w.endpoints[i] = w.bind(s, "tcp://127.0.0.1:*")
		if err := s.Unbind(w.endpoints[i]); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *tower) open(o zmtp.Options) *zmtp.Socket {
	s := zmtp.New(o)
	w.Cleanup(func() { _ = s.Close(context.Background()) })
	return s
}

func (w *tower) bind(s *zmtp.Socket, endpoint string) string {
	w.Helper()
	endpoint, err := s.Bind(endpoint)
	if err != nil {
		w.Fatal(err)
	}
	return endpoint
}

// TestIntroduction: peers answer the first beacon that they hear. It is not sent
// before the node can hear the answers.
func TestIntroduction(t *testing.T) {
	for _, speaksFirst := range []bool{false, true} {
		w := newTower(t)
		if err := w.to.Subscribe([]byte("B")); err != nil {
			t.Fatal(err)
		}
		halves := []int{0, 1}
		if speaksFirst {
			halves = []int{1, 0}
		}
		sockets := []*zmtp.Socket{w.to, w.from}
		w.bind(sockets[halves[0]], w.endpoints[halves[0]])
		n, err := Join(Options{
			Address: NewAddress(), Publisher: zmtp.Pub, Bind: "tcp://127.0.0.1:*", Host: "127.0.0.1", Interval: time.Hour, Timeout: time.Hour,
			ToTowers: w.endpoints[:1], FromTowers: w.endpoints[1:], Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close(context.Background())
		early, cancel := context.WithTimeout(w.ctx, 200*time.Millisecond)
		if b, err := w.to.Receive(early); err == nil {
			t.Errorf("introduced before the tower speaks: %q", b.Messages)
		}
		cancel()
		w.bind(sockets[halves[1]], w.endpoints[halves[1]])
		b, err := w.to.Receive(w.ctx)
		if err != nil {
			t.Fatal("not introduced: ", err)
		}
		if string(b.Messages[0][1]) != n.Address() {
			t.Errorf("%q", b.Messages)
		}
	}
}
