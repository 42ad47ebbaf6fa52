package wire

import "fmt"

// Message is what every generated struct can do.
type Message interface {
	// AppendTo appends the message in the given version. It returns an
	// *EncodeError for a field that the version lacks and that is neither
	// ignorable nor at its default, for a null that the version does not allow
	// and for a string above 32767 bytes; and an error that wraps ErrVersion
	// for a version that the message does not have. On error, what it appended
	// is meaningless.
	AppendTo(dst []byte, version int16) ([]byte, error)
	// ReadFrom reads the message in the given version and sets all fields,
	// whatever they were. The error wraps ErrMalformed or ErrVersion; after it,
	// the fields are meaningless. Bytes may be left over: see ReadExactly.
	ReadFrom(r *Reader, version int16) error
	// Reset sets all fields to Kafka's defaults and keeps the memory of slices.
	Reset()
}

// Request is a message that a client sends.
type Request interface {
	Message
	Key() Key
	// NewResponse returns the answer to it, with defaults.
	NewResponse() Response
}

// Response is the answer to the request with the same key.
type Response interface {
	Message
	Key() Key
	// EachError calls each for every error code in the answer that is not
	// [None]: of the whole, and of topics, partitions and what else it has.
	EachError(each func(ErrorCode))
}

// Key numbers a kind of request ("API key").
type Key int16

// String returns Kafka's name, such as "Produce", or "Key(n)".
func (k Key) String() string {
	if name := keyName(k); name != "" {
		return name
	}
	return fmt.Sprintf("Key(%d)", int16(k))
}

// Listeners says on which listeners Kafka offers a request.
type Listeners uint8

const (
	// OnBroker requests are served by brokers.
	OnBroker Listeners = 1 << iota
	// OnController requests are served by controllers.
	OnController
)

// API describes one kind of request.
type API struct {
	Key  Key
	Name string
	// MinVersion and MaxVersion bound the versions that Kafka considers
	// stable.
	MinVersion, MaxVersion int16
	// LatestUnstable says that the codec has version MaxVersion+1 as well,
	// which Kafka does not offer unless told to.
	LatestUnstable bool
	// FlexibleFrom is the first version with compact lengths and tagged
	// fields, or -1.
	FlexibleFrom int16
	Listeners    Listeners
	NewRequest   func() Request
}

// APIs describes all requests that have a version, in the order of their keys.
func APIs() []API {
	var apis []API
	for k := range lastKey + 1 {
		if api, ok := LookupAPI(k); ok {
			apis = append(apis, api)
		}
	}
	return apis
}

// Supports reports whether version is a stable one.
func (a API) Supports(version int16) bool {
	return a.MinVersion <= version && version <= a.MaxVersion
}

// Flexible reports whether version has compact lengths and tagged fields.
func (a API) Flexible(version int16) bool {
	return a.FlexibleFrom >= 0 && version >= a.FlexibleFrom
}

// ReadExactly reads m and requires that nothing is left.
func ReadExactly(r *Reader, m Message, version int16) error {
	if err := m.ReadFrom(r, version); err != nil {
		return err
	}
	return r.done()
}

// ReadRequest reads the request after a header, all of it. The error wraps
// ErrVersion, for a key or version that the codec lacks, or ErrMalformed.
func ReadRequest(r *Reader, h RequestHeader) (Request, error) {
	api, ok := LookupAPI(h.Key)
	if !ok {
		return nil, errVersion(h.Key.String(), h.Version)
	}
	req := api.NewRequest()
	if err := ReadExactly(r, req, h.Version); err != nil {
		return nil, err
	}
	return req, nil
}
