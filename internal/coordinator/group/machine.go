package group

import (
	"cmp"
	"math"
	"time"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// Machine is the coordinator of the groups of one shard.
type Machine struct {
	opts     Options
	settings config.Groups
	image    *metadata.Image

	// Hard: what Apply has made of the log. A group has a hard part, too.
	groups  map[string]*group
	pending map[model.ProducerID]transaction
	order   uint64 // Of the last record of an offset.
	bytes   int    // What all of it takes, and what is soft: see memory.go.

	soft

	// What Handle returns, and its memory.
	script   script
	producer *record.Producer
	marker   *coordinator.Marker
	replies  []coordinator.Reply
	batches  []coordinator.Batch
	reader   wire.Reader // Of Apply.
	keys     keys
	wants    []want
}

// group is what is known of one group: what the log says, and what a failover
// may lose.
type group struct {
	id string

	// Hard.
	offsets  offsets
	open     open
	record   *wire.GroupMetadataRecordValue // Of a classic group.
	consumer *consumer
	held     int // What transactions hold, in bytes,
	mostHeld int // and have held at most.

	// Soft.
	classic *classic
	watch   *watch // Of a consumer group.
	shell   uint64 // Its number among the shells, or 0.
	doomed  bool   // It goes with its last record.
}

var _ coordinator.Machine = (*Machine)(nil)

// New returns a machine that knows no group.
func New(o Options) *Machine {
	if o.MaxBatch <= 0 {
		o.MaxBatch = 1 << 20
	}
	if o.Image == nil {
		o.Image = metadata.Empty()
	}
	m := &Machine{
		opts: o, settings: usable(o.Settings), image: o.Image, groups: map[string]*group{}, pending: map[model.ProducerID]transaction{},
		soft: newSoft(),
	}
	m.newTopics = m.version()
	return m
}

// Handle implements [coordinator.Machine]. The batches it returns are the
// machine's again with the next call.
func (m *Machine) Handle(now time.Time, to coordinator.Token, in any) coordinator.Effects {
	m.begin(now)
	switch in := in.(type) {
	case nil:
		m.ring()
	case Request:
		m.request(to, &in)
	case Marker:
		m.mark(to, in)
	case News:
		m.news(in)
	}
	return m.finish()
}

func (m *Machine) begin(now time.Time) {
	m.look(now)
	if cap(m.script.memory) > keptMemory { // There may be a hundred shards.
		m.script, m.keys, m.batches = script{}, keys{}, nil
		m.reader.Reset(nil)
	}
	m.script.reset()
	m.producer, m.marker, m.replies = nil, nil, nil
}

// finish turns what was written into batches. What is larger than a batch is
// cut: offsets of one commit never are, and a group whose records are cut by a
// crash is one whose members have to join again, or be assigned again.
func (m *Machine) finish() coordinator.Effects {
	e := coordinator.Effects{Replies: m.replies}
	m.batches = m.batches[:0]
	switch records := m.script.records; {
	case m.marker != nil:
		m.batches = append(m.batches, coordinator.Batch{Producer: m.producer, Marker: m.marker})
	case m.producer != nil:
		m.batches = append(m.batches, coordinator.Batch{Records: records, Producer: m.producer})
	case m.fits():
		if len(records) > 0 {
			m.batches = append(m.batches, coordinator.Batch{Records: records})
		}
	default:
		m.cut(records)
	}
	e.Batches = m.batches
	return e
}

// fits reports whether what was written is small enough for one batch.
func (m *Machine) fits() bool { return m.script.bytes+record.HeaderSize <= m.opts.MaxBatch }

// eachFits reports whether each record is small enough for a batch.
func (m *Machine) eachFits() bool { return m.script.largest+record.HeaderSize <= m.opts.MaxBatch }

func (m *Machine) cut(records []coordinator.Record) {
	first, bytes := 0, record.HeaderSize
	for i, r := range records {
		size := len(r.Key) + len(r.Value) + recordOverhead
		if i > first && bytes+size > m.opts.MaxBatch {
			m.batches = append(m.batches, coordinator.Batch{Records: records[first:i]})
			first, bytes = i, record.HeaderSize
		}
		bytes += size
	}
	m.batches = append(m.batches, coordinator.Batch{Records: records[first:]})
}

// reply answers an input, if it wants that.
func (m *Machine) reply(to coordinator.Token, answer any) {
	if to != 0 {
		m.replies = append(m.replies, coordinator.Reply{To: to, Answer: answer})
	}
}

// request finds out what is asked.
func (m *Machine) request(to coordinator.Token, q *Request) {
	switch body := q.Body.(type) {
	case *wire.OffsetCommitRequest:
		m.reply(to, m.commit(q, body))
	case *wire.HeartbeatRequest:
		m.reply(to, m.heartbeat(body))
	case *wire.ConsumerGroupHeartbeatRequest:
		m.reply(to, m.consumerHeartbeat(q, body))
	case *wire.OffsetFetchRequest:
		m.reply(to, m.fetch(q, body))
	case *wire.TxnOffsetCommitRequest:
		m.reply(to, m.txnCommit(q, body))
	case *wire.JoinGroupRequest:
		m.join(parked{to, q.Version}, q, body)
	case *wire.SyncGroupRequest:
		m.sync(to, q, body)
	case *wire.LeaveGroupRequest:
		m.reply(to, m.leave(q, body))
	case *wire.OffsetDeleteRequest:
		m.reply(to, m.deleteOffsets(body))
	case *wire.ListGroupsRequest:
		m.reply(to, m.list(body))
	case *wire.DescribeGroupsRequest:
		m.reply(to, m.describe(q, body))
	case *wire.DeleteGroupsRequest:
		m.reply(to, m.deleteGroups(body))
	case *wire.ConsumerGroupDescribeRequest:
		m.reply(to, m.consumerDescribe(body))
	default:
		m.reply(to, wire.UnknownServerError)
	}
}

// usable fills in Kafka's defaults where zero would make no sense.
func usable(s config.Groups) config.Groups {
	s.MaxSessionTimeout = cmp.Or(s.MaxSessionTimeout, 30*time.Minute)
	s.MaxSize, s.ConsumerMaxSize = cmp.Or(s.MaxSize, math.MaxInt32), cmp.Or(s.ConsumerMaxSize, math.MaxInt32)
	s.OffsetsRetention, s.OffsetsCheck = cmp.Or(s.OffsetsRetention, 7*24*time.Hour), cmp.Or(s.OffsetsCheck, 10*time.Minute)
	s.ConsumerSession, s.ConsumerHeartbeat = cmp.Or(s.ConsumerSession, 45*time.Second), cmp.Or(s.ConsumerHeartbeat, 5*time.Second)
	s.MaxConsumerSession, s.MaxHeartbeat = cmp.Or(s.MaxConsumerSession, time.Minute), cmp.Or(s.MaxHeartbeat, 15*time.Second)
	s.MaxAssignment = cmp.Or(s.MaxAssignment, 15*time.Second)
	s.MetadataMaxBytes = cmp.Or(s.MetadataMaxBytes, 4096)
	s.RegexRefresh, s.MigrationPolicy = cmp.Or(s.RegexRefresh, 10*time.Minute), cmp.Or(s.MigrationPolicy, "bidirectional")
	if len(s.Assignors) == 0 {
		s.Assignors = []string{uniform, ranges}
	}
	return s
}

// version is the number of the cluster's state that is looked at: the offset of
// the last record in it, as Kafka has it.
func (m *Machine) version() int64 { return int64(m.image.End()) - 1 }

// group returns what is known of a group, nil if nothing is.
func (m *Machine) group(id string) *group { return m.groups[id] }
