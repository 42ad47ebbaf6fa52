// Package config holds every setting of the broker and of topics: their names, types, defaults and limits as tables, the
// structs they become, where each value came from, and the reading of files, environment and flags.
//
// Names, types, defaults, sources and error messages are Apache Kafka 4.4.0's, as a running broker and its ConfigDef gave
// them; the documentation sentences are ours. Keys that Kafka does not have are marked [Key.Ours].
//
// It must never know what a setting does: it imports no other package of the product, and it neither watches nor changes
// anything after [Load].
package config

import (
	"fmt"
	"slices"
	"sync"
)

// Type is the type of a key, numbered as in DescribeConfigs answers.
type Type int8

// The types of Kafka's ConfigDef.
const (
	Unknown  Type = 0
	Boolean  Type = 1
	String   Type = 2
	Int      Type = 3
	Short    Type = 4
	Long     Type = 5
	Double   Type = 6
	List     Type = 7
	Class    Type = 8
	Password Type = 9
)

var typeNames = [...]string{"UNKNOWN", "BOOLEAN", "STRING", "INT", "SHORT", "LONG", "DOUBLE", "LIST", "CLASS", "PASSWORD"}

// String returns Kafka's name of the type, such as LONG.
func (t Type) String() string {
	if t < 0 || int(t) >= len(typeNames) {
		return fmt.Sprintf("Type(%d)", int8(t))
	}
	return typeNames[t]
}

// Status says how much of a key's meaning Barnabas has.
type Status int8

// What becomes of a key that is set.
const (
	Works         Status = iota // it does what Kafka's documentation says
	Partial                     // some of its values or effects are missing
	Later                       // it is accepted, shown and so far without effect
	NotApplicable               // it belongs to the JVM, or to a part of Kafka that is solved otherwise here
)

var statusNames = [...]string{"works", "partial", "later", "not applicable"}

// String returns the status as the documentation writes it.
func (s Status) String() string { return statusNames[s] }

// Update says who may change a broker key while the broker runs.
type Update int8

// Kafka's update modes.
const (
	ReadOnly Update = iota
	PerBroker
	ClusterWide
)

var updateNames = [...]string{"read-only", "per-broker", "cluster-wide"}

// String returns Kafka's word for the mode.
func (u Update) String() string { return updateNames[u] }

// Key describes one setting.
type Key struct {
	Name string
	Type Type
	// Default is the value as DescribeConfigs prints it; it means something only if HasDefault, for many keys default to null.
	Default    string
	HasDefault bool
	Sensitive  bool // never shown or logged
	Update     Update
	Internal   bool      // Kafka shows it only when it is set
	Ours       bool      // Kafka does not have it: comparisons with Kafka leave it out
	Synonyms   []Synonym // of a topic or group key: the broker keys that give its default, the strongest first
	Status     Status
	Doc        string // one sentence
	Test       string // of a key that works: the test that fails when the setting is ignored, as package.TestName

	check check
}

// ReadOnly reports whether the key cannot be changed while the broker runs.
func (k *Key) ReadOnly() bool { return k.Update == ReadOnly }

// Synonym is a broker key that gives the default of a topic key. A value of the broker key times Scale is one of the
// topic key: log.retention.hours × 3,600,000 is retention.ms.
type Synonym struct {
	Name  string
	Scale int64
}

// TopicKeys returns the topic configs in the order in which Kafka 4.4.0 describes them, then ours. The caller owns the slice.
func TopicKeys() []Key { return slices.Clone(topicTable().keys) }

// BrokerKeys returns the broker configs in the order in which Kafka 4.4.0 describes them, then ours. The caller owns the slice.
func BrokerKeys() []Key { return slices.Clone(brokerTable().keys) }

// GroupKeys returns the configs of groups in the order in which Kafka 4.4.0 describes them. The caller owns the slice.
func GroupKeys() []Key { return slices.Clone(groupTable().keys) }

// ClientMetricsKeys returns the configs of client metrics subscriptions. The caller owns the slice.
func ClientMetricsKeys() []Key { return slices.Clone(clientMetricsTable().keys) }

// LookupTopicKey finds a topic config by its name.
func LookupTopicKey(name string) (Key, bool) { return topicTable().lookup(name) }

// LookupBrokerKey finds a broker config by its name.
func LookupBrokerKey(name string) (Key, bool) { return brokerTable().lookup(name) }

// LookupGroupKey finds a config of groups by its name.
func LookupGroupKey(name string) (Key, bool) { return groupTable().lookup(name) }

// LookupClientMetricsKey finds a config of client metrics subscriptions by its name.
func LookupClientMetricsKey(name string) (Key, bool) { return clientMetricsTable().lookup(name) }

// A row is a line of the key files.
type row struct {
	name   string
	typ    Type
	value  string // default; null for none
	check  check
	flags  flags
	status Status
	doc    string
}

type flags uint8

const (
	readOnly  flags = 1 << iota // else cluster-wide
	perBroker                   // may be changed for a single broker only
	internal
	ours
)

// null is the default of a key that has none: no value is equal to it, because it is no text a file can hold.
const null = "\x00null"

// Short names, for the tables only.
const (
	works         = Works
	partial       = Partial
	later         = Later
	notApplicable = NotApplicable
)

type table struct {
	keys   []Key
	byName map[string]int
}

func (t *table) lookup(name string) (Key, bool) {
	i, ok := t.byName[name]
	if !ok {
		return Key{}, false
	}
	return t.keys[i], true
}

// The tables are made once, at first use, and never change.
var (
	topicTable = sync.OnceValue(func() *table {
		t := newTable(topicRows())
		for name, synonyms := range topicSynonyms() {
			t.keys[t.byName[name]].Synonyms = synonyms
		}
		for i := range t.keys {
			t.keys[i].Update = ClusterWide
		}
		return t
	})
	groupTable = sync.OnceValue(func() *table {
		t := newTable(groupRows())
		for name, synonym := range groupSynonyms() {
			t.keys[t.byName[name]].Synonyms = []Synonym{{synonym, 1}}
		}
		return t
	})
	clientMetricsTable = sync.OnceValue(func() *table { return newTable(clientMetricsRows()) })
	brokerTable        = sync.OnceValue(func() *table { return newTable(append(brokerRows(), moreBrokerRows()...)) })
)

func newTable(rows []row) *table {
	t := &table{keys: make([]Key, len(rows)), byName: make(map[string]int, len(rows))}
	tests := testOf()
	for i, r := range rows {
		t.keys[i] = r.key()
		t.keys[i].Test = tests[r.name]
		t.byName[r.name] = i
	}
	return t
}

func (r row) key() Key {
	k := Key{
		Name: r.name, Type: r.typ, HasDefault: r.value != null, Sensitive: r.typ == Password,
		Internal: r.flags&internal != 0, Ours: r.flags&ours != 0, Status: r.status, Doc: r.doc, Update: ClusterWide, check: r.check,
	}
	if k.HasDefault {
		k.Default = r.value
	}
	switch {
	case r.flags&readOnly != 0:
		k.Update = ReadOnly
	case r.flags&perBroker != 0:
		k.Update = PerBroker
	}
	return k
}
