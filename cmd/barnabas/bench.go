package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// benchFlags say what to measure.
type benchFlags struct {
	clientFlags
	topic                                 string
	size, batch, partitions, conns, depth int
	acks                                  string
	bytes, rate                           float64
	seconds                               float64
	config                                []string
	pid                                   int
	keep, fsync                           bool
	dir                                   string
}

func newBenchCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure this machine, or a broker on it",
		Long: `Measure what this machine can do at best (raw), and what a broker makes of it (produce, consume, latency).

Figures of different machines, or of different minutes on a shared one, say little. Compare ratios that were measured in one sitting; the unit that travels best is the broker's CPU-seconds per GB (--pid).`,
		Example: `  barnabas bench raw
  barnabas bench produce --pid $(pidof barnabas)`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newBenchRawCmd(), newBenchProduceCmd(), newBenchConsumeCmd(), newBenchLatencyCmd())
	return cmd
}

func newBenchRawCmd() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "raw",
		Short: "Measure the floors: receive, checksum, write, sync, send",
		Example: `  barnabas bench raw --dir /var/lib/barnabas
  barnabas bench raw --batch 262144 --partitions 64
  barnabas bench raw --fsync --batch 16384 --partitions 16
  barnabas bench raw --fsync --batch 1024 --rate 10000`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return benchRaw(cmd.OutOrStdout(), &f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.dir, "dir", ".", "where to write the files that are measured; on the disk in question")
	flags.IntVar(&f.batch, "batch", 256<<10, "bytes written at once")
	flags.IntVar(&f.partitions, "partitions", 1, "files written in turn")
	flags.Float64Var(&f.bytes, "bytes", 1e9, "bytes to move in each step")
	flags.BoolVar(&f.fsync, "fsync", false, "measure durable writes instead: one batch to each file, then a sync of all")
	flags.Float64Var(&f.rate, "rate", 0, "measure latency instead: batches a second through a bare relay, written, and synced with --fsync")
	flags.Float64Var(&f.seconds, "seconds", 5, "how long to measure latency")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

// addLoad adds the flags that shape a load.
func (f *benchFlags) addLoad(cmd *cobra.Command) {
	f.clientFlags.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.topic, "topic", "", "topic to use; one is made, and deleted at the end, if none is given")
	flags.IntVar(&f.size, "size", 1024, "bytes of a record's value")
	flags.IntVar(&f.batch, "batch", 256<<10, "bytes of values in a batch")
	flags.IntVar(&f.partitions, "partitions", 1, "partitions of a topic that is made")
	flags.IntVar(&f.conns, "connections", 1, "connections")
	flags.IntVar(&f.depth, "depth", 4, "requests in flight on a connection")
	flags.StringVar(&f.acks, "acks", "all", "0, 1 or all")
	flags.Float64Var(&f.bytes, "bytes", 1e9, "bytes of values to move")
	flags.StringArrayVarP(&f.config, "config", "c", nil, "config of a topic that is made, key=value")
	flags.IntVar(&f.pid, "pid", 0, "process id of a broker on this machine, to measure its CPU and memory")
	flags.BoolVar(&f.keep, "keep", false, "do not delete the topic that is made")
}

func newBenchProduceCmd() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "produce",
		Short: "Send ready-made batches as fast as the broker takes them",
		Example: `  barnabas bench produce --pid $(pidof barnabas)
  barnabas bench produce --size 100 --partitions 64 -c durability=os`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd, "produce", (*load).produce) },
	}
	f.addLoad(cmd)
	return cmd
}

func newBenchConsumeCmd() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:     "consume",
		Short:   "Fetch a topic as fast as the broker gives it",
		Long:    "Fetch a topic as fast as the broker gives it, and throw away what comes. Without --topic one is filled first.",
		Example: `  barnabas bench consume --partitions 64 --pid $(pidof barnabas)`,
		Args:    args(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd, "consume", (*load).consume) },
	}
	f.addLoad(cmd)
	return cmd
}

func newBenchLatencyCmd() *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "latency",
		Short: "Measure the time from when a record is due to when a reader has it",
		Long: `Measure the time from when a record is due to when a reader has it, at a steady rate.

A record that could not be sent in time counts from when it should have been: pauses are not left out.`,
		Example: `  barnabas bench latency --rate 10000 --seconds 10`,
		Args:    args(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd, "latency", (*load).latency) },
	}
	f.addLoad(cmd)
	cmd.Flags().Float64Var(&f.rate, "rate", 10_000, "records per second")
	cmd.Flags().Float64Var(&f.seconds, "seconds", 10, "how long")
	return cmd
}

// benchRow is what one measurement gives. Zero figures were not measured.
type benchRow struct {
	What       string             `json:"what"`
	Seconds    float64            `json:"seconds,omitempty"`
	Bytes      int64              `json:"bytes,omitempty"`
	Records    int64              `json:"records,omitempty"`
	MBps       float64            `json:"mb_per_second,omitempty"`
	CPU        float64            `json:"cpu_seconds_per_gb,omitempty"`
	BrokerCPU  float64            `json:"broker_cpu_seconds_per_gb,omitempty"`
	BrokerMB   float64            `json:"broker_rss_mb,omitempty"`
	QuantileMs map[string]float64 `json:"quantile_ms,omitempty"`
}

// print writes a row.
func (r benchRow) print(out io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(out).Encode(r)
	}
	s := fmt.Sprintf("%-34s", r.What)
	if r.MBps > 0 {
		s += fmt.Sprintf(" %8.0f MB/s", r.MBps)
	}
	if r.Records > 0 && r.Seconds > 0 {
		s += fmt.Sprintf(" %9.0f records/s", float64(r.Records)/r.Seconds)
	}
	if r.CPU > 0 {
		s += fmt.Sprintf(" %7.3f CPU-s/GB", r.CPU)
	}
	if r.BrokerCPU > 0 {
		s += fmt.Sprintf("  broker %.3f CPU-s/GB, %.0f MB", r.BrokerCPU, r.BrokerMB)
	}
	for _, q := range []string{"p50", "p99", "p99.9"} {
		if v, ok := r.QuantileMs[q]; ok {
			s += fmt.Sprintf("  %s %.2f ms", q, v)
		}
	}
	_, err := fmt.Fprintln(out, s)
	return err
}

// run makes the topic if need be, measures, prints, and cleans up.
func (f *benchFlags) run(cmd *cobra.Command, what string, measure func(*load, context.Context) (benchRow, error)) error {
	ctx := cmd.Context()
	l, err := newLoad(ctx, f, what)
	if err != nil {
		return err
	}
	defer l.close()
	cpu, began := processCPU(f.pid), time.Now()
	row, err := measure(l, ctx)
	if err != nil {
		return err
	}
	if row.Seconds == 0 {
		row.Seconds = time.Since(began).Seconds()
	}
	gb := float64(row.Bytes) / 1e9
	if row.QuantileMs == nil {
		row.MBps = gb * 1e3 / row.Seconds
	}
	if f.pid != 0 && gb > 0 {
		row.BrokerCPU, row.BrokerMB = (processCPU(f.pid)-cpu)/gb, processRSS(f.pid)
	}
	row.What = fmt.Sprintf("%s %d B, %d partitions", what, f.size, l.partitions)
	return row.print(cmd.OutOrStdout(), f.json)
}

// processCPU is the CPU time of a process in seconds, 0 if it is not known.
func processCPU(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if pid == 0 || err != nil {
		return 0
	}
	s := string(b)
	fields := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	const ticks = 100 // USER_HZ, the same on every Linux that Go runs on.
	return (user + system) / ticks
}

// processRSS is the resident memory of a process in MB.
func processRSS(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseFloat(fields[1], 64)
	return pages * float64(os.Getpagesize()) / 1e6
}
