package formats

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/barnabas-log/barnabas/tests/kafka"
	"github.com/barnabas-log/barnabas/tests/node"
)

// oneReplica lets a single node of ours have the coordinators' topics of a
// single node of Kafka's.
var oneReplica = []string{
	"offsets.topic.replication.factor=1", "transaction.state.log.replication.factor=1", "transaction.state.log.min.isr=1", "group.initial.rebalance.delay.ms=0",
}

// open is a transaction that has neither end.
type open struct {
	id    int64
	epoch int16
}

// fillCoordinators leaves groups of both protocols and transactions of every
// kind behind: committed, aborted, open with a record and offsets, and one that
// is decided but not told to anybody.
func fillCoordinators(t *testing.T, addr string) open {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	admin := kadm.NewClient(client(t, addr))
	if _, err := admin.CreateTopics(ctx, 2, 1, nil, "in", "committed", "aborted", "open", "prepared"); err != nil {
		t.Fatal(err)
	}
	commit(t, addr, "simple", 3, "of nobody")
	member(t, addr, "classic")
	commit(t, addr, "classic", 4, "by hand")
	member(t, addr, "consumer", kgo.ServerSideBalancer())
	commit(t, addr, "consumer", 5, "")
	stay(t, addr, "stays")
	transact(t, addr, "committed").end(kgo.TryCommit)
	transact(t, addr, "aborted").end(kgo.TryAbort)
	transact(t, addr, "prepared").decide(addr)
	return transact(t, addr, "open").addOffsets(t, "of-open", 6)
}

func commit(t *testing.T, addr, group string, at int64, metadata string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: "in", Partition: 1, At: at, LeaderEpoch: -1, Metadata: metadata})
	if err := kadm.NewClient(client(t, addr)).CommitAllOffsets(ctx, group, offsets); err != nil {
		t.Fatal(group, err)
	}
}

// member joins a group and leaves it.
func member(t *testing.T, addr, group string, opts ...kgo.Opt) {
	t.Helper()
	join(t, addr, group, opts...).Close()
}

// stay joins a group and is gone with the broker.
func stay(t *testing.T, addr, group string) {
	t.Helper()
	join(t, addr, group, kgo.InstanceID("instance"), kgo.SessionTimeout(5*time.Minute))
}

func join(t *testing.T, addr, group string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	assigned := make(chan struct{}, 10)
	c := client(t, addr, append(opts, kgo.ConsumerGroup(group), kgo.ConsumeTopics("in"), kgo.DisableAutoCommit(), kgo.Balancers(kgo.RangeBalancer()),
		kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) { assigned <- struct{}{} }))...)
	select {
	case <-assigned:
	case <-time.After(patience):
		t.Fatalf("%s: no member after %v", group, patience)
	}
	return c
}

// transaction is one that has begun, with a record in partition 0 of the topic
// of its name.
type transaction struct {
	t    *testing.T
	c    *kgo.Client
	name string
}

func transact(t *testing.T, addr, name string) transaction {
	t.Helper()
	c := client(t, addr, kgo.TransactionalID(name), kgo.TransactionTimeout(14*time.Minute), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxVersions(kversion.V3_6_0()))
	if err := c.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	x := transaction{t, c, name}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.ProduceSync(ctx, &kgo.Record{Topic: name, Value: []byte(name)}).FirstErr(); err != nil {
		t.Fatal(name, err)
	}
	return x
}

func (x transaction) end(how kgo.TransactionEndTry) {
	x.t.Helper()
	if err := x.c.EndTransaction(x.t.Context(), how); err != nil {
		x.t.Fatal(x.name, err)
	}
}

// decide writes that the transaction is to be committed, as a coordinator
// does that dies before it has told the partitions. Only Kafka lets its
// own admin client write there.
func (x transaction) decide(addr string) {
	x.t.Helper()
	if !strings.HasPrefix(x.t.Name(), "TestTakeOver") {
		x.end(kgo.TryCommit)
		return
	}
	ctx, cancel := context.WithTimeout(x.t.Context(), patience)
	defer cancel()
	reader := client(x.t, addr, kgo.ConsumeTopics("__transaction_state"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	var last *kgo.Record
	for last == nil {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			x.t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			const state, ongoing = 16, 1 // Where in the value, and what.
			if strings.HasSuffix(string(r.Key), x.name) && r.Value[state] == ongoing {
				last = r
				r.Value[state]++
			}
		})
	}
	writer := client(x.t, addr, kgo.ClientID("__admin_client"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := writer.ProduceSync(ctx, &kgo.Record{Topic: last.Topic, Partition: last.Partition, Key: last.Key, Value: last.Value}).FirstErr(); err != nil {
		x.t.Fatal(err)
	}
}

// addOffsets commits an offset in the transaction, and leaves it open.
func (x transaction) addOffsets(t *testing.T, group string, at int64) open {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	id, epoch, err := x.c.ProducerID(ctx)
	if err != nil {
		t.Fatal(err)
	}
	add := kmsg.NewAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = x.name, id, epoch, group
	added, err := add.RequestWith(ctx, x.c)
	if err = errors.Join(err, kerr.ErrorForCode(added.ErrorCode)); err != nil {
		t.Fatal(err)
	}
	q := kmsg.NewTxnOffsetCommitRequest()
	q.TransactionalID, q.ProducerID, q.ProducerEpoch, q.Group = x.name, id, epoch, group
	p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset = 1, at
	q.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: "in", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{p}}}
	done, err := q.RequestWith(ctx, x.c)
	if err = errors.Join(err, kerr.ErrorForCode(done.Topics[0].Partitions[0].ErrorCode)); err != nil {
		t.Fatal(err)
	}
	return open{id, epoch}
}

// wantCoordinators checks what fillCoordinators has left.
func wantCoordinators(t *testing.T, addr string, isOpen bool) {
	t.Helper()
	f := func(group string, at int64, metadata string) {
		t.Helper()
		if o := fetchOffset(t, addr, group); o.At != at || o.Metadata != metadata {
			t.Errorf("%s: committed %d %q, want %d %q", group, o.At, o.Metadata, at, metadata)
		}
	}
	f("simple", 3, "of nobody")
	f("classic", 4, "by hand")
	f("consumer", 5, "")
	stable, state := map[string]int64{"committed": 2, "aborted": 2, "prepared": 2, "open": 2}, "CompleteCommit"
	if isOpen {
		stable["open"], state = 0, "Ongoing"
		f("of-open", -1, "")
	} else {
		f("of-open", 6, "")
	}
	wantStates(t, addr, map[string]string{"committed": "CompleteCommit", "aborted": "CompleteAbort", "prepared": "CompleteCommit", "open": state})
	for topic, end := range stable {
		wantStableEnd(t, addr, topic, end)
	}
	wantGroups(t, addr)
}

func fetchOffset(t *testing.T, addr, group string) kadm.OffsetResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	offsets, err := kadm.NewClient(client(t, addr)).FetchOffsets(ctx, group)
	if err != nil {
		t.Fatal(group, err)
	}
	o, ok := offsets.Lookup("in", 1)
	if !ok {
		o.At = -1
	}
	return o
}

func wantGroups(t *testing.T, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	admin := kadm.NewClient(client(t, addr))
	listed, err := admin.ListGroups(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for group, want := range map[string]string{"simple": "Empty", "classic": "Empty", "consumer": "Empty", "stays": "Stable"} {
		if got := listed[group]; got.State != want {
			t.Errorf("%s is listed as %+v, want %s", group, got, want)
		}
	}
	described, err := admin.DescribeGroups(ctx, "stays")
	if err != nil {
		t.Fatal(err)
	}
	g := described["stays"]
	if len(g.Members) != 1 || g.Members[0].InstanceID == nil || *g.Members[0].InstanceID != "instance" || g.Protocol != "range" || g.AssignedPartitions()["in"] == nil {
		t.Errorf("the group with a member is %+v", g)
	}
}

// wantStates waits for the states of transactions: what was decided is told
// when the coordinator is up.
func wantStates(t *testing.T, addr string, want map[string]string) {
	t.Helper()
	admin := kadm.NewClient(client(t, addr))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		listed, err := admin.ListTransactions(ctx, nil, nil)
		bad := ""
		for id, state := range want {
			if err == nil && listed[id].State != state {
				bad += id + " is " + listed[id].State + ", "
			}
		}
		if err == nil && bad == "" {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%s, want %v, %v", bad, want, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func wantStableEnd(t *testing.T, addr, topic string, want int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	admin := kadm.NewClient(client(t, addr))
	for {
		listed, err := admin.ListCommittedOffsets(ctx, topic)
		o, _ := listed.Lookup(topic, 0)
		if err == nil && o.Err == nil && o.Offset == want {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%s: the stable end is %+v, want %d, %v", topic, o, want, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// commit ends the transaction that was open, by the producer that has it.
func (o open) commit(t *testing.T, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	q := kmsg.NewEndTxnRequest()
	q.TransactionalID, q.ProducerID, q.ProducerEpoch, q.Commit = "open", o.id, o.epoch, true
	r, err := q.RequestWith(ctx, client(t, addr, kgo.MaxVersions(kversion.V3_6_0())))
	if err = errors.Join(err, kerr.ErrorForCode(r.ErrorCode)); err != nil {
		t.Fatal(err)
	}
}

// TestTakeOverCoordinators gives a directory with Kafka's groups and
// transactions to us, after a clean shutdown and after a kill.
func TestTakeOverCoordinators(t *testing.T) {
	t.Run("clean", func(t *testing.T) { takeOverCoordinators(t, (*kafka.Broker).Stop) })
	t.Run("killed", func(t *testing.T) { takeOverCoordinators(t, (*kafka.Broker).Kill) })
}

func takeOverCoordinators(t *testing.T, end func(*kafka.Broker) error) {
	dir := t.TempDir()
	b := startKafka(t, dir)
	o := fillCoordinators(t, b.Addr)
	if err := end(b); err != nil {
		t.Fatal(err)
	}
	n := node.Start(t, oneReplica...)
	n.Stop()
	if err := os.RemoveAll(n.Data); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(n.Data, os.DirFS(filepath.Join(dir, "data"))); err != nil {
		t.Fatal(err)
	}
	n.Again()
	wantCoordinators(t, n.Addr, true)
	n.Kill()
	n.Again()
	o.commit(t, n.Addr)
	wantCoordinators(t, n.Addr, false)
	n.Stop()
	n.Again()
	wantCoordinators(t, n.Addr, false)
	transact(t, n.Addr, "open").end(kgo.TryCommit)
	wantStableEnd(t, n.Addr, "open", 4)
}

// TestKafkaTakesOverCoordinators lets Kafka's tools read our groups and
// transactions, and a Kafka serve them.
func TestKafkaTakesOverCoordinators(t *testing.T) {
	n := node.Start(t, oneReplica...)
	o := fillCoordinators(t, n.Addr)
	n.Stop()
	dumpCoordinators(t, n.Data)
	k := startKafka(t, filepath.Dir(n.Data))
	wantCoordinators(t, k.Addr, true)
	o.commit(t, k.Addr)
	wantCoordinators(t, k.Addr, false)
	if err := k.Stop(); err != nil {
		t.Fatal(err)
	}
	n.Again()
	wantCoordinators(t, n.Addr, false)
}

// dumpCoordinators lets DumpLogSegments decode what our coordinators wrote.
func dumpCoordinators(t *testing.T, data string) {
	t.Helper()
	f := func(decoder, topic string, want ...string) {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(data, topic+"-*", "*.log"))
		if err != nil || len(files) == 0 {
			t.Fatal(topic, err)
		}
		cmd, err := kafka.Java(kafka.Tools, "org.apache.kafka.tools.DumpLogSegments", "--files", strings.Join(files, ","), decoder)
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, w := range want {
			if !regexp.MustCompile(w).Match(out) {
				t.Errorf("%s does not show %s:\n%s", decoder, w, out[max(0, len(out)-8000):])
			}
		}
		for _, bad := range []string{"isvalid: false", "Exception", "rror"} {
			if strings.Contains(string(out), bad) {
				t.Errorf("%s says %q:\n%s", decoder, bad, out[max(0, len(out)-8000):])
			}
		}
	}
	f("--offsets-decoder", "__consumer_offsets",
		`key: \{"type":"1","data":\{"group":"simple","topic":"in","partition":1\}\} payload: \{"version":"[34]","data":\{"offset":3,.*"metadata":"of nobody"`,
		`key: \{"type":"2","data":\{"group":"stays"\}\} payload: .*"groupInstanceId":"instance"`,
		`key: \{"type":"3","data":\{"groupId":"consumer"\}\}`)
	f("--transaction-log-decoder", "__transaction_state",
		`"transactionalId":"open".*"transactionStatus":1`, `"transactionalId":"committed".*"transactionStatus":4`, `"transactionalId":"aborted".*"transactionStatus":5`)
}
