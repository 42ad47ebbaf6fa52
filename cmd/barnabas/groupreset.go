package main

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/barnabas-log/barnabas/cluster"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// resetFlags say where a group is to go on.
type resetFlags struct {
	*clientFlags
	topics             []string
	earliest, latest   bool
	offset, shift      int64
	time, file         string
	dryRun, yes        bool
	offsetSet, shifted bool
}

func newGroupResetCmd(client *clientFlags) *cobra.Command {
	f := &resetFlags{clientFlags: client}
	cmd := &cobra.Command{
		Use:   "reset-offsets GROUP",
		Short: "Let a group go on somewhere else",
		Long: `Let a group go on somewhere else. The group must have no members: stop its consumers first.

Without --topic, all topics of which the group has offsets are meant. An offset outside of a partition becomes its beginning or end.`,
		Example: `  barnabas group reset-offsets payments --to-earliest --dry-run
  barnabas group reset-offsets payments --topic orders --to-time 2026-11-20T08:00:00Z
  barnabas group reset-offsets payments --shift-by -100
  barnabas group reset-offsets payments --from-file offsets.csv    # topic,partition,offset`,
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.topics, "topic", nil, "only this topic; may be repeated, and name a group's first offsets")
	flags.BoolVar(&f.earliest, "to-earliest", false, "to the beginning")
	flags.BoolVar(&f.latest, "to-latest", false, "to the end")
	flags.Int64Var(&f.offset, "to-offset", 0, "to this offset")
	flags.StringVar(&f.time, "to-time", "", "to the first record of this time or later: RFC 3339, milliseconds since 1970, or a duration back from now such as -90m")
	flags.Int64Var(&f.shift, "shift-by", 0, "this many offsets on, or back if negative")
	flags.StringVar(&f.file, "from-file", "", "to what a file of lines topic,partition,offset says; - is the standard input")
	flags.BoolVar(&f.dryRun, "dry-run", false, "only show what would be done")
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	complete(cmd, "topic", f.completeTopics)
	return f.ofGroup(cmd, func(cmd *cobra.Command, group string) error {
		f.offsetSet, f.shifted = cmd.Flags().Changed("to-offset"), cmd.Flags().Changed("shift-by")
		if err := f.check(); err != nil {
			return err
		}
		return f.reset(cmd, group)
	})
}

// check wants exactly one way to say where.
func (f *resetFlags) check() error {
	n := 0
	for _, set := range []bool{f.earliest, f.latest, f.offsetSet, f.shifted, f.time != "", f.file != ""} {
		if set {
			n++
		}
	}
	if n != 1 {
		return usage("where to? want one of --to-earliest, --to-latest, --to-offset, --to-time, --shift-by, --from-file")
	}
	return nil
}

func (f *resetFlags) reset(cmd *cobra.Command, group string) error {
	return f.with(cmd.Context(), func(ctx context.Context, m *cluster.Map) error {
		to, err := f.targets(ctx, m, group, cmd.InOrStdin())
		if err != nil {
			return err
		}
		if len(to) == 0 {
			return fmt.Errorf("group %s has no offsets: name its topics with --topic", group)
		}
		show := func(out io.Writer) error { return showOffsets(out, to) }
		if f.dryRun {
			return f.print(cmd.OutOrStdout(), to, show)
		}
		if err := confirm(cmd, f.yes, fmt.Sprintf("Set %d offsets of group %s?", len(to), group)); err != nil {
			return err
		}
		err = commitOffsets(ctx, m, group, to)
		if errors.Is(err, wire.UnknownMemberID) || errors.Is(err, wire.IllegalGeneration) {
			return fmt.Errorf("group %s has members, which say themselves where they are: stop its consumers first: %w", group, err)
		}
		if err != nil {
			return fmt.Errorf("group %s: %w", group, err)
		}
		return f.print(cmd.OutOrStdout(), to, show)
	})
}

// targets are the offsets that the group is to have.
func (f *resetFlags) targets(ctx context.Context, m *cluster.Map, group string, stdin io.Reader) ([]offsetView, error) {
	if f.file != "" {
		return f.fromFile(ctx, m, group, stdin)
	}
	now, err := f.current(ctx, m, group)
	if err != nil {
		return nil, err
	}
	for i := range now {
		if err := f.move(ctx, m, &now[i]); err != nil {
			return nil, err
		}
	}
	return now, nil
}

// current is where the group stands, and -1 for partitions of --topic in which
// it does not stand yet.
func (f *resetFlags) current(ctx context.Context, m *cluster.Map, group string) ([]offsetView, error) {
	has, err := groupOffsets(ctx, m, group)
	if err != nil || len(f.topics) == 0 {
		return has, err
	}
	known := map[model.Partition]offsetView{}
	for _, o := range has {
		known[model.Partition{Topic: o.Topic, Index: o.Partition}] = o
	}
	var out []offsetView
	for _, topic := range f.topics {
		t, err := m.Topic(ctx, topic)
		if err != nil {
			return nil, err
		}
		for _, p := range indexesOf(t) {
			o, ok := known[model.Partition{Topic: topic, Index: p}]
			if !ok {
				o = offsetView{Topic: topic, Partition: p, Offset: -1}
			}
			out = append(out, o)
		}
	}
	return out, withEnds(ctx, m, out)
}

// move sets the offset of one partition, within what there is.
func (f *resetFlags) move(ctx context.Context, m *cluster.Map, o *offsetView) error {
	at := func(ts int64) (int64, error) {
		got, err := offsetsAt(ctx, m, o.Topic, []int32{o.Partition}, ts)
		return int64(got[o.Partition]), err
	}
	start, err := at(timeEarliest)
	if err != nil {
		return err
	}
	want := o.Offset
	switch {
	case f.earliest:
		want = start
	case f.latest:
		want = o.End
	case f.offsetSet:
		want = f.offset
	case f.shifted:
		want = max(o.Offset, start) + f.shift
	case f.time != "":
		ts, err := parseTime(f.time, time.Now())
		if err != nil {
			return usage("--to-time %q: %w", f.time, err)
		}
		if want, err = at(ts); err != nil {
			return err
		}
		if want < 0 {
			want = o.End // Nothing is as young.
		}
	}
	o.moveTo(want, start)
	return nil
}

// fromFile reads lines topic,partition,offset, or group,topic,partition,offset
// as Kafka's tool exports those of several groups.
func (f *resetFlags) fromFile(ctx context.Context, m *cluster.Map, group string, stdin io.Reader) ([]offsetView, error) {
	in := stdin
	if f.file != "-" {
		file, err := os.Open(f.file)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		in = file
	}
	lines := csv.NewReader(in)
	lines.FieldsPerRecord, lines.Comment, lines.TrimLeadingSpace = -1, '#', true
	var out []offsetView
	for {
		fields, err := lines.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.file, err)
		}
		if len(fields) == 4 && fields[0] != group {
			continue
		}
		o, err := parseOffset(fields[max(0, len(fields)-3):])
		if err != nil {
			line, _ := lines.FieldPos(0)
			return nil, fmt.Errorf("%s: line %d: want topic,partition,offset: %w", f.file, line, err)
		}
		out = append(out, o)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s says nothing of group %s", f.file, group)
	}
	return out, withinPartitions(ctx, m, out)
}

func parseOffset(fields []string) (o offsetView, err error) {
	if len(fields) != 3 {
		return o, fmt.Errorf("%d fields", len(fields))
	}
	p, err := strconv.ParseInt(fields[1], 10, 32)
	if err == nil {
		o = offsetView{Topic: fields[0], Partition: int32(p)}
		o.Offset, err = strconv.ParseInt(fields[2], 10, 64)
	}
	return o, err
}

// withinPartitions moves offsets to the beginning or end of their partitions if
// they are outside.
func withinPartitions(ctx context.Context, m *cluster.Map, offsets []offsetView) error {
	for i := range offsets { // Else one would be waited for that may never come.
		t, err := m.Topic(ctx, offsets[i].Topic)
		if err == nil {
			_, err = choosePartitions(t, []int32{offsets[i].Partition})
		}
		if err != nil {
			return err
		}
	}
	if err := withEnds(ctx, m, offsets); err != nil {
		return err
	}
	for i := range offsets {
		o := &offsets[i]
		starts, err := offsetsAt(ctx, m, o.Topic, []int32{o.Partition}, timeEarliest)
		if err != nil {
			return err
		}
		o.moveTo(o.Offset, int64(starts[o.Partition]))
	}
	return nil
}

// moveTo sets the offset, within what there is.
func (o *offsetView) moveTo(want, start int64) {
	o.Offset = min(max(want, start), o.End)
	o.Lag, o.Metadata = o.End-o.Offset, ""
}

// newRollbackCmd is reset-offsets to a time, for one topic, as kpax has it.
func newRollbackCmd() *cobra.Command {
	f := &resetFlags{clientFlags: new(clientFlags)}
	var group string
	cmd := &cobra.Command{
		Use:   "rollback TOPIC",
		Short: "Let a group read a topic again from a time on",
		Long:  "Let a group read a topic again from a time on. The group must have no members: stop its consumers first.",
		Example: `  barnabas rollback orders --group payments --to-time 2026-11-20T08:00:00Z
  barnabas rollback orders --group payments --to-time -90m`,
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&group, "group", "", "the group")
	flags.StringVar(&f.time, "to-time", "", "RFC 3339, milliseconds since 1970, or a duration back from now such as -90m")
	flags.BoolVar(&f.dryRun, "dry-run", false, "only show what would be done")
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	complete(cmd, "group", f.completeGroups)
	return f.ofTopic(cmd, func(cmd *cobra.Command, topic string) error {
		if group == "" || f.time == "" {
			return usage("want --group and --to-time")
		}
		f.topics = []string{topic}
		return f.reset(cmd, group)
	})
}
