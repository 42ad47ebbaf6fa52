package txn

import (
	"flag"
	"fmt"
	"math"
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
	"github.com/barnabas-log/barnabas/wire"
)

var (
	rewrite = flag.Bool("rewrite", false, "rewrite the outputs in testdata/own/*.script, or with -kafka those of testdata/kafka")
	kafka   = flag.String("kafka", "", "the address of a fresh Kafka 4.4.0 that plays testdata/kafka/*.script instead of the machine; "+
		"its transaction.abort.timed.out.transaction.cleanup.interval.ms is 1000")
)

// The scripts in testdata/kafka are answered, and their records were written,
// by Kafka 4.4.0. Those in testdata/own are about what Kafka cannot be made to
// show, or does otherwise.
func TestScripts(t *testing.T) {
	dirs := []string{"testdata/kafka", "testdata/own"}
	if *kafka != "" {
		dirs = dirs[:1]
	}
	for _, dir := range dirs {
		files, err := filepath.Glob(dir + "/*.script")
		if err != nil || len(files) == 0 {
			t.Fatalf("no scripts: %v", err)
		}
		for _, name := range files {
			t.Run(name, func(t *testing.T) { playFile(t, name, dir == "testdata/own" || *kafka != "") })
		}
	}
}

func playFile(t *testing.T, name string, ours bool) {
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	got := playScript(t, string(text), strings.TrimSuffix(filepath.Base(name), ".script"))
	switch diff := cmp.Diff(string(text), got); {
	case *rewrite && ours:
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	case diff != "":
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// peer is who plays a script.
type peer interface {
	// ask gives a request and returns the answer, once all markers of what it
	// decided are written. group is where AddOffsetsToTxn's group is.
	ask(q wire.Request, version int16, group model.Partition) wire.Response
	sleep(time.Duration)
	// records returns the values that were written for a transactional id, each
	// with its version; nil is a tombstone.
	records(id string) []value
}

type value struct {
	version int16
	*wire.TransactionLogRecordValue
}

// player plays one script. Producer ids have names: p0 is the first that was
// seen.
type player struct {
	t *testing.T
	peer
	own    *machinePeer // The same peer, if it is a machine.
	prefix string       // Of transactional ids: scripts share a Kafka.
	ids    []int64
	seen   map[string]int // Records that were printed.
}

// playScript plays blocks of a command, a line "----", and what it printed; a
// blank line ends a block. Lines with # are comments.
func playScript(t *testing.T, text, name string) string {
	p := &player{t: t, prefix: name + "-", seen: map[string]int{}}
	if *kafka != "" {
		p.peer = newKafkaPeer(t, *kafka)
	} else {
		p.own = newMachinePeer(t)
		p.peer = p.own
	}
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimSuffix(text, "\n"), "\n\n") {
		if i > 0 {
			out.WriteString("\n")
		}
		for line := range strings.Lines(block) {
			if line = strings.TrimSpace(line); line == "----" {
				break
			}
			out.WriteString(line + "\n")
			if !strings.HasPrefix(line, "#") {
				out.WriteString("----\n" + p.play(line) + "\n")
			}
		}
	}
	return out.String()
}

// args are the words of a command: key=value, topic:partitions, or a word alone.
type args struct {
	id     string
	values map[string]string
	topics []topicArg
	words  []string
}

type topicArg struct {
	name       string
	partitions []int32
}

func (p *player) parse(words []string) (a args) {
	a.values = map[string]string{}
	for _, w := range words {
		if k, v, ok := strings.Cut(w, "="); ok {
			a.values[k] = v
		} else if name, list, ok := strings.Cut(w, ":"); ok {
			t := topicArg{name: name}
			for x := range strings.SplitSeq(list, ",") {
				n, err := strconv.Atoi(x)
				if err != nil {
					p.t.Fatal(err)
				}
				t.partitions = append(t.partitions, int32(n))
			}
			a.topics = append(a.topics, t)
		} else {
			a.words = append(a.words, w)
		}
	}
	if len(a.words) > 0 {
		a.id = p.id(a.words[0])
	}
	return a
}

// id is a transactional id in full; "-" stands for an empty one.
func (p *player) id(name string) string {
	if name == "-" {
		return ""
	}
	return p.prefix + name
}

func (a args) num(key string, otherwise int64) int64 {
	v, ok := a.values[key]
	if !ok {
		return otherwise
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		panic(key + "=" + v)
	}
	return n
}

func (a args) has(word string) bool { return slices.Contains(a.words, word) }

// producer is the number of a named producer id: -1 if none is given.
func (p *player) producer(a args) int64 {
	name, ok := a.values["pid"]
	if !ok {
		return -1
	}
	if n, err := strconv.Atoi(strings.TrimPrefix(name, "p")); err == nil && strings.HasPrefix(name, "p") {
		if n >= len(p.ids) {
			p.t.Fatalf("%s has not been seen", name)
		}
		return p.ids[n]
	}
	return a.num("pid", -1)
}

func (p *player) nameOf(id int64) string {
	if id < 0 {
		return "-"
	}
	if i := slices.Index(p.ids, id); i >= 0 {
		return fmt.Sprint("p", i)
	}
	p.ids = append(p.ids, id)
	return fmt.Sprint("p", len(p.ids)-1)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func errorName(code int16) string {
	if code == 0 {
		return "ok"
	}
	return wire.ErrorCode(code).Error()
}

func (p *player) play(line string) string {
	words := strings.Fields(line)
	a := p.parse(words[1:])
	epoch := int16(a.num("epoch", -1))
	switch words[0] {
	case "init":
		return p.init(a, epoch)
	case "inits": // so many times
		n, out := a.words[1], ""
		if k, ok := p.peer.(*kafkaPeer); ok {
			k.hasty = true
			defer func() { k.hasty = false }()
		}
		for i := range must(strconv.Atoi(n)) {
			if out = p.init(args{id: a.id}, -1); i == 0 {
				p.seen[a.id] = 1
			}
		}
		return out
	case "add":
		q := wire.NewAddPartitionsToTxnRequest()
		q.V3AndBelowTransactionalID, q.V3AndBelowProducerID, q.V3AndBelowProducerEpoch, q.V3AndBelowTopics = a.id, p.producer(a), epoch, wanted(a.topics)
		r := p.ask(q, int16(a.num("v", 3)), model.Partition{}).(*wire.AddPartitionsToTxnResponse)
		return added(r.ResultsByTopicV3AndBelow)
	case "join", "verify":
		q := wire.NewAddPartitionsToTxnRequest()
		x := wire.Extend(&q.Transactions)
		x.TransactionalID, x.ProducerID, x.ProducerEpoch, x.Topics, x.VerifyOnly = a.id, p.producer(a), epoch, wanted(a.topics), words[0] == "verify"
		r := p.ask(q, int16(a.num("v", 5)), model.Partition{}).(*wire.AddPartitionsToTxnResponse)
		if r.ErrorCode != 0 || len(r.ResultsByTransaction) != 1 || r.ResultsByTransaction[0].TransactionalID != a.id {
			return fmt.Sprintf("%+v", r)
		}
		return added(r.ResultsByTransaction[0].TopicResults)
	case "offsets":
		q := wire.NewAddOffsetsToTxnRequest()
		q.TransactionalID, q.ProducerID, q.ProducerEpoch, q.GroupID = a.id, p.producer(a), epoch, a.values["group"]
		group := model.Partition{Topic: "__consumer_offsets", Index: coordinator.Partition(q.GroupID, 50)}
		return errorName(p.ask(q, int16(a.num("v", 4)), group).(*wire.AddOffsetsToTxnResponse).ErrorCode)
	case "end":
		q := wire.NewEndTxnRequest()
		q.TransactionalID, q.ProducerID, q.ProducerEpoch, q.Committed = a.id, p.producer(a), epoch, a.has("commit")
		r := p.ask(q, int16(a.num("v", 5)), model.Partition{}).(*wire.EndTxnResponse)
		if r.ErrorCode != 0 || a.num("v", 5) < 5 {
			return errorName(r.ErrorCode)
		}
		return fmt.Sprintf("%s epoch %d", p.nameOf(r.ProducerID), r.ProducerEpoch)
	case "describe":
		return p.describe(a.id)
	case "list":
		return p.list(a)
	case "records":
		return p.newRecords(a.id, int(a.num("last", math.MaxInt32)))
	case "sleep":
		d, err := time.ParseDuration(a.words[0])
		if err != nil {
			p.t.Fatal(err)
		}
		p.sleep(d)
		return "ok"
	}
	if p.own == nil {
		p.t.Fatalf("Kafka does not know %q", line)
	}
	return p.own.play(words[0], a)
}

func (p *player) init(a args, epoch int16) string {
	q := wire.NewInitProducerIDRequest()
	q.TransactionalID, q.TransactionTimeoutMs, q.ProducerID, q.ProducerEpoch = &a.id, int32(a.num("timeout", 60_000)), p.producer(a), epoch
	q.Enable2Pc, q.KeepPreparedTxn = a.has("2pc"), a.has("keep")
	version := int16(5)
	if q.Enable2Pc || q.KeepPreparedTxn {
		version = 6
	}
	r := p.ask(q, int16(a.num("v", int64(version))), model.Partition{}).(*wire.InitProducerIDResponse)
	if r.ErrorCode != 0 {
		return errorName(r.ErrorCode)
	}
	return fmt.Sprintf("%s epoch %d", p.nameOf(r.ProducerID), r.ProducerEpoch)
}

func wanted(list []topicArg) (out []wire.AddPartitionsToTxnRequestAddPartitionsToTxnTopic) {
	for _, t := range list {
		x := wire.Extend(&out)
		x.Name, x.Partitions = t.name, t.partitions
	}
	return out
}

func added(list []wire.AddPartitionsToTxnResponseAddPartitionsToTxnTopicResult) string {
	var out []string
	for _, t := range list {
		for _, x := range t.ResultsByPartition {
			out = append(out, fmt.Sprintf("%s:%d %s", t.Name, x.PartitionIndex, errorName(x.PartitionErrorCode)))
		}
	}
	if len(out) == 0 {
		return "nothing"
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}

func (p *player) describe(id string) string {
	q := wire.NewDescribeTransactionsRequest()
	q.TransactionalIDs = []string{id}
	r := p.ask(q, 0, model.Partition{}).(*wire.DescribeTransactionsResponse).TransactionStates
	if len(r) != 1 || r[0].TransactionalID != id {
		p.t.Fatalf("described %+v", r)
	}
	x := r[0]
	if x.ErrorCode != 0 {
		return errorName(x.ErrorCode)
	}
	started := "started"
	if x.TransactionStartTimeMs < 0 {
		started = "not started"
	}
	var topics []string
	for _, t := range x.Topics {
		topics = append(topics, topicText(t.Topic, t.Partitions))
	}
	slices.Sort(topics)
	return fmt.Sprintf("%s %s epoch %d timeout %d %s %v", x.TransactionState, p.nameOf(x.ProducerID), x.ProducerEpoch, x.TransactionTimeoutMs, started, topics)
}

func topicText(name string, partitions []int32) string {
	partitions = slices.Sorted(slices.Values(partitions))
	return strings.ReplaceAll(strings.Trim(fmt.Sprintf("%s:%v", name, partitions), "]"), " ", ",") + "]"
}

// list prints those of this script.
func (p *player) list(a args) string {
	q := wire.NewListTransactionsRequest()
	if s, ok := a.values["states"]; ok {
		q.StateFilters = strings.Split(s, ",")
	}
	for _, name := range strings.FieldsFunc(a.values["pids"], func(r rune) bool { return r == ',' }) {
		q.ProducerIDFilters = append(q.ProducerIDFilters, p.producer(args{values: map[string]string{"pid": name}}))
	}
	q.DurationFilter = a.num("longer", -1)
	if s, ok := a.values["pattern"]; ok {
		s = strings.ReplaceAll(s, "@", p.prefix)
		q.TransactionalIDPattern = &s
	}
	r := p.ask(q, 2, model.Partition{}).(*wire.ListTransactionsResponse)
	out := []string{}
	for _, x := range r.TransactionStates {
		if name, ok := strings.CutPrefix(x.TransactionalID, p.prefix); ok {
			out = append(out, fmt.Sprintf("%s %s %s", name, p.nameOf(x.ProducerID), x.TransactionState))
		}
	}
	slices.Sort(out)
	if len(r.UnknownStateFilters) > 0 {
		out = append(out, fmt.Sprint("unknown states ", r.UnknownStateFilters))
	}
	return strings.Join(append(out, errorName(r.ErrorCode)), "\n")
}

// newRecords prints the records that were not printed yet, the last of them. Of
// timestamps it says which are equal.
func (p *player) newRecords(id string, last int) string {
	var out []string
	all := p.records(id)
	for _, v := range all[min(max(p.seen[id], len(all)-last), len(all)):] {
		if v.TransactionLogRecordValue == nil {
			out = append(out, "tombstone")
			continue
		}
		started := "at no time"
		if v.TransactionStartTimestampMs >= 0 {
			started = "before its update"
			if v.TransactionStartTimestampMs == v.TransactionLastUpdateTimestampMs && v.TransactionStatus < int8(completeCommit) {
				started = "with its update"
			}
		}
		topics := "null"
		if v.TransactionPartitions != nil {
			list := []string{}
			for _, t := range v.TransactionPartitions {
				list = append(list, topicText(t.Topic, t.PartitionIDs))
			}
			slices.Sort(list)
			topics = fmt.Sprint(list)
		}
		out = append(out, fmt.Sprintf("v%d %s %s epoch %d previous %s next %s %d timeout %d started %s topics %s client %d", v.version, status(v.TransactionStatus), p.nameOf(v.ProducerID),
			v.ProducerEpoch, p.nameOf(v.PreviousProducerID), p.nameOf(v.NextProducerID), v.NextProducerEpoch, v.TransactionTimeoutMs, started, topics, v.ClientTransactionVersion))
	}
	p.seen[id] = len(all)
	if len(out) == 0 {
		return "nothing new"
	}
	return strings.Join(out, "\n")
}
