package main

import (
	"encoding/json"
	"net"
	"os/exec"
	"strings"
	"testing"
)

// What Kafka's protocol does not tell comes from settings and metrics of our
// own.
func TestNodeStatusOfOurs(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	http := l.Addr().String()
	l.Close()
	address := runBroker(t, t.Cleanup, t.TempDir(), "--http", http, "-o", "log.retention.disk.percent=81")
	out, err := exec.Command("barnabas", "node", "status", "--brokers", address, "--json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var got clusterStatus
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Nodes) != 1 || got.Nodes[0].Connections == nil || *got.Nodes[0].Connections < 1 {
		t.Fatalf("connections are not known: %s", out)
	}
	if d := got.Nodes[0].Directories; len(d) != 1 || d[0].RetentionMark == nil || *d[0].RetentionMark != 81 || d[0].UsedPercent == nil {
		t.Errorf("directories: %s", out)
	}
	marksInTopics(t, address)
	d := newTestDoctor(address)
	here := nodesHere(d.checkBroker(t.Context(), true))
	if len(here) != 1 || here[0].metrics == nil || here[0].metrics.sums["process_max_fds"] == 0 {
		t.Errorf("the broker's files are not known: %+v", here)
	}
	if dirs := d.directories(here); len(dirs) != 1 || dirs[0] != here[0].Directories[0].Path {
		t.Errorf("its directories are %q", dirs)
	}
}

// marksInTopics: a topic that loses segments when the disk is full says so.
func marksInTopics(t *testing.T, address string) {
	t.Helper()
	f := func(policy string, want bool) {
		t.Helper()
		if out, err := exec.Command("barnabas", "topic", "create", policy, "-c", "cleanup.policy="+policy, "--brokers", address).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		out, err := exec.Command("barnabas", "topic", "describe", policy, "--brokers", address).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if got := strings.Contains(string(out), "node 1 deletes the oldest segments above 81% of its disks"); got != want {
			t.Errorf("%s: told %v, want %v:\n%s", policy, got, want, out)
		}
	}
	f("delete", true)
	f("compact", false)
}

// A disk keeps a reserve: that it is full shows in neither its size nor what is free of it.
func TestFullDirectory(t *testing.T) {
	m, err := parseMetrics(strings.NewReader("barnabas_datadir_used_ratio{dir=\"/a\"} 0.87\nbarnabas_datadir_full{dir=\"/a\"} 1\nbarnabas_datadir_full{dir=\"/b\"} 0\n"))
	if err != nil {
		t.Fatal(err)
	}
	n := &nodeStatus{Directories: []dirStatus{{Path: "/a", DiskBytes: 100, DiskFreeBytes: 13}, {Path: "/b"}}}
	n.measured(m)
	if a, b := n.Directories[0], n.Directories[1]; !a.Full || b.Full || !strings.HasSuffix(a.shownDisk(), "\tfull: it refuses records") {
		t.Errorf("%+v, %+v", a, b)
	}
	d := newTestDoctor()
	d.checkNodeDir("node 1", n.Directories[0])
	if got := d.only(t); got.Level != levelChange || !strings.Contains(got.Found, "records are refused") {
		t.Errorf("%+v", got)
	}
}
