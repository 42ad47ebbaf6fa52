package wire

import (
	"encoding/binary"
	"fmt"
)

// RequestHeader comes before every request.
type RequestHeader struct {
	Key           Key
	Version       int16
	CorrelationID int32 // the answer repeats it
	ClientID      *string
}

// flexibleHeader reports whether a request of that key and version has a header
// with tagged fields (request header v2, else v1). It holds above the highest
// version too: a client that is newer asks for its ApiVersions that way.
func flexibleHeader(key Key, version int16) (flexible, known bool) {
	api, ok := LookupAPI(key)
	return ok && api.Flexible(version), ok
}

// ReadRequestHeader reads a request header, version 1 or 2 as the key and
// version at its start demand. The client id has a classic length in both. A
// version out of range is not an error here, because ApiVersions must answer
// one; a key that Kafka does not have, or a negative version, wraps ErrVersion,
// and the header holds what was read until then.
func ReadRequestHeader(r *Reader) (RequestHeader, error) {
	h := RequestHeader{Key: Key(r.Int16()), Version: r.Int16(), CorrelationID: r.Int32()}
	if r.failed() {
		return h, r.Err()
	}
	flexible, known := flexibleHeader(h.Key, h.Version)
	if !known || h.Version < 0 {
		return h, fmt.Errorf("%w: key %d version %d", ErrVersion, int16(h.Key), h.Version)
	}
	h.ClientID = r.NullableText(false)
	if flexible {
		r.SkipTags()
	}
	return h, r.Err()
}

// AppendRequestHeader appends h, version 1 or 2 as its key and version demand.
// The client id must not be longer than 32767 bytes.
func AppendRequestHeader(dst []byte, h RequestHeader) []byte {
	dst = AppendInt16(dst, int16(h.Key))
	dst = AppendInt16(dst, h.Version)
	dst = AppendInt32(dst, h.CorrelationID)
	dst = AppendNullableString(dst, h.ClientID)
	if flexible, _ := flexibleHeader(h.Key, h.Version); flexible {
		dst = AppendNoTags(dst)
	}
	return dst
}

// responseTags reports whether the answer's header has tagged fields (response
// header v1, else v0). ApiVersions never has: its reader does not know yet what
// the sender speaks (KIP-511).
func responseTags(key Key, version int16) bool {
	flexible, _ := flexibleHeader(key, version)
	return flexible && key != ApiVersionsKey
}

// AppendResponseHeader appends the header of an answer to a request of that key
// and version.
func AppendResponseHeader(dst []byte, key Key, version int16, correlationID int32) []byte {
	dst = AppendInt32(dst, correlationID)
	if responseTags(key, version) {
		dst = AppendNoTags(dst)
	}
	return dst
}

// ReadResponseHeader reads the header of an answer to a request of that key and
// version, and returns its correlation id.
func ReadResponseHeader(r *Reader, key Key, version int16) (correlationID int32, err error) {
	correlationID = r.Int32()
	if responseTags(key, version) {
		r.SkipTags()
	}
	return correlationID, r.Err()
}

// FrameSizeBytes is the length of the size before a frame: an int32 that counts
// the bytes after it.
const FrameSizeBytes = 4

// BeginFrame appends room for a frame's size. EndFrame fills it in; start is
// the length of dst before.
func BeginFrame(dst []byte) (frame []byte, start int) {
	return append(dst, 0, 0, 0, 0), len(dst)
}

// EndFrame writes the size of the frame that BeginFrame began at start.
func EndFrame(dst []byte, start int) []byte {
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-FrameSizeBytes))
	return dst
}

// AppendFrame appends the size of payload and payload.
func AppendFrame(dst, payload []byte) []byte {
	return append(AppendInt32(dst, int32(len(payload))), payload...)
}

// AppendRequest appends a whole frame: size, header and request. The header's
// key is that of req.
func AppendRequest(dst []byte, h RequestHeader, req Request) ([]byte, error) {
	h.Key = req.Key()
	dst, start := BeginFrame(dst)
	dst, err := req.AppendTo(AppendRequestHeader(dst, h), h.Version)
	if err != nil {
		return dst, err
	}
	return EndFrame(dst, start), nil
}

// AppendResponse appends a whole frame: size, header and answer, in the version
// of the request.
func AppendResponse(dst []byte, version int16, correlationID int32, resp Response) ([]byte, error) {
	dst, start := BeginFrame(dst)
	dst, err := resp.AppendTo(AppendResponseHeader(dst, resp.Key(), version, correlationID), version)
	if err != nil {
		return dst, err
	}
	return EndFrame(dst, start), nil
}
