package api

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/barnabas-log/barnabas/wire"
)

var rewrite = flag.Bool("rewrite", false, "write the table of APIs in docs/compatibility.md anew")

const (
	compatibilityPage = "../../docs/compatibility.md"
	tableBegins       = "<!-- begin: made by internal/api -->\n"
	tableEnds         = "<!-- end: made by internal/api -->\n"
)

// TestCompatibilityPage: the table that users read is made of what is served.
func TestCompatibilityPage(t *testing.T) {
	b, err := os.ReadFile(compatibilityPage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(b), tableBegins)
	_, after, ok2 := strings.Cut(rest, tableEnds)
	if !ok1 || !ok2 {
		t.Fatal("docs/compatibility.md has no place for the table")
	}
	want := before + tableBegins + apiTable(t) + tableEnds + after
	if *rewrite {
		if err := os.WriteFile(compatibilityPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want != string(b) {
		t.Error("docs/compatibility.md is not what is served: run go test ./internal/api -rewrite")
	}
}

func apiTable(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("| Key | API | Kafka 4.4.0 | Barnabas | Remarks |\n|---:|---|---|---|---|\n")
	notes := remarks()
	for key := range wire.Key(95) {
		api, ok := wire.LookupAPI(key)
		name, kafka := key.String(), "–"
		if ok {
			kafka = versions(api.MinVersion, api.MaxVersion)
		}
		state, note := "not yet", notes[key]
		if served[key] != nil {
			if state = "works"; note != "" {
				state = "partial"
			}
			if ours := versions(served[key].min, served[key].max); ours != kafka {
				state += ", " + ours
			}
		}
		switch {
		case !ok:
			state, note = "–", "removed in Kafka 4.0"
		case served[key] == nil && api.Listeners&wire.OnBroker == 0:
			state, note = "–", "between controllers; no client sends it"
		}
		delete(notes, key)
		fmt.Fprintf(&b, "| %d | %s | %s | %s | %s |\n", key, name, kafka, state, note)
	}
	for key := range notes {
		t.Errorf("a remark on %v, which is not in the table", key)
	}
	return b.String()
}

func versions(low, high int16) string {
	if low == high {
		return fmt.Sprint(low)
	}
	return fmt.Sprintf("%d–%d", low, high)
}

// remarks say what is missing in what is partial, and who serves what is not.
func remarks() map[wire.Key]string {
	return map[wire.Key]string{
		wire.ProduceKey:         "works as far as one node can; advertised from 0, as Kafka does for librdkafka",
		wire.FetchKey:           "no follower fetches; no preferred replica is ever named",
		wire.MetadataKey:        "no authorizer: everybody may do everything",
		wire.DescribeAclsKey:    "no authorizer yet: SECURITY_DISABLED, as Kafka answers without one",
		wire.CreateAclsKey:      "as DescribeAcls",
		wire.DeleteAclsKey:      "as DescribeAcls",
		wire.FindCoordinatorKey: "share groups have no coordinator yet: COORDINATOR_NOT_AVAILABLE",
	}
}
