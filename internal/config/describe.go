package config

import (
	"maps"
	"slices"
	"strings"
)

// Source says where a value comes from, numbered as in DescribeConfigs answers.
type Source int8

// Kafka's config sources.
const (
	DynamicTopic         Source = 1
	DynamicBroker        Source = 2
	DynamicDefaultBroker Source = 3
	StaticBroker         Source = 4
	Default              Source = 5
	DynamicLogger        Source = 6
	DynamicClientMetrics Source = 7
	DynamicGroup         Source = 8
)

// Entry is one line of a DescribeConfigs answer.
type Entry struct {
	Name      string
	Value     *string // nil is null: no value, or a secret
	Source    Source
	Type      Type
	ReadOnly  bool
	Sensitive bool
	Synonyms  []SynonymEntry // all that would give the value, the strongest first, the one in force included
	Doc       string
	Ours      bool // Kafka does not have this key
}

// IsDefault reports whether nobody set the value.
func (e *Entry) IsDefault() bool { return e.Source == Default }

// SynonymEntry is one of the places a value could come from. Its Value is as it was written, not tidied.
type SynonymEntry struct {
	Name   string
	Value  *string
	Source Source
}

// DescribeTopic answers DescribeConfigs for a topic: every key, in Kafka's order. Overrides that Kafka or we do not know
// are shown as Kafka shows them, without their value.
func DescribeTopic(b *Broker, overrides map[string]string) []Entry {
	entries := make([]Entry, 0, len(b.topicEntries))
	for _, name := range unknownKeys(overrides, topicTable()) {
		entries = append(entries, unknownEntry(name, DynamicTopic))
	}
	for i := range b.topicEntries {
		e := b.topicEntries[i]
		key := &topicTable().keys[i]
		text, set := overrides[e.Name]
		if key.Internal && !set {
			continue
		}
		// A stored value that cannot be read is not in force.
		if v, err := key.parse(text); set && err == nil {
			e.Value, e.Source = ref(v.String()), DynamicTopic
			e.Synonyms = append([]SynonymEntry{{e.Name, e.Value, DynamicTopic}}, e.Synonyms...)
		}
		entries = append(entries, e)
	}
	return entries
}

// describeTopics makes the entries of a topic that sets nothing, one for each key: what most topics show, and there may be
// thousands.
func (b *Broker) describeTopics() {
	b.topicEntries = make([]Entry, len(topicTable().keys))
	for i, key := range topicTable().keys {
		v, _ := b.topicDefault(&key)
		e := Entry{Name: key.Name, Value: ref(v.String()), Type: key.Type, Doc: key.Doc, Ours: key.Ours}
		if len(key.Synonyms) > 0 {
			e.Synonyms = b.synonyms(key.Synonyms[0].Name)
		}
		e.Source = firstSource(e.Synonyms)
		b.topicEntries[i] = e
	}
}

// DescribeGroup answers DescribeConfigs for a group: every key, in Kafka's order, those that it hides only when they are set.
func DescribeGroup(b *Broker, overrides map[string]string) []Entry {
	var entries []Entry
	for _, key := range groupTable().keys {
		text, set := overrides[key.Name]
		if key.Internal && !set && !b.sets(key.Synonyms[0].Name) {
			continue
		}
		e := Entry{Name: key.Name, Type: key.Type, Doc: key.Doc}
		if v, err := key.parse(text); set && err == nil {
			e.Value = ref(v.String())
			e.Synonyms = []SynonymEntry{{key.Name, e.Value, DynamicGroup}}
		} else {
			e.Value = ref(b.groupDefault(&key).String())
		}
		if len(key.Synonyms) > 0 {
			e.Synonyms = append(e.Synonyms, b.synonyms(key.Synonyms[0].Name)...)
		} else {
			e.Synonyms = append(e.Synonyms, SynonymEntry{key.Name, ref(key.Default), Default})
		}
		e.Source = firstSource(e.Synonyms)
		entries = append(entries, e)
	}
	return entries
}

// sets reports whether somebody set a broker key.
func (b *Broker) sets(name string) bool {
	for _, m := range []map[string]string{b.dynamic, b.clusterDefaults, b.static} {
		if _, ok := m[name]; ok {
			return true
		}
	}
	return false
}

// groupDefault is the value of a group key that the group does not set. Of the broker's assignors the first is the default.
func (b *Broker) groupDefault(key *Key) value {
	v, _ := b.topicDefault(key)
	if key.Type == String && len(v.list) > 0 {
		v.text = v.list[0]
	}
	return v
}

// DescribeClientMetrics answers DescribeConfigs for a subscription, also for one that does not exist.
func DescribeClientMetrics(configs map[string]string) []Entry {
	var entries []Entry
	for _, key := range clientMetricsTable().keys {
		e := Entry{Name: key.Name, Value: ref(key.Default), Source: Default, Type: key.Type, Doc: key.Doc}
		text, set := configs[key.Name]
		if v, err := key.parse(text); set && err == nil {
			e.Value, e.Source = ref(v.String()), DynamicClientMetrics
			e.Synonyms = []SynonymEntry{{key.Name, e.Value, DynamicClientMetrics}}
		}
		entries = append(entries, e)
	}
	return entries
}

// DescribeBroker answers DescribeConfigs for this broker: every key, in Kafka's order, and what is set besides.
func DescribeBroker(b *Broker) []Entry {
	var entries []Entry
	for _, layer := range []struct {
		values map[string]string
		source Source
	}{{b.dynamic, DynamicBroker}, {b.clusterDefaults, DynamicDefaultBroker}, {b.static, StaticBroker}} {
		for _, name := range unknownKeys(layer.values, brokerTable()) {
			if !slices.ContainsFunc(entries, func(e Entry) bool { return e.Name == name }) {
				entries = append(entries, b.unknownEntry(name))
			}
		}
	}
	for _, key := range brokerTable().keys {
		if key.Internal && !b.sets(key.Name) {
			continue
		}
		entries = append(entries, b.brokerEntry(&key))
	}
	return entries
}

// unknownEntry shows a key of the broker that is in no table: that of one listener, as the key that it stands for, or one that nobody
// knows.
func (b *Broker) unknownEntry(name string) Entry {
	e := unknownEntry(name, StaticBroker)
	e.Synonyms = b.synonyms(name)
	e.Source = firstSource(e.Synonyms)
	if key, ok := listenersKey(name); ok {
		e.Type, e.Sensitive = key.Type, key.Sensitive
		e.Value = e.Synonyms[0].Value // As it was written.
	}
	return e
}

// listenersKey finds the broker key that a key of one listener stands for: of the listener, or of one of its SASL mechanisms.
func listenersKey(name string) (Key, bool) {
	base, forListener := baseKey(name)
	if !forListener {
		return Key{}, false
	}
	for _, k := range []string{
		"sasl.jaas.config", "sasl.login.callback.handler.class", "sasl.login.class", "sasl.server.callback.handler.class", "connections.max.reauth.ms",
	} {
		if strings.HasSuffix(base, k) {
			base = k
		}
	}
	return LookupBrokerKey(base)
}

// DescribeClusterDefaults answers DescribeConfigs for the broker resource without a name: what is set for all brokers.
func DescribeClusterDefaults(b *Broker) []Entry {
	var entries []Entry
	for _, name := range sortedKeys(b.clusterDefaults) {
		e := b.defaultEntry(name)
		e.Synonyms = slices.DeleteFunc(e.Synonyms, func(s SynonymEntry) bool { return s.Source != DynamicDefaultBroker })
		e.Source = firstSource(e.Synonyms)
		entries = append(entries, e)
	}
	return entries
}

// defaultEntry shows a key that is set for all brokers, with the value as it was written.
func (b *Broker) defaultEntry(name string) Entry {
	e := b.unknownEntry(name)
	if key, ok := LookupBrokerKey(name); ok {
		e = b.brokerEntry(&key)
	}
	if e.Value = nil; !e.Sensitive {
		e.Value = ref(b.clusterDefaults[name])
	}
	return e
}

func (b *Broker) brokerEntry(key *Key) Entry {
	e := Entry{
		Name: key.Name, Type: key.Type, ReadOnly: key.ReadOnly(), Sensitive: key.Sensitive, Synonyms: b.synonyms(key.Name),
		Doc: key.Doc, Ours: key.Ours,
	}
	if v, ok := b.value(key.Name); ok && !key.Sensitive {
		e.Value = ref(v.String())
	}
	e.Source = firstSource(e.Synonyms)
	return e
}

// synonyms lists what gives a broker key its value: per source, the strongest first, each of the keys that share the
// meaning. Kafka drops all before the key's own first mention, so that log.retention.ms shows nothing when only the hours
// are set: odd, and kept.
func (b *Broker) synonyms(name string) []SynonymEntry {
	var all []SynonymEntry
	for _, source := range []Source{DynamicBroker, DynamicDefaultBroker, StaticBroker, Default} {
		for _, n := range brokerSynonyms(name) {
			if text, ok := b.text(n, source); ok {
				all = append(all, SynonymEntry{n, text, source})
			}
		}
	}
	own := slices.IndexFunc(all, func(s SynonymEntry) bool { return s.Name == name })
	if own < 0 {
		return nil
	}
	return all[own:]
}

// text is what one source says of one key; ok with nil for a secret.
func (b *Broker) text(name string, source Source) (*string, bool) {
	key, known := LookupBrokerKey(name)
	if !known {
		if key, known = listenersKey(name); known {
			key.HasDefault = false // It has that of the key that it stands for.
		}
	}
	text, ok := "", false
	switch source {
	case DynamicBroker:
		text, ok = b.dynamic[name]
	case DynamicDefaultBroker:
		text, ok = b.clusterDefaults[name]
	case StaticBroker:
		text, ok = b.static[name]
	case Default:
		text, ok = key.Default, key.HasDefault && !replicationQuota(name)
	}
	if !ok || !known || key.Sensitive {
		return nil, ok
	}
	return &text, true
}

// replicationQuota reports keys that can be set for running brokers only: Kafka does not list their defaults.
func replicationQuota(name string) bool {
	return strings.HasSuffix(name, ".replication.throttled.rate") || name == "replica.alter.log.dirs.io.max.bytes.per.second"
}

// brokerSynonyms lists the broker keys of one meaning, the strongest first, if the name is one of them.
func brokerSynonyms(name string) []string {
	for _, group := range [][]string{
		{"log.roll.ms", "log.roll.hours"},
		{"log.roll.jitter.ms", "log.roll.jitter.hours"},
		{"log.retention.ms", "log.retention.minutes", "log.retention.hours"},
	} {
		if slices.Contains(group, name) {
			return group
		}
	}
	if name == "log.flush.interval.ms" {
		return []string{name, "log.flush.scheduler.interval.ms"}
	}
	if key, ok := listenersKey(name); ok {
		return []string{name, key.Name}
	}
	return []string{name}
}

func firstSource(synonyms []SynonymEntry) Source {
	if len(synonyms) == 0 {
		return Default
	}
	return synonyms[0].Source
}

// unknownEntry shows a key nobody knows as Kafka does: it might be a secret.
func unknownEntry(name string, source Source) Entry {
	return Entry{
		Name: name, Source: source, Sensitive: true, ReadOnly: source != DynamicTopic,
		Synonyms: []SynonymEntry{{name, nil, source}},
	}
}

func unknownKeys(m map[string]string, t *table) []string {
	return slices.DeleteFunc(sortedKeys(m), func(name string) bool {
		_, known := t.byName[name]
		return known
	})
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

func ref(s string) *string { return &s }
