package api

import (
	"errors"
	"strings"
	"time"

	"github.com/barnabas-log/barnabas/internal/listener"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// acksAll asks for an answer when the records are committed.
const acksAll = -1

// serveProduce appends batches in the order in which they came, and answers
// when they are as safe as acks asks.
func (s *session) serveProduce(c *call) {
	x := &s.produce
	defer x.reset()
	if err := x.request.ReadFrom(&s.reader, c.Version); err != nil {
		s.malformed(c.a, c.RequestHeader, err)
		return
	}
	p := s.produces.get()
	if p == nil {
		p = &produceAnswer{session: s}
	}
	s.chargeProduce(c)
	p.begin(c, &x.request)
	x.collect()
	if x.request.TransactionalID != nil {
		x.verdicts = p.verify(c, x)
	}
	for i := range x.wanted {
		p.partition(c, x, &x.wanted[i])
	}
	switch {
	case p.acks == 0 && p.failed:
		p.free()
		s.stats.unanswered(c.Key)
		c.a.Hangup() // The only way to tell a client that does not listen.
	case p.acks == 0:
		p.free()
		s.stats.unanswered(c.Key)
		c.a.Skip()
	case len(p.waits) == 0:
		p.send()
	default:
		p.park(x.request.TimeoutMs)
	}
}

// produceScratch is a request while it is handled.
type produceScratch struct {
	request wire.ProduceRequest
	wanted  []wantedBatch
	topics  places[topicKey]
	found   []*metadata.Topic // By place in topics; nil for what is not.
	parts   places[partKey]
	// A batch is transactional and the request does not say whose.
	nameless bool
	verdicts verdicts // Nil without a transaction.
}

// wantedBatch is one partition of a request.
type wantedBatch struct {
	topic *wire.ProduceRequestTopicProduceData
	in    *wire.ProduceRequestPartitionProduceData
}

type topicKey struct {
	name string
	id   model.TopicID
}

// collect lists the partitions of the request. Of one that is named twice, the
// last batch counts, as in Kafka.
func (x *produceScratch) collect() {
	for i := range x.request.TopicData {
		t := &x.request.TopicData[i]
		for j := range t.PartitionData {
			in := &t.PartitionData[j]
			if x.request.TransactionalID == nil && transactional(in.Records) {
				x.nameless = true
			}
			if place, isNew := x.parts.at(partKey{t.Name, t.TopicID, in.Index}); isNew {
				x.wanted = append(x.wanted, wantedBatch{t, in})
			} else {
				x.wanted[place].in = in
			}
		}
	}
}

// transactional looks at a batch that nobody has checked yet.
func transactional(records []byte) bool {
	b := record.Batch(records)
	return len(b) >= record.HeaderSize && b.Magic() == record.MagicV2 && b.IsTransactional()
}

// reset forgets the request, and gives back what a large one took.
func (x *produceScratch) reset() {
	if cap(x.wanted) > keptParts || cap(x.request.TopicData) > keptTopics {
		*x = produceScratch{}
		return
	}
	for i := range x.request.TopicData {
		t := &x.request.TopicData[i]
		clear(t.PartitionData)
		t.Name = ""
	}
	x.request.Reset()
	clear(x.wanted)
	x.wanted, x.nameless, x.verdicts = x.wanted[:0], false, nil
	clear(x.found)
	x.found = x.found[:0]
	x.topics.reset()
	x.parts.reset()
}

// produceAnswer is the answer to one Produce, while it is made.
type produceAnswer struct {
	session  *session
	call     call
	acks     int16
	response wire.ProduceResponse
	waits    []produceWait
	count    int // Of partitions.
	failed   bool
	deadline time.Time
	alarm    alarm
}

// produceWait is a partition of the answer whose batch is not committed yet.
type produceWait struct {
	partition *partition.Partition
	end       model.Offset
	epoch     model.Epoch
	topic     int // Where in the response.
	index     int
}

func (p *produceAnswer) begin(c *call, q *wire.ProduceRequest) {
	p.call, p.acks, p.failed = *c, q.Acks, false
	p.call.client = p.session.named(c.client)
	p.call.ClientID = nil // Both aliased the frame.
	p.response.Reset()
	p.waits, p.count = p.waits[:0], 0
}

// partition appends one batch. The names in an answer that may be parked must
// not alias the frame.
func (p *produceAnswer) partition(c *call, x *produceScratch, w *wantedBatch) {
	at, isNew := x.topics.at(topicKey{w.topic.Name, w.topic.TopicID})
	if isNew {
		p.begins(c, x, w.topic)
	}
	t := x.found[at]
	p.count++
	out := wire.Extend(&p.response.Responses[at].PartitionResponses)
	out.Index, out.LogStartOffset = w.in.Index, -1
	var err error
	switch {
	case x.nameless:
		err = wire.TransactionalIDAuthorizationFailed
	case t == nil && c.Version >= produceByID:
		err = wire.UnknownTopicID
	case t == nil:
		err = wire.UnknownTopicOrPartition
	default:
		err = p.append(c, x, t, w.in, at, out)
	}
	if err != nil {
		p.refuse(c, out, err)
	}
}

// begins begins the answer for a topic.
func (p *produceAnswer) begins(c *call, x *produceScratch, asked *wire.ProduceRequestTopicProduceData) {
	image := p.session.opts.Metadata.Image()
	out := wire.Extend(&p.response.Responses)
	out.TopicID = asked.TopicID
	var t *metadata.Topic
	if c.Version >= produceByID {
		t = image.TopicByID(asked.TopicID)
	} else {
		t = image.Topic(asked.Name)
	}
	if x.found = append(x.found, t); t != nil {
		out.Name = t.Name
	} else {
		out.Name = strings.Clone(asked.Name)
	}
}

// produceByID is the first Produce that names topics by id (KIP-516).
const produceByID = 13

// append appends one partition's batch.
func (p *produceAnswer) append(c *call, x *produceScratch, t *metadata.Topic, in *wire.ProduceRequestPartitionProduceData, topic int, out *wire.ProduceResponsePartitionProduceResponse) error {
	s := p.session
	if p.acks < acksAll || p.acks > 1 {
		return wire.InvalidRequiredAcks
	}
	if internalTopic(t.Name) && c.client != adminClient {
		return wire.InvalidTopicException
	}
	if in.Index < 0 || int(in.Index) >= len(t.Partitions) {
		return wire.UnknownTopicOrPartition
	}
	replica, err := s.opts.Replicas.Partition(model.Partition{Topic: t.Name, Index: in.Index})
	if err != nil {
		return err
	}
	batch, err := record.Single(in.Records)
	if err != nil {
		return err
	}
	if batch.Codec() == record.Zstd && c.Version < zstdProduce {
		return wire.UnsupportedCompressionType
	}
	o := partition.AppendOptions{AcksAll: p.acks == acksAll}
	if batch.IsTransactional() {
		if o.Guard, err = x.verdicts.of(t.Name, in.Index); err != nil {
			return err
		}
	}
	size := len(batch)
	at, err := replica.AppendWith(batch, o, s.opts.Now())
	if err != nil {
		if tellsStart(code(err)) {
			out.LogStartOffset = int64(replica.Log().Start())
		}
		return err
	}
	out.BaseOffset, out.LogAppendTimeMs, out.LogStartOffset = int64(at.Base), at.LogAppendTime, int64(at.LogStart)
	s.stats.ProducedBatches.Add(1)
	s.stats.ProducedBytes.Add(uint64(size))
	s.stats.ProducedRecords.Add(uint64(at.End - at.Base))
	if p.acks != acksAll {
		return nil
	}
	switch done, err := replica.Acknowledged(at.End, at.Epoch); {
	case err != nil:
		return err
	case !done:
		p.waits = append(p.waits, produceWait{replica, at.End, at.Epoch, topic, len(p.response.Responses[topic].PartitionResponses) - 1})
	}
	return nil
}

// tellsStart reports whether Kafka shows where the log starts beside an error:
// only when it was found while the batch was being validated.
func tellsStart(e wire.ErrorCode) bool {
	switch e {
	case wire.CorruptMessage, wire.MessageTooLarge, wire.RecordListTooLarge, wire.NotLeaderOrFollower, wire.KafkaStorageError,
		wire.UnknownTopicOrPartition:
		return false
	}
	return true
}

// zstdProduce is the first Produce that may carry zstd (KIP-110).
const zstdProduce = 7

// adminClient is the client id that may write to internal topics.
const adminClient = "__admin_client"

func internalTopic(name string) bool {
	switch name {
	case "__consumer_offsets", "__transaction_state", "__share_group_state":
		return true
	}
	return false
}

// refuse puts an error into a partition's answer.
func (p *produceAnswer) refuse(c *call, out *wire.ProduceResponsePartitionProduceResponse, err error) {
	p.failed = true
	p.session.stats.ProduceErrors.Add(1)
	out.ErrorCode = p.session.codeOf(err, c)
	p.session.stats.failed(c.Key, wire.ErrorCode(out.ErrorCode))
	out.BaseOffset, out.LogAppendTimeMs = -1, -1
	var (
		r *record.Error
		v *unverified
	)
	switch {
	case errors.As(err, &v):
		out.ErrorMessage = &v.message
	case errors.Is(err, partition.ErrForeign):
		out.ErrorMessage = new(foreignTopic)
	}
	if !errors.As(err, &r) || !r.Shown {
		return
	}
	out.ErrorMessage = &r.Message
	for _, e := range r.Records {
		x := wire.Extend(&out.RecordErrors)
		x.BatchIndex = e.Index
		if e.Message != "" {
			x.BatchIndexErrorMessage = &e.Message
		}
	}
}

// foreignTopic is what Kafka producers are told of a topic of Dafka producers.
const foreignTopic = "The topic belongs to Dafka producers, whose sequences are its offsets: nobody else can write to it."

// leastProduceWait is how long the leader's own disk may take, whatever the
// client's timeout: that is about other replicas, and Kafka's leader syncs, if
// it is told to, before it looks at the clock.
const leastProduceWait = 5 * time.Second

// park waits for the commit points.
func (p *produceAnswer) park(timeoutMs int32) {
	d := max(leastProduceWait, time.Duration(timeoutMs)*time.Millisecond)
	now := p.session.opts.Now()
	p.call.park(now)
	p.deadline = now.Add(d)
	p.alarm.set(d, p.call.a)
	settled := false
	for _, w := range p.waits {
		if !w.partition.AwaitCommitted(w.end, w.epoch, p.call.a) {
			settled = true
		}
	}
	p.call.a.Park(p)
	if settled {
		p.call.a.Wake()
	}
}

// Poll looks which of the waits have ended. See [listener.Pending].
func (p *produceAnswer) Poll(*listener.Answer) {
	overdue := !p.session.opts.Now().Before(p.deadline)
	left := p.waits[:0]
	for _, w := range p.waits {
		done, err := w.partition.Acknowledged(w.end, w.epoch)
		if !done && err == nil {
			if !overdue {
				left = append(left, w)
				continue
			}
			w.partition.ForgetCommit(p.call.a)
			err = wire.RequestTimedOut // The records stay.
		}
		if err != nil {
			out := &p.response.Responses[w.topic].PartitionResponses[w.index]
			out.ErrorCode = p.session.codeOf(err, &p.call)
			p.session.stats.ProduceErrors.Add(1)
			p.session.stats.failed(p.call.Key, wire.ErrorCode(out.ErrorCode))
		}
	}
	p.waits = left
	if len(left) == 0 {
		p.alarm.stop()
		p.send()
	}
}

// Cancel forgets the waits of a connection that has ended.
func (p *produceAnswer) Cancel() {
	p.session.stats.unanswered(p.call.Key)
	p.alarm.stop()
	for _, w := range p.waits {
		w.partition.ForgetCommit(p.call.a)
	}
}

func (p *produceAnswer) send() {
	s := p.session
	s.reply(&p.call, &p.response)
	p.free()
}

func (p *produceAnswer) free() {
	clear(p.waits)
	p.waits = p.waits[:0]
	if len(p.response.Responses) <= keptTopics && p.count <= keptParts {
		p.session.produces.put(p)
	}
}

// keptTopics is how large an answer may be to be kept for the next one.
const keptTopics = 64
