package api

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// describeTopicPartitions pages through topics in the order of their names,
// those that do not exist among them.
func (s *session) describeTopicPartitions(_ *call, q *wire.DescribeTopicPartitionsRequest) wire.Response {
	r := wire.NewDescribeTopicPartitionsResponse()
	if refused := refusePages(q); refused != wire.None {
		for i := range q.Topics {
			x := wire.Extend(&r.Topics)
			x.Name, x.ErrorCode = &q.Topics[i].Name, int16(refused)
		}
		return r
	}
	image := s.opts.Metadata.Image()
	left := max(1, min(int(q.ResponsePartitionLimit), s.opts.Config.MaxPartitionsShown))
	for _, name := range s.namesToDescribe(image, q, left) {
		if left <= 0 {
			r.NextCursor = &wire.DescribeTopicPartitionsResponseCursor{TopicName: name}
			break
		}
		t := image.Topic(name)
		if t == nil {
			describeNoTopic(r, name)
			continue
		}
		first := 0
		if q.Cursor != nil && q.Cursor.TopicName == name {
			first = int(q.Cursor.PartitionIndex)
		}
		end := min(len(t.Partitions), first+left)
		s.describePartitions(r, t, first, end)
		left -= max(0, end-first)
		if end < len(t.Partitions) {
			r.NextCursor = &wire.DescribeTopicPartitionsResponseCursor{TopicName: name, PartitionIndex: int32(end)}
			break
		}
	}
	return r
}

// describeNoTopic shows a name that no topic has, or can have.
func describeNoTopic(r *wire.DescribeTopicPartitionsResponse, name string) {
	x := wire.Extend(&r.Topics)
	x.Name, x.ErrorCode, x.TopicAuthorizedOperations = &name, int16(wire.UnknownTopicOrPartition), topicOperations
	if controller.CheckName(name) != nil {
		x.ErrorCode = int16(wire.InvalidTopicException)
	}
}

// refusePages finds what makes Kafka refuse a request as a whole.
func refusePages(q *wire.DescribeTopicPartitionsRequest) wire.ErrorCode {
	named := false
	for i := range q.Topics {
		if q.Topics[i].Name == "" {
			return wire.UnknownServerError
		}
		named = named || q.Cursor != nil && q.Cursor.TopicName == q.Topics[i].Name
	}
	if q.Cursor != nil && (q.Cursor.PartitionIndex < 0 || len(q.Topics) > 0 && !named) {
		return wire.InvalidRequest
	}
	return wire.None
}

// namesToDescribe are those asked for, or all, from the cursor on: of all, not
// more than have a place, and the one that the next cursor points to.
func (s *session) namesToDescribe(image *metadata.Image, q *wire.DescribeTopicPartitionsRequest, limit int) []string {
	if q.Cursor != nil && q.Cursor.PartitionIndex < 0 {
		return nil
	}
	from := ""
	if q.Cursor != nil {
		from = q.Cursor.TopicName
	}
	var names []string
	if len(q.Topics) == 0 {
		image.Topics(from, func(t *metadata.Topic) bool {
			names = append(names, t.Name)
			// A cursor behind a topic's last partition shows it empty.
			return len(names) <= limit+1
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

func (s *session) describePartitions(r *wire.DescribeTopicPartitionsResponse, t *metadata.Topic, first, end int) {
	x := wire.Extend(&r.Topics)
	x.Name, x.TopicID, x.IsInternal, x.TopicAuthorizedOperations = &t.Name, t.ID, internalTopic(t.Name), topicOperations
	for i := first; i < end; i++ {
		p := t.Partitions[i]
		y := wire.Extend(&x.Partitions)
		leader, _ := s.leader(t, i) // Kafka names no error here: that there is no leader shows.
		y.PartitionIndex, y.LeaderID, y.LeaderEpoch = int32(i), int32(leader), int32(p.LeaderEpoch)
		y.ReplicaNodes, y.IsrNodes = ints(p.Replicas), ints(p.ISR)
		y.EligibleLeaderReplicas, y.LastKnownElr = ints(p.ELR), ints(p.LastKnownELR)
		y.OfflineReplicas = s.offline(t, i)
	}
}

// maxDescribed bounds the configs of one answer: those of some 15,000 topics.
// Each takes a stranger a few bytes to ask for and us some 200 to say, without
// documentation.
const maxDescribed = 1 << 19

// describeConfigs shows every configuration with where its value comes from.
func (s *session) describeConfigs(c *call, q *wire.DescribeConfigsRequest) wire.Response {
	r := wire.NewDescribeConfigsResponse()
	image := s.opts.Metadata.Image()
	described := 0
	for i := range q.Resources {
		in := &q.Resources[i]
		x := wire.Extend(&r.Results)
		x.ResourceType, x.ResourceName = in.ResourceType, in.ResourceName
		entries, err := s.configsOf(image, in)
		if described += len(entries); described > maxDescribed {
			err = &controller.Refusal{Why: controller.ErrPolicy, Message: "Too many resources in one request."}
		}
		if err != nil {
			x.ErrorCode = s.codeOf(err, c)
			if text := message(err); text != nil {
				x.ErrorMessage = text
			}
			continue
		}
		entries = onlyAsked(entries, in.ConfigurationKeys)
		for j := range entries {
			describeConfig(q, &entries[j], wire.Extend(&x.Configs))
		}
	}
	return r
}

// onlyAsked keeps the entries of the keys that are asked for; no keys are all.
func onlyAsked(entries []config.Entry, keys []string) []config.Entry {
	if len(keys) == 0 {
		return entries
	}
	at := make(map[string]int, len(entries)) // Of our names, not of the stranger's.
	for i := range entries {
		at[entries[i].Name] = i
	}
	asked := make([]bool, len(entries))
	for _, k := range keys {
		if i, ok := at[k]; ok {
			asked[i] = true
		}
	}
	var out []config.Entry
	for i := range entries {
		if asked[i] {
			out = append(out, entries[i])
		}
	}
	return out
}

func (s *session) configsOf(image *metadata.Image, in *wire.DescribeConfigsRequestDescribeConfigsResource) ([]config.Entry, error) {
	resource := metadata.Resource{Type: metadata.ResourceType(in.ResourceType), Name: in.ResourceName}
	switch resource.Type {
	case metadata.ResourceTopic:
		return s.topicConfigs(image, in.ResourceName)
	case metadata.ResourceBroker:
		return s.brokerConfigs(image, in.ResourceName)
	case metadata.ResourceBrokerLogger:
		return s.loggerConfigs(in.ResourceName)
	case metadata.ResourceClientMetrics:
		if in.ResourceName == "" {
			return nil, invalidRequest("Client metrics subscription name must not be empty")
		}
		return config.DescribeClientMetrics(image.Config(resource)), nil
	case metadata.ResourceGroup:
		if in.ResourceName == "" {
			return nil, invalidRequest("Group name must not be empty")
		}
		return config.DescribeGroup(s.configs.In(image), image.Config(resource)), nil
	}
	return nil, invalidRequest("%s", wire.InvalidRequest.Message())
}

func (s *session) topicConfigs(image *metadata.Image, name string) ([]config.Entry, error) {
	if err := controller.CheckName(name); err != nil {
		return nil, err
	}
	if image.Topic(name) == nil {
		return nil, &controller.Refusal{Why: controller.ErrUnknownTopic}
	}
	overrides := image.Config(metadata.Resource{Type: metadata.ResourceTopic, Name: name})
	return config.DescribeTopic(s.configs.In(image), overrides), nil
}

func (s *session) brokerConfigs(image *metadata.Image, name string) ([]config.Entry, error) {
	if name == "" {
		return config.DescribeClusterDefaults(s.configs.In(image)), nil
	}
	id, err := parseNode(name)
	if err != nil {
		return nil, invalidRequest("Broker id must be an integer, but it is: %s", name)
	}
	if id != s.opts.Self {
		return nil, invalidRequest("Unexpected broker id, expected %d or empty string, but received %s", s.opts.Self, name)
	}
	return config.DescribeBroker(s.configs.In(image)), nil
}

// parseNode reads a node's number as resources are named by it.
func parseNode(name string) (model.NodeID, error) {
	id, err := strconv.ParseInt(name, 10, 32)
	return model.NodeID(id), err
}

// loggerConfigs shows the level of every logger.
func (s *session) loggerConfigs(name string) ([]config.Entry, error) {
	if name == "" {
		return nil, invalidRequest("Broker id must not be empty")
	}
	id, err := parseNode(name)
	if err != nil {
		return nil, invalidRequest("Broker id must be an integer, but it is: %s", name)
	}
	if id != s.opts.Self {
		return nil, invalidRequest("Unexpected broker id, expected %d but received %s", s.opts.Self, name)
	}
	levels := s.levels()
	var entries []config.Entry
	for _, logger := range slices.Sorted(maps.Keys(levels)) {
		entries = append(entries, config.Entry{Name: logger, Value: new(levels[logger]), Source: config.DynamicLogger})
	}
	return entries, nil
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
	if out.Documentation = nil; q.IncludeDocumentation && e.Doc != "" {
		out.Documentation = &e.Doc
	}
	if e.Source == config.DynamicLogger {
		out.Documentation = new("") // As Kafka, whether it is asked for or not.
	}
}
