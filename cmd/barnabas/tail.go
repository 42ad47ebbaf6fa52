package main

import (
	"cmp"
	"errors"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/barnabas-log/barnabas/model"
)

func newTailCmd() *cobra.Command {
	f := new(consumeFlags)
	cmd := f.ofTopic(&cobra.Command{
		Use:   "tail TOPIC",
		Short: "Print the newest records of a topic",
		Long:  "Print the newest records of a topic, over all partitions, by time.",
		Example: `  barnabas tail letters -n 10
  barnabas tail letters -n 1 --json
  barnabas tail letters --follow`,
	}, f.tail)
	f.add(cmd, 10, "how many records")
	cmd.Flags().BoolVarP(&f.follow, "follow", "f", false, "go on with new records")
	return cmd
}

func (f *consumeFlags) tail(cmd *cobra.Command, topic string) error {
	d, err := f.begin(cmd, topic)
	if err != nil {
		return err
	}
	defer d.close()
	ctx, cancel := f.bounded(d.ctx)
	ends, err := d.offsetsAt(ctx, timeLatest)
	cancel()
	if err != nil {
		return err
	}
	newest, err := d.newest(ends)
	if err != nil {
		return err
	}
	for _, r := range newest {
		if err := d.show(r); err != nil {
			return err
		}
	}
	if err := d.out.Flush(); err != nil || !f.follow {
		return err
	}
	r := d.reader(ends, nil)
	return errors.Join(r.run(d.ctx, d.show, d.out.Flush), d.out.Flush())
}

// newest are the last records below ends, over all partitions. Offsets may have
// holes (compaction, markers), so each partition is read from further and
// further back until it gives enough or there is no more.
func (d *reading) newest(ends map[int32]model.Offset) ([]partitionRecord, error) {
	number := d.flags.number
	first, err := d.offsetsAt(d.ctx, timeEarliest)
	if err != nil {
		return nil, err
	}
	var all []partitionRecord
	for _, p := range d.parts {
		for back := model.Offset(number); ; back *= 4 {
			start := max(first[p], ends[p]-back)
			var got []partitionRecord
			r := d.reader(map[int32]model.Offset{p: start}, maps.Clone(ends))
			err := r.run(d.ctx, func(rec partitionRecord) error {
				if got = append(got, rec); len(got) > number {
					got = slices.Delete(got, 0, 1)
				}
				return nil
			}, func() error { return nil })
			if err != nil {
				return nil, err
			}
			if len(got) >= number || start == first[p] {
				all = append(all, got...)
				break
			}
		}
	}
	slices.SortStableFunc(all, func(a, b partitionRecord) int { return cmp.Compare(a.Timestamp, b.Timestamp) })
	return all[max(0, len(all)-number):], nil
}
