package dafka

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/barnabas-log/barnabas/dafka"
)

// TestPositionInGroup: a consumer's position is a Kafka group's offsets, at a
// broker that stores the mesh; Kafka's tools see it, and move it.
func TestPositionInGroup(t *testing.T) {
	b := newBridged(t, "offsets.topic.num.partitions=1")
	p := b.producer("letters")
	b.publish(p, 0, 100)
	flush(t, p)
	grouped := func(c *dafka.Config) { c.Consumer.Group, c.Consumer.Brokers = "readers", []string{b.node.Addr} }
	admin := kadm.NewClient(b.client())
	committed := func() int64 {
		t.Helper()
		offsets, err := admin.FetchOffsets(patiently(t), "readers")
		if err != nil {
			t.Fatal(err)
		}
		o, _ := offsets.Lookup("letters", 0)
		return o.At
	}
	c := b.consumer("letters", grouped)
	b.expect(c, p, 0, 60)
	if err := c.Close(patiently(t)); err != nil || committed() != 60 {
		t.Fatalf("closed: %v; the group is at %d", err, committed())
	}
	b.node.Kill()
	b.node.Again()
	c = b.consumer("letters", grouped)
	b.expect(c, p, 60, 40)
	if err := c.Close(patiently(t)); err != nil || committed() != 100 {
		t.Fatalf("closed: %v; the group is at %d", err, committed())
	}
	back := kadm.Offsets{}
	back.AddOffset("letters", 0, 30, -1)
	if err := admin.CommitAllOffsets(patiently(t), "readers", back); err != nil {
		t.Fatal(err)
	}
	b.expect(b.consumer("letters", grouped), p, 30, 70)
	_, err := dafka.NewConsumer(dafka.ConsumerOptions{Config: b.changed([]func(*dafka.Config){grouped, func(c *dafka.Config) { c.Consumer.Positions = "x" }})})
	if !errors.Is(err, dafka.ErrConfig) {
		t.Errorf("two keepers: %v", err)
	}
}

func flush(t *testing.T, p *dafka.Producer) {
	t.Helper()
	if err := p.Flush(patiently(t)); err != nil {
		t.Fatal(err)
	}
}
