package clients

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/barnabas-log/barnabas/tests/node"
)

// TestFranzAdmin asks all that kadm can ask one broker, but for groups,
// transactions and security.
func TestFranzAdmin(t *testing.T) {
	t.Parallel()
	n := node.Start(t)
	const topic = "franz-admin"
	writeSamples(t, n, topic)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client := oracle(t, n)
	a := &franzAdmin{Client: kadm.NewClient(client), client: client, ctx: ctx, topic: topic}
	t.Run("cluster", a.cluster)
	t.Run("configs", a.configs)
	t.Run("offsets", a.offsets)
	t.Run("partitions", a.partitions)
	t.Run("directories", a.directories)
	t.Run("quotas", a.quotas)
	t.Run("records", a.records)
}

type franzAdmin struct {
	*kadm.Client
	client *kgo.Client
	ctx    context.Context
	topic  string
}

func (a *franzAdmin) cluster(t *testing.T) {
	m, err := a.Metadata(a.ctx)
	if err != nil || m.Controller != 1 || len(m.Cluster) != 22 || len(m.Brokers) != 1 || !m.Topics.Has(a.topic) {
		t.Errorf("%+v, %v", m, err)
	}
	if b, err := a.ListBrokers(a.ctx); err != nil || len(b.NodeIDs()) != 1 {
		t.Errorf("brokers: %v, %v", b, err)
	}
	if m, err := a.BrokerMetadata(a.ctx); err != nil || len(m.Topics) != 0 {
		t.Errorf("brokers only: %+v, %v", m, err)
	}
	versions, err := a.ApiVersions(a.ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range versions.Sorted() {
		most, ok := v.KeyMaxVersion(int16(kmsg.IncrementalAlterConfigs))
		if v.Err != nil || !ok || most != 1 {
			t.Errorf("%+v", v)
		}
	}
	updated, err := a.UpdateFeatures(a.ctx, true, kadm.FeatureUpdate{Feature: "no.such", MaxVersionLevel: 1, UpgradeType: 1})
	if err == nil {
		err = updated.Error()
	}
	if !errors.Is(err, kerr.InvalidUpdateVersion) {
		t.Errorf("a feature that there is not: %+v, %v", updated, err)
	}
	req := kmsg.NewPtrDescribeQuorumRequest()
	quorumTopic := kmsg.NewDescribeQuorumRequestTopic()
	quorumTopic.Topic = "__cluster_metadata"
	quorumTopic.Partitions = []kmsg.DescribeQuorumRequestTopicPartition{kmsg.NewDescribeQuorumRequestTopicPartition()}
	req.Topics = append(req.Topics, quorumTopic)
	quorum, err := req.RequestWith(a.ctx, a.client)
	if err != nil || len(quorum.Topics) != 1 || quorum.Topics[0].Partitions[0].LeaderID != 1 {
		t.Errorf("quorum: %+v, %v", quorum, err)
	}
}

// configs: of topics and brokers, changed bit by bit and as a whole.
func (a *franzAdmin) configs(t *testing.T) {
	set := func(key, value string) kadm.AlterConfig { return kadm.AlterConfig{Name: key, Value: &value} }
	one := func(rs kadm.AlterConfigsResponses, err error) error {
		if err != nil {
			return err
		}
		if len(rs) != 1 {
			return fmt.Errorf("%d answers", len(rs))
		}
		return rs[0].Err
	}
	want := func(key, value string, source kmsg.ConfigSource) {
		t.Helper()
		soon(t, key+"="+value, func() bool {
			rs, err := a.DescribeTopicConfigs(a.ctx, a.topic)
			if err != nil {
				t.Fatal(err)
			}
			r, err := rs.On(a.topic, nil)
			if err != nil || r.Err != nil {
				t.Fatal(err, r.Err)
			}
			for _, c := range r.Configs {
				if c.Key == key {
					return c.MaybeValue() == value && c.Source == source
				}
			}
			return false
		})
	}
	if err := one(a.ValidateAlterTopicConfigs(a.ctx, []kadm.AlterConfig{set("segment.bytes", "x")}, a.topic)); !errors.Is(err, kerr.InvalidConfig) {
		t.Errorf("segment.bytes=x: %v", err)
	}
	if err := one(a.AlterTopicConfigs(a.ctx, []kadm.AlterConfig{set("segment.bytes", "2000000"), {Op: kadm.AppendConfig, Name: "cleanup.policy", Value: new("compact")}}, a.topic)); err != nil {
		t.Error(err)
	}
	want("segment.bytes", "2000000", kmsg.ConfigSourceDynamicTopicConfig)
	want("cleanup.policy", "delete,compact", kmsg.ConfigSourceDynamicTopicConfig)
	if err := one(a.ValidateAlterTopicConfigsState(a.ctx, []kadm.AlterConfig{set("retention.ms", "1")}, a.topic)); err != nil {
		t.Error(err)
	}
	if err := one(a.AlterTopicConfigsState(a.ctx, []kadm.AlterConfig{set("retention.ms", "-1")}, a.topic)); err != nil {
		t.Error(err)
	}
	want("retention.ms", "-1", kmsg.ConfigSourceDynamicTopicConfig)
	want("segment.bytes", "1073741824", kmsg.ConfigSourceDefaultConfig)

	if err := one(a.ValidateAlterBrokerConfigs(a.ctx, []kadm.AlterConfig{set("node.id", "2")}, 1)); !errors.Is(err, kerr.InvalidRequest) {
		t.Errorf("node.id=2: %v", err)
	}
	if err := one(a.AlterBrokerConfigs(a.ctx, []kadm.AlterConfig{set("log.cleaner.backoff.ms", "14000")}, 1)); err != nil {
		t.Error(err)
	}
	soon(t, "log.cleaner.backoff.ms", func() bool {
		rs, err := a.DescribeBrokerConfigs(a.ctx, 1)
		if err != nil || len(rs) != 1 {
			t.Fatal(rs, err)
		}
		for _, c := range rs[0].Configs {
			if c.Key == "log.cleaner.backoff.ms" {
				return c.MaybeValue() == "14000" && c.Source == kmsg.ConfigSourceDynamicBrokerConfig && len(c.Synonyms) == 2
			}
		}
		return false
	})
	if err := one(a.ValidateAlterBrokerConfigsState(a.ctx, []kadm.AlterConfig{set("log.cleaner.backoff.ms", "13000")}, 1)); err != nil {
		t.Error(err)
	}
	if err := one(a.AlterBrokerConfigs(a.ctx, []kadm.AlterConfig{{Op: kadm.DeleteConfig, Name: "log.cleaner.backoff.ms"}}, 1)); err != nil {
		t.Error(err)
	}
	listed, err := a.ListConfigResources(a.ctx, kmsg.ConfigResourceTypeTopic, kmsg.ConfigResourceTypeBroker)
	if err != nil || listed.Err != nil || len(listed.Resources) != 2 {
		t.Errorf("resources: %+v, %v", listed, err)
	}
}

func (a *franzAdmin) offsets(t *testing.T) {
	f := func(what string, want int64, listed kadm.ListedOffsets, err error) {
		t.Helper()
		o, ok := listed.Lookup(a.topic, 0)
		if err != nil || !ok || o.Err != nil || o.Offset != want {
			t.Errorf("%s: %+v, %v; want %d", what, o, err, want)
		}
	}
	half := int64(samples / partitions)
	listed, err := a.ListStartOffsets(a.ctx, a.topic)
	f("start", 0, listed, err)
	listed, err = a.ListEndOffsets(a.ctx, a.topic)
	f("end", half, listed, err)
	listed, err = a.ListCommittedOffsets(a.ctx, a.topic)
	f("committed", half, listed, err)
	listed, err = a.ListOffsetsAfterMilli(a.ctx, firstTime+20_000, a.topic)
	f("time", 10, listed, err)
	listed, err = a.ListMaxTimestampOffsets(a.ctx, a.topic)
	f("largest time", half-1, listed, err)
	listed, err = a.ListLocalLogStartOffsets(a.ctx, a.topic)
	f("local start", 0, listed, err)
	listed, err = a.ListLatestRemoteOffsets(a.ctx, a.topic)
	f("remote", -1, listed, err)
	var epochs kadm.OffsetForLeaderEpochRequest
	epochs.Add(a.topic, 0, 0)
	got, err := a.OffsetForLeaderEpoch(a.ctx, epochs)
	if o := got[a.topic][0]; err != nil || o.Err != nil || o.EndOffset != half {
		t.Errorf("epoch 0: %+v, %v", o, err)
	}
	described, err := a.DescribeProducers(a.ctx, kadm.TopicsSet{a.topic: {0: {}}})
	if err != nil || len(described.SortedProducers()) != len(codecs) { // Each codec had a client of its own.
		t.Errorf("producers: %+v, %v", described, err)
	}
}

func (a *franzAdmin) partitions(t *testing.T) {
	f := func(what string, want error, rs kadm.CreatePartitionsResponses, err error) {
		t.Helper()
		if err != nil || !errors.Is(rs[a.topic].Err, want) {
			t.Errorf("%s: %+v, %v", what, rs, err)
		}
	}
	rs, err := a.ValidateCreatePartitions(a.ctx, 2, a.topic)
	f("two more, checked only", nil, rs, err)
	rs, err = a.CreatePartitions(a.ctx, 1, a.topic)
	f("one more", nil, rs, err)
	soon(t, "three partitions", func() bool {
		topics, err := a.ListTopics(a.ctx, a.topic)
		return err == nil && len(topics[a.topic].Partitions) == 3
	})
	rs, err = a.ValidateUpdatePartitions(a.ctx, 3, a.topic)
	f("three, checked only", kerr.InvalidPartitions, rs, err)
	rs, err = a.UpdatePartitions(a.ctx, 4, a.topic)
	f("four", nil, rs, err)

	elected, err := a.ElectLeaders(a.ctx, kadm.ElectPreferredReplica, kadm.TopicsSet{a.topic: {0: {}}})
	if err != nil || !errors.Is(elected[a.topic][0].Err, kerr.ElectionNotNeeded) {
		t.Errorf("elected: %+v, %v", elected, err)
	}
	if elected, err = a.ElectLeaders(a.ctx, kadm.ElectLiveReplica, nil); err != nil || len(elected[a.topic]) != 0 {
		t.Errorf("all elected: %+v, %v", elected, err)
	}
	var assign kadm.AlterPartitionAssignmentsReq
	assign.Assign(a.topic, 0, []int32{1})
	assign.Assign(a.topic, 1, []int32{9})
	assign.CancelAssign(a.topic, 2)
	assigned, err := a.AlterPartitionAssignments(a.ctx, assign)
	if err != nil || assigned[a.topic][0].Err != nil || !errors.Is(assigned[a.topic][1].Err, kerr.InvalidReplicaAssignment) || !errors.Is(assigned[a.topic][2].Err, kerr.NoReassignmentInProgress) {
		t.Errorf("assigned: %+v, %v", assigned, err)
	}
	if going, err := a.ListPartitionReassignments(a.ctx, nil); err != nil || len(going) != 0 {
		t.Errorf("reassignments: %+v, %v", going, err)
	}
}

func (a *franzAdmin) directories(t *testing.T) {
	dirs, err := a.DescribeAllLogDirs(a.ctx, nil)
	if err != nil || len(dirs[1]) != 1 || !dirs[1].Ok() {
		t.Fatalf("%+v, %v", dirs, err)
	}
	p, ok := dirs[1].LookupPartition(a.topic, 0)
	if !ok || p.Size <= 0 || p.OffsetLag != 0 || p.IsFuture {
		t.Errorf("%+v", p)
	}
	if some, err := a.DescribeBrokerLogDirs(a.ctx, 1, kadm.TopicsSet{a.topic: {1: {}}}); err != nil || len(some.SortedPartitions()) != 1 {
		t.Errorf("%+v, %v", some, err)
	}
	var move kadm.AlterReplicaLogDirsReq
	move.Add(p.Dir, kadm.TopicsSet{a.topic: {0: {}}})
	move.Add("/no/such/directory", kadm.TopicsSet{a.topic: {1: {}}})
	moved, err := a.AlterAllReplicaLogDirs(a.ctx, move)
	if err != nil {
		t.Fatal(err)
	}
	moved.Each(func(r kadm.AlterReplicaLogDirsResponse) {
		var want error
		if r.Partition == 1 {
			want = kerr.LogDirNotFound
		}
		if !errors.Is(r.Err, want) {
			t.Errorf("move: %+v", r)
		}
	})
}

func (a *franzAdmin) quotas(t *testing.T) {
	who := kadm.ClientQuotaEntity{{Type: "client-id", Name: new("loader")}}
	f := func(want error, altered kadm.AlteredClientQuotas, err error) {
		t.Helper()
		if err != nil || len(altered) != 1 || !errors.Is(altered[0].Err, want) {
			t.Errorf("%+v, %v", altered, err)
		}
	}
	all := func() kadm.DescribedClientQuotas {
		t.Helper()
		got, err := a.DescribeClientQuotas(a.ctx, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	set := []kadm.AlterClientQuotaEntry{{Entity: who, Ops: []kadm.AlterClientQuotaOp{{Key: "producer_byte_rate", Value: 1e6}, {Key: "request_percentage", Value: 50}}}}
	altered, err := a.ValidateAlterClientQuotas(a.ctx, set)
	f(nil, altered, err)
	altered, err = a.AlterClientQuotas(a.ctx, set)
	f(nil, altered, err)
	soon(t, "two quotas", func() bool { got := all(); return len(got) == 1 && len(got[0].Values) == 2 })
	altered, err = a.AlterClientQuotas(a.ctx, []kadm.AlterClientQuotaEntry{{Entity: who, Ops: []kadm.AlterClientQuotaOp{{Key: "no_such", Value: 1}}}})
	f(kerr.InvalidRequest, altered, err)
	altered, err = a.AlterClientQuotas(a.ctx, []kadm.AlterClientQuotaEntry{{Entity: who, Ops: []kadm.AlterClientQuotaOp{{Key: "producer_byte_rate", Remove: true}, {Key: "request_percentage", Remove: true}}}})
	f(nil, altered, err)
	soon(t, "no quotas", func() bool { return len(all()) == 0 })
}

func (a *franzAdmin) records(t *testing.T) {
	offsets := kadm.Offsets{}
	offsets.AddOffset(a.topic, 0, 5, -1)
	offsets.AddOffset(a.topic, 1, 1000, -1)
	deleted, err := a.DeleteRecords(a.ctx, offsets)
	if err != nil {
		t.Fatal(err)
	}
	if r, _ := deleted.Lookup(a.topic, 0); r.Err != nil || r.LowWatermark != 5 {
		t.Errorf("before 5: %+v", r)
	}
	if r, _ := deleted.Lookup(a.topic, 1); !errors.Is(r.Err, kerr.OffsetOutOfRange) {
		t.Errorf("before 1000: %+v", r)
	}
}
