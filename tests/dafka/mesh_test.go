package dafka

import (
	"context"
	"fmt"
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

func content(p *dafka.Producer, i int) []byte { return fmt.Appendf(nil, "%s %s %d", p.Topic(), p.Address(), i) }

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
