package differential

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/barnabas-log/barnabas/wire"
)

// producer gets an id for an idempotent producer. Kafka has none at first, and says so until its controller gave it some.
func (r *runner) producer(name string) error {
	id, _, err := r.initProducer(nil)
	if err != nil {
		return err
	}
	r.scope[name] = id
	r.names.id("producer", strconv.FormatInt(id, 10))
	return nil
}

// initProducer asks until the coordinator is there, if it has to be one.
func (r *runner) initProducer(transactional *string) (id int64, epoch int16, err error) {
	var code wire.ErrorCode
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		req := wire.NewInitProducerIDRequest()
		req.TransactionalID = transactional
		req.TransactionTimeoutMs = 900_000 // the most there is: what is left open stays open
		resp, err := ask[*wire.InitProducerIDResponse](r, req)
		if err != nil {
			return 0, 0, err
		}
		switch code = wire.ErrorCode(resp.ErrorCode); code {
		case wire.None:
			return resp.ProducerID, resp.ProducerEpoch, nil
		case wire.CoordinatorLoadInProgress, wire.ConcurrentTransactions:
		case wire.CoordinatorNotAvailable, wire.NotCoordinator:
			find := wire.NewFindCoordinatorRequest()
			find.KeyType, find.CoordinatorKeys = 1, []string{*transactional}
			if _, err := ask[*wire.FindCoordinatorResponse](r, find); err != nil {
				return 0, 0, err
			}
		default:
			return 0, 0, code
		}
	}
	return 0, 0, fmt.Errorf("no producer ids: %w", code)
}

// transaction begins a transaction of a producer of its own in some partitions of a topic, and keeps its id and epoch.
func (r *runner) transaction(s *step) error {
	if len(s.args) < 3 {
		return errors.New("transaction wants NAME TOPIC PARTITION …")
	}
	name, topic := s.args[0], s.args[1]
	id, epoch, err := r.initProducer(&name)
	if err != nil {
		return err
	}
	r.scope[name], r.scope[name+".epoch"] = id, int64(epoch)
	req := wire.NewAddPartitionsToTxnRequest()
	req.V3AndBelowTransactionalID, req.V3AndBelowProducerID, req.V3AndBelowProducerEpoch = name, id, epoch
	t := wire.AddPartitionsToTxnRequestAddPartitionsToTxnTopic{Name: topic}
	for _, p := range s.args[2:] {
		n, err := strconv.ParseInt(p, 10, 32)
		if err != nil {
			return err
		}
		t.Partitions = append(t.Partitions, int32(n))
	}
	req.V3AndBelowTopics = append(req.V3AndBelowTopics, t)
	resp, err := askIn[*wire.AddPartitionsToTxnResponse](r, req, 3)
	if err != nil {
		return err
	}
	for _, p := range resp.ResultsByTopicV3AndBelow[0].ResultsByPartition {
		if err := wireError(p.PartitionErrorCode); err != nil {
			return err
		}
	}
	return nil
}

// coordinator waits until the coordinator of a group, or of a transaction, is there and has loaded.
func (r *runner) coordinator(s *step) error {
	if len(s.args) != 2 || s.args[0] != "group" && s.args[0] != "transaction" {
		return errors.New("coordinator wants group or transaction, and a KEY")
	}
	if s.args[0] == "transaction" {
		_, _, err := r.initProducer(&s.args[1])
		return err
	}
	code := wire.CoordinatorNotAvailable
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		find := wire.NewFindCoordinatorRequest()
		find.CoordinatorKeys = s.args[1:]
		if _, err := ask[*wire.FindCoordinatorResponse](r, find); err != nil {
			return err
		}
		describe := wire.NewDescribeGroupsRequest()
		describe.Groups = s.args[1:]
		resp, err := ask[*wire.DescribeGroupsResponse](r, describe)
		if err != nil {
			return err
		}
		code = wire.ErrorCode(resp.Groups[0].ErrorCode)
		if code == wire.None || code == wire.GroupIDNotFound {
			return nil
		}
	}
	return fmt.Errorf("no coordinator: %w", code)
}

// ended waits until all partitions of a transaction have its marker.
func (r *runner) ended(id string) error {
	state := ""
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		req := wire.NewDescribeTransactionsRequest()
		req.TransactionalIDs = []string{id}
		resp, err := ask[*wire.DescribeTransactionsResponse](r, req)
		if err != nil {
			return err
		}
		if state = resp.TransactionStates[0].TransactionState; strings.HasPrefix(state, "Complete") {
			return nil
		}
	}
	return fmt.Errorf("the transaction of %s is %q", id, state)
}

// stable waits until the last stable offset of a partition is as said: markers are written behind the answer's back.
func (r *runner) stable(s *step) error {
	if len(s.args) != 3 {
		return errors.New("stable wants TOPIC PARTITION OFFSET")
	}
	partition, err := strconv.ParseInt(s.args[1], 10, 32)
	if err != nil {
		return err
	}
	offset := int64(-2)
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		req := wire.NewListOffsetsRequest()
		req.ReplicaID, req.IsolationLevel = -1, 1
		req.Topics = []wire.ListOffsetsRequestListOffsetsTopic{{Name: s.args[0], Partitions: []wire.ListOffsetsRequestListOffsetsPartition{
			{PartitionIndex: int32(partition), CurrentLeaderEpoch: -1, Timestamp: -1},
		}}}
		resp, err := ask[*wire.ListOffsetsResponse](r, req)
		if err != nil {
			return err
		}
		if offset = resp.Topics[0].Partitions[0].Offset; strconv.FormatInt(offset, 10) == s.args[2] {
			return nil
		}
	}
	return fmt.Errorf("%s-%s is stable up to %d, not %s", s.args[0], s.args[1], offset, s.args[2])
}

// moved waits until a partition lies in a data directory, and no copy of it is under way. A
// directory is named as within the broker's.
func (r *runner) moved(s *step) error {
	if len(s.args) != 3 {
		return errors.New("moved wants TOPIC PARTITION DIR")
	}
	var where []string
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		all := wire.NewDescribeLogDirsRequest()
		all.Topics = nil
		resp, err := ask[*wire.DescribeLogDirsResponse](r, all)
		if err != nil {
			return err
		}
		where = where[:0]
		for _, d := range resp.Results {
			for _, t := range d.Topics {
				for _, p := range t.Partitions {
					if t.Name == s.args[0] && strconv.Itoa(int(p.PartitionIndex)) == s.args[1] {
						where = append(where, filepath.Base(d.LogDir))
					}
				}
			}
		}
		if len(where) == 1 && where[0] == s.args[2] {
			return nil
		}
	}
	return fmt.Errorf("%s-%s is in %v, not in %s", s.args[0], s.args[1], where, s.args[2])
}

// offline waits until Metadata tells that a partition has no leader and no in-sync replica.
func (r *runner) offline(s *step) error {
	if len(s.args) != 2 {
		return errors.New("offline wants TOPIC PARTITION")
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		t, err := r.describe(s.args[0])
		if err != nil {
			return err
		}
		for _, p := range t.Partitions {
			if strconv.Itoa(int(p.PartitionIndex)) == s.args[1] && p.LeaderID < 0 && len(p.IsrNodes) == 0 {
				return nil
			}
		}
	}
	return fmt.Errorf("%s-%s still has a leader", s.args[0], s.args[1])
}
