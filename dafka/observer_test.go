package dafka

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/zmtp"
)

// TestObserverIsBounded: strangers who come and go, and say much, do not make an
// observer remember ever more.
func TestObserverIsBounded(t *testing.T) {
	c := alone()
	o, err := Observe(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = o.Close(context.Background()) }()
	for range 1000 {
		gone := new(zmtp.Peer)
		for i := range 200 {
			o.subscribed(fmt.Appendf(nil, "M%d", i), gone)
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	topics := 0
	for _, s := range o.heard {
		topics += len(s.topics)
	}
	if len(o.heard) > 200 || topics != o.topics {
		t.Errorf("%d connections that have ended are remembered, %d topics, counted %d", len(o.heard), topics, o.topics)
	}
	m := fabric.Message{Kind: fabric.DirectHead, Subject: []byte("a"), Address: []byte("b"), Sequence: 6}
	o.headLocked(&m, "") // Nobody knows who.
	for i := range 1000 {
		o.headLocked(&m, strconv.Itoa(i))
	}
	p := o.partitions[Partition{"a", "b"}]
	if _, ok := p.Stored[""]; ok || len(p.Stored) > maxObservedStores || p.Published != 7 {
		t.Errorf("published %d, %d stores", p.Published, len(p.Stored))
	}
}

// alone is a configuration without a tower.
func alone() *Config {
	c := DefaultConfig()
	c.Beacon.Sub, c.Beacon.Pub, c.Beacon.Bind = []string{"tcp://127.0.0.1:1"}, []string{"tcp://127.0.0.1:1"}, "tcp://127.0.0.1:*"
	return c
}
