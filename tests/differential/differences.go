package differential

import (
	"slices"
	"strings"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/wire"
)

// difference is something that Barnabas answers otherwise than Kafka on purpose. Both answers go through its edit before they
// are compared. There are to be at most 20.
type difference struct {
	api   string   // whose answers it touches
	steps []string // and of which steps, if not of all
	what  string
	helps string // the user who is better off
	edit  func(answer map[string]any)
}

func differences() []difference {
	return []difference{
		{
			api: "DescribeConfigs", what: "keys of ours are shown", helps: "the administrator who looks up durability",
			edit: func(a map[string]any) { eachConfig(a, isKafkas) },
		},
		{
			api: "CreateTopics", what: "keys of ours are shown", helps: "the administrator who sees the durability of a new topic",
			edit: func(a map[string]any) { eachConfig(a, isKafkas) },
		},
		{
			api: "ApiVersions", what: "APIs that are not built are not advertised",
			helps: "the client that asks first, and else would find its connection closed",
			edit:  func(a map[string]any) { keep(a, "ApiKeys", foundation) },
		},
		{
			api: "ApiVersions", what: "client metrics are taken always, where Kafka needs a plugin that receives them",
			helps: "the administrator who finds what clients push on /metrics, and has nothing to install",
			edit: func(a map[string]any) {
				keep(a, "ApiKeys", func(k map[string]any) bool {
					n, _ := k["ApiKey"].(float64)
					return wire.Key(n) != wire.GetTelemetrySubscriptionsKey && wire.Key(n) != wire.PushTelemetryKey
				})
			},
		},
		{
			api: "ApiVersions", what: "features of share and streams groups, which are not built, are neither supported nor final",
			helps: "the client that else would choose a group protocol that nobody serves",
			edit: func(a map[string]any) {
				isOurs := func(f map[string]any) bool {
					return f["Name"] != "share.version" && f["Name"] != "streams.version" && f["Name"] != "kraft.version"
				}
				keep(a, "SupportedFeatures", isOurs)
				keep(a, "FinalizedFeatures", isOurs)
			},
		},
		{
			api: "Metadata", what: "a topic that is created because somebody asks for it is shown at once",
			steps: []string{"create in version 0", "create in version 4", "create in version 13", "names that collide when created"},
			helps: "the producer that would have to ask again, and log a warning",
			edit:  func(a map[string]any) { each(a, "Topics", forgetMade) },
		},
		{
			api: "FindCoordinator", what: "a coordinator whose topic does not exist yet is named at once",
			steps: []string{"first", "an empty key", "an empty key, old"},
			helps: "the first consumer of a cluster, which would have to ask again",
			edit:  func(a map[string]any) { clear(a) },
		},
		{
			api: "Produce", what: "five batches of a producer are known after a restart, where Kafka knows the last",
			steps: []string{"the last but one again, after a restart"},
			helps: "the producer whose retries meet a restart: it is answered where Kafka refuses the sequence",
			edit: func(a map[string]any) {
				each(a, "Responses", func(t map[string]any) { each(t, "PartitionResponses", forgetRefusedRetry) })
			},
		},
		{
			api: "DescribeQuorum", what: "no listener of controllers is named: the brokers' listeners serve what controllers are asked",
			steps: []string{"the metadata log"},
			helps: "the administrator who has one address to know",
			edit:  func(a map[string]any) { each(a, "Nodes", func(n map[string]any) { delete(n, "Listeners") }) },
		},
		{
			api: "IncrementalAlterConfigs", what: "values that cannot be read are refused with what they must be",
			steps: []string{
				"listener.security.protocol.map, bad", "max.connections.per.ip.overrides, bad",
				"listeners of a protocol nobody knows", "listeners that cannot be read",
			},
			helps: "the administrator, to whom Kafka tells where its parser stumbled",
			edit: func(a map[string]any) {
				each(a, "Responses", func(r map[string]any) { delete(r, "ErrorMessage") })
			},
		},
		{
			api: "IncrementalAlterConfigs", what: "a load factor of the cleaner's buffer at which nothing would be compacted is refused",
			steps: []string{"log.cleaner.io.buffer.load.factor, bad"},
			helps: "the administrator, who is told at once, and not by logs that grow",
			edit:  func(a map[string]any) { clear(a) },
		},
		{
			api: "DeleteRecords", what: "what is deleted while the partition moves between data directories is deleted at once; Kafka waits for the copy, and gives up",
			steps: []string{"records go on the way"},
			helps: "the administrator who has a disk to empty",
			edit: func(a map[string]any) {
				each(a, "Topics", func(t map[string]any) {
					each(t, "Partitions", func(p map[string]any) { clear(p) })
				})
			},
		},
		{
			api: "ListOffsets", what: "no offset before the start of the log is named: neither the last stable one nor that of the largest timestamp",
			steps: []string{"the end, committed, after half of it is gone", "the largest time after all is gone"},
			helps: "the reader who goes there, and would be told that it is out of range",
			edit: func(a map[string]any) {
				each(a, "Topics", func(t map[string]any) {
					each(t, "Partitions", func(p map[string]any) { clear(p) })
				})
			},
		},
		{
			api: "Fetch", what: "the last stable offset is not before the start of the log",
			steps: []string{"committed, from the first that is left"},
			helps: "the reader whose lag it is counted from",
			edit: func(a map[string]any) {
				each(a, "Responses", func(t map[string]any) {
					each(t, "Partitions", func(p map[string]any) { delete(p, "LastStableOffset") })
				})
			},
		},
		{
			api: "Fetch", what: "aborted transactions behind the last record sent are not listed",
			helps: "the reader, who has less to keep in mind; Kafka lists them up to the next index entry",
			edit: func(a map[string]any) {
				each(a, "Responses", func(t map[string]any) { each(t, "Partitions", forgetLaterAborts) })
			},
		},
		{
			api: "Fetch", what: "batches are whole, where Kafka cuts the last one at the limit; what it would have taken is left to the next partition",
			steps: []string{"1500 bytes in all"},
			helps: "the reader, who would throw the part away and have it sent again",
			edit: func(a map[string]any) {
				each(a, "Responses", func(t map[string]any) {
					each(t, "Partitions", func(p map[string]any) {
						if p["PartitionIndex"] == nil {
							delete(p, "Records")
						}
					})
				})
			},
		},
	}
}

// each visits the elements of a list.
func each(m map[string]any, list string, visit func(map[string]any)) {
	elements, _ := m[list].([]any)
	for _, e := range elements {
		visit(e.(map[string]any))
	}
}

// keep drops the elements of a list for which it reports false.
func keep(m map[string]any, list string, those func(map[string]any) bool) {
	if elements, ok := m[list].([]any); ok {
		m[list] = slices.DeleteFunc(elements, func(e any) bool { return !those(e.(map[string]any)) })
	}
}

// forgetLaterAborts drops the aborted transactions that begin behind the last record of a partition.
func forgetLaterAborts(p map[string]any) {
	last := float64(-1)
	each(p, "Records", func(b map[string]any) { last, _ = b["LastOffset"].(float64) })
	keep(p, "AbortedTransactions", func(t map[string]any) bool {
		first, _ := t["FirstOffset"].(float64) // absent is zero
		return first <= last
	})
}

// forgetRefusedRetry makes a refusal for the sequence, and the offset of a batch that was there, the same.
func forgetRefusedRetry(p map[string]any) {
	if p["ErrorCode"] == float64(wire.OutOfOrderSequenceNumber) || p["ErrorCode"] == nil && p["BaseOffset"] == 4.0 {
		delete(p, "ErrorCode")
		delete(p, "BaseOffset")
		delete(p, "LogAppendTimeMs")
	}
}

// forgetMade leaves the name of a topic that the request itself creates.
func forgetMade(t map[string]any) {
	if name, _ := t["Name"].(string); strings.HasPrefix(name, "made") {
		clear(t)
		t["Name"] = name
	}
}

func isKafkas(c map[string]any) bool {
	name, _ := c["Name"].(string)
	broker, _ := config.LookupBrokerKey(name)
	topic, _ := config.LookupTopicKey(name)
	return !broker.Ours && !topic.Ours
}

// eachConfig keeps those configs of an answer that it says.
func eachConfig(answer map[string]any, those func(map[string]any) bool) {
	for _, list := range []string{"Results", "Topics"} {
		each(answer, list, func(m map[string]any) { keep(m, "Configs", those) })
	}
}

// foundation reports whether an API is one of those that are built.
func foundation(key map[string]any) bool {
	n, _ := key["ApiKey"].(float64) // absent is zero: Produce
	return slices.Contains([]wire.Key{
		wire.ProduceKey, wire.FetchKey, wire.ListOffsetsKey, wire.MetadataKey, wire.FindCoordinatorKey, wire.ApiVersionsKey,
		wire.CreateTopicsKey, wire.DeleteTopicsKey, wire.InitProducerIDKey, wire.OffsetForLeaderEpochKey, wire.DescribeConfigsKey,
		wire.DescribeClusterKey, wire.DescribeTopicPartitionsKey,
		wire.OffsetCommitKey, wire.OffsetFetchKey, wire.JoinGroupKey, wire.HeartbeatKey, wire.LeaveGroupKey, wire.SyncGroupKey,
		wire.DescribeGroupsKey, wire.ListGroupsKey, wire.DeleteGroupsKey, wire.OffsetDeleteKey, wire.ConsumerGroupHeartbeatKey,
		wire.ConsumerGroupDescribeKey, wire.AddPartitionsToTxnKey, wire.AddOffsetsToTxnKey, wire.EndTxnKey, wire.TxnOffsetCommitKey,
		wire.WriteTxnMarkersKey, wire.ListTransactionsKey, wire.DescribeTransactionsKey,
		wire.DeleteRecordsKey, wire.DescribeLogDirsKey, wire.AlterReplicaLogDirsKey,
		wire.AlterConfigsKey, wire.IncrementalAlterConfigsKey, wire.ListConfigResourcesKey, wire.CreatePartitionsKey, wire.ElectLeadersKey,
		wire.AlterPartitionReassignmentsKey, wire.ListPartitionReassignmentsKey, wire.DescribeProducersKey, wire.DescribeQuorumKey,
		wire.UpdateFeaturesKey, wire.UnregisterBrokerKey, wire.DescribeClientQuotasKey, wire.AlterClientQuotasKey,
		wire.DescribeAclsKey, wire.CreateAclsKey, wire.DeleteAclsKey,
		wire.DescribeUserScramCredentialsKey, wire.AddRaftVoterKey, wire.RemoveRaftVoterKey, wire.UnregisterControllerKey,
	}, wire.Key(n))
}
