package wire_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/barnabas-log/barnabas/wire"
	"github.com/barnabas-log/barnabas/wire/wiretest"
)

// Kafka's own serdes read the records of the metadata log and of the
// coordinators, frames and version prefixes included, and write the same.
func TestKafkaRecordSerdes(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var in bytes.Buffer
	var want []string
	add := func(serde, hex string) {
		fmt.Fprintf(&in, "%s 0 %s\n", serde, hex)
		want = append(want, "ok "+hex)
	}
	for recordType := range wire.MetadataRecordType(64) {
		if wire.NewMetadataRecord(recordType) == nil {
			continue
		}
		_, highest := wiretest.Versions(wire.NewMetadataRecord(recordType))
		m := wire.NewMetadataRecord(recordType)
		// Kafka's serde writes the highest version only.
		wiretest.Fill(rng, m, highest)
		b, err := wire.AppendMetadataRecord(nil, m, highest)
		if err != nil {
			t.Fatalf("%v: %v", recordType, err)
		}
		back, version, err := wire.ReadMetadataRecord(b)
		if err != nil || version != highest || back.MetadataRecordType() != recordType {
			t.Fatalf("%v: read %v %d, %v", recordType, back, version, err)
		}
		add("?metadata", fmt.Sprintf("%x", b))
	}
	coordinator := func(serde string, newKey func(int16) wire.CoordinatorKey, newValue func(int16) wire.Message) {
		for recordType := range int16(64) {
			key := newKey(recordType)
			if key == nil {
				continue
			}
			value := newValue(recordType)
			wiretest.Fill(rng, key, 0)
			lowest, highest := wiretest.Versions(newValue(recordType))
			for version := lowest; version <= highest; version++ {
				wiretest.Fill(rng, value, version)
				k, err := wire.AppendCoordinatorKey(nil, key)
				if err != nil {
					t.Fatalf("%s %d: %v", serde, recordType, err)
				}
				v, err := wire.AppendCoordinatorValue(nil, value, version)
				if err != nil {
					t.Fatalf("%s %d: %v", serde, recordType, err)
				}
				add(serde, fmt.Sprintf("%x:%x", k, v))
			}
		}
	}
	coordinator("?group", wire.NewGroupKey, wire.NewGroupValue)
	coordinator("?transaction", wire.NewTransactionKey, wire.NewTransactionValue)
	answers := echo(t, &in)
	if len(answers) != len(want) {
		t.Fatalf("%d answers to %d records", len(answers), len(want))
	}
	for i := range want {
		if answers[i] != want[i] {
			t.Errorf("Kafka answers\n%s, want\n%s", answers[i], want[i])
		}
	}
	t.Logf("%d records", len(want))
}
