package api

import (
	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/coordinator/txn"
	"github.com/barnabas-log/barnabas/internal/producers"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// support is what a client knows of KIP-890.
type support uint8

const (
	oldErrors     support = iota
	knowsAbort            // It takes TRANSACTION_ABORTABLE.
	addsByWriting         // It leaves it to its writes to add partitions.
)

func supportOf(version, abort, adds int16) support {
	switch {
	case version >= adds:
		return addsByWriting
	case version >= abort:
		return knowsAbort
	}
	return oldErrors
}

// brokersAdd is the version of AddPartitionsToTxn by which brokers ask.
const brokersAdd = 5

// addQuestion asks a transaction's coordinator whether partitions are part of
// it, or makes them so.
func addQuestion(id string, producer int64, epoch int16, by support, partitions []model.Partition) txn.Request {
	q := wire.NewAddPartitionsToTxnRequest()
	t := wire.Extend(&q.Transactions)
	t.TransactionalID, t.ProducerID, t.ProducerEpoch, t.VerifyOnly = id, producer, epoch, by != addsByWriting
	for _, p := range partitions {
		if n := len(t.Topics); n == 0 || t.Topics[n-1].Name != p.Topic {
			wire.Extend(&t.Topics).Name = p.Topic
		}
		last := &t.Topics[len(t.Topics)-1]
		last.Partitions = append(last.Partitions, p.Index)
	}
	return txn.Request{Body: q, Version: brokersAdd}
}

// addedCode is what became of the only partition of an addQuestion.
func addedCode(answer any, err error, by support) wire.ErrorCode {
	codes := addedCodes(answer, err, by)
	if len(codes) != 1 {
		return wire.UnknownServerError
	}
	return codes[0]
}

// addedCodes is what became of the partitions of an addQuestion, in its order,
// as the client may be told. An error of the shard is one code for all.
func addedCodes(answer any, err error, by support) (codes []wire.ErrorCode) {
	if err != nil {
		return []wire.ErrorCode{code(err)}
	}
	for _, t := range answer.(*wire.AddPartitionsToTxnResponse).ResultsByTransaction {
		for i := range t.TopicResults {
			for j := range t.TopicResults[i].ResultsByPartition {
				codes = append(codes, clientCode(wire.ErrorCode(t.TopicResults[i].ResultsByPartition[j].PartitionErrorCode), by))
			}
		}
	}
	return codes
}

// clientCode is a coordinator's code for a producer, which knows other ones.
func clientCode(e wire.ErrorCode, by support) wire.ErrorCode {
	switch {
	case e == wire.ProducerFenced:
		return wire.InvalidProducerEpoch
	case e == wire.TransactionAbortable && by == oldErrors:
		return wire.InvalidTxnState
	}
	return e
}

// Versions of TxnOffsetCommit (KIP-890): from the first on clients know
// TRANSACTION_ABORTABLE, from the second on a commit adds its group to the
// transaction; before, AddOffsetsToTxn has.
const (
	firstAbortableOffsets = 4
	firstImplicitOffsets  = 5
)

// txnOffsetCommit commits offsets in a transaction. The transaction's
// coordinator is asked first whether it is open here, or to make it so: offsets
// that come late must not begin a transaction that nobody ends.
func (s *session) txnOffsetCommit(c *call, q *wire.TxnOffsetCommitRequest) {
	refused := func(e wire.ErrorCode) wire.Response { return txnOffsetsRefused(q, e) }
	shard, of := s.groupShard(q.GroupID), s.txnShard(q.TransactionalID)
	switch {
	case shard < 0:
		s.reply(c, refused(wire.NotCoordinator))
		return
	case of < 0:
		s.reply(c, refused(wire.CoordinatorNotAvailable))
		return
	}
	by := supportOf(c.Version, firstAbortableOffsets, firstImplicitOffsets)
	at := model.Partition{Topic: controller.OffsetsTopic, Index: shard}
	v := s.verification(at, record.Producer{ID: model.ProducerID(q.ProducerID), Epoch: q.ProducerEpoch, Sequence: record.NoSequence}, by)
	if v.err != nil {
		s.reply(c, refused(offsetsCode(code(v.err))))
		return
	}
	if v.guard == producers.NoGuard {
		s.ask(c, s.opts.Groups, shard, s.groupQuestion(c, q), refused)
		return
	}
	in, p := s.groupQuestion(c, q), s.coordinated(c)
	give := func(answer any, err error) {
		if err != nil {
			p.give(refused(code(err)))
			return
		}
		p.give(answer.(wire.Response))
	}
	verified := func(answer any, err error) {
		e := addedCode(answer, err, by)
		if e == wire.None {
			e = s.confirm(at, q, v.guard)
		}
		if e != wire.None {
			p.give(refused(offsetsCode(e)))
			return
		}
		if err := s.opts.Groups.Submit(shard, in, give); err != nil {
			p.give(refused(code(err)))
		}
	}
	question := addQuestion(q.TransactionalID, q.ProducerID, q.ProducerEpoch, by, []model.Partition{at})
	if err := s.opts.Transactions.Submit(of, question, verified); err != nil {
		verified(nil, err)
	}
	p.park()
}

// confirm tells the partition of a group's offsets that the transaction may
// write there.
func (s *session) confirm(at model.Partition, q *wire.TxnOffsetCommitRequest, g producers.Guard) wire.ErrorCode {
	replica, err := s.opts.Replicas.Partition(at)
	if err != nil {
		return code(err)
	}
	replica.ConfirmTransaction(model.ProducerID(q.ProducerID), q.ProducerEpoch, g)
	return wire.None
}

// offsetsCode is a partition's code in a coordinator's words, as Kafka
// translates.
func offsetsCode(e wire.ErrorCode) wire.ErrorCode {
	switch e {
	case wire.NetworkException:
		return wire.CoordinatorLoadInProgress
	case wire.UnknownTopicOrPartition, wire.NotEnoughReplicas, wire.RequestTimedOut:
		return wire.CoordinatorNotAvailable
	case wire.NotLeaderOrFollower, wire.KafkaStorageError:
		return wire.NotCoordinator
	}
	return e
}

func txnOffsetsRefused(q *wire.TxnOffsetCommitRequest, e wire.ErrorCode) wire.Response {
	r := wire.NewTxnOffsetCommitResponse()
	for i := range q.Topics {
		x := wire.Extend(&r.Topics)
		x.Name, x.TopicID = q.Topics[i].Name, q.Topics[i].TopicID
		for j := range q.Topics[i].Partitions {
			y := wire.Extend(&x.Partitions)
			y.PartitionIndex, y.ErrorCode = q.Topics[i].Partitions[j].PartitionIndex, int16(e)
		}
	}
	return r
}
