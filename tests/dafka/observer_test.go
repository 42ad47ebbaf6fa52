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

// TestObserverHearsLate: a store is heard before it can answer. When it can, it says hello,
// and is asked again.
func TestObserverHearsLate(t *testing.T) {
	m := newMesh(t)
	asked := make(chan string, 10)
	store, err := nodes.Join(nodes.Options{
		Address: nodes.NewAddress(), Publisher: zmtp.XPub, Bind: m.config.Beacon.Bind, Host: "127.0.0.1", HighWater: 1000, Log: slog.New(slog.DiscardHandler),
		ToTowers: m.config.Beacon.Sub, FromTowers: m.config.Beacon.Pub, Interval: m.config.Beacon.Interval, Timeout: m.config.Beacon.Timeout,
		Inlets: []nodes.Inlet{{Prefixes: [][]byte{fabric.GetHeads.Prefix("")}, HighWater: 1000, Receive: func(b *zmtp.Batch, _ string) {
			defer b.Release()
			for _, frames := range b.Messages {
				var q fabric.Message
				if _, err := q.ParseFrames(frames); err == nil {
					asked <- string(q.Address)
				}
			}
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close(ended())
	o, err := dafka.Observe(&m.config, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close(ended())
	who, ctx := <-asked, patiently(t) // The answer to this one is lost.
	for again := ""; again == ""; {
		store.Publish([]fabric.Send{{Message: fabric.Message{Kind: fabric.StoreHello, Topic: []byte(who), Address: []byte(store.Address())}}})
		select {
		case again = <-asked:
		case <-time.After(10 * time.Millisecond): // Its connection is not there yet.
		case <-ctx.Done():
			t.Fatal("it is not asked again")
		}
	}
}
