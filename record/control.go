package record

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/barnabas-log/barnabas/model"
)

// ControlType says what a control record means.
type ControlType int16

// The control records of Kafka: the first two end transactions (KIP-98), the
// others belong to the metadata log (KIP-595, KIP-630, KIP-853).
const (
	Abort ControlType = iota
	Commit
	LeaderChange
	SnapshotHeader
	SnapshotFooter
	KRaftVersion
	KRaftVoters
)

// String returns the name that Kafka's tools print.
func (t ControlType) String() string {
	switch t {
	case Abort:
		return "ABORT"
	case Commit:
		return "COMMIT"
	case LeaderChange:
		return "LEADER_CHANGE"
	case SnapshotHeader:
		return "SNAPSHOT_HEADER"
	case SnapshotFooter:
		return "SNAPSHOT_FOOTER"
	case KRaftVersion:
		return "KRAFT_VERSION"
	case KRaftVoters:
		return "KRAFT_VOTERS"
	}
	return "UNKNOWN"
}

// ErrControl says that a control record cannot be read, or that there is none.
var ErrControl = errors.New("record: no control record")

// Control is a control record.
type Control struct {
	Type ControlType
	// CoordinatorEpoch is that of the transaction coordinator which wrote an
	// Abort or Commit.
	CoordinatorEpoch int32
	// Value is the record's value, a versioned message of the type's own.
	Value []byte
}

// Control reads the first record of a control batch. ErrControl also stands
// for a batch that compaction emptied.
func (b Batch) Control() (Control, error) {
	if !b.IsControl() || b.Count() < 1 {
		return Control{}, ErrControl
	}
	for r, err := range b.Records(maxControl) {
		if err != nil {
			return Control{}, err
		}
		return ParseControl(r)
	}
	return Control{}, ErrControl
}

// maxControl bounds a compressed control batch, which no Kafka writes. A list
// of voters stays far below.
const maxControl = 1 << 20

// ParseControl reads a record of a control batch. As Kafka does, it takes
// versions newer than it knows for the newest it knows.
func ParseControl(r Record) (Control, error) {
	if len(r.Key) < 4 {
		return Control{}, fmt.Errorf("%w: key of %d bytes", ErrControl, len(r.Key))
	}
	if v := int16(binary.BigEndian.Uint16(r.Key)); v < 0 {
		return Control{}, fmt.Errorf("%w: key version %d", ErrControl, v)
	}
	c := Control{Type: ControlType(binary.BigEndian.Uint16(r.Key[2:])), Value: r.Value}
	if c.Type == Abort || c.Type == Commit {
		if len(r.Value) < 6 {
			return Control{}, fmt.Errorf("%w: %s value of %d bytes", ErrControl, c.Type, len(r.Value))
		}
		if v := int16(binary.BigEndian.Uint16(r.Value)); v < 0 {
			return Control{}, fmt.Errorf("%w: %s value version %d", ErrControl, c.Type, v)
		}
		c.CoordinatorEpoch = int32(binary.BigEndian.Uint32(r.Value[2:]))
	}
	return c, nil
}

// ControlRecord is the record that means t, with the value given.
func ControlRecord(t ControlType, timestamp int64, value []byte) Record {
	key := binary.BigEndian.AppendUint16(make([]byte, 0, 4), 0) // version
	return Record{Timestamp: timestamp, Key: binary.BigEndian.AppendUint16(key, uint16(t)), Value: value}
}

// EndTxnMarker is the batch that ends a producer's transaction, as a
// coordinator of that epoch writes it.
func EndTxnMarker(id model.ProducerID, epoch int16, coordinatorEpoch int32, t ControlType, timestamp int64) Batch {
	value := binary.BigEndian.AppendUint16(make([]byte, 0, 6), 0) // version
	value = binary.BigEndian.AppendUint32(value, uint32(coordinatorEpoch))
	return one(BuilderOptions{Producer: &Producer{ID: id, Epoch: epoch, Sequence: NoSequence}, Transactional: true, Control: true},
		ControlRecord(t, timestamp, value))
}

// LeaderChangeBatch begins a leadership of the metadata log (KIP-595, message
// version 0): who leads, who may vote, who voted for the leader.
func LeaderChangeBatch(base model.Offset, epoch model.Epoch, timestamp int64, leader model.NodeID, voters, granting []model.NodeID) Batch {
	value := binary.BigEndian.AppendUint16(nil, 0) // version
	value = binary.BigEndian.AppendUint32(value, uint32(leader))
	for _, nodes := range [][]model.NodeID{voters, granting} {
		value = appendUvarlong(value, uint64(len(nodes)+1))
		for _, n := range nodes {
			value = binary.BigEndian.AppendUint32(value, uint32(n))
			value = append(value, 0) // no tagged fields
		}
	}
	value = append(value, 0)
	return one(BuilderOptions{BaseOffset: base, LeaderEpoch: epoch, Control: true}, ControlRecord(LeaderChange, timestamp, value))
}

// SnapshotHeaderRecord begins a snapshot of the metadata log (KIP-630): the
// timestamp is that of the last record it covers.
func SnapshotHeaderRecord(timestamp, lastContained int64) Record {
	value := binary.BigEndian.AppendUint16(nil, 0) // version
	value = binary.BigEndian.AppendUint64(value, uint64(lastContained))
	return ControlRecord(SnapshotHeader, timestamp, append(value, 0))
}

// SnapshotFooterRecord ends a snapshot.
func SnapshotFooterRecord(timestamp int64) Record {
	return ControlRecord(SnapshotFooter, timestamp, []byte{0, 0, 0})
}

// one builds a batch of one small record, which cannot fail.
func one(o BuilderOptions, r Record) Batch {
	b := NewBuilder(o)
	if err := b.Add(r); err != nil {
		panic(err)
	}
	_, batch, err := b.Build(nil)
	if err != nil {
		panic(err)
	}
	return batch
}
