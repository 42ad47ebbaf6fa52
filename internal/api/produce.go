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

// minProduce is the oldest Produce that we understand. Version 0 is advertised
// all the same: librdkafka turns compression off when it is not (KAFKA-18659).
const minProduce = 3

// serveProduce appends batches in the order in which they came, and answers
// when they are as safe as acks asks.
func (s *session) serveProduce(c *call) {
	q := &s.produce
	q.Reset()
	if err := wire.ReadExactly(&s.reader, q, c.Version); err != nil {
		s.malformed(c.a, c.RequestHeader, err)
		return
	}
	p := s.produces.get()
	if p == nil {
		p = &produceAnswer{session: s}
	}
	p.begin(c, q)
	for i := range q.TopicData {
		p.topic(c, &q.TopicData[i])
	}
	switch {
	case q.Acks == 0 && p.failed:
		p.free()
		c.a.Hangup() // The only way to tell a client that does not listen.
	case q.Acks == 0:
		p.free()
		c.a.Skip()
	case len(p.waits) == 0:
		p.send()
	default:
		p.park(q.TimeoutMs)
	}
}

// produceAnswer is the answer to one Produce, while it is made.
type produceAnswer struct {
	session  *session
	call     call
	acks     int16
	response wire.ProduceResponse
	waits    []produceWait
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
	p.call.client = ""
	p.call.ClientID = nil // Both alias the frame.
	p.response.Reset()
	p.waits = p.waits[:0]
}

// topic appends to the partitions of one topic. The names in an answer that
// may be parked must not alias the frame.
func (p *produceAnswer) topic(c *call, t *wire.ProduceRequestTopicProduceData) {
	image := p.session.opts.Metadata.Image()
	var topic *metadata.Topic
	missing := wire.UnknownTopicOrPartition
	if c.Version >= 13 {
		topic, missing = image.TopicByID(t.TopicID), wire.UnknownTopicID
	} else {
		topic = image.Topic(t.Name)
	}
	out := wire.Extend(&p.response.Responses)
	out.TopicID = t.TopicID
	if topic != nil {
		out.Name = topic.Name
	} else {
		out.Name = strings.Clone(t.Name)
	}
	for i := range t.PartitionData {
		in := &t.PartitionData[i]
		answer := wire.Extend(&out.PartitionResponses)
		answer.Index = in.Index
		var err error = missing
		if topic != nil {
			err = p.append(c, topic, in, answer)
		}
		if err != nil {
			p.refuse(c, answer, err)
		}
	}
}

// append appends one partition's batch.
func (p *produceAnswer) append(c *call, t *metadata.Topic, in *wire.ProduceRequestPartitionProduceData, out *wire.ProduceResponsePartitionProduceResponse) error {
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
	if batch.IsTransactional() && !batch.IsControl() {
		// There is no coordinator yet that could vouch for the transaction.
		return wire.InvalidTxnState
	}
	size := len(batch)
	at, err := replica.Append(batch, p.acks == acksAll, s.opts.Now())
	if err != nil {
		return err
	}
	out.BaseOffset, out.LogAppendTimeMs, out.LogStartOffset = int64(at.Base), at.LogAppendTime, int64(at.LogStart)
	s.stats.ProducedBytes.Add(uint64(size))
	s.stats.ProducedRecords.Add(uint64(at.End - at.Base))
	if p.acks != acksAll {
		return nil
	}
	switch done, err := replica.Acknowledged(at.End, at.Epoch); {
	case err != nil:
		return err
	case !done:
		p.waits = append(p.waits, produceWait{
			replica, at.End, at.Epoch, len(p.response.Responses) - 1,
			len(p.response.Responses[len(p.response.Responses)-1].PartitionResponses) - 1,
		})
	}
	return nil
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
	out.BaseOffset, out.LogAppendTimeMs, out.LogStartOffset = -1, -1, -1
	var r *record.Error
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

// park waits for the commit points.
func (p *produceAnswer) park(timeoutMs int32) {
	d := time.Duration(timeoutMs) * time.Millisecond
	p.deadline = p.session.opts.Now().Add(d)
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
			p.refuse(&p.call, &p.response.Responses[w.topic].PartitionResponses[w.index], err)
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
	clear(p.waits[:cap(p.waits)])
	if len(p.response.Responses) <= keptTopics {
		p.session.produces.put(p)
	}
}

// keptTopics is how large an answer may be to be kept for the next one.
const keptTopics = 64
