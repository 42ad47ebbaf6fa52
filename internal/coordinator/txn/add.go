package txn

import (
	"slices"
	"time"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// adding is what clients and brokers want to put into a transaction.
type adding struct {
	id       string
	producer identity
	topics   []wire.AddPartitionsToTxnRequestAddPartitionsToTxnTopic
	// version is the transaction version that the request tells of.
	version int16
}

// addPartitions puts partitions into a transaction, or tells a broker whether
// they are in it.
func (m *Machine) addPartitions(now time.Time, q *wire.AddPartitionsToTxnRequest, version int16) wire.Response {
	r := wire.NewAddPartitionsToTxnResponse()
	if version < brokersAdd {
		a := adding{q.V3AndBelowTransactionalID, identity{model.ProducerID(q.V3AndBelowProducerID), q.V3AndBelowProducerEpoch}, q.V3AndBelowTopics, 0}
		code := fencedAs(m.add(now, &a), version, 2)
		r.ResultsByTopicV3AndBelow = results(a.topics, func(string, int32) int16 { return code })
		return r
	}
	for i := range q.Transactions[:min(1, len(q.Transactions))] {
		x := &q.Transactions[i]
		a := adding{x.TransactionalID, identity{model.ProducerID(x.ProducerID), x.ProducerEpoch}, x.Topics, epochTwo}
		out := wire.Extend(&r.ResultsByTransaction)
		out.TransactionalID = x.TransactionalID
		if x.VerifyOnly {
			out.TopicResults = m.verify(&a)
			continue
		}
		code := int16(m.add(now, &a))
		out.TopicResults = results(a.topics, func(string, int32) int16 { return code })
	}
	return r
}

// brokersAdd is the first AddPartitionsToTxn that only brokers send (KIP-890).
const brokersAdd = 4

// addOffsets puts a group's partition of __consumer_offsets into a transaction.
func (m *Machine) addOffsets(now time.Time, body *wire.AddOffsetsToTxnRequest, q *Request) wire.Response {
	r := wire.NewAddOffsetsToTxnResponse()
	a := adding{body.TransactionalID, identity{model.ProducerID(body.ProducerID), body.ProducerEpoch}, []wire.AddPartitionsToTxnRequestAddPartitionsToTxnTopic{
		{Name: q.Partition.Topic, Partitions: []int32{q.Partition.Index}},
	}, 0}
	r.ErrorCode = fencedAs(m.add(now, &a), q.Version, 2)
	return r
}

// results answers for each partition.
func results(asked []wire.AddPartitionsToTxnRequestAddPartitionsToTxnTopic, code func(topic string, partition int32) int16) []wire.AddPartitionsToTxnResponseAddPartitionsToTxnTopicResult {
	out := make([]wire.AddPartitionsToTxnResponseAddPartitionsToTxnTopicResult, len(asked))
	for i, t := range asked {
		out[i].Name = t.Name
		out[i].ResultsByPartition = make([]wire.AddPartitionsToTxnResponseAddPartitionsToTxnPartitionResult, len(t.Partitions))
		for j, p := range t.Partitions {
			out[i].ResultsByPartition[j] = wire.AddPartitionsToTxnResponseAddPartitionsToTxnPartitionResult{
				PartitionIndex: p, PartitionErrorCode: code(t.Name, p),
			}
		}
	}
	return out
}

// verify tells which partitions are in the transaction that a producer says it
// has open: a broker asks before it begins to take a transaction's records.
func (m *Machine) verify(a *adding) []wire.AddPartitionsToTxnResponseAddPartitionsToTxnTopicResult {
	e, code := m.find(a)
	return results(a.topics, func(topic string, partition int32) int16 {
		if code == wire.None && !e.topics.has(topic, partition) {
			return int16(wire.TransactionAbortable)
		}
		return int16(code)
	})
}

// find looks for the transactional id, and whether its producer is who it must
// be and the last transaction is completed.
func (m *Machine) find(a *adding) (*entry, wire.ErrorCode) {
	e := m.ids[a.id]
	switch {
	case a.id == "":
		return nil, wire.InvalidRequest
	case e == nil:
		return nil, wire.InvalidProducerIDMapping
	case e.status.prepared() && a.producer == e.successor():
		return nil, wire.ConcurrentTransactions
	case e.producer != a.producer.id:
		return nil, wire.InvalidProducerIDMapping
	case e.epoch != a.producer.epoch:
		return nil, wire.ProducerFenced
	case e.status.prepared():
		return nil, wire.ConcurrentTransactions
	}
	return e, wire.None
}

// add puts partitions into the transaction, and begins it if need be.
func (m *Machine) add(now time.Time, a *adding) wire.ErrorCode {
	e, code := m.find(a)
	if code != wire.None {
		return code
	}
	merged, grown := e.topics.with(a.topics)
	if e.status == ongoing && !grown {
		return wire.None
	}
	switch {
	case grown && !m.fits(e.id, merged):
		return wire.UnknownServerError // Kafka's answer for a record that is too large for its log.
	case grown && !m.opts.Memory.Fits(merged.cost()-e.most, true):
		return wire.PolicyViolation
	}
	t := e.transaction
	if e.status != ongoing {
		t.started = now.UnixMilli()
	}
	t.status, t.topics, t.previous, t.updated, t.version = ongoing, merged, e.producer, now.UnixMilli(), a.version
	m.write(e.id, &t)
	return wire.None
}

// with returns the topics with others among them, and whether any of these is
// new. What it returns may share memory with both.
func (t topics) with(more []wire.AddPartitionsToTxnRequestAddPartitionsToTxnTopic) (merged topics, grown bool) {
	for _, x := range more {
		for _, p := range x.Partitions {
			grown = grown || !t.has(x.Name, p)
		}
	}
	if !grown {
		return t, false
	}
	merged = make(topics, 0, len(t)+len(more))
	for _, x := range t {
		merged = append(merged, wire.TransactionLogRecordValuePartitionsSchema{Topic: x.Topic, PartitionIDs: slices.Clone(x.PartitionIDs)})
	}
	for _, x := range more {
		if len(x.Partitions) > 0 {
			merged = append(merged, wire.TransactionLogRecordValuePartitionsSchema{Topic: x.Name, PartitionIDs: slices.Clone(x.Partitions)})
		}
	}
	return merged.sorted(), true
}
