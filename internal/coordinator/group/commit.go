package group

import (
	"fmt"

	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// Versions of requests about offsets from which topics are named by id
// (KIP-848), and a member's epoch is known.
const (
	commitIDVersion    = 10
	fetchIDVersion     = 10
	txnIDVersion       = 6
	memberEpochVersion = 9 // Of OffsetCommit.
)

// committer is who commits, and how.
type committer struct {
	group, member string
	instance      *string
	generation    int32 // Or the member's epoch; below 0 is none.
	version       int16
	txn           bool
	producer      model.ProducerID // Of txn.
}

// refusal is an answer of Kafka's that says no.
type refusal struct {
	code    wire.ErrorCode
	message string
}

// refuse is a refusal in words. They may contain names of strangers, and must not
// be longer than a string may be.
func refuse(code wire.ErrorCode, format string, args ...any) *refusal {
	message := fmt.Sprintf(format, args...)
	return &refusal{code, message[:min(len(message), maxText)]}
}

// refuseAs is a refusal in Kafka's usual words.
func refuseAs(code wire.ErrorCode) *refusal { return &refusal{code, code.Message()} }

// topicOf finds a topic that is named, from some version on, by its id.
func (m *Machine) topicOf(byID bool, name string, id model.TopicID) (*metadata.Topic, wire.ErrorCode) {
	if byID {
		if t := m.image.TopicByID(id); t != nil {
			return t, wire.None
		}
		return nil, wire.UnknownTopicID
	}
	if t := m.image.Topic(name); t != nil {
		return t, wire.None
	}
	return nil, wire.UnknownTopicOrPartition
}

func hasPartition(t *metadata.Topic, n int32) bool { return n >= 0 && int(n) < len(t.Partitions) }

// metadataTooLarge is about what a client says beside its offset. Kafka counts
// in UTF-16 units, of which there are no more than bytes.
func (m *Machine) metadataTooLarge(s *string) bool {
	limit := m.settings.MetadataMaxBytes
	return s != nil && len(*s) > limit && javaLength(*s) > limit
}

// want is an offset that somebody wants to commit, and where the answer to it is.
type want struct {
	topic                  *metadata.Topic
	partition, leaderEpoch int32
	offset                 int64
	metadata               *string
	code                   *int16
}

// wish collects an offset to commit, if its partition exists: what does not is
// not the group's business, and Kafka says so before it looks at the group.
func (m *Machine) wish(w want, unknown wire.ErrorCode) {
	switch {
	case w.topic == nil:
		*w.code = int16(unknown)
	case !hasPartition(w.topic, w.partition):
		*w.code = int16(wire.UnknownTopicOrPartition)
	default:
		m.wants = append(m.wants, w)
	}
}

// commit takes an OffsetCommit.
func (m *Machine) commit(q *Request, body *wire.OffsetCommitRequest) *wire.OffsetCommitResponse {
	r := wire.NewOffsetCommitResponse()
	m.wants = m.wants[:0]
	r.Topics = make([]wire.OffsetCommitResponseTopic, len(body.Topics))
	for i := range body.Topics {
		in, out := &body.Topics[i], &r.Topics[i]
		t, unknown := m.topicOf(q.Version >= commitIDVersion, in.Name, in.TopicID)
		out.Name, out.TopicID, out.Partitions = in.Name, in.TopicID, make([]wire.OffsetCommitResponsePartition, len(in.Partitions))
		for j := range in.Partitions {
			p := &in.Partitions[j]
			out.Partitions[j].PartitionIndex = p.PartitionIndex
			m.wish(want{t, p.PartitionIndex, p.CommittedLeaderEpoch, p.CommittedOffset, p.CommittedMetadata, &out.Partitions[j].ErrorCode}, unknown)
		}
	}
	expires := int64(-1)
	if body.RetentionTimeMs != -1 {
		expires = max(m.millis+body.RetentionTimeMs, 0)
	}
	m.commitAll(&committer{body.GroupID, body.MemberID, body.GroupInstanceID, body.GenerationIDOrMemberEpoch, q.Version, false, 0}, expires)
	return r
}

// txnCommit takes a TxnOffsetCommit. Its offsets count when the transaction is
// committed.
func (m *Machine) txnCommit(q *Request, body *wire.TxnOffsetCommitRequest) *wire.TxnOffsetCommitResponse {
	r := wire.NewTxnOffsetCommitResponse()
	m.wants = m.wants[:0]
	r.Topics = make([]wire.TxnOffsetCommitResponseTopic, len(body.Topics))
	for i := range body.Topics {
		in, out := &body.Topics[i], &r.Topics[i]
		t, unknown := m.topicOf(q.Version >= txnIDVersion, in.Name, in.TopicID)
		out.Name, out.TopicID, out.Partitions = in.Name, in.TopicID, make([]wire.TxnOffsetCommitResponsePartition, len(in.Partitions))
		for j := range in.Partitions {
			p := &in.Partitions[j]
			out.Partitions[j].PartitionIndex = p.PartitionIndex
			m.wish(want{t, p.PartitionIndex, p.CommittedLeaderEpoch, p.CommittedOffset, p.CommittedMetadata, &out.Partitions[j].ErrorCode}, unknown)
		}
	}
	p := record.Producer{ID: model.ProducerID(body.ProducerID), Epoch: body.ProducerEpoch, Sequence: record.NoSequence}
	switch {
	case body.GroupID == "":
		m.grant(wire.InvalidGroupID)
		return r
	case p.ID < 0 || p.Epoch < 0:
		m.grant(wire.InvalidProducerIDMapping)
		return r
	}
	m.commitAll(&committer{body.GroupID, body.MemberID, body.GroupInstanceID, body.GenerationIDOrMemberEpoch, q.Version, true, p.ID}, -1)
	if len(m.script.records) > 0 {
		m.producer = &p
	}
	return r
}

// grant answers all wishes alike.
func (m *Machine) grant(code wire.ErrorCode) {
	for i := range m.wants {
		*m.wants[i].code = int16(code)
	}
}

// commitAll commits what is wished for, or nothing of it.
func (m *Machine) commitAll(who *committer, expires int64) {
	if len(m.wants) == 0 {
		return
	}
	early, code := m.mayCommit(who)
	if code == wire.None {
		code = m.commitEach(who, early, expires)
	}
	if code != wire.None {
		m.script.reset()
		m.grant(who.known(code))
	}
	clear(m.wants) // They hold the request.
}

func (m *Machine) commitEach(who *committer, early latecomer, expires int64) wire.ErrorCode {
	c := committed{at: m.millis, expires: expires}
	growth := m.growthBy(who)
	for i := range m.wants {
		w := &m.wants[i]
		if m.metadataTooLarge(w.metadata) {
			*w.code = int16(wire.OffsetMetadataTooLarge)
			continue
		}
		if code := early.check(w.topic.ID, w.partition, who.generation); code != wire.None {
			return code
		}
		c.partition, c.leaderEpoch, c.offset = w.partition, w.leaderEpoch, w.offset
		c.metadata, c.topicID = textOf(w.metadata), w.topic.ID
		if !growth.take(w.topic.Name, &c) {
			*w.code = int16(wire.InvalidCommitOffsetSize)
			continue
		}
		m.script.offset(who.group, w.topic.Name, &c)
	}
	if !m.fits() {
		return wire.UnknownServerError // As Kafka answers what is too large to write.
	}
	return wire.None
}

// latecomer is a member of a consumer group whose commit is of an older epoch.
// It may commit for the partitions that it had then and still has (KIP-1251).
type latecomer struct{ member *member }

func (l latecomer) check(id model.TopicID, partition, epoch int32) wire.ErrorCode {
	if l.member == nil {
		return wire.None
	}
	got, ok := l.member.assigned.epoch(id, partition)
	if !ok {
		got, ok = l.member.revoking.epoch(id, partition)
	}
	if ok && epoch >= got {
		return wire.None
	}
	return l.member.stale()
}

// stale is how a member is told that its epoch is not the group's.
func (m *member) stale() wire.ErrorCode {
	if m.classic != nil {
		return wire.IllegalGeneration
	}
	return wire.StaleMemberEpoch
}

// mayCommit checks whether one may commit to its group.
func (m *Machine) mayCommit(who *committer) (latecomer, wire.ErrorCode) {
	g := m.group(who.group)
	switch {
	case g == nil && who.generation < 0:
		return latecomer{}, wire.None // Who commits by hand makes a group of it.
	case g == nil && (who.txn && who.version >= txnIDVersion || !who.txn && who.version >= memberEpochVersion):
		return latecomer{}, wire.GroupIDNotFound
	case g == nil:
		return latecomer{}, wire.IllegalGeneration
	case g.consumer != nil:
		return g.consumer.mayCommit(who)
	}
	return latecomer{}, m.mayCommitClassic(g, who)
}

func (m *Machine) mayCommitClassic(g *group, who *committer) wire.ErrorCode {
	c := g.classic
	if c == nil || c.state == empty {
		if who.generation < 0 {
			return wire.None
		}
		return wire.UnknownMemberID
	}
	switch {
	case who.generation >= 0 || who.member != "" || who.instance != nil:
		if code := c.validate(who.member, who.instance); code != wire.None {
			return code
		}
		if who.generation != c.generation {
			return wire.IllegalGeneration
		}
	case !who.txn:
		return wire.UnknownMemberID
	}
	switch {
	case who.txn:
	case c.state == completing:
		return wire.RebalanceInProgress
	default:
		m.alive(c.members[who.member])
	}
	return wire.None
}

func (c *consumer) mayCommit(who *committer) (latecomer, wire.ErrorCode) {
	if who.generation < 0 && len(c.members) == 0 || who.txn && who.generation == -1 && who.member == "" && who.instance == nil {
		return latecomer{}, wire.None
	}
	member := c.members[who.member]
	switch {
	case member == nil:
		return latecomer{}, wire.UnknownMemberID
	case !who.txn && member.classic == nil && who.version < memberEpochVersion:
		return latecomer{}, wire.UnsupportedVersion
	case who.generation == member.epoch:
		return latecomer{}, wire.None
	case who.generation > member.epoch:
		return latecomer{}, member.stale()
	}
	return latecomer{member}, wire.None
}

// known is a code as who commits can know it: clients of transactions learned of
// epochs late.
func (who *committer) known(code wire.ErrorCode) wire.ErrorCode {
	if code == wire.StaleMemberEpoch && who.txn && who.version < txnIDVersion {
		return wire.IllegalGeneration
	}
	return code
}
