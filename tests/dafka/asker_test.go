package dafka

import (
	"log/slog"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/dafka"
	"github.com/barnabas-log/barnabas/internal/fabric"
	nodes "github.com/barnabas-log/barnabas/internal/mesh"
	"github.com/barnabas-log/barnabas/internal/storelog"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/internal/zmtp"
)

// asker is a node that asks for records and takes them when it is let.
type asker struct {
	*testing.T
	node    *nodes.Node
	hears   chan struct{} // Closed when a store hears it.
	heard   chan struct{} // Closed when it hears a store.
	let     chan struct{} // Closed when it may take what comes.
	answers chan answer
}

// answer is a DIRECT-RECORD or a DIRECT-HEAD.
type answer struct {
	kind            fabric.Kind
	sequence, first uint64
	size            int
}

func (m *mesh) asker() *asker {
	m.Helper()
	a := &asker{T: m.T, hears: make(chan struct{}), heard: make(chan struct{}), let: make(chan struct{}), answers: make(chan answer, 1<<17)}
	heard := false
	o := nodes.Options{
		Address: nodes.NewAddress(), Publisher: zmtp.XPub, Bind: "tcp://127.0.0.1:*", Host: "127.0.0.1",
		ToTowers: m.config.Beacon.Sub, FromTowers: m.config.Beacon.Pub, Interval: 50 * time.Millisecond, Timeout: 4 * time.Second,
		HighWater: 1000, Log: slog.New(slog.DiscardHandler),
		Subscribed: func(prefix []byte) {
			if !heard && string(prefix) == string(fabric.Fetch) {
				heard = true
				close(a.hears)
			}
		},
	}
	o.Inlets = []nodes.Inlet{{Prefixes: fabric.ConsumerPrefixes(o.Address), HighWater: 1, Receive: a.receive}}
	var err error
	if a.node, err = nodes.Join(o); err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() {
		select {
		case <-a.let:
		default:
			close(a.let)
		}
		_ = a.node.Close(ended())
	})
	return a
}

func (a *asker) receive(b *zmtp.Batch, _ string) {
	var m fabric.Message
	for _, frames := range b.Messages {
		content, err := m.ParseFrames(frames)
		switch {
		case err != nil:
			a.Error(err)
		case m.Kind == fabric.StoreHello:
			close(a.heard)
		default:
			<-a.let
			a.answers <- answer{m.Kind, m.Sequence, m.First, len(content)}
		}
	}
	b.Release()
}

func (a *asker) fetch(p *dafka.Producer, first uint64, count uint32) {
	a.Helper()
	a.ask(p.Topic(), p.Address(), first, count)
}

func (a *asker) ask(topic, producer string, first uint64, count uint32) {
	a.Helper()
	for _, ready := range []chan struct{}{a.hears, a.heard} {
		select {
		case <-ready:
		case <-patiently(a.T).Done():
			a.Fatal("there is no store")
		}
	}
	a.node.Publish([]fabric.Send{{Message: fabric.Message{
		Kind: fabric.Fetch, Topic: []byte(producer), Address: []byte(a.node.Address()), Subject: []byte(topic), Sequence: first, Count: count,
	}}})
}

func (a *asker) next() answer {
	a.Helper()
	select {
	case x := <-a.answers:
		return x
	case <-patiently(a.T).Done():
		a.Fatal("no answer")
		return answer{}
	}
}

// expect takes as many records, and a head behind them if there is more.
func (a *asker) expect(first, n, size int, head uint64) {
	a.Helper()
	for i := first; i < first+n; i++ {
		if x := a.next(); x.kind != fabric.DirectRecord || x.sequence != uint64(i) || x.size != size {
			a.Fatalf("record %d is %c %+v", i, x.kind, x)
		}
	}
	if head > 0 {
		if x := a.next(); x.kind != fabric.DirectHead || x.sequence != head {
			a.Fatalf("the head is %c %+v", x.kind, x)
		}
	}
}

// TestCounts: a store answers with as many records as were asked for, and tells
// if there are more.
func TestCounts(t *testing.T) {
	m := newMesh(t)
	m.store(vfs.NewMem())
	p := m.producer("letters")
	ctx := patiently(t)
	for range 40_000 {
		if _, err := p.Publish(ctx, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	m.finish(p)
	a := m.asker()
	close(a.let)
	for _, x := range []struct{ first, count, want int }{
		{0, 1, 1}, {5, 5, 5}, {39_999, 1, 1}, {39_990, 100_000, 10}, {0, 40_000, 40_000}, {123, 30_000, 30_000}, {0, 100_000, 40_000},
	} {
		a.fetch(p, uint64(x.first), uint32(x.count))
		head := uint64(0)
		if x.first+x.want < 40_000 {
			head = 39_999
		}
		a.expect(x.first, x.want, 100, head)
	}
}

// TestSlowAsker: one that does not read what it asked for holds up nobody, and
// gets all of it when it does.
func TestSlowAsker(t *testing.T) {
	m := newMesh(t)
	s := m.store(vfs.NewMem())
	p := m.producer("letters")
	const n, size = 600, 64 << 10 // More than the socket's queue and the kernel take.
	ctx := patiently(t)
	for range n {
		if _, err := p.Publish(ctx, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	m.finish(p)
	a := m.asker()
	a.fetch(p, 0, 100_000)
	m.await("it is served as much as there is room for", func() bool { return s.Stats().Served > 100 })
	c := m.consumer("letters")
	for i := range n {
		if r, err := c.Next(ctx); err != nil || r.Sequence != uint64(i) || len(r.Content) != size {
			t.Fatalf("record %d is %d, %v", i, r.Sequence, err)
		}
	}
	q := m.producer("others")
	m.publish(q, 0, 1000)
	m.finish(q)
	close(a.let)
	a.expect(0, n, size, 0)
}

// TestGap: who asks for what a log has left out for good is told where it goes
// on, and consumers go on there.
func TestGap(t *testing.T) {
	t.Parallel() // It waits for patience to end.
	m := newMesh(t)
	disk := vfs.NewMem()
	logs, err := storelog.Open("/store", storelog.Options{FS: disk})
	if err != nil {
		t.Fatal(err)
	}
	p := fabric.Partition{Subject: "letters", Address: "GONE"}
	for _, first := range []uint64{100, 200} {
		if o := logs.Append([]fabric.Run{{Partition: p, First: first, Contents: make([][]byte, 10)}}); o[0].Err != nil {
			t.Fatal(o[0].Err)
		}
	}
	if err := logs.Close(); err != nil {
		t.Fatal(err)
	}
	m.store(disk)
	a := m.asker()
	close(a.let)
	for _, x := range []struct{ first, want, gone uint64 }{{105, 5, 200}, {110, 0, 200}, {150, 0, 200}, {50, 0, 100}} {
		a.ask("letters", "GONE", x.first, 1000)
		for i := range x.want {
			if r := a.next(); r.kind != fabric.DirectRecord || r.sequence != x.first+i {
				t.Errorf("%+v", r)
			}
		}
		if r := a.next(); r.kind != fabric.DirectHead || r.sequence != 209 || r.first != x.gone {
			t.Errorf("asked from %d: %+v", x.first, r)
		}
	}
	skipped := make(chan dafka.Skipped, 10)
	c, err := dafka.NewConsumer(dafka.ConsumerOptions{Config: &m.config, Skipped: func(s dafka.Skipped) { skipped <- s }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ended())
	if err := c.Subscribe("letters"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []uint64{100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 200, 201, 202, 203, 204, 205, 206, 207, 208, 209} {
		if r, err := c.Next(patiently(t)); err != nil || r.Sequence != want {
			t.Fatalf("%+v, %v, want %d", r, err, want)
		}
	}
	for _, want := range [][2]uint64{{0, 100}, {110, 200}} {
		if s := <-skipped; s.From != want[0] || s.To != want[1] {
			t.Errorf("%+v", s)
		}
	}
}
