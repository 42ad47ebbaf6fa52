package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// level is how much a finding matters.
type level string

const (
	levelOK     level = "ok"
	levelNote   level = "note"   // worth a look
	levelChange level = "change" // data or service are at risk
)

// finding is what one check found.
type finding struct {
	Check  string `json:"check"`
	Level  level  `json:"level"`
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"` // what to change
}

// doctor looks at a machine and a broker.
type doctor struct {
	flags    *doctorFlags
	findings []finding
	progress func(doing string)
}

func (d *doctor) ok(check, format string, a ...any) {
	d.findings = append(d.findings, finding{check, levelOK, fmt.Sprintf(format, a...), ""})
}

func (d *doctor) note(check, advice, format string, a ...any) {
	d.findings = append(d.findings, finding{check, levelNote, fmt.Sprintf(format, a...), advice})
}

func (d *doctor) change(check, advice, format string, a ...any) {
	d.findings = append(d.findings, finding{check, levelChange, fmt.Sprintf(format, a...), advice})
}

type doctorFlags struct {
	clientFlags
	dataDirs []string
}

func newDoctorCmd() *cobra.Command {
	f := new(doctorFlags)
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check a machine and a broker, and say what to change",
		Long: `Check the machine this runs on, and the broker that --brokers names: limits of open files, memory, clock, speed and honesty of the
disks, how full they are, and whether clients can reach every address that the brokers tell them.

Directories are those of --data-dir, else those of the broker if it runs on this machine. Disks are measured with small writes and
up to 64 MiB in a file that has no name. Without a broker it looks at the machine alone.

Exit code 1 if something has to be changed.`,
		Example: `  barnabas doctor
  barnabas doctor --data-dir /var/lib/barnabas
  barnabas doctor -b broker.example.com:9092 --json`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.add(cmd)
	cmd.Flags().StringSliceVar(&f.dataDirs, "data-dir", nil, "directory for data, or several with commas; one that is not there yet is looked at where it would be")
	if err := cmd.MarkFlagDirname("data-dir"); err != nil {
		panic(err) // There is no such flag.
	}
	return cmd
}

func (f *doctorFlags) run(cmd *cobra.Command) error {
	d := &doctor{flags: f, progress: showProgress(cmd.ErrOrStderr())}
	clock := startClock()
	ctx := cmd.Context()
	brokerGiven := cmd.Flags().Changed("brokers") || os.Getenv("BARNABAS_BROKERS") != ""
	d.progress("asking the broker")
	nodes := d.checkBroker(ctx, brokerGiven)
	here := nodesHere(nodes)
	d.progress("looking at the machine")
	d.checkFiles(here)
	d.checkMemory()
	for _, dir := range d.directories(here) {
		d.progress("writing to " + dir)
		d.checkDir(dir)
	}
	d.checkClock(clock)
	d.progress("")
	return d.report(cmd)
}

// showProgress tells on a terminal what is going on; nothing ends that.
func showProgress(out io.Writer) func(string) {
	if !isTerminal(out) {
		return func(string) {}
	}
	return func(doing string) {
		if doing != "" {
			doing += "…"
		}
		fmt.Fprintf(out, "\r\x1b[K%s", doing)
	}
}

func (d *doctor) report(cmd *cobra.Command) error {
	changes := 0
	for _, x := range d.findings {
		if x.Level == levelChange {
			changes++
		}
	}
	out := cmd.OutOrStdout()
	err := d.flags.print(out, map[string]any{"findings": d.findings, "mustChange": changes}, d.show(isTerminal(out) && os.Getenv("NO_COLOR") == ""))
	if err == nil && changes > 0 {
		err = fmt.Errorf("%s to change", count(changes, "thing"))
	}
	return err
}

// show prints a line for each finding, and its advice below.
func (d *doctor) show(coloured bool) func(io.Writer) error {
	word := map[level]string{levelOK: "ok    ", levelNote: "note  ", levelChange: "CHANGE"}
	if coloured {
		word = map[level]string{levelOK: "\x1b[32mok\x1b[0m    ", levelNote: "\x1b[33mnote\x1b[0m  ", levelChange: "\x1b[31mCHANGE\x1b[0m"}
	}
	return func(out io.Writer) error {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, x := range d.findings {
			fmt.Fprintf(w, "%s  %s\t%s\n", word[x.Level], x.Check, x.Found)
			if x.Advice != "" {
				fmt.Fprintf(w, "        \t→ %s\n", x.Advice)
			}
		}
		return w.Flush()
	}
}

// clockStart is a moment by two clocks: the one people set, and the one that
// only runs.
type clockStart struct {
	wall time.Time
	runs time.Time
}

func startClock() clockStart {
	now := time.Now()
	return clockStart{wall: now.Round(0), runs: now}
}

// jump is by how much the wall clock was set since then.
func (c clockStart) jump(now time.Time) time.Duration {
	return now.Round(0).Sub(c.wall) - now.Sub(c.runs)
}

// Clocks that are further off than this make retention by time and
// message.timestamp.after.max.ms do strange things.
const maxJump = 100 * time.Millisecond

func (d *doctor) checkClock(began clockStart) {
	const check = "clock"
	now := time.Now()
	// The year in which this is written, and one in which nobody runs it.
	if now.Year() < 2026 || now.Year() > 2100 {
		d.change(check, "set the clock: records without a time of their own get this one, and retention counts from it", "it is %s", now.UTC().Format(time.RFC3339))
		return
	}
	if j := began.jump(now); j.Abs() > maxJump {
		d.change(check, "let NTP slew the clock instead of setting it, and see that nothing else sets it", "it jumped by %v while this ran", j.Round(time.Millisecond))
		return
	}
	synchronised, known := clockSynchronised()
	switch {
	case !known:
		d.ok(check, "%s; whether it is synchronised is not known here", now.UTC().Format(time.RFC3339))
	case !synchronised:
		d.note(check, "run chrony or systemd-timesyncd (a container has the clock of its host)", "%s, not synchronised", now.UTC().Format(time.RFC3339))
	default:
		d.ok(check, "%s, synchronised", now.UTC().Format(time.RFC3339))
	}
}

// Limits of open files. An idle partition needs none; one that is written needs
// its segment, two indexes and now and then one more.
const (
	filesPerPartition = 4
	filesBeside       = 10_000 // connections, readers of old segments
	fewFiles          = 10_240
)

func (d *doctor) checkFiles(here []*seenNode) {
	const check = "open files"
	limit, known := openFilesLimit()
	if known {
		need := uint64(filesBeside)
		for _, dir := range d.directories(here) {
			need += uint64(filesPerPartition * countLogs(dir))
		}
		advice := fmt.Sprintf("raise the hard limit to %d or more: LimitNOFILE in the systemd unit, or ulimit -Hn", max(need, 100_000))
		switch {
		case limit < fewFiles || limit < need:
			d.change(check, advice, "at most %d here, and %d may be wanted", limit, need)
		default:
			d.ok(check, "at most %d here", limit)
		}
	}
	for _, n := range here {
		if n.metrics == nil {
			continue
		}
		open, most := n.metrics.sums["process_open_fds"], n.metrics.sums["process_max_fds"]
		switch {
		case most <= 0:
		case open > 0.8*most:
			d.change(check, "raise LimitNOFILE of the broker's service, and look for clients that do not close connections", "node %d has %.0f open of %.0f", n.ID, open, most)
		default:
			d.ok(check, "node %d has %.0f open of %.0f", n.ID, open, most)
		}
	}
}

// Memory that a broker wants: below the first it hardly runs, below the second
// there is little page cache, and readers go to the disk.
const (
	leastMemory = 256 << 20
	smallMemory = 1 << 30
)

func (d *doctor) checkMemory() {
	const check = "memory"
	total, known := memoryLimit()
	switch {
	case !known:
	case total < leastMemory:
		d.change(check, "give it at least 512 MiB", "%s", formatBytes(float64(total)))
	case total < smallMemory:
		d.note(check, "the page cache is what makes reading fast: more is better", "%s", formatBytes(float64(total)))
	default:
		d.ok(check, "%s", formatBytes(float64(total)))
	}
}

// directories are those to look at: as told, else those of brokers here.
func (d *doctor) directories(here []*seenNode) []string {
	if len(d.flags.dataDirs) > 0 {
		return d.flags.dataDirs
	}
	var dirs []string
	for _, n := range here {
		for _, x := range n.Directories {
			dirs = append(dirs, x.Path)
		}
	}
	return dirs
}

// nodesHere are the brokers whose data directories are on this machine.
func nodesHere(nodes []*seenNode) (here []*seenNode) {
	for _, n := range nodes {
		if slices.ContainsFunc(n.Directories, func(x dirStatus) bool { return isDirOf(x.Path, n.cluster, n.ID) }) {
			here = append(here, n)
		}
	}
	return here
}
