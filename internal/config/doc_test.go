package config

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write docs/configuration.md anew")

const docFile = "../../docs/configuration.md"

// TestConfigurationPage: the page that users read is made of the tables that the broker runs by.
func TestConfigurationPage(t *testing.T) {
	want := configurationPage()
	if *rewrite {
		if err := os.WriteFile(docFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/configuration.md is not what the tables say: run go test ./internal/config -rewrite")
	}
}

const pageHead = `# Configuration

*Made from the tables of internal/config by its test (` + "`go test ./internal/config -rewrite`" + `): change them, not this page.*

Barnabas takes Kafka's keys under Kafka's names, with the defaults of Apache Kafka 4.4.0. Of one key the first of these counts:

1. a flag of ` + "`barnabas serve`" + ` (` + "`--data-dir`" + ` is log.dirs, ` + "`--node-id`" + ` is node.id, ` + "`--http`" + ` is http.listen);
2. ` + "`-o key=value`" + `;
3. the environment: BARNABAS_ and the key in capitals with underscores, as in BARNABAS_LOG_DIRS; also BARNABAS_DATA_DIR,
   BARNABAS_LISTEN, BARNABAS_ADVERTISE and BARNABAS_HTTP. An empty variable counts as absent;
4. the file of ` + "`--config`" + `: YAML if it ends in .yaml or .yml (flat, the same keys, lists as lists or with commas), else Kafka's
   server.properties;
5. the default.

Unknown keys are errors in YAML, in flags and in ` + "`-o`" + `. In a server.properties file, unknown keys and those that do not apply to
Barnabas are named in one warning, so that a file made for Kafka starts. ` + "`--listen`" + ` and ` + "`--advertise`" + ` make PLAINTEXT
listeners; listeners and advertised.listeners, wherever they are set, win over them. Where Kafka has several keys for one meaning (log.dirs
and log.dir, the units of log.retention and log.roll), the strongest place that sets one of them hides all of them in the weaker places.

**Status**: *works*; *partial*: some values or effects are missing; *later*: accepted, shown, without effect so far; *not applicable*: it
belongs to the JVM or to a part of Kafka that is solved otherwise here. Keys marked † are ours and unknown to Kafka. **Test** is the test that
fails when the setting is ignored, below internal or the root of the repository.
`

const brokerIntro = `*Changeable* is Kafka's update mode. Of *cluster-wide* keys, ` + "`IncrementalAlterConfigs`" + ` may change the value of all brokers (the broker
resource with an empty name) and of a single one, of *per-broker* keys only that of a single one; *read-only* keys are those of the file. What is
set while the broker runs counts before flags, environment and file, that of the one broker before that of all; it takes effect at once, unless
the key says otherwise, and survives a restart.
`

const laterIntro = `They wait for what they are about: further nodes (replicas and what brokers ask each other), tiered storage (remote keys), TLS and
SASL (ssl, sasl and delegation keys), share groups and streams groups.

`

func configurationPage() string {
	var b strings.Builder
	b.WriteString(pageHead)
	b.WriteString("\n## Topics\n\nA topic that does not set a key takes it from the broker keys in the last column, the first that has a value.\n\n")
	resourceTable(&b, TopicKeys())
	b.WriteString("\n## Broker\n\n" + brokerIntro)
	for _, status := range []Status{Works, Partial, Later, NotApplicable} {
		fmt.Fprintf(&b, "\n### %s\n\n", strings.ToUpper(status.String()[:1])+status.String()[1:])
		if status == Later {
			b.WriteString(laterIntro)
		}
		b.WriteString("| Key | Type | Default | Changeable | What it does | Test |\n|---|---|---|---|---|---|\n")
		for _, k := range byName(BrokerKeys()) {
			if k.Status == status {
				fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", mark(k), strings.ToLower(k.Type.String()), defaultText(k), k.Update, k.Doc, testText(k))
			}
		}
	}
	b.WriteString("\n## Groups\n\nA group that does not set a key takes it from the broker key in the last column.\n\n")
	resourceTable(&b, GroupKeys())
	b.WriteString("\n## Client metrics\n\nWhat clients are asked to send of their own metrics (KIP-714), by subscription.\n\n")
	resourceTable(&b, ClientMetricsKeys())
	return b.String()
}

// resourceTable lists keys of topics and the like, whatever their status.
func resourceTable(b *strings.Builder, keys []Key) {
	b.WriteString("| Key | Type | Default | Status | What it does | Test | From the broker |\n|---|---|---|---|---|---|---|\n")
	for _, k := range byName(keys) {
		var from []string
		for _, s := range k.Synonyms {
			from = append(from, s.Name)
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s |\n",
			mark(k), strings.ToLower(k.Type.String()), defaultText(k), k.Status, k.Doc, testText(k), strings.Join(from, ", "))
	}
}

// testText names the test of keys that work.
func testText(k Key) string {
	if k.Status == Works || k.Status == Partial {
		return k.Test
	}
	return ""
}

func byName(keys []Key) []Key {
	slices.SortFunc(keys, func(a, b Key) int { return cmp.Compare(a.Name, b.Name) })
	return keys
}

func mark(k Key) string {
	if k.Ours {
		return k.Name + " †"
	}
	return k.Name
}

func defaultText(k Key) string {
	switch {
	case !k.HasDefault:
		return "–"
	case k.Default == "":
		return "(empty)"
	}
	return "`" + k.Default + "`"
}
