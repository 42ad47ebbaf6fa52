package record_test

import (
	"errors"
	"testing"

	"github.com/barnabas-log/barnabas/record"
)

func seeds(f *testing.F) {
	for _, b := range javaBatches(f) {
		f.Add([]byte(b))
	}
	for line := range lines(f, "testdata/kafka-4.4.0-verdicts.txt") {
		if i := lastTab(line); i > 0 && line[0] != '#' {
			f.Add(unhex(f, line[i+1:]))
		}
	}
}

func lastTab(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '\t' {
			return i
		}
	}
	return -1
}

// What Check takes, Records reads: as many records, the same maximum, and Check
// has nothing more to change the second time.
func FuzzCheck(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := record.Single(data)
		if err != nil {
			return
		}
		b.UpdateCRC()
		o := record.CheckOptions{Name: "t-0", Now: 1 << 41}
		claimed := b.IsLogAppendTime() // Its header is believed, as Kafka does, although the records say otherwise.
		info, err := record.Check(b, o)
		if err != nil {
			if e := new(record.Error); !errors.As(err, &e) || e.Kind == 0 || e.Message == "" {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		n, maximum := int32(0), record.NoTimestamp
		for r, err := range b.Records(0) {
			if err != nil {
				t.Fatalf("checked batch does not read: %v", err)
			}
			n++
			maximum = max(maximum, r.Timestamp)
		}
		if n != info.Count || n != b.Count() {
			t.Fatalf("%d records, Check said %d", n, info.Count)
		}
		if maximum != info.MaxTimestamp && !info.Rewritten {
			t.Fatalf("maximum %d, Check said %d", maximum, info.MaxTimestamp)
		}
		if again, err := record.Check(b, o); err != nil || again.Rewritten && !claimed {
			t.Fatalf("second check: %+v, %v", again, err)
		}
		if _, err := record.Recompress(b, record.LZ4, record.DefaultLevel, 0); err != nil {
			t.Fatalf("checked batch does not recompress: %v", err)
		}
	})
}

// No input makes Records panic or yield more than the header promises.
func FuzzRecords(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		b, _, err := record.Next(data)
		if err != nil {
			return
		}
		n := int32(0)
		for r, err := range b.Records(1 << 20) {
			if err != nil {
				break
			}
			if b.IsControl() {
				_, _ = record.ParseControl(r)
			}
			if n++; n > b.Count() {
				t.Fatalf("more than %d records", b.Count())
			}
		}
	})
}

// Decompress stays within its limit, and gives the same answer twice.
func FuzzDecompress(f *testing.F) {
	for _, b := range javaBatches(f) {
		f.Add(uint8(b.Codec()), []byte(b.Payload()))
	}
	f.Fuzz(func(t *testing.T, codec uint8, data []byte) {
		const limit = 1 << 16
		c := record.Codec(codec % 6)
		buf, err := record.Decompress(c, data, limit)
		if err != nil {
			if !errors.Is(err, record.ErrTooBig) && !errors.Is(err, record.ErrCompressed) && !errors.Is(err, record.ErrCodec) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		first := string(buf.Bytes())
		if len(first) > limit {
			t.Fatalf("%d bytes", len(first))
		}
		buf.Release()
		again, err := record.Decompress(c, data, limit)
		if err != nil || string(again.Bytes()) != first {
			t.Fatalf("second time: %v", err)
		}
		again.Release()
	})
}
