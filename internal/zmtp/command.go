package zmtp

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Commands after the handshake.
const (
	commandSubscribe = "SUBSCRIBE"
	commandCancel    = "CANCEL"
	commandPing      = "PING"
	commandPong      = "PONG"
	commandError     = "ERROR"
	commandReady     = "READY"
)

// Messages that subscribe and cancel, as peers of ZMTP 3.0 and every libzmq XSUB
// send them: this byte, then the prefix.
const (
	messageCancel    = 0
	messageSubscribe = 1
)

// maxPingContext is the longest context of a PING (RFC 37).
const maxPingContext = 16

// parseCommand splits the body of a command into its name and the rest.
func parseCommand(body []byte) (name string, rest []byte, err error) {
	if len(body) == 0 || body[0] == 0 || len(body) < 1+int(body[0]) {
		return "", nil, fmt.Errorf("%w: a command without a name", ErrMalformed)
	}
	n := 1 + int(body[0])
	return commandName(body[1:n]), body[n:], nil
}

// commandName spares an allocation for the names that come often.
func commandName(b []byte) string {
	switch string(b) {
	case commandSubscribe:
		return commandSubscribe
	case commandCancel:
		return commandCancel
	case commandPing:
		return commandPing
	case commandPong:
		return commandPong
	case curveMessage:
		return curveMessage
	}
	return string(b)
}

// appendCommand appends a command's body: its name and what follows.
func appendCommand(dst []byte, name string, rest ...[]byte) []byte {
	dst = append(dst, byte(len(name)))
	dst = append(dst, name...)
	for _, r := range rest {
		dst = append(dst, r...)
	}
	return dst
}

// appendProperty appends a property: its name has one byte of length, its value
// four (RFC 37, "Metadata").
func appendProperty(dst []byte, name string, value []byte) []byte {
	dst = append(dst, byte(len(name)))
	dst = append(dst, name...)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(value)))
	return append(dst, value...)
}

// parseProperties reads the metadata of READY and INITIATE, and returns the
// socket type. Names are case-insensitive; unknown ones are ignored.
func parseProperties(b []byte) (socketType string, err error) {
	for len(b) > 0 {
		name := int(b[0])
		if name == 0 || len(b) < 1+name+4 {
			return "", fmt.Errorf("%w: a property is cut off", ErrMalformed)
		}
		key, rest := b[1:1+name], b[1+name:]
		size := binary.BigEndian.Uint32(rest)
		if uint64(size) > uint64(len(rest)-4) {
			return "", fmt.Errorf("%w: property %q is cut off", ErrMalformed, key)
		}
		if strings.EqualFold(string(key), "Socket-Type") {
			socketType = string(rest[4 : 4+size])
		}
		b = rest[4+size:]
	}
	return socketType, nil
}
