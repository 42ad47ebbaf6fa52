package hostile

import (
	"context"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/barnabas-log/barnabas/wire"
	"github.com/barnabas-log/barnabas/wire/wiretest"
)

// sound makes well-formed requests of every API that the broker says it serves.
type sound struct {
	apis []wire.API
	made []atomic.Int64 // Of each.
}

func newSound(t *testing.T, addr string) *sound {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	resp, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	s := new(sound)
	for _, k := range resp.ApiKeys {
		api, ok := wire.LookupAPI(wire.Key(k.ApiKey))
		if !ok {
			t.Fatalf("the broker serves API %d, which nobody knows", k.ApiKey)
		}
		s.apis = append(s.apis, api)
	}
	s.made = make([]atomic.Int64, len(s.apis))
	return s
}

// all fails unless every API was asked for.
func (s *sound) all(t *testing.T) {
	t.Helper()
	for i := range s.apis {
		if n := s.made[i].Load(); n < 100 {
			t.Errorf("%s was asked for %d times only", s.apis[i].Name, n)
		}
	}
}

// filled is a request with values that nobody would send.
func (s *sound) filled(r *rand.Rand) []byte {
	return s.request(r, func(wire.Request) {})
}

// aimed is a request with values that nobody would send, about things that
// there are: it comes further before it is refused.
func (s *sound) aimed(r *rand.Rand) []byte {
	return s.request(r, func(q wire.Request) { aim(r, reflect.ValueOf(q).Elem(), "") })
}

func (s *sound) request(r *rand.Rand, also func(wire.Request)) []byte {
	for {
		i := r.IntN(len(s.apis))
		api := s.apis[i]
		q := api.NewRequest()
		version := api.MinVersion + int16(r.IntN(int(api.MaxVersion-api.MinVersion)+1))
		wiretest.Fill(r, q, version)
		also(q)
		tame(r, q)
		b, err := wire.AppendRequest(nil, wire.RequestHeader{Version: version, CorrelationID: 1, ClientID: text("fill")}, q)
		if err != nil {
			continue // An aimed or tamed field that the version lacks.
		}
		s.made[i].Add(1)
		return b
	}
}

// tame keeps a sound request from asking for what would be its good right:
// waiting for ever, thousands of partitions, or the end of what is good.
func tame(r *rand.Rand, q wire.Request) {
	switch q := q.(type) {
	case *wire.FetchRequest:
		q.MaxWaitMs = int32(r.IntN(5))
	case *wire.ProduceRequest:
		q.TimeoutMs = int32(r.IntN(5))
		if q.Acks == 0 { // Nobody would answer.
			q.Acks = 1
		}
		for i := range q.TopicData {
			for j := range q.TopicData[i].PartitionData {
				q.TopicData[i].PartitionData[j].Records = batch(r)
			}
		}
	case *wire.CreateTopicsRequest:
		for i := range q.Topics {
			t := &q.Topics[i]
			if t.NumPartitions > 3 && t.NumPartitions < math.MaxInt32/2 {
				t.NumPartitions = 3
			}
			if len(t.Name) > 0 && r.IntN(2) == 0 {
				t.Name = []string{"..", ".", "a b", "é", string(make([]byte, 250)), "a/b", "../../etc/passwd", "\x00"}[r.IntN(8)]
			}
		}
	case *wire.CreatePartitionsRequest:
		for i := range q.Topics {
			if q.Topics[i].Count > 4 && q.Topics[i].Count < math.MaxInt32/2 {
				q.Topics[i].Count = 4
			}
		}
	case *wire.DeleteTopicsRequest:
		for i := range q.TopicNames {
			q.TopicNames[i] = "no " + q.TopicNames[i]
		}
		for i := range q.Topics {
			if q.Topics[i].Name != nil {
				q.Topics[i].Name = text("no " + *q.Topics[i].Name)
			}
		}
	case *wire.UnregisterBrokerRequest:
		q.BrokerID |= 1 << 20 // Not the only one.
	case *wire.UpdateFeaturesRequest:
		q.ValidateOnly = true // A downgrade is anybody's right, and takes groups from the others.
	case *wire.AlterClientQuotasRequest:
		for i := range q.Entries {
			for j := range q.Entries[i].Entity {
				if e := &q.Entries[i].Entity[j]; e.EntityName == nil { // All clients.
					e.EntityName = text("nobody")
				}
			}
		}
	case *wire.JoinGroupRequest:
		q.RebalanceTimeoutMs = int32(r.IntN(50)) // Others wait so long for a member that is gone.
	}
}

// aim gives the fields of a request, by their names, values that mean
// something to the broker, or would if they were not what they are.
func aim(r *rand.Rand, v reflect.Value, name string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			aim(r, v.Elem(), name)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			aim(r, v.Field(i), v.Type().Field(i).Name)
		}
	case reflect.Slice:
		for i := range v.Len() {
			aim(r, v.Index(i), name)
		}
	case reflect.String:
		if list := aims(name); len(list) > 0 {
			pick := list[r.IntN(len(list))]
			if pick == huge && r.IntN(4) > 0 { // Or frames would be large, and the answers all about them.
				pick = list[0]
			}
			v.SetString(pick)
		}
	case reflect.Int16, reflect.Int32, reflect.Int64, reflect.Int8:
		if list := numbers(name); len(list) > 0 {
			v.SetInt(list[r.IntN(len(list))])
		}
	}
}

// huge is as long as a string can be.
var huge = strings.Repeat("x", math.MaxInt16)

// expressions are what engines with backtracking never come to an end with, or
// what is small and becomes large.
var expressions = []string{
	"", ".*", "[", "(a*)*b", "(a|aa)+$", "((((a{100}){100}){100}){100})", "(x+x+)+y", "bad.*", strings.Repeat("(", 10_000), strings.Repeat("a?", 2_000) + strings.Repeat("a", 2_000),
	`(?:\pL{1000}){1000}`, huge,
}

func aims(field string) []string {
	switch {
	case strings.Contains(field, "TransactionalID"):
		return []string{"storm-1", "storm-2", "storm-3", "", huge}
	case strings.HasPrefix(field, "Group") && field != "GroupInstanceID":
		return []string{"storm-1", "storm-2", "storm-3", "storm-4", "", huge}
	case strings.Contains(field, "Regex") || strings.Contains(field, "Pattern"):
		return expressions
	}
	switch field {
	case "MemberID":
		return []string{"", "m1", "m2", "m3", "m4", "m5", "AAAAAAAAAAAAAAAAAAAAAA", huge}
	case "InstanceID", "GroupInstanceID":
		return []string{"i1", "i2", huge}
	case "ServerAssignor":
		return []string{"uniform", "range", "odd"}
	case "ProtocolType":
		return []string{"consumer", "consumer", "connect", ""}
	case "CommittedMetadata":
		return []string{"", strings.Repeat("m", 4096), strings.Repeat("m", 4097), huge}
	case "Topic", "TopicName", "TopicNames", "SubscribedTopicNames":
		return []string{badTopic, stampTopic, keyTopic, packTopic, "no-such", huge}
	case "Name": // Of a topic, a setting, a protocol.
		return []string{badTopic, stampTopic, "retention.bytes", "flush.messages", "no-such", "range", huge}
	case "ResourceName":
		return []string{badTopic, "", "1", "storm-1", huge}
	case "EntityType":
		return []string{"user", "client-id", "ip", "odd"}
	case "Key", "Keys":
		return []string{"consumer_byte_rate", "producer_byte_rate", "request_percentage", "odd"}
	case "StateFilters", "StatesFilter":
		return []string{"Ongoing", "Empty", "Stable", "odd"}
	case "Value":
		return []string{"1", "-1", "1e300", "", huge}
	case "Path":
		return []string{"/", "..", "/tmp", ""}
	}
	return nil
}

func numbers(field string) []int64 {
	switch field {
	case "Partition", "PartitionIndex", "PartitionIndexes", "Partitions", "Index":
		return []int64{0, 1, 2, -1, 3, math.MaxInt32}
	case "SessionTimeoutMs":
		return []int64{6_000, 6_000, 6_000, 0, 1_800_001}
	case "GenerationID", "MemberEpoch", "GenerationIDOrMemberEpoch":
		return []int64{-2, -1, 0, 1, 2, math.MaxInt32}
	case "ProducerID":
		return []int64{-1, 0, 1, 2, 3, 4, math.MaxInt64}
	case "ProducerEpoch", "V3AndBelowProducerEpoch":
		return []int64{-1, 0, 1, 2, math.MaxInt16}
	case "CoordinatorEpoch":
		return []int64{-1, 0, 1, math.MaxInt32}
	case "TransactionTimeoutMs":
		return []int64{0, 1, 1_000, 900_000, 900_001}
	case "KeyType":
		return []int64{0, 1, 2, 3, -1}
	case "ResourceType":
		return []int64{2, 4, 8, 16, 32, 0}
	case "ConfigOperation":
		return []int64{0, 1, 2, 3, 9}
	}
	return nil
}
