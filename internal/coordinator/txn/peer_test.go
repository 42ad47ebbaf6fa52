package txn

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// settings are Kafka's defaults, but for time-outs that a test can wait for.
func settings() config.Txn {
	return config.Txn{
		MaxTimeout: 15 * time.Minute, Expiration: 7 * 24 * time.Hour, AbortCheck: time.Second, ExpireCheck: time.Hour, Verify: true,
	}
}

// machinePeer is a machine over a log in memory, where all is committed at once.
type machinePeer struct {
	t       *testing.T
	opts    Options
	m       *Machine
	now     time.Time
	log     []coordinator.Record
	nextID  model.ProducerID
	byHand  bool           // Markers are written when the script says so.
	drought bool           // There are no producer ids.
	pending []WriteMarkers // Sent and not written.
	events  []string
}

func newMachinePeer(t *testing.T) *machinePeer {
	p := &machinePeer{t: t, now: time.UnixMilli(1_700_000_000_000), nextID: 1000}
	p.opts = Options{Settings: settings(), TransactionVersion: 2, MaxBatch: 1 << 20}
	p.load(p.log)
	return p
}

// load makes a new machine from a log.
func (p *machinePeer) load(log []coordinator.Record) {
	p.opts.Memory.Release()
	p.m, p.pending = New(p.opts), nil
	for _, r := range log {
		if err := p.m.Apply(coordinator.Origin{}, r.Key, r.Value); err != nil {
			p.t.Fatal(err)
		}
	}
	p.m.Loaded(p.now)
	p.due()
}

// handle gives an input and obeys what follows.
func (p *machinePeer) handle(to coordinator.Token, in any) any {
	e := p.m.Handle(p.now, to, in)
	for _, b := range e.Batches {
		for _, r := range b.Records {
			r = coordinator.Record{Key: slices.Clone(r.Key), Value: slices.Clone(r.Value)}
			p.log = append(p.log, r)
			if err := p.m.Apply(coordinator.Origin{}, r.Key, r.Value); err != nil {
				p.t.Fatal(err)
			}
		}
	}
	var answer any
	for _, r := range e.Replies {
		if r.To != to {
			p.t.Fatalf("reply to %d", r.To)
		}
		answer = r.Answer
	}
	for _, s := range e.Sends {
		p.obey(s)
	}
	return answer
}

func (p *machinePeer) obey(send any) {
	switch s := send.(type) {
	case NeedProducerIDs:
		block := ProducerIDs{p.nextID, p.nextID + 100}
		if p.drought {
			block = ProducerIDs{}
		} else {
			p.nextID += 100
		}
		p.handle(0, block)
	case WriteMarkers:
		if !p.byHand {
			p.handle(0, MarkersWritten{s.TransactionalID, s.Attempt, s.Partitions})
			return
		}
		p.pending = slices.DeleteFunc(p.pending, func(w WriteMarkers) bool { return w.TransactionalID == s.TransactionalID })
		p.pending = append(p.pending, s)
		kind := "abort"
		if s.Committed {
			kind = "commit"
		}
		p.events = append(p.events, fmt.Sprintf("%s epoch %d version %d %v", kind, s.Epoch, s.TransactionVersion, s.Partitions))
	case TimedOut:
		p.events = append(p.events, fmt.Sprintf("timed out after %v", s.OpenFor))
	default:
		p.t.Fatalf("sent %T", send)
	}
}

// due handles deadlines that have come.
func (p *machinePeer) due() {
	for i := 0; !p.m.Deadline().IsZero() && !p.m.Deadline().After(p.now); i++ {
		if i > 1000 {
			p.t.Fatal("the deadline does not pass")
		}
		p.handle(0, nil)
	}
}

func (p *machinePeer) ask(q wire.Request, version int16, group model.Partition) wire.Response {
	p.now = p.now.Add(time.Millisecond)
	r := p.handle(1, Request{Body: q, Version: version, Partition: group}).(wire.Response)
	p.due()
	return r
}

// sleep lets time pass, deadline by deadline.
func (p *machinePeer) sleep(d time.Duration) {
	end := p.now.Add(d)
	for {
		at := p.m.Deadline()
		if at.IsZero() || at.After(end) {
			break
		}
		p.now = at
		p.due()
	}
	p.now = end
}

func (p *machinePeer) records(id string) (out []value) {
	for _, r := range p.log {
		if name, v := decode(p.t, r.Key, r.Value); name == id {
			out = append(out, v)
		}
	}
	return out
}

// decode reads a record with the codec alone, into memory of its own.
func decode(t *testing.T, key, val []byte) (id string, v value) {
	k, err := wire.ReadCoordinatorKey(slices.Clone(key), wire.NewTransactionKey)
	if err != nil {
		t.Fatal(err)
	}
	if val == nil {
		return k.(*wire.TransactionLogRecordKey).TransactionalID, v
	}
	v.TransactionLogRecordValue = wire.NewTransactionLogRecordValue()
	if v.version, err = wire.ReadCoordinatorValue(slices.Clone(val), v.TransactionLogRecordValue); err != nil {
		t.Fatal(err)
	}
	return k.(*wire.TransactionLogRecordKey).TransactionalID, v
}

// play is for commands that only a machine understands.
func (p *machinePeer) play(command string, a args) string {
	p.events = nil
	switch command {
	case "markers": // by hand, or by themselves
		p.byHand = a.has("hand")
	case "write":
		p.markers(a)
	case "leap": // The clock is set.
		p.now = p.now.Add(must(time.ParseDuration(a.words[0])))
	case "restart":
		p.load(p.log)
	case "compact":
		p.log = compacted(p.log)
		p.load(p.log)
	case "feature":
		p.opts.TransactionVersion = int16(a.num("version", 2))
		p.handle(0, News{p.opts.Settings, p.opts.TransactionVersion})
	case "drought":
		p.drought = a.has("on")
		p.m.fresh, p.m.askedAt = ProducerIDs{}, time.Time{}
	case "allow":
		p.opts.Settings.TwoPhase = a.has("2pc")
		p.handle(0, News{p.opts.Settings, p.opts.TransactionVersion})
	case "limit":
		p.opts.Memory, p.opts.MaxBatch = coordinator.NewMemory(a.num("bytes", 0)).Share(), int(a.num("batch", 1<<20))
		p.load(p.log)
	case "sent":
		for _, w := range p.pending {
			p.events = append(p.events, fmt.Sprint(w.Partitions))
		}
	default:
		p.t.Fatalf("unknown command %q", command)
	}
	p.due()
	return strings.Join(append(p.events, "ok"), "\n")
}

// markers says that markers of a transactional id were written: all that are
// pending, or some.
func (p *machinePeer) markers(a args) {
	pending := slices.DeleteFunc(slices.Clone(p.pending), func(w WriteMarkers) bool { return w.TransactionalID != a.id })
	if len(a.topics) == 0 && a.num("older", 0) == 0 {
		p.pending = slices.DeleteFunc(p.pending, func(w WriteMarkers) bool { return w.TransactionalID == a.id })
	}
	for _, w := range pending {
		in := MarkersWritten{w.TransactionalID, w.Attempt - uint64(a.num("older", 0)), w.Partitions}
		if len(a.topics) > 0 {
			in.Partitions = nil
			for _, t := range a.topics {
				for _, i := range t.partitions {
					in.Partitions = append(in.Partitions, model.Partition{Topic: t.name, Index: i})
				}
			}
		}
		p.handle(0, in)
	}
}

// compacted is a log of which compaction has left the last record of each key.
func compacted(log []coordinator.Record) (out []coordinator.Record) {
	last := map[string]int{}
	for i, r := range log {
		last[string(r.Key)] = i
	}
	for i, r := range log {
		if last[string(r.Key)] == i {
			out = append(out, r)
		}
	}
	return out
}

// kafkaPeer is one connection to a real Kafka.
type kafkaPeer struct {
	t     *testing.T
	conn  net.Conn
	count int32
	hasty bool // Nothing is under way: there is nothing to wait for.
}

func newKafkaPeer(t *testing.T, address string) *kafkaPeer {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	p := &kafkaPeer{t: t, conn: conn}
	topics := wire.NewCreateTopicsRequest()
	for _, name := range []string{"t", "u", "v"} {
		x := wire.Extend(&topics.Topics)
		x.Name, x.NumPartitions, x.ReplicationFactor = name, 3, 1
	}
	p.do(topics, 5)
	find := wire.NewFindCoordinatorRequest()
	find.KeyType, find.CoordinatorKeys = 1, []string{"x"}
	for p.do(find, 4).(*wire.FindCoordinatorResponse).Coordinators[0].ErrorCode != 0 {
		time.Sleep(100 * time.Millisecond)
	}
	return p
}

// do sends a request and returns the answer.
func (p *kafkaPeer) do(q wire.Request, version int16) wire.Response {
	p.t.Helper()
	p.count++
	client := "barnabas-test"
	frame, err := wire.AppendRequest(nil, wire.RequestHeader{Key: q.Key(), Version: version, CorrelationID: p.count, ClientID: &client}, q)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.conn.Write(frame); err != nil {
		p.t.Fatal(err)
	}
	var size [4]byte
	if _, err := io.ReadFull(p.conn, size[:]); err != nil {
		p.t.Fatalf("%s version %d: %v", q.Key(), version, err)
	}
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(p.conn, body); err != nil {
		p.t.Fatal(err)
	}
	r := wire.NewReader(body)
	if _, err := wire.ReadResponseHeader(r, q.Key(), version); err != nil {
		p.t.Fatal(err)
	}
	answer := q.NewResponse()
	if err := answer.ReadFrom(r, version); err != nil {
		p.t.Fatal(err)
	}
	return answer
}

// ask waits until all that was decided is complete, as the machine's peer does.
func (p *kafkaPeer) ask(q wire.Request, version int16, _ model.Partition) wire.Response {
	for {
		r := p.do(q, version)
		if x, ok := q.(*wire.InitProducerIDRequest); ok && p.hasty && x.ProducerID < 0 && !loading(r) {
			return r
		}
		if !loading(r) {
			p.settle()
			return r
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func loading(r wire.Response) bool {
	x, ok := r.(*wire.InitProducerIDResponse)
	return ok && slices.Contains([]wire.ErrorCode{wire.CoordinatorLoadInProgress, wire.CoordinatorNotAvailable, wire.NotCoordinator}, wire.ErrorCode(x.ErrorCode))
}

func (p *kafkaPeer) settled() bool {
	list := wire.NewListTransactionsRequest()
	list.StateFilters = []string{"PrepareCommit", "PrepareAbort"}
	r := p.do(list, 1).(*wire.ListTransactionsResponse)
	return r.ErrorCode == 0 && len(r.TransactionStates) == 0
}

func (p *kafkaPeer) settle() {
	for {
		if p.settled() {
			// The completion is in the log before it is in the cache: once more.
			time.Sleep(20 * time.Millisecond)
			if p.settled() {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (p *kafkaPeer) sleep(d time.Duration) {
	time.Sleep(d)
	p.settle()
}

func (p *kafkaPeer) records(id string) (out []value) {
	q := wire.NewFetchRequest()
	q.MaxBytes, q.SessionEpoch = math.MaxInt32, -1
	topic := wire.Extend(&q.Topics)
	topic.Topic = "__transaction_state"
	x := wire.Extend(&topic.Partitions)
	x.Partition, x.PartitionMaxBytes = coordinator.Partition(id, 50), math.MaxInt32
	r := p.do(q, 12).(*wire.FetchResponse)
	rest := r.Responses[0].Partitions[0].Records
	for len(rest) > 0 {
		b, after, err := record.Next(rest)
		if err != nil {
			p.t.Fatal(err)
		}
		rest = after
		for x, err := range b.Records(0) {
			if err != nil {
				p.t.Fatal(err)
			}
			if name, v := decode(p.t, x.Key, x.Value); name == id {
				out = append(out, v)
			}
		}
	}
	return out
}
