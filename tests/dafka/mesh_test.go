package dafka

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/dafka"
	"github.com/barnabas-log/barnabas/dafka/tower"
)

// patience is how long anything may take on a loaded machine.
const patience = time.Minute

func patiently(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// mesh has a tower, and a configuration for nodes that know it.
type mesh struct {
	*testing.T
	tower  *tower.Tower
	config dafka.Config
}

func newMesh(t *testing.T) *mesh {
	m := &mesh{T: t, config: *dafka.DefaultConfig()}
	m.config.Tower.Sub, m.config.Tower.Pub, m.config.Beacon.Bind = "tcp://127.0.0.1:*", "tcp://127.0.0.1:*", "tcp://127.0.0.1:*"
	m.config.Beacon.Address = "127.0.0.1"
	m.config.Beacon.Interval, m.config.Producer.HeadInterval = 50*time.Millisecond, 100*time.Millisecond
	m.config.Consumer.Reset = dafka.Earliest
	m.startTower()
	return m
}

func (m *mesh) startTower() {
	m.Helper()
	tw, err := tower.New(&m.config, nil)
	if err != nil {
		m.Fatal(err)
	}
	m.tower = tw
	m.config.Beacon.Sub, m.config.Beacon.Pub = []string{tw.Sub()}, []string{tw.Pub()}
	m.Cleanup(func() { _ = tw.Close(context.Background()) })
}

func (m *mesh) producer(topic string, change ...func(*dafka.Config)) *dafka.Producer {
	m.Helper()
	p, err := dafka.NewProducer(topic, dafka.ProducerOptions{Config: m.changed(change)})
	if err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() { _ = p.Close(ended()) })
	return p
}

func (m *mesh) consumer(topic string, change ...func(*dafka.Config)) *dafka.Consumer {
	m.Helper()
	c, err := dafka.NewConsumer(dafka.ConsumerOptions{Config: m.changed(change)})
	if err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() { _ = c.Close(ended()) })
	if err := c.Subscribe(topic); err != nil {
		m.Fatal(err)
	}
	return c
}

func (m *mesh) changed(change []func(*dafka.Config)) *dafka.Config {
	c := m.config
	for _, f := range change {
		f(&c)
	}
	return &c
}

// ended is a context for nodes that are to leave at once.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func (m *mesh) publish(p *dafka.Producer, first, n int) {
	m.Helper()
	ctx := patiently(m.T)
	for i := first; i < first+n; i++ {
		if seq, err := p.Publish(ctx, content(p, i)); err != nil || seq != uint64(i) {
			m.Fatalf("sequence %d: %v", seq, err)
		}
	}
}

func content(p *dafka.Producer, i int) []byte {
	return fmt.Appendf(nil, "%s %s %d", p.Topic(), p.Address(), i)
}

// expect consumes n records of a producer's, in order from first, and no others.
func (m *mesh) expect(c *dafka.Consumer, p *dafka.Producer, first, n int) {
	m.Helper()
	ctx := patiently(m.T)
	for i := first; i < first+n; i++ {
		r, err := c.Next(ctx)
		if err != nil {
			m.Fatalf("record %d: %v; lag %v, %+v", i, err, c.Lag(), c.Stats())
		}
		if r.Topic != p.Topic() || r.Producer != p.Address() || r.Sequence != uint64(i) || string(r.Content) != string(content(p, i)) {
			m.Fatalf("record %d is %+v", i, r)
		}
	}
}

// TestWithoutStore: a consumer gets what is published while it is there, and
// from the producer what was before.
func TestWithoutStore(t *testing.T) {
	m := newMesh(t)
	p := m.producer("letters")
	m.publish(p, 0, 600)
	early := m.consumer("letters")
	m.expect(early, p, 0, 600)
	m.publish(p, 600, 5000)
	m.expect(early, p, 600, 5000)
	if n, bytes := p.Unacked(); n != 5600 || bytes == 0 {
		t.Errorf("%d records, %d bytes are unacknowledged", n, bytes)
	}
	if want := []string{"letters"}; !slices.Equal(early.Subscription(), want) {
		t.Errorf("%v", early.Subscription())
	}
}

// TestDurableProducer: who is closed, or dies, before a store has everything goes
// on as the same, and publishes it again.
func TestDurableProducer(t *testing.T) {
	m := newMesh(t)
	dir := t.TempDir()
	durable := func(c *dafka.Config) { c.Producer.Dir = dir }
	p := m.producer("letters", durable)
	m.publish(p, 0, 300)
	if _, err := dafka.NewProducer("letters", dafka.ProducerOptions{Config: m.changed([]func(*dafka.Config){durable})}); !errors.Is(err, dafka.ErrDir) {
		t.Errorf("two producers have one directory: %v", err)
	}
	if err := p.Persist(patiently(t)); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(ended()); !errors.Is(err, dafka.ErrUnacked) {
		t.Errorf("closed: %v", err)
	}
	if _, err := p.Publish(t.Context(), nil); !errors.Is(err, dafka.ErrClosed) {
		t.Errorf("published when closed: %v", err)
	}
	if _, err := dafka.NewProducer("parcels", dafka.ProducerOptions{Config: m.changed([]func(*dafka.Config){durable})}); !errors.Is(err, dafka.ErrDir) {
		t.Errorf("another topic: %v", err)
	}
	again := m.producer("letters", durable)
	if again.Address() != p.Address() {
		t.Errorf("%s was %s", again.Address(), p.Address())
	}
	m.publish(again, 300, 10)
	m.expect(m.consumer("letters"), p, 0, 310)
}

// TestPositions: a consumer goes on where the one before it has stopped, if it
// has a file for that.
func TestPositions(t *testing.T) {
	m := newMesh(t)
	p := m.producer("letters")
	m.publish(p, 0, 100)
	file := filepath.Join(t.TempDir(), "positions")
	kept := func(c *dafka.Config) { c.Consumer.Positions = file }
	c := m.consumer("letters", kept)
	m.expect(c, p, 0, 60)
	if err := c.Close(patiently(t)); err != nil {
		t.Fatal(err)
	}
	c = m.consumer("letters", kept)
	m.expect(c, p, 60, 40)
	if got := c.Positions(); len(got) != 1 || got[dafka.Partition{Topic: "letters", Producer: p.Address()}] != 100 {
		t.Errorf("%v", got)
	}
	if err := os.WriteFile(file, []byte(`[{"topic":"a"`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := dafka.NewConsumer(dafka.ConsumerOptions{Config: m.changed([]func(*dafka.Config){kept})}); !errors.Is(err, dafka.ErrConfig) {
		t.Errorf("a torn file: %v", err)
	}
	nowhere := func(c *dafka.Config) { c.Consumer.Positions = filepath.Join(file, "no", "directory") }
	if _, err := dafka.NewConsumer(dafka.ConsumerOptions{Config: m.changed([]func(*dafka.Config){nowhere})}); !errors.Is(err, dafka.ErrConfig) {
		t.Errorf("a directory that is not there: %v", err)
	}
}

// TestTowerComesLate: nodes start without a tower, meet when there is one, and
// meet again when it was away.
func TestTowerComesLate(t *testing.T) {
	m := newMesh(t)
	sub, pub := m.tower.Sub(), m.tower.Pub()
	if err := m.tower.Close(patiently(t)); err != nil {
		t.Fatal(err)
	}
	p := m.producer("letters")
	c := m.consumer("letters")
	m.publish(p, 0, 10)
	m.config.Tower.Sub, m.config.Tower.Pub = sub, pub
	m.startTower()
	m.expect(c, p, 0, 10)
	if err := m.tower.Close(patiently(t)); err != nil {
		t.Fatal(err)
	}
	for c.Stats().Peers > 0 { // beacon/timeout
		time.Sleep(10 * time.Millisecond)
	}
	m.publish(p, 10, 10)
	m.startTower()
	m.expect(c, p, 10, 10)
}

// TestTopics: topics that begin like another are others, unless C's way is asked
// for; the empty one is all.
func TestTopics(t *testing.T) {
	m := newMesh(t)
	exact := m.consumer("id")
	prefix := m.consumer("id", func(c *dafka.Config) { c.Consumer.Siblings = true })
	all := m.consumer("")
	idle, id := m.producer("idle"), m.producer("id")
	m.publish(idle, 0, 5)
	m.publish(id, 0, 5)
	m.expect(exact, id, 0, 5)
	for _, c := range []*dafka.Consumer{prefix, all} {
		got := map[string]int{}
		for range 10 {
			r, err := c.Next(patiently(t))
			if err != nil {
				t.Fatal(err)
			}
			got[r.Topic]++
		}
		if got["id"] != 5 || got["idle"] != 5 {
			t.Errorf("%v", got)
		}
	}
	if err := exact.Unsubscribe("id"); err != nil || len(exact.Subscription()) != 0 {
		t.Errorf("%v, subscribed to %v", err, exact.Subscription())
	}
}

// TestSecurity: in a mesh with keys those without them, or with others, hear
// nothing and are not heard.
func TestSecurity(t *testing.T) {
	m := newMesh(t)
	open := m.config
	m.config.Public, m.config.Secret = dafka.GenerateKeys()
	m.config.Tower.Sub, m.config.Tower.Pub = "tcp://127.0.0.1:*", "tcp://127.0.0.1:*"
	m.startTower()
	p := m.producer("letters")
	c := m.consumer("letters")
	strange := m.config
	strange.Public, strange.Secret = dafka.GenerateKeys()
	open.Beacon.Sub, open.Beacon.Pub = m.config.Beacon.Sub, m.config.Beacon.Pub
	var strangers []*dafka.Consumer
	for _, config := range []dafka.Config{strange, open} {
		strangers = append(strangers, m.consumer("letters", func(c *dafka.Config) { *c = config }))
	}
	m.publish(p, 0, 100)
	m.expect(c, p, 0, 100)
	for i, s := range strangers {
		if n := s.Stats(); n.Peers != 0 || n.Received != 0 {
			t.Errorf("stranger %d: %+v", i, n)
		}
	}
	m.config.Secret = strange.Secret
	if _, err := dafka.NewProducer("letters", dafka.ProducerOptions{Config: &m.config}); err == nil {
		t.Error("keys that do not belong together are taken")
	}
}

// TestObserver: what is there, and what it does, shows.
func TestObserver(t *testing.T) {
	m := newMesh(t)
	p, c := m.producer("letters"), m.consumer("letters")
	m.publish(p, 0, 7)
	o, err := dafka.Observe(&m.config, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close(ended())
	for ctx := patiently(t); ; time.Sleep(10 * time.Millisecond) {
		roles := map[string]dafka.NodeInfo{}
		for _, n := range o.Nodes() {
			roles[n.Address] = n
		}
		parts := o.Partitions()
		if len(roles) == 2 && roles[p.Address()].Role == dafka.RoleProducer && roles[c.Address()].Role == dafka.RoleConsumer &&
			slices.Equal(roles[c.Address()].Topics, []string{"letters"}) && len(parts) == 1 && parts[0].Published == 7 && parts[0].Live {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%+v %+v", o.Nodes(), parts)
		}
	}
}

// TestTwoTowers: nodes that know two towers do not notice that one is gone.
func TestTwoTowers(t *testing.T) {
	m := newMesh(t)
	first, sub, pub := m.tower, m.tower.Sub(), m.tower.Pub()
	m.config.Tower.Sub, m.config.Tower.Pub = "tcp://127.0.0.1:*", "tcp://127.0.0.1:*"
	m.startTower()
	m.config.Beacon.Sub, m.config.Beacon.Pub = append(m.config.Beacon.Sub, sub), append(m.config.Beacon.Pub, pub)
	p, c := m.producer("letters"), m.consumer("letters")
	m.publish(p, 0, 10)
	m.expect(c, p, 0, 10)
	if err := first.Close(patiently(t)); err != nil {
		t.Fatal(err)
	}
	late := m.consumer("letters")
	m.publish(p, 10, 10)
	m.expect(late, p, 0, 20)
	m.expect(c, p, 10, 10)
}
