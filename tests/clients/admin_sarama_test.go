package clients

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/barnabas-log/barnabas/tests/node"
)

// TestSaramaAdmin asks all that Sarama's ClusterAdmin can ask one broker, but
// for groups and security, and what Terraform's Kafka provider asks with Sarama.
func TestSaramaAdmin(t *testing.T) {
	t.Parallel()
	n := node.Start(t)
	t.Run("terraform", func(t *testing.T) { terraform(t, n) })
	admin, err := sarama.NewClusterAdmin([]string{n.Addr}, saramaConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	a := &saramaAdmin{ClusterAdmin: admin, topic: "sarama-admin"}
	if err := a.CreateTopic(a.topic, &sarama.TopicDetail{NumPartitions: 2, ReplicationFactor: 1}, false); err != nil {
		t.Fatal(err)
	}
	create(t, n, "sarama-admin-records")
	t.Run("configs", a.configs)
	t.Run("brokers", a.brokers)
	t.Run("partitions", a.partitions)
	t.Run("records", func(t *testing.T) { a.records(t, n) })
	t.Run("quotas", a.quotas)
	t.Run("features", a.features)
}

type saramaAdmin struct {
	sarama.ClusterAdmin
	topic string
}

// soon waits for what a broker does after it has answered.
func soon(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// value is a setting as it is described, with its source.
func (a *saramaAdmin) value(t *testing.T, kind sarama.ConfigResourceType, name, key string) string {
	t.Helper()
	results, err := a.DescribeConfigs([]*sarama.ConfigResource{{Type: kind, Name: name, ConfigNames: []string{key}}},
		sarama.DescribeConfigsOptions{IncludeSynonyms: true, IncludeDocumentation: true})
	if err != nil || len(results) != 1 || results[0].ErrorCode != sarama.ErrNoError || len(results[0].Configs) != 1 {
		t.Fatalf("%s of %s: %+v, %v", key, name, results, err)
	}
	c := results[0].Configs[0]
	if kind != sarama.BrokerLoggerResource && (c.Documentation == nil || *c.Documentation == "") {
		t.Errorf("%s has no documentation", key)
	}
	return fmt.Sprintf("%s from %s", c.Value, c.Source)
}

func (a *saramaAdmin) wantValue(t *testing.T, kind sarama.ConfigResourceType, name, key, want string) {
	t.Helper()
	var got string
	defer func() {
		if got != want {
			t.Errorf("%s of %s is %s, want %s", key, name, got, want)
		}
	}()
	soon(t, key, func() bool { got = a.value(t, kind, name, key); return got == want })
}

func (a *saramaAdmin) configs(t *testing.T) {
	text := func(s string) *string { return &s }
	if err := a.AlterConfig(sarama.TopicResource, a.topic, map[string]*string{"retention.ms": text("3600000"), "segment.bytes": text("2000000")}, false); err != nil {
		t.Error(err)
	}
	a.wantValue(t, sarama.TopicResource, a.topic, "segment.bytes", "2000000 from Topic")
	// The old call replaces all: what is not named goes.
	if err := a.AlterConfig(sarama.TopicResource, a.topic, map[string]*string{"retention.ms": text("7200000")}, false); err != nil {
		t.Error(err)
	}
	a.wantValue(t, sarama.TopicResource, a.topic, "retention.ms", "7200000 from Topic")
	a.wantValue(t, sarama.TopicResource, a.topic, "segment.bytes", "1073741824 from Default")
	// The new one changes what is named, element by element if need be.
	change := map[string]sarama.IncrementalAlterConfigsEntry{
		"retention.ms":   {Operation: sarama.IncrementalAlterConfigsOperationDelete},
		"cleanup.policy": {Operation: sarama.IncrementalAlterConfigsOperationAppend, Value: text("compact")},
		"segment.bytes":  {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: text("3000000")},
	}
	if err := a.IncrementalAlterConfig(sarama.TopicResource, a.topic, change, true); err != nil {
		t.Errorf("checked only: %v", err)
	}
	a.wantValue(t, sarama.TopicResource, a.topic, "retention.ms", "7200000 from Topic")
	if err := a.IncrementalAlterConfig(sarama.TopicResource, a.topic, change, false); err != nil {
		t.Error(err)
	}
	a.wantValue(t, sarama.TopicResource, a.topic, "cleanup.policy", "delete,compact from Topic")
	a.wantValue(t, sarama.TopicResource, a.topic, "segment.bytes", "3000000 from Topic")
	a.wantValue(t, sarama.TopicResource, a.topic, "retention.ms", "604800000 from Default")
	for _, bad := range []map[string]*string{{"retention.ms": text("soon")}, {"no.such": text("1")}} {
		if err := a.AlterConfig(sarama.TopicResource, a.topic, bad, false); !errors.Is(err, sarama.ErrInvalidConfig) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if err := a.AlterConfig(sarama.TopicResource, "nothing", map[string]*string{"retention.ms": text("1")}, false); !errors.Is(err, sarama.ErrUnknownTopicOrPartition) {
		t.Errorf("no topic: %v", err)
	}
}

func (a *saramaAdmin) brokers(t *testing.T) {
	brokers, controller, err := a.DescribeCluster()
	if err != nil || len(brokers) != 1 || controller != 1 {
		t.Errorf("%v, controller %d, %v", brokers, controller, err)
	}
	if c, err := a.Controller(); err != nil || c.ID() != 1 {
		t.Errorf("controller: %v, %v", c, err)
	}
	backoff := "14000"
	set := map[string]sarama.IncrementalAlterConfigsEntry{"log.cleaner.backoff.ms": {Value: &backoff}}
	if err := a.IncrementalAlterConfig(sarama.BrokerResource, "1", set, false); err != nil {
		t.Error(err)
	}
	a.wantValue(t, sarama.BrokerResource, "1", "log.cleaner.backoff.ms", "14000 from DynamicBroker")
	unset := map[string]sarama.IncrementalAlterConfigsEntry{"log.cleaner.backoff.ms": {Operation: sarama.IncrementalAlterConfigsOperationDelete}}
	if err := a.IncrementalAlterConfig(sarama.BrokerResource, "1", unset, false); err != nil {
		t.Error(err)
	}
	a.wantValue(t, sarama.BrokerResource, "1", "log.cleaner.backoff.ms", "15000 from Default")
	level := "ERROR"
	if err := a.IncrementalAlterConfig(sarama.BrokerLoggerResource, "1", map[string]sarama.IncrementalAlterConfigsEntry{"root": {Value: &level}}, false); err != nil {
		t.Error(err)
	}
	if got := a.value(t, sarama.BrokerLoggerResource, "1", "root"); got[:5] != "ERROR" {
		t.Errorf("root is %s", got)
	}
}

func (a *saramaAdmin) partitions(t *testing.T) {
	if err := a.CreatePartitions(a.topic, 3, nil, true); err != nil {
		t.Errorf("checked only: %v", err)
	}
	if err := a.CreatePartitions(a.topic, 4, [][]int32{{1}, {1}}, false); err != nil {
		t.Error(err)
	}
	soon(t, "four partitions", func() bool {
		d, err := a.DescribeTopics([]string{a.topic})
		return err == nil && len(d) == 1 && len(d[0].Partitions) == 4
	})
	if err := a.CreatePartitions(a.topic, 4, nil, false); !errors.Is(err, sarama.ErrInvalidPartitions) {
		t.Errorf("no more partitions: %v", err)
	}
	if err := a.CreatePartitions(a.topic, 5, [][]int32{{7}}, false); !errors.Is(err, sarama.ErrInvalidReplicaAssignment) {
		t.Errorf("to nobody: %v", err)
	}
	if err := a.AlterPartitionReassignments(a.topic, [][]int32{{1}, {1}, {1}, {1}}); err != nil {
		t.Error(err)
	}
	if got, err := a.ListPartitionReassignments(a.topic, []int32{0, 1}); err != nil || len(got) != 0 {
		t.Errorf("reassignments: %v, %v", got, err)
	}
	elected, err := a.ElectLeaders(sarama.PreferredElection, map[string][]int32{a.topic: {0, 9}})
	if err != nil || !errors.Is(elected[a.topic][0].ErrorCode, sarama.ErrElectionNotNeeded) || !errors.Is(elected[a.topic][9].ErrorCode, sarama.ErrUnknownTopicOrPartition) {
		t.Errorf("elected: %v, %v", elected, err)
	}
}

func (a *saramaAdmin) records(t *testing.T, n *node.Node) {
	const topic = "sarama-admin-records"
	c := saramaConfig()
	c.Producer.RequiredAcks = sarama.WaitForAll // Else the end may not be committed yet.
	saramaWrite(t, n, c, topic)
	dirs, err := a.DescribeLogDirs([]int32{1})
	if err != nil || len(dirs[1]) != 1 || dirs[1][0].ErrorCode != sarama.ErrNoError {
		t.Fatalf("%+v, %v", dirs, err)
	}
	var size int64
	for _, x := range dirs[1][0].Topics {
		for _, p := range x.Partitions {
			if x.Topic == topic {
				size += p.Size
			}
		}
	}
	if size < largeBytes || dirs[1][0].TotalBytes < dirs[1][0].UsableBytes || dirs[1][0].UsableBytes <= 0 {
		t.Errorf("%d bytes in %+v", size, dirs[1][0])
	}
	ask := map[string]map[int32]int64{topic: {0: sarama.OffsetNewest, 1: sarama.OffsetOldest}}
	if got, err := a.ListOffsets(ask, nil); err != nil || got[topic][0].Offset != samples/2 || got[topic][1].Offset != 0 {
		t.Errorf("offsets: %+v and %+v, %v", got[topic][0], got[topic][1], err)
	}
	if err := a.DeleteRecords(topic, map[int32]int64{0: 7, 1: -1}); err != nil {
		t.Error(err)
	}
	ask = map[string]map[int32]int64{topic: {0: sarama.OffsetOldest, 1: sarama.OffsetOldest}}
	if got, err := a.ListOffsets(ask, nil); err != nil || got[topic][0].Offset != 7 || got[topic][1].Offset != samples/2 {
		t.Errorf("begins at %+v and %+v, %v", got[topic][0], got[topic][1], err)
	}
	if err := a.DeleteRecords(topic, map[int32]int64{0: 1000}); err == nil {
		t.Error("records deleted that are not there")
	}
	wantRows(t, "what is left", rowsOf(readLeft(t, n, topic, samples/2-7)), sampleRows()[7:samples/2])
}

// readLeft reads as many records of a topic that has lost its first ones.
func readLeft(t *testing.T, n *node.Node, topic string, count int) []*kgo.Record {
	t.Helper()
	c := oracle(t, n, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var got []*kgo.Record
	for len(got) < count {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%d of %d records: %v", len(got), count, err)
		}
		got = append(got, fetches.Records()...)
	}
	return got
}

func (a *saramaAdmin) quotas(t *testing.T) {
	entity := []sarama.QuotaEntityComponent{
		{EntityType: sarama.QuotaEntityUser, MatchType: sarama.QuotaMatchExact, Name: "alice"},
		{EntityType: sarama.QuotaEntityClientID, MatchType: sarama.QuotaMatchDefault},
	}
	set := sarama.ClientQuotasOp{Key: "producer_byte_rate", Value: 1e6}
	if err := a.AlterClientQuotas(entity, set, true); err != nil {
		t.Errorf("checked only: %v", err)
	}
	list := func() []sarama.DescribeClientQuotasEntry {
		t.Helper()
		got, err := a.DescribeClientQuotas([]sarama.QuotaFilterComponent{{EntityType: sarama.QuotaEntityUser, MatchType: sarama.QuotaMatchExact, Match: "alice"}}, false)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := list(); len(got) != 0 {
		t.Errorf("quotas: %v", got)
	}
	if err := a.AlterClientQuotas(entity, set, false); err != nil {
		t.Error(err)
	}
	soon(t, "a quota", func() bool {
		got := list()
		return len(got) == 1 && got[0].Values["producer_byte_rate"] == 1e6 && len(got[0].Entity) == 2
	})
	if err := a.AlterClientQuotas(entity, sarama.ClientQuotasOp{Key: "producer_byte_rate", Remove: true}, false); err != nil {
		t.Error(err)
	}
	soon(t, "no quota", func() bool { return len(list()) == 0 })
	if err := a.AlterClientQuotas(entity, sarama.ClientQuotasOp{Key: "no_such", Value: 1}, false); err == nil {
		t.Error("an unknown quota was taken")
	}
}

func (a *saramaAdmin) features(t *testing.T) {
	got, err := a.UpdateFeatures([]sarama.FeatureUpdate{{Feature: "no.such", MaxVersionLevel: 1}})
	refused := errors.Is(err, sarama.ErrInvalidUpdateVersion)
	for _, r := range got {
		refused = refused || errors.Is(r.ErrorCode, sarama.ErrInvalidUpdateVersion)
	}
	if !refused {
		t.Errorf("%+v, %v", got, err)
	}
}

// terraform makes the calls of Terraform's Kafka provider for a topic's life
// and a quota's, with the version of the protocol that it speaks.
func terraform(t *testing.T, n *node.Node) {
	c := sarama.NewConfig()
	c.Version = sarama.V2_7_0_0
	c.Metadata.AllowAutoTopicCreation = false
	client, err := sarama.NewClient([]string{n.Addr}, c)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	b, err := client.Controller()
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{client: client, broker: b, timeout: 30 * time.Second}
	const topic = "terraform"
	text := func(s string) *string { return &s }
	p.create(t, topic, map[string]*string{"segment.ms": text("20000"), "cleanup.policy": text("compact")})
	p.wantConfig(t, topic, map[string]string{"segment.ms": "20000", "cleanup.policy": "compact"})
	p.update(t, topic, map[string]*string{"segment.ms": text("30000")})
	p.wantConfig(t, topic, map[string]string{"segment.ms": "30000"})
	p.grow(t, topic, 5)
	soon(t, "five partitions", func() bool {
		if err := client.RefreshMetadata(topic); err != nil {
			return false
		}
		parts, err := client.Partitions(topic)
		return err == nil && len(parts) == 5
	})
	if replicas, err := client.Replicas(topic, 4); err != nil || len(replicas) != 1 {
		t.Errorf("replicas: %v, %v", replicas, err)
	}
	p.replicas(t, topic, 5)
	p.quota(t)
	deleted, err := b.DeleteTopics(&sarama.DeleteTopicsRequest{Topics: []string{topic}, Timeout: p.timeout, Version: 1})
	if err != nil || deleted.TopicErrorCodes[topic] != sarama.ErrNoError {
		t.Errorf("delete: %+v, %v", deleted, err)
	}
	soon(t, "the topic's end", func() bool {
		return errors.Is(client.RefreshMetadata(topic), sarama.ErrUnknownTopicOrPartition)
	})
}

type provider struct {
	client  sarama.Client
	broker  *sarama.Broker
	timeout time.Duration
}

func (p *provider) create(t *testing.T, topic string, config map[string]*string) {
	t.Helper()
	created, err := p.broker.CreateTopics(&sarama.CreateTopicsRequest{
		TopicDetails: map[string]*sarama.TopicDetail{topic: {NumPartitions: 3, ReplicationFactor: 1, ConfigEntries: config}},
		Timeout:      p.timeout, Version: 2,
	})
	if err != nil || created.TopicErrors[topic].Err != sarama.ErrNoError {
		t.Fatalf("create: %+v, %v", created, err)
	}
}

// update replaces a topic's settings, with the call that Java clients no longer
// have.
func (p *provider) update(t *testing.T, topic string, config map[string]*string) {
	t.Helper()
	got, err := p.broker.AlterConfigs(&sarama.AlterConfigsRequest{Resources: []*sarama.AlterConfigsResource{
		{Type: sarama.TopicResource, Name: topic, ConfigEntries: config},
	}})
	if err != nil || len(got.Resources) != 1 || got.Resources[0].ErrorCode != 0 {
		t.Errorf("update: %+v, %v", got, err)
	}
}

// wantConfig compares the settings that do not come from elsewhere.
func (p *provider) wantConfig(t *testing.T, topic string, want map[string]string) {
	t.Helper()
	var got map[string]string
	soon(t, fmt.Sprintf("settings %v", want), func() bool {
		resp, err := p.broker.DescribeConfigs(&sarama.DescribeConfigsRequest{Version: 1, Resources: []*sarama.ConfigResource{{Type: sarama.TopicResource, Name: topic}}})
		if err != nil || len(resp.Resources) != 1 {
			t.Fatalf("%+v, %v", resp, err)
		}
		got = map[string]string{}
		for _, c := range resp.Resources[0].Configs {
			if c.Source == sarama.SourceTopic {
				got[c.Name] = c.Value
			}
		}
		return fmt.Sprint(got) == fmt.Sprint(want)
	})
}

func (p *provider) grow(t *testing.T, topic string, count int32) {
	t.Helper()
	got, err := p.broker.CreatePartitions(&sarama.CreatePartitionsRequest{
		TopicPartitions: map[string]*sarama.TopicPartition{topic: {Count: count}}, Timeout: p.timeout,
	})
	if err != nil || got.TopicPartitionErrors[topic] != nil && got.TopicPartitionErrors[topic].Err != sarama.ErrNoError {
		t.Errorf("grow: %+v, %v", got, err)
	}
}

// replicas asks for the replicas that there are, and how far that is.
func (p *provider) replicas(t *testing.T, topic string, partitions int32) {
	t.Helper()
	req := &sarama.AlterPartitionReassignmentsRequest{TimeoutMs: 30_000}
	ask := &sarama.ListPartitionReassignmentsRequest{TimeoutMs: 30_000}
	var all []int32
	for i := range partitions {
		req.AddBlock(topic, i, []int32{1})
		all = append(all, i)
	}
	got, err := p.broker.AlterPartitionReassignments(req)
	if err != nil || got.ErrorCode != sarama.ErrNoError {
		t.Errorf("reassign: %+v, %v", got, err)
	}
	ask.AddBlock(topic, all)
	going, err := p.broker.ListPartitionReassignments(ask)
	if err != nil || going.ErrorCode != sarama.ErrNoError || len(going.TopicStatus) != 0 {
		t.Errorf("reassignments: %+v, %v", going, err)
	}
}

func (p *provider) quota(t *testing.T) {
	t.Helper()
	alter := func(op sarama.ClientQuotasOp) {
		t.Helper()
		got, err := p.broker.AlterClientQuotas(&sarama.AlterClientQuotasRequest{Entries: []sarama.AlterClientQuotasEntry{{
			Entity: []sarama.QuotaEntityComponent{{EntityType: sarama.QuotaEntityClientID, MatchType: sarama.QuotaMatchExact, Name: "app"}},
			Ops:    []sarama.ClientQuotasOp{op},
		}}})
		if err != nil || len(got.Entries) != 1 || got.Entries[0].ErrorCode != sarama.ErrNoError {
			t.Errorf("quota: %+v, %v", got, err)
		}
	}
	want := func(values int) {
		t.Helper()
		soon(t, fmt.Sprintf("%d quotas", values), func() bool {
			got, err := p.broker.DescribeClientQuotas(&sarama.DescribeClientQuotasRequest{Strict: true, Components: []sarama.QuotaFilterComponent{
				{EntityType: sarama.QuotaEntityClientID, MatchType: sarama.QuotaMatchExact, Match: "app"},
			}})
			if err != nil || got.ErrorCode != sarama.ErrNoError {
				t.Fatalf("quotas: %+v, %v", got, err)
			}
			return values == 0 && len(got.Entries) == 0 || len(got.Entries) == 1 && len(got.Entries[0].Values) == values
		})
	}
	alter(sarama.ClientQuotasOp{Key: "consumer_byte_rate", Value: 4e6})
	want(1)
	alter(sarama.ClientQuotasOp{Key: "producer_byte_rate", Value: 2e6})
	want(2)
	alter(sarama.ClientQuotasOp{Key: "producer_byte_rate", Remove: true})
	alter(sarama.ClientQuotasOp{Key: "consumer_byte_rate", Remove: true})
	want(0)
}
