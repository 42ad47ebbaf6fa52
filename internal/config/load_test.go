package config

import (
	"errors"
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// load is the happy path, with a fixed memory.
func load(t *testing.T, s Sources) (*Broker, []string) {
	t.Helper()
	s.MemoryBytes = 8 << 30
	b, warnings, err := Load(s)
	if err != nil {
		t.Fatal(err)
	}
	return b, warnings
}

func TestDefaults(t *testing.T) {
	b, warnings := load(t, Sources{})
	want := Broker{
		NodeID: 1, Listeners: []Listener{{"PLAINTEXT", "127.0.0.1", 9092, "PLAINTEXT"}}, LogDirs: []string{"barnabas-data"},
		AutoCreateTopics: true, DeleteTopics: true, NumPartitions: 1, ReplicationFactor: 1, MaxPartitionsShown: 2000,
		RequestMaxBytes: 100 << 20, InFlightBytes: 2 << 30, FetchMaxBytes: 55 << 20, FetchSessions: 1000,
		SendBufferBytes: -1, ReceiveBufferBytes: -1, ListenBacklog: -1, ConnectionsMaxIdle: 10 * time.Minute,
		MaxConnections: 1<<31 - 1, MaxConnectionsPerIP: 1<<31 - 1, PerIPOverrides: map[string]int{}, MaxConnectionRate: 1<<31 - 1,
		ListenerLimits: map[string]ListenerLimits{"PLAINTEXT": {1<<31 - 1, 1<<31 - 1}},
		QuotaSamples:   11, QuotaSample: time.Second, MutationSamples: 11, MutationSample: time.Second,
		TelemetryMaxBytes: 1 << 20, LogFormat: "text", LogLevels: "info",
		ProducerExpiration: 24 * time.Hour, ProducerExpirationCheck: 10 * time.Minute, RetentionCheck: 5 * time.Minute,
		FirstTask: 30 * time.Second, FlushCheck: 1<<63 - 1, RecoveryCheckpoint: time.Minute, StartCheckpoint: time.Minute, WatermarkCheckpoint: 5 * time.Second,
		LogDirFailureTimeout: 30 * time.Second, RecoveryThreads: 2, HTTPListen: "127.0.0.1:9644",
		Disks: Disks{Cordoned: []string{}, MoveBytesPerSecond: 1<<63 - 1, MoveThreads: 1, Metadata: "barnabas-data"},
		Dafka: Dafka{MaxPartitions: 10_000},
		MetadataLog: MetadataLog{
			SegmentBytes: 1 << 30, SegmentAge: 7 * 24 * time.Hour, SnapshotBytes: 20 << 20, SnapshotInterval: time.Hour,
		},
		Cleaner: Cleaner{
			Enabled: true, Threads: 1, MapBytes: 128 << 20, MapLoad: 0.9, BufferBytes: 512 << 10,
			BytesPerSecond: math.Inf(1), Backoff: 15 * time.Second,
		},
		Coordinators: Coordinators{
			Offsets:      StateTopic{Partitions: 50, Replication: 3, SegmentBytes: 100 << 20},
			Transactions: StateTopic{Partitions: 50, Replication: 3, MinISR: 2, SegmentBytes: 100 << 20},
			Groups: Groups{
				InitialDelay: 3 * time.Second, MinSessionTimeout: 6 * time.Second, MaxSessionTimeout: 30 * time.Minute, MaxSize: 1<<31 - 1,
				MetadataMaxBytes: 4096, OffsetsRetention: 7 * 24 * time.Hour, OffsetsCheck: 10 * time.Minute, CommitTimeout: 5 * time.Second,
				Protocols: []string{"classic", "consumer", "streams"}, Assignors: []string{"uniform", "range"}, ConsumerMaxSize: 1<<31 - 1,
				MigrationPolicy: "bidirectional", ConsumerSession: 45 * time.Second, ConsumerHeartbeat: 5 * time.Second,
				MinConsumerSession: 45 * time.Second, MaxConsumerSession: time.Minute, MinHeartbeat: 5 * time.Second,
				MaxHeartbeat: 15 * time.Second, AssignmentInterval: time.Second, MaxAssignment: 15 * time.Second, RegexRefresh: 10 * time.Minute,
			},
			Txn: Txn{
				MaxTimeout: 15 * time.Minute, Expiration: 7 * 24 * time.Hour, AbortCheck: 10 * time.Second, ExpireCheck: time.Hour, Verify: true,
				AddPause: 20 * time.Millisecond, AddPatience: 100 * time.Millisecond,
			},
			MemoryBytes: 1 << 30,
		},
		Topic: Topic{
			Delete: true, Retention: 7 * 24 * time.Hour, RetentionBytes: -1, SegmentBytes: 1 << 30, SegmentAge: 7 * 24 * time.Hour,
			IndexBytes: 10 << 20, IndexInterval: 4096, FileDeleteDelay: time.Minute, MaxMessageBytes: 1048588,
			MaxDecompressedBytes: 1<<31 - 9, Compression: Compression{"producer", -1, 9, 3}, TimestampBefore: 1<<63 - 1,
			TimestampAfter: time.Hour, MinISR: 1, MinCleanableRatio: 0.5, DeleteRetention: 24 * time.Hour,
			MaxCompactionLag: 1<<63 - 1, FlushMessages: 1<<63 - 1, FlushInterval: 1<<63 - 1, FsyncAcks: true,
		},
	}
	ignore := cmp.FilterPath(func(p cmp.Path) bool {
		n := p.Last().String()
		return n == ".static" || n == ".clusterDefaults" || n == ".dynamic" || n == ".memoryBytes" || n == ".topicEntries"
	}, cmp.Ignore())
	if d := cmp.Diff(want, *b, ignore, cmp.AllowUnexported(Broker{})); d != "" {
		t.Errorf("defaults (-want +got):\n%s", d)
	}
	if len(warnings) > 0 {
		t.Errorf("warnings without reason: %q", warnings)
	}
}

// TestPrecedence takes one source away after another, the strongest first.
func TestPrecedence(t *testing.T) {
	s := Sources{
		Flags:    map[string]string{"num.partitions": "5"},
		Options:  []string{"num.partitions=3", "num.partitions=4"},
		Environ:  []string{"BARNABAS_NUM_PARTITIONS=3", "HOME=/root"},
		File:     "b.yaml",
		FileData: []byte("num.partitions: 2\n"),
	}
	want := int32(5)
	for _, weaken := range []func(){
		func() {}, func() { s.Flags = nil }, func() { s.Options = nil }, func() { s.Environ = nil }, func() { s.FileData = []byte{} },
	} {
		weaken()
		if b, _ := load(t, s); b.NumPartitions != want {
			t.Errorf("%d partitions, want %d", b.NumPartitions, want)
		}
		want--
	}
}

// TestOneMeaning: a strong source that names a weak key of a group hides the strong key of a weak source.
func TestOneMeaning(t *testing.T) {
	file := []byte("log.dirs=/a,/b\nlog.retention.ms=1000\nnode.id=7\nlog.roll.ms=5\n")
	b, _ := load(t, Sources{FileData: file, Options: []string{"log.dir=/c", "log.retention.hours=2", "broker.id=8", "log.roll.hours=3"}})
	if len(b.LogDirs) != 1 || b.LogDirs[0] != "/c" || b.Topic.Retention != 2*time.Hour || b.NodeID != 8 || b.Topic.SegmentAge != 3*time.Hour {
		t.Errorf("dirs %v, retention %v, node %d, roll %v", b.LogDirs, b.Topic.Retention, b.NodeID, b.Topic.SegmentAge)
	}
	b, _ = load(t, Sources{FileData: []byte("log.dir=/c\nlog.dirs=/a, /b\nlog.retention.hours=3\nlog.retention.minutes=1\n")})
	if d := cmp.Diff([]string{"/a", "/b"}, b.LogDirs); d != "" || b.Topic.Retention != time.Minute {
		t.Errorf("within one file the strong key counts: %s retention %v", d, b.Topic.Retention)
	}
}

func TestEnvironment(t *testing.T) {
	b, warnings := load(t, Sources{Environ: []string{
		"BARNABAS_DATA_DIR=/data", "BARNABAS_LISTEN=:9999", "BARNABAS_ADVERTISE=example.org", "BARNABAS_HTTP=127.0.0.1:1",
		"BARNABAS_BROKERS=x:1", "BARNABAS_NUM_PARTITION=3", "BARNABAS_LOG_RETENTION_MS=-1", "BARNABAS_NODE_ID=", "NOISE",
	}})
	if b.LogDirs[0] != "/data" || b.Listeners[0].Address() != ":9999" || b.Advertised[0].Address() != "example.org:9092" ||
		b.HTTPListen != "127.0.0.1:1" || !b.HTTPListenGiven || b.Topic.Retention >= 0 || b.NodeIDGiven {
		t.Errorf("got %+v", b)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "BARNABAS_NUM_PARTITION ") {
		t.Errorf("warnings %q", warnings)
	}
}

// TestListenersWin: a listeners key anywhere is stronger than --listen.
func TestListenersWin(t *testing.T) {
	file := []byte("listeners=plaintext://[::1]:19092\nadvertised.listeners=PLAINTEXT://b:2\n")
	b, warnings := load(t, Sources{FileData: file, Listen: "0.0.0.0:1", Advertise: "a:1"})
	if got := b.Listeners[0].String(); got != "PLAINTEXT://[::1]:19092" {
		t.Errorf("got %s", got)
	}
	want := []string{
		"--listen 0.0.0.0:1 has no effect, for listeners=plaintext://[::1]:19092 wins over it",
		"--advertise a:1 has no effect, for advertised.listeners=PLAINTEXT://b:2 wins over it",
	}
	if d := cmp.Diff(want, warnings); d != "" {
		t.Error(d)
	}
}

// TestHTTPListen: an address, or nothing, which the flag calls off.
func TestHTTPListen(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		b, _, err := Load(Sources{Environ: []string{"BARNABAS_HTTP=" + text}})
		if want == "refused" {
			if err == nil || !strings.Contains(err.Error(), "HOST:PORT") {
				t.Errorf("%q: %v", text, err)
			}
		} else if err != nil || b.HTTPListen != want {
			t.Errorf("%q: %v", text, err)
		}
	}
	f("off", "")
	f("0.0.0.0:1", "0.0.0.0:1")
	f(":1", ":1")
	f("[::1]:0", "[::1]:0")
	f("9644", "refused")
	f("localhost", "refused")
	f("localhost:http", "refused")
	f("localhost:70000", "refused")
}

// TestStockProperties reads a file like the one Kafka is shipped with: it starts, and warns once for each kind of idle key.
func TestStockProperties(t *testing.T) {
	b, warnings := load(t, Sources{File: "testdata/server.properties"})
	if d := cmp.Diff([]Listener{{"PLAINTEXT", "", 9092, "PLAINTEXT"}}, b.Listeners); d != "" {
		t.Errorf("listeners: %s", d)
	}
	if d := cmp.Diff([]Listener{{"PLAINTEXT", "localhost", 9092, "PLAINTEXT"}}, b.Advertised); d != "" {
		t.Errorf("advertised: %s", d)
	}
	if b.LogDirs[0] != "/tmp/kraft combined" || b.Topic.Retention != 168*time.Hour || b.NumPartitions != 1 || !b.NodeIDGiven {
		t.Errorf("got %q %v %d", b.LogDirs, b.Topic.Retention, b.NumPartitions)
	}
	if len(warnings) != 3 || !strings.Contains(warnings[0], "zookeeper.connect") || !strings.Contains(warnings[2], "num.io.threads") {
		t.Errorf("warnings: %q", warnings)
	}
}

// TestTyposInProperties: a key that nobody knows may be one of a plugin of Kafka's, and does no harm; or it is a typo.
func TestTyposInProperties(t *testing.T) {
	_, warnings := load(t, Sources{File: "k.properties", FileData: []byte("num.partition=3\nzookeeper.connect=x\nretention.ms=5\n")})
	want := "k.properties: unknown keys are ignored: num.partition (did you mean num.partitions?), " +
		"retention.ms (it is a config of topics; for all topics of the broker it is log.retention.ms), zookeeper.connect"
	if len(warnings) != 1 || warnings[0] != want {
		t.Errorf("%q", warnings)
	}
}

// TestContradictions: values that are good alone and cannot be together, with Kafka's words.
func TestContradictions(t *testing.T) {
	f := func(want string, options ...string) {
		t.Helper()
		b, _, err := Load(Sources{Options: options, MemoryBytes: 1 << 30})
		if err == nil || b != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", options, err, want)
		}
	}
	f("queued.max.request.bytes must be larger or equal to socket.request.max.bytes", "queued.max.request.bytes=1000")
	f("max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides property is set.", "max.connections.per.ip=0")
	f("log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread.", "log.cleaner.dedupe.buffer.size=2000000", "log.cleaner.threads=2")
	f("replica.socket.timeout.ms should always be at least replica.fetch.wait.max.ms", "replica.fetch.wait.max.ms=31000")
	f("connection.failed.authentication.delay.ms=100 should always be less than connections.max.idle.ms=50", "connections.max.idle.ms=50")
	f("max.connections.per.ip.overrides contains invalid addresses : a b", "max.connections.per.ip.overrides=a b:5")
	f("conflict topic config setting min.compaction.lag.ms (9) > max.compaction.lag.ms (8)",
		"log.cleaner.min.compaction.lag.ms=9", "log.cleaner.max.compaction.lag.ms=8")
}

// TestProperties compares with what java.util.Properties makes of the same text.
func TestProperties(t *testing.T) {
	f := func(text string, want map[string]string) {
		t.Helper()
		got, err := parseProperties([]byte(text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q: %s", text, d)
		}
	}
	f("", map[string]string{})
	f("a=b", map[string]string{"a": "b"})
	f("a = b ", map[string]string{"a": "b "})
	f("a:b\na b\r\na\tc\rd", map[string]string{"a": "c", "d": ""})
	f("a : = b", map[string]string{"a": "= b"})
	f("# a=b\n  ! c=d\n\n \t\n#x\\\ne=f", map[string]string{"e": "f"})
	f("a=b\\\n   c\\\r\n d\nx=y", map[string]string{"a": "bcd", "x": "y"})
	f("a=b\\\n# no comment", map[string]string{"a": "b# no comment"})
	f(`a\=b\:c\ d=e`, map[string]string{"a=b:c d": "e"})
	f(`a=\t\n\q\\`, map[string]string{"a": "\t\nq\\"})
	f(`a=\u00e4\uD83D\uDE00`, map[string]string{"a": "ä😀"})
	f("a=ä", map[string]string{"a": "ä"})
	f("a=\xe4", map[string]string{"a": "ä"})
	f("=b", map[string]string{"": "b"})
	f("a=\\", map[string]string{"a": ""})
	if _, err := parseProperties([]byte("x=y\na=\\u12G4")); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a broken escape: %v", err)
	}
}

func TestYAML(t *testing.T) {
	b, _ := load(t, Sources{File: "x.yml", FileData: []byte("log.dirs: [/a, /b]\nnum.partitions: 3\nauto.create.topics.enable: false\nlog.cleanup.policy: \"\"\n")})
	if len(b.LogDirs) != 2 || b.NumPartitions != 3 || b.AutoCreateTopics || b.Topic.Delete {
		t.Errorf("got %+v", b)
	}
}

// TestRefused lists what must not start, and the word that tells why.
func TestRefused(t *testing.T) {
	yaml := func(text string) Sources { return Sources{File: "x.yaml", FileData: []byte(text)} }
	o := func(options ...string) Sources { return Sources{Options: options} }
	f := func(s Sources, source bool, want string) {
		t.Helper()
		b, _, err := Load(s)
		if err == nil || b != nil {
			t.Errorf("%q: accepted", want)
			return
		}
		var value *InvalidError
		if !strings.Contains(err.Error(), want) || errors.Is(err, ErrSource) != source || errors.As(err, &value) == source {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	f(yaml("num.partition: 3"), true, `config: x.yaml: unknown key "num.partition" (did you mean num.partitions?)`)
	f(yaml("retention.ms: 3"), true, "for all topics of the broker it is log.retention.ms")
	f(yaml("log:\n  dirs: /a"), true, "nested values are not read")
	f(yaml("log.dirs: [[a]]"), true, "plain value")
	f(yaml("log.dirs:"), true, "no value")
	f(yaml("node.id: 1\nnode.id: 2"), true, "line 2: node.id is set twice")
	f(yaml("- a"), true, "mapping")
	f(yaml("a: 1\n---\nb: 2"), true, "more than one")
	f(yaml("a: ["), true, "x.yaml")
	f(Sources{File: "no/such/file"}, true, "no/such/file")
	f(Sources{FileData: []byte(`a=\u1`)}, true, "line 1")
	f(Sources{Flags: map[string]string{"nope": "1"}}, true, `flag: unknown key "nope"`)
	f(o("log.retention.m=5"), true, "did you mean log.retention.ms?")
	f(o("x"), true, "key=value")
	f(Sources{Listen: "a:b"}, true, "--listen")
	f(Sources{Listen: "h:99999"}, true, "--listen")
	f(Sources{Advertise: "a b:1"}, true, "--advertise")
	f(o("num.partitions=x"), false, "Invalid value x for configuration num.partitions: Not a number of type INT")
	f(o("num.partitions=0", "fetch.max.bytes=1"), false, "Invalid value 1 for configuration fetch.max.bytes: Value must be at least 1024\nInvalid value 0")
	f(o("offsets.topic.replication.factor=40000"), false, "Not a number of type SHORT")
	f(o("listeners=PLAINTEXT://:1,PLAINTEXT://:2"), false, "different name")
	f(o("listeners=PLAINTEXT://:1,SSL://:1"), false, "not yet")
	f(o("listeners=INTERNAL://:1"), false, "No security protocol defined for listener INTERNAL")
	f(o("listeners=A://:1,B://:1", "listener.security.protocol.map=A:PLAINTEXT,B:PLAINTEXT"), false, "different port")
	f(o("listeners="), false, "must not be empty")
	f(o("listeners=x"), false, "NAME://host:port")
	f(o("listeners=A://x:70000"), false, "65535")
	f(o("advertised.listeners=PLAINTEXT://0.0.0.0:1"), false, "nonroutable")
	f(o("advertised.listeners=X://h:1"), false, "no listener has this name")
	f(o("listener.security.protocol.map=A"), false, "NAME:PROTOCOL")
	f(o("max.connections.per.ip.overrides=a"), false, "host:limit")
	f(o("max.connections.per.ip.overrides=a:-1"), false, "from 0")
	f(o("node.id=1", "broker.id=2"), false, "broker.id")
	f(o("log.dirs="), false, "At least one log directory")
	f(o("log.retention.ms=0"), false, "log.retention.ms must be unlimited")
	f(o("log.roll.ms=0"), false, "log.roll.ms must be")
	f(o("log.roll.jitter.ms=-1"), false, "log.roll.jitter.ms must be")
	f(o("durability=maybe"), false, "String must be one of: fsync, os")
}

// TestSecretsStayHidden: neither a known secret nor a key nobody knows shows its value.
func TestSecretsStayHidden(t *testing.T) {
	b, _ := load(t, Sources{FileData: []byte("ssl.key.password=hush\nmy.token=hush\nnum.partitions=2\n")})
	seen := 0
	for _, s := range b.Effective() {
		if strings.Contains(s.Value, "hush") {
			t.Errorf("%s is shown", s.Key)
		}
		if s.Key == "log.dir" {
			t.Error("log.dir is shown, though log.dirs is what counts")
		}
		if s.Value == "[hidden]" || s == (Setting{"num.partitions", "2"}) {
			seen++
		}
	}
	for _, e := range DescribeBroker(b) {
		if e.Value != nil && *e.Value == "hush" {
			t.Errorf("DescribeConfigs shows %s", e.Name)
		}
	}
	if seen != 3 {
		t.Errorf("%d of 3 settings listed", seen)
	}
}

// TestDynamic: what is set while running wins over files, for this broker over for all.
func TestDynamic(t *testing.T) {
	b, _ := load(t, Sources{Options: []string{"log.retention.ms=1000"}})
	b, err := b.WithDynamic(map[string]string{"log.retention.ms": "3000"}, map[string]string{"log.retention.ms": "2000", "x": "y"})
	if err != nil || b.Topic.Retention != 3*time.Second {
		t.Fatal(err, b.Topic.Retention)
	}
	for _, e := range DescribeTopic(b, nil) {
		if e.Name == "retention.ms" && (*e.Value != "3000" || e.Source != DynamicBroker || len(e.Synonyms) != 4) {
			t.Errorf("%+v", e)
		}
	}
	all := DescribeClusterDefaults(b)
	if len(all) != 2 || *all[0].Value != "2000" || all[0].Source != DynamicDefaultBroker || len(all[0].Synonyms) != 1 || !all[1].Sensitive {
		t.Errorf("%+v", all)
	}
	if b, err := b.WithDynamic(map[string]string{"log.retention.ms": "x", "num.partitions": "7", "log.roll.ms": "5"}, nil); err != nil ||
		b.Topic.Retention != time.Second || b.NumPartitions != 1 || b.Topic.SegmentAge != 5*time.Millisecond {
		t.Errorf("what cannot be in force spoils the rest: %v %v %d", err, b.Topic.Retention, b.NumPartitions)
	}
	b, err = b.WithNodeID(9)
	if err != nil || b.NodeID != 9 || !b.NodeIDGiven || b.Topic.Retention != 3*time.Second {
		t.Errorf("%v %+v", err, b)
	}
}

func TestJavaDouble(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		n, ok := parseJavaDouble(text)
		if got := formatJavaDouble(n); ok != (want != "") || ok && got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
	f("1", "1.0")
	f("0.001", "0.001")
	f("0.0001", "1.0E-4")
	f("12345678", "1.2345678E7")
	f("9999999", "9999999.0")
	f("-0", "-0.0")
	f("1e400", "Infinity")
	f("-Infinity", "-Infinity")
	f("NaN", "NaN")
	f("0x1p-2f", "0.25")
	f("2d", "2.0")
	f("1_0", "")
	f("0x1_0p1", "")
	f("inf", "")
	f("", "")
	f("d", "")
}

func FuzzProperties(f *testing.F) {
	for _, seed := range []string{"a=b", "a:\\\n  b", `\u0041=\uD83D`, "# x\n! y\n=z", "a\\"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		values, err := parseProperties(data)
		if err != nil && values != nil {
			t.Error("values beside an error")
		}
		size := 0
		for k, v := range values {
			size += len(k) + len(v)
		}
		if size > 2*len(data)+8 { // Latin-1 doubles
			t.Errorf("%d bytes became %d", len(data), size)
		}
	})
}

func FuzzLoad(f *testing.F) {
	f.Add("x.yaml", []byte("log.dirs: [a, b]\n"), "num.partitions=3")
	f.Add("server.properties", []byte("listeners=PLAINTEXT://:1,B://[::]:2\nlistener.security.protocol.map=B:PLAINTEXT"), "log.cleaner.min.cleanable.ratio=0x1p-3")
	f.Add("x.yml", []byte("a: &x [*x]"), "log.cleanup.policy=,")
	f.Fuzz(func(t *testing.T, name string, data []byte, option string) {
		if data == nil {
			data = []byte{} // never a file of the machine
		}
		b, _, err := Load(Sources{File: filepath.Base(name), FileData: data, Options: []string{option}, MemoryBytes: 1})
		if err != nil {
			return
		}
		for _, e := range DescribeBroker(b) {
			if e.Value == nil || e.Type == Password {
				continue
			}
			key, _ := LookupBrokerKey(e.Name)
			if key.Status != NotApplicable && key.Validate(*e.Value) != nil {
				t.Errorf("%s is shown as %q, which it does not take", e.Name, *e.Value)
			}
		}
		b.Effective()
	})
}
