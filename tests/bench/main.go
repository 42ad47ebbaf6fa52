// Command bench starts a broker, puts load on it, and prints what it costs
// beside what the machine can do at best in the same minute. With -kafka it
// puts the same load on an Apache Kafka 4.4.0 in turn. docs/performance.md says
// how to read it.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/barnabas-log/barnabas/tests/kafka"
)

var (
	program = flag.String("barnabas", "../barnabas", "the binary to measure")
	dir     = flag.String("dir", "", "where to keep data; a temporary directory if empty. Use the disk in question")
	peer    = flag.Bool("kafka", false, "measure Apache Kafka in turn; needs Java and Maven")
	only    = flag.String("only", "", "run the loads whose name contains this")
	scale   = flag.Float64("scale", 1, "multiply the bytes that are moved")
)

// load is one measurement of a broker, and the floor it is held against.
type load struct {
	name  string
	args  []string
	bytes float64
	topic []string // Topic configs.
	// Topic configs: Kafka's words for the same durability.
	ours, kafkas string
	floor        []string // Arguments of "bench raw".
	row          string   // The row of it that is the floor.
}

// recycle lets retention take away what was written a moment ago, so that new
// pages come from memory that was used before: first touch of memory costs up to
// ten times as much on a virtual machine, for any broker, and would be all that
// is measured.
func recycle(partitions int) []string {
	segment := max(64<<20/partitions, 8<<20)
	return []string{fmt.Sprintf("segment.bytes=%d", segment), fmt.Sprintf("retention.bytes=%d", segment), "file.delete.delay.ms=0"}
}

func loads() []load {
	produce := func(name string, size, partitions int) load {
		return load{
			name: name, bytes: 4e9, ours: "durability=os", topic: recycle(partitions),
			args:  []string{"produce", "--connections", "2", "--size", fmt.Sprint(size), "--partitions", fmt.Sprint(partitions)},
			floor: []string{"--partitions", fmt.Sprint(partitions)}, row: "produce floor",
		}
	}
	fetch := func(partitions int) load {
		return load{
			name: fmt.Sprintf("fetch, 1 KiB, %d partitions", partitions), bytes: 2e9, ours: "durability=os",
			args: []string{"consume", "--partitions", fmt.Sprint(partitions)}, row: "fetch floor: sendfile", floor: []string{"--batch", "1048576"},
		}
	}
	return []load{
		produce("produce, 1 KiB, 1 partition", 1024, 1),
		produce("produce, 1 KiB, 64 partitions", 1024, 64),
		produce("produce, 10 KiB, 1 partition", 10240, 1),
		produce("produce, 100 B, 1 partition", 100, 1),
		{
			name: "one 1 KiB record a request", bytes: 2e8, ours: "durability=os",
			args: []string{"produce", "--connections", "4", "--batch", "1024"},
		},
		{
			name: "durable 16 KiB batches, 16 partitions", bytes: 4e8, ours: "durability=fsync", kafkas: "flush.messages=1",
			args:  []string{"produce", "--connections", "16", "--depth", "1", "--batch", "16384", "--partitions", "16"},
			floor: []string{"--fsync", "--batch", "16384", "--partitions", "16"}, row: "write, one syncfs",
		},
		fetch(1), fetch(64),
		{
			name: "latency, 10,000/s, durable", ours: "durability=fsync", kafkas: "flush.messages=1",
			args:  []string{"latency", "--rate", "10000", "--seconds", "8"},
			floor: []string{"--rate", "10000", "--batch", "1024", "--fsync"}, row: "latency floor",
		},
		{
			name: "latency, 10,000/s, page cache", ours: "durability=os",
			args:  []string{"latency", "--rate", "10000", "--seconds", "8"},
			floor: []string{"--rate", "10000", "--batch", "1024"}, row: "latency floor",
		},
	}
}

// row is a line of barnabas bench --json.
type row struct {
	What       string             `json:"what"`
	Seconds    float64            `json:"seconds"`
	Records    int64              `json:"records"`
	MBps       float64            `json:"mb_per_second"`
	CPU        float64            `json:"cpu_seconds_per_gb"`
	BrokerCPU  float64            `json:"broker_cpu_seconds_per_gb"`
	BrokerMB   float64            `json:"broker_rss_mb"`
	QuantileMs map[string]float64 `json:"quantile_ms"`
}

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	if *dir == "" {
		tmp, err := os.MkdirTemp("", "barnabas-bench-*")
		if err != nil {
			return err
		}
		defer os.RemoveAll(tmp)
		*dir = tmp
	}
	ours, err := startOurs()
	if err != nil {
		return err
	}
	defer ours.stop()
	brokers := []*broker{ours}
	if *peer {
		k, err := startKafka()
		if err != nil {
			return err
		}
		defer k.stop()
		brokers = append(brokers, k)
		// A cold JVM costs twice as much.
		if _, err := k.measure(load{args: []string{"produce", "--connections", "2"}, bytes: 2e9}); err != nil {
			return err
		}
	}
	for _, l := range loads() {
		if !strings.Contains(l.name, *only) {
			continue
		}
		if err := compare(l, brokers); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	return compareTasks(brokers)
}

// compare runs one load: the floor, then each broker.
func compare(l load, brokers []*broker) error {
	fmt.Println(l.name)
	var floor row
	if l.row != "" {
		args := append([]string{"raw", "--dir", *dir}, l.floor...)
		if l.bytes > 0 {
			args = append(args, "--bytes", fmt.Sprint(l.bytes**scale))
		}
		rows, err := bench(args...)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if strings.HasPrefix(r.What, l.row) {
				floor = r
			}
		}
		fmt.Printf("  %-9s %s\n", "floor", floor.asFloor())
	}
	var first row
	for i, b := range brokers {
		time.Sleep(settle)
		r, err := b.measure(l)
		if err != nil {
			return err
		}
		fmt.Printf("  %-9s %s", b.name, r.figures())
		if floor.MBps > 0 {
			fmt.Printf("   %.2f of the floor's speed, %.2f × its CPU", r.MBps/floor.MBps, r.BrokerCPU/floor.CPU)
		}
		if i == 0 {
			first = r
		} else {
			fmt.Printf("   ours: %s", first.against(r))
		}
		fmt.Println()
	}
	return nil
}

func (r row) asFloor() string {
	if r.QuantileMs != nil {
		return r.quantiles()
	}
	return fmt.Sprintf("%7.0f MB/s  %6.3f CPU-s/GB", r.MBps, r.CPU)
}

func (r row) quantiles() string {
	return fmt.Sprintf("p50 %.2f  p99 %.2f  p99.9 %.2f ms", r.QuantileMs["p50"], r.QuantileMs["p99"], r.QuantileMs["p99.9"])
}

func (r row) figures() string {
	if r.QuantileMs != nil {
		return fmt.Sprintf("%s  %.1f µs CPU a record", r.quantiles(), r.perRecord())
	}
	return fmt.Sprintf("%7.0f MB/s  %6.3f CPU-s/GB  %6.1f µs CPU a record  %4.0f MB", r.MBps, r.BrokerCPU, r.perRecord(), r.BrokerMB)
}

func (r row) perRecord() float64 {
	if r.Records == 0 {
		return 0
	}
	gb := r.MBps * r.Seconds / 1e3
	if r.QuantileMs != nil {
		gb = float64(r.Records) * 1024 / 1e9
	}
	return r.BrokerCPU * gb / float64(r.Records) * 1e6
}

// against is this row as a share of another.
func (r row) against(o row) string {
	if r.QuantileMs != nil {
		return fmt.Sprintf("p50 %.2f, p99 %.2f, CPU %.2f of Kafka's", r.QuantileMs["p50"]/o.QuantileMs["p50"],
			r.QuantileMs["p99"]/o.QuantileMs["p99"], r.BrokerCPU/o.BrokerCPU)
	}
	return fmt.Sprintf("%.1f × Kafka's speed, %.2f of its CPU", r.MBps/o.MBps, r.BrokerCPU/o.BrokerCPU)
}

// bench runs barnabas bench and reads its rows.
func bench(args ...string) ([]row, error) {
	cmd := exec.Command(*program, append(append([]string{"bench"}, args...), "--json")...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	var rows []row
	for line := range strings.Lines(string(out)) {
		var r row
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// broker is a process under load.
type broker struct {
	name, addr string
	process    *exec.Cmd
	ours       bool
}

// command is the one that a broker was started by.
func (b *broker) command() *exec.Cmd { return exec.Command(b.process.Path, b.process.Args[1:]...) }

func (b *broker) measure(l load) (row, error) {
	args := append([]string{}, l.args...)
	args = append(args, "-b", b.addr, "--pid", strconv.Itoa(b.process.Process.Pid))
	if l.bytes > 0 {
		args = append(args, "--bytes", fmt.Sprint(l.bytes**scale))
	}
	config := l.kafkas
	if b.ours {
		config = l.ours
	}
	for _, c := range append([]string{config}, l.topic...) {
		if c != "" {
			args = append(args, "-c", c)
		}
	}
	rows, err := bench(args...)
	if err != nil || len(rows) != 1 {
		return row{}, fmt.Errorf("%d rows: %w", len(rows), err)
	}
	return rows[0], nil
}

func (b *broker) stop() {
	_ = b.process.Process.Signal(os.Interrupt)
	_ = b.process.Wait()
}

// atOnce are the settings that free space when it is no longer needed, for the
// reason that recycle names, and give groups one coordinator.
var atOnce = []string{"log.segment.delete.delay.ms=0", "log.retention.check.interval.ms=100", "offsets.topic.num.partitions=1"}

// settle is how long a broker has to remove what the last load has left.
const settle = 3 * time.Second

func startOurs() (*broker, error) {
	port, err := kafka.FreePort()
	if err != nil {
		return nil, err
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	args := []string{"serve", "--data-dir", filepath.Join(*dir, "barnabas"), "--listen", addr, "--http", "off", "--log-level", "warn"}
	for _, setting := range atOnce {
		args = append(args, "-o", setting)
	}
	cmd := exec.Command(*program, args...)
	return start("barnabas", addr, cmd, true)
}

// startKafka runs Kafka as its own scripts do: a heap of 1 GiB, G1.
func startKafka() (*broker, error) {
	jars, err := kafka.Jars(kafka.Server)
	if err != nil {
		return nil, err
	}
	port, err := kafka.FreePort()
	if err != nil {
		return nil, err
	}
	home := filepath.Join(*dir, "kafka")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(home, "server.properties")
	if err := os.WriteFile(file, []byte(kafka.Properties(home, port, port+1, append(atOnce, "log.initial.task.delay.ms=100")...)), 0o644); err != nil {
		return nil, err
	}
	java := func(class string, args ...string) *exec.Cmd {
		flags := []string{"-Xms1G", "-Xmx1G", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-Dlog4j2.level=WARN", "-cp", filepath.Join(jars, "*"), class}
		return exec.Command("java", append(flags, args...)...)
	}
	if out, err := java("kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", file).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("format: %w\n%s", err, out)
	}
	return start("kafka", fmt.Sprintf("127.0.0.1:%d", port), java("kafka.Kafka", file), false)
}

// start starts a broker and waits until it answers.
func start(name, addr string, cmd *exec.Cmd, ours bool) (*broker, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	b := &broker{name, addr, cmd, ours}
	for range 300 {
		if exec.Command(*program, "topic", "list", "-b", addr, "--timeout", "2s").Run() == nil {
			return b, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	b.stop()
	return nil, fmt.Errorf("%s does not answer on %s", name, addr)
}
