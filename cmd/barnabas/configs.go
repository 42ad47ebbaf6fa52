package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/barnabas-log/barnabas/cluster"
	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// configKind is a kind of things that have settings: the word for it on the
// command line and its number in requests.
type configKind struct {
	word string
	code int8
}

// Kafka's types of configuration resources.
var (
	kindTopic   = configKind{"topic", 2}
	kindBroker  = configKind{"broker", 4}
	kindLogger  = configKind{"broker-logger", 8}
	kindMetrics = configKind{"client-metrics", 16}
	kindGroup   = configKind{"group", 32}
)

func configKinds() []configKind {
	return []configKind{kindTopic, kindBroker, kindLogger, kindMetrics, kindGroup}
}

func parseKind(word string) (configKind, error) {
	var list []string
	for _, k := range configKinds() {
		if word == k.word || word == k.word+"s" {
			return k, nil
		}
		list = append(list, k.word)
	}
	list = append(list, quotaWords()...)
	return configKind{}, usage("%q has no settings: want %s", word, strings.Join(list, ", "))
}

// resource is one thing with settings. A broker without a name stands for the
// defaults of all brokers.
type resource struct {
	configKind
	name string
}

func (r resource) String() string {
	if r.name == "" {
		return r.word + " defaults"
	}
	return r.word + " " + shown(r.name)
}

// broker is who has to be asked about r: a broker about itself, else anybody.
func (r resource) broker(ctx context.Context, m *cluster.Map) (cluster.Broker, error) {
	if r.name == "" || r.configKind != kindBroker && r.configKind != kindLogger {
		return anyBroker{m}, nil
	}
	id, err := strconv.ParseInt(r.name, 10, 32)
	if err != nil {
		return nil, usage("broker %q: want its number", r.name)
	}
	return m.Node(ctx, model.NodeID(id))
}

// setting is one configuration as a broker describes it.
type setting struct {
	Key       string    `json:"key"`
	Value     *string   `json:"value"`
	Source    string    `json:"source"`
	Type      string    `json:"type,omitempty"`
	ReadOnly  bool      `json:"readOnly,omitempty"`
	Sensitive bool      `json:"sensitive,omitempty"`
	Synonyms  []synonym `json:"synonyms,omitempty"`
	Doc       string    `json:"documentation,omitempty"`
}

// synonym is a place that gives a setting its value; the first counts.
type synonym struct {
	Key    string  `json:"key"`
	Value  *string `json:"value"`
	Source string  `json:"source"`
}

const sourceDefault = "default"

// sourceName says where a value is from, in the words of the command line.
func sourceName(code int8) string {
	names := []string{"unknown", "topic", "broker", "broker-default", "static", sourceDefault, "broker-logger", "client-metrics", "group"}
	if code < 0 || int(code) >= len(names) {
		return "unknown"
	}
	return names[code]
}

func typeName(code int8) string {
	names := []string{"", "boolean", "string", "int", "short", "long", "double", "list", "class", "password"}
	if code < 0 || int(code) >= len(names) {
		return ""
	}
	return names[code]
}

// own reports a setting that was made for r itself.
func (r resource) own(s setting) bool {
	if r.configKind == kindBroker && r.name == "" {
		return s.Source == sourceName(3)
	}
	return s.Source == r.word
}

// lacks reports a key that r cannot have, given those that the cluster shows of it. Of brokers it shows only what is set, of
// their defaults and of single listeners.
func (r resource) lacks(key string, shown map[string]bool) bool {
	return !shown[key] && (r.configKind != kindBroker || config.UnknownKey(key) != "")
}

func errNoSetting(r resource, key string) error { return fmt.Errorf("%s has no setting %s", r, key) }

// describeOptions say what to ask for.
type describeOptions struct {
	keys           []string // nil for all
	synonyms, docs bool
}

// describeConfig asks for the settings of one thing, in the order of their
// keys.
func describeConfig(ctx context.Context, m *cluster.Map, r resource, o describeOptions) ([]setting, error) {
	b, err := r.broker(ctx, m)
	if err != nil {
		return nil, err
	}
	req := wire.NewDescribeConfigsRequest()
	req.IncludeSynonyms, req.IncludeDocumentation = o.synonyms, o.docs
	req.Resources = append(req.Resources, wire.DescribeConfigsRequestDescribeConfigsResource{
		ResourceType: r.code, ResourceName: r.name, ConfigurationKeys: o.keys,
	})
	resp, err := ask[*wire.DescribeConfigsResponse](ctx, b, req)
	if err != nil {
		return nil, err
	}
	if len(resp.Results) != 1 {
		return nil, fmt.Errorf("describe %s: answered about %d", r, len(resp.Results))
	}
	got := &resp.Results[0]
	if err := refusal(got.ErrorCode, got.ErrorMessage); err != nil {
		return nil, fmt.Errorf("describe %s: %w", r, err)
	}
	list := make([]setting, len(got.Configs))
	for i := range got.Configs {
		list[i] = settingOf(&got.Configs[i])
	}
	slices.SortFunc(list, func(a, b setting) int { return strings.Compare(a.Key, b.Key) })
	return list, nil
}

func settingOf(c *wire.DescribeConfigsResponseDescribeConfigsResourceResult) setting {
	s := setting{
		Key: c.Name, Value: c.Value, Source: sourceName(c.ConfigSource), Type: typeName(c.ConfigType),
		ReadOnly: c.ReadOnly, Sensitive: c.IsSensitive,
	}
	if c.Documentation != nil {
		s.Doc = *c.Documentation
	}
	for _, y := range c.Synonyms {
		s.Synonyms = append(s.Synonyms, synonym{y.Name, y.Value, sourceName(y.Source)})
	}
	return s
}

// resourcesOf are all things of a kind that the cluster knows.
func resourcesOf(ctx context.Context, m *cluster.Map, k configKind) ([]resource, error) {
	var names []string
	var err error
	switch k {
	case kindTopic:
		names, err = topicNames(ctx, m)
	case kindBroker, kindLogger:
		names, err = brokerNames(ctx, m)
	default:
		names, err = listConfigResources(ctx, m, k)
	}
	slices.Sort(names)
	var out []resource
	for _, n := range names {
		out = append(out, resource{k, n})
	}
	return out, err
}

func brokerNames(ctx context.Context, m *cluster.Map) (names []string, err error) {
	resp, err := m.Metadata(ctx, []string{}, false)
	if err != nil {
		return nil, err
	}
	for _, b := range resp.Brokers {
		names = append(names, strconv.Itoa(int(b.NodeID)))
	}
	return names, nil
}

// listConfigResources asks for the names that only have settings (KIP-1000,
// KIP-1142).
func listConfigResources(ctx context.Context, m *cluster.Map, k configKind) (names []string, err error) {
	req := wire.NewListConfigResourcesRequest()
	req.ResourceTypes = []int8{k.code}
	resp, err := ask[*wire.ListConfigResourcesResponse](ctx, m, req)
	if err != nil {
		return nil, err
	}
	if err := refusal(resp.ErrorCode, nil); err != nil {
		return nil, fmt.Errorf("list %s: %w", k.word, err)
	}
	for _, r := range resp.ConfigResources {
		if r.ResourceType == k.code {
			names = append(names, r.ResourceName)
		}
	}
	return names, nil
}

// alteration is a change of one thing's settings.
type alteration struct {
	set, add, subtract []keyValue // add and subtract change lists
	unset              []string
	dryRun             bool
}

func (a *alteration) empty() bool {
	return len(a.set)+len(a.add)+len(a.subtract)+len(a.unset) == 0
}

// Operations of IncrementalAlterConfigs (KIP-339).
const (
	opSet = iota
	opDelete
	opAppend
	opSubtract
)

func (a *alteration) configs() []wire.IncrementalAlterConfigsRequestAlterableConfig {
	var out []wire.IncrementalAlterConfigsRequestAlterableConfig
	change := func(op int8, list []keyValue) {
		for _, p := range list {
			out = append(out, wire.IncrementalAlterConfigsRequestAlterableConfig{Name: p.key, ConfigOperation: op, Value: &p.value})
		}
	}
	change(opSet, a.set)
	change(opAppend, a.add)
	change(opSubtract, a.subtract)
	for _, key := range a.unset {
		out = append(out, wire.IncrementalAlterConfigsRequestAlterableConfig{Name: key, ConfigOperation: opDelete})
	}
	return out
}

// checkUnset refuses to unset what r cannot have, which Kafka takes for done: it is a typo. Of what is not set it tells.
func checkUnset(ctx context.Context, m *cluster.Map, r resource, keys []string, notes io.Writer) error {
	if len(keys) == 0 {
		return nil
	}
	patience, cancel := context.WithTimeout(ctx, showPatience)
	defer cancel()
	for {
		list, err := describeConfig(ctx, m, r, describeOptions{})
		if err != nil {
			return nil // Who is to change it says better what is wrong.
		}
		shown, set := map[string]bool{}, map[string]bool{}
		for _, s := range list {
			shown[s.Key], set[s.Key] = true, r.own(s)
		}
		lacking := slices.IndexFunc(keys, func(k string) bool { return r.lacks(k, shown) })
		if lacking < 0 {
			return noteNotSet(r, keys, set, notes)
		}
		select {
		case <-time.After(retryPause):
		case <-patience.Done():
			return errNoSetting(r, keys[lacking])
		}
	}
}

func noteNotSet(r resource, keys []string, set map[string]bool, notes io.Writer) error {
	for _, k := range keys {
		if set[k] {
			continue
		}
		if _, err := fmt.Fprintf(notes, "note: %s was not set for %s\n", k, r); err != nil {
			return err
		}
	}
	return nil
}

// showPatience is how long a broker of Kafka's may take to show what was set.
const showPatience = time.Second

// alterConfig changes the settings of one thing: all of them or none.
func alterConfig(ctx context.Context, m *cluster.Map, r resource, a *alteration) error {
	b, err := r.broker(ctx, m)
	if err != nil {
		return err
	}
	req := wire.NewIncrementalAlterConfigsRequest()
	req.ValidateOnly = a.dryRun
	req.Resources = append(req.Resources, wire.IncrementalAlterConfigsRequestAlterConfigsResource{
		ResourceType: r.code, ResourceName: r.name, Configs: a.configs(),
	})
	resp, err := ask[*wire.IncrementalAlterConfigsResponse](ctx, b, req)
	if err != nil {
		return err
	}
	var errs []error
	for _, x := range resp.Responses {
		errs = append(errs, refusal(x.ErrorCode, x.ErrorMessage))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("alter %s: %w", r, err)
	}
	return nil
}
