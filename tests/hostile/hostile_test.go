package hostile

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/barnabas-log/barnabas/tests/node"
)

func TestMain(m *testing.M) { node.Main(m) }

// mayGrow is what the broker's memory may grow by.
const mayGrow = 64 << 20

// kind is a kind of bad input, and how much of it there is.
type kind struct {
	name string
	n    int
	cut  bool // Nothing follows on the connection.
	make func(*rand.Rand) []byte
}

// A hundred thousand bad frames and more, while ten good clients work. A
// failing run is thrown again with BARNABAS_SEED.
func TestStorm(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	if node.Peer() {
		t.Skip("measures Barnabas")
	}
	seed := seed(t)
	metrics := freeAddr(t)
	n := node.Start(t, "auto.create.topics.enable=false", "group.initial.rebalance.delay.ms=0", "http.listen="+metrics)
	p := &process{t: t, pid: n.PID(), http: metrics}
	create(t, n.Addr)
	s := newSound(t, n.Addr)
	kinds := []kind{
		{"random bytes", 12_000, false, randomBytes},
		{"wrong sizes", 8_000, true, wrongSize},
		{"truncated", 8_000, true, s.truncated},
		{"random bodies", 25_000, false, randomBody},
		{"odd requests", 20_000, false, s.filled},
		{"mutated requests", 15_000, false, s.mutated},
		{"bad batches", 15_000, false, badBatch},
		{"names and settings", 1_000, false, badAdmin},
		{"requests about what there is", 15_000, false, s.aimed},
	}
	for _, b := range bombs(t) {
		for _, topic := range []string{badTopic, packTopic} {
			kinds = append(kinds, kind{b.name + " to " + topic, 8, false, func(r *rand.Rand) []byte { return produce(r, topic, b.batch) }})
		}
	}

	good := startClients(t, n.Addr)
	a := &attack{addr: n.Addr}
	a.run(t, seed, 200, false, badBatch) // Opens what stays open.
	for _, b := range bombs(t) {         // And the decoders that any client of that codec leaves warm.
		if strings.HasSuffix(b.name, "one record") {
			a.run(t, seed, 8, false, func(r *rand.Rand) []byte { return produce(r, badTopic, b.batch) })
		}
	}
	time.Sleep(time.Second)
	began, used := time.Now(), p.cpu()
	time.Sleep(time.Second)
	idle := float64(p.cpu()-used) / float64(time.Since(began)) // What the good clients cost.
	files, goroutines, before := p.files(), p.metric("go_goroutines"), p.resident()
	stop := p.watch()
	release := stall(t, n.Addr, seed, 300)
	total := 0
	for i, k := range kinds {
		total += k.n
		p.peak.Store(p.resident())
		a := &attack{addr: n.Addr}
		began, used := time.Now(), p.cpu()
		a.run(t, seed+uint64(i), k.n, k.cut, k.make)
		took := time.Since(began)
		cost := max(0, p.cpu()-used-time.Duration(idle*float64(took))) / time.Duration(k.n)
		t.Logf("%-38s %s; %v, %v of CPU each, memory %+d MiB", k.name, a, took.Round(time.Millisecond), cost.Round(time.Microsecond),
			(p.peak.Load()-before)>>20)
		checkGrowth(t, p.peak.Load()-before)
	}
	flood(t, n.Addr, seed, 4_000)
	release()
	checkGrowth(t, stop()-before)
	if total < 100_000 {
		t.Errorf("%d frames only", total)
	}
	removeMade(t, n.Addr)
	await(t, "files", files+4, p.files)
	await(t, "goroutines", goroutines+4, func() int { return p.metric("go_goroutines") })
	s.all(t)
	good.finish()
}

func checkGrowth(t *testing.T, grown int64) {
	t.Helper()
	if grown > mayGrow {
		t.Errorf("memory has grown by %d MiB, at most %d are allowed", grown>>20, mayGrow>>20)
	}
}

// await waits for a number to come down again.
func await(t *testing.T, what string, most int, now func() int) {
	t.Helper()
	end := time.Now().Add(15 * time.Second)
	for now() > most && time.Now().Before(end) {
		time.Sleep(50 * time.Millisecond)
	}
	if n := now(); n > most {
		t.Errorf("%d %s are left, at most %d should be", n, what, most)
	}
}

func seed(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("BARNABAS_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("BARNABAS_SEED=%d", seed)
	return seed
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// removeMade deletes the topics that the storm has made by good right.
func removeMade(t *testing.T, addr string) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	all, err := kadm.NewClient(c).ListTopics(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var made []string
	for _, name := range all.Names() {
		if !slices.Contains([]string{topic, badTopic, stampTopic, keyTopic, packTopic}, name) {
			made = append(made, name)
		}
	}
	t.Logf("%d topics were made", len(made))
	if _, err := kadm.NewClient(c).DeleteTopics(ctx, made...); err != nil {
		t.Fatal(err)
	}
}

func create(t *testing.T, addr string) {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	f := func(name string, partitions int32, config, value string) {
		configs := map[string]*string{}
		if config != "" {
			configs[config] = &value
		}
		if _, err := kadm.NewClient(c).CreateTopic(ctx, partitions, 1, configs, name); err != nil {
			t.Fatal(fmt.Errorf("create %s: %w", name, err))
		}
	}
	f(topic, pairs, "", "")
	f(badTopic, 3, "", "")
	f(stampTopic, 3, "message.timestamp.type", "LogAppendTime")
	f(keyTopic, 3, "cleanup.policy", "compact")
	f(packTopic, 3, "compression.type", "zstd")
	// The topics of coordinators are made once, for whoever asks first.
	for kind := range int8(2) {
		q := kmsg.NewPtrFindCoordinatorRequest()
		q.CoordinatorType, q.CoordinatorKey, q.CoordinatorKeys = kind, "any", []string{"any"}
		if _, err := q.RequestWith(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
}
