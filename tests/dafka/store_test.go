package dafka

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/barnabas-log/barnabas/dafka"
	"github.com/barnabas-log/barnabas/dafka/store"
	"github.com/barnabas-log/barnabas/internal/vfs"
)

// store starts a store on a disk of its own.
func (m *mesh) store(fs vfs.FS, change ...func(*dafka.Config)) *store.Store {
	m.Helper()
	c := m.changed(change)
	if c.Store.DB == "storedb" {
		c.Store.DB = "/store"
	}
	s, err := store.New(c, store.Options{FS: fs})
	if err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() { m.leave(s) })
	return s
}

func (m *mesh) leave(s *store.Store) {
	m.Helper()
	if err := s.Close(context.Background()); err != nil {
		m.Errorf("store: %v", err)
	}
}

// finish closes a producer, which waits until a store has everything.
func (m *mesh) finish(p *dafka.Producer) {
	m.Helper()
	if err := p.Close(patiently(m.T)); err != nil {
		m.Fatal(err)
	}
}

// TestStore is C's own test: two records before there is a store, a third one
// later; the producer leaves when all are acknowledged, and a consumer that comes
// then gets them from the store.
func TestStore(t *testing.T) {
	m := newMesh(t)
	p := m.producer("hello")
	m.publish(p, 0, 2)
	s := m.store(vfs.NewMem())
	m.publish(p, 2, 1)
	m.finish(p)
	m.expect(m.consumer("hello"), p, 0, 3)
	all := s.Partitions()
	if len(all) != 1 || all[0].Topic != "hello" || all[0].Producer != p.Address() || all[0].Start != 0 || all[0].End != 3 || all[0].Bytes == 0 {
		t.Errorf("%+v", all)
	}
}

// TestDeadProducer: C's consumers stop after 100,001 records of a producer that
// is gone.
func TestDeadProducer(t *testing.T) {
	m := newMesh(t)
	m.store(vfs.NewMem())
	p := m.producer("letters")
	m.publish(p, 0, 200_010)
	m.finish(p)
	m.expect(m.consumer("letters"), p, 0, 200_010)
}

// TestLateStore: a producer has more unacknowledged records than C's answers with
// right contents.
func TestLateStore(t *testing.T) {
	m := newMesh(t)
	p := m.producer("letters")
	m.publish(p, 0, 3000)
	m.store(vfs.NewMem())
	m.finish(p)
	m.expect(m.consumer("letters"), p, 0, 3000)
}

// TestSizes: a record may be empty, or large, or larger than a segment.
func TestSizes(t *testing.T) {
	m := newMesh(t)
	m.store(vfs.NewMem(), func(c *dafka.Config) { c.Store.SegmentBytes = 1 << 20 })
	p := m.producer("sizes")
	sizes := []int{0, 1, 1 << 20, 0, 4096, 4097, 5 << 20, 100}
	ctx := patiently(t)
	for i, n := range sizes {
		if _, err := p.Publish(ctx, bytes.Repeat([]byte{byte(i)}, n)); err != nil {
			t.Fatal(err)
		}
	}
	m.finish(p)
	c := m.consumer("sizes")
	for i, n := range sizes {
		r, err := c.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if r.Sequence != uint64(i) || !bytes.Equal(r.Content, bytes.Repeat([]byte{byte(i)}, n)) {
			t.Fatalf("record %d has sequence %d and %d bytes", i, r.Sequence, len(r.Content))
		}
	}
}

// TestManyTopics: topics that begin alike are told apart, any bytes are a topic,
// and the empty one stands for all.
func TestManyTopics(t *testing.T) {
	m := newMesh(t)
	m.store(vfs.NewMem())
	topics := []string{"id", "idle", "i/d", "ι", "..", "__dafka_partitions", string(bytes.Repeat([]byte("x"), 255))}
	producers := map[string]*dafka.Producer{}
	for _, topic := range topics {
		p := m.producer(topic)
		producers[topic] = p
		m.publish(p, 0, 10)
		m.finish(p)
	}
	for _, topic := range topics {
		m.expect(m.consumer(topic), producers[topic], 0, 10)
	}
	all := m.consumer("")
	next := map[string]int{}
	for range 10 * len(topics) {
		r, err := all.Next(patiently(t))
		if err != nil {
			t.Fatal(err)
		}
		p := producers[r.Topic]
		if p == nil || r.Producer != p.Address() || int(r.Sequence) != next[r.Topic] || string(r.Content) != string(content(p, next[r.Topic])) {
			t.Fatalf("%+v", r)
		}
		next[r.Topic]++
	}
	if len(next) != len(topics) {
		t.Error(fmt.Sprint(next))
	}
}
