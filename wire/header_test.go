package wire_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/barnabas-log/barnabas/wire"
)

// Request headers byte by byte: v1, v2 with its classic client id, and
// ApiVersions from a client that is newer than we are.
func TestRequestHeader(t *testing.T) {
	t.Parallel()
	id := "cli"
	f := func(key wire.Key, version int16, client *string, want string) {
		t.Helper()
		h := wire.RequestHeader{Key: key, Version: version, CorrelationID: 258, ClientID: client}
		b := wire.AppendRequestHeader(nil, h)
		if have := fmt.Sprintf("%x", b); have != want {
			t.Errorf("%v %d: %s, want %s", key, version, have, want)
		}
		r := wire.NewReader(append(b, 42))
		back, err := wire.ReadRequestHeader(r)
		if err != nil || r.Remaining() != 1 || (back.ClientID == nil) != (client == nil) || client != nil && *back.ClientID != *client {
			t.Errorf("%v %d: read %v, %v", key, version, back, err)
		}
		if back.ClientID = client; back != h {
			t.Errorf("%v %d: read %v, want %v", key, version, back, h)
		}
	}
	f(wire.ProduceKey, 3, &id, "000000030000010200"+"03636c69")
	f(wire.ProduceKey, 9, &id, "000000090000010200"+"03636c69"+"00")
	f(wire.ProduceKey, 9, nil, "0000000900000102"+"ffff"+"00")
	f(wire.SaslHandshakeKey, 1, nil, "0011000100000102"+"ffff")
	f(wire.ApiVersionsKey, 2, nil, "0012000200000102"+"ffff")
	f(wire.ApiVersionsKey, 3, nil, "0012000300000102"+"ffff"+"00")
	f(wire.ApiVersionsKey, 32767, nil, "00127fff00000102"+"ffff"+"00")
}

func TestRequestHeaderErrors(t *testing.T) {
	t.Parallel()
	f := func(b string, want error) {
		t.Helper()
		if _, err := wire.ReadRequestHeader(wire.NewReader([]byte(b))); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", b, err, want)
		}
	}
	f("", wire.ErrMalformed)
	f("\x00\x12\x00\x03\x00\x00\x01", wire.ErrMalformed)
	f("\x00\x12\x00\x03\x00\x00\x01\x02\xff\xff", wire.ErrMalformed)
	f("\x00\x12\x00\x03\x00\x00\x01\x02\x00\x09abc", wire.ErrMalformed)
	f("\x00\x04\x00\x00\x00\x00\x01\x02\xff\xff", wire.ErrVersion)
	f("\x7f\xff\x00\x00\x00\x00\x01\x02\xff\xff", wire.ErrVersion)
	f("\x00\x12\xff\xff\x00\x00\x01\x02\xff\xff", wire.ErrVersion)
}

func TestResponseHeader(t *testing.T) {
	t.Parallel()
	f := func(key wire.Key, version int16, want string) {
		t.Helper()
		b := wire.AppendResponseHeader(nil, key, version, 258)
		if have := fmt.Sprintf("%x", b); have != want {
			t.Errorf("%v %d: %s, want %s", key, version, have, want)
		}
		r := wire.NewReader(b)
		if id, err := wire.ReadResponseHeader(r, key, version); id != 258 || err != nil || r.Remaining() != 0 {
			t.Errorf("%v %d: read %d, %v", key, version, id, err)
		}
	}
	f(wire.FetchKey, 11, "00000102")
	f(wire.FetchKey, 12, "0000010200")
	f(wire.ApiVersionsKey, 0, "00000102")
	f(wire.ApiVersionsKey, 4, "00000102")
	f(wire.SaslHandshakeKey, 1, "00000102")
}

// A whole frame of each direction, through the helpers.
func TestFrames(t *testing.T) {
	t.Parallel()
	req := wire.NewApiVersionsRequest()
	req.ClientSoftwareName = "n"
	b, err := wire.AppendRequest([]byte("x"), wire.RequestHeader{Version: 3, CorrelationID: 5}, req)
	if want := "78" + "0000000f" + "0012000300000005ffff00" + "026e0100"; err != nil || fmt.Sprintf("%x", b) != want {
		t.Fatalf("%x, %v", b, err)
	}
	r := wire.NewReader(b[5:])
	h, err := wire.ReadRequestHeader(r)
	if err != nil {
		t.Fatal(err)
	}
	back, err := wire.ReadRequest(r, h)
	if err != nil || back.(*wire.ApiVersionsRequest).ClientSoftwareName != "n" {
		t.Fatalf("%v, %v", back, err)
	}
	b, err = wire.AppendResponse(nil, h.Version, h.CorrelationID, back.NewResponse())
	if want := "0000000c" + "00000005" + "0000" + "01" + "00000000" + "00"; err != nil || fmt.Sprintf("%x", b) != want {
		t.Fatalf("%x, %v", b, err)
	}
}

func TestAPIs(t *testing.T) {
	t.Parallel()
	f := func(k wire.Key, name string, lowest, highest, flexible int16, unstable bool) {
		t.Helper()
		api, ok := wire.LookupAPI(k)
		if !ok || api.Key != k || api.Name != name || k.String() != name || api.MinVersion != lowest || api.MaxVersion != highest || api.FlexibleFrom != flexible || api.LatestUnstable != unstable {
			t.Errorf("%+v, %v", api, ok)
		}
	}
	f(wire.ProduceKey, "Produce", 3, 13, 9, false)
	f(wire.FetchKey, "Fetch", 4, 18, 12, false)
	f(wire.SaslHandshakeKey, "SaslHandshake", 0, 1, -1, false)
	f(wire.OffsetDeleteKey, "OffsetDelete", 0, 0, -1, false)
	f(wire.InitProducerIDKey, "InitProducerId", 0, 5, 2, true)
	for _, k := range []wire.Key{4, 5, 6, 7, -1, 95, 32767} {
		if _, ok := wire.LookupAPI(k); ok {
			t.Errorf("%v has versions", k)
		}
	}
	if wire.ControlledShutdownKey.String() != "ControlledShutdown" || wire.Key(95).String() != "Key(95)" {
		t.Error("names of keys without versions")
	}
	for _, api := range wire.APIs() {
		req := api.NewRequest()
		if req.Key() != api.Key || req.NewResponse().Key() != api.Key || api.MinVersion > api.MaxVersion || api.Listeners == 0 {
			t.Errorf("%+v", api)
		}
	}
}

func TestErrorCodes(t *testing.T) {
	t.Parallel()
	if e := wire.UnknownTopicOrPartition; e != 3 || e.Error() != "UNKNOWN_TOPIC_OR_PARTITION" || !e.Retriable() || e.Message() != "This server does not host this topic-partition." {
		t.Errorf("%d %v %v %q", e, e, e.Retriable(), e.Message())
	}
	if e := wire.MessageTooLarge; e != 10 || e.Retriable() {
		t.Errorf("%d %v", e, e.Retriable())
	}
	if e := wire.ErrorCode(9999); e.Error() != "ERROR_CODE_9999" || e.Message() != "" {
		t.Errorf("%v %q", e, e.Message())
	}
	codes := wire.ErrorCodes()
	for i, e := range codes {
		if int(e) != i-1 || strings.HasPrefix(e.Error(), "ERROR_CODE_") {
			t.Errorf("code %d is %v", i-1, e)
		}
	}
	if len(codes) != 138 {
		t.Errorf("%d codes", len(codes))
	}
}
