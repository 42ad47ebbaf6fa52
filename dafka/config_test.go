package dafka

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParseConfig(t *testing.T) {
	got, err := ParseConfig([]byte(`# As a C node has it, and more.
tower
    verbose = 1
beacon
    interval = 50
    timeout = 200
    sub_address = tcp://10.0.0.1:5556, tcp://10.0.0.2:5556
    pub_address = "tcp://10.0.0.1:5557"
    colour = red
producer
    min_acks = 2
    fsync = 0
consumer
    offset
        reset = whatever
    siblings = true
store
    db = /var/lib/dafka
    retention_bytes = 5000000000
nobody
    knows = this
`))
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultConfig()
	want.Tower.Verbose = true
	want.Beacon.Interval, want.Beacon.Timeout = 50*time.Millisecond, 200*time.Millisecond
	want.Beacon.Sub, want.Beacon.Pub = []string{"tcp://10.0.0.1:5556", "tcp://10.0.0.2:5556"}, []string{"tcp://10.0.0.1:5557"}
	want.Producer.MinAcks, want.Producer.Sync = 2, false
	want.Consumer.Reset, want.Consumer.Siblings = Earliest, true
	want.Store.DB, want.Store.RetentionSize = "/var/lib/dafka", 5_000_000_000
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Config{})); diff != "" {
		t.Error(diff)
	}
	if want := []string{"beacon/colour", "nobody/knows"}; !slices.Equal(got.Unknown(), want) {
		t.Errorf("unknown are %v", got.Unknown())
	}
}

func TestConfigErrors(t *testing.T) {
	for key, values := range map[string][]string{
		"beacon/interval":              {"0", "-1", "soon", "5000", "99999999999999"},
		"beacon/timeout":               {"999"},
		"producer/head_interval":       {"0"},
		"producer/high_watermark":      {"0", "many"},
		"producer/min_acks":            {"-2"},
		"producer/max_unacked_records": {"0"},
		"producer/back_pressure":       {"perhaps"},
		"store/segment_bytes":          {"1024", "4294967296"},
		"store/retention_disk_percent": {"100", "-1"},
		"store/retention_bytes":        {"-1"},
		"no/key":                       {"1"},
	} {
		for _, v := range values {
			c := DefaultConfig()
			if err := errors.Join(c.Set(key, v), c.Check()); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), key) {
				t.Errorf("%s = %s: %v", key, v, err)
			}
		}
	}
	public, _ := GenerateKeys()
	_, secret := GenerateKeys()
	c := DefaultConfig()
	for _, pair := range [][2]string{{public, secret}, {public, ""}, {"", secret}, {"short", secret}, {public, strings.Repeat("~", 40)}} {
		if c.Public, c.Secret = pair[0], pair[1]; !errors.Is(c.Check(), ErrConfig) {
			t.Errorf("%q are the keys of a mesh", pair)
		}
	}
	if _, err := LoadConfig(t.TempDir() + "/none"); !errors.Is(err, ErrConfig) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

// Each key is in the documentation.
func TestKeysAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/dafka.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range DefaultConfig().keys() {
		if k.path != "test/verbose" && !strings.Contains(string(page), k.path) {
			t.Errorf("docs/dafka.md does not tell of %s", k.path)
		}
	}
}

// FuzzParseConfig: whatever a file says, it is refused or makes sense.
func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("beacon\n    interval = 50\n"))
	f.Add([]byte("curve\n    public_key = x\n"))
	f.Add([]byte("consumer\n    offset\n        reset = latest\nstore\n    db = \"a b\"\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseConfig(text)
		if err == nil && (c.Check() != nil || c.Beacon.Interval <= 0) {
			t.Errorf("%q makes %+v", text, c)
		}
	})
}
