package config

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// kafkaAnswers is a recording of Apache Kafka 4.4.0: the properties it was started with, and what DescribeConfigs then said.
type kafkaAnswers struct {
	Properties map[string]string
	Topics     []struct {
		Overrides map[string]string
		Entries   []kafkaEntry
	}
	Broker []kafkaEntry
}

type kafkaEntry struct {
	Name      string
	Value     *string
	Source    Source
	Type      Type
	ReadOnly  bool `json:"read_only"`
	Sensitive bool
	Synonyms  []SynonymEntry
}

func TestDescribeAsKafka(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.json")
	if len(files) != 3 {
		t.Fatalf("found %d recordings, want 3", len(files))
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { testDescribeAsKafka(t, file) })
	}
}

func testDescribeAsKafka(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var want kafkaAnswers
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	b := brokerAsKafka(t, want.Properties)
	compareEntries(t, "broker", DescribeBroker(b), want.Broker)
	for _, topic := range want.Topics {
		compareEntries(t, "topic", DescribeTopic(b, topic.Overrides), topic.Entries)
	}
}

// brokerAsKafka starts from the same properties, with the one config that Kafka's format step sets for the whole cluster.
func brokerAsKafka(t *testing.T, properties map[string]string) *Broker {
	t.Helper()
	var file bytes.Buffer
	file.WriteString("# as recorded\n")
	for name, value := range properties {
		file.WriteString(name + "=" + value + "\n")
	}
	b, _, err := Load(Sources{File: "server.properties", FileData: file.Bytes(), MemoryBytes: 8 << 30})
	if err != nil {
		t.Fatal(err)
	}
	isr := properties["min.insync.replicas"]
	if isr == "" {
		isr = "1"
	}
	b, err = b.WithDynamic(nil, map[string]string{"min.insync.replicas": isr})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// compareEntries compares everything but the texts. The order counts where nothing unusual is set: Kafka's own order is that of a
// hash table, in which an extra key may stand anywhere.
func compareEntries(t *testing.T, what string, got []Entry, want []kafkaEntry) {
	t.Helper()
	var ours []kafkaEntry
	for _, e := range got {
		if e.Ours {
			continue
		}
		if e.Doc == "" && e.Type != Unknown {
			t.Errorf("%s: %s has no documentation", what, e.Name)
		}
		ours = append(ours, kafkaEntry{e.Name, e.Value, e.Source, e.Type, e.ReadOnly, e.Sensitive, e.Synonyms})
	}
	if slices.ContainsFunc(want, func(e kafkaEntry) bool {
		k, ok := LookupBrokerKey(e.Name)
		return !ok && e.Type == Unknown || k.Internal || e.Name == "internal.segment.bytes"
	}) {
		byName := func(a, b kafkaEntry) int { return strings.Compare(a.Name, b.Name) }
		slices.SortFunc(ours, byName)
		slices.SortFunc(want, byName)
	}
	if d := cmp.Diff(want, ours); d != "" {
		t.Errorf("%s: Kafka's answer and ours differ (-kafka +ours):\n%s", what, d)
	}
}

// TestTopicValuesAsKafka replays what CreateTopics of Kafka 4.4.0 said to good and bad configs.
func TestTopicValuesAsKafka(t *testing.T) {
	data, err := os.ReadFile("testdata/topic_values.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	b := brokerAsKafka(t, nil)
	lines := 0
	for s := bufio.NewScanner(bytes.NewReader(data)); s.Scan(); lines++ {
		var c struct {
			Configs [][2]*string
			Code    int
			Message string
		}
		if err := json.Unmarshal(s.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		var configs []Override
		for _, kv := range c.Configs {
			configs = append(configs, Override{*kv[0], kv[1]})
		}
		overrides, err := CheckTopic(b, configs)
		message := ""
		if err != nil {
			message = err.Error()
		}
		if message != c.Message {
			t.Errorf("%s\nKafka: %s\nours:  %s", s.Text(), c.Message, message)
		}
		if err == nil {
			if _, err := ResolveTopic(b, overrides); err != nil {
				t.Errorf("%s: accepted, then %v", s.Text(), err)
			}
		}
	}
	if lines < 380 {
		t.Errorf("replayed only %d cases", lines)
	}
}

func TestKeyTables(t *testing.T) {
	isOurs := func(k Key) bool { return k.Ours }
	if n := len(slices.DeleteFunc(TopicKeys(), isOurs)); n != 38 {
		t.Errorf("%d topic keys of Kafka's 38", n)
	}
	if n := len(slices.DeleteFunc(BrokerKeys(), isOurs)); n != 382 {
		t.Errorf("%d broker keys of Kafka's 379 and of three that can only be set while it runs", n)
	}
	for _, keys := range [][]Key{TopicKeys(), BrokerKeys()} {
		seen := map[string]bool{}
		for _, k := range keys {
			if seen[k.Name] {
				t.Errorf("%s is there twice", k.Name)
			}
			seen[k.Name] = true
			if k.Doc == "" || !strings.HasSuffix(k.Doc, ".") {
				t.Errorf("%s: no sentence: %q", k.Name, k.Doc)
			}
			if k.HasDefault && k.Status != NotApplicable {
				if err := k.Validate(k.Default); err != nil {
					t.Errorf("%s: its own default is refused: %v", k.Name, err)
				}
			}
		}
	}
	order := topicParseOrder()
	slices.Sort(order)
	var names []string
	for _, k := range TopicKeys() {
		names = append(names, k.Name)
	}
	slices.Sort(names)
	if d := cmp.Diff(names, order); d != "" {
		t.Errorf("the parse order and the table differ:\n%s", d)
	}
}
