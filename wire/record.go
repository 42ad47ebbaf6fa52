package wire

import "fmt"

// Metadata records are framed: an unsigned varint frame version, an unsigned
// varint type, an unsigned varint version, then the record (Kafka's
// MetadataRecordSerde).
const metadataFrameVersion = 1

// MetadataRecord is a record of the cluster metadata log.
type MetadataRecord interface {
	Message
	MetadataRecordType() MetadataRecordType
}

// MetadataRecordType numbers the kinds of metadata records.
type MetadataRecordType int16

// String returns Kafka's name, such as "TopicRecord", or "MetadataRecordType(n)".
func (t MetadataRecordType) String() string {
	if name := metadataRecordName(t); name != "" {
		return name
	}
	return fmt.Sprintf("MetadataRecordType(%d)", int16(t))
}

// AppendMetadataRecord appends the value of a metadata record: frame and body.
// Errors are those of AppendTo.
func AppendMetadataRecord(dst []byte, m MetadataRecord, version int16) ([]byte, error) {
	dst = AppendUvarint(dst, metadataFrameVersion)
	dst = AppendUvarint(dst, uint32(m.MetadataRecordType()))
	dst = AppendUvarint(dst, uint32(version))
	return m.AppendTo(dst, version)
}

// ReadMetadataRecord reads the value of a metadata record, all of it. The
// record aliases b. The error wraps ErrVersion for a frame version, type or
// version that the codec lacks, else ErrMalformed.
func ReadMetadataRecord(b []byte) (m MetadataRecord, version int16, err error) {
	r := NewReader(b)
	frame, t, v := r.Uvarint(), r.Uvarint(), r.Uvarint()
	if r.failed() {
		return nil, 0, r.Err()
	}
	if frame != metadataFrameVersion {
		return nil, 0, fmt.Errorf("%w: metadata frame %d", ErrVersion, frame)
	}
	if t > maxRecordType || v > maxRecordType {
		return nil, 0, fmt.Errorf("%w: metadata record type %d version %d", ErrVersion, t, v)
	}
	m = NewMetadataRecord(MetadataRecordType(t))
	if m == nil {
		return nil, 0, fmt.Errorf("%w: metadata record type %d", ErrVersion, t)
	}
	version = int16(v)
	return m, version, ReadExactly(r, m, version)
}

// maxRecordType is the largest type or version that an int16 holds.
const maxRecordType = 1<<15 - 1

// CoordinatorKey is the key of a record that a coordinator keeps in its
// internal topic: __consumer_offsets, __transaction_state or
// __share_group_state.
type CoordinatorKey interface {
	Message
	// CoordinatorRecordType numbers the kinds of records of one coordinator.
	CoordinatorRecordType() int16
}

// AppendCoordinatorKey appends a record's key: the int16 type, then the body,
// whose version is 0 for all keys.
func AppendCoordinatorKey(dst []byte, key CoordinatorKey) ([]byte, error) {
	return key.AppendTo(AppendInt16(dst, key.CoordinatorRecordType()), 0)
}

// AppendCoordinatorValue appends a record's value: the int16 version, then the
// body in that version.
func AppendCoordinatorValue(dst []byte, value Message, version int16) ([]byte, error) {
	return value.AppendTo(AppendInt16(dst, version), version)
}

// ReadCoordinatorKey reads a record's key, all of it; newKey is NewGroupKey,
// NewTransactionKey or NewShareKey. The key aliases b. The error wraps
// ErrVersion for a type that the codec lacks, else ErrMalformed.
func ReadCoordinatorKey(b []byte, newKey func(recordType int16) CoordinatorKey) (CoordinatorKey, error) {
	r := NewReader(b)
	t := r.Int16()
	if r.failed() {
		return nil, r.Err()
	}
	key := newKey(t)
	if key == nil {
		return nil, fmt.Errorf("%w: coordinator record type %d", ErrVersion, t)
	}
	return key, ReadExactly(r, key, 0)
}

// ReadCoordinatorValue reads a record's value into value, all of it, and
// returns its version. It aliases b. The error is that of ReadFrom.
func ReadCoordinatorValue(b []byte, value Message) (version int16, err error) {
	r := NewReader(b)
	version = r.Int16()
	if r.failed() {
		return version, r.Err()
	}
	return version, ReadExactly(r, value, version)
}
