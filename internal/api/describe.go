package api

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/wire"
)

// describeTopicPartitions pages through topics in the order of their names.
func (s *session) describeTopicPartitions(_ *call, q *wire.DescribeTopicPartitionsRequest) wire.Response {
	r := wire.NewDescribeTopicPartitionsResponse()
	image := s.opts.Metadata.Image()
	left := min(int(q.ResponsePartitionLimit), s.opts.Config.MaxPartitionsShown)
	if q.Cursor != nil && q.Cursor.PartitionIndex < 0 || left <= 0 {
		return r
	}
	for _, name := range s.namesToDescribe(image, q) {
		first := 0
		if q.Cursor != nil && q.Cursor.TopicName == name {
			first = int(q.Cursor.PartitionIndex)
		}
		t := image.Topic(name)
		if t == nil {
			s.describeMissing(r, name)
			continue
		}
		if left == 0 {
			r.NextCursor = &wire.DescribeTopicPartitionsResponseCursor{TopicName: name, PartitionIndex: int32(first)}
			return r
		}
		end := min(len(t.Partitions), first+left)
		left -= max(0, end-first)
		s.describePartitions(r, t, first, end)
		if end < len(t.Partitions) {
			r.NextCursor = &wire.DescribeTopicPartitionsResponseCursor{TopicName: name, PartitionIndex: int32(end)}
			return r
		}
	}
	return r
}

// namesToDescribe are those asked for, or all, from the cursor on.
func (s *session) namesToDescribe(image *metadata.Image, q *wire.DescribeTopicPartitionsRequest) []string {
	from := ""
	if q.Cursor != nil {
		from = q.Cursor.TopicName
	}
	var names []string
	if len(q.Topics) == 0 {
		image.Topics(from, func(t *metadata.Topic) bool {
			names = append(names, t.Name)
			return len(names) <= s.opts.Config.MaxPartitionsShown
		})
		return names
	}
	for i := range q.Topics {
		if q.Topics[i].Name >= from {
			names = append(names, q.Topics[i].Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (s *session) describeMissing(r *wire.DescribeTopicPartitionsResponse, name string) {
	x := wire.Extend(&r.Topics)
	x.Name, x.ErrorCode = &name, int16(wire.UnknownTopicOrPartition)
	if controller.CheckName(name) != nil {
		x.ErrorCode = int16(wire.InvalidTopicException)
	}
}

func (s *session) describePartitions(r *wire.DescribeTopicPartitionsResponse, t *metadata.Topic, first, end int) {
	x := wire.Extend(&r.Topics)
	x.Name, x.TopicID, x.IsInternal, x.TopicAuthorizedOperations = &t.Name, t.ID, internalTopic(t.Name), topicOperations
	for i := first; i < end; i++ {
		p := t.Partitions[i]
		y := wire.Extend(&x.Partitions)
		leader, e := s.leader(t, i)
		y.ErrorCode, y.PartitionIndex, y.LeaderID, y.LeaderEpoch = int16(e), int32(i), int32(leader), int32(p.LeaderEpoch)
		y.ReplicaNodes, y.IsrNodes = ints(p.Replicas), ints(p.ISR)
		y.EligibleLeaderReplicas, y.LastKnownElr = ints(p.ELR), ints(p.LastKnownELR)
		y.OfflineReplicas = s.offline(t, i)
	}
}

// describeConfigs shows every configuration with where its value comes from.
func (s *session) describeConfigs(c *call, q *wire.DescribeConfigsRequest) wire.Response {
	r := wire.NewDescribeConfigsResponse()
	image := s.opts.Metadata.Image()
	for i := range q.Resources {
		in := &q.Resources[i]
		x := wire.Extend(&r.Results)
		x.ResourceType, x.ResourceName = in.ResourceType, in.ResourceName
		entries, err := s.configsOf(image, in)
		if err != nil {
			x.ErrorCode, x.ErrorMessage = s.codeOf(err, c), errorText(err)
			continue
		}
		for j := range entries {
			if in.ConfigurationKeys == nil || slices.Contains(in.ConfigurationKeys, entries[j].Name) {
				describeConfig(q, &entries[j], wire.Extend(&x.Configs))
			}
		}
	}
	return r
}

func (s *session) configsOf(image *metadata.Image, in *wire.DescribeConfigsRequestDescribeConfigsResource) ([]config.Entry, error) {
	switch metadata.ResourceType(in.ResourceType) {
	case metadata.ResourceTopic:
		if err := controller.CheckName(in.ResourceName); err != nil {
			return nil, err
		}
		if image.Topic(in.ResourceName) == nil {
			return nil, wire.UnknownTopicOrPartition
		}
		return config.DescribeTopic(s.opts.Config, image.Config(metadata.Resource{Type: metadata.ResourceTopic, Name: in.ResourceName})), nil
	case metadata.ResourceBroker:
		if in.ResourceName == "" {
			return config.DescribeClusterDefaults(s.opts.Config), nil
		}
		id, err := strconv.Atoi(in.ResourceName)
		if err != nil {
			return nil, invalidRequest("Broker id must be an integer, but it is: %s", in.ResourceName)
		}
		if id != int(s.opts.Self) {
			return nil, invalidRequest("Unexpected broker id, expected %d or empty string, but received %s", s.opts.Self, in.ResourceName)
		}
		return config.DescribeBroker(s.opts.Config), nil
	case metadata.ResourceBrokerLogger, metadata.ResourceClientMetrics, metadata.ResourceGroup:
		return nil, &controller.Refusal{Why: wire.UnsupportedVersion, Message: "This resource has no configuration here yet."}
	}
	return nil, invalidRequest("Unsupported resource type: %d", in.ResourceType)
}

func invalidRequest(format string, args ...any) error {
	return &controller.Refusal{Why: controller.ErrInvalidRequest, Message: fmt.Sprintf(format, args...)}
}

func describeConfig(q *wire.DescribeConfigsRequest, e *config.Entry, out *wire.DescribeConfigsResponseDescribeConfigsResourceResult) {
	out.Name, out.Value, out.ReadOnly = e.Name, e.Value, e.ReadOnly
	out.ConfigSource, out.IsSensitive, out.ConfigType = int8(e.Source), e.Sensitive, int8(e.Type)
	if q.IncludeSynonyms {
		for _, y := range e.Synonyms {
			x := wire.Extend(&out.Synonyms)
			x.Name, x.Value, x.Source = y.Name, y.Value, int8(y.Source)
		}
	}
	if q.IncludeDocumentation {
		out.Documentation = &e.Doc
	}
}
