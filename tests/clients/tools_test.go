package clients

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/barnabas-log/barnabas/tests/kafka"
	"github.com/barnabas-log/barnabas/tests/node"
)

// toolScript is what Apache Kafka's command line tools are to do, one after the
// other in one Java machine.
type toolScript struct {
	addr  string
	calls []toolCall
}

type toolCall struct {
	words []string
	code  int
	want  *regexp.Regexp
}

// do adds a call: a class, and its arguments between spaces. BROKER stands for
// the broker's address; a line without it gets --bootstrap-server. The tool has
// to end with the code and print what the pattern matches.
func (s *toolScript) do(code int, want, line string) {
	words := strings.Fields(line)
	if !strings.Contains(line, "BROKER") {
		words = slices.Insert(words, 1, "--bootstrap-server", "BROKER")
	}
	for i := range words {
		words[i] = strings.ReplaceAll(words[i], "BROKER", s.addr)
	}
	if !strings.HasPrefix(words[0], "kafka.") {
		words[0] = "org.apache.kafka.tools." + words[0]
	}
	s.calls = append(s.calls, toolCall{words, code, regexp.MustCompile("(?m)" + want)})
}

func (s *toolScript) run(t *testing.T) {
	t.Helper()
	javac, java := node.Tool(t, "javac"), node.Tool(t, "java")
	jars := filepath.Join(jars(t, kafka.Tools), "*")
	dir := t.TempDir()
	run(t, "", javac, "-cp", jars, "-d", dir, "java/Tools.java")
	var in strings.Builder
	for _, c := range s.calls {
		in.WriteString(strings.Join(c.words, "\t") + "\n")
	}
	printed := run(t, in.String(), java, slices.Concat(jvm, []string{"-Dlog4j2.level=ERROR", "-cp", dir + string(os.PathListSeparator) + jars, "Tools"})...)
	s.judge(t, printed)
}

// judge compares what each call printed and ended with.
func (s *toolScript) judge(t *testing.T, printed string) {
	t.Helper()
	var outs []string
	for line := range strings.Lines(printed) {
		if text, ok := strings.CutPrefix(line, "| "); ok && len(outs) > 0 {
			outs[len(outs)-1] += text
		} else if strings.HasPrefix(line, "# ") {
			outs = append(outs, line)
		}
	}
	if len(outs) != len(s.calls) {
		t.Fatalf("%d of %d tools ended:\n%s", len(outs), len(s.calls), tail(printed))
	}
	for i, c := range s.calls {
		title, text, _ := strings.Cut(outs[i], "\n")
		if title != fmt.Sprintf("# %d", c.code) || !c.want.MatchString(text) {
			t.Errorf("%s\nended with %q, want %d; want %s in\n%s", strings.Join(c.words, " "), title, c.code, c.want, text)
		}
	}
}

// file writes JSON for a tool to read.
func jsonFile(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "in.json")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestAdminTools administers a broker with Apache Kafka's tools 4.3.1: topics,
// settings of everything that has them, quotas, directories, records,
// assignments, features, the quorum.
func TestAdminTools(t *testing.T) {
	t.Parallel()
	n := node.Start(t)
	s := &toolScript{addr: n.Addr}
	s.topics()
	s.configs()
	s.quotas()
	s.records(t)
	s.reassign(t)
	s.cluster()
	s.do(0, ``, "TopicCommand --delete --topic tools-a")
	s.do(1, `Topic 'nothing' does not exist`, "TopicCommand --delete --topic nothing")
	s.run(t)
}

func (s *toolScript) topics() {
	s.do(0, `Created topic tools-a`, "TopicCommand --create --topic tools-a --partitions 2 --replication-factor 1 --config segment.bytes=2000000")
	s.do(1, `Topic 'tools-a' already exists`, "TopicCommand --create --topic tools-a")
	s.do(0, ``, "TopicCommand --create --topic tools-a --if-not-exists")
	s.do(0, ``, "TopicCommand --alter --topic tools-a --partitions 4")
	s.do(1, `2 would not be an increase`, "TopicCommand --alter --topic tools-a --partitions 2")
	s.do(0, `PartitionCount: 4\s+ReplicationFactor: 1\s+Configs: .*segment.bytes=2000000(.|\n)*Partition: 3\s+Leader: 1\s+Replicas: 1\s+Isr: 1`, "TopicCommand --describe --topic tools-a")
	s.do(0, `Topic: tools-a`, "TopicCommand --describe --topics-with-overrides")
	s.do(0, `\A[^:]*\z`, "TopicCommand --describe --under-replicated-partitions")
	s.do(0, `\A[^:]*\z`, "TopicCommand --describe --unavailable-partitions")
	s.do(0, `\A[^:]*\z`, "TopicCommand --describe --under-min-isr-partitions")
	s.do(0, `Partition: 3`, "TopicCommand --describe --at-min-isr-partitions --topic tools-a")
	s.do(0, `^tools-a$`, "TopicCommand --list")
}

func (s *toolScript) configs() {
	s.do(0, `Completed updating config for topic tools-a`, "kafka.admin.ConfigCommand --alter --entity-type topics --entity-name tools-a --add-config retention.ms=123456,cleanup.policy=[compact,delete]")
	s.do(0, `retention.ms=123456 sensitive=false synonyms=\{DYNAMIC_TOPIC_CONFIG:retention.ms=123456`, "kafka.admin.ConfigCommand --describe --entity-type topics --entity-name tools-a")
	s.do(0, `cleanup.policy=compact,delete sensitive=false synonyms=\{DYNAMIC_TOPIC_CONFIG:cleanup.policy=compact,delete, DEFAULT_CONFIG:log.cleanup.policy=delete\}(.|\n)*unclean.leader`, "kafka.admin.ConfigCommand --describe --entity-type topics --entity-name tools-a --all")
	s.do(0, `Completed`, "kafka.admin.ConfigCommand --alter --entity-type topics --entity-name tools-a --delete-config retention.ms,cleanup.policy")
	s.do(1, `Invalid value x for configuration retention.ms: Not a number of type LONG`, "kafka.admin.ConfigCommand --alter --entity-type topics --entity-name tools-a --add-config retention.ms=x")
	s.do(0, `\A[^:]*configs for topic tools-a are:\n.*segment.bytes=2000000.*\n\z`, "kafka.admin.ConfigCommand --describe --entity-type topics --entity-name tools-a")
	s.do(0, `Completed`, "kafka.admin.ConfigCommand --alter --entity-type brokers --entity-name 1 --add-config log.cleaner.backoff.ms=14000")
	s.do(0, `Completed updating default config`, "kafka.admin.ConfigCommand --alter --entity-type brokers --entity-default --add-config log.cleaner.backoff.ms=13000")
	s.do(0, `log.cleaner.backoff.ms=14000 sensitive=false synonyms=\{DYNAMIC_BROKER_CONFIG:log.cleaner.backoff.ms=14000, DYNAMIC_DEFAULT_BROKER_CONFIG:log.cleaner.backoff.ms=13000, DEFAULT_CONFIG:log.cleaner.backoff.ms=15000\}`, "kafka.admin.ConfigCommand --describe --entity-type brokers --entity-name 1")
	s.do(0, `log.cleaner.backoff.ms=13000`, "kafka.admin.ConfigCommand --describe --entity-type brokers --entity-default")
	s.do(0, `^  advertised.listeners=(.|\n)*^  num.partitions=1 `, "kafka.admin.ConfigCommand --describe --entity-type brokers --entity-name 1 --all")
	s.do(0, `Completed`, "kafka.admin.ConfigCommand --alter --entity-type brokers --entity-name 1 --delete-config log.cleaner.backoff.ms")
	s.do(0, `Completed`, "kafka.admin.ConfigCommand --alter --entity-type brokers --entity-default --delete-config log.cleaner.backoff.ms")
	s.do(1, `Cannot update these configs dynamically: \[node.id\]`, "kafka.admin.ConfigCommand --alter --entity-type brokers --entity-name 1 --add-config node.id=5")
	s.do(0, `^  root=`, "kafka.admin.ConfigCommand --describe --entity-type broker-loggers --entity-name 1")
	s.do(0, `Completed updating config for broker-logger 1`, "kafka.admin.ConfigCommand --alter --entity-type broker-loggers --entity-name 1 --add-config root=ERROR")
	s.do(0, `^  root=ERROR`, "kafka.admin.ConfigCommand --describe --entity-type broker-loggers --entity-name 1")
	s.do(0, `Completed`, "kafka.admin.ConfigCommand --alter --entity-type groups --entity-name readers --add-config consumer.session.timeout.ms=50000")
	s.do(0, `consumer.session.timeout.ms=50000 sensitive=false synonyms=\{DYNAMIC_GROUP_CONFIG:consumer.session.timeout.ms=50000, DEFAULT_CONFIG:group.consumer.session.timeout.ms=45000\}`, "kafka.admin.ConfigCommand --describe --entity-type groups --entity-name readers")

	s.do(0, `Completed updating config for client-metric m1`, "kafka.admin.ConfigCommand --alter --entity-type client-metrics --entity-name m1 --add-config metrics=[org.apache.kafka.producer.],interval.ms=60000")
	s.do(0, `interval.ms=60000 sensitive=false`, "kafka.admin.ConfigCommand --describe --entity-type client-metrics --entity-name m1")
	s.do(0, `Altered client metrics config for m2`, "ClientMetricsCommand --alter --name m2 --metrics org.apache.kafka.consumer. --interval 30000 --match client_id=abc")
	s.do(0, `^m1\nm2$`, "ClientMetricsCommand --list")
	s.do(0, `Client metrics configs for m1 are:\n  interval.ms=60000\n  match=\n  metrics=org.apache.kafka.producer.\nClient metrics configs for m2 are:\n  interval.ms=30000\n  match=client_id=abc\n`, "ClientMetricsCommand --describe")
	s.do(0, `Deleted client metrics config for m2`, "ClientMetricsCommand --delete --name m2")
	s.do(0, `^m1$`, "ClientMetricsCommand --list")
	s.do(0, `Deleted`, "ClientMetricsCommand --delete --name m1")
}

func (s *toolScript) quotas() {
	s.do(0, `Completed updating config for user alice`, "kafka.admin.ConfigCommand --alter --entity-type users --entity-name alice --add-config producer_byte_rate=1048576,consumer_byte_rate=2097152")
	s.do(0, `Completed`, "kafka.admin.ConfigCommand --alter --entity-type users --entity-name alice --entity-type clients --entity-default --add-config request_percentage=50")
	s.do(0, `Completed updating config for ip 127.0.0.9`, "kafka.admin.ConfigCommand --alter --entity-type ips --entity-name 127.0.0.9 --add-config connection_creation_rate=7")
	s.do(0, `Quota configs for user-principal 'alice' are consumer_byte_rate=2097152.0, producer_byte_rate=1048576.0`, "kafka.admin.ConfigCommand --describe --entity-type users --entity-name alice")
	s.do(0, `'alice', the default client-id are request_percentage=50.0`, "kafka.admin.ConfigCommand --describe --entity-type users --entity-type clients")
	s.do(0, `ip '127.0.0.9' are connection_creation_rate=7.0`, "kafka.admin.ConfigCommand --describe --entity-type ips")
	s.do(0, `Completed`, "kafka.admin.ConfigCommand --alter --entity-type users --entity-name alice --delete-config producer_byte_rate,consumer_byte_rate")
	s.do(0, `\A\s*\z`, "kafka.admin.ConfigCommand --describe --entity-type users --entity-name alice")
}

func (s *toolScript) records(t *testing.T) {
	s.do(0, `40 records sent`, "ProducerPerformance --topic tools-a --num-records 40 --record-size 10 --throughput -1 --producer-props bootstrap.servers=BROKER acks=all partitioner.class=org.apache.kafka.clients.producer.RoundRobinPartitioner")
	s.do(0, `^tools-a:0:10\ntools-a:1:10\ntools-a:2:10\ntools-a:3:10$`, "GetOffsetShell --topic tools-a")
	s.do(0, `^tools-a:0:0\ntools-a:1:0$`, "GetOffsetShell --topic-partitions tools-a:0-2 --time -2")
	s.do(0, `^tools-a:0:\d\ntools-a:1:\d$`, "GetOffsetShell --topic-partitions tools-a:0-2 --time max-timestamp")
	s.do(0, `"broker":1,"logDirs":\[\{"partitions":\[.*\{"partition":"tools-a-3","size":[1-9]\d*,"offsetLag":0,"isFuture":false\}`, "LogDirsCommand --describe --topic-list tools-a")
	s.do(0, `"error":null`, "LogDirsCommand --describe --broker-list 1")
	s.do(0, `partition: tools-a-0\s+low_watermark: 3`, "DeleteRecordsCommand --offset-json-file "+jsonFile(t, map[string]any{
		"version": 1, "partitions": []any{map[string]any{"topic": "tools-a", "partition": 0, "offset": 3}},
	}))
	s.do(0, `^tools-a:0:3\ntools-a:1:0\ntools-a:2:0\ntools-a:3:0$`, "GetOffsetShell --topic tools-a --time earliest")
	s.do(0, `^\d+\s+0\s+-1\s+\d+\s+\d{13}\s+None`, "TransactionsCommand --bootstrap-server BROKER describe-producers --topic tools-a --partition 0")
}

func (s *toolScript) reassign(t *testing.T) {
	assignment := func(broker int) string {
		return jsonFile(t, map[string]any{"version": 1, "partitions": []any{
			map[string]any{"topic": "tools-a", "partition": 0, "replicas": []int{broker}, "log_dirs": []string{"any"}},
		}})
	}
	topics := jsonFile(t, map[string]any{"version": 1, "topics": []any{map[string]any{"topic": "tools-a"}}})
	here := assignment(1)
	s.do(0, `Proposed partition reassignment configuration\n.*"topic":"tools-a","partition":0,"replicas":\[1\]`, "reassign.ReassignPartitionsCommand --generate --broker-list 1 --topics-to-move-json-file "+topics)
	s.do(0, `Successfully started partition reassignment for tools-a-0`, "reassign.ReassignPartitionsCommand --execute --reassignment-json-file "+here)
	s.do(0, `Reassignment of partition tools-a-0 is completed`, "reassign.ReassignPartitionsCommand --verify --reassignment-json-file "+here)
	s.do(0, `No partition reassignments found`, "reassign.ReassignPartitionsCommand --list")
	s.do(0, `None of the specified partition reassignments are active`, "reassign.ReassignPartitionsCommand --cancel --reassignment-json-file "+here)
	s.do(1, `Unknown broker id 2`, "reassign.ReassignPartitionsCommand --execute --reassignment-json-file "+assignment(2))
}

func (s *toolScript) cluster() {
	s.do(0, `Feature: metadata.version\s.*FinalizedVersionLevel: .*33\s`, "FeatureCommand describe")
	s.do(1, `Can not downgrade metadata.version to 25`, "FeatureCommand downgrade --feature metadata.version=25 --dry-run")
	s.do(1, `Could not upgrade no.such to 1`, "FeatureCommand upgrade --feature no.such=1")
	s.do(0, `LeaderId:\s+1\n(.|\n)*HighWatermark:\s+[1-9](.|\n)*CurrentVoters:\s+\[\{"id": 1`, "MetadataQuorumCommand --bootstrap-server BROKER describe --status")
	s.do(0, `^1\s.*\s0\s.*Leader`, "MetadataQuorumCommand --bootstrap-server BROKER describe --replication")
	s.do(1, `Cluster doesn't support removing voter because the kraft.version feature is 0`, "MetadataQuorumCommand --bootstrap-server BROKER remove-controller --controller-id 1 --controller-directory-id AAAAAAAAAAAAAAAAAAAAAg")
	s.do(0, ``, "LeaderElectionCommand --election-type preferred --all-topic-partitions")
	s.do(0, `Valid replica already elected for partitions tools-a-0`, "LeaderElectionCommand --election-type preferred --topic tools-a --partition 0")
	s.do(0, `Valid replica already elected for partitions tools-a-1`, "LeaderElectionCommand --election-type unclean --topic tools-a --partition 1")
	s.do(0, `Cluster ID: [0-9A-Za-z_-]{22}`, "ClusterTool cluster-id --bootstrap-server BROKER")
	s.do(0, `^1 .*unfenced\s+broker`, "ClusterTool list-endpoints --bootstrap-server BROKER")
	s.do(1, `Broker ID 9 is not currently registered`, "ClusterTool unregister --bootstrap-server BROKER --id 9")
	s.do(0, `IncrementalAlterConfigs\(44\): 0 to 1 \[usable: 1\]`, "BrokerApiVersionsCommand")
}
