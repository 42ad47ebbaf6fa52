package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/barnabas-log/barnabas/cluster"
	"github.com/barnabas-log/barnabas/model"
)

func newTailCmd() *cobra.Command {
	f := new(consumeFlags)
	cmd := &cobra.Command{
		Use:   "tail TOPIC",
		Short: "Print the newest records of a topic",
		Long:  "Print the newest records of a topic, over all partitions, by time.",
		Example: `  barnabas tail letters -n 10
  barnabas tail letters -n 1 --json
  barnabas tail letters --follow`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: f.completeTopics,
		RunE: func(cmd *cobra.Command, a []string) error {
			return f.tail(cmd, a[0])
		},
	}
	f.add(cmd)
	f.addCommon(cmd, 10, "how many records")
	cmd.Flags().BoolVarP(&f.follow, "follow", "f", false, "go on with new records")
	return cmd
}

func (f *consumeFlags) tail(cmd *cobra.Command, topic string) error {
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
	ctx := cmd.Context()
	parts, err := f.partitionsOf(ctx, m, topic)
	if err != nil {
		return err
	}
	ends, err := f.ends(ctx, m, topic, parts, false)
	if err != nil {
		return err
	}
	newest, err := f.newest(ctx, m, topic, parts, ends)
	if err != nil {
		return err
	}
	for _, r := range newest {
		if err := show(r); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil || !f.follow {
		return err
	}
	r := newReader(m, topic, ends, nil)
	return errors.Join(r.run(ctx, show, out.Flush), out.Flush())
}

// newest are the last records below ends, over all partitions. Offsets may have
// holes (compaction, markers), so each partition is read from further and
// further back until it gives enough or there is no more.
func (f *consumeFlags) newest(ctx context.Context, m *cluster.Map, topic string, parts []int32, ends map[int32]model.Offset) ([]partitionRecord, error) {
	first, err := offsetsAt(ctx, m, topic, parts, timeEarliest)
	if err != nil {
		return nil, err
	}
	var all []partitionRecord
	for _, p := range parts {
		for back := model.Offset(f.number); ; back *= 4 {
			start := max(first[p], ends[p]-back)
			var got []partitionRecord
			r := newReader(m, topic, map[int32]model.Offset{p: start}, maps.Clone(ends))
			err := r.run(ctx, func(rec partitionRecord) error {
				if got = append(got, rec); len(got) > f.number {
					got = slices.Delete(got, 0, 1)
				}
				return nil
			}, func() error { return nil })
			if err != nil {
				return nil, err
			}
			if len(got) >= f.number || start == first[p] {
				all = append(all, got...)
				break
			}
		}
	}
	slices.SortStableFunc(all, func(a, b partitionRecord) int { return cmp.Compare(a.Timestamp, b.Timestamp) })
	return all[max(0, len(all)-f.number):], nil
}
