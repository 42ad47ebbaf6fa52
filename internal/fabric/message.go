package fabric

import (
	"bytes"
	"encoding/binary"
	"errors"
	"iter"
	"math"
)

// Kind is the first byte of a message. A subscription is a kind and the start of
// a topic.
type Kind byte

// The nine messages. P is a producer, C a consumer, W a store's writer and R its
// reader.
const (
	Record        Kind = 'M' // P → C, W; has a content.
	DirectRecord  Kind = 'D' // P or R → who asked; has a content.
	Fetch         Kind = 'F' // C or W → P and all R.
	Ack           Kind = 'K' // W → P.
	Head          Kind = 'H' // P → C, W.
	DirectHead    Kind = 'E' // R → C.
	GetHeads      Kind = 'G' // C → R.
	ConsumerHello Kind = 'W' // C → R.
	StoreHello    Kind = 'L' // R → C.
)

// HasContent reports whether a second frame with a record's content follows.
func (k Kind) HasContent() bool { return k == Record || k == DirectRecord }

// maxName bounds topics, subjects and addresses: C cuts them there.
const maxName = 255

// version is the only one there is.
const version = 1

// MaxSequence is the last that a record may have. Logs count in int64.
const MaxSequence = math.MaxInt64 - 1

// What is wrong with a message. Who receives one drops and counts it.
var (
	ErrTruncated = errors.New("fabric: message is cut off")
	ErrKind      = errors.New("fabric: unknown kind of message")
	ErrVersion   = errors.New("fabric: message of another version")
	ErrName      = errors.New("fabric: name is missing, too long, or has a zero byte")
	ErrSequence  = errors.New("fabric: sequence out of range")
	ErrFrames    = errors.New("fabric: wrong number of frames")
)

// Message is the first frame of a message. What a field means, and whether it
// has a meaning, depends on the kind:
//
//	               Topic             Address    Subject  Sequence       further
//	Record         subject           producer   subject  its own
//	DirectRecord   who asked         producer   subject  its own
//	Fetch          producer          who asks   subject  first wanted   Count
//	Ack            producer                     subject  last stored
//	Head           subject           producer   subject  last published
//	DirectHead     who asked         producer   subject  last stored    First
//	GetHeads       start of subject  who asks
//	ConsumerHello  store's reader    consumer                           Topics
//	StoreHello     consumer          reader
//
// The slices of a message that was parsed are parts of its frame.
type Message struct {
	Kind     Kind
	Topic    []byte
	Address  []byte
	Subject  []byte
	Sequence uint64
	// Count is how many records are wanted.
	Count uint32
	// First, if it is not 0, says that of the records asked for none before this
	// one can be had any more. It is ours: eight bytes behind the last field,
	// which C does not look at.
	First  uint64
	Topics Topics
}

// shape says which fields a kind has, besides its topic.
type shape struct{ known, address, subject, sequence, count, first, topics bool }

func (k Kind) shape() shape {
	switch k {
	case Record, DirectRecord, Head:
		return shape{known: true, address: true, subject: true, sequence: true}
	case DirectHead:
		return shape{known: true, address: true, subject: true, sequence: true, first: true}
	case Fetch:
		return shape{known: true, address: true, subject: true, sequence: true, count: true}
	case Ack:
		return shape{known: true, subject: true, sequence: true}
	case GetHeads, StoreHello:
		return shape{known: true, address: true}
	case ConsumerHello:
		return shape{known: true, address: true, topics: true}
	}
	return shape{}
}

// Append appends the first frame of m. Names must have at most 255 bytes, none
// of them zero; see [CheckName].
func Append(dst []byte, m *Message) []byte {
	s := m.Kind.shape()
	dst = append(dst, byte(m.Kind))
	dst = append(dst, m.Topic...)
	dst = append(dst, 0, version)
	if s.address {
		dst = append(append(dst, byte(len(m.Address))), m.Address...)
	}
	if s.subject {
		dst = append(append(dst, byte(len(m.Subject))), m.Subject...)
	}
	if s.sequence {
		dst = binary.BigEndian.AppendUint64(dst, m.Sequence)
	}
	if s.count {
		dst = binary.BigEndian.AppendUint32(dst, m.Count)
	}
	if s.first && m.First > 0 {
		dst = binary.BigEndian.AppendUint64(dst, m.First)
	}
	if s.topics {
		dst = m.Topics.appendTo(dst)
	}
	return dst
}

// CheckName says whether a topic or an address can be in a message: [ErrName].
func CheckName(name string) error {
	for i := range len(name) {
		if name[i] == 0 {
			return ErrName
		}
	}
	if len(name) > maxName {
		return ErrName
	}
	return nil
}

// Parse reads a first frame into m, whose slices are parts of it afterwards.
// Bytes behind the last field are let be, as C does.
func (m *Message) Parse(frame []byte) error {
	if len(frame) == 0 {
		return ErrTruncated
	}
	*m = Message{Kind: Kind(frame[0])}
	s := m.Kind.shape()
	if !s.known {
		return ErrKind
	}
	rest := frame[1:]
	end := bytes.IndexByte(rest[:min(len(rest), maxName+1)], 0)
	if end < 0 && len(rest) > maxName {
		return ErrName
	}
	if end < 0 || len(rest) < end+2 {
		return ErrTruncated
	}
	if rest[end+1] != version {
		return ErrVersion
	}
	m.Topic = rest[:end:end]
	return m.parseFields(rest[end+2:], s)
}

func (m *Message) parseFields(rest []byte, s shape) (err error) {
	if s.address {
		if m.Address, rest, err = cutName(rest); err != nil {
			return err
		}
		if len(m.Address) == 0 {
			return ErrName
		}
	}
	if s.subject {
		if m.Subject, rest, err = cutName(rest); err != nil {
			return err
		}
	}
	if s.sequence {
		if len(rest) < 8 {
			return ErrTruncated
		}
		if m.Sequence = binary.BigEndian.Uint64(rest); m.Sequence > MaxSequence {
			return ErrSequence
		}
		rest = rest[8:]
	}
	if s.count {
		if len(rest) < 4 {
			return ErrTruncated
		}
		m.Count = binary.BigEndian.Uint32(rest)
	}
	if s.first && len(rest) >= 8 {
		if m.First = binary.BigEndian.Uint64(rest); m.First > MaxSequence+1 {
			return ErrSequence
		}
	}
	if s.topics {
		m.Topics, err = cutTopics(rest)
	}
	return err
}

// ParseFrames reads a whole message, and returns the content if it has one.
func (m *Message) ParseFrames(frames [][]byte) (content []byte, err error) {
	if len(frames) == 0 {
		return nil, ErrFrames
	}
	if err := m.Parse(frames[0]); err != nil {
		return nil, err
	}
	if !m.Kind.HasContent() {
		if len(frames) != 1 {
			return nil, ErrFrames
		}
		return nil, nil
	}
	if len(frames) != 2 {
		return nil, ErrFrames
	}
	return frames[1], nil
}

// cutName takes a string with a length of one byte from the front.
func cutName(b []byte) (name, rest []byte, err error) {
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return nil, nil, ErrTruncated
	}
	end := 1 + int(b[0])
	name = b[1:end:end]
	if bytes.IndexByte(name, 0) >= 0 {
		return nil, nil, ErrName
	}
	return name, b[end:], nil
}

// Topics is a list of names as it is in a ConsumerHello, without its count: each
// is four bytes of length and the name.
type Topics []byte

// MakeTopics makes a list.
func MakeTopics(names ...string) Topics {
	var t Topics
	for _, name := range names {
		t = binary.BigEndian.AppendUint32(t, uint32(len(name)))
		t = append(t, name...)
	}
	return t
}

// All are the names. They are parts of the list.
func (t Topics) All() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(t) > 0 {
			end := 4 + int(binary.BigEndian.Uint32(t))
			if !yield(t[4:end:end]) {
				return
			}
			t = t[end:]
		}
	}
}

// Len is how many there are.
func (t Topics) Len() int {
	n := 0
	for range t.All() {
		n++
	}
	return n
}

func (t Topics) appendTo(dst []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(t.Len())), t...)
}

// cutTopics checks that as many names are there as the count says.
func cutTopics(b []byte) (Topics, error) {
	if len(b) < 4 {
		return nil, ErrTruncated
	}
	count, b := binary.BigEndian.Uint32(b), b[4:]
	end := 0
	for range count {
		if len(b)-end < 4 {
			return nil, ErrTruncated
		}
		size := binary.BigEndian.Uint32(b[end:])
		if size > maxName {
			return nil, ErrName
		}
		if len(b)-end-4 < int(size) {
			return nil, ErrTruncated
		}
		if bytes.IndexByte(b[end+4:end+4+int(size)], 0) >= 0 {
			return nil, ErrName
		}
		end += 4 + int(size)
	}
	return Topics(b[:end:end]), nil
}
