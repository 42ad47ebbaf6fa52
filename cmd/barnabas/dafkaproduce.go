package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/barnabas-log/barnabas/dafka"
)

type dafkaProduceFlags struct {
	dafkaFlags
	file    string
	minAcks int
	timeout time.Duration
	json    bool
}

func newDafkaProduceCmd() *cobra.Command {
	f := new(dafkaProduceFlags)
	cmd := &cobra.Command{
		Use:   "produce TOPIC",
		Short: "Publish a record for each line of input",
		Long: `Publish a record for each line of standard input, or of a file, and wait until a store has them all. Without a store it waits for ever: interrupt it, or
give it a --timeout, or -o producer/min_acks=-1 if nothing needs to be kept.`,
		Example: `  echo "hello" | barnabas dafka produce letters
  barnabas dafka produce letters --file access.log --min-acks 2
  barnabas dafka produce letters -o producer/min_acks=-1   # whoever listens now gets it`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error { return f.run(cmd, a[0]) },
	}
	f.addNode(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.file, "file", "", "read this file instead of standard input")
	flags.IntVar(&f.minAcks, "min-acks", 1, "how many stores must have a record (producer/min_acks)")
	flags.DurationVar(&f.timeout, "timeout", 0, "how long to wait for stores after the last line (default: for ever)")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

func (f *dafkaProduceFlags) run(cmd *cobra.Command, topic string) error {
	c, err := f.loadNode(cmd)
	if err != nil {
		return err
	}
	if cmd.Flags().Changed("min-acks") {
		c.Producer.MinAcks = f.minAcks
		if err := c.Check(); err != nil {
			return &usageError{err}
		}
	}
	if f.timeout < 0 {
		return usage("--timeout %s: want 0, for ever, or more", f.timeout)
	}
	in, err := openInput(cmd, f.file)
	if err != nil {
		return err
	}
	defer in.Close()
	p, err := dafka.NewProducer(topic, dafka.ProducerOptions{Config: c, Log: f.log(cmd, c.Producer.Verbose)})
	if errors.Is(err, dafka.ErrTopic) {
		return &usageError{err}
	}
	if err != nil {
		return err
	}
	if c.Producer.MinAcks < 0 { // Nobody keeps what those miss who have yet to hear of us.
		pause(cmd.Context(), c.Beacon.Interval)
	}
	records, err := publishLines(cmd.Context(), p, interruptible(cmd.Context(), in))
	ctx, cancel := cmd.Context(), context.CancelFunc(func() {})
	if f.timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, f.timeout)
	}
	defer cancel()
	closed := p.Close(ctx)
	if errors.Is(closed, dafka.ErrUnacked) {
		return closed // Also if it was interrupted: something is lost.
	}
	if err = errors.Join(err, closed); err != nil {
		return whyEnded(cmd.Context(), err)
	}
	if f.json {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"topic": topic, "producer": p.Address(), "records": records})
	}
	return nil
}

// pause waits, but not beyond the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// publishLines publishes a record for each line, without its end.
func publishLines(ctx context.Context, p *dafka.Producer, in io.Reader) (records int, err error) {
	s := bufio.NewScanner(in)
	s.Buffer(nil, maxLine)
	for s.Scan() {
		if _, err := p.Publish(ctx, bytes.Clone(s.Bytes())); err != nil {
			return records, err
		}
		records++
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) {
		return records, fmt.Errorf("a line of more than %d bytes", maxLine)
	}
	return records, s.Err()
}
