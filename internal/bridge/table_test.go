package bridge

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/zmtp"
	"github.com/barnabas-log/barnabas/model"
)

// TestTable: the partitions of the mesh are those that the image says, and keep
// their places while none is gone.
func TestTable(t *testing.T) {
	c := newCluster(t)
	at := &table{}
	f := func(anew bool, want ...string) {
		t.Helper()
		at = newTable(at, c.image(), 1, c.find)
		var got []string
		for _, p := range at.parts {
			kind := "from "
			if p.published {
				kind = "as "
			}
			if p.replica == nil {
				kind = "offline " + kind
			}
			if at.by[p.Partition] != p {
				t.Errorf("%v is not found", p.Partition)
			}
			address := strings.Replace(p.Address, id(c, p.Subject), "ID", 1)
			got = append(got, fmt.Sprintf("%s-%d %s%s", p.Subject, p.index, kind, address))
		}
		if !slices.Equal(got, want) || at.anew != anew {
			t.Errorf("%q, anew %v; want %q, %v", got, at.anew, want, anew)
		}
	}
	f(false)
	c.topic("kafkas", 2)
	c.producers("letters", "A", "B")
	f(false, "letters-0 from A", "letters-1 from B")
	c.topic("a", 2, "dafka.publish", "true")
	c.producers("letters", "C")
	f(false, "letters-0 from A", "letters-1 from B", "a-0 as "+Address(topicID(c, "a"), 0), "a-1 as "+Address(topicID(c, "a"), 1), "letters-2 from C")
	c.alter("a", "dafka.publish", "false")
	f(true, "letters-0 from A", "letters-1 from B", "letters-2 from C")
	c.delete("letters")
	c.producers("letters", "B")
	f(true, "letters-0 from B")
	f(false, "letters-0 from B")
	c.missing[model.Partition{Topic: "letters"}] = true
	f(true, "letters-0 offline from B")
	f(false, "letters-0 offline from B")
	clear(c.missing)
	f(true, "letters-0 from B")
}

func topicID(c *cluster, name string) model.TopicID { return c.image().Topic(name).ID }

func id(c *cluster, name string) string { return topicID(c, name).String() }

// TestAddress: partitions are published under addresses like those of C's
// producers, no two the same.
func TestAddress(t *testing.T) {
	id := model.TopicID{0: 0xab, 12: 0xff, 15: 1}
	for index, want := range map[int32]string{
		0: "AB0000000000000000000000FF000001", 1: "AB0000000000000000000000FF000000", 257: "AB0000000000000000000000FF000100",
	} {
		if got := Address(id, index); got != want || fabric.CheckName(got) != nil {
			t.Errorf("%d: %s, want %s", index, got, want)
		}
	}
}

// TestAdmits: who has no partition is given one before it is heard, or is refused
// for a while, alone; and what is remembered of strangers is bounded.
func TestAdmits(t *testing.T) {
	c := newCluster(t)
	b := c.bridge()
	c.topic("kafkas", 1)
	hear := func(topic, address string) bool {
		return b.writer.admittedLocked(&fabric.Message{Kind: fabric.Head, Subject: []byte(topic), Address: []byte(address)})
	}
	batch := &zmtp.Batch{}
	for i, p := range []string{"A", "A", "C,", "B", "A"} {
		for _, topic := range []string{"letters", "kafkas"} {
			m := fabric.Message{Kind: fabric.Head, Topic: []byte(topic), Subject: []byte(topic), Address: []byte(p), Sequence: uint64(i)}
			batch.Messages = append(batch.Messages, zmtp.Message{fabric.Append(nil, &m)})
		}
	}
	fresh := b.writer.fresh(batch)
	if len(fresh) != 6 || hear("letters", "A") {
		t.Errorf("new are %v", fresh)
	}
	b.admits.admit(t.Context(), fresh)
	b.Publish(nil, c.image())
	for _, p := range fresh {
		if want := p.Subject == "letters" && p.Address != "C,"; hear(p.Subject, p.Address) != want {
			t.Errorf("%v is heard: %v", p, !want)
		}
	}
	if fresh := b.writer.fresh(batch); len(fresh) != 0 {
		t.Errorf("who was refused is asked about again: %v", fresh)
	}
	for i := range 2 * maxRefused {
		b.admits.refuse(fabric.Partition{Subject: "many", Address: fmt.Sprint(i)}, errNoPart)
	}
	if n := len(b.admits.mu.refused); n > maxRefused {
		t.Errorf("%d refused", n)
	}
}

// TestAdmitsEnds: who waits for a decision waits no longer than the bridge runs.
func TestAdmitsEnds(t *testing.T) {
	b := newCluster(t).bridge()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b.admits.run(ctx)
	b.admits.wait([]fabric.Partition{{Subject: "letters", Address: "A"}})
}
