package hostile

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/barnabas-log/barnabas/tests/node"
)

// Limits of TestStrangersOfCoordinators, in bytes: what coordinators may keep, and
// what the process may grow by, which Go's collector and the requests in flight
// make more.
const (
	coordinatorMemory = 32 << 20
	strangersMayGrow  = 3*coordinatorMemory + mayGrow
)

// strangers are clients that speak correctly, and want ever more.
type strangers struct {
	t    *testing.T
	addr string
	mu   struct {
		sync.Mutex
		codes map[string]map[string]int // What was answered, by kind.
	}
}

// ask makes one request after the other of a kind, until it was refused often.
func (s *strangers) ask(kind string, refusal error, request func(i int) kmsg.Request, code func(kmsg.Response) int16) {
	c, err := kgo.NewClient(kgo.SeedBrokers(s.addr), kgo.RequestRetries(0), kgo.MaxVersions(kversion.V4_0_0()))
	if err != nil {
		s.t.Error(err)
		return
	}
	defer c.Close()
	const times, atMost = 300, 2_000
	refused := 0
	for i := 0; refused < times && i < atMost; i++ {
		r, err := c.SeedBrokers()[0].Request(s.t.Context(), request(i))
		if err != nil {
			s.t.Errorf("%s: %v", kind, err)
			return
		}
		answer := kerr.ErrorForCode(code(r))
		if answer == refusal {
			refused++
		}
		s.mu.Lock()
		if s.mu.codes[kind] == nil {
			s.mu.codes[kind] = map[string]int{}
		}
		s.mu.codes[kind][fmt.Sprint(answer)]++
		s.mu.Unlock()
	}
	if refused < times {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.t.Errorf("%s: refused %d times only: %v", kind, refused, s.mu.codes[kind])
	}
}

func (s *strangers) commit(i int) kmsg.Request {
	q, metadata := kmsg.NewPtrOffsetCommitRequest(), strings.Repeat("m", 4000)
	q.Group = fmt.Sprint("stranger-", i)
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic = manyTopic
	for n := range int32(manyPartitions) {
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.Metadata = n, 7, &metadata
		topic.Partitions = append(topic.Partitions, p)
	}
	q.Topics = append(q.Topics, topic)
	return q
}

func (s *strangers) join(i int) kmsg.Request {
	q, instance := kmsg.NewPtrJoinGroupRequest(), "static members need no id"
	q.InstanceID = &instance
	q.Group, q.ProtocolType, q.SessionTimeoutMillis, q.RebalanceTimeoutMillis = fmt.Sprint("joins-", i), "consumer", 60_000, 60_000
	q.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: make([]byte, 200_000)}}
	return q
}

func (s *strangers) pend(i int) kmsg.Request {
	q := s.join(i).(*kmsg.JoinGroupRequest)
	q.Group, q.InstanceID, q.Protocols[0].Metadata = fmt.Sprint(strings.Repeat("x", 30_000), i), nil, []byte{0, 0}
	return q
}

func (s *strangers) beat(i int) kmsg.Request {
	q := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	q.Group, q.MemberID, q.RebalanceTimeoutMillis, q.Topics = fmt.Sprint("beats-", i), "m", 60_000, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	for n := range 5000 {
		q.SubscribedTopicNames = append(q.SubscribedTopicNames, fmt.Sprint("topic-", n))
	}
	return q
}

func (s *strangers) regex(i int) kmsg.Request {
	q := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	q.Group, q.MemberID, q.RebalanceTimeoutMillis, q.Topics = fmt.Sprint("regex-", i%10), fmt.Sprint(strings.Repeat("m", 2000), i), 60_000, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	regex := fmt.Sprint(".*|", i/10%200)
	q.SubscribedTopicRegex = &regex
	return q
}

func (s *strangers) init(i int) kmsg.Request {
	q, id := kmsg.NewPtrInitProducerIDRequest(), fmt.Sprint(strings.Repeat("x", 30_000), i)
	q.TransactionalID, q.TransactionTimeoutMillis = &id, 60_000
	return q
}

// Strangers whose requests are all valid want ever new groups, members, offsets
// and transactions. The process does not grow beyond its limit, and those who
// were there before go on: a group that commits, and a producer with transactions.
func TestStrangersOfCoordinators(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	if node.Peer() {
		t.Skip("measures Barnabas")
	}
	metrics := freeAddr(t)
	n := node.Start(t, "coordinator.memory.max.bytes="+fmt.Sprint(coordinatorMemory), "group.initial.rebalance.delay.ms=0", "http.listen="+metrics,
		"durability=os")
	p := &process{t: t, pid: n.PID(), http: metrics}
	create(t, n.Addr)
	createMany(t, n.Addr)
	known := startKnown(t, n.Addr)
	before := p.resident()
	stop := sync.OnceValue(p.watch())
	defer stop()

	s := &strangers{t: t, addr: n.Addr}
	s.mu.codes = map[string]map[string]int{}
	var running sync.WaitGroup
	f := func(kind string, refusal *kerr.Error, request func(int) kmsg.Request, code func(kmsg.Response) int16) {
		running.Go(func() { s.ask(kind, refusal, request, code) })
	}
	f("commits", kerr.InvalidCommitOffsetSize, s.commit, func(r kmsg.Response) int16 { return r.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode })
	f("joins", kerr.GroupMaxSizeReached, s.join, func(r kmsg.Response) int16 { return r.(*kmsg.JoinGroupResponse).ErrorCode })
	f("pends", kerr.GroupMaxSizeReached, s.pend, func(r kmsg.Response) int16 { return r.(*kmsg.JoinGroupResponse).ErrorCode })
	f("beats", kerr.GroupMaxSizeReached, s.beat, func(r kmsg.Response) int16 { return r.(*kmsg.ConsumerGroupHeartbeatResponse).ErrorCode })
	f("regex", kerr.GroupMaxSizeReached, s.regex, func(r kmsg.Response) int16 { return r.(*kmsg.ConsumerGroupHeartbeatResponse).ErrorCode })
	f("inits", kerr.PolicyViolation, s.init, func(r kmsg.Response) int16 { return r.(*kmsg.InitProducerIDResponse).ErrorCode })
	running.Wait()
	known.atWork(20)
	held, grown := p.metric("barnabas_coordinator_memory_bytes"), stop()-before
	t.Logf("%d MiB are kept, the process has grown by %d MiB; answers: %v", held>>20, grown>>20, s.mu.codes)
	if held > coordinatorMemory+coordinatorMemory/50 || held < coordinatorMemory/2 {
		t.Errorf("%d bytes are kept, of %d", held, coordinatorMemory)
	}
	if grown > strangersMayGrow {
		t.Errorf("memory has grown by %d MiB, at most %d are allowed", grown>>20, strangersMayGrow>>20)
	}
	for kind, codes := range s.mu.codes {
		allowed := maps.Clone(codes)
		for _, code := range []error{
			nil, kerr.InvalidCommitOffsetSize, kerr.GroupMaxSizeReached, kerr.PolicyViolation, kerr.MemberIDRequired,
			kerr.CoordinatorLoadInProgress, kerr.ConcurrentTransactions,
		} {
			delete(allowed, fmt.Sprint(code))
		}
		if len(allowed) > 0 {
			t.Errorf("%s: %v", kind, allowed)
		}
	}

	// What was let in is there after a restart.
	known.finish()
	n.Stop()
	n.Again()
	p.pid = n.PID()
	again := startKnown(t, n.Addr)
	again.atWork(5)
	again.finish()
	if held := p.metric("barnabas_coordinator_memory_bytes"); held < 1<<20 || held > coordinatorMemory {
		t.Errorf("%d bytes are kept after a restart, of %d", held, coordinatorMemory)
	}
}

// A topic with partitions that a stranger can commit offsets for.
const (
	manyTopic      = "many"
	manyPartitions = 200
)

func createMany(t *testing.T, addr string) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := kadm.NewClient(c).CreateTopic(t.Context(), manyPartitions, 1, nil, manyTopic); err != nil {
		t.Fatal(err)
	}
}

// known are a group and a transactional producer that were there before.
type known struct {
	t                  *testing.T
	running            sync.WaitGroup
	ended              context.CancelFunc
	commits, committed atomic.Int64 // Commits of offsets, and transactions.
}

func startKnown(t *testing.T, addr string) *known {
	ctx, cancel := context.WithCancel(context.Background())
	k := &known{t: t, ended: cancel}
	k.running.Go(func() { k.produce(ctx, addr) })
	k.running.Go(func() { k.consume(ctx, addr) })
	k.atWork(3)
	return k
}

// atWork waits until both have done something so many times more.
func (k *known) atWork(times int64) {
	k.t.Helper()
	commits, committed := k.commits.Load()+times, k.committed.Load()+times
	end := time.Now().Add(time.Minute)
	for k.commits.Load() < commits || k.committed.Load() < committed {
		if time.Now().After(end) || k.t.Failed() {
			k.t.Fatalf("a known group has committed %d times, a known producer %d transactions", k.commits.Load(), k.committed.Load())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (k *known) finish() {
	k.ended()
	k.running.Wait()
	k.t.Logf("%d commits of a known group, %d transactions of a known producer", k.commits.Load(), k.committed.Load())
}

// produce writes one record in each transaction.
func (k *known) produce(ctx context.Context, addr string) {
	c, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.TransactionalID("known"), kgo.DefaultProduceTopic(topic))
	if err != nil {
		k.t.Error(err)
		return
	}
	defer c.Close()
	for ctx.Err() == nil {
		if err = c.BeginTransaction(); err == nil {
			err = c.ProduceSync(ctx, &kgo.Record{Value: []byte("in a transaction")}).FirstErr()
		}
		if err == nil {
			err = c.EndTransaction(ctx, kgo.TryCommit)
		}
		if ctx.Err() == nil && err != nil {
			k.t.Errorf("a known producer: %v", err)
			return
		}
		k.committed.Add(1)
	}
}

// consume commits what it reads, in a group.
func (k *known) consume(ctx context.Context, addr string) {
	c, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumerGroup("known"), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		k.t.Error(err)
		return
	}
	defer c.Close()
	for ctx.Err() == nil {
		records := c.PollRecords(ctx, 20)
		err := records.Err()
		if err == nil {
			err = c.CommitRecords(ctx, records.Records()...)
		}
		if ctx.Err() == nil && err != nil {
			k.t.Errorf("a known consumer: %v", err)
			return
		}
		k.commits.Add(1)
	}
}
