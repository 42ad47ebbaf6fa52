package tower_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/barnabas-log/barnabas/dafka"
	"github.com/barnabas-log/barnabas/dafka/store"
	"github.com/barnabas-log/barnabas/dafka/tower"
)

// TestMain looks for goroutines that Close, or an error, left behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestNothingIsLeft: nodes of all roles end with Close, in whatever they are.
func TestNothingIsLeft(t *testing.T) {
	c := dafka.DefaultConfig()
	const local = "tcp://127.0.0.1:*"
	c.Tower.Sub, c.Tower.Pub, c.Beacon.Bind, c.Beacon.Address, c.Store.DB = local, local, local, "127.0.0.1", t.TempDir()
	c.Beacon.Interval, c.Producer.HeadInterval, c.Consumer.Reset = 50*time.Millisecond, 100*time.Millisecond, dafka.Earliest
	tw, err := tower.New(c, nil)
	must(t, err)
	c.Beacon.Sub, c.Beacon.Pub = []string{tw.Sub()}, []string{tw.Pub()}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := store.New(c, store.Options{})
	must(t, err)
	o, err := dafka.Observe(c, nil)
	must(t, err)
	p, err := dafka.NewProducer("letters", dafka.ProducerOptions{Config: c})
	must(t, err)
	var consumers []*dafka.Consumer
	for range 2 { // One reads, the other does not, and is full.
		x, err := dafka.NewConsumer(dafka.ConsumerOptions{Config: c})
		must(t, err)
		must(t, x.Subscribe("letters"))
		consumers = append(consumers, x)
	}
	for range 20_000 {
		_, err := p.Publish(ctx, []byte("x"))
		must(t, err)
	}
	for n := 0; n < 20_000; n++ {
		_, err := consumers[0].Next(ctx)
		must(t, err)
	}
	must(t, p.Close(ctx))
	for _, x := range consumers {
		must(t, x.Close(ctx))
	}
	must(t, o.Close(ctx))
	must(t, s.Close(ctx))
	must(t, tw.Close(ctx))
	refused(t, c)
}

// refused makes nodes that cannot be.
func refused(t *testing.T, c *dafka.Config) {
	taken, err := tower.New(c, nil)
	must(t, err)
	defer func() { _ = taken.Close(context.Background()) }()
	bad := *c
	bad.Beacon.Bind, bad.Producer.Dir, bad.Consumer.Positions = taken.Pub(), t.TempDir(), filepath.Join(t.TempDir(), "positions")
	bad.Tower.Pub = taken.Pub()
	_, p := dafka.NewProducer("letters", dafka.ProducerOptions{Config: &bad})
	_, x := dafka.NewConsumer(dafka.ConsumerOptions{Config: &bad})
	_, o := dafka.Observe(&bad, nil)
	_, s := store.New(&bad, store.Options{})
	_, w := tower.New(&bad, nil)
	for _, err := range []error{p, x, o, s, w} {
		if err == nil {
			t.Error("two listen at one endpoint")
		}
	}
	bad.Beacon.Bind, bad.Tower.Pub = "tcp://127.0.0.1:*", "tcp://127.0.0.1:*"
	again, err := dafka.NewProducer("letters", dafka.ProducerOptions{Config: &bad}) // The directory is free.
	must(t, err)
	must(t, again.Close(t.Context()))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
