package differential

import (
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// names replaces what varies from run to run: ids, ports and times. An id becomes its kind and the order of its first
// appearance in the script, so that two answers that must show the same id still must.
type names struct {
	dir   string         // the broker's directory, in paths
	ports map[int]string // of the broker
	ids   map[string]string
	next  map[string]int
}

func newNames(dir string, port, controllerPort int) *names {
	return &names{
		dir: dir, ports: map[int]string{port: "<port>", controllerPort: "<controller port>"},
		ids: map[string]string{}, next: map[string]int{},
	}
}

// id names a value of one kind.
func (n *names) id(kind, text string) string {
	key := kind + " " + text
	if n.ids[key] == "" {
		n.next[kind]++
		n.ids[key] = fmt.Sprintf("<%s %d>", kind, n.next[kind])
	}
	return n.ids[key]
}

func (n *names) topic(id model.UUID) string { return n.id("topic", id.String()) }

// aDay is how near to now a time lies to be one of this run; the fixed times of scripts are years ago.
const aDay = 24 * 60 * 60 * 1000

// anyUUID is a UUID as Java writes it.
var anyUUID = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

func isNow(ms int64) bool {
	now := time.Now().UnixMilli()
	return ms > now-aDay && ms < now+aDay
}

// tree turns an answer into maps, lists and plain values without zero values, normalised.
func (n *names) tree(answer any) any { return n.value("", reflect.ValueOf(answer)) }

func (n *names) value(name string, v reflect.Value) any {
	switch {
	case v.Type() == reflect.TypeFor[model.UUID]():
		return n.uuid(name, v.Interface().(model.UUID))
	case v.Type() == reflect.TypeFor[[]byte]():
		return n.bytes(name, v.Bytes())
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return n.value(name, v.Elem())
	case reflect.Struct:
		return n.fields(v)
	case reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = n.value(name, v.Index(i))
		}
		return list
	case reflect.String:
		return n.text(name, v.String())
	case reflect.Bool:
		return v.Bool()
	case reflect.Float64:
		return v.Float()
	case reflect.Uint16:
		return n.number(name, int64(v.Uint()))
	}
	return n.number(name, v.Int())
}

// fields leaves out what is zero or null, to keep recordings short: an absent field says just that. An empty list is kept, for it
// is another answer than a null one.
func (n *names) fields(v reflect.Value) any {
	m := map[string]any{}
	for i := range v.NumField() {
		f := v.Field(i)
		if f.IsZero() {
			continue
		}
		field := v.Type().Field(i).Name
		m[field] = n.value(field, f)
		if growing(v.Type().Name(), field) {
			m[field] = "<grows>"
		}
		if unordered(v.Type().Name(), field) {
			sortByName(m[field].([]any))
		}
		if field == "RequestedMetrics" { // a set
			slices.SortFunc(m[field].([]any), func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
		}
	}
	for _, key := range []string{"Name", "Value"} { // of configs: a path, a port
		if text, ok := m[key].(string); ok && m["Name"] != nil {
			m[key] = n.config(m["Name"].(string), text)
		}
	}
	return m
}

// growing reports numbers of the quorum: each broker's metadata log has its own
// length, epoch and times.
func growing(message, field string) bool {
	if !strings.HasPrefix(message, "DescribeQuorumResponse") {
		return false
	}
	switch field {
	case "LeaderEpoch", "HighWatermark", "LogEndOffset", "LastFetchTimestamp", "LastCaughtUpTimestamp":
		return true
	}
	return false
}

// unordered reports the lists whose order Kafka leaves to a hash table, or shuffles.
func unordered(message, field string) bool {
	switch field {
	case "Configs", "SupportedFeatures", "FinalizedFeatures":
		return true
	}
	switch message + field {
	case "DescribeGroupsResponseGroups", "ConsumerGroupDescribeResponseGroups", "DeleteGroupsResponseResults", "OffsetDeleteResponseTopics",
		"TxnOffsetCommitResponseTopics", "DescribeTransactionsResponseTopicDataPartitions",
		"AddPartitionsToTxnResponseAddPartitionsToTxnTopicResultResultsByPartition",
		"WriteTxnMarkersResponseWritableTxnMarkerTopicResultPartitions", "WriteTxnMarkersResponseWritableTxnMarkerResultTopics",
		"ListGroupsResponseGroups", "ListTransactionsResponseTransactionStates", "OffsetFetchResponseTopics",
		"OffsetFetchResponseGroupTopics", "DescribeTransactionsResponseTransactionStateTopics",
		"JoinGroupResponseMembers", "DescribeGroupsResponseDescribedGroupMembers", "ConsumerGroupDescribeResponseDescribedGroupMembers",
		"ConsumerGroupDescribeResponseAssignmentTopicPartitions", "ConsumerGroupHeartbeatResponseAssignmentTopicPartitions",
		"MetadataResponseTopics", "DeleteTopicsResponseResponses", "ProduceResponseResponses", "ProduceResponseTopicProduceResponsePartitionResponses",
		"ListOffsetsResponseTopics", "ListOffsetsResponseListOffsetsTopicResponsePartitions",
		"DescribeLogDirsResponseResults", "DescribeLogDirsResponseDescribeLogDirsResultTopics", "DescribeLogDirsResponseDescribeLogDirsTopicPartitions",
		"AlterReplicaLogDirsResponseResults", "AlterReplicaLogDirsResponseAlterReplicaLogDirTopicResultPartitions",
		"DeleteRecordsResponseTopics", "DeleteRecordsResponseDeleteRecordsTopicResultPartitions",
		"CreatePartitionsResponseResults", "ListConfigResourcesResponseConfigResources", "UpdateFeaturesResponseResults",
		"DescribeClientQuotasResponseEntries", "DescribeClientQuotasResponseEntryDataValues", "AlterClientQuotasResponseEntries",
		"DescribeProducersResponsePartitionResponseActiveProducers", "ElectLeadersResponseReplicaElectionResults":
		return true
	}
	return false
}

func sortByName(list []any) {
	slices.SortFunc(list, func(a, b any) int {
		return strings.Compare(sortKey(a), sortKey(b))
	})
}

// sortKey is what an element of an unordered list is called: a directory by its path, a config or topic by name or id, a
// partition by its number.
func sortKey(element any) string {
	m, ok := element.(map[string]any)
	if !ok {
		return fmt.Sprint(element)
	}
	index, _ := m["Index"].(float64) // absent is zero
	partition, _ := m["PartitionIndex"].(float64)
	return fmt.Sprintf("%v %v %v %v %v %v %v %v %v %v %v %v %v %011.0f %011.0f", m["LogDir"], m["GroupID"], m["MemberID"], m["TransactionalID"], m["TopicName"], m["Name"], m["TopicID"],
		m["Topic"], m["ResourceType"], m["ResourceName"], m["Entity"], m["Key"], m["ProducerID"], index, partition)
}

func (n *names) uuid(name string, id model.UUID) any {
	if id.IsZero() {
		return ""
	}
	if name == "TopicID" {
		return n.topic(id)
	}
	return n.id(name, id.String())
}

func (n *names) number(name string, v int64) any {
	switch name {
	case "ProducerID":
		if v >= 0 {
			return n.id("producer", strconv.FormatInt(v, 10))
		}
	case "SessionID":
		if v != 0 {
			return n.id("session", strconv.FormatInt(v, 10))
		}
	case "FinalizedFeaturesEpoch": // the offset in the metadata log at which they were read
		if v >= 0 {
			return "<offset>"
		}
	case "TotalBytes", "UsableBytes": // of the file system that the test runs on
		if v > 0 {
			return "<bytes>"
		}
	case "ThrottleTimeMs": // it depends on when the request came
		if v > 0 {
			return "<throttled>"
		}
	case "SubscriptionID": // it depends on the client's id
		return n.id("subscription", strconv.FormatInt(v, 10))
	case "Port":
		if p, ok := n.ports[int(v)]; ok {
			return p
		}
	case "LogAppendTimeMs", "TransactionStartTimeMs", "Timestamp", "BaseTimestamp", "MaxTimestamp", "LastTimestamp":
		if isNow(v) {
			return "<now>"
		}
	}
	if v > 1<<53 || v < -1<<53 {
		return strconv.FormatInt(v, 10) // JSON numbers end here
	}
	return float64(v)
}

var longNumber = regexp.MustCompile(`-?\b[0-9]{13,19}\b`)

// text normalises ids and times within sentences.
func (n *names) text(name, s string) any {
	switch name {
	case "ClusterID":
		return n.id("cluster", s)
	case "MemberID", "Leader": // given out by the broker, behind the client's id or instance id
		if len(s) == 22 {
			return n.id("member", s)
		}
		return anyUUID.ReplaceAllStringFunc(s, func(id string) string { return n.id("member", id) })
	case "LogDir":
		return strings.ReplaceAll(s, n.dir, "<dir>")
	case "Documentation": // what a key is for is told in everyone's own words; whether it is told at all is compared
		if s != "" {
			return "<text>"
		}
	case "ErrorMessage", "BatchIndexErrorMessage":
		for key, symbol := range n.ids {
			if kind, id, _ := strings.Cut(key, " "); kind == "topic" || kind == "cluster" {
				s = strings.ReplaceAll(s, id, symbol)
			}
		}
		return longNumber.ReplaceAllStringFunc(s, func(digits string) string {
			ms, err := strconv.ParseInt(digits, 10, 64)
			switch {
			case err == nil && isNow(ms):
				return "<now>"
			case err == nil && ms < 0 && isNow(ms+math.MaxInt64): // the end of a range without limit
				return "<now-max>"
			}
			return digits
		})
	}
	return s
}

func (n *names) config(name, value string) string {
	switch name {
	case "log.dirs", "log.dir":
		return strings.ReplaceAll(value, n.dir, "<dir>")
	case "listeners", "advertised.listeners", "controller.quorum.voters":
		for port, symbol := range n.ports {
			value = strings.ReplaceAll(value, ":"+strconv.Itoa(port), ":"+symbol)
		}
	}
	return value
}

func (n *names) bytes(name string, b []byte) any {
	if name == "Records" {
		return n.batches(b)
	}
	return hex.EncodeToString(b)
}

// batches shows the whole batches of an answer to a fetch. Kafka cuts the last one at the byte limit and clients drop the
// part, so what is compared is what clients see.
func (n *names) batches(b []byte) any {
	list := []any{}
	for len(b) > 0 {
		batch, rest, err := record.Next(b)
		if err != nil {
			break
		}
		list = append(list, n.batch(batch))
		b = rest
	}
	return list
}

func (n *names) batch(b record.Batch) any {
	m := map[string]any{
		"BaseOffset": float64(b.BaseOffset()), "LastOffset": float64(b.LastOffset()), "LeaderEpoch": float64(b.LeaderEpoch()),
		"Attributes": float64(b.Attributes()), "BaseTimestamp": n.number("BaseTimestamp", b.BaseTimestamp()),
		"MaxTimestamp": n.number("MaxTimestamp", b.MaxTimestamp()), "ProducerID": n.number("ProducerID", int64(b.ProducerID())),
		"ProducerEpoch": float64(b.ProducerEpoch()), "BaseSequence": float64(b.BaseSequence()), "Count": float64(b.Count()),
		"CRC": b.CRC() == b.ComputeCRC(),
	}
	records := []any{}
	for r, err := range b.Records(math.MaxInt32) {
		if err != nil {
			records = append(records, "broken: "+err.Error())
			break
		}
		records = append(records, n.record(r))
	}
	m["Records"] = shorten(records)
	return m
}

// shorten keeps recordings readable when a batch has hundreds of records.
func shorten(records []any) any {
	if len(records) <= 12 {
		return records
	}
	sum := crc32.ChecksumIEEE([]byte(fmt.Sprint(records)))
	return []any{records[0], fmt.Sprintf("<%d more, checksum %08x>", len(records)-2, sum), records[len(records)-1]}
}

func (n *names) record(r record.Record) any {
	m := map[string]any{"Offset": float64(r.Offset), "Timestamp": n.number("Timestamp", r.Timestamp), "Key": payload(r.Key), "Value": payload(r.Value)}
	for _, h := range r.Headers {
		m["Headers"] = fmt.Sprint(or2(m["Headers"]), h.Key, "=", payload(h.Value), " ")
	}
	return m
}

func or2(v any) any {
	if v == nil {
		return ""
	}
	return v
}

// payload shows bytes as text, long ones by their length and checksum.
func payload(b []byte) any {
	switch {
	case b == nil:
		return nil
	case len(b) > 64:
		return fmt.Sprintf("<%d bytes, checksum %08x>", len(b), crc32.ChecksumIEEE(b))
	}
	return string(b)
}
