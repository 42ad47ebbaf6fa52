package wire_test

import (
	"bytes"
	"testing"

	"github.com/barnabas-log/barnabas/wire"
)

// FuzzRequests reads any bytes as any request: the first byte picks the kind,
// the second the version. Nothing panics; memory stays within a multiple of the
// input; what is accepted can be written, and reads the same again.
func FuzzRequests(f *testing.F) {
	apis := wire.APIs()
	f.Add([]byte{16, 3, 2, 'a', 2, 'b', 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 2 {
			return
		}
		api := apis[int(data[0])%len(apis)]
		highest := api.MaxVersion
		if api.LatestUnstable {
			highest++
		}
		version := api.MinVersion + int16(data[1])%(highest-api.MinVersion+1)
		stable(t, data[2:], version, func() wire.Message { return api.NewRequest() })
	})
}

// FuzzResponses is FuzzRequests for answers, which a client reads from a broker
// that it need not trust.
func FuzzResponses(f *testing.F) {
	apis := wire.APIs()
	f.Add([]byte{16, 3, 0, 0, 1, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) < 2 {
			return
		}
		api := apis[int(data[0])%len(apis)]
		version := api.MinVersion + int16(data[1])%(api.MaxVersion-api.MinVersion+1)
		stable(t, data[2:], version, func() wire.Message { return api.NewRequest().NewResponse() })
	})
}

func stable(t *testing.T, frame []byte, version int16, newMessage func() wire.Message) {
	t.Helper()
	m := newMessage()
	var err error
	spent := allocated(func() { err = wire.ReadExactly(wire.NewReader(frame), m, version) })
	// Twice the budget: size classes round up, and the fuzzer allocates too.
	if limit := 2 * uint64(16*len(frame)+64<<10); spent > limit {
		t.Fatalf("%d bytes allocated for a frame of %d", spent, len(frame))
	}
	if err != nil {
		return
	}
	first, err := m.AppendTo(nil, version)
	if err != nil {
		t.Fatalf("%T %d was read but cannot be written: %v", m, version, err)
	}
	again := newMessage()
	if err := wire.ReadExactly(wire.NewReader(first), again, version); err != nil {
		t.Fatalf("%T %d was written but cannot be read: %v", m, version, err)
	}
	second, err := again.AppendTo(nil, version)
	if err != nil || !bytes.Equal(first, second) {
		t.Fatalf("%T %d: wrote\n%x, then\n%x, %v", m, version, first, second, err)
	}
}

func FuzzRequestHeader(f *testing.F) {
	f.Add([]byte("\x00\x12\x00\x03\x00\x00\x01\x02\x00\x03abc\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := wire.NewReader(b)
		h, err := wire.ReadRequestHeader(r)
		if err != nil {
			return
		}
		again, err := wire.ReadRequestHeader(wire.NewReader(wire.AppendRequestHeader(nil, h)))
		if err != nil || again.Key != h.Key || again.Version != h.Version || again.CorrelationID != h.CorrelationID {
			t.Fatalf("%v, then %v, %v", h, again, err)
		}
	})
}

// FuzzRecords reads any bytes as the records of the internal topics.
func FuzzRecords(f *testing.F) {
	f.Add([]byte{1, 2, 0, 2, 'a', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0, 1, 0, 1, 'g', 0, 1, 't', 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, version, err := wire.ReadMetadataRecord(b); err == nil {
			if _, err := wire.AppendMetadataRecord(nil, m, version); err != nil {
				t.Fatal(err)
			}
		}
		for _, newKey := range []func(int16) wire.CoordinatorKey{wire.NewGroupKey, wire.NewTransactionKey, wire.NewShareKey} {
			key, err := wire.ReadCoordinatorKey(b, newKey)
			if err != nil {
				continue
			}
			if again, err := wire.AppendCoordinatorKey(nil, key); err != nil || !bytes.Equal(again, b) {
				t.Fatalf("%x, then %x, %v", b, again, err)
			}
		}
		for recordType := range int16(32) {
			for _, value := range []wire.Message{wire.NewGroupValue(recordType), wire.NewTransactionValue(recordType), wire.NewShareValue(recordType)} {
				if value == nil {
					continue
				}
				version, err := wire.ReadCoordinatorValue(b, value)
				if err != nil {
					continue
				}
				if _, err := wire.AppendCoordinatorValue(nil, value, version); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// FuzzReader makes the calls that the input spells, over the rest of it.
func FuzzReader(f *testing.F) {
	f.Add([]byte{3, 8, 12, 13, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 {
			return
		}
		n := min(int(data[0]), len(data)-1)
		calls, frame := data[1:1+n], data[1+n:]
		r := wire.NewReader(frame)
		for _, c := range calls {
			before, failed := r.Remaining(), r.Err() != nil
			call(r, c)
			if r.Remaining() > before || r.Offset() > len(frame) || failed && r.Err() == nil {
				t.Fatalf("call %d: %d bytes remain of %d, %v", c, r.Remaining(), before, r.Err())
			}
			if r.Err() != nil && r.Remaining() != 0 {
				t.Fatalf("call %d: %d bytes remain after %v", c, r.Remaining(), r.Err())
			}
		}
	})
}

func call(r *wire.Reader, c byte) {
	compact := c&1 == 0
	switch c / 2 % 14 {
	case 0:
		r.Int8()
	case 1:
		r.Bool()
	case 2:
		r.Int16()
	case 3:
		r.Uint16()
	case 4:
		r.Int32()
	case 5:
		r.Int64()
	case 6:
		r.UUID()
	case 7:
		r.Uvarint()
	case 8:
		r.Varint()
	case 9:
		r.Text(compact)
	case 10:
		r.NullableText(compact)
	case 11:
		r.Blob(compact)
	case 12:
		r.NullableBlob(compact)
	case 13:
		r.SkipTags()
	}
}
