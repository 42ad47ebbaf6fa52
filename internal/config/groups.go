package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// groupRows holds the group configs of Kafka 4.4.0 in the order of its DescribeConfigs answer; then those that it shows only
// when they are set.
func groupRows() []row {
	return []row{
		{
			"consumer.session.timeout.ms", Int, "45000", atLeast(1), 0, works,
			"Silence after which a member of a consumer group is dropped.",
		},
		{
			"consumer.heartbeat.interval.ms", Int, "5000", atLeast(1), 0, works,
			"Time between heartbeats told to members of a consumer group.",
		},
		{
			"consumer.assignment.interval.ms", Int, "1000", atLeast(0), 0, works,
			"Shortest time between two assignments of a consumer group.",
		},
		{
			"share.session.timeout.ms", Int, "45000", atLeast(1), 0, later,
			"Silence after which a member of a share group is dropped.",
		},
		{
			"share.heartbeat.interval.ms", Int, "5000", atLeast(1), 0, later,
			"Time between heartbeats told to members of a share group.",
		},
		{
			"share.record.lock.duration.ms", Int, "30000", atLeast(1000), 0, later,
			"Time a member may hold a record of a share group.",
		},
		{
			"share.delivery.count.limit", Int, "5", atLeast(2), 0, later,
			"Times a record is handed out before it is given up.",
		},
		{
			"share.partition.max.record.locks", Int, "2000", atLeast(100), 0, later,
			"Most records of a share partition that are locked at a time.",
		},
		{
			"share.auto.offset.reset", String, "latest", offsetReset, 0, later,
			"Where a share group begins a partition: earliest, latest, or by_duration: and an ISO 8601 duration back from now.",
		},
		{
			"share.isolation.level", String, "read_uncommitted", oneOf("read_committed", "read_uncommitted"), 0, later,
			"Whether a share group is given records of transactions that are open or were aborted.",
		},
		{
			"share.renew.acknowledge.enable", Boolean, "true", nil, 0, later,
			"Lets members of a share group hold a record for longer.",
		},
		{
			"share.assignment.interval.ms", Int, "1000", atLeast(0), 0, later,
			"Shortest time between two assignments of a share group.",
		},
		{
			"streams.session.timeout.ms", Int, "45000", atLeast(1), 0, later,
			"Silence after which a member of a streams group is dropped.",
		},
		{
			"streams.heartbeat.interval.ms", Int, "5000", atLeast(1), 0, later,
			"Time between heartbeats told to members of a streams group.",
		},
		{
			"streams.num.standby.replicas", Int, "0", atLeast(0), 0, later,
			"Standby copies of each task of a streams group.",
		},
		{
			"streams.initial.rebalance.delay.ms", Int, "3000", atLeast(0), 0, later,
			"Time an empty streams group waits for more members before its first assignment.",
		},
		{
			"streams.assignment.interval.ms", Int, "1000", atLeast(0), 0, later,
			"Shortest time between two assignments of a streams group.",
		},
		{
			"streams.rack.aware.assignment.tags", List, "", distinct(), 0, later,
			"Client tags by which standby tasks of a streams group are spread.",
		},
		{
			"streams.assignor.name", String, null, nil, 0, later,
			"Assignor of a streams group; the default is the first of group.streams.assignors.",
		},
		{
			"errors.deadletterqueue.topic.name", String, "", nil, 0, later,
			"Topic for the records that a share group gave up on; empty for none.",
		},
		{
			"errors.deadletterqueue.copy.record.enable", Boolean, "false", nil, 0, later,
			"Copies the record itself to that topic, not only where it came from.",
		},
		{
			"consumer.assignor.offload.enable", Boolean, "true", nil, internal, notApplicable,
			"Computes assignments of a consumer group on other threads.",
		},
		{
			"share.assignor.offload.enable", Boolean, "true", nil, internal, notApplicable,
			"Computes assignments of a share group on other threads.",
		},
		{
			"streams.assignor.offload.enable", Boolean, "true", nil, internal, notApplicable,
			"Computes assignments of a streams group on other threads.",
		},
		{
			"streams.task.offset.interval.ms", Int, "60000", atLeast(1), internal, later,
			"Time between two reports of task offsets.",
		},
		{
			"streams.num.warmup.replicas", Int, "2", atLeast(0), internal, later,
			"Tasks of a streams group that may warm up at a time.",
		},
		{
			"streams.acceptable.recovery.lag", Long, "10000", atLeast(0), internal, later,
			"Lag up to which a task of a streams group counts as caught up.",
		},
	}
}

// groupSynonyms lists, for each group key, the broker key that gives its default.
func groupSynonyms() map[string]string {
	m := map[string]string{"streams.assignor.name": "group.streams.assignors"}
	for _, name := range []string{
		"consumer.session.timeout.ms", "consumer.heartbeat.interval.ms", "consumer.assignment.interval.ms",
		"consumer.assignor.offload.enable", "share.session.timeout.ms", "share.heartbeat.interval.ms", "share.record.lock.duration.ms",
		"share.delivery.count.limit", "share.partition.max.record.locks", "share.assignment.interval.ms", "share.assignor.offload.enable",
		"streams.session.timeout.ms", "streams.heartbeat.interval.ms", "streams.num.standby.replicas",
		"streams.initial.rebalance.delay.ms", "streams.assignment.interval.ms", "streams.assignor.offload.enable",
		"streams.task.offset.interval.ms", "streams.num.warmup.replicas", "streams.rack.aware.assignment.tags",
		"streams.acceptable.recovery.lag",
	} {
		m[name] = "group." + name
	}
	return m
}

// durations are what java.time.Duration parses and Kafka allows: ISO 8601 with days, hours, minutes and seconds, not below zero.
var durations = regexp.MustCompile(`^(?i)\+?P(?:([+]?[0-9]+)D)?(T(?:([+]?[0-9]+)H)?(?:([+]?[0-9]+)M)?(?:([+]?[0-9]+)(?:[.,]([0-9]{0,9}))?S)?)?$`)

func offsetReset(name string, v value) (value, error) {
	if v.text == "earliest" || v.text == "latest" {
		return v, nil
	}
	duration, ok := strings.CutPrefix(v.text, "by_duration:")
	m := durations.FindStringSubmatch(duration)
	if !ok || m == nil || strings.HasSuffix(strings.ToUpper(duration), "T") || m[1]+m[2] == "" {
		return v, invalid(name, v.text, "Invalid value `"+v.text+"` for configuration "+name+
			". The value must be either 'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'.")
	}
	return v, nil
}

// CheckGroup looks at all configs of a group together, as Kafka's controller does. Its error is an [*InvalidError].
func CheckGroup(b *Broker, configs map[string]string) error {
	for _, name := range sortedKeys(configs) {
		if _, ok := LookupGroupKey(name); !ok {
			return &InvalidError{"Unknown group config name: " + name}
		}
	}
	if tags := splitList(javaTrim(configs[tagsKey])); len(slices.Compact(slices.Sorted(slices.Values(tags)))) < len(tags) {
		return &InvalidError{tagsKey + " must not contain duplicate tag keys."}
	}
	v := make(values)
	for _, key := range groupTable().keys {
		text, set := configs[key.Name]
		if !set {
			continue
		}
		parsed, err := key.parse(text)
		if err != nil {
			return err
		}
		v[key.Name] = parsed
	}
	return b.checkGroup(v)
}

const tagsKey = "streams.rack.aware.assignment.tags"

// A groupRange bounds a group key by two keys of the broker; an empty name is no bound.
type groupRange struct{ key, least, most string }

func groupRanges() []groupRange {
	between := func(kind, what string) groupRange {
		return groupRange{kind + "." + what, "group." + kind + ".min." + what, "group." + kind + ".max." + what}
	}
	return []groupRange{
		between("consumer", "heartbeat.interval.ms"), between("consumer", "session.timeout.ms"), between("consumer", "assignment.interval.ms"),
		between("share", "heartbeat.interval.ms"), between("share", "session.timeout.ms"), between("share", "record.lock.duration.ms"),
		between("share", "delivery.count.limit"), between("share", "partition.max.record.locks"), between("share", "assignment.interval.ms"),
		between("streams", "heartbeat.interval.ms"), between("streams", "session.timeout.ms"),
		{"streams.num.standby.replicas", "", "group.streams.max.standby.replicas"},
		between("streams", "assignment.interval.ms"),
		{"streams.task.offset.interval.ms", "group.streams.min.task.offset.interval.ms", ""},
		{"streams.num.warmup.replicas", "", "group.streams.max.warmup.replicas"},
	}
}

// checkGroup holds what a group sets to what the broker allows, in Kafka's order.
func (b *Broker) checkGroup(v values) error {
	for _, r := range groupRanges() {
		if err := r.check(b, v); err != nil {
			return err
		}
	}
	if name, ok := v["streams.assignor.name"]; ok {
		known, _ := b.value("group.streams.assignors")
		if !slices.Contains(known.list, name.text) {
			return &InvalidError{fmt.Sprintf("streams.assignor.name '%s' is not a registered task assignor. Registered assignors are: [%s].",
				name.text, strings.Join(known.list, ", "))}
		}
	}
	for _, kind := range []string{"consumer", "share", "streams"} {
		if err := b.checkHeartbeat(v, kind); err != nil {
			return err
		}
	}
	if strings.HasPrefix(v.text("errors.deadletterqueue.topic.name"), "__") {
		return &InvalidError{"errors.deadletterqueue.topic.name: DLQ topic name must not start with '__'"}
	}
	return nil
}

func (r groupRange) check(b *Broker, v values) error {
	set, ok := v[r.key]
	if !ok {
		return nil
	}
	least, most := b.int(r.least), b.int(r.most)
	switch {
	case r.least == "" && set.int > most:
		return &InvalidError{fmt.Sprintf("%s must be less than or equal to %d", r.key, most)}
	case r.most == "" && set.int < least:
		return &InvalidError{fmt.Sprintf("%s must be greater than or equal to %d", r.key, least)}
	case r.least != "" && r.most != "" && (set.int < least || set.int > most):
		return &InvalidError{fmt.Sprintf("%s must be in the range %d to %d inclusive.", r.key, least, most)}
	}
	return nil
}

// checkHeartbeat refuses sessions that end before the next heartbeat is due.
func (b *Broker) checkHeartbeat(v values, kind string) error {
	session, heartbeat := kind+".session.timeout.ms", kind+".heartbeat.interval.ms"
	effective := func(name string) int64 {
		if set, ok := v[name]; ok {
			return set.int
		}
		return b.int("group." + name)
	}
	_, one := v[session]
	_, other := v[heartbeat]
	if (one || other) && effective(session) <= effective(heartbeat) {
		return &InvalidError{session + " must be greater than " + heartbeat}
	}
	return nil
}
