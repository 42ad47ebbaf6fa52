package metadata

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

func id(n byte) model.TopicID { return model.TopicID{15: n} }

func topic(name string, n byte) Record {
	m := wire.NewTopicRecord()
	m.Name, m.TopicID = name, id(n)
	return Record{Message: m}
}

func part(n byte, index int32, change ...func(*wire.PartitionRecord)) Record {
	m := wire.NewPartitionRecord()
	m.TopicID, m.PartitionID, m.Leader, m.LeaderEpoch, m.PartitionEpoch = id(n), index, 1, 0, 0
	m.Replicas, m.Isr, m.Directories = []int32{1, 2}, []int32{1, 2}, []model.UUID{{15: 1}, {15: 2}}
	for _, f := range change {
		f(m)
	}
	return Record{Message: m, Version: PartitionRecordVersion}
}

func changed(n byte, index int32, change func(*wire.PartitionChangeRecord)) Record {
	m := wire.NewPartitionChangeRecord()
	m.TopicID, m.PartitionID = id(n), index
	change(m)
	return Record{Message: m, Version: 2}
}

func removed(n byte) Record {
	m := wire.NewRemoveTopicRecord()
	m.TopicID = id(n)
	return Record{Message: m}
}

func broker(n int32) Record {
	m := wire.NewRegisterBrokerRecord()
	rack := "rack"
	m.BrokerID, m.BrokerEpoch, m.Rack, m.Fenced, m.LogDirs = n, 7, &rack, true, []model.UUID{{15: 1}}
	m.EndPoints = append(m.EndPoints, wire.RegisterBrokerRecordBrokerEndpoint{Name: "PLAINTEXT", Host: "host", Port: 9092})
	return Record{Message: m, Version: RegisterBrokerVersion}
}

func begin() Record { return Record{Message: wire.NewBeginTransactionRecord()} }
func end() Record   { return Record{Message: wire.NewEndTransactionRecord()} }
func abort() Record { return Record{Message: wire.NewAbortTransactionRecord()} }

// tell describes an image in one line for each thing in it.
func tell(i *Image) (out []string) {
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	say("count %d pid %d features %v", i.PartitionCount(), i.NextProducerID(), i.Features())
	for _, b := range i.Brokers() {
		rack := ""
		if b.Rack != nil {
			rack = *b.Rack
		}
		say("broker %d epoch %d %v rack %q fenced %v stopping %v dirs %v", b.ID, b.Epoch, b.Endpoints, rack, b.Fenced, b.Stopping, b.Directories)
	}
	i.Topics("", func(t *Topic) bool {
		say("topic %s %s", t.Name, t.ID)
		for n, p := range t.Partitions {
			c := *p
			c.Created = 0
			say("%s-%d %+v", t.Name, n, c)
		}
		return true
	})
	i.configs.Ascend(func(c *configs) bool {
		say("config %v %v", c.resource, c.values)
		return true
	})
	i.Quotas(func(q *Quota) bool {
		say("quota %+v %v", q.Entity, q.Values)
		return true
	})
	for _, r := range i.others {
		say("other %T %+v", r.Message, r.Message)
	}
	return out
}

func apply(t *testing.T, records ...Record) *Image {
	t.Helper()
	k := NewTracker(Empty())
	if _, err := k.Apply(0, records); err != nil {
		t.Fatal(err)
	}
	return k.Image()
}

// Each record changes what it should.
func TestRecords(t *testing.T) {
	f := func(name string, want any, get func(*Image) any, records ...Record) {
		t.Helper()
		if diff := cmp.Diff(want, get(apply(t, records...))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	first := func(i *Image) *Partition { return i.TopicByID(id(1)).Partitions[0] }
	f("topic", "a", func(i *Image) any { return i.TopicByID(id(1)).Name }, topic("a", 1))
	f("partition count", 2, func(i *Image) any { return i.PartitionCount() }, topic("a", 1), part(1, 0), part(1, 1))
	f("partition replaced", 1, func(i *Image) any { return i.PartitionCount() }, topic("a", 1), part(1, 0), part(1, 0))
	f("removed", 0, func(i *Image) any { return i.TopicCount() + i.PartitionCount() }, topic("a", 1), part(1, 0), removed(1))
	f("leader stays", []any{model.NodeID(1), model.Epoch(0), int32(1)}, func(i *Image) any {
		p := first(i)
		return []any{p.Leader, p.LeaderEpoch, p.PartitionEpoch}
	}, topic("a", 1), part(1, 0), changed(1, 0, func(m *wire.PartitionChangeRecord) { m.Isr = []int32{1} }))
	f("no leader", []any{model.NoNode, model.Epoch(1)}, func(i *Image) any { return []any{first(i).Leader, first(i).LeaderEpoch} },
		topic("a", 1), part(1, 0), changed(1, 0, func(m *wire.PartitionChangeRecord) { m.Leader = -1 }))
	f("same leader anew", model.Epoch(1), func(i *Image) any { return first(i).LeaderEpoch },
		topic("a", 1), part(1, 0), changed(1, 0, func(m *wire.PartitionChangeRecord) { m.Leader = 1 }))
	f("replicas move", []model.UUID{{15: 2}, {}}, func(i *Image) any { return first(i).Directories },
		topic("a", 1), part(1, 0), changed(1, 0, func(m *wire.PartitionChangeRecord) { m.Replicas = []int32{2, 3} }))
	f("directories", []model.UUID{{15: 5}, {15: 6}}, func(i *Image) any { return first(i).Directories },
		topic("a", 1), part(1, 0), changed(1, 0, func(m *wire.PartitionChangeRecord) { m.Directories = []model.UUID{{15: 5}, {15: 6}} }))
	a := Resource{ResourceTopic, "a"}
	f("config set", map[string]string{"k": "v"}, func(i *Image) any { return i.Config(a) }, Record{Message: ConfigRecord(a, "k", new("v"))})
	f("config removed", map[string]string(nil), func(i *Image) any { return i.Config(a) },
		Record{Message: ConfigRecord(a, "k", new("v"))}, Record{Message: ConfigRecord(a, "k", nil)})
	f("config of a removed topic", map[string]string(nil), func(i *Image) any { return i.Config(a) },
		topic("a", 1), Record{Message: ConfigRecord(a, "k", new("v"))}, removed(1))
	f("feature", int16(3), func(i *Image) any { return i.Feature("f") }, Record{Message: FeatureRecord("f", 3)})
	f("feature off", 0, func(i *Image) any { return len(i.Features()) },
		Record{Message: FeatureRecord("f", 3)}, Record{Message: FeatureRecord("f", 0)})
	ids := wire.NewProducerIDsRecord()
	ids.NextProducerID = 1000
	f("producer ids", model.ProducerID(1000), func(i *Image) any { return i.NextProducerID() }, Record{Message: ids})
	fenced := func(i *Image) any { return i.Broker(1).Fenced }
	unfence, fence := wire.NewUnfenceBrokerRecord(), wire.NewFenceBrokerRecord()
	unfence.ID, fence.ID = 1, 1
	f("registered fenced", true, fenced, broker(1))
	f("unfenced", false, fenced, broker(1), Record{Message: unfence})
	f("fenced", true, fenced, broker(1), Record{Message: unfence}, Record{Message: fence})
	open := wire.NewBrokerRegistrationChangeRecord()
	open.BrokerID, open.Fenced, open.InControlledShutdown = 1, -1, 1
	f("broker changed", []bool{false, true}, func(i *Image) any { return []bool{i.Broker(1).Fenced, i.Broker(1).Stopping} },
		broker(1), Record{Message: open})
	gone := wire.NewUnregisterBrokerRecord()
	gone.BrokerID = 1
	f("unregistered", 0, func(i *Image) any { return len(i.Brokers()) }, broker(1), Record{Message: gone})
	elr := part(1, 0, func(m *wire.PartitionRecord) { m.EligibleLeaderReplicas, m.LastKnownElr = []int32{2}, []int32{1} })
	clear := wire.NewClearElrRecord()
	f("elr", []model.NodeID{2}, func(i *Image) any { return first(i).ELR }, topic("a", 1), elr)
	f("elr of all cleared", []model.NodeID(nil), func(i *Image) any { return append(first(i).ELR, first(i).LastKnownELR...) },
		topic("a", 1), elr, Record{Message: clear})
}

// A record that does not fit is refused, with its offset, and changes nothing.
func TestRefused(t *testing.T) {
	f := func(name string, records ...Record) {
		t.Helper()
		k := NewTracker(apply(t, topic("a", 1), part(1, 0)))
		before := tell(k.Image())
		if _, err := k.Apply(2, records); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(before, tell(k.Image())); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	f("topic twice", topic("b", 2), topic("a", 3))
	f("partition of no topic", part(9, 0))
	f("partition out of order", part(1, 2))
	f("change of no partition", changed(1, 1, func(*wire.PartitionChangeRecord) {}))
	f("removal of no topic", removed(9))
	f("fence of no broker", Record{Message: wire.NewFenceBrokerRecord()})
	f("transaction within", begin(), begin())
	f("end of none", end())
	f("abort of none", abort())
}

// Between begin and end nobody sees a change, in however many batches it comes.
func TestTransactions(t *testing.T) {
	k := NewTracker(Empty())
	f := func(name string, topics int, published, open bool, records ...Record) {
		t.Helper()
		before := k.Image()
		d, err := k.Apply(k.Image().End()+100, records)
		if err != nil || (d != nil) != published || k.Open() != open || k.Image().TopicCount() != topics {
			t.Errorf("%s: %v; published %v, open %v, %d topics", name, err, d != nil, k.Open(), k.Image().TopicCount())
		}
		if d != nil && d.From != before {
			t.Errorf("%s: the delta is not from the image before", name)
		}
	}
	f("begin", 0, false, true, begin(), topic("a", 1))
	f("more", 0, false, true, part(1, 0))
	f("end", 1, true, false, part(1, 1), end())
	f("whole", 2, true, false, begin(), topic("b", 2), end())
	f("begin again", 2, false, true, begin(), topic("c", 3))
	f("abort", 2, true, false, abort())
	f("void", 2, false, true, begin(), topic("d", 4))
	k.Abort()
	f("after a void one", 3, true, false, topic("d", 4))
}

func TestConfigsOfAType(t *testing.T) {
	i := apply(
		t,
		Record{Message: ConfigRecord(Resource{ResourceTopic, "b"}, "x", new("1"))},
		Record{Message: ConfigRecord(Resource{ResourceTopic, "a"}, "x", new("2"))},
		Record{Message: ConfigRecord(Resource{ResourceBroker, ""}, "x", new("3"))},
	)
	f := func(of ResourceType, most int, want ...string) {
		t.Helper()
		var got []string
		i.Configs(of, func(name string, values map[string]string) bool {
			got = append(got, name+"="+values["x"])
			return len(got) < most
		})
		if !slices.Equal(got, want) {
			t.Errorf("%d: %v, want %v", of, got, want)
		}
	}
	f(ResourceTopic, 9, "a=2", "b=1")
	f(ResourceTopic, 1, "a=2")
	f(ResourceBroker, 9, "=3")
	f(ResourceGroup, 9)
}

// The delta names what changed.
func TestDelta(t *testing.T) {
	k := NewTracker(apply(t, topic("a", 1), part(1, 0), topic("b", 2), part(2, 0)))
	a := Resource{ResourceTopic, "a"}
	d, err := k.Apply(10, []Record{
		begin(), removed(2), changed(1, 0, func(m *wire.PartitionChangeRecord) { m.Leader = 2 }), topic("c", 3), part(3, 0), part(3, 1),
		{Message: ConfigRecord(a, "x", new("1"))},
		{Message: ConfigRecord(a, "y", new("1"))},
		end(),
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := []model.TopicID{id(2), id(1), id(3)}; !slices.Equal(d.Topics, want) {
		t.Error(d.Topics)
	}
	if !slices.Equal(d.Configs, []Resource{a}) {
		t.Error(d.Configs)
	}
	if d.From.TopicByID(id(1)).Partitions[0].Leader != 1 || k.Image().TopicByID(id(1)).Partitions[0].Leader != 2 {
		t.Error("the image before changed")
	}
}

// A snapshot of any image gives the same image, and what is not understood is
// carried on.
func TestSnapshotRoundTrip(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		k := NewTracker(Empty())
		for range 60 {
			n := byte(1 + rng.IntN(9))
			records := []Record{topic(fmt.Sprintf("t%d", n), n)}
			switch t := k.Image().TopicByID(id(n)); rng.IntN(8) {
			case 0:
				records = []Record{broker(int32(n))}
			case 1:
				records = []Record{{Message: ConfigRecord(Resource{ResourceTopic, fmt.Sprint(n)}, fmt.Sprint(rng.IntN(3)), new("v"))}}
			case 2:
				m := wire.NewAccessControlEntryRecord()
				m.ID, m.Principal = model.UUID{15: n}, "User:x"
				records = []Record{{Message: m}}
			case 3:
				records = []Record{{Message: FeatureRecord(fmt.Sprintf("f%d", n), int16(rng.IntN(3)))}}
			case 4:
				records = []Record{anyQuota(rng)}
			default:
				switch {
				case t == nil:
				case rng.IntN(4) == 0:
					records = []Record{removed(n)}
				case len(t.Partitions) > 0 && rng.IntN(2) == 0:
					records = []Record{changed(n, 0, func(m *wire.PartitionChangeRecord) {
						m.Leader, m.LastKnownElr = int32(rng.IntN(3)-1), []int32{int32(rng.IntN(3))}
					})}
				default:
					records = []Record{part(n, int32(len(t.Partitions)))}
				}
			}
			if _, err := k.Apply(k.Image().End(), records); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		got, err := FromSnapshot(k.Image().End(), k.Image().Snapshot())
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if diff := cmp.Diff(tell(k.Image()), tell(got)); diff != "" || got.End() != k.Image().End() {
			t.Fatalf("seed %d: %s", seed, diff)
		}
	}
}

// One more topic costs the same, however many there are.
func BenchmarkApply(b *testing.B) {
	for _, topics := range []int{10, 10_000} {
		b.Run(fmt.Sprintf("topics=%d", topics), func(b *testing.B) {
			k := NewTracker(Empty())
			add := func(n int) {
				t, p := wire.NewTopicRecord(), wire.NewPartitionRecord()
				t.Name, t.TopicID = fmt.Sprint(n), model.TopicID{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}
				p.TopicID, p.PartitionID, p.Replicas, p.Isr = t.TopicID, 0, []int32{1}, []int32{1}
				if _, err := k.Apply(k.Image().End(), []Record{{Message: t}, {Message: p, Version: 2}}); err != nil {
					b.Fatal(err)
				}
			}
			for n := range topics {
				add(n)
			}
			b.ReportAllocs()
			for b.Loop() {
				add(topics)
				m := wire.NewRemoveTopicRecord()
				m.TopicID = model.TopicID{byte(topics), byte(topics >> 8), byte(topics >> 16), byte(topics >> 24)}
				if _, err := k.Apply(k.Image().End(), []Record{{Message: m}}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
