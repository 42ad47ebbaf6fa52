package main

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// consumeFlags say what to read and how to show it.
type consumeFlags struct {
	clientFlags
	fromBeginning bool
	offset        string
	from, to      string
	partitions    []int32
	number        int
	follow        bool
	format        string
	group         string
	level         isolation
}

func newConsumeCmd() *cobra.Command {
	f := new(consumeFlags)
	cmd := f.ofTopic(&cobra.Command{
		Use:   "consume TOPIC",
		Short: "Print records of a topic",
		Long: `Print records of a topic, in the order of each partition.

With a place to start (--from-beginning, --offset, --from-time) it prints what is there and ends at the present end, unless --follow is given.
Without one it prints new records as they come. -n ends it earlier. With --group it shares the partitions with the group's other members, goes on
where the group was, and commits how far it came; the place to start is for partitions of which the group has no offset. With --isolation read_committed, records of transactions that were aborted are not
printed, and reading waits, or ends, before the oldest transaction that is open.`,
		Example: `  barnabas consume letters --from-beginning
  barnabas consume letters --from-beginning -n 1
  barnabas consume letters --offset -5 --partition 0
  barnabas consume letters --from-time -1h --to-time 2026-11-21T12:00:00Z
  barnabas consume letters --follow --format '{{.Partition}}:{{.Offset}} {{.Key}} {{.Value}}'
  barnabas consume letters --group readers --from-beginning
  barnabas consume letters --from-beginning --isolation read_committed
  barnabas consume letters --from-beginning --json | jq .value`,
	}, f.run)
	f.add(cmd, 0, "end after that many records, 0 for no limit")
	flags := cmd.Flags()
	flags.BoolVar(&f.fromBeginning, "from-beginning", false, "start with the oldest record")
	flags.StringVar(&f.offset, "offset", "", "start at this offset; -N for N before the end")
	flags.StringVar(&f.from, "from-time", "", "start with the first record of that time: 2006-01-02T15:04:05Z, milliseconds since 1970, or -90m for 90 minutes ago")
	flags.StringVar(&f.to, "to-time", "", "end before the first record of that time")
	flags.StringVarP(&f.group, "group", "g", "", "read as a member of this consumer group")
	complete(cmd, "group", f.completeGroups)
	flags.BoolVarP(&f.follow, "follow", "f", false, "wait for new records at the end")
	return cmd
}

// add makes the flags of every command that prints records.
func (f *consumeFlags) add(cmd *cobra.Command, number int, numberHelp string) {
	f.clientFlags.add(cmd)
	flags := cmd.Flags()
	flags.Int32SliceVar(&f.partitions, "partition", nil, "read the partition of this `number` only; may be repeated")
	flags.IntVarP(&f.number, "number", "n", number, numberHelp)
	flags.StringVar(&f.format, "format", "", "Go template for one record: .Topic .Partition .Offset .Timestamp .Time .Key .Value .Headers")
	complete(cmd, "partition", f.completePartitions)
	f.level.add(cmd)
}

func (f *consumeFlags) run(cmd *cobra.Command, topic string) error {
	places := 0
	for _, set := range []bool{f.fromBeginning, f.offset != "", f.from != ""} {
		if set {
			places++
		}
	}
	if places > 1 {
		return usage("--from-beginning, --offset and --from-time exclude each other")
	}
	if f.group != "" && (f.to != "" || len(f.partitions) > 0) {
		return usage("--group excludes --to-time and --partition: the group says who reads what, and how far")
	}
	f.follow = f.follow || places == 0
	d, err := f.begin(cmd, topic)
	if err != nil {
		return err
	}
	defer d.close()
	if f.group != "" {
		return f.runGroup(d)
	}
	starts, err := d.starts()
	if err != nil {
		return err
	}
	ends, err := d.ends()
	if err != nil {
		return err
	}
	left := f.number
	err = d.reader(starts, ends).run(cmd.Context(), func(rec partitionRecord) error {
		if err := d.show(rec); err != nil {
			return err
		}
		if left--; left == 0 {
			return errEnough
		}
		return nil
	}, d.out.Flush)
	if errors.Is(err, errEnough) {
		err = nil
	}
	return errors.Join(err, d.out.Flush())
}

// errEnough ends reading.
var errEnough = errors.New("enough records")

// parseTime reads a time as milliseconds since 1970.
func parseTime(s string, now time.Time) (int64, error) {
	if d, err := time.ParseDuration(s); err == nil && strings.HasPrefix(s, "-") {
		return now.Add(d).UnixMilli(), nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 {
		return n, nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t.UnixMilli(), nil
		}
	}
	return 0, errors.New("want 2006-01-02T15:04:05Z, milliseconds since 1970, or -90m")
}
