package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/barnabas-log/barnabas/cluster"
	"github.com/barnabas-log/barnabas/model"
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
}

func newConsumeCmd() *cobra.Command {
	f := new(consumeFlags)
	cmd := &cobra.Command{
		Use:   "consume TOPIC",
		Short: "Print records of a topic",
		Long: `Print records of a topic, in the order of each partition.

With a place to start (--from-beginning, --offset, --from-time) it prints what is there and ends at the present end, unless --follow is given.
Without one it prints new records as they come. -n ends it earlier. Records of aborted transactions are printed too.`,
		Example: `  barnabas consume letters --from-beginning
  barnabas consume letters --from-beginning -n 1
  barnabas consume letters --offset -5 --partition 0
  barnabas consume letters --from-time -1h --to-time 2026-11-21T12:00:00Z
  barnabas consume letters --follow --format '{{.Partition}}:{{.Offset}} {{.Key}} {{.Value}}'
  barnabas consume letters --from-beginning --json | jq .value`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: f.completeTopics,
		RunE: func(cmd *cobra.Command, a []string) error {
			return f.run(cmd, a[0])
		},
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&f.fromBeginning, "from-beginning", false, "start with the oldest record")
	flags.StringVar(&f.offset, "offset", "", "start at this offset; -N for N before the end")
	flags.StringVar(&f.from, "from-time", "", "start with the first record of that time: 2006-01-02T15:04:05Z, milliseconds since 1970, or -90m for 90 minutes ago")
	flags.StringVar(&f.to, "to-time", "", "end before the first record of that time")
	flags.BoolVarP(&f.follow, "follow", "f", false, "wait for new records at the end")
	f.addCommon(cmd, 0, "end after that many records, 0 for no limit")
	return cmd
}

func (f *consumeFlags) addCommon(cmd *cobra.Command, number int, numberHelp string) {
	flags := cmd.Flags()
	flags.Int32SliceVar(&f.partitions, "partition", nil, "read this partition only; may be repeated")
	flags.IntVarP(&f.number, "number", "n", number, numberHelp)
	flags.StringVar(&f.format, "format", "", "Go template for one record: .Topic .Partition .Offset .Timestamp .Time .Key .Value .Headers")
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
	if f.number < 0 {
		return usage("-n %d: want 0 or more", f.number)
	}
	out := bufio.NewWriter(cmd.OutOrStdout())
	show, err := newPrinter(out, topic, f.format, f.json)
	if err != nil {
		return err
	}
	m := f.open()
	defer m.Close()
	parts, err := f.partitionsOf(cmd.Context(), m, topic)
	if err != nil {
		return err
	}
	starts, err := f.starts(cmd.Context(), m, topic, parts)
	if err != nil {
		return err
	}
	ends, err := f.ends(cmd.Context(), m, topic, parts, f.follow || places == 0)
	if err != nil {
		return err
	}
	r := newReader(m, topic, starts, ends)
	left := f.number
	err = r.run(cmd.Context(), func(rec partitionRecord) error {
		if err := show(rec); err != nil {
			return err
		}
		if left--; left == 0 {
			return errEnough
		}
		return nil
	}, out.Flush)
	if errors.Is(err, errEnough) {
		err = nil
	}
	return errors.Join(err, out.Flush())
}

// errEnough ends reading.
var errEnough = errors.New("enough records")

// partitionsOf are the topic's partitions, or those asked for.
func (f *consumeFlags) partitionsOf(ctx context.Context, m *cluster.Map, topic string) ([]int32, error) {
	ctx, cancel := f.bounded(ctx)
	defer cancel()
	t, err := m.Topic(ctx, topic)
	if err != nil {
		return nil, err
	}
	all := indexesOf(t)
	for _, p := range f.partitions {
		if !slices.Contains(all, p) {
			return nil, fmt.Errorf("topic %s has no partition %d", topic, p)
		}
	}
	if len(f.partitions) > 0 {
		all = slices.Clone(f.partitions)
		slices.Sort(all)
	}
	return slices.Compact(all), nil
}

// starts are the offsets to begin with.
func (f *consumeFlags) starts(ctx context.Context, m *cluster.Map, topic string, parts []int32) (map[int32]model.Offset, error) {
	ctx, cancel := f.bounded(ctx)
	defer cancel()
	switch {
	case f.fromBeginning:
		return offsetsAt(ctx, m, topic, parts, timeEarliest)
	case f.from != "":
		at, err := parseTime(f.from, time.Now())
		if err != nil {
			return nil, usage("--from-time %q: %w", f.from, err)
		}
		return offsetsOrEnd(ctx, m, topic, parts, at)
	}
	offset := cmp.Or(f.offset, "-0")
	n, err := strconv.ParseInt(offset, 10, 64)
	if err != nil {
		return nil, usage("--offset %q: want a number", offset)
	}
	first, err := offsetsAt(ctx, m, topic, parts, timeEarliest)
	if err != nil {
		return nil, err
	}
	ends, err := offsetsAt(ctx, m, topic, parts, timeLatest)
	if err != nil {
		return nil, err
	}
	for p, end := range ends {
		o := model.Offset(n)
		if strings.HasPrefix(offset, "-") {
			o = end + model.Offset(n)
		}
		ends[p] = max(o, first[p])
	}
	return ends, nil
}

// ends are the offsets to stop at; none to go on for ever.
func (f *consumeFlags) ends(ctx context.Context, m *cluster.Map, topic string, parts []int32, follow bool) (map[int32]model.Offset, error) {
	ctx, cancel := f.bounded(ctx)
	defer cancel()
	switch {
	case f.to != "":
		at, err := parseTime(f.to, time.Now())
		if err != nil {
			return nil, usage("--to-time %q: %w", f.to, err)
		}
		return offsetsOrEnd(ctx, m, topic, parts, at)
	case follow:
		return nil, nil
	}
	return offsetsAt(ctx, m, topic, parts, timeLatest)
}

// offsetsOrEnd is offsetsAt with the end where no record is that late.
func offsetsOrEnd(ctx context.Context, m *cluster.Map, topic string, parts []int32, timestamp int64) (map[int32]model.Offset, error) {
	// The ends are asked for first: what comes in between is later than both.
	ends, err := offsetsAt(ctx, m, topic, parts, timeLatest)
	if err != nil {
		return nil, err
	}
	at, err := offsetsAt(ctx, m, topic, parts, timestamp)
	if err != nil {
		return nil, err
	}
	for p, o := range at {
		if o == model.NoOffset {
			at[p] = ends[p]
		}
	}
	return at, nil
}

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
