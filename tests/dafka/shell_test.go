package dafka

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/dafka"
	"github.com/barnabas-log/barnabas/internal/fabric"
	nodes "github.com/barnabas-log/barnabas/internal/mesh"
	"github.com/barnabas-log/barnabas/internal/zmtp"
)

// stalled is a node that subscribes to records and reads none. It returns when a
// producer is connected.
func (m *mesh) stalled(p *dafka.Producer) {
	m.Helper()
	o := nodes.Options{
		Address: nodes.NewAddress(), Publisher: zmtp.XPub, Bind: "tcp://127.0.0.1:*", Host: "127.0.0.1",
		ToTowers: m.config.Beacon.Sub, FromTowers: m.config.Beacon.Pub, Interval: 50 * time.Millisecond, Timeout: 4 * time.Second,
		HighWater: 1000, Log: slog.New(slog.DiscardHandler),
	}
	first, over := make(chan struct{}, 1), make(chan struct{})
	o.Inlets = []nodes.Inlet{{Prefixes: [][]byte{fabric.Record.Prefix("")}, HighWater: 1, Receive: func(*zmtp.Batch, string) {
		select {
		case first <- struct{}{}:
		default:
		}
		<-over
	}}}
	n, err := nodes.Join(o)
	if err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() { close(over); _ = n.Close(ended()) })
	for ctx := patiently(m.T); ; {
		if _, err := p.Publish(ctx, nil); err != nil {
			m.Fatal(err)
		}
		select {
		case <-first:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestStalledPeer: with back-pressure one who does not read holds up Publish, but
// nobody who gives up, and not Close.
func TestStalledPeer(t *testing.T) {
	m := newMesh(t)
	p := m.producer("letters", func(c *dafka.Config) {
		c.Producer.BackPressure, c.Producer.HighWatermark, c.Producer.MinAcks = true, 10, -1
	})
	m.stalled(p)
	large := make([]byte, 64<<10)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	var err error
	for err == nil {
		_, err = p.Publish(ctx, large)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("published: %v", err)
	}
	if n := p.Stats().Dropped; n > 0 {
		t.Errorf("%d messages were dropped", n)
	}
	closed := make(chan error, 1)
	go func() { closed <- p.Close(ended()) }()
	select {
	case <-closed:
	case <-patiently(t).Done():
		t.Fatal("Close waits for who does not read")
	}
}

// TestRoomForUnacked: what may be unacknowledged fits into the queue of a peer.
func TestRoomForUnacked(t *testing.T) {
	m := newMesh(t)
	p := m.producer("letters")
	m.stalled(p)
	record := make([]byte, 8<<10)
	for range 20_000 { // 160 MB, of 256 MiB.
		if _, err := p.Publish(patiently(t), record); err != nil {
			t.Fatal(err)
		}
	}
	for ctx := patiently(t); p.Stats().Sent < 20_000; {
		if s := p.Stats(); s.Dropped > 0 || ctx.Err() != nil {
			t.Fatalf("%+v", s)
		}
		time.Sleep(time.Millisecond)
	}
}

// TestCloseWhilePublishing: nobody goes on waiting in Publish when the producer
// is being closed, though that waits for stores.
func TestCloseWhilePublishing(t *testing.T) {
	m := newMesh(t)
	p := m.producer("letters", func(c *dafka.Config) { c.Producer.MaxRecords = 1 })
	m.publish(p, 0, 1)
	published := make(chan error, 1)
	go func() {
		_, err := p.Publish(patiently(t), nil)
		published <- err
	}()
	ctx, cancel := context.WithCancel(t.Context())
	closed := make(chan error, 2)
	for range 2 {
		go func() { closed <- p.Close(ctx) }()
	}
	if err := <-published; !errors.Is(err, dafka.ErrClosed) {
		t.Errorf("published: %v", err)
	}
	select {
	case err := <-closed:
		t.Errorf("closed without a store: %v", err)
	default:
	}
	cancel()
	for range 2 {
		if err := <-closed; !errors.Is(err, dafka.ErrUnacked) {
			t.Errorf("closed: %v", err)
		}
	}
}

// TestFlushForNobody: a producer that needs no store does not wait for one.
func TestFlushForNobody(t *testing.T) {
	m := newMesh(t)
	p := m.producer("letters", func(c *dafka.Config) { c.Producer.MinAcks = -1 })
	m.publish(p, 0, 10)
	if err := errors.Join(p.Flush(patiently(t)), p.Close(patiently(t))); err != nil {
		t.Fatal(err)
	}
}

// TestPositionOfACrash: the position that is kept is not behind a record that its
// user may still be busy with.
func TestPositionOfACrash(t *testing.T) {
	m := newMesh(t)
	p := m.producer("letters")
	m.publish(p, 0, 10)
	file := filepath.Join(t.TempDir(), "positions")
	c := m.consumer("letters", func(c *dafka.Config) { c.Consumer.Positions = file })
	m.expect(c, p, 0, 1)
	awaitPosition(t, file, 0)
	m.expect(c, p, 1, 3)
	awaitPosition(t, file, 3)
	if err := c.Close(patiently(t)); err != nil {
		t.Fatal(err)
	}
	awaitPosition(t, file, 4)
	if _, err := c.Next(t.Context()); !errors.Is(err, dafka.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// awaitPosition waits until a file says that a sequence comes next, and never
// that a later one does.
func awaitPosition(t *testing.T, file string, want uint64) {
	t.Helper()
	for ctx := patiently(t); ; {
		var list []struct{ Next uint64 }
		if text, err := os.ReadFile(file); err == nil {
			if err := json.Unmarshal(text, &list); err != nil || len(list) != 1 || list[0].Next > want {
				t.Fatalf("%s: %v, want %d", text, err, want)
			}
			if list[0].Next == want {
				return
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("%v, want %d", list, want)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestLivesSeenLive: whoever hears a durable producer whose lives end at any
// moment hears what stores get in the end: no number has two contents.
func TestLivesSeenLive(t *testing.T) {
	m := newMeshOfProcesses(t, 0)
	live := m.consumer("letters")
	dir := t.TempDir()
	for i := range rounds(8) {
		m.produce(i, 3000, dir, time.Duration(30+rand.IntN(300))*time.Millisecond)
	}
	m.stores = append(m.stores, spawn(t, append([]string{"store", "--data-dir", t.TempDir()}, m.flags...)...))
	if l := m.produce(-1, 10, dir, 2*patience); !l.ended {
		t.Fatal("the last life does not end")
	}
	stored, ctx := m.consumer("letters"), patiently(t)
	for n := 0; ; n++ {
		a, err := live.Next(ctx)
		b, err2 := stored.Next(ctx)
		if err = errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if a.Sequence != uint64(n) || b.Sequence != a.Sequence || a.Producer != b.Producer || string(a.Content) != string(b.Content) {
			t.Fatalf("record %d: %d %s %q live, %d %s %q from a store", n, a.Sequence, a.Producer, a.Content, b.Sequence, b.Producer, b.Content)
		}
		if strings.HasPrefix(string(a.Content), "-1/9 ") {
			return
		}
	}
}

// TestSlowConsumer: who reads so slowly that most is dropped gets everything in
// the end, in order, each once.
func TestSlowConsumer(t *testing.T) {
	m := newMesh(t)
	p := m.producer("letters", func(c *dafka.Config) { c.Producer.HighWatermark = 50 })
	c := m.consumer("letters", func(c *dafka.Config) { c.Consumer.HighWatermark = 1 })
	m.publish(p, 0, 1)
	m.expect(c, p, 0, 1)
	large := make([]byte, 64<<10)
	for i := range 3000 { // Sockets take some of it.
		large := append([]byte(nil), large...)
		large[0], large[1] = byte(i), byte(i>>8)
		if _, err := p.Publish(patiently(t), large); err != nil {
			t.Fatal(err)
		}
	}
	for ctx := patiently(t); p.Stats().Dropped == 0; time.Sleep(time.Millisecond) {
		if ctx.Err() != nil {
			t.Fatalf("nothing was dropped: %+v", p.Stats())
		}
	}
	ctx := patiently(t)
	for i := range 3000 {
		r, err := c.Next(ctx)
		if err != nil {
			t.Fatalf("record %d: %v; lag %v, %+v", i+1, err, c.Lag(), p.Stats())
		}
		if r.Sequence != uint64(i)+1 || int(r.Content[0])|int(r.Content[1])<<8 != i {
			t.Fatalf("record %d is %d, with %d", i+1, r.Sequence, r.Content[:2])
		}
	}
}
