package wire_test

import (
	"bytes"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/barnabas-log/barnabas/wire"
)

// allocated returns the bytes that f allocates; a goroutine of another test may
// add to it, so callers run it in tests that are not parallel.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// refuse reads b as a request body and wants it refused cheaply.
func refuse(t *testing.T, what string, m wire.Message, version int16, b []byte, problem string) {
	t.Helper()
	var err error
	spent := allocated(func() { err = wire.ReadExactly(wire.NewReader(b), m, version) })
	var malformed *wire.MalformedError
	if !errors.Is(err, wire.ErrMalformed) || !errors.As(err, &malformed) || malformed.Problem != problem {
		t.Errorf("%s: %v, want %q", what, err, problem)
	}
	if limit := uint64(16*len(b) + 128<<10); spent > limit {
		t.Errorf("%s: %d bytes allocated for a frame of %d", what, spent, len(b))
	}
}

func TestBombs(t *testing.T) {
	uvarint := func(v uint32) []byte { return wire.AppendUvarint(nil, v) }
	apiVersions := func(tags uint32, rest ...byte) []byte {
		return append(append([]byte{2, 'a', 2, 'b'}, uvarint(tags)...), rest...)
	}
	zeros := make([]byte, 1<<20)

	// Seven bytes that held kmsg for a minute and a half.
	refuse(t, "2^32-1 tags", wire.NewApiVersionsRequest(), 3, append([]byte{1, 1}, uvarint(1<<32-1)...), "more than 10000 tagged fields")
	refuse(t, "10001 tags", wire.NewApiVersionsRequest(), 3, apiVersions(10001, zeros[:30000]...), "more than 10000 tagged fields")
	refuse(t, "more tags than bytes", wire.NewApiVersionsRequest(), 3, apiVersions(9, 1, 0), "frame ends too early")
	refuse(t, "a tag beyond the frame", wire.NewApiVersionsRequest(), 3, apiVersions(1, 9, 200, 1, 0, 0), "frame ends too early")
	refuse(t, "varint of six bytes", wire.NewApiVersionsRequest(), 3, []byte{0x81, 0x80, 0x80, 0x80, 0x80, 0}, "varint above 32 bits")
	refuse(t, "varint of 33 bits", wire.NewApiVersionsRequest(), 3, []byte{0x81, 0x80, 0x80, 0x80, 0x1f}, "varint above 32 bits")

	produce := func(topics int32, rest []byte) []byte {
		b := []byte{0xff, 0xff, 0, 1, 0, 0, 0, 0}
		return append(wire.AppendInt32(b, topics), rest...)
	}
	refuse(t, "2^31-1 topics", wire.NewProduceRequest(), 3, produce(1<<31-1, nil), "array of more than 1000000 elements")
	refuse(t, "-1 topics", wire.NewProduceRequest(), 3, produce(-1, nil), "null array")
	refuse(t, "-2 topics", wire.NewProduceRequest(), 3, produce(-2, zeros), "null array")
	refuse(t, "more topics than bytes", wire.NewProduceRequest(), 3, produce(200_000, zeros), "array longer than the frame")
	// 1 MiB of smallest elements: 64 MiB in kmsg.
	flexible := append([]byte{0, 0, 1, 0, 0, 0, 0}, wire.AppendCompactArrayLen(nil, len(zeros)/3)...)
	refuse(t, "empty topics", wire.NewProduceRequest(), 9, append(flexible, bytes.Repeat([]byte{1, 1, 0}, len(zeros)/3)...), "message needs more memory than its length allows")
	refuse(t, "long string", wire.NewApiVersionsRequest(), 3, append(uvarint(32769), zeros...), "string longer than 32767 bytes")
	refuse(t, "null string", wire.NewApiVersionsRequest(), 3, []byte{0, 1, 0}, "null string")
	refuse(t, "negative bytes", wire.NewSaslAuthenticateRequest(), 0, []byte{0xff, 0xff, 0xff, 0xfe}, "null bytes")
	refuse(t, "bytes after the message", wire.NewApiVersionsRequest(), 0, []byte{0}, "bytes after the message")
}

// A frame of nothing but smallest elements is valid while it is small.
func TestEmptyElementsAreValid(t *testing.T) {
	t.Parallel()
	for n := range 1000 {
		b := append([]byte{0, 0, 1, 0, 0, 0, 0}, wire.AppendCompactArrayLen(nil, n)...)
		b = append(append(b, bytes.Repeat([]byte{1, 1, 0}, n)...), 0)
		m := wire.NewProduceRequest()
		if err := wire.ReadExactly(wire.NewReader(b), m, 9); err != nil || len(m.TopicData) != n {
			t.Fatalf("%d empty topics: %d, %v", n, len(m.TopicData), err)
		}
	}
}

// Tagged fields in any order and twice are taken as Kafka takes them: the last
// one counts. One that does not fill its size is refused.
func TestTags(t *testing.T) {
	t.Parallel()
	read := func(tags ...byte) (*wire.FetchRequest, error) {
		b := make([]byte, 0, 64)
		b = append(b, make([]byte, 4+4+4+1+4+4)...) // from MaxWaitMs to SessionEpoch
		b = append(b, 1, 1, 1)                      // no topics, none forgotten, no rack
		m := wire.NewFetchRequest()
		return m, wire.ReadExactly(wire.NewReader(append(b, tags...)), m, 15)
	}
	cluster := func(b []byte, s string) []byte {
		return append(append(b, 0, byte(len(s)+1), byte(len(s)+1)), s...)
	}
	unknown := []byte{77, 3, 1, 2, 3}

	m, err := read(append(cluster([]byte{2}, "one"), unknown...)...)
	if err != nil || *m.ClusterID != "one" {
		t.Errorf("known and unknown tag: %v, %v", m, err)
	}
	m, err = read(cluster(append([]byte{2}, unknown...), "one")...)
	if err != nil || *m.ClusterID != "one" {
		t.Errorf("out of order: %v, %v", m, err)
	}
	m, err = read(cluster(cluster([]byte{2}, "one"), "two")...)
	if err != nil || *m.ClusterID != "two" {
		t.Errorf("twice: %v, %v", m, err)
	}
	for _, bad := range [][]byte{
		{1, 0, 3, 2, 'a', 0},                           // the value ends before its size
		{1, 0, 1, 2, 'a'},                              // and after it
		{1, 1, 13, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, // the frame ends before both
	} {
		if _, err := read(bad...); !errors.Is(err, wire.ErrMalformed) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if m, err = read(0); err != nil || m.ClusterID != nil || m.ReplicaState.ReplicaID != -1 {
		t.Errorf("no tags: %+v, %v", m, err)
	}
}

// Bytes that are not UTF-8 stay as they are.
func TestInvalidUTF8(t *testing.T) {
	t.Parallel()
	m := wire.NewApiVersionsRequest()
	b := []byte{3, 0xff, 0xc0, 1, 0}
	if err := wire.ReadExactly(wire.NewReader(b), m, 3); err != nil || m.ClientSoftwareName != "\xff\xc0" {
		t.Errorf("%q, %v", m.ClientSoftwareName, err)
	}
}

func TestEncodeErrors(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 32768)
	f := func(what string, m wire.Message, version int16, want string) {
		t.Helper()
		if _, err := m.AppendTo(nil, version); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}
	f("too new", wire.NewFetchRequest(), 99, "wire: unsupported version: FetchRequest 99")
	f("too old", wire.NewFetchRequest(), 3, "wire: unsupported version: FetchRequest 3")
	f("negative", wire.NewFetchRequest(), -1, "wire: unsupported version: FetchRequest -1")
	f("absent", &wire.FetchResponse{SessionID: 7}, 4, "wire: FetchResponse.SessionID in version 4: set, but the version lacks it")
	f("null", &wire.MetadataRequest{AllowAutoTopicCreation: true}, 0, "wire: MetadataRequest.Topics in version 0: null, which the version does not allow")
	f("long", &wire.ApiVersionsRequest{ClientSoftwareName: long, NodeID: -1}, 3, "wire: ApiVersionsRequest.ClientSoftwareName in version 3: longer than 32767 bytes")
	nested := wire.NewFetchResponse()
	wire.Extend(&wire.Extend(&nested.Responses).Partitions).PreferredReadReplica = 1
	f("nested", nested, 4, "wire: FetchResponsePartitionData.PreferredReadReplica in version 4: set, but the version lacks it")
	if b, err := (&wire.FetchResponse{ThrottleTimeMs: 9, ErrorCode: 3}).AppendTo(nil, 4); err != nil || len(b) != 8 {
		t.Errorf("an ignorable field that the version lacks: %x, %v", b, err)
	}
}

// Values of every size around those where a tag's size takes another byte.
func TestTagSizes(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 60, 61, 62, 120, 125, 126, 127, 128, 129, 200, 16380, 16381, 16382, 16383, 16384, 16385, 32767} {
		id := strings.Repeat("c", n)
		m := wire.NewFetchRequest()
		m.ClusterID = &id
		b, err := m.AppendTo(nil, 12)
		if err != nil {
			t.Fatal(err)
		}
		back := wire.NewFetchRequest()
		if err := wire.ReadExactly(wire.NewReader(b), back, 12); err != nil || *back.ClusterID != id {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}
