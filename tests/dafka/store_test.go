package dafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/dafka"
	"github.com/barnabas-log/barnabas/dafka/store"
	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/internal/zmtp"
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
	m.Cleanup(func() { _ = s.Close(context.Background()) })
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

// TestStoreAgain: a store that comes back has what it had, is who it was, and
// goes on.
func TestStoreAgain(t *testing.T) {
	m := newMesh(t)
	disk := vfs.NewMem()
	s := m.store(disk)
	p := m.producer("letters")
	m.publish(p, 0, 1000)
	m.flush(p)
	address := s.Address()
	m.leave(s)
	m.publish(p, 1000, 1000)
	again := m.store(disk)
	if again.Address() != address {
		t.Errorf("it was %s and is %s", address, again.Address())
	}
	m.publish(p, 2000, 1000)
	m.finish(p)
	m.expect(m.consumer("letters"), p, 0, 3000)
}

func (m *mesh) flush(p *dafka.Producer) {
	m.Helper()
	if err := p.Flush(patiently(m.T)); err != nil {
		m.Fatal(err)
	}
}

// TestRepair: a store that comes when the producer is gone gets everything from
// another one, and they from it when that one has lost it.
func TestRepair(t *testing.T) {
	m := newMesh(t)
	first := m.store(vfs.NewMem())
	p, q := m.producer("letters"), m.producer("numbers")
	m.publish(p, 0, 150_000)
	m.publish(q, 0, 7)
	m.finish(p)
	m.finish(q)
	second := m.store(vfs.NewMem())
	m.await("the second store has everything", func() bool { return records(second) == 150_007 })
	m.leave(first)
	third := m.store(vfs.NewMem())
	m.await("the third store has everything", func() bool { return records(third) == 150_007 })
	m.leave(second)
	m.expect(m.consumer("letters"), p, 0, 150_000)
	m.expect(m.consumer("numbers"), q, 0, 7)
}

// records is how many a store has.
func records(s *store.Store) (n uint64) {
	for _, p := range s.Partitions() {
		n += p.End - p.Start
	}
	return n
}

// await looks again and again.
func (m *mesh) await(what string, ok func() bool) {
	m.Helper()
	ctx := patiently(m.T)
	for tick := time.NewTicker(time.Millisecond); !ok(); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			m.Fatalf("never: %s", what)
		}
	}
}

// TestTwoAcks: who wants two stores to have everything waits for the second, and
// is not content with the first one twice.
func TestTwoAcks(t *testing.T) {
	m := newMesh(t)
	disk := vfs.NewMem()
	first := m.store(disk)
	p := m.producer("letters", func(c *dafka.Config) { c.Producer.MinAcks = 2 })
	m.publish(p, 0, 100)
	m.await("the first store has everything", func() bool { return records(first) == 100 })
	m.leave(first)
	first = m.store(disk)
	m.publish(p, 100, 100)
	m.await("the first store has everything again", func() bool { return records(first) == 200 })
	heard := p.Stats().Received
	m.await("it has acknowledged, again and again", func() bool { return p.Stats().Received > heard+3 })
	if n, _ := p.Unacked(); n != 200 {
		t.Errorf("%d records are unacknowledged", n)
	}
	second := m.store(vfs.NewMem())
	m.finish(p)
	if records(first) != 200 || records(second) != 200 {
		t.Errorf("they have %d and %d", records(first), records(second))
	}
}

// TestKilledBeforeAck: a store ends when records are written and not
// acknowledged. The next one has them once.
func TestKilledBeforeAck(t *testing.T) {
	m := newMesh(t)
	disk := vfs.NewMem()
	var killed atomic.Pointer[vfs.Mem]
	first := m.store(vfs.NewFaulty(disk, func(op vfs.Op) error {
		if op.Kind == vfs.OpSync && strings.Contains(op.Path, "letters-0") {
			killed.CompareAndSwap(nil, disk.KillClone())
			return errors.New("it is dead")
		}
		return nil
	}))
	p := m.producer("letters")
	m.publish(p, 0, 100)
	m.await("records are written", func() bool { return killed.Load() != nil })
	if n, _ := p.Unacked(); n != 100 {
		t.Errorf("%d records are unacknowledged", n)
	}
	_ = first.Close(context.Background()) // It cannot make anything durable.
	m.store(killed.Load())
	m.publish(p, 100, 100)
	m.finish(p)
	m.expect(m.consumer("letters"), p, 0, 200)
}

// TestRetention: a consumer that begins with the earliest goes on behind what
// retention has deleted, and is told.
func TestRetention(t *testing.T) {
	t.Parallel() // It waits for patience to end.
	m := newMesh(t)
	s := m.store(vfs.NewMem(), func(c *dafka.Config) { c.Store.RetentionSize, c.Store.SegmentBytes = 1<<20, 1<<20 })
	p := m.producer("letters")
	m.publish(p, 0, 50_000)
	m.finish(p)
	m.await("retention has deleted", func() bool { return s.Partitions()[0].Start > 0 })
	start := s.Partitions()[0].Start
	var skipped atomic.Pointer[dafka.Skipped]
	c, err := dafka.NewConsumer(dafka.ConsumerOptions{Config: &m.config, Skipped: func(s dafka.Skipped) { skipped.Store(&s) }})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ended())
	if err := c.Subscribe("letters"); err != nil {
		t.Fatal(err)
	}
	m.expect(c, p, int(start), 50_000-int(start))
	want := dafka.Skipped{Partition: dafka.Partition{Topic: "letters", Producer: p.Address()}, To: start}
	if got := skipped.Load(); got == nil || *got != want {
		t.Errorf("%+v", got)
	}
}

// TestSegments: records come from many small segments, to several consumers at
// once.
func TestSegments(t *testing.T) {
	m := newMesh(t)
	m.store(vfs.NewMem(), func(c *dafka.Config) { c.Store.SegmentBytes = 1 << 20 })
	p := m.producer("letters")
	m.publish(p, 0, 120_000)
	m.finish(p)
	var running sync.WaitGroup
	for range 3 {
		c := m.consumer("letters")
		running.Go(func() { m.expect(c, p, 0, 120_000) })
	}
	running.Wait()
}

// stranger publishes what it likes, to whom beacons bring to it.
type stranger struct {
	*mesh
	publisher *zmtp.Socket
}

func (m *mesh) stranger() *stranger {
	m.Helper()
	s := &stranger{m, zmtp.New(zmtp.Options{Kind: zmtp.XPub})}
	m.Cleanup(func() { _ = s.publisher.Close(ended()) })
	endpoint, err := s.publisher.Bind("tcp://127.0.0.1:*")
	if err != nil {
		m.Fatal(err)
	}
	port, err := strconv.ParseUint(endpoint[strings.LastIndexByte(endpoint, ':')+1:], 10, 16)
	if err != nil {
		m.Fatal(err)
	}
	beacons := zmtp.New(zmtp.Options{Kind: zmtp.Pub})
	m.Cleanup(func() { _ = beacons.Close(ended()) })
	if err := beacons.Connect(m.tower.Sub()); err != nil {
		m.Fatal(err)
	}
	frames := fabric.Beacon{Address: "STRANGER", Host: "127.0.0.1", Port: uint16(port)}.Frames()
	alive, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	m.Cleanup(func() { stop(); running.Wait() })
	running.Go(func() {
		for tick := time.NewTicker(50 * time.Millisecond); alive.Err() == nil; {
			beacons.Send(frames...)
			select {
			case <-tick.C:
			case <-alive.Done():
			}
		}
	})
	return s
}

// heard waits until somebody subscribes to all of these.
func (s *stranger) heard(prefixes ...string) {
	s.Helper()
	missing := map[string]bool{}
	for _, p := range prefixes {
		missing[p] = true
	}
	for ctx := patiently(s.T); len(missing) > 0; {
		b, err := s.publisher.Receive(ctx)
		if err != nil {
			s.Fatalf("%v: %v", missing, err)
		}
		for _, x := range b.Subscriptions {
			delete(missing, string(x.Prefix))
		}
		b.Release()
	}
}

// TestStrangers: messages that are none, and those that want too much, disturb
// nobody and are counted.
func TestStrangers(t *testing.T) {
	m := newMesh(t)
	s := m.store(vfs.NewMem())
	x := m.stranger()
	x.heard("M", "H", "F", "G")
	record := func(sequence uint64) []byte {
		return fabric.Append(nil, &fabric.Message{Kind: fabric.Record, Topic: []byte("t"), Address: []byte("X"), Subject: []byte("t"), Sequence: sequence})
	}
	good := record(0)
	malformed := 0
	for i := 1; i < len(good); i++ {
		x.publisher.Send(good[:i], []byte("cut"))
		malformed++
	}
	other := bytes.Clone(good)
	other[len("Mt\x00")] = 2 // The version.
	for _, frames := range [][][]byte{{other, nil}, {good}, {good, nil, nil}, {record(math.MaxUint64), nil}, {record(math.MaxInt64), nil}} {
		x.publisher.Send(frames...)
		malformed++
	}
	for _, first := range []string{"H", "Ht", "Ht\x00\x01\xff", "F\x00\x01", "G\x00\x01\x05", "G"} {
		x.publisher.Send([]byte(first))
		malformed++
	}
	many := fabric.Message{Kind: fabric.Fetch, Topic: []byte("X"), Address: []byte("Y"), Subject: []byte("t"), Count: math.MaxUint32}
	x.publisher.Send(fabric.Append(nil, &many))
	x.publisher.Send(good, []byte("content"))
	m.await("all are counted", func() bool {
		st := s.Stats()
		return st.Writer.Malformed+st.Reader.Malformed == uint64(malformed) && st.Records == 1
	})
	p := m.producer("letters")
	m.publish(p, 0, 10)
	m.finish(p)
	m.expect(m.consumer("letters"), p, 0, 10)
	r, err := m.consumer("t").Next(patiently(t))
	if err != nil || r.Producer != "X" || string(r.Content) != "content" {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestFullDisk: on a full disk nothing is acknowledged, and what was stored is
// served; with space again everything is.
func TestFullDisk(t *testing.T) {
	m := newMesh(t)
	disk := vfs.NewMem()
	s := m.store(disk)
	p := m.producer("letters")
	m.publish(p, 0, 1000)
	m.flush(p)
	disk.SetCapacity(1)
	m.publish(p, 1000, 1000)
	q := m.producer("numbers")
	m.publish(q, 0, 10)
	m.await("records are refused", func() bool { return s.Stats().Refused > 0 })
	m.expect(m.consumer("letters"), p, 0, 2000) // The others come from the producer.
	if n, _ := p.Unacked(); n != 1000 {
		t.Errorf("%d records are unacknowledged", n)
	}
	disk.SetCapacity(0)
	m.finish(p)
	m.finish(q)
	m.expect(m.consumer("letters"), p, 0, 2000)
	m.expect(m.consumer("numbers"), q, 0, 10)
}

// TestDamage: what a disk has changed is not served; another store has it.
func TestDamage(t *testing.T) {
	m := newMesh(t)
	disk := vfs.NewMem()
	first := m.store(disk)
	second := m.store(vfs.NewMem())
	p := m.producer("letters")
	m.publish(p, 0, 20_000)
	m.finish(p)
	m.await("both have everything", func() bool { return records(first) == 20_000 && records(second) == 20_000 })
	m.leave(first)
	f, err := disk.OpenWrite("/store/letters-0/00000000000000000000.log")
	if err != nil {
		t.Fatal(err)
	}
	size, _ := f.Size()
	if _, err := f.WriteAt([]byte("damaged"), size/2); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	m.store(disk)
	m.expect(m.consumer("letters"), p, 0, 20_000)
}

// mortal is a disk whose process can be killed: nothing that it does afterwards
// is done.
type mortal struct {
	*vfs.Faulty
	disk *vfs.Mem
	dead *atomic.Bool
}

func newMortal(disk *vfs.Mem) mortal {
	dead := new(atomic.Bool)
	return mortal{vfs.NewFaulty(disk, func(vfs.Op) error {
		if dead.Load() {
			return errors.New("it is dead")
		}
		return nil
	}), disk, dead}
}

// kill returns what is left for the next process.
func (m mortal) kill() mortal {
	m.dead.Store(true)
	return newMortal(m.disk.KillClone())
}

// TestRestarts: a store that leaves and comes back again and again, also by the
// end of its process, while a producer publishes and a consumer follows.
func TestRestarts(t *testing.T) {
	m := newMesh(t)
	disk := newMortal(vfs.NewMem())
	s := m.store(disk)
	p := m.producer("letters")
	c := m.consumer("letters")
	const rounds, n = 8, 2000
	for i := range rounds {
		m.publish(p, i*n, n)
		switch i % 4 {
		case 0:
			m.flush(p)
		case 1:
			disk = disk.kill()
			_ = s.Close(context.Background()) // It can write nothing any more.
			s = m.store(disk)
		case 2:
			m.leave(s)
			s = m.store(disk)
		}
		m.expect(c, p, i*n, n)
	}
	m.finish(p)
	m.expect(m.consumer("letters"), p, 0, rounds*n)
}
