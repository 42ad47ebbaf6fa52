package fabric

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Two records are published before the store is there, one after. The producer
// ends when they are acknowledged; a consumer that comes later gets all three
// from the store.
func TestStoreAPI(t *testing.T) {
	p := NewProducer(morning, ProducerOptions{Address: "P", Topic: "hello"})
	for _, content := range []string{"1", "2"} {
		if _, err := p.Publish(morning, []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	p.Drain() // Nobody listens.
	p.Terminate()
	if p.Done() {
		t.Fatal("the producer ends although nobody has its records")
	}
	p.ending = false

	w := NewWriter(morning, WriterOptions{Address: "W", Reader: "R"}, nil, nil)
	r := NewReader(ReaderOptions{Address: "R", Writer: "W"})
	log := map[uint64][]byte{}
	if _, err := p.Publish(morning, []byte("3")); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for _, s := range p.Drain() {
			w.Handle(morning, &s.Message, s.Content, "P")
		}
		out := w.Drain()
		for _, run := range out.Runs {
			for i, content := range run.Contents {
				log[run.First+uint64(i)] = content
			}
			w.Stored(run.Number, run.End())
			r.Holds(run.Number, run.Partition, 0, 0, run.End())
		}
		for _, s := range append(out.Sends, w.Drain().Sends...) {
			p.Handle(&s.Message, "W")
		}
		p.Serve(100)
	}
	p.Terminate()
	if !p.Done() {
		t.Error("the producer does not end")
	}

	c := newConsumerTest(t, ConsumerOptions{Reset: Earliest})
	c.Subscribe(morning, "hello")
	r.Subscribed([]byte("LC"))
	for range 3 {
		for _, s := range r.Drain() {
			c.Handle(morning, &s.Message, s.Content, "R")
		}
		out := c.Drain()
		c.out.Deliveries = out.Deliveries
		for _, s := range out.Sends {
			r.Handle(&s.Message)
		}
		r.ServeHeads(100)
		for read, ok := r.Next(100); ok; read, ok = r.Next(100) {
			for i := range uint64(read.Count) {
				m := read.Message(read.First + i)
				c.Handle(morning, &m, log[m.Sequence], "R")
			}
			r.Served(read, read.First+uint64(read.Count))
		}
	}
	c.does(`deliver hello/P 0 "1"`, `deliver hello/P 1 "2"`, `deliver hello/P 2 "3"`)
}

// A node that says where it is, is found there, until it says nothing more; one
// that does not say it is found where the tower saw it.
func TestBeaconAPI(t *testing.T) {
	tower := Tower{Own: netip.MustParseAddr("192.0.2.1")}
	loopback := netip.MustParseAddr("127.0.0.1")
	peers := NewPeers(morning, PeersOptions{Address: "receiver"})
	peers.Tick(morning)
	peers.Drain()
	announce := func(b Beacon) {
		t.Helper()
		heard, err := ParseBeacon(b.Frames())
		if err != nil {
			t.Fatal(err)
		}
		peer, err := ParsePeer(tower.Rewrite(heard, loopback).Frames())
		if err != nil {
			t.Fatal(err)
		}
		peers.Handle(morning, peer)
	}
	announce(Beacon{Address: "sender", Host: "somestring", Port: 1000})
	there := []Peer{{"sender", "tcp://somestring:1000"}}
	if d := cmp.Diff(there, peers.Drain().Connect); d != "" {
		t.Error(d)
	}
	for now := morning; now.Before(after(4 * time.Second)); now = now.Add(time.Second) {
		peers.Tick(now)
		if gone := peers.Drain().Disconnect; len(gone) > 0 {
			t.Errorf("%v are gone after %v", gone, now.Sub(morning))
		}
	}
	peers.Tick(after(4 * time.Second))
	if d := cmp.Diff(there, peers.Drain().Disconnect); d != "" {
		t.Error(d)
	}
	announce(Beacon{Address: "sender", Port: 1000})
	if d := cmp.Diff([]Peer{{"sender", "tcp://192.0.2.1:1000"}}, peers.Drain().Connect); d != "" {
		t.Error(d)
	}
}
