//go:build kafka

package group

import (
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

var (
	kafka = flag.String("kafka", "", "a command that starts a Kafka 4.4.0 at -kafka.address, with its arguments as properties; "+
		"after an argument \"fresh\" it has nothing in it. The scripts are played with it, too")
	kafkaAddress = flag.String("kafka.address", "127.0.0.1:19092", "where that Kafka listens")
	kafkaLog     = flag.String("kafka.log", "", "write what it wrote to this file")
	kafkaScript  = flag.String("kafka.script", "*", "the scripts to play with it")
)

// Kafka answers the scripts as the machine does, and writes the same records.
// It takes a quarter of an hour, because Kafka has a clock, and is run by hand:
// go test -tags kafka -kafka COMMAND.
func TestScriptsOnKafka(t *testing.T) {
	if *kafka == "" {
		t.Fatal("no -kafka")
	}
	files, err := filepath.Glob("testdata/" + *kafkaScript + ".script")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	var log []byte
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			theirs, ours := newPlayer(t), newPlayer(t)
			kafka := newKafkaPeer(t)
			theirs.kafka = kafka
			theirs.cluster.ids, ours.cluster.ids = kafka.ids, kafka.ids
			want := canonical(theirs.run(string(text)))
			log = append(log, kafka.bytes...)
			ours.lacks = []string{"dump", "sees"}
			if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(canonical(ours.run(string(text))), "\n")); diff != "" {
				t.Errorf("(-Kafka +machine)\n%s", diff)
			}
		})
	}
	if *kafkaLog != "" {
		if err := os.WriteFile(*kafkaLog, log, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// canonical is an output without what differs from run to run: moments, and the
// order in which maps are walked.
func canonical(out string) string {
	out = regexp.MustCompile(`(\w*Timestamp):\d+`).ReplaceAllString(out, "$1:…")
	out = regexp.MustCompile(`(regex|RegularExpression .*Version):\d+`).ReplaceAllString(out, "$1:…")
	out = regexp.MustCompile(` TransactionVersion:\d+`).ReplaceAllString(out, "")
	blocks := strings.Split(out, "\n\n")
	for i, b := range blocks {
		said, got, _ := strings.Cut(b, "----\n")
		lines := strings.Split(got, "\n")
		for j := range lines {
			lines[j] = sortLists(lines[j])
		}
		slices.Sort(lines)
		blocks[i] = said + "----\n" + strings.Join(lines, "\n")
	}
	return strings.Join(blocks, "\n\n")
}

// sortLists brings the structs in each list into an order.
func sortLists(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if !strings.HasPrefix(s[i:], "[{") {
			out.WriteByte(s[i])
			continue
		}
		var items []string
		depth, start := 0, i+1
		for i++; i < len(s) && (depth > 0 || s[i] != ']'); i++ {
			switch s[i] {
			case '{':
				if depth == 0 {
					start = i
				}
				depth++
			case '}':
				if depth--; depth == 0 {
					items = append(items, sortLists(s[start:i+1]))
				}
			}
		}
		slices.Sort(items)
		out.WriteString("[" + strings.Join(items, " ") + "]")
	}
	return out.String()
}

// kafkaPeer is a Kafka that is given what a script says. Each request has a
// connection of its own, because Kafka answers those of one in turn.
type kafkaPeer struct {
	t          *testing.T
	properties map[string]string
	ids        map[string]model.TopicID
	calls      []*kafkaCall
	read       int64 // Offset up to which the log was read.
	bytes      []byte
}

type kafkaCall struct {
	to     coordinator.Token
	answer chan any
}

func newKafkaPeer(t *testing.T) *kafkaPeer {
	k := &kafkaPeer{t: t, ids: map[string]model.TopicID{}, properties: map[string]string{
		"offsets.topic.num.partitions": "1", "group.initial.rebalance.delay.ms": "3000", "group.consumer.assignment.interval.ms": "0",
		"group.consumer.min.session.timeout.ms": "6000", "group.consumer.max.session.timeout.ms": "600000",
		"group.consumer.min.heartbeat.interval.ms": "1000", "transaction.partition.verification.enable": "false",
		"group.coordinator.append.linger.ms": "0", "group.min.session.timeout.ms": "6000",
	}}
	k.start("fresh")
	return k
}

func (k *kafkaPeer) start(how ...string) {
	k.t.Helper()
	for _, key := range sortedKeys(k.properties) {
		how = append(how, key+"="+k.properties[key])
	}
	words := strings.Fields(*kafka)
	if out, err := exec.Command(words[0], append(words[1:], how...)...).CombinedOutput(); err != nil {
		k.t.Fatalf("%v\n%s", err, out)
	}
	k.calls = nil
	find := wire.NewFindCoordinatorRequest()
	find.CoordinatorKeys = []string{"g"}
	for try := 0; ; try++ {
		list, ok := k.do("x", wire.NewListGroupsRequest(), 5).(*wire.ListGroupsResponse)
		if found := k.do("x", find, 4).(*wire.FindCoordinatorResponse); ok && list.ErrorCode == 0 && found.Coordinators[0].ErrorCode == 0 {
			break
		}
		if try > 200 {
			k.t.Fatal("Kafka does not get ready")
		}
		time.Sleep(50 * time.Millisecond)
	}
	time.Sleep(time.Second) // It loads.
}

// ask sends a request; the answer comes by the channel, if ever.
func (k *kafkaPeer) ask(client string, q wire.Request, version int16) chan any {
	conn, err := net.Dial("tcp", *kafkaAddress)
	if err != nil {
		k.t.Fatal(err)
	}
	frame, err := wire.AppendRequest(nil, wire.RequestHeader{Key: q.Key(), Version: version, CorrelationID: 1, ClientID: &client}, q)
	if err != nil {
		k.t.Fatal(err)
	}
	got := make(chan any, 1)
	go func() {
		defer conn.Close()
		if _, err := conn.Write(frame); err != nil {
			return
		}
		var size [4]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(conn, body); err != nil {
			return
		}
		r, answer := wire.NewReader(body), q.NewResponse()
		if _, err := wire.ReadResponseHeader(r, q.Key(), version); err != nil {
			got <- err
			return
		}
		if err := answer.ReadFrom(r, version); err != nil {
			got <- err
			return
		}
		got <- answer
	}()
	return got
}

// do sends a request that is answered at once.
func (k *kafkaPeer) do(client string, q wire.Request, version int16) any {
	k.t.Helper()
	select {
	case a := <-k.ask(client, q, version):
		if err, ok := a.(error); ok {
			k.t.Fatal(err)
		}
		return a
	case <-time.After(10 * time.Second):
		k.t.Fatalf("%T is not answered", q)
		return nil
	}
}

// give hands an input over, and gives Kafka time to do what follows.
func (k *kafkaPeer) give(p *player, in any) {
	p.token++
	to := p.token
	var got chan any
	switch in := in.(type) {
	case Request:
		got = k.ask(in.ClientID, in.Body, in.Version)
	case Marker:
		got = k.mark(in)
	}
	k.calls = append(k.calls, &kafkaCall{to, got})
	select {
	case a := <-got:
		got <- a
	case <-time.After(300 * time.Millisecond):
	}
	time.Sleep(50 * time.Millisecond)
	k.collect(p)
}

// mark ends a transaction.
func (k *kafkaPeer) mark(in Marker) chan any {
	q := wire.NewWriteTxnMarkersRequest()
	m := wire.Extend(&q.Markers)
	m.ProducerID, m.ProducerEpoch, m.TransactionResult = int64(in.Producer.ID), in.Producer.Epoch, in.Committed
	m.CoordinatorEpoch, m.TransactionVersion = in.CoordinatorEpoch, int8(in.TransactionVersion)
	m.Topics = []wire.WriteTxnMarkersRequestWritableTxnMarkerTopic{{Name: "__consumer_offsets", PartitionIndexes: []int32{0}}}
	r := k.do("x", q, 2).(*wire.WriteTxnMarkersResponse)
	got := make(chan any, 1)
	got <- wire.ErrorCode(r.Markers[0].Topics[0].Partitions[0].ErrorCode)
	return got
}

// collect takes what Kafka has answered and written by now.
func (k *kafkaPeer) collect(p *player) {
	k.calls = slices.DeleteFunc(k.calls, func(c *kafkaCall) bool {
		select {
		case a := <-c.answer:
			p.answers[c.to] = a
			return true
		default:
			return false
		}
	})
	q := wire.NewFetchRequest()
	q.MaxBytes, q.SessionEpoch = math.MaxInt32, -1
	t := wire.Extend(&q.Topics)
	t.Topic = "__consumer_offsets"
	x := wire.Extend(&t.Partitions)
	x.FetchOffset, x.PartitionMaxBytes = k.read, math.MaxInt32
	rest := k.do("x", q, 12).(*wire.FetchResponse).Responses[0].Partitions[0].Records
	for len(rest) > 0 {
		b, after, err := record.Next(rest)
		if err != nil {
			k.t.Fatal(err)
		}
		k.bytes = append(k.bytes, rest[:len(rest)-len(after)]...)
		rest = after
		k.read = int64(b.LastOffset()) + 1
		p.log = append(p.log, logOfBatch(k.t, b))
	}
}

// logOfBatch is a batch as it was written.
func logOfBatch(t testing.TB, b record.Batch) logged {
	l := logged{at: b.MaxTimestamp()}
	if b.IsTransactional() {
		l.producer = &record.Producer{ID: b.ProducerID(), Epoch: b.ProducerEpoch()}
	}
	if b.IsControl() {
		c, err := b.Control()
		if err != nil {
			t.Fatal(err)
		}
		l.marker = &coordinator.Marker{Committed: c.Type == record.Commit, CoordinatorEpoch: c.CoordinatorEpoch}
		return l
	}
	for r, err := range b.Records(0) {
		if err != nil {
			t.Fatal(err)
		}
		l.records = append(l.records, coordinator.Record{Key: slices.Clone(r.Key), Value: slices.Clone(r.Value)})
	}
	return l
}

// play does what has to do with the cluster and with time, and reports whether
// that was it.
func (k *kafkaPeer) play(p *player, verb, name string, a args) bool {
	switch verb {
	case "topic":
		k.grow(p, name, int32(a.num("partitions", 1)))
	case "delete-topic":
		q := wire.NewDeleteTopicsRequest()
		q.TopicNames, q.TimeoutMs = []string{name}, 10_000
		k.do("x", q, 5)
		p.news(p.cluster.remove(name))
		time.Sleep(300 * time.Millisecond)
	case "config":
		k.configure(metadata.ResourceGroup, name, a["key"], a["value"])
	case "set":
		k.set(a)
	case "failover":
		k.start()
		clear(p.parked)
	case "wait":
		d, err := time.ParseDuration(name)
		if err != nil {
			k.t.Fatal(err)
		}
		if d > 10*time.Minute {
			k.t.Skipf("%v is too long", d)
		}
		p.now = p.now.Add(d)
		time.Sleep(d + 200*time.Millisecond)
		k.collect(p)
	case "dump":
	default:
		return a["sees"] != ""
	}
	return true
}

func (k *kafkaPeer) grow(p *player, name string, partitions int32) {
	if _, ok := k.ids[name]; !ok {
		q := wire.NewCreateTopicsRequest()
		q.TimeoutMs = 10_000
		t := wire.Extend(&q.Topics)
		t.Name, t.NumPartitions, t.ReplicationFactor = name, partitions, 1
		r := k.do("x", q, 7).(*wire.CreateTopicsResponse).Topics[0]
		if r.ErrorCode != 0 {
			k.t.Fatal(show(r))
		}
		k.ids[name] = r.TopicID
		topicNumbers[r.TopicID] = p.cluster.made + 1
	} else {
		q := wire.NewCreatePartitionsRequest()
		q.TimeoutMs = 10_000
		q.Topics = []wire.CreatePartitionsRequestCreatePartitionsTopic{{Name: name, Count: partitions}}
		if r := k.do("x", q, 3).(*wire.CreatePartitionsResponse).Results[0]; r.ErrorCode != 0 {
			k.t.Fatal(show(r))
		}
	}
	p.news(p.cluster.grow(name, int(partitions)))
	time.Sleep(300 * time.Millisecond)
}

func (k *kafkaPeer) configure(kind metadata.ResourceType, name, key, value string) {
	q := wire.NewIncrementalAlterConfigsRequest()
	x := wire.Extend(&q.Resources)
	x.ResourceType, x.ResourceName = int8(kind), name
	x.Configs = []wire.IncrementalAlterConfigsRequestAlterableConfig{{Name: key, Value: &value}}
	if r := k.do("x", q, 1).(*wire.IncrementalAlterConfigsResponse).Responses[0]; r.ErrorCode != 0 {
		k.t.Fatal(show(r))
	}
	time.Sleep(300 * time.Millisecond)
}

// set changes settings. Most of Kafka's need another start.
func (k *kafkaPeer) set(a args) {
	millis := func(text string) string {
		d, err := time.ParseDuration(text)
		if err != nil {
			k.t.Fatal(err)
		}
		return fmt.Sprint(d.Milliseconds())
	}
	for key, v := range a {
		switch key {
		case "max-size":
			k.properties["group.max.size"] = v
		case "consumer-max-size":
			k.properties["group.consumer.max.size"] = v
		case "delay":
			k.properties["group.initial.rebalance.delay.ms"] = millis(v)
		case "policy":
			k.properties["group.consumer.migration.policy"] = v
		case "interval":
			k.properties["group.consumer.assignment.interval.ms"] = millis(v)
		case "protocols":
			k.properties["group.coordinator.rebalance.protocols"] = v
		default:
			k.t.Fatalf("set %s", key)
		}
	}
	k.start()
}
