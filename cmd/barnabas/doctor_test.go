package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

func newTestDoctor(brokers ...string) *doctor {
	f := &doctorFlags{}
	f.brokers, f.timeout = brokers, time.Second
	return &doctor{flags: f, progress: func(string) {}}
}

// only is what a doctor said, if it said one thing.
func (d *doctor) only(t *testing.T) finding {
	t.Helper()
	if len(d.findings) != 1 {
		t.Fatalf("%d findings: %+v", len(d.findings), d.findings)
	}
	return d.findings[0]
}

// What a doctor makes of a disk, by what the system says of it and how it
// behaves.
func TestHonesty(t *testing.T) {
	f := func(disk diskInfo, sync time.Duration, want level, says string) {
		t.Helper()
		d := newTestDoctor()
		d.checkHonesty("/d", disk, measurement{median: sync})
		got := d.only(t)
		if got.Level != want || !strings.Contains(got.Found, says) || (got.Advice == "") != (want == levelOK) {
			t.Errorf("%+v, %v: %+v, want %s, %q", disk, sync, got, want, says)
		}
	}
	ssd := diskInfo{fileSystem: "ext4", device: "nvme0n1", cache: "write back"}
	f(ssd, 500*time.Microsecond, levelOK, "ext4 on nvme0n1, cache write back")
	f(ssd, 20*time.Microsecond, levelOK, "nvme0n1") // With capacitors it may.
	f(ssd, 5*time.Microsecond, levelNote, "reaches no disk")
	hdd := diskInfo{fileSystem: "xfs", device: "sda", rotating: true}
	f(hdd, 8*time.Millisecond, levelOK, "sda")
	f(hdd, 300*time.Microsecond, levelNote, "no rotating disk")
	f(diskInfo{fileSystem: "ext4", device: "vda", rotating: true, virtual: true}, 300*time.Microsecond, levelNote, "virtual disk")
	f(diskInfo{fileSystem: "ext4", device: "sda", mountPoint: "/d", noBarriers: true}, 8*time.Millisecond, levelChange, "/d is mounted without barriers")
	f(diskInfo{fileSystem: "tmpfs"}, time.Microsecond, levelChange, "memory")
	f(diskInfo{fileSystem: "overlay"}, time.Millisecond, levelNote, "container")
	f(diskInfo{fileSystem: "nfs4"}, time.Millisecond, levelNote, "network")
	f(diskInfo{}, time.Millisecond, levelOK, "unknown on unknown")
}

func TestSpeed(t *testing.T) {
	f := func(m measurement, want level) {
		t.Helper()
		d := newTestDoctor()
		d.checkSpeed("/d", m)
		if got := d.only(t); got.Level != want {
			t.Errorf("%+v: %+v, want %s", m, got, want)
		}
	}
	f(measurement{median: time.Millisecond, p99: 30 * time.Millisecond, bytesPerSecond: 5e8}, levelOK)
	f(measurement{median: 30 * time.Millisecond, p99: 40 * time.Millisecond}, levelNote)
	f(measurement{median: time.Millisecond, p99: time.Second}, levelNote)
	f(measurement{median: 300 * time.Millisecond, p99: time.Second}, levelChange)
}

// A measurement leaves nothing behind.
func TestMeasureDisk(t *testing.T) {
	dir := t.TempDir()
	m, err := measureDisk(dir)
	if err != nil || m.syncs == 0 || m.median <= 0 || m.p99 < m.median {
		t.Errorf("%+v, %v", m, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	if _, err := measureDisk(filepath.Join(dir, "nothing")); err == nil {
		t.Error("measured nothing")
	}
}

func TestClockJump(t *testing.T) {
	c := startClock()
	later := c.runs.Add(3 * time.Second)
	if j := c.jump(later); j != 0 {
		t.Errorf("a steady clock jumped by %v", j)
	}
	c.wall = c.wall.Add(-time.Hour) // As if it had been set forward since.
	if j := c.jump(later); j != time.Hour {
		t.Errorf("jumped by %v", j)
	}
	d := newTestDoctor()
	d.checkClock(c)
	if got := d.only(t); got.Level != levelChange || !strings.Contains(got.Found, "1h0m") {
		t.Errorf("%+v", got)
	}
}

// Addresses that no client can use, and one where somebody else is.
func TestAddresses(t *testing.T) {
	f := func(seed, address string, want level, says string) {
		t.Helper()
		d := newTestDoctor(seed)
		n := &seenNode{nodeStatus: nodeStatus{ID: 1, Address: address}, cluster: "c"}
		ok := d.checkAddress(context.Background(), n)
		last := d.findings[len(d.findings)-1]
		if last.Level != want || !strings.Contains(last.Found, says) || ok != (want == levelOK) {
			t.Errorf("%s: %+v, want %s, %q", address, d.findings, want, says)
		}
	}
	f("k:9092", "0.0.0.0:9092", levelChange, "nowhere")
	f("k:9092", "[::]:9092", levelChange, "nowhere")
	f("k:9092", "localhost:9092", levelChange, "their own machine")
	f("k:9092", "127.0.0.1:9092", levelChange, "their own machine")
	f("k:9092", "name.invalid:9092", levelChange, "name.invalid")
	f("127.0.0.1:9092", "127.0.0.1:1", levelChange, "nobody of this cluster answers")
	f("k:9092", "no port", levelChange, "no port")
}

func TestWhoIsAt(t *testing.T) {
	t.Parallel()
	address := runBroker(t, t.Cleanup, t.TempDir())
	m := (&clientFlags{brokers: []string{address}}).open()
	defer m.Close()
	resp, err := m.Metadata(t.Context(), nil, false)
	if err != nil {
		t.Fatal(err)
	}
	f := func(cluster string, id model.NodeID, want error) {
		t.Helper()
		n := &seenNode{nodeStatus: nodeStatus{ID: id}, cluster: cluster}
		if err := whoIsAt(t.Context(), address, n); !errors.Is(err, want) {
			t.Errorf("%s %d: %v", cluster, id, err)
		}
	}
	f(*resp.ClusterID, 1, nil)
	f(*resp.ClusterID, 2, errAnother)
	f("another", 1, errAnother)
}

func TestSpeaks(t *testing.T) {
	resp := wire.NewApiVersionsResponse()
	resp.ApiKeys = []wire.ApiVersionsResponseApiVersion{{ApiKey: int16(wire.FetchKey), MinVersion: 0, MaxVersion: 3}, {ApiKey: int16(wire.ProduceKey), MaxVersion: 99}}
	if speaks(resp, wire.FetchKey) || !speaks(resp, wire.ProduceKey) || speaks(resp, wire.MetadataKey) {
		t.Error("old Fetch is not Fetch, a newer Produce is")
	}
}

// The whole of it, on a machine with and without a broker.
func TestDoctor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	address := runBroker(t, t.Cleanup, dir)
	f := func(args ...string) map[string]finding {
		t.Helper()
		cmd := exec.Command("barnabas", append([]string{"doctor", "--json"}, args...)...)
		out, err := cmd.Output()
		var got struct {
			Findings   []finding
			MustChange int
		}
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		// What the machine is like that tests run on is not known here.
		if code := cmd.ProcessState.ExitCode(); code != min(got.MustChange, 1) {
			t.Fatalf("%q: exit code %d, %v\n%s", args, code, err, out)
		}
		found := map[string]finding{}
		for _, x := range got.Findings {
			found[x.Check] = x
		}
		return found
	}
	data := filepath.Join(dir, "data")
	found := f("-b", address, "--data-dir", data)
	for _, check := range []string{"broker", "address of node 1", "clock"} {
		if found[check].Level == "" || found[check].Level == levelChange {
			t.Errorf("%s: %+v", check, found[check])
		}
	}
	if x := found["directory "+data]; x.Level != levelOK || !strings.Contains(x.Found, "of node 1, cluster") {
		t.Errorf("directory: %+v", x)
	}
	if x := found["disk speed "+data]; x.Level == "" || !strings.Contains(x.Found, "a sync takes") {
		t.Errorf("speed: %+v", x)
	}
	found = f("-b", "127.0.0.1:1", "--timeout", "1s")
	if x := found["broker"]; x.Level != levelChange {
		t.Errorf("no broker: %+v", x)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	found = f("-b", address, "--data-dir", file)
	if x := found["directory "+file]; x.Level != levelChange || !strings.Contains(x.Found, "is a file") {
		t.Errorf("a file: %+v", x)
	}
}

// A directory without meta.properties is new, unless a metadata log says that it was lost.
func TestIdentityOfDirectory(t *testing.T) {
	dir := t.TempDir()
	f := func(want level, says string) {
		t.Helper()
		d := newTestDoctor()
		d.checkIdentity(dir)
		if got := d.only(t); got.Level != want || !strings.Contains(got.Found, says) {
			t.Errorf("%+v, want %s, %q", got, want, says)
		}
	}
	f(levelOK, "no broker's yet")
	for _, name := range []string{"__cluster_metadata-0", "letters-0", "letters-1"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	f(levelChange, "no meta.properties")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "meta.properties"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	f(levelChange, "damaged")
	write("version=1\nnode.id=7\ncluster.id=c\n")
	f(levelOK, "of node 7, cluster c, 2 partitions")
}
