package group

import (
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

var rewrite = flag.Bool("rewrite", false, "rewrite the outputs in testdata/*.script")

// Scripts are blocks of commands, a line "----", and what they printed; a blank
// line ends a block. Lines with # are comments. A client has a name, and
// remembers what it was told: its member id, its generation or epoch.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.script")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, name := range files {
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			got := newPlayer(t).run(string(text))
			if *rewrite {
				if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(text), got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func newPlayer(t *testing.T) *player {
	return &player{t: t, stage: newStage(Options{Settings: quick()}), clients: map[string]*client{}, parked: map[coordinator.Token]asker{}}
}

func (p *player) run(text string) string {
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimSuffix(text, "\n"), "\n\n") {
		if i > 0 {
			out.WriteString("\n")
		}
		said := false
		for line := range strings.Lines(block) {
			if line = strings.TrimSpace(line); line == "----" {
				break
			}
			out.WriteString(line + "\n")
			if !strings.HasPrefix(line, "#") {
				said = true
				p.play(line)
			}
		}
		if said {
			out.WriteString("----\n" + p.take())
		}
	}
	return out.String()
}

// client is somebody who talks to the machine.
type client struct {
	name, id   string
	group      string
	generation int32
	instance   string
	protocol   string
}

// asker is a client that asked in a version.
type asker struct {
	name    string
	version int16
}

// peer is a broker that plays a script instead of the machine: see kafka_test.go.
type peer interface {
	give(p *player, in any)
	// play does what has to do with the cluster and with time, and reports whether
	// that was it.
	play(p *player, verb, name string, a args) bool
}

// player plays a script.
type player struct {
	*stage
	t       *testing.T
	clients map[string]*client
	parked  map[coordinator.Token]asker // Who waits.
	kafka   peer                        // Nil if a machine is played with.
	out     strings.Builder
	hide    bool     // Records are not shown.
	lacks   []string // Commands and arguments of the machine alone, which are left out.
}

// args are the key=value words of a command; a word alone is "true".
type args map[string]string

func (a args) num(key string, otherwise int64) int64 {
	v, ok := a[key]
	if !ok {
		return otherwise
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		panic(key + "=" + v)
	}
	return n
}

func (a args) text(key, otherwise string) string {
	if v, ok := a[key]; ok {
		return v
	}
	return otherwise
}

// maybe is null without the key.
func (a args) maybe(key string) *string {
	if v, ok := a[key]; ok {
		return &v
	}
	return nil
}

func (a args) list(key string) []string {
	if a[key] == "" {
		return nil
	}
	return strings.Split(a[key], ",")
}

// take returns what was said, with names in the place of ids.
func (p *player) take() string {
	text := p.out.String()
	p.out.Reset()
	for _, c := range p.clients {
		if c.id != "" && c.id != c.name {
			text = strings.ReplaceAll(text, c.id, "$"+c.name)
		}
	}
	return text
}

func (p *player) say(format string, args ...any) { fmt.Fprintf(&p.out, format+"\n", args...) }

// flush shows new records and answers.
func (p *player) flush() {
	for ; p.fresh < len(p.log); p.fresh++ {
		l := p.log[p.fresh]
		if p.hide {
			continue
		}
		if l.marker != nil {
			p.say("  marker %+v of %d at epoch %d", *l.marker, l.producer.ID, l.producer.Epoch)
		}
		for _, r := range l.records {
			p.say("  %s", showRecord(r))
		}
	}
	for to := coordinator.Token(1); to <= p.token; to++ {
		if a, ok := p.answers[to]; ok {
			delete(p.answers, to)
			p.answered(p.parked[to], a)
			delete(p.parked, to)
		}
	}
}

// received is an answer as it is read at the other end.
func (p *player) received(a any, version int16) any {
	r, ok := a.(wire.Response)
	if !ok {
		return a
	}
	b, err := r.AppendTo(nil, version)
	if err != nil {
		p.t.Fatal(err)
	}
	api, _ := wire.LookupAPI(r.Key())
	again := api.NewRequest().NewResponse()
	if err := wire.ReadExactly(wire.NewReader(b), again, version); err != nil {
		p.t.Fatal(err)
	}
	return again
}

func (p *player) answered(who asker, a any) {
	name := who.name
	c := p.clients[name]
	a = p.received(a, who.version)
	switch r := a.(type) {
	case *wire.JoinGroupResponse:
		if r.ErrorCode == 0 || wire.ErrorCode(r.ErrorCode) == wire.MemberIDRequired {
			c.id, c.generation, c.protocol = r.MemberID, r.GenerationID, textOf(r.ProtocolName)
		}
	case *wire.ConsumerGroupHeartbeatResponse:
		if r.ErrorCode == 0 {
			c.id, c.generation = *r.MemberID, r.MemberEpoch
		}
	case wire.ErrorCode:
		p.say("%s: %v", name, r)
		return
	}
	p.say("%s: %s", name, show(a))
}

func (p *player) client(name string, a args) *client {
	c := p.clients[name]
	if c == nil {
		c = &client{name: name, group: "g", generation: -1}
		p.clients[name] = c
	}
	c.group = a.text("group", c.group)
	c.instance = a.text("instance", c.instance)
	if v, ok := a["id"]; ok {
		c.id = v
	}
	return c
}

func (c *client) instanceID() *string {
	if c.instance == "" {
		return nil
	}
	return &c.instance
}

// send gives a request for a client.
func (p *player) send(c *client, a args, version int64, body wire.Request) {
	q := Request{Body: body, Version: int16(a.num("v", version)), ClientID: c.name, ClientHost: "/10.0.0.1"}
	if pattern, ok := a["sees"]; ok {
		q.Sees = func(topic string) bool { return strings.HasPrefix(topic, pattern) }
	}
	p.put(c, q)
}

// put gives an input, to the machine or to Kafka.
func (p *player) put(c *client, in any) {
	who := asker{name: c.name}
	if q, ok := in.(Request); ok {
		who.version = q.Version
	}
	p.parked[p.token+1] = who
	if p.kafka != nil {
		p.kafka.give(p, in)
	} else {
		p.give(in)
	}
	p.flush()
}

func (p *player) play(line string) {
	words := strings.Fields(line)
	a, name := args{}, ""
	for _, w := range words[1:] {
		k, v, ok := strings.Cut(w, "=")
		switch {
		case !ok && name == "":
			name = w
		case !ok:
			a[k] = "true"
		default:
			a[k] = v
		}
	}
	if slices.ContainsFunc(p.lacks, func(what string) bool { return words[0] == what || a[what] != "" }) {
		return
	}
	if p.kafka != nil && p.kafka.play(p, words[0], name, a) {
		p.flush()
		return
	}
	switch words[0] {
	case "topic":
		p.news(p.cluster.grow(name, int(a.num("partitions", 1))))
	case "delete-topic":
		p.news(p.cluster.remove(name))
	case "config":
		p.news(p.cluster.configure(name, a["key"], a["value"]))
	case "set":
		p.set(a)
	case "hide":
		p.flush()
		p.hide = name != "off"
	case "wait":
		d, err := time.ParseDuration(name)
		if err != nil {
			p.t.Fatal(err)
		}
		p.wait(d)
	case "failover":
		p.load(p.log)
		clear(p.parked)
	case "dump":
		p.out.WriteString(p.dump())
	default:
		c := p.client(name, a)
		if as, ok := a["as"]; ok && as != "true" { // Under another id, this once.
			other := *c
			other.id = as
			c = &other
		}
		p.request(words[0], c, a)
		return
	}
	p.flush()
}

// set changes settings.
func (p *player) set(a args) {
	s := p.settings
	if v, ok := a["max-size"]; ok {
		s.MaxSize, _ = strconv.Atoi(v)
	}
	if v, ok := a["consumer-max-size"]; ok {
		s.ConsumerMaxSize, _ = strconv.Atoi(v)
	}
	if v, ok := a["delay"]; ok {
		s.InitialDelay, _ = time.ParseDuration(v)
	}
	if v, ok := a["policy"]; ok {
		s.MigrationPolicy = v
	}
	if v, ok := a["interval"]; ok {
		s.AssignmentInterval, _ = time.ParseDuration(v)
	}
	if v, ok := a["protocols"]; ok {
		s.Protocols = strings.Split(v, ",")
	}
	p.opts.Settings = s
	p.obey(p.Handle(p.now, 0, News{Settings: &s}))
}

func (p *player) request(verb string, c *client, a args) {
	switch verb {
	case "join":
		p.send(c, a, 9, &wire.JoinGroupRequest{
			GroupID: c.group, SessionTimeoutMs: int32(a.num("session", 10_000)), RebalanceTimeoutMs: int32(a.num("rebalance", 60_000)),
			MemberID: c.id, GroupInstanceID: c.instanceID(), ProtocolType: a.text("type", "consumer"), Protocols: p.protocols(a),
		})
	case "sync":
		r := &wire.SyncGroupRequest{GroupID: c.group, GenerationID: int32(a.num("generation", int64(c.generation))), MemberID: c.id, GroupInstanceID: c.instanceID()}
		protocolType := a.text("type", "consumer")
		protocol := a.text("protocol", c.protocol)
		r.ProtocolType, r.ProtocolName = &protocolType, &protocol
		for _, pair := range a.list("assign") {
			to, what, _ := strings.Cut(pair, ":")
			r.Assignments = append(r.Assignments, wire.SyncGroupRequestAssignment{MemberID: p.clients[to].id, Assignment: p.assignment(what)})
		}
		p.send(c, a, 5, r)
	case "beat":
		p.send(c, a, 4, &wire.HeartbeatRequest{GroupID: c.group, GenerationID: int32(a.num("generation", int64(c.generation))), MemberID: c.id, GroupInstanceID: c.instanceID()})
	case "leave":
		r := &wire.LeaveGroupRequest{GroupID: c.group}
		if a.num("v", 5) < 3 { // It has one member.
			r.MemberID = c.id
			p.send(c, a, 2, r)
			return
		}
		for _, who := range append([]string{c.name}, a.list("and")...) {
			id := wire.LeaveGroupRequestMemberIdentity{MemberID: p.clients[who].id, GroupInstanceID: p.clients[who].instanceID()}
			if a["by"] == "instance" {
				id.MemberID = ""
			}
			r.Members = append(r.Members, id)
		}
		p.send(c, a, 5, r)
	case "heartbeat":
		p.send(c, a, 1, p.heartbeatOf(c, a))
	case "commit":
		p.send(c, a, 9, p.commitOf(c, a))
	case "txn-commit":
		p.send(c, a, 5, p.txnCommitOf(c, a))
	case "marker":
		p.put(c, Marker{
			Producer:  record.Producer{ID: model.ProducerID(a.num("pid", 1)), Epoch: int16(a.num("epoch", 0))},
			Committed: a["abort"] == "", CoordinatorEpoch: int32(a.num("coordinator", 0)), TransactionVersion: int16(a.num("tv", 1)),
		})
	case "fetch":
		p.send(c, a, 9, p.fetchOf(c, a))
	case "delete-offsets":
		r := &wire.OffsetDeleteRequest{GroupID: c.group}
		for _, tp := range a.list("at") {
			topic, n := splitPartition(tp)
			r.Topics = append(r.Topics, wire.OffsetDeleteRequestTopic{Name: topic, Partitions: []wire.OffsetDeleteRequestPartition{{PartitionIndex: n}}})
		}
		p.send(c, a, 0, r)
	case "list":
		p.send(c, a, 5, &wire.ListGroupsRequest{StatesFilter: a.list("states"), TypesFilter: a.list("types")})
	case "describe":
		p.send(c, a, 6, &wire.DescribeGroupsRequest{Groups: []string{c.group}})
	case "consumer-describe":
		p.send(c, a, 1, &wire.ConsumerGroupDescribeRequest{GroupIDs: []string{c.group}})
	case "delete":
		p.send(c, a, 2, &wire.DeleteGroupsRequest{GroupsNames: append([]string{c.group}, a.list("and")...)})
	default:
		p.t.Fatalf("no command %q", verb)
	}
}

// protocols are those of a JoinGroup: names with topics, as range:t+u. Of
// protocol types other than consumers' the metadata is what stands there.
func (p *player) protocols(a args) (list []wire.JoinGroupRequestProtocol) {
	for _, w := range strings.Split(a.text("protocols", "range:t"), ",") {
		name, topics, _ := strings.Cut(w, ":")
		metadata := []byte(topics)
		if a.text("type", "consumer") == "consumer" && a["raw"] == "" {
			metadata = subscription(strings.Split(topics, "+"), p.owned(a["owned"]))
		}
		list = append(list, wire.JoinGroupRequestProtocol{Name: name, Metadata: metadata})
	}
	return list
}

func subscription(topics []string, owned []wire.ConsumerProtocolSubscriptionTopicPartition) []byte {
	s := wire.NewConsumerProtocolSubscription()
	s.Topics, s.OwnedPartitions = topics, owned
	b, err := s.AppendTo(binary.BigEndian.AppendUint16(nil, 1), 1)
	if err != nil {
		panic(err)
	}
	return b
}

func (p *player) owned(text string) (list []wire.ConsumerProtocolSubscriptionTopicPartition) {
	for topic, partitions := range partitionsOf(text) {
		list = append(list, wire.ConsumerProtocolSubscriptionTopicPartition{Topic: topic, Partitions: partitions})
	}
	return list
}

// partitionsOf reads t-0+t-1+u-0.
func partitionsOf(text string) map[string][]int32 {
	m := map[string][]int32{}
	if text == "" {
		return m
	}
	for _, tp := range strings.Split(text, "+") {
		topic, n := splitPartition(tp)
		m[topic] = append(m[topic], n)
	}
	return m
}

func splitPartition(tp string) (string, int32) {
	i := strings.LastIndexByte(tp, '-')
	n, err := strconv.Atoi(tp[i+1:])
	if err != nil {
		panic(tp)
	}
	return tp[:i], int32(n)
}

func (p *player) assignment(text string) []byte {
	if raw, ok := strings.CutPrefix(text, "raw:"); ok {
		return []byte(raw)
	}
	a := wire.NewConsumerProtocolAssignment()
	m := partitionsOf(text)
	for _, topic := range sortedKeys(m) {
		a.AssignedPartitions = append(a.AssignedPartitions, wire.ConsumerProtocolAssignmentTopicPartition{Topic: topic, Partitions: m[topic]})
	}
	b, err := a.AppendTo(binary.BigEndian.AppendUint16(nil, 1), 1)
	if err != nil {
		panic(err)
	}
	return b
}

func (p *player) heartbeatOf(c *client, a args) *wire.ConsumerGroupHeartbeatRequest {
	r := wire.NewConsumerGroupHeartbeatRequest()
	if c.id == "" && a["v"] != "0" {
		c.id = c.name
	}
	r.GroupID, r.MemberID, r.InstanceID, r.RackID = c.group, c.id, c.instanceID(), a.maybe("rack")
	r.MemberEpoch = int32(a.num("epoch", int64(max(c.generation, 0))))
	r.RebalanceTimeoutMs = int32(a.num("rebalance", -1))
	r.ServerAssignor, r.SubscribedTopicRegex = a.maybe("assignor"), a.maybe("regex")
	if v, ok := a["topics"]; ok {
		r.SubscribedTopicNames = []string{}
		if v != "" {
			r.SubscribedTopicNames = strings.Split(v, "+")
		}
	}
	if v, ok := a["owns"]; ok {
		r.TopicPartitions = []wire.ConsumerGroupHeartbeatRequestTopicPartitions{}
		m := partitionsOf(v)
		for _, topic := range sortedKeys(m) {
			r.TopicPartitions = append(r.TopicPartitions, wire.ConsumerGroupHeartbeatRequestTopicPartitions{TopicID: p.image.Topic(topic).ID, Partitions: m[topic]})
		}
	}
	if r.MemberEpoch == 0 && a["bare"] == "" {
		if r.RebalanceTimeoutMs == -1 {
			r.RebalanceTimeoutMs = 60_000
		}
		if r.SubscribedTopicNames == nil && r.SubscribedTopicRegex == nil {
			r.SubscribedTopicNames = []string{"t"}
		}
		if r.TopicPartitions == nil {
			r.TopicPartitions = []wire.ConsumerGroupHeartbeatRequestTopicPartitions{}
		}
	}
	return r
}

// offsetsOf reads t-0:5+t-1:6 with an optional metadata, as t-0:5:note.
func (p *player) offsetsOf(text string, each func(topic string, id model.TopicID, n int32, offset int64, metadata *string)) {
	for _, w := range strings.Split(text, "+") {
		parts := strings.SplitN(w, ":", 3)
		topic, n := splitPartition(parts[0])
		offset, err := strconv.ParseInt(parts[1], 10, 64)
		if err != nil {
			panic(w)
		}
		var metadata *string
		if len(parts) > 2 {
			text := strings.ReplaceAll(parts[2], "*", strings.Repeat("x", 4097))
			metadata = &text
		}
		var id model.TopicID
		if t := p.image.Topic(topic); t != nil {
			id = t.ID
		}
		each(topic, id, n, offset, metadata)
	}
}

func (p *player) commitOf(c *client, a args) *wire.OffsetCommitRequest {
	r := wire.NewOffsetCommitRequest()
	r.GroupID, r.MemberID, r.GroupInstanceID = c.group, c.id, c.instanceID()
	r.GenerationIDOrMemberEpoch = int32(a.num("generation", int64(c.generation)))
	r.RetentionTimeMs = a.num("retention", -1)
	p.offsetsOf(a["at"], func(topic string, id model.TopicID, n int32, offset int64, metadata *string) {
		t := wire.OffsetCommitRequestTopic{Name: topic, TopicID: id}
		t.Partitions = []wire.OffsetCommitRequestPartition{{PartitionIndex: n, CommittedOffset: offset, CommittedLeaderEpoch: int32(a.num("leader", -1)), CommittedMetadata: metadata}}
		r.Topics = append(r.Topics, t)
	})
	return r
}

func (p *player) txnCommitOf(c *client, a args) *wire.TxnOffsetCommitRequest {
	r := wire.NewTxnOffsetCommitRequest()
	r.TransactionalID, r.GroupID, r.MemberID, r.GroupInstanceID = "txn", c.group, c.id, c.instanceID()
	r.ProducerID, r.ProducerEpoch = a.num("pid", 1), int16(a.num("epoch", 0))
	r.GenerationIDOrMemberEpoch = int32(a.num("generation", int64(c.generation)))
	p.offsetsOf(a["at"], func(topic string, id model.TopicID, n int32, offset int64, metadata *string) {
		t := wire.TxnOffsetCommitRequestTopic{Name: topic, TopicID: id}
		t.Partitions = []wire.TxnOffsetCommitRequestPartition{{PartitionIndex: n, CommittedOffset: offset, CommittedLeaderEpoch: -1, CommittedMetadata: metadata}}
		r.Topics = append(r.Topics, t)
	})
	return r
}

func (p *player) fetchOf(c *client, a args) *wire.OffsetFetchRequest {
	r := wire.NewOffsetFetchRequest()
	r.RequireStable = a["stable"] != ""
	version := a.num("v", 9)
	if version < groupsVersion {
		r.GroupID = c.group
		for _, tp := range a.list("at") {
			topic, n := splitPartition(tp)
			r.Topics = append(r.Topics, wire.OffsetFetchRequestTopic{Name: topic, PartitionIndexes: []int32{n}})
		}
		return r
	}
	g := wire.OffsetFetchRequestGroup{GroupID: c.group, MemberEpoch: int32(a.num("epoch", -1))}
	if a["as"] != "" {
		g.MemberID = &c.id
	}
	for _, tp := range a.list("at") {
		topic, n := splitPartition(tp)
		t := wire.OffsetFetchRequestTopics{Name: topic, PartitionIndexes: []int32{n}}
		if known := p.image.Topic(topic); known != nil {
			t.TopicID = known.ID
		}
		g.Topics = append(g.Topics, t)
	}
	r.Groups = []wire.OffsetFetchRequestGroup{g}
	return r
}
