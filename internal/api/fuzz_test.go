package api

import (
	"bytes"
	"encoding/binary"
	"math"
	"runtime"
	"testing"

	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// maxFuzzAlloc bounds what one request may allocate: a few hundred bytes for
// each of its own (an entry of an answer is larger than one of a request), and
// what any request costs, documentation of all configs included.
func maxFuzzAlloc(frame int) uint64 { return uint64(frame)*1024 + 4<<20 }

// FuzzHandle gives a small broker one request: it answers, hangs up or, for
// acks=0, is silent, and the next request is answered or the connection is
// closed. Nothing panics, and memory is bounded by the request.
func FuzzHandle(f *testing.F) {
	for _, op := range operations() {
		api, _ := wire.LookupAPI(op.key)
		for _, v := range []int16{op.min, op.max} {
			f.Add(seedRequest(f, api, v))
		}
	}
	f.Add([]byte{0, 0, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0x0f}) // Produce of a billion topics.
	f.Add([]byte{0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff})                                     // Metadata of two billion.
	f.Add([]byte{0, 18, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0})                                                         // ApiVersions of the future.
	f.Add([]byte{0, 18, 0xff, 0xff, 0, 0, 0, 1, 0xff, 0xff})                                                      // And of no time.
	f.Add([]byte{0, 75, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0, 1, 0, 0, 0, 0, 1, 1, 'a', 0xff, 0xff, 0xff, 0xff})
	n := newNode(f, "durability=os", "num.partitions=2")
	n.maxPartitions = 100
	n.topic("t", 3)
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) > 1<<16 || len(frame) == 0 {
			return
		}
		hurry(frame)
		var before, after runtime.MemStats
		c := n.dialIn(t)
		defer c.conn.Close()
		runtime.ReadMemStats(&before)
		go c.conn.Write(append(wire.AppendFrame(nil, frame), probe...))
		for answers := 0; ; answers++ {
			b := c.frame()
			if b == nil || bytes.HasPrefix(b, []byte("last")) {
				break
			}
			if answers > 1 {
				t.Fatalf("%d answers to one request", answers)
			}
		}
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > maxFuzzAlloc(len(frame)) {
			t.Fatalf("%d bytes allocated for a request of %d", used, len(frame))
		}
	})
}

// probe is a request whose answer begins with "last".
var probe = []byte{0, 0, 0, 10, 0, 18, 0, 0, 'l', 'a', 's', 't', 0xff, 0xff}

// hurry makes a fetch wait for nothing.
func hurry(frame []byte) {
	r := wire.NewReader(frame)
	h, err := wire.ReadRequestHeader(r)
	if err != nil || h.Key != wire.FetchKey {
		return
	}
	at := r.Offset() + 4 // After the replica id.
	if h.Version >= 15 {
		at = r.Offset()
	}
	if at+4 <= len(frame) {
		binary.BigEndian.PutUint32(frame[at:], 0)
	}
}

// seedRequest is a request that does something.
func seedRequest(t testing.TB, api wire.API, version int16) []byte {
	t.Helper()
	req := api.NewRequest()
	switch q := req.(type) {
	case *wire.ProduceRequest:
		*q = *produce("t", 1, -1, batch(t, record.BuilderOptions{Codec: record.Snappy}, "a", "b"))
	case *wire.FetchRequest:
		*q = *fetch("t", 0, 1)
		q.MaxWaitMs = 0
	case *wire.MetadataRequest:
		q.Topics = []wire.MetadataRequestTopic{{Name: new("t")}, {Name: new("new")}}
	case *wire.ListOffsetsRequest:
		q.ReplicaID = -1
		q.Topics = []wire.ListOffsetsRequestListOffsetsTopic{{Name: "t", Partitions: []wire.ListOffsetsRequestListOffsetsPartition{{Timestamp: -1, CurrentLeaderEpoch: -1}, {Timestamp: 1, CurrentLeaderEpoch: -1}}}}
	case *wire.CreateTopicsRequest:
		q.TimeoutMs = 1000
		q.Topics = []wire.CreateTopicsRequestCreatableTopic{{
			Name: "made", NumPartitions: 1, ReplicationFactor: 1,
			Configs: []wire.CreateTopicsRequestCreatableTopicConfig{{Name: "retention.ms", Value: new("5")}},
		}}
	case *wire.DeleteTopicsRequest:
		q.TimeoutMs = 1000
		if q.TopicNames = []string{"made"}; version >= 6 {
			q.TopicNames, q.Topics = nil, []wire.DeleteTopicsRequestDeleteTopicState{{Name: new("made")}}
		}
	case *wire.DescribeConfigsRequest:
		q.IncludeSynonyms, q.IncludeDocumentation = version >= 1, version >= 3
		q.Resources = []wire.DescribeConfigsRequestDescribeConfigsResource{{ResourceType: 2, ResourceName: "t"}, {ResourceType: 4, ResourceName: "1"}}
	case *wire.OffsetForLeaderEpochRequest:
		q.ReplicaID = -1
		q.Topics = []wire.OffsetForLeaderEpochRequestOffsetForLeaderTopic{{Topic: "t", Partitions: []wire.OffsetForLeaderEpochRequestOffsetForLeaderPartition{{LeaderEpoch: 0, CurrentLeaderEpoch: -1}}}}
	case *wire.FindCoordinatorRequest:
		if q.CoordinatorKey = "g"; version >= 4 {
			q.CoordinatorKey, q.CoordinatorKeys = "", []string{"g"}
		}
	case *wire.DescribeTopicPartitionsRequest:
		q.ResponsePartitionLimit = math.MaxInt32
	case *wire.ApiVersionsRequest:
		q.ClientSoftwareName, q.ClientSoftwareVersion = "fuzz", "1"
	}
	b, err := wire.AppendRequest(nil, wire.RequestHeader{Version: version, CorrelationID: 1}, req)
	if err != nil {
		t.Fatalf("%s %d: %v", api.Name, version, err)
	}
	return b[wire.FrameSizeBytes:]
}

// What KIP-511 takes for a client's name and version.
func TestSoftwareName(t *testing.T) {
	f := func(name string, want bool) {
		t.Helper()
		if got := softwareName.MatchString(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
	f("a", true)
	f("apache-kafka-java", true)
	f("4.4.0", true)
	f("4.4.0-SNAPSHOT", true)
	f("", false)
	f("a b", false)
	f("a-", false)
	f(".a", false)
	f("a_b", false)
	f("ä", false)
	f("a\n", false)
}
