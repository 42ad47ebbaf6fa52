package model

import (
	"encoding/base64"
	"fmt"
	"io"
)

// UUID is Kafka's 128-bit identifier of clusters, directories and topics. Its
// text form is 22 characters of unpadded base64url.
type UUID [16]byte

// TopicID identifies a topic for ever: a topic deleted and made again under
// the same name has another one (KIP-516).
type TopicID = UUID

// String returns the 22 characters that Kafka writes.
func (u UUID) String() string { return base64.RawURLEncoding.EncodeToString(u[:]) }

// IsZero reports whether u is Kafka's "no id".
func (u UUID) IsZero() bool { return u == UUID{} }

// ParseUUID reads the text form. Padding, as some tools write it, is accepted.
func ParseUUID(s string) (UUID, error) {
	var u UUID
	enc := base64.RawURLEncoding
	if len(s) == 24 && s[22:] == "==" {
		s = s[:22]
	}
	if len(s) != 22 {
		return u, fmt.Errorf("model: uuid %q: want 22 characters, have %d", s, len(s))
	}
	b, err := enc.DecodeString(s)
	if err != nil {
		return u, fmt.Errorf("model: uuid %q: %w", s, err)
	}
	copy(u[:], b)
	return u, nil
}

// NewUUID draws a random version 4 UUID from random. As Kafka does, it never
// returns one that is reserved or whose text starts with '-', which command
// lines would take for a flag.
func NewUUID(random io.Reader) (UUID, error) {
	for {
		var u UUID
		if _, err := io.ReadFull(random, u[:]); err != nil {
			return UUID{}, fmt.Errorf("model: new uuid: %w", err)
		}
		u[6] = u[6]&0x0f | 0x40
		u[8] = u[8]&0x3f | 0x80
		if u.String()[0] != '-' {
			return u, nil
		}
	}
}
