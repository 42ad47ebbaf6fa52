package metadata

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

var rewrite = flag.Bool("rewrite", false, "rewrite testdata/kafka-4.4.0.txt")

// The metadata log of an Apache Kafka 4.4.0 with one topic, made with its
// tools: every record is understood, none is left over, and it is read as
// testdata/kafka-4.4.0.txt says.
func TestKafkasOwnLog(t *testing.T) {
	b, err := os.ReadFile("testdata/kafka-4.4.0.log")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	k := NewTracker(Empty())
	for len(b) > 0 {
		var batch record.Batch
		if batch, b, err = record.Next(b); err != nil {
			t.Fatal(err)
		}
		if batch.IsControl() {
			k.Skip(batch.End())
			continue
		}
		var records []Record
		for r, err := range batch.Records(0) {
			if err != nil {
				t.Fatal(err)
			}
			m, version, err := wire.ReadMetadataRecord(r.Value)
			if err != nil {
				t.Fatal(err)
			}
			again, err := wire.AppendMetadataRecord(nil, m, version)
			if err != nil || string(again) != string(r.Value) {
				t.Errorf("%T at %d is not written as it was read: %v", m, r.Offset, err)
			}
			out = append(out, fmt.Sprintf("%d %T v%d", r.Offset, m, version))
			records = append(records, Record{m, version})
		}
		if _, err := k.Apply(batch.BaseOffset(), records); err != nil {
			t.Fatal(err)
		}
	}
	out = append(append(out, fmt.Sprintf("end %d", k.Image().End())), tell(k.Image())...)
	got := strings.Join(out, "\n") + "\n"
	if *rewrite {
		if err := os.WriteFile("testdata/kafka-4.4.0.txt", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/kafka-4.4.0.txt")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Error(diff)
	}
	copied, err := FromSnapshot(k.Image().End(), k.Image().Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tell(k.Image()), tell(copied)); diff != "" {
		t.Error(diff)
	}
}
