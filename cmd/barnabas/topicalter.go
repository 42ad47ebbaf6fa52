package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/barnabas-log/barnabas/cluster"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

func newTopicAlterCmd(f *clientFlags) *cobra.Command {
	var configs, unset []string
	var dryRun bool
	cmd := f.ofTopic(&cobra.Command{
		Use:   "alter NAME",
		Short: "Change a topic's settings",
		Long:  "Change a topic's settings, all of them or, if one is refused, none. See also 'config set topic', which can change lists.",
		Example: `  barnabas topic alter letters -c retention.ms=86400000 -c cleanup.policy=compact
  barnabas topic alter letters --unset retention.ms`,
	}, func(cmd *cobra.Command, name string) error {
		a := &alteration{unset: unset, dryRun: dryRun}
		var err error
		if a.set, err = parsePairs("--config", configs); err != nil {
			return err
		}
		if a.empty() {
			return usage("nothing to alter: want -c key=value or --unset key")
		}
		return f.alter(cmd, resource{kindTopic, name}, a)
	})
	cmd.Flags().StringArrayVarP(&configs, "config", "c", nil, "topic setting, `key=value`; may be repeated")
	cmd.Flags().StringArrayVar(&unset, "unset", nil, "`key` of a setting to go back to the default; may be repeated")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "check only")
	complete(cmd, "config", f.completeTopicConfig)
	complete(cmd, "unset", func(_ *cobra.Command, have []string, _ string) ([]string, cobra.ShellCompDirective) {
		return f.completeKeysOf(resource{kindTopic, strings.Join(have, "")}, "")
	})
	return cmd
}

func newTopicAddPartitionsCmd(f *clientFlags) *cobra.Command {
	var total int32
	var dryRun bool
	cmd := f.ofTopic(&cobra.Command{
		Use:   "add-partitions NAME",
		Short: "Give a topic more partitions",
		Long: `Give a topic more partitions. Records stay where they are, so a key may go to another partition from then on: consumers that
count on the order of a key have to be ready for that. Partitions cannot be taken away.`,
		Example: "  barnabas topic add-partitions letters -p 12    # 12 altogether",
	}, func(cmd *cobra.Command, name string) error {
		if total < 1 {
			return usage("-p %d: want how many partitions there are to be altogether", total)
		}
		return f.addPartitions(cmd, name, total, dryRun)
	})
	cmd.Flags().Int32VarP(&total, "partitions", "p", 0, "how many there are to be altogether")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "check only")
	return cmd
}

func (f *clientFlags) addPartitions(cmd *cobra.Command, name string, total int32, dryRun bool) error {
	err := f.with(cmd.Context(), func(ctx context.Context, m *cluster.Map) error {
		req := wire.NewCreatePartitionsRequest()
		req.TimeoutMs, req.ValidateOnly = int32(f.timeout.Milliseconds()), dryRun
		req.Topics = []wire.CreatePartitionsRequestCreatePartitionsTopic{{Name: name, Count: total}}
		b, err := m.Controller(ctx)
		if err != nil {
			return err
		}
		resp, err := ask[*wire.CreatePartitionsResponse](ctx, b, req)
		if err != nil {
			return err
		}
		for _, t := range resp.Results {
			if err := refusal(t.ErrorCode, t.ErrorMessage); err != nil {
				return fmt.Errorf("add partitions to %s: %w", name, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return f.print(cmd.OutOrStdout(), map[string]any{"topic": name, "partitions": total, "dryRun": dryRun}, func(out io.Writer) error {
		has := "has"
		if dryRun {
			has = "would have"
		}
		_, err := fmt.Fprintf(out, "%s %s %s\n", name, has, count(int(total), "partition"))
		return err
	})
}

type trimFlags struct {
	*clientFlags
	partitions []int32
	offset     int64
	time       string
	all, yes   bool
}

func newTopicTrimCmd(client *clientFlags) *cobra.Command {
	f := &trimFlags{clientFlags: client}
	cmd := f.ofTopic(&cobra.Command{
		Use:   "trim NAME",
		Short: "Delete a topic's oldest records",
		Long: `Delete records from the beginning of a topic: those before an offset, those before a time, or all that there are. Readers no longer
see them at once; the disk has its space back when whole segments are gone. On a terminal it asks first.`,
		Example: `  barnabas topic trim letters --before-time -720h
  barnabas topic trim letters --partition 0 --before-offset 1200
  barnabas topic trim letters --all --yes`,
	}, func(cmd *cobra.Command, name string) error { return f.run(cmd, name) })
	flags := cmd.Flags()
	flags.Int32SliceVar(&f.partitions, "partition", nil, "trim the partition of this `number` only; may be repeated")
	flags.Int64Var(&f.offset, "before-offset", -1, "delete the records before this offset")
	flags.StringVar(&f.time, "before-time", "", "delete the records before the first of that time: 2006-01-02T15:04:05Z, milliseconds since 1970, or -90m for 90 minutes ago")
	flags.BoolVar(&f.all, "all", false, "delete all records that are there now")
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	complete(cmd, "partition", f.completePartitions)
	return cmd
}

// trimmed is what became of one partition.
type trimmed struct {
	Partition int32        `json:"partition"`
	Start     model.Offset `json:"startOffset"`
	Err       string       `json:"error,omitempty"`
}

func (f *trimFlags) run(cmd *cobra.Command, topic string) error {
	ways := 0
	byTime := cmd.Flags().Changed("before-time")
	for _, set := range []bool{cmd.Flags().Changed("before-offset"), byTime, f.all} {
		if set {
			ways++
		}
	}
	switch {
	case ways != 1:
		return usage("want one of --before-offset, --before-time and --all")
	case byTime && f.time == "":
		return usage("--before-time is empty: want a time")
	case !f.all && !byTime && f.offset < 0:
		return usage("--before-offset %d: want 0 or more", f.offset)
	}
	var before map[int32]model.Offset
	err := f.with(cmd.Context(), func(ctx context.Context, m *cluster.Map) (err error) {
		before, err = f.limits(ctx, m, topic)
		return err
	})
	if err != nil {
		return err
	}
	if err := confirm(cmd, f.yes, f.question(topic, before)); err != nil {
		return err
	}
	var done []trimmed
	err = f.with(cmd.Context(), func(ctx context.Context, m *cluster.Map) (err error) {
		done, err = deleteRecords(ctx, m, topic, before)
		return err
	})
	if len(done) == 0 {
		return err
	}
	shown := f.print(cmd.OutOrStdout(), map[string]any{"topic": topic, "partitions": done}, func(out io.Writer) error { return showTrimmed(out, done) })
	return errors.Join(shown, err)
}

// limits are the offsets before which each partition is to be trimmed.
func (f *trimFlags) limits(ctx context.Context, m *cluster.Map, topic string) (map[int32]model.Offset, error) {
	t, err := m.Topic(ctx, topic)
	if err != nil {
		return nil, err
	}
	parts, err := choosePartitions(t, f.partitions)
	if err != nil {
		return nil, err
	}
	switch {
	case f.all: // Not "up to the end" at the broker: what comes while we ask the user stays.
		return offsetsAt(ctx, m, topic, parts, timeLatest)
	case f.time != "":
		at, err := parseTime(f.time, time.Now())
		if err != nil {
			return nil, usage("--before-time %q: %w", f.time, err)
		}
		return offsetsOrEnd(ctx, m, topic, parts, at, readUncommitted)
	}
	out := make(map[int32]model.Offset, len(parts))
	for _, p := range parts {
		out[p] = model.Offset(f.offset)
	}
	return out, nil
}

func (f *trimFlags) question(topic string, before map[int32]model.Offset) string {
	var where []string
	for p, o := range before {
		where = append(where, fmt.Sprintf("%d before offset %d", p, o))
	}
	slices.Sort(where)
	if len(where) > 8 {
		where = append(where[:8], "…")
	}
	return fmt.Sprintf("Delete records of %s, for ever? Partition %s", topic, strings.Join(where, ", "))
}

// deleteRecords asks each leader, once for all its partitions, to delete what
// lies before the offsets.
func deleteRecords(ctx context.Context, m *cluster.Map, topic string, before map[int32]model.Offset) ([]trimmed, error) {
	requests := make(map[cluster.Broker]*wire.DeleteRecordsRequest)
	var done []trimmed
	for p, o := range before {
		b, err := m.Leader(ctx, topic, p)
		if err != nil {
			done = append(done, trimmed{p, model.NoOffset, err.Error()})
			continue
		}
		req := requests[b]
		if req == nil {
			req = wire.NewDeleteRecordsRequest()
			req.TimeoutMs = timeLeft(ctx)
			req.Topics = []wire.DeleteRecordsRequestDeleteRecordsTopic{{Name: topic}}
			requests[b] = req
		}
		q := wire.Extend(&req.Topics[0].Partitions)
		q.PartitionIndex, q.Offset = p, int64(o)
	}
	for b, req := range requests {
		resp, err := ask[*wire.DeleteRecordsResponse](ctx, b, req)
		if err != nil {
			return done, err
		}
		done = append(done, trimmedOf(resp)...)
	}
	slices.SortFunc(done, func(a, b trimmed) int { return cmp.Compare(a.Partition, b.Partition) })
	failed := 0
	for _, d := range done {
		if d.Err != "" {
			failed++
		}
	}
	if failed > 0 {
		return done, fmt.Errorf("%s of %s not trimmed", count(failed, "partition"), topic)
	}
	return done, nil
}

func trimmedOf(resp *wire.DeleteRecordsResponse) (done []trimmed) {
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			d := trimmed{Partition: p.PartitionIndex, Start: model.Offset(p.LowWatermark)}
			if err := refusal(p.ErrorCode, nil); err != nil {
				d.Err = err.Error()
			}
			done = append(done, d)
		}
	}
	return done
}

// timeLeft is for requests that carry a timeout: milliseconds until ctx ends.
func timeLeft(ctx context.Context) int32 {
	end, ok := ctx.Deadline()
	if !ok {
		return 30_000
	}
	return int32(max(min(time.Until(end), time.Hour).Milliseconds(), 1))
}

func showTrimmed(out io.Writer, done []trimmed) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PARTITION\tSTART\tERROR")
	for _, d := range done {
		fmt.Fprintf(w, "%d\t%d\t%s\n", d.Partition, d.Start, d.Err)
	}
	return w.Flush()
}
