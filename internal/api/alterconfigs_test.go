package api

import (
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// incremental is a request that sets one key of each resource.
func incremental(key, value string, names ...string) *wire.IncrementalAlterConfigsRequest {
	q := wire.NewIncrementalAlterConfigsRequest()
	for _, name := range names {
		x := wire.Extend(&q.Resources)
		x.ResourceType, x.ResourceName = int8(metadata.ResourceTopic), name
		y := wire.Extend(&x.Configs)
		y.Name, y.Value = key, &value
	}
	return q
}

// A resource that comes twice is refused each time, and the others change:
// Kafka never answers such an AlterConfigs.
func TestRepeatedResources(t *testing.T) {
	n := newNode(t)
	n.topic("t", 1)
	n.topic("u", 1)
	c := n.dial()
	q := wire.NewAlterConfigsRequest()
	for _, name := range []string{"t", "u", "t", "t"} {
		x := wire.Extend(&q.Resources)
		x.ResourceType, x.ResourceName = int8(metadata.ResourceTopic), name
		y := wire.Extend(&x.Configs)
		y.Name, y.Value = "retention.ms", new("5")
	}
	r := ask[*wire.AlterConfigsResponse](c, q, 2)
	for i, want := range []wire.ErrorCode{wire.InvalidRequest, wire.None, wire.InvalidRequest, wire.InvalidRequest} {
		if got := wire.ErrorCode(r.Responses[i].ErrorCode); got != want {
			t.Errorf("resource %d: %v, want %v", i, got, want)
		}
	}
	image := n.Image()
	if t1, u := topicConfig(image, "t"), topicConfig(image, "u"); len(t1) != 0 || u["retention.ms"] != "5" {
		t.Errorf("t has %v, u has %v", t1, u)
	}
}

func topicConfig(image *metadata.Image, topic string) map[string]string {
	return image.Config(metadata.Resource{Type: metadata.ResourceTopic, Name: topic})
}

// What is kept is no part of the request's frame, which is used again.
func TestAlteredConfigsAreKept(t *testing.T) {
	n := newNode(t)
	n.topic("t", 1)
	c := n.dial()
	ask[*wire.IncrementalAlterConfigsResponse](c, incremental("segment.ms", "1111", "t"), 1)
	ask[*wire.IncrementalAlterConfigsResponse](c, incremental("retention.ms", "2222", "t"), 1)
	if d := topicConfig(n.Image(), "t"); !maps.Equal(d, map[string]string{"segment.ms": "1111", "retention.ms": "2222"}) {
		t.Error(d)
	}
}

// loggers is what a broker has in place of logging.
type loggers struct {
	mu     sync.Mutex
	levels map[string]string
}

func (l *loggers) Levels() map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.levels)
}

func (l *loggers) Set(name, level string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if name == "stubborn" {
		return errors.New("no")
	}
	l.levels[name] = level
	return nil
}

// All levels of a request are set, or none; those of single loggers can be
// given up.
func TestLoggers(t *testing.T) {
	n := newNode(t)
	have := &loggers{levels: map[string]string{RootLogger: "INFO", "api": "WARN", "stubborn": "WARN"}}
	n.api.opts.Loggers = have
	c := n.dial()
	f := func(want wire.ErrorCode, changed map[string]string, keys ...string) {
		t.Helper()
		q := wire.NewIncrementalAlterConfigsRequest()
		x := wire.Extend(&q.Resources)
		x.ResourceType, x.ResourceName = int8(metadata.ResourceBrokerLogger), "1"
		for _, k := range keys {
			name, level, set := strings.Cut(k, "=")
			y := wire.Extend(&x.Configs)
			y.Name, y.Value = name, &level
			if !set {
				y.ConfigOperation, y.Value = 1, nil
			}
		}
		r := ask[*wire.IncrementalAlterConfigsResponse](c, q, 1)
		if got := wire.ErrorCode(r.Responses[0].ErrorCode); got != want {
			t.Errorf("%q: %v %s, want %v", keys, got, *r.Responses[0].ErrorMessage, want)
		}
		if got := have.Levels(); got[RootLogger] != changed[RootLogger] || got["api"] != changed["api"] {
			t.Errorf("%q: levels are %v", keys, got)
		}
	}
	f(wire.None, map[string]string{RootLogger: "INFO", "api": "TRACE"}, "api=TRACE")
	f(wire.InvalidConfig, map[string]string{RootLogger: "INFO", "api": "TRACE"}, "api=WARN", "root=SILENT")
	f(wire.InvalidRequest, map[string]string{RootLogger: "INFO", "api": "TRACE"}, "api", "root")
	f(wire.None, map[string]string{RootLogger: "ERROR", "api": ""}, "api", "root=ERROR")
	f(wire.InvalidConfig, map[string]string{RootLogger: "ERROR", "api": ""}, "stubborn=INFO")
}

// A request that is only validated changes nothing, in every API that can
// validate.
func TestOnlyValidated(t *testing.T) {
	n := newNode(t)
	n.topic("t", 1)
	end := n.Image().End()
	c := n.dial()
	alter := incremental("retention.ms", "5", "t")
	alter.ValidateOnly = true
	if r := ask[*wire.IncrementalAlterConfigsResponse](c, alter, 1); r.Responses[0].ErrorCode != 0 {
		t.Error(r)
	}
	more := wire.NewCreatePartitionsRequest()
	more.ValidateOnly, more.TimeoutMs = true, 1000
	x := wire.Extend(&more.Topics)
	x.Name, x.Count, x.Assignments = "t", 3, nil
	if r := ask[*wire.CreatePartitionsResponse](c, more, 3); r.Results[0].ErrorCode != 0 {
		t.Error(r)
	}
	off := wire.NewUpdateFeaturesRequest()
	off.ValidateOnly, off.TimeoutMs = true, 1000
	y := wire.Extend(&off.FeatureUpdates)
	y.Feature, y.MaxVersionLevel, y.UpgradeType = "eligible.leader.replicas.version", 0, 2
	if r := ask[*wire.UpdateFeaturesResponse](c, off, 2); r.ErrorCode != 0 {
		t.Error(r)
	}
	if n.Image().End() != end {
		t.Error("something was changed")
	}
}

// New partitions can be written as soon as their request is answered.
func TestNewPartitionsServe(t *testing.T) {
	n := newNode(t, "durability=os")
	n.topic("t", 1)
	c := n.dial()
	q := wire.NewCreatePartitionsRequest()
	q.TimeoutMs = 1000
	x := wire.Extend(&q.Topics)
	x.Name, x.Count, x.Assignments = "t", 3, nil
	if r := ask[*wire.CreatePartitionsResponse](c, q, 3); r.Results[0].ErrorCode != 0 {
		t.Fatal(r)
	}
	r := ask[*wire.ProduceResponse](c, produce("t", 2, 1, batch(t, record.BuilderOptions{}, "v")), 9)
	if e := r.Responses[0].PartitionResponses[0].ErrorCode; e != 0 {
		t.Errorf("%v", wire.ErrorCode(e))
	}
}

// The effective configuration is what the metadata log says, also for what is
// decided in the same moment.
func TestRulesFollowConfigs(t *testing.T) {
	n := newNode(t)
	n.topic("t", 1)
	c := n.dial()
	q := wire.NewIncrementalAlterConfigsRequest()
	x := wire.Extend(&q.Resources)
	x.ResourceType = int8(metadata.ResourceBroker)
	y := wire.Extend(&x.Configs)
	y.Name, y.Value = "log.cleaner.min.compaction.lag.ms", new("100")
	if r := ask[*wire.IncrementalAlterConfigsResponse](c, q, 1); r.Responses[0].ErrorCode != 0 {
		t.Fatal(*r.Responses[0].ErrorMessage)
	}
	r := ask[*wire.IncrementalAlterConfigsResponse](c, incremental("max.compaction.lag.ms", "99", "t"), 1)
	if wire.ErrorCode(r.Responses[0].ErrorCode) != wire.InvalidConfig {
		t.Error(r)
	}
	var invalid *config.InvalidError
	_, err := config.CheckTopic(n.api.configs.In(n.Image()), []config.Override{{Name: "max.compaction.lag.ms", Value: new("99")}})
	if !errors.As(err, &invalid) {
		t.Error(err)
	}
}
