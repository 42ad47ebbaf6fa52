package main

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/barnabas-log/barnabas/cluster"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// reading is one command at work that prints records of a topic.
type reading struct {
	flags *consumeFlags
	ctx   context.Context
	m     *cluster.Map
	topic string
	parts []int32 // in their order
	out   *bufio.Writer
	notes io.Writer // what is no record and no error
	show  func(partitionRecord) error
}

// begin checks the flags and looks the topic up.
func (f *consumeFlags) begin(cmd *cobra.Command, topic string) (*reading, error) {
	if f.number < 0 {
		return nil, usage("-n %d: want 0 or more", f.number)
	}
	d := &reading{flags: f, ctx: cmd.Context(), topic: topic, out: bufio.NewWriter(cmd.OutOrStdout()), notes: cmd.ErrOrStderr()}
	var err error
	if d.show, err = newPrinter(d.out, topic, f.format, f.json); err != nil {
		return nil, err
	}
	d.m = f.open()
	if d.parts, err = f.partitionsOf(d.ctx, d.m, topic); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *reading) close() { d.m.Close() }

func (d *reading) reader(next, ends map[int32]model.Offset) *reader {
	r := newReader(d.m, d.topic, next, ends)
	r.level = d.flags.level
	return r
}

// offsetsAt are the offsets at a time, of records that are to be seen.
func (d *reading) offsetsAt(ctx context.Context, timestamp int64) (map[int32]model.Offset, error) {
	return offsetsSeenAt(ctx, d.m, d.topic, d.parts, timestamp, d.flags.level)
}

// partitionsOf are the topic's partitions, or those asked for.
func (f *consumeFlags) partitionsOf(ctx context.Context, m *cluster.Map, topic string) ([]int32, error) {
	ctx, cancel := f.bounded(ctx)
	defer cancel()
	t, err := m.Topic(ctx, topic)
	if err != nil {
		return nil, err
	}
	return choosePartitions(t, f.partitions)
}

// choosePartitions are all partitions of a topic, or those wanted if there are
// any.
func choosePartitions(t cluster.Topic, wanted []int32) ([]int32, error) {
	all := indexesOf(t)
	for _, p := range wanted {
		if !slices.Contains(all, p) {
			return nil, fmt.Errorf("topic %s has no partition %d", t.Name, p)
		}
	}
	if len(wanted) > 0 {
		all = slices.Sorted(slices.Values(wanted))
	}
	return slices.Compact(all), nil
}

// starts are the offsets to begin with.
func (d *reading) starts() (map[int32]model.Offset, error) {
	ctx, cancel := d.flags.bounded(d.ctx)
	defer cancel()
	switch f := d.flags; {
	case f.fromBeginning:
		return d.offsetsAt(ctx, timeEarliest)
	case f.from != "":
		at, err := parseTime(f.from, time.Now())
		if err != nil {
			return nil, usage("--from-time %q: %w", f.from, err)
		}
		return offsetsOrEnd(ctx, d.m, d.topic, d.parts, at, d.flags.level)
	}
	offset := cmp.Or(d.flags.offset, "-0")
	n, err := strconv.ParseInt(offset, 10, 64)
	if err != nil {
		return nil, usage("--offset %q: want a number", offset)
	}
	return d.startsAt(ctx, model.Offset(n), strings.HasPrefix(offset, "-"))
}

// startsAt are the offsets to begin with for --offset: the same in each
// partition, or that far from its end. Where it was deleted, the oldest record
// is next; where it is past the end, that is said.
func (d *reading) startsAt(ctx context.Context, offset model.Offset, fromEnd bool) (map[int32]model.Offset, error) {
	firsts, err := d.offsetsAt(ctx, timeEarliest)
	if err != nil {
		return nil, err
	}
	ends, err := d.offsetsAt(ctx, timeLatest)
	if err != nil {
		return nil, err
	}
	starts := make(map[int32]model.Offset, len(ends))
	var past []string
	for _, p := range d.parts {
		switch end := ends[p]; {
		case fromEnd:
			starts[p] = max(end+offset, firsts[p])
		case offset > end:
			past = append(past, fmt.Sprintf("%s-%d ends at %d", d.topic, p, end))
		case offset < firsts[p]:
			fmt.Fprintf(d.notes, "barnabas: %s-%d begins at %d\n", d.topic, p, firsts[p])
			starts[p] = firsts[p]
		default:
			starts[p] = offset
		}
	}
	if len(past) == 0 {
		return starts, nil
	}
	why := fmt.Errorf("offset %d is past the end: %s: %w", offset, strings.Join(past, ", "), wire.OffsetOutOfRange)
	if len(starts) == 0 || d.flags.follow { // A broker takes no fetch from there.
		return nil, why
	}
	fmt.Fprintln(d.notes, "barnabas:", why)
	return starts, nil
}

// ends are the offsets to stop at; none to go on for ever.
func (d *reading) ends() (map[int32]model.Offset, error) {
	ctx, cancel := d.flags.bounded(d.ctx)
	defer cancel()
	switch f := d.flags; {
	case f.to != "":
		at, err := parseTime(f.to, time.Now())
		if err != nil {
			return nil, usage("--to-time %q: %w", f.to, err)
		}
		return offsetsOrEnd(ctx, d.m, d.topic, d.parts, at, d.flags.level)
	case f.follow:
		return nil, nil
	}
	return d.offsetsAt(ctx, timeLatest)
}

// offsetsOrEnd is offsetsAt with the end where no record is that late.
func offsetsOrEnd(ctx context.Context, m *cluster.Map, topic string, parts []int32, timestamp int64, level isolation) (map[int32]model.Offset, error) {
	// The ends are asked for first: what comes in between is later than both.
	ends, err := offsetsSeenAt(ctx, m, topic, parts, timeLatest, level)
	if err != nil {
		return nil, err
	}
	at, err := offsetsSeenAt(ctx, m, topic, parts, timestamp, level)
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
