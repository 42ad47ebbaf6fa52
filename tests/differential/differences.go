package differential

import (
	"slices"

	"github.com/barnabas-log/barnabas/wire"
)

// difference is something that Barnabas answers otherwise than Kafka on purpose. Both answers go through its edit before they
// are compared. There are to be at most 20.
type difference struct {
	api   string // whose answers it touches
	what  string
	helps string // the user who is better off
	edit  func(answer map[string]any)
}

func differences() []difference {
	return []difference{
		{
			"DescribeConfigs", "keys of ours are shown", "the administrator who looks up durability",
			func(a map[string]any) { eachConfig(a, isKafkas) },
		},
		{
			"CreateTopics", "keys of ours are shown", "the administrator who sees the durability of a new topic",
			func(a map[string]any) { eachConfig(a, isKafkas) },
		},
		{
			"ApiVersions", "APIs that are not built are not advertised",
			"the client that asks first, and else would find its connection closed",
			func(a map[string]any) {
				if keys, ok := a["ApiKeys"].([]any); ok {
					a["ApiKeys"] = slices.DeleteFunc(keys, func(k any) bool { return !foundation(k.(map[string]any)) })
				}
			},
		},
	}
}

func isKafkas(c map[string]any) bool {
	return !slices.Contains([]any{"durability", "record.validation", "http.listen"}, c["Name"])
}

// eachConfig visits the configs of an answer and drops those for which keep is false.
func eachConfig(answer map[string]any, keep func(map[string]any) bool) {
	for _, list := range []string{"Results", "Topics"} {
		results, _ := answer[list].([]any)
		for _, r := range results {
			m := r.(map[string]any)
			if configs, ok := m["Configs"].([]any); ok {
				m["Configs"] = slices.DeleteFunc(configs, func(c any) bool { return !keep(c.(map[string]any)) })
			}
		}
	}
}

// foundation reports whether an API is one of those that are built.
func foundation(key map[string]any) bool {
	n, _ := key["ApiKey"].(float64) // absent is zero: Produce
	return slices.Contains([]wire.Key{
		wire.ProduceKey, wire.FetchKey, wire.ListOffsetsKey, wire.MetadataKey, wire.FindCoordinatorKey, wire.ApiVersionsKey,
		wire.CreateTopicsKey, wire.DeleteTopicsKey, wire.InitProducerIDKey, wire.OffsetForLeaderEpochKey, wire.DescribeConfigsKey,
		wire.DescribeClusterKey, wire.DescribeTopicPartitionsKey,
	}, wire.Key(n))
}
