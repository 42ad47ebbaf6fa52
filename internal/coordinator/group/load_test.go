package group

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// What is not ours is skipped: share groups, streams groups, and what later
// versions of Kafka may write.
func TestOthersRecordsAreSkipped(t *testing.T) {
	m := New(Options{Settings: quick()})
	ours := map[int16]bool{
		legacyOffsetRecord: true, offsetRecord: true, wire.GroupMetadataRecordType: true, wire.ConsumerGroupMetadataRecordType: true,
		wire.ConsumerGroupPartitionMetadataRecordType: true, wire.ConsumerGroupMemberMetadataRecordType: true,
		wire.ConsumerGroupTargetAssignmentMetadataRecordType: true, wire.ConsumerGroupTargetAssignmentMemberRecordType: true,
		wire.ConsumerGroupCurrentMemberAssignmentRecordType: true, wire.ConsumerGroupRegularExpressionRecordType: true,
	}
	kinds := 0
	for kind := range int16(100) {
		if ours[kind] {
			continue
		}
		key := append(binary.BigEndian.AppendUint16(nil, uint16(kind)), "anything"...)
		if known := wire.NewGroupKey(kind); known != nil {
			kinds++
			var err error
			if key, err = wire.AppendCoordinatorKey(nil, known); err != nil {
				t.Fatal(err)
			}
		}
		for _, value := range [][]byte{nil, {0, 0}, []byte("anything")} {
			if err := m.Apply(coordinator.Origin{}, key, value); err != nil {
				t.Errorf("type %d: %v", kind, err)
			}
		}
	}
	if kinds < 10 { // Those of share groups and of streams groups.
		t.Errorf("%d kinds are known", kinds)
	}
	if d := m.dump(); d != "" || len(m.groups) > 0 {
		t.Error(d)
	}
}

// Values of versions to come are skipped, too; what is broken is an error.
func TestRecordsThatCannotBeRead(t *testing.T) {
	f := func(name string, key wire.CoordinatorKey, value []byte, want error) {
		t.Helper()
		k, err := wire.AppendCoordinatorKey(nil, key)
		if err != nil {
			t.Fatal(err)
		}
		m := New(Options{Settings: quick()})
		err = m.Apply(coordinator.Origin{}, k, value)
		if !errors.Is(err, want) || (err != nil) != (want != nil) || m.dump() != "" {
			t.Errorf("%s: %v\n%s", name, err, m.dump())
		}
	}
	offset := &wire.OffsetCommitRecordKey{Group: "g", Topic: "t", Partition: 1}
	f("offset of version 9", offset, []byte{0, 9, 1, 2}, nil)
	f("half an offset", offset, []byte{0, 4, 0, 0, 0}, wire.ErrMalformed)
	f("a value without version", offset, []byte{0}, wire.ErrMalformed)
	f("classic group of version 9", &wire.GroupMetadataRecordKey{Group: "g"}, []byte{0, 9}, nil)
	f("half a classic group", &wire.GroupMetadataRecordKey{Group: "g"}, []byte{0, 3, 0}, wire.ErrMalformed)
	f("member of version 1", &wire.ConsumerGroupMemberMetadataRecordKey{GroupID: "g", MemberID: "m"}, []byte{0, 1}, nil)
	f("half a member", &wire.ConsumerGroupMemberMetadataRecordKey{GroupID: "g", MemberID: "m"}, []byte{0, 0, 1}, wire.ErrMalformed)

	for _, key := range [][]byte{nil, {0}, {0, 1}, {0, 1, 0, 5, 'g'}, {0, 2, 0, 1, 'g', 'x'}} {
		if err := New(Options{}).Apply(coordinator.Origin{}, key, nil); err == nil {
			t.Errorf("key %x is taken", key)
		}
	}
}

// Offsets of long ago have keys of type 0 and values without leader epoch.
func TestOldOffsets(t *testing.T) {
	m := New(Options{Settings: quick()})
	apply := func(kind int16, partition int32, value string) {
		t.Helper()
		k := binary.BigEndian.AppendUint32(append(binary.BigEndian.AppendUint16(nil, uint16(kind)), "\x00\x01g\x00\x01t"...), uint32(partition))
		if err := m.Apply(coordinator.Origin{}, k, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	apply(0, 0, "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07\x00\x02me\x00\x00\x00\x00\x00\x00\x00\x05")
	apply(1, 1, "\x00\x01\x00\x00\x00\x00\x00\x00\x00\x08\x00\x02me\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x09")
	apply(1, 2, "\x00\x03\x00\x00\x00\x00\x00\x00\x00\x09\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x06")
	apply(1, 0, "\x00\x02\x00\x00\x00\x00\x00\x00\x00\x0a\x00\x02me\x00\x00\x00\x00\x00\x00\x00\x05")
	want := `group g
  t-0 is at 10 epoch -1 "me", since 5 until -1, topic AAAAAAAAAAAAAAAAAAAAAA
  t-1 is at 8 epoch -1 "me", since 5 until 9, topic AAAAAAAAAAAAAAAAAAAAAA
  t-2 is at 9 epoch 3 "", since 6 until -1, topic AAAAAAAAAAAAAAAAAAAAAA
`
	if diff := cmp.Diff(want, m.dump()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A marker of a producer that the shard never heard of changes nothing.
func TestMarkerOfAStranger(t *testing.T) {
	m := New(Options{})
	if err := m.ApplyMarker(coordinator.Origin{Producer: &record.Producer{ID: 7}}, true); err != nil || m.dump() != "" {
		t.Errorf("%v\n%s", err, m.dump())
	}
}
