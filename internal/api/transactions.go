package api

import (
	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/internal/coordinator/txn"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// txnQuestion is what the shard of a transactional id is asked.
func txnQuestion(c *call, body wire.Request) txn.Request {
	return txn.Request{Body: body, Version: c.Version, Bytes: readBytes * c.bytes}
}

// askTxn gives a request to the shard of a transactional id.
func (s *session) askTxn(c *call, id string, in txn.Request, refused func(wire.ErrorCode) wire.Response) {
	shard := s.txnShard(id)
	if shard < 0 {
		s.reply(c, refused(wire.NotCoordinator))
		return
	}
	s.ask(c, s.opts.Transactions, shard, in, refused)
}

// initProducerID gives a producer its id: an idempotent one by itself, a
// transactional one by its coordinator.
func (s *session) initProducerID(c *call, q *wire.InitProducerIDRequest) {
	refused := func(e wire.ErrorCode) wire.Response {
		r := wire.NewInitProducerIDResponse()
		r.ErrorCode, r.ProducerEpoch = int16(e), -1
		return r
	}
	switch {
	case (q.ProducerID == -1) != (q.ProducerEpoch == -1): // One without the other.
		s.reply(c, refused(wire.InvalidRequest))
	case q.TransactionalID == nil:
		s.reply(c, s.idempotentProducer(c, refused))
	case *q.TransactionalID == "":
		s.reply(c, refused(wire.InvalidRequest))
	default:
		s.askTxn(c, *q.TransactionalID, txnQuestion(c, q), refused)
	}
}

func (s *session) idempotentProducer(c *call, refused func(wire.ErrorCode) wire.Response) wire.Response {
	id, err := s.newProducerID()
	if err != nil {
		return refused(wire.ErrorCode(s.codeOf(err, c)))
	}
	r := wire.NewInitProducerIDResponse()
	r.ProducerID, r.ProducerEpoch = int64(id), 0
	return r
}

// firstBatchedAdd is the first AddPartitionsToTxn that brokers send, for
// several transactions at once (KIP-890).
const firstBatchedAdd = 4

func (s *session) addPartitionsToTxn(c *call, q *wire.AddPartitionsToTxnRequest) {
	if c.Version >= firstBatchedAdd {
		s.addForBrokers(c, q)
		return
	}
	refused := func(e wire.ErrorCode) wire.Response {
		r := wire.NewAddPartitionsToTxnResponse()
		r.ResultsByTopicV3AndBelow = addResults(q.V3AndBelowTopics, func(string, int32) wire.ErrorCode { return e })
		return r
	}
	if unknown := s.unknownPartitions(q.V3AndBelowTopics); unknown != nil {
		r := wire.NewAddPartitionsToTxnResponse()
		r.ResultsByTopicV3AndBelow = addResults(q.V3AndBelowTopics, unknown)
		s.reply(c, r)
		return
	}
	s.askTxn(c, q.V3AndBelowTransactionalID, txnQuestion(c, q), refused)
}

// unknownPartitions says what is wrong with the partitions of a transaction:
// nothing is attempted when one does not exist. It is nil if all do.
func (s *session) unknownPartitions(topics []wire.AddPartitionsToTxnRequestAddPartitionsToTxnTopic) func(string, int32) wire.ErrorCode {
	image := s.opts.Metadata.Image()
	for i := range topics {
		for _, p := range topics[i].Partitions {
			if !exists(image, topics[i].Name, p) {
				return func(topic string, p int32) wire.ErrorCode {
					if exists(image, topic, p) {
						return wire.OperationNotAttempted
					}
					return wire.UnknownTopicOrPartition
				}
			}
		}
	}
	return nil
}

func exists(image *metadata.Image, topic string, partition int32) bool {
	t := image.Topic(topic)
	return t != nil && partition >= 0 && int(partition) < len(t.Partitions)
}

// addResults answers for each partition.
func addResults(topics []wire.AddPartitionsToTxnRequestAddPartitionsToTxnTopic, code func(topic string, partition int32) wire.ErrorCode) (out []wire.AddPartitionsToTxnResponseAddPartitionsToTxnTopicResult) {
	for i := range topics {
		x := wire.Extend(&out)
		x.Name = topics[i].Name
		for _, p := range topics[i].Partitions {
			y := wire.Extend(&x.ResultsByPartition)
			y.PartitionIndex, y.PartitionErrorCode = p, int16(code(topics[i].Name, p))
		}
	}
	return out
}

// addForBrokers adds to, or verifies, several transactions.
func (s *session) addForBrokers(c *call, q *wire.AddPartitionsToTxnRequest) {
	results := make([]wire.AddPartitionsToTxnResponseAddPartitionsToTxnResult, len(q.Transactions))
	var questions []question
	var asked []int
	for i := range q.Transactions {
		t := &q.Transactions[i]
		results[i].TransactionalID = t.TransactionalID
		shard := s.txnShard(t.TransactionalID)
		switch unknown := s.unknownPartitions(t.Topics); {
		case unknown != nil:
			results[i].TopicResults = addResults(t.Topics, unknown)
		case shard < 0:
			results[i].TopicResults = addResults(t.Topics, func(string, int32) wire.ErrorCode { return wire.NotCoordinator })
		default:
			one := wire.NewAddPartitionsToTxnRequest()
			one.Transactions = q.Transactions[i : i+1]
			questions, asked = append(questions, question{shard, txnQuestion(c, one)}), append(asked, i)
		}
	}
	s.askAll(c, s.opts.Transactions, questions, func(got []any, errs []error) wire.Response {
		for n, i := range asked {
			if errs[n] != nil {
				results[i].TopicResults = addResults(q.Transactions[i].Topics, func(string, int32) wire.ErrorCode { return code(errs[n]) })
				continue
			}
			if of := got[n].(*wire.AddPartitionsToTxnResponse).ResultsByTransaction; len(of) == 1 {
				results[i] = of[0]
			}
		}
		r := wire.NewAddPartitionsToTxnResponse()
		r.ResultsByTransaction = results
		return r
	})
}

func (s *session) addOffsetsToTxn(c *call, q *wire.AddOffsetsToTxnRequest) {
	refused := func(e wire.ErrorCode) wire.Response {
		r := wire.NewAddOffsetsToTxnResponse()
		r.ErrorCode = int16(e)
		return r
	}
	t, err := s.stateTopic(controller.OffsetsTopic)
	if err != nil {
		s.reply(c, refused(code(err)))
		return
	}
	in := txnQuestion(c, q)
	in.Partition = model.Partition{Topic: t.Name, Index: coordinator.Partition(q.GroupID, int32(len(t.Partitions)))}
	s.askTxn(c, q.TransactionalID, in, refused)
}

func (s *session) endTxn(c *call, q *wire.EndTxnRequest) {
	s.askTxn(c, q.TransactionalID, txnQuestion(c, q), func(e wire.ErrorCode) wire.Response {
		r := wire.NewEndTxnResponse()
		r.ErrorCode = int16(e)
		return r
	})
}

// listTransactions asks all shards. The pattern of transactional ids is for us:
// to match many long ones takes time, which shards do not have.
func (s *session) listTransactions(c *call, q *wire.ListTransactionsRequest) {
	// A machine that knows no transaction judges the filters.
	whole := txn.New(txn.Options{}).Handle(s.opts.Now(), 1, txnQuestion(c, q)).Replies[0].Answer.(*wire.ListTransactionsResponse)
	matches, err := txn.Matcher(q)
	if whole.ErrorCode != 0 || err != nil {
		s.reply(c, whole)
		return
	}
	all := *q
	all.TransactionalIDPattern = nil
	var questions []question
	for _, shard := range s.opts.Transactions.Shards() {
		questions = append(questions, question{shard, txnQuestion(c, &all)})
	}
	s.askAll(c, s.opts.Transactions, questions, func(got []any, errs []error) wire.Response {
		for i := range got {
			if errs[i] != nil {
				whole.ErrorCode = int16(code(errs[i]))
				whole.TransactionStates = nil
				return whole
			}
			for _, x := range got[i].(*wire.ListTransactionsResponse).TransactionStates {
				if matches(x.TransactionalID) {
					whole.TransactionStates = append(whole.TransactionStates, x)
				}
			}
		}
		return whole
	})
}

// describeTransactions asks the shard of each transactional id.
func (s *session) describeTransactions(c *call, q *wire.DescribeTransactionsRequest) {
	q.TransactionalIDs = unique(q.TransactionalIDs)
	r := wire.NewDescribeTransactionsResponse()
	var questions []question
	var asked []int
	for i, id := range q.TransactionalIDs {
		x := wire.Extend(&r.TransactionStates)
		x.TransactionalID = id
		shard := s.txnShard(id)
		switch {
		case id == "":
			x.ErrorCode = int16(wire.InvalidRequest)
		case shard < 0:
			x.ErrorCode = int16(wire.NotCoordinator)
		default:
			one := wire.NewDescribeTransactionsRequest()
			one.TransactionalIDs = q.TransactionalIDs[i : i+1]
			questions, asked = append(questions, question{shard, txnQuestion(c, one)}), append(asked, i)
		}
	}
	s.askAll(c, s.opts.Transactions, questions, func(got []any, errs []error) wire.Response {
		for n, i := range asked {
			if errs[n] != nil {
				r.TransactionStates[i].ErrorCode = int16(code(errs[n]))
				continue
			}
			if of := got[n].(*wire.DescribeTransactionsResponse).TransactionStates; len(of) == 1 {
				r.TransactionStates[i] = of[0]
			}
		}
		return r
	})
}
