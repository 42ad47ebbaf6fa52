package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/barnabas-log/barnabas/dafka"
)

type dafkaConsumeFlags struct {
	dafkaFlags
	fromBeginning bool
	number        int
	positions     string
	group         string
	brokers       []string
	siblings      bool
	json          bool
}

func newDafkaConsumeCmd() *cobra.Command {
	f := new(dafkaConsumeFlags)
	cmd := &cobra.Command{
		Use:   "consume TOPIC...",
		Short: "Print the records of topics as they come",
		Long: `Print the records of topics as they come: topic, partition, which is the producer's address, and content. The topic "" stands for all topics.
It begins with what is published from now on, and with the last record before, as C's consumers do; or with the first record.`,
		Example: `  barnabas dafka consume letters --from-beginning
  barnabas dafka consume letters --positions letters.pos   # goes on where it stopped
  barnabas dafka consume "" --json -n 10`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error { return f.run(cmd, a) },
	}
	f.addNode(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&f.fromBeginning, "from-beginning", false, "begin with the first record (consumer/offset/reset = earliest)")
	flags.IntVarP(&f.number, "number", "n", 0, "stop after so many records; 0 is never")
	flags.StringVar(&f.positions, "positions", "", "file in which the position is kept (consumer/positions)")
	flags.StringVar(&f.group, "group", "", "Kafka group that keeps the position, at a broker that runs with --dafka (consumer/group)")
	flags.StringSliceVarP(&f.brokers, "brokers", "b", nil, "where that broker is, host:port (consumer/brokers; default 127.0.0.1:9092)")
	flags.BoolVar(&f.siblings, "prefix", false, "topics that begin with TOPIC, too (consumer/siblings), as C's consumers do")
	flags.BoolVar(&f.json, "json", false, "print a JSON object for each record")
	return cmd
}

func (f *dafkaConsumeFlags) run(cmd *cobra.Command, topics []string) error {
	c, err := f.loadNode(cmd)
	if err != nil {
		return err
	}
	if f.number < 0 {
		return usage("-n %d: want 0 or more", f.number)
	}
	if f.fromBeginning {
		c.Consumer.Reset = dafka.Earliest
	}
	if f.positions != "" {
		c.Consumer.Positions = f.positions
	}
	if f.group != "" {
		c.Consumer.Group = f.group
	}
	if len(f.brokers) > 0 {
		c.Consumer.Brokers = f.brokers
	}
	c.Consumer.Siblings = c.Consumer.Siblings || f.siblings
	if err := c.Check(); err != nil {
		return &usageError{err}
	}
	consumer, err := dafka.NewConsumer(dafka.ConsumerOptions{Config: c, Log: f.log(cmd, c.Consumer.Verbose)})
	if err != nil {
		return err
	}
	for _, t := range topics {
		if err := consumer.Subscribe(t); err != nil {
			return errors.Join(&usageError{err}, consumer.Close(cmd.Context()))
		}
	}
	err = f.print(cmd.Context(), consumer, cmd.OutOrStdout())
	if err != nil && cmd.Context().Err() == nil {
		return err // Close would keep a position behind what could not be printed.
	}
	return whyEnded(cmd.Context(), errors.Join(err, consumer.Close(context.Background())))
}

// print prints records until there were enough. What is printed is flushed
// before it waits for more.
func (f *dafkaConsumeFlags) print(ctx context.Context, c *dafka.Consumer, to io.Writer) error {
	out := bufio.NewWriter(to)
	for printed := 0; f.number == 0 || printed < f.number; {
		records, err := c.ReceiveMost(ctx, f.number-printed)
		if err != nil {
			return errors.Join(err, out.Flush())
		}
		for i := range records {
			if err := f.show(out, &records[i]); err != nil {
				return err
			}
		}
		printed += len(records)
		if err := out.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// shownDafka is a record as JSON: content that is not UTF-8 stands in
// content_base64.
type shownDafka struct {
	Topic         string  `json:"topic"`
	Producer      string  `json:"producer"`
	Sequence      uint64  `json:"sequence"`
	Content       *string `json:"content,omitempty"`
	ContentBase64 string  `json:"content_base64,omitempty"`
}

func (f *dafkaConsumeFlags) show(out io.Writer, r *dafka.Record) error {
	if !f.json {
		_, err := fmt.Fprintf(out, "%s %s %s\n", r.Topic, r.Producer, r.Content)
		return err
	}
	s := shownDafka{Topic: r.Topic, Producer: r.Producer, Sequence: r.Sequence}
	s.Content, s.ContentBase64 = text(r.Content)
	return json.NewEncoder(out).Encode(s)
}
