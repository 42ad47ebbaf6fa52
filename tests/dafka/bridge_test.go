package dafka

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/barnabas-log/barnabas/dafka"
	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/zmtp"
	"github.com/barnabas-log/barnabas/tests/kafka"
	"github.com/barnabas-log/barnabas/tests/node"
)

// bridged is a mesh with a broker in it.
type bridged struct {
	*mesh
	node  *node.Node
	admin *kadm.Client
}

func newBridged(t *testing.T, options ...string) *bridged {
	m := newMesh(t)
	b := &bridged{mesh: m, node: node.Start(t, append([]string{"dafka.enable=true", "dafka.config=" + m.file()}, options...)...)}
	b.admin = kadm.NewClient(b.client())
	return b
}

// file is the configuration of this mesh as a broker reads it.
func (m *mesh) file() string {
	name := filepath.Join(m.TempDir(), "mesh.zpl")
	b := &m.config.Beacon
	text := fmt.Sprintf("beacon\n    sub_address = %q\n    pub_address = %q\n    bind = \"tcp://127.0.0.1:*\"\n    address = \"127.0.0.1\"\n    interval = 50\n"+
		"producer\n    head_interval = 100\n", strings.Join(b.Sub, ","), strings.Join(b.Pub, ","))
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		m.Fatal(err)
	}
	return name
}

func (b *bridged) client(options ...kgo.Opt) *kgo.Client {
	b.Helper()
	c, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(b.node.Addr), kgo.MetadataMinAge(1e7)}, options...)...)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	return c
}

// producers are the addresses of a topic's Dafka producers, as its description
// says.
func (b *bridged) producers(topic string) []string {
	b.Helper()
	configs, err := b.admin.DescribeTopicConfigs(patiently(b.T), topic)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range configs[0].Configs {
		if c.Key == "dafka.producers" && c.MaybeValue() != "" {
			return strings.Split(c.MaybeValue(), ",")
		}
	}
	return nil
}

// described are the addresses that topic describe shows, by partition.
func (b *bridged) described(topic string) (all []string) {
	b.Helper()
	out, err := exec.Command(node.Binary(b.T), "topic", "describe", topic, "-b", b.node.Addr, "--json").Output()
	if err != nil {
		b.Fatal(err)
	}
	var d struct {
		Partitions []struct{ DafkaProducer string }
	}
	if err := json.Unmarshal(out, &d); err != nil {
		b.Fatal(err)
	}
	for _, p := range d.Partitions {
		all = append(all, p.DafkaProducer)
	}
	return all
}

// expectInKafka reads the records of a producer's as Kafka's consumers do, and no
// others.
func (b *bridged) expectInKafka(p *dafka.Producer, partition int32, n int) {
	b.Helper()
	start := map[string]map[int32]kgo.Offset{p.Topic(): {partition: kgo.NewOffset().AtStart()}}
	c := b.client(kgo.ConsumePartitions(start))
	defer c.Close()
	ctx := patiently(b.T)
	for next := 0; next < n; {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			b.Fatalf("after %d records: %v", next, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if r.Offset != int64(next) || r.Key != nil || string(r.Value) != string(content(p, next)) || len(r.Headers) > 0 {
				b.Fatalf("record %d is %+v", next, r)
			}
			next++
		})
	}
	ends, err := kadm.NewClient(c).ListEndOffsets(ctx, p.Topic())
	if err != nil {
		b.Fatal(err)
	}
	if end, _ := ends.Lookup(p.Topic(), partition); end.Offset != int64(n) {
		b.Errorf("partition %d ends at %d, want %d", partition, end.Offset, n)
	}
}

// flush waits until the broker has acknowledged everything.
func (b *bridged) flush(p *dafka.Producer) {
	b.Helper()
	if err := p.Flush(patiently(b.T)); err != nil {
		b.Fatal(err)
	}
}

// TestBridge: what Dafka producers publish is in Kafka's topics, each producer in
// a partition of its own, which it keeps whatever becomes of the broker.
func TestBridge(t *testing.T) {
	b := newBridged(t)
	first := b.producer("letters")
	b.publish(first, 0, 1000)
	b.flush(first)
	b.expectInKafka(first, 0, 1000)

	second := b.producer("letters")
	b.publish(second, 0, 10)
	b.flush(second)
	other := b.producer("parcels")
	b.publish(other, 0, 10)
	b.flush(other)
	if got, want := b.producers("letters"), []string{first.Address(), second.Address()}; !slices.Equal(got, want) {
		t.Errorf("letters has the producers %v, want %v", got, want)
	}
	if got, want := b.described("letters"), []string{first.Address(), second.Address()}; !slices.Equal(got, want) {
		t.Errorf("letters is described with %v, want %v", got, want)
	}
	b.expectInKafka(second, 1, 10)
	b.expectInKafka(other, 0, 10)

	b.node.Stop()
	b.publish(first, 1000, 500)
	b.node.Again()
	b.flush(first)
	b.publish(second, 10, 5000)
	b.node.Kill()
	b.publish(second, 5010, 100)
	third := b.producer("letters")
	b.publish(third, 0, 7)
	b.node.Again()
	b.flush(second)
	b.flush(third)
	if got, want := b.producers("letters"), []string{first.Address(), second.Address(), third.Address()}; !slices.Equal(got, want) {
		t.Errorf("letters has the producers %v, want %v", got, want)
	}
	b.expectInKafka(first, 0, 1500)
	b.expectInKafka(second, 1, 5110)
	b.expectInKafka(third, 2, 7)

	// Its consumers find all of it, though the producers keep nothing any more.
	for _, p := range []*dafka.Producer{first, second, third, other} {
		if err := p.Close(patiently(t)); err != nil {
			t.Error(err)
		}
	}
	b.expect(b.consumer("parcels"), other, 0, 10)
	c := b.consumer("letters")
	got := map[string]uint64{}
	for range 1500 + 5110 + 7 {
		r, err := c.Next(patiently(t))
		if err != nil {
			t.Fatal(err, got)
		}
		if r.Sequence != got[r.Producer] {
			t.Fatalf("%s comes after %d records", r.Content, got[r.Producer])
		}
		got[r.Producer]++
	}
}

// TestBridgedTopicIsClosed: Kafka producers cannot write to the topic of Dafka
// producers, nor change whose partition is whose; what is deleted begins anew.
func TestBridgedTopicIsClosed(t *testing.T) {
	b := newBridged(t)
	p := b.producer("letters")
	b.publish(p, 0, 10)
	b.flush(p)

	c := b.client(kgo.TransactionalID("t"))
	plain := b.client()
	if err := plain.ProduceSync(patiently(t), &kgo.Record{Topic: "letters", Value: []byte("x")}).FirstErr(); !errors.Is(err, kerr.PolicyViolation) {
		t.Errorf("a Kafka producer: %v", err)
	}
	if err := c.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := c.ProduceSync(patiently(t), &kgo.Record{Topic: "letters", Value: []byte("x")}).FirstErr(); !errors.Is(err, kerr.PolicyViolation) {
		t.Errorf("a transaction: %v", err)
	}
	if err := c.EndTransaction(patiently(t), kgo.TryAbort); err != nil {
		t.Errorf("the transaction cannot end: %v", err)
	}
	altered, err := b.admin.AlterTopicConfigs(patiently(t), []kadm.AlterConfig{{Name: "dafka.producers", Value: kadm.StringPtr("A")}}, "letters")
	if err != nil || !errors.Is(altered[0].Err, kerr.InvalidConfig) {
		t.Errorf("the producers were altered: %v, %v", altered, err)
	}
	b.publish(p, 10, 5)
	b.flush(p)
	b.expectInKafka(p, 0, 15)

	// The records of a topic that is deleted are gone, and it is not made again for
	// those who publish nothing more.
	if err := p.Close(patiently(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.admin.DeleteTopic(patiently(t), "letters"); err != nil {
		t.Fatal(err)
	}
	again := b.producer("letters")
	b.publish(again, 0, 3)
	b.flush(again)
	// The last HEAD of p may come late, and give it a partition again.
	at := slices.Index(b.producers("letters"), again.Address())
	b.expectInKafka(again, int32(at), 3)
}

// TestBridgedTopicsThatExist: Dafka producers get no topic of Kafka's.
func TestBridgedTopicsThatExist(t *testing.T) {
	b := newBridged(t, "dafka.max.partitions=2")
	if _, err := b.admin.CreateTopic(patiently(t), 1, 1, nil, "orders"); err != nil {
		t.Fatal(err)
	}
	var refused []*dafka.Producer
	for _, topic := range []string{"orders", "__consumer_offsets", "no topic", "letters", "letters", "letters"} {
		p := b.producer(topic)
		b.publish(p, 0, 1)
		if topic == "letters" && len(refused) < 5 {
			b.flush(p)
		}
		refused = append(refused, p)
	}
	b.await("all are refused", func() bool { return len(b.producers("letters")) == 2 })
	topics, err := b.admin.ListTopics(patiently(t))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := topics.Names(), []string{"letters", "orders"}; !slices.Equal(got, want) {
		t.Errorf("topics are %v, want %v", got, want)
	}
	ends, err := b.admin.ListEndOffsets(patiently(t), "orders")
	if err != nil {
		t.Fatal(err)
	}
	if end, _ := ends.Lookup("orders", 0); end.Offset != 0 {
		t.Errorf("orders ends at %d", end.Offset)
	}
	for _, i := range []int{0, 1, 2, 5} {
		if n, _ := refused[i].Unacked(); n != 1 {
			t.Errorf("a record on %s was acknowledged", refused[i].Topic())
		}
	}
}

// TestMostPartitions: a producer beyond dafka.max.partitions is refused, those
// that came before are not.
func TestMostPartitions(t *testing.T) {
	port, err := kafka.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	at := fmt.Sprintf("127.0.0.1:%d", port)
	b := newBridged(t, "dafka.max.partitions=2", "http.listen="+at)
	for range 2 {
		p := b.producer("letters")
		b.publish(p, 0, 1)
		b.flush(p)
	}
	third := b.producer("letters")
	b.publish(third, 0, 1)
	b.await("the third one is refused", func() bool {
		r, err := http.Get("http://" + at + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		page, err := io.ReadAll(r.Body)
		return err == nil && !strings.Contains(string(page), "\nbarnabas_bridge_refused_messages_total 0\n")
	})
	if n, _ := third.Unacked(); n != 1 || len(b.producers("letters")) != 2 {
		t.Errorf("%d records of the third one wait, %v", n, b.producers("letters"))
	}
}

// TestPublishedTopic: Dafka consumers get the committed records of Kafka's topics,
// with an empty one where there is nothing for them.
func TestPublishedTopic(t *testing.T) {
	b := newBridged(t)
	plain, c := b.client(), b.client(kgo.TransactionalID("t"))
	if _, err := b.admin.CreateTopic(patiently(t), 1, 1, map[string]*string{"dafka.publish": kadm.StringPtr("true")}, "orders"); err != nil {
		t.Fatal(err)
	}
	early := b.consumer("orders")
	produce(t, plain, "a", "b")
	transaction(t, c, kgo.TryCommit, "c", "d")
	transaction(t, c, kgo.TryAbort, "e")
	b.await("the marker is written", func() bool {
		ends, err := b.admin.ListCommittedOffsets(patiently(t), "orders")
		end, _ := ends.Lookup("orders", 0)
		return err == nil && end.Offset == 7
	})
	produce(t, plain, "f")
	want := []string{"a", "b", "c", "d", "", "", "", "f"}
	address := b.expectContents(early, 0, want...)

	b.node.Stop()
	b.node.Again()
	produce(t, plain, "g")
	b.expectContents(early, 8, "g")
	b.node.Kill()
	b.node.Again()
	produce(t, plain, "h")
	b.expectContents(early, 9, "h")
	late := b.consumer("orders")
	if again := b.expectContents(late, 0, append(want, "g", "h")...); again != address {
		t.Errorf("the producer was %s and is %s", address, again)
	}

	if got := b.described("orders"); !slices.Equal(got, []string{address}) {
		t.Errorf("orders is described with %v, want %s", got, address)
	}

	// Nothing is published of what is not meant to be.
	if _, err := b.admin.AlterTopicConfigs(patiently(t), []kadm.AlterConfig{{Name: "dafka.publish", Value: kadm.StringPtr("false")}}, "orders"); err != nil {
		t.Fatal(err)
	}
	produce(t, plain, "i")
	p := b.producer("others")
	b.publish(p, 0, 1)
	b.flush(p)
	for _, s := range []*dafka.Consumer{early, late} {
		if lag := s.Lag(); len(lag) > 0 {
			t.Errorf("something is published still: %v", lag)
		}
	}
}

func produce(t *testing.T, c *kgo.Client, values ...string) {
	t.Helper()
	for _, v := range values {
		if err := c.ProduceSync(patiently(t), &kgo.Record{Topic: "orders", Key: []byte("key"), Value: []byte(v)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

func transaction(t *testing.T, c *kgo.Client, end kgo.TransactionEndTry, values ...string) {
	t.Helper()
	if err := c.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	produce(t, c, values...)
	if err := c.EndTransaction(patiently(t), end); err != nil {
		t.Fatal(err)
	}
}

// expectContents consumes records of one producer's with these contents, and
// returns its address.
func (b *bridged) expectContents(c *dafka.Consumer, first int, want ...string) (address string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	for i, w := range want {
		r, err := c.Next(ctx)
		if err != nil {
			b.Fatalf("record %d: %v, lag %v", first+i, err, c.Lag())
		}
		if r.Sequence != uint64(first+i) || string(r.Content) != w || address != "" && r.Producer != address {
			b.Fatalf("record %d is %+v, want %q", first+i, r, w)
		}
		address = r.Producer
	}
	return address
}

// TestBridgeKilled: whatever becomes of the broker while producers publish, each
// record is in Kafka once, at the offset that is its sequence.
func TestBridgeKilled(t *testing.T) {
	b := newBridged(t)
	const each = 20_000
	var producers []*dafka.Producer
	var publishing sync.WaitGroup
	ctx := patiently(t)
	for i := range 3 {
		p := b.producer(fmt.Sprintf("topic-%d", i/2))
		producers = append(producers, p)
		publishing.Go(func() {
			for i := range each {
				if _, err := p.Publish(ctx, content(p, i)); err != nil {
					t.Error(err)
					return
				}
				if n, _ := p.Unacked(); n > 2000 { // So that kills meet records on their way.
					if err := p.Flush(ctx); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	for round := range rounds(3) {
		stored := uint64(min(each, 2000*(round+1)))
		b.await("records are stored", func() bool { return b.end(producers[0]) >= stored })
		b.node.Kill()
		b.node.Again()
	}
	publishing.Wait()
	for _, p := range producers {
		b.flush(p)
		b.expectInKafka(p, int32(slices.Index(b.producers(p.Topic()), p.Address())), each)
	}
}

// end is how many records of a producer's the broker has.
func (b *bridged) end(p *dafka.Producer) uint64 {
	ends, err := b.admin.ListEndOffsets(patiently(b.T), p.Topic())
	if err != nil {
		b.Fatal(err)
	}
	partition := slices.Index(b.producers(p.Topic()), p.Address())
	end, _ := ends.Lookup(p.Topic(), int32(partition))
	return uint64(max(0, end.Offset))
}

// TestBridgedRecordsDeleted: what is deleted in Kafka is gone for Dafka consumers,
// who are told.
func TestBridgedRecordsDeleted(t *testing.T) {
	b := newBridged(t)
	p := b.producer("letters")
	b.publish(p, 0, 100)
	b.flush(p)
	var upTo kadm.Offsets
	upTo.AddOffset("letters", 0, 60, -1)
	deleted, err := b.admin.DeleteRecords(patiently(t), upTo)
	if err != nil || deleted.Error() != nil {
		t.Fatal(err, deleted.Error())
	}
	b.publish(p, 100, 10)
	b.flush(p)
	var skipped []dafka.Skipped
	var mu sync.Mutex
	c, err := dafka.NewConsumer(dafka.ConsumerOptions{Config: &b.config, Skipped: func(s dafka.Skipped) {
		mu.Lock()
		defer mu.Unlock()
		skipped = append(skipped, s)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(ended()) })
	if err := c.Subscribe("letters"); err != nil {
		t.Fatal(err)
	}
	b.expect(c, p, 60, 50)
	mu.Lock()
	defer mu.Unlock()
	if len(skipped) != 1 || skipped[0].From != 0 || skipped[0].To != 60 {
		t.Errorf("told of %v", skipped)
	}
}

// TestBridgedSizes: empty and large records are what they were.
func TestBridgedSizes(t *testing.T) {
	b := newBridged(t)
	p := b.producer("sizes")
	sizes := []int{0, 1, 4 << 10, 4<<10 + 1, 1 << 20, 0, 8 << 20, 3}
	for i, n := range sizes {
		if _, err := p.Publish(patiently(t), bytes.Repeat([]byte{byte(i)}, n)); err != nil {
			t.Fatal(err)
		}
	}
	b.flush(p)
	k := b.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"sizes": {0: kgo.NewOffset().AtStart()}}), kgo.FetchMaxPartitionBytes(16<<20))
	var records []*kgo.Record
	for len(records) < len(sizes) {
		fetches := k.PollFetches(patiently(t))
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		records = append(records, fetches.Records()...)
	}
	c := b.consumer("sizes")
	if err := p.Close(patiently(t)); err != nil {
		t.Fatal(err)
	}
	for i, n := range sizes {
		r, err := c.Next(patiently(t))
		if err != nil {
			t.Fatal(err)
		}
		want := bytes.Repeat([]byte{byte(i)}, n)
		if !bytes.Equal(r.Content, want) || !bytes.Equal(records[i].Value, want) || records[i].Value == nil || records[i].Offset != int64(i) {
			t.Errorf("record %d has %d bytes for Dafka, %d for Kafka at %d; want %d", i, len(r.Content), len(records[i].Value), records[i].Offset, n)
		}
	}
}

// TestBridgedFirstRecords: nothing is dropped of what a new producer publishes
// while it is given a partition: C's producers cannot be asked for it.
func TestBridgedFirstRecords(t *testing.T) {
	b := newBridged(t)
	x := b.stranger() // It answers nobody.
	x.heard("M")
	var all []zmtp.Message
	for i := range uint64(3000) {
		for _, topic := range []string{"letters", "parcels"} {
			m := fabric.Message{Kind: fabric.Record, Topic: []byte(topic), Address: []byte("X"), Subject: []byte(topic), Sequence: i}
			all = append(all, zmtp.Message{fabric.Append(nil, &m), fmt.Appendf(nil, "%d", i)})
		}
	}
	if _, err := x.publisher.SendWait(patiently(t), all); err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{"letters", "parcels"} {
		b.await("all is stored", func() bool { return len(b.producers(topic)) == 1 })
		c := b.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
		for next := int64(0); next < 3000; {
			fetches := c.PollFetches(patiently(t))
			if err := fetches.Err(); err != nil {
				t.Fatalf("%s: %d records: %v", topic, next, err)
			}
			fetches.EachRecord(func(r *kgo.Record) {
				if r.Offset != next || string(r.Value) != strconv.FormatInt(next, 10) {
					t.Fatalf("record %d is %+v", next, r)
				}
				next++
			})
		}
	}
}

// TestBridgeStrangers: who floods the broker with names gets no more than there
// is, and disturbs nobody.
func TestBridgeStrangers(t *testing.T) {
	b := newBridged(t, "dafka.max.partitions=20")
	p := b.producer("letters")
	b.publish(p, 0, 10)
	b.flush(p)
	x := b.stranger()
	x.heard("M", "H")
	names := []string{"bad name %d", "__internal%d", "good-%d", "letters", strings.Repeat("long", 60) + "%d"}
	for i := range 3000 {
		for _, name := range names {
			if strings.Contains(name, "%") {
				name = fmt.Sprintf(name, i)
			}
			m := fabric.Message{Kind: fabric.Head, Topic: []byte(name), Address: fmt.Appendf(nil, "X%d", i), Subject: []byte(name), Sequence: 5}
			x.publisher.Send(fabric.Append(nil, &m))
			x.publisher.Send([]byte("M\x00\x07"))
		}
	}
	b.await("all partitions are given", func() bool {
		topics, err := b.admin.ListTopics(patiently(t))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, d := range topics {
			n += len(d.Partitions)
			if !strings.HasPrefix(d.Topic, "good-") && d.Topic != "letters" && !strings.HasPrefix(d.Topic, "long") {
				t.Fatalf("there is a topic %s", d.Topic)
			}
		}
		if n > 20 {
			t.Fatalf("there are %d partitions", n)
		}
		return n == 20
	})
	b.publish(p, 10, 1000)
	b.flush(p)
	b.expectInKafka(p, 0, 1010)
}

// TestPublishedKilled: a Dafka consumer that stays gets every record of a topic
// once, in order, whatever becomes of the broker meanwhile.
func TestPublishedKilled(t *testing.T) {
	b := newBridged(t)
	c := b.client(kgo.DefaultProduceTopic("orders"), kgo.ProducerLinger(time.Millisecond))
	if _, err := b.admin.CreateTopic(patiently(t), 1, 1, map[string]*string{"dafka.publish": kadm.StringPtr("true")}, "orders"); err != nil {
		t.Fatal(err)
	}
	const all = 30_000
	var producing sync.WaitGroup
	producing.Go(func() {
		ctx := patiently(t)
		for i := range all {
			c.Produce(ctx, kgo.StringRecord(strconv.Itoa(i)), func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
			if i%1000 == 0 || i == all-1 {
				if err := c.Flush(ctx); err != nil {
					t.Error(err)
				}
			}
		}
	})
	defer producing.Wait()
	consumer := b.consumer("orders")
	kills := rounds(3)
	for i := range all {
		r, err := consumer.Next(patiently(t))
		if err != nil {
			t.Fatalf("record %d: %v, lag %v", i, err, consumer.Lag())
		}
		if r.Sequence != uint64(i) || string(r.Content) != strconv.Itoa(i) {
			t.Fatalf("record %d is %+v", i, r)
		}
		if i%(all/(kills+1)) == 999 {
			b.node.Kill()
			b.node.Again()
		}
	}
}
