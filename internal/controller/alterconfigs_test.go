package controller

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// alter changes configurations and returns what became of each.
func (c *cluster) alter(changes ...ConfigChange) []error {
	c.t.Helper()
	records, errs, err := c.rules.AlterConfigs(c.track.Image(), changes)
	if err != nil {
		c.t.Fatal(err)
	}
	c.apply(records)
	return errs
}

func topicNamed(name string) metadata.Resource {
	return metadata.Resource{Type: metadata.ResourceTopic, Name: name}
}

func brokerNamed(name string) metadata.Resource {
	return metadata.Resource{Type: metadata.ResourceBroker, Name: name}
}

// configChange is a change of keys as in "retention.ms=5", "+cleanup.policy=compact", "-cleanup.policy=compact" or "!retention.ms".
func configChange(of metadata.Resource, keys ...string) ConfigChange {
	c := ConfigChange{Resource: of}
	for _, k := range keys {
		op := SetConfig
		switch k[0] {
		case '!':
			op = DeleteConfig
		case '+':
			op = AppendConfig
		case '-':
			op = SubtractConfig
		}
		if op != SetConfig {
			k = k[1:]
		}
		name, value, _ := strings.Cut(k, "=")
		c.Keys = append(c.Keys, KeyChange{name, op, value})
	}
	return c
}

// What single keys become, and that a resource changes whole or not at all.
func TestAlterTopic(t *testing.T) {
	c := newCluster(t, 1)
	c.create(named("t"))
	f := func(message string, want map[string]string, keys ...string) {
		t.Helper()
		err := c.alter(configChange(topicNamed("t"), keys...))[0]
		if got := errorText(err); got != message {
			t.Errorf("%q: %q, want %q", keys, got, message)
		}
		if d := cmp.Diff(want, c.track.Image().Config(topicNamed("t"))); d != "" {
			t.Errorf("%q: %s", keys, d)
		}
	}
	one := map[string]string{"retention.ms": "5"}
	f("", one, "retention.ms=5")
	f("", one, "!segment.ms")
	f("Unknown topic config name: nobody.knows", one, "retention.ms=6", "nobody.knows=1")
	f("Can't SUBTRACT to key retention.ms because its type is not LIST.", one, "-retention.ms=5")
	f("conflict topic config setting min.compaction.lag.ms (9) > max.compaction.lag.ms (8)", one, "min.compaction.lag.ms=9", "max.compaction.lag.ms=8")
	two := map[string]string{"retention.ms": "5", "cleanup.policy": "delete,compact"}
	f("", two, "+cleanup.policy=compact")
	f("", map[string]string{"cleanup.policy": "compact"}, "-cleanup.policy=delete", "!retention.ms")
	f("", map[string]string{"cleanup.policy": ""}, "-cleanup.policy=compact")
	f("", nil, "!cleanup.policy")
	f("The configuration value cannot be added because it exceeds the maximum value size of 32767 bytes.", nil,
		"leader.replication.throttled.replicas="+strings.Repeat("0:1,", 9000)+"0:1")
	f("The configuration value cannot be added because it exceeds the maximum value size of 32767 bytes.", nil, "nobody.knows="+strings.Repeat("ä", 16384))

	replace := configChange(topicNamed("t"), "retention.ms=7")
	replace.Replace = true
	c.alter(configChange(topicNamed("t"), "segment.ms=7"), replace)
	if d := cmp.Diff(map[string]string{"segment.ms": "7", "retention.ms": "7"}, c.track.Image().Config(topicNamed("t"))); d != "" {
		t.Errorf("both were decided against the same image: %s", d)
	}
	if c.alter(replace); len(c.track.Image().Config(topicNamed("t"))) != 1 {
		t.Error("what was not named stayed")
	}
	if err := c.alter(configChange(topicNamed("nothing"), "retention.ms=7"))[0]; !errors.Is(err, ErrUnknownTopic) {
		t.Error(err)
	}
}

// A value that is set anew to what it is makes a record for brokers only.
func TestRecordsOfUnchangedConfigs(t *testing.T) {
	c := newCluster(t, 1)
	c.create(named("t"))
	f := func(of metadata.Resource, key string, want int) {
		t.Helper()
		c.alter(configChange(of, key))
		records, _, err := c.rules.AlterConfigs(c.track.Image(), []ConfigChange{configChange(of, key)})
		if err != nil || len(records) != want {
			t.Errorf("%v %s: %d records, want %d; %v", of, key, len(records), want, err)
		}
	}
	f(topicNamed("t"), "retention.ms=5", 0)
	f(topicNamed("t"), "!segment.ms", 0)
	f(brokerNamed("1"), "log.retention.ms=5000", 1)
	f(brokerNamed("1"), "!log.roll.ms", 1)
	f(brokerNamed(""), "log.roll.ms=5000", 1)
}

// What a broker refuses of its own configuration, and of that of others.
func TestAlterBroker(t *testing.T) {
	c := newCluster(t, 1, 2)
	f := func(name, want string, keys ...string) {
		t.Helper()
		err := c.alter(configChange(brokerNamed(name), keys...))[0]
		if got := errorText(err); !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("%q %q: %q, want %q", name, keys, got, want)
		}
	}
	f("1", "", "log.retention.ms=5000", "log.segment.bytes=2000000")
	f("", "", "log.retention.ms=6000")
	f("2", "Unexpected broker id, expected 1, but received 2", "log.retention.ms=5000")
	f("x", "Node id must be an integer, but it is: x")
	f("1", "Cannot update these configs dynamically: [num.partitions]", "num.partitions=2")
	f("1", "requirement failed: log.roll.ms must be", "log.roll.ms=0")
	odd := configChange(brokerNamed("1"), "log.retention.ms=5")
	odd.Keys[0].Op = 7
	if err := c.alter(odd)[0]; errorText(err) != "Unknown operations type 7" {
		t.Error(err)
	}
	f("", "", "min.insync.replicas=2")
	f("1", "Broker-level min.insync.replicas cannot be altered while ELR is enabled.", "min.insync.replicas=2")
	f("", "Cluster-level min.insync.replicas cannot be removed while ELR is enabled.", "!min.insync.replicas")
}

// Eligible leaders are forgotten where the least number of replicas in sync
// changes, and nowhere else.
func TestAlteredMinISRForgetsELR(t *testing.T) {
	c := newCluster(t, 1)
	c.create(named("t"), named("u"))
	withELR := func(topic string) {
		m := change(c.track.Image().Topic(topic), 0)
		m.EligibleLeaderReplicas = []int32{1}
		c.apply([]metadata.Record{{Message: m, Version: partitionChangeVersion}})
	}
	f := func(of metadata.Resource, key string, wantT, wantU int) {
		t.Helper()
		withELR("t")
		withELR("u")
		if err := c.alter(configChange(of, key))[0]; err != nil {
			t.Fatal(err)
		}
		image := c.track.Image()
		if gotT, gotU := len(image.Topic("t").Partitions[0].ELR), len(image.Topic("u").Partitions[0].ELR); gotT != wantT || gotU != wantU {
			t.Errorf("%v %s: %d and %d eligible, want %d and %d", of, key, gotT, gotU, wantT, wantU)
		}
	}
	f(topicNamed("t"), "retention.ms=5", 1, 1)
	f(topicNamed("t"), "min.insync.replicas=2", 0, 1)
	f(brokerNamed(""), "min.insync.replicas=2", 0, 0)
}

// One request may not make more records than fit one batch.
func TestTooManyConfigs(t *testing.T) {
	c := newCluster(t, 1)
	var changes []ConfigChange
	for i := range maxRecords + 1 {
		name := "g" + strings.Repeat("x", i%200) + string(rune('a'+i/200))
		changes = append(changes, configChange(metadata.Resource{Type: metadata.ResourceGroup, Name: name}, "share.isolation.level=read_committed"))
	}
	if _, _, err := c.rules.AlterConfigs(c.track.Image(), changes); !errors.Is(err, ErrPolicy) {
		t.Error(err)
	}
	bad := configChange(topicNamed("t"), "retention.ms=5")
	bad.Keys[0].Op = 9
	if _, _, err := c.rules.AlterConfigs(c.track.Image(), []ConfigChange{bad}); !errors.Is(err, wire.UnknownServerError) {
		t.Errorf("an operation nobody knows: %v", err)
	}
}

func TestUpdateFeatures(t *testing.T) {
	c := newCluster(t, 1)
	f := func(name string, level int16, how UpgradeType, want string) {
		t.Helper()
		records, err := c.rules.UpdateFeatures(c.track.Image(), []FeatureUpdate{{name, level, how}})
		if got := errorText(err); !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("%s %d: %q, want %q", name, level, got, want)
		}
		if err == nil {
			c.apply(records)
			if got := c.track.Image().Feature(name); got != level {
				t.Errorf("%s is %d, want %d", name, got, level)
			}
		} else if !errors.Is(err, wire.InvalidUpdateVersion) {
			t.Error(err)
		}
	}
	f(ELRVersion, 0, Upgrade, "Can't downgrade the version")
	f(ELRVersion, 0, SafeDowngrade, "")
	f(ELRVersion, 1, UnsafeDowngrade, "Can't downgrade to a newer version.")
	f(ELRVersion, 2, Upgrade, "Local controller 1 only supports versions 0-1")
	f(ELRVersion, -1, Upgrade, "less than 0")
	f(ELRVersion, 1, 0, "upgrade type")
	f("share.version", 1, Upgrade, "Local controller 1 does not support this feature.")
	f("share.version", 0, Upgrade, "Feature share.version not found.")
	f(TransactionVersion, 1, SafeDowngrade, "")
	f(TransactionVersion, 2, Upgrade, "")
	f(GroupVersion, 2, Upgrade, "Local controller 1 only supports versions 0-1")
	f(metadata.MetadataVersion, Level, Upgrade, "")
	f(metadata.MetadataVersion, Level-1, SafeDowngrade, "Refusing to perform the requested downgrade")

	// With eligible leaders, min.insync.replicas is the same for all brokers.
	c.alter(configChange(brokerNamed("1"), "min.insync.replicas=2"), configChange(brokerNamed(""), "!min.insync.replicas"))
	f(ELRVersion, 1, Upgrade, "")
	if got := c.track.Image().Config(allBrokers)[minISR]; got != "1" {
		t.Errorf("all brokers have %q", got)
	}
	if own := c.track.Image().Config(brokerNamed("1")); len(own) > 0 {
		t.Errorf("one broker has %v", own)
	}
	if _, err := c.rules.UpdateFeatures(c.track.Image(), []FeatureUpdate{{ELRVersion, 0, SafeDowngrade}, {"x", 1, Upgrade}}); err == nil {
		t.Error("some of several were changed")
	}
}

func TestCreatePartitions(t *testing.T) {
	c := newCluster(t, 1, 2, 3)
	c.create(TopicSpec{Name: "t", Partitions: 2, Replication: 2})
	f := func(m MorePartitions, want error, replicas ...[]model.NodeID) {
		t.Helper()
		records, errs, err := c.rules.CreatePartitions(c.track.Image(), []MorePartitions{m})
		if err != nil {
			t.Fatal(err)
		}
		if !errors.Is(errs[0], want) || (want == nil) != (errs[0] == nil) {
			t.Errorf("%+v: %v, want %v", m, errs[0], want)
		}
		c.apply(records)
		var got [][]model.NodeID
		for _, p := range c.track.Image().Topic("t").Partitions {
			got = append(got, p.Replicas)
		}
		if d := cmp.Diff(replicas, got); d != "" {
			t.Errorf("%+v: %s", m, d)
		}
	}
	two := [][]model.NodeID{{1, 2}, {2, 3}}
	four := append(two[:2:2], []model.NodeID{3, 1}, []model.NodeID{1, 2})
	f(MorePartitions{Topic: "t", Count: 4}, nil, four...)
	f(MorePartitions{Topic: "t", Count: 4}, ErrInvalidPartitions, four...)
	f(MorePartitions{Topic: "t", Count: 3}, ErrInvalidPartitions, four...)
	f(MorePartitions{Topic: "u", Count: 3}, ErrUnknownTopic, four...)
	f(MorePartitions{Topic: "t", Count: 5, Assignment: [][]model.NodeID{}}, ErrInvalidAssignment, four...)
	f(MorePartitions{Topic: "t", Count: 5, Assignment: [][]model.NodeID{{1}}}, ErrInvalidAssignment, four...)
	f(MorePartitions{Topic: "t", Count: 5, Assignment: [][]model.NodeID{{1, 9}}}, ErrInvalidAssignment, four...)
	f(MorePartitions{Topic: "t", Count: 5, Assignment: [][]model.NodeID{{3, 2}}}, nil, append(four, []model.NodeID{3, 2})...)
	if _, _, err := c.rules.CreatePartitions(c.track.Image(), []MorePartitions{{Topic: "t", Count: 1<<31 - 1}}); !errors.Is(err, ErrPolicy) {
		t.Errorf("two thousand million partitions: %v", err)
	}
}
