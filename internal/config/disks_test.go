package config

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What can be said about data directories, and what is refused.
func TestDisks(t *testing.T) {
	f := func(want Disks, options ...string) {
		t.Helper()
		b, _ := load(t, Sources{Options: append([]string{"log.dirs=/a,/b"}, options...)})
		if want.Cordoned == nil {
			want.Cordoned = []string{}
		}
		if d := cmp.Diff(want, b.Disks); d != "" {
			t.Errorf("%v: %s", options, d)
		}
	}
	plain := Disks{MoveBytesPerSecond: 1<<63 - 1, MoveThreads: 2, Metadata: "/a"}
	f(plain)
	with := func(change func(*Disks)) Disks {
		d := plain
		change(&d)
		return d
	}
	f(with(func(d *Disks) { d.RetentionPercent = 85 }), "log.retention.disk.percent=85")
	f(plain, "log.retention.disk.percent=-1")
	f(with(func(d *Disks) { d.Cordoned = []string{"/b"} }), "cordoned.log.dirs=/b")
	f(with(func(d *Disks) { d.Cordoned = []string{"/a", "/b"} }), "cordoned.log.dirs=*")
	f(with(func(d *Disks) { d.Metadata = "/m" }), "metadata.log.dir=/m")
	f(with(func(d *Disks) { d.MoveThreads = 1 }), "num.replica.alter.log.dirs.threads=1")
	f(with(func(d *Disks) { d.MoveBytesPerSecond = 0 }), "replica.alter.log.dirs.io.max.bytes.per.second=0")

	refused := func(option, want string) {
		t.Helper()
		_, _, err := Load(Sources{Options: []string{"log.dirs=/a,/b", option}})
		var invalid *InvalidError
		if !errors.As(err, &invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", option, err)
		}
	}
	refused("log.retention.disk.percent=100", "from 1 to 99")
	refused("log.retention.disk.percent=0", "from 1 to 99")
	refused("log.retention.disk.percent=80%", "Not a number")
	refused("cordoned.log.dirs=/c,/a", "All entries in cordoned.log.dirs must be present in log.dirs or log.dir. Missing entries : /c")
}

// The mark can be changed for one broker and for all while it runs.
func TestPercentIsDynamic(t *testing.T) {
	b, _ := load(t, Sources{})
	n, err := b.WithDynamic(map[string]string{"log.retention.disk.percent": "70"}, map[string]string{"log.retention.disk.percent": "60"})
	if err != nil || n.Disks.RetentionPercent != 70 {
		t.Error(n.Disks.RetentionPercent, err)
	}
	if k, _ := LookupBrokerKey("log.retention.disk.percent"); k.ReadOnly() || !k.Ours {
		t.Errorf("%+v", k)
	}
}

// Kafka's words for what is cordoned and is no data directory, of a broker that runs.
func TestCordonedIsDynamic(t *testing.T) {
	b, _ := load(t, Sources{Options: []string{"log.dirs=/a,/b"}})
	if err := b.CheckDynamic(map[string]string{"cordoned.log.dirs": "*"}, true); err != nil {
		t.Error(err)
	}
	err := b.CheckDynamic(map[string]string{"cordoned.log.dirs": "/b,/c"}, true)
	const want = "requirement failed: All entries in cordoned.log.dirs must be present in log.dirs or log.dir. Missing entries : /c"
	if err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
}

// A topic without configs of its own is made, whatever the defaults say: Kafka looks at none.
func TestNewTopicWithoutConfigs(t *testing.T) {
	b, _ := load(t, Sources{})
	b, err := b.WithDynamic(nil, map[string]string{"log.cleaner.min.compaction.lag.ms": "9", "log.cleaner.max.compaction.lag.ms": "8"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CheckTopic(b, nil); err != nil {
		t.Error(err)
	}
	value := "compact"
	if _, err := CheckTopic(b, []Override{{"cleanup.policy", &value}}); err == nil {
		t.Error("a contradiction with a config of its own is accepted")
	}
}
