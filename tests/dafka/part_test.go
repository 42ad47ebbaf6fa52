package dafka

import (
	"log/slog"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/dafka"
	"github.com/barnabas-log/barnabas/internal/fabric"
	nodes "github.com/barnabas-log/barnabas/internal/mesh"
	"github.com/barnabas-log/barnabas/internal/zmtp"
)

// TestPart: a producer that owes nothing stays until a peer that it knows, and
// that is slow to connect, has heard of it.
func TestPart(t *testing.T) {
	m := newMesh(t)
	p := m.producer("letters", func(c *dafka.Config) { c.Producer.MinAcks, c.Producer.HeadInterval = -1, patience })
	slow, err := nodes.Join(nodes.Options{ // It has no inlets, and so connects to nobody.
		Address: nodes.NewAddress(), Publisher: zmtp.Pub, Bind: m.config.Beacon.Bind, Host: "127.0.0.1",
		ToTowers: m.config.Beacon.Sub, FromTowers: m.config.Beacon.Pub, Interval: m.config.Beacon.Interval, Timeout: m.config.Beacon.Timeout,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close(ended())
	m.publish(p, 0, 3)
	ctx := patiently(t)
	for p.Stats().Peers == 0 || len(slow.Peers()) == 0 {
		time.Sleep(time.Millisecond)
		if ctx.Err() != nil {
			t.Fatal("they do not meet")
		}
	}
	closed := make(chan error, 1)
	go func() { closed <- p.Close(ctx) }()
	for ; err == nil; _, err = p.Publish(ended(), nil) { // Until it is closing.
	}
	s := zmtp.New(zmtp.Options{Kind: zmtp.Sub})
	defer s.Close(ended())
	for _, prefix := range append(fabric.TopicPrefixes("letters"), fabric.DirectRecord.Prefix(slow.Address())) {
		if err := s.Subscribe(prefix); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Connect(slow.Peers()[0].Endpoint); err != nil {
		t.Fatal(err)
	}
	b, err := s.Receive(ctx)
	if err != nil {
		t.Fatal("it went without a word: ", err)
	}
	var head fabric.Message
	if _, err := head.ParseFrames(b.Messages[0]); err != nil || head.Kind != fabric.Head || string(head.Address) != p.Address() {
		t.Fatalf("%q %v", b.Messages, err)
	}
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
}
