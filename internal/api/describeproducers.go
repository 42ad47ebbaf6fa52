package api

import (
	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// maxProducersDescribed bounds the producers of one answer, some 50 MB: a
// stranger asks for a partition in four bytes, which may have a hundred
// thousand producers.
const maxProducersDescribed = 1 << 20

// describeProducers tells who has written to partitions (KIP-664).
func (s *session) describeProducers(c *call, q *wire.DescribeProducersRequest) wire.Response {
	r := wire.NewDescribeProducersResponse()
	image := s.opts.Metadata.Image()
	left := maxProducersDescribed
	for i := range q.Topics {
		x := wire.Extend(&r.Topics)
		x.Name = q.Topics[i].Name
		refused := s.refuseTopic(image, x.Name)
		for _, index := range q.Topics[i].PartitionIndexes {
			y := wire.Extend(&x.Partitions)
			y.PartitionIndex, y.ErrorMessage = index, nil
			err := refused
			if err == nil {
				err = s.describeProducersOf(image.Topic(x.Name), index, y, &left)
			}
			if err != nil {
				y.ErrorCode, y.ErrorMessage = s.codeOf(err, c), message(err)
			}
		}
	}
	return r
}

// refuseTopic finds what is wrong with a topic's name, or that there is none.
func (s *session) refuseTopic(image *metadata.Image, name string) error {
	if err := controller.CheckName(name); err != nil {
		return err
	}
	if image.Topic(name) == nil {
		return &controller.Refusal{Why: controller.ErrUnknownTopic, Message: wire.UnknownTopicOrPartition.Message()}
	}
	return nil
}

func (s *session) describeProducersOf(t *metadata.Topic, index int32, out *wire.DescribeProducersResponsePartitionResponse, left *int) error {
	if index < 0 || int(index) >= len(t.Partitions) {
		return wire.UnknownTopicOrPartition
	}
	p, err := s.opts.Replicas.Partition(model.Partition{Topic: t.Name, Index: index})
	if err != nil {
		return err
	}
	active, err := p.Producers()
	if err != nil {
		return err
	}
	if *left -= len(active); *left < 0 {
		return &controller.Refusal{Why: controller.ErrPolicy, Message: "Too many producers in one request."}
	}
	for _, a := range active {
		y := wire.Extend(&out.ActiveProducers)
		y.ProducerID, y.ProducerEpoch, y.LastSequence = int64(a.ID), int32(a.Epoch), a.LastSequence
		y.LastTimestamp, y.CoordinatorEpoch, y.CurrentTxnStartOffset = a.LastTimestamp, a.CoordinatorEpoch, int64(a.TxnFirst)
	}
	return nil
}
