package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Topic is the effective configuration of a topic: its own configs over the broker's.
// A negative duration or size where a limit is meant (Retention, RetentionBytes) is no limit.
type Topic struct {
	Compact bool // cleanup.policy has compact
	Delete  bool // cleanup.policy has delete; neither keeps all for ever

	Retention       time.Duration
	RetentionBytes  int64
	SegmentBytes    int64
	SegmentAge      time.Duration // segment.ms or, if the topic is compacted and that is less, max.compaction.lag.ms
	SegmentJitter   time.Duration // most that is taken off SegmentAge, at random
	IndexBytes      int64         // segment.index.bytes
	IndexInterval   int64         // index.interval.bytes
	FileDeleteDelay time.Duration
	Preallocate     bool

	MaxMessageBytes      int64 // of a batch, header included
	MaxDecompressedBytes int64 // of a record of a compressed batch
	Compression          Compression
	LogAppendTime        bool          // message.timestamp.type
	TimestampBefore      time.Duration // message.timestamp.before.max.ms
	TimestampAfter       time.Duration // message.timestamp.after.max.ms
	MinISR               int
	UncleanElection      bool

	MinCleanableRatio float64
	DeleteRetention   time.Duration // of tombstones
	MinCompactionLag  time.Duration
	MaxCompactionLag  time.Duration

	FlushMessages  int64
	FlushInterval  time.Duration
	FsyncAcks      bool // durability is fsync: acks=all is answered after a sync
	ValidateHeader bool // record.validation is header: records are not walked

	Dafka bool // dafka.producers is not empty: Dafka producers write to it, and nobody else
}

// Compression says how batches are stored. Type is one of Kafka's words: producer, uncompressed, gzip, snappy, lz4, zstd.
type Compression struct {
	Type      string
	GzipLevel int // -1 is the library's default
	LZ4Level  int
	ZstdLevel int
}

// Override is a topic config as a request carries it.
type Override struct {
	Name  string
	Value *string // null is refused
}

// CheckTopic looks at the configs of a new topic as Kafka's controller does and returns them as a map, of a repeated name
// the last. Its error is an [*InvalidError] (INVALID_CONFIG, with Kafka's message).
func CheckTopic(b *Broker, configs []Override) (map[string]string, error) {
	overrides := make(map[string]string, len(configs))
	var nulls []string
	for _, c := range configs {
		if c.Value == nil {
			nulls = append(nulls, c.Name)
			continue
		}
		overrides[c.Name] = *c.Value
	}
	if len(nulls) > 0 {
		return nil, &InvalidError{"Null value not supported for topic configs: " + strings.Join(nulls, ",")}
	}
	if len(overrides) == 0 { // Nobody asks whether the defaults contradict each other.
		return overrides, nil
	}
	if err := CheckTopicChange(b, nil, overrides); err != nil {
		return nil, err
	}
	return overrides, nil
}

// CheckTopicChange looks at all configs that a topic is to have, beside those that it has, as Kafka's controller does. Its error is
// an [*InvalidError].
func CheckTopicChange(b *Broker, was, will map[string]string) error {
	for _, name := range sortedKeys(will) {
		if _, ok := LookupTopicKey(name); !ok {
			return &InvalidError{"Unknown topic config name: " + name}
		}
	}
	t, err := topicValues(b, will)
	if err != nil {
		return err
	}
	if err := t.checkTogether(); err != nil {
		return err
	}
	if err := t.checkDafka(was, will); err != nil {
		return err
	}
	if strings.EqualFold(was["remote.storage.enable"], "true") && !t.bool("remote.log.delete.on.disable") {
		return &InvalidError{"It is invalid to disable remote storage without deleting remote data. " +
			"If you want to keep the remote data and turn to read only, please set `remote.storage.enable=true,remote.log.copy.disable=true`. " +
			"If you want to disable remote storage and delete all remote data, please set `remote.storage.enable=false,remote.log.delete.on.disable=true`."}
	}
	return nil
}

// ResolveTopic gives the effective configuration of a topic that exists. Names it does not know are ignored, since another
// version may have written them; a value it cannot read is an [*InvalidError].
func ResolveTopic(b *Broker, overrides map[string]string) (Topic, error) {
	if len(overrides) == 0 && b.Topic != (Topic{}) {
		return b.Topic, nil // most topics, and there may be thousands
	}
	v, err := topicValues(b, overrides)
	if err != nil {
		return Topic{}, err
	}
	policy := v.list("cleanup.policy")
	t := Topic{
		Compact: slices.Contains(policy, "compact"),
		Delete:  slices.Contains(policy, "delete"),

		Retention:       v.millis("retention.ms"),
		RetentionBytes:  v.int("retention.bytes"),
		SegmentBytes:    v.segmentBytes(),
		SegmentAge:      v.millis("segment.ms"),
		SegmentJitter:   v.millis("segment.jitter.ms"),
		IndexBytes:      v.int("segment.index.bytes"),
		IndexInterval:   v.int("index.interval.bytes"),
		FileDeleteDelay: v.millis("file.delete.delay.ms"),
		Preallocate:     v.bool("preallocate"),

		MaxMessageBytes:      v.int("max.message.bytes"),
		MaxDecompressedBytes: v.int("max.decompressed.message.bytes"),
		Compression: Compression{
			Type:      v.text("compression.type"),
			GzipLevel: int(v.int("compression.gzip.level")),
			LZ4Level:  int(v.int("compression.lz4.level")),
			ZstdLevel: int(v.int("compression.zstd.level")),
		},
		LogAppendTime:   v.text("message.timestamp.type") == "LogAppendTime",
		TimestampBefore: v.millis("message.timestamp.before.max.ms"),
		TimestampAfter:  v.millis("message.timestamp.after.max.ms"),
		MinISR:          int(v.int("min.insync.replicas")),
		UncleanElection: v.bool("unclean.leader.election.enable"),

		MinCleanableRatio: v["min.cleanable.dirty.ratio"].num,
		DeleteRetention:   v.millis("delete.retention.ms"),
		MinCompactionLag:  v.millis("min.compaction.lag.ms"),
		MaxCompactionLag:  v.millis("max.compaction.lag.ms"),

		FlushMessages:  v.int("flush.messages"),
		FlushInterval:  v.millis("flush.ms"),
		FsyncAcks:      v.text("durability") == "fsync",
		ValidateHeader: v.text("record.validation") == "header",

		Dafka: len(v.list(DafkaProducers)) > 0,
	}
	if t.Dafka { // Its records have no keys: compaction would remove them.
		t.Compact, t.Delete = false, t.Delete || t.Compact
	}
	t.SegmentAge = t.rollAge()
	return t, nil
}

// values are parsed values by key name.
type values map[string]value

func (v values) int(name string) int64            { return v[name].int }
func (v values) bool(name string) bool            { return v[name].bool }
func (v values) text(name string) string          { return v[name].text }
func (v values) list(name string) []string        { return v[name].list }
func (v values) millis(name string) time.Duration { return Millis(v[name].int) }

// segmentBytes lets Kafka's hidden key win, by which tests ask for segments below the public minimum.
func (v values) segmentBytes() int64 {
	if hidden, ok := v["internal.segment.bytes"]; ok {
		return hidden.int
	}
	return v.int("segment.bytes")
}

// checkTogether refuses values that are good alone and contradict each other.
func (v values) checkTogether() error {
	least, most := v.int("min.compaction.lag.ms"), v.int("max.compaction.lag.ms")
	switch {
	case least > most:
		return &InvalidError{fmt.Sprintf("conflict topic config setting min.compaction.lag.ms (%d) > max.compaction.lag.ms (%d)", least, most)}
	case v.bool("remote.storage.enable"):
		return &InvalidError{"Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."}
	}
	return nil
}

// checkTopicDefaults refuses defaults that no topic could have. Only a start does so: a broker that runs takes them, as Kafka's does.
func (b *Broker) checkTopicDefaults() error {
	v, err := topicValues(b, nil)
	if err != nil {
		return err
	}
	return v.checkTogether()
}

// topicValues parses what is set and takes the rest from the broker, in Kafka's order, which decides the error that is told.
func topicValues(b *Broker, overrides map[string]string) (values, error) {
	v := make(values)
	for _, name := range topicParseOrder() {
		key, _ := LookupTopicKey(name)
		text, set := overrides[name]
		if !set {
			if d, ok := b.topicDefault(&key); ok {
				v[name] = d
			}
			continue
		}
		parsed, err := key.parse(text)
		if err != nil {
			return nil, err
		}
		v[name] = parsed
	}
	return v, nil
}

// topicDefault is the value of a topic key that the topic does not set: the first of its broker keys that has one.
func (b *Broker) topicDefault(key *Key) (value, bool) {
	for _, s := range key.Synonyms {
		if v, ok := b.value(s.Name); ok {
			return scaled(key, v, s.Scale), true
		}
	}
	if !key.HasDefault {
		return value{}, false
	}
	v, err := key.parse(key.Default)
	return v, err == nil
}

// scaled turns a broker's value into the topic key's type and unit. Retention below zero is -1, whatever its unit was.
func scaled(key *Key, v value, scale int64) value {
	v.typ = key.Type
	if key.Name == "retention.ms" && v.int < 0 {
		v.int = -1
		return v
	}
	if v.int > math.MaxInt64/scale {
		v.int = math.MaxInt64
		return v
	}
	v.int *= scale
	return v
}

// ParseInt reads a whole number of an INT key as it is stored, which may have white space around it.
func ParseInt(text string) (int32, error) {
	n, err := strconv.ParseInt(javaTrim(text), 10, 32)
	return int32(n), err
}

// Millis turns Kafka's milliseconds into a duration; what does not fit is the longest there is, 292 years.
func Millis(ms int64) time.Duration {
	switch {
	case ms > math.MaxInt64/int64(time.Millisecond):
		return math.MaxInt64
	case ms < math.MinInt64/int64(time.Millisecond):
		return math.MinInt64
	}
	return time.Duration(ms) * time.Millisecond
}
