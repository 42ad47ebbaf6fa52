package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/barnabas-log/barnabas/dafka"
	"github.com/barnabas-log/barnabas/dafka/store"
	"github.com/barnabas-log/barnabas/dafka/tower"
)

type dafkaBenchFlags struct {
	dafkaFlags
	count, size int
	alone       bool
	dir         string
	json        bool
}

func newDafkaBenchCmd() *cobra.Command {
	f := new(dafkaBenchFlags)
	cmd := &cobra.Command{
		Use:       "bench store|catch-up|live",
		Short:     "Measure a mesh",
		ValidArgs: []string{"store", "catch-up", "live"},
		Long: `Measure a mesh, or, with --alone, a tower and a store in this process.

store      from the first record published until the last is acknowledged
catch-up   a consumer reads from a store what a producer that is gone has published
live       a consumer gets what a producer publishes meanwhile

Processor time is this process's: with --alone, of all nodes together.`,
		Example: `  barnabas dafka bench store --alone --count 1000000 --size 100
  barnabas dafka bench catch-up --pub tcp://10.0.0.1:5557 --sub tcp://10.0.0.1:5556`,
		Args: args(cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)),
		RunE: func(cmd *cobra.Command, a []string) error { return f.run(cmd, a[0]) },
	}
	f.addNode(cmd)
	flags := cmd.Flags()
	flags.IntVar(&f.count, "count", 1_000_000, "records")
	flags.IntVar(&f.size, "size", 100, "bytes of each")
	flags.BoolVar(&f.alone, "alone", false, "with a tower and a store of its own, which are gone afterwards")
	flags.StringVar(&f.dir, "dir", "", "with --alone: where the store is; a temporary directory if empty. Use the disk in question")
	flags.BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

func (f *dafkaBenchFlags) run(cmd *cobra.Command, kind string) error {
	if f.count <= 0 || f.size < 0 {
		return usage("--count %d --size %d: want at least one record", f.count, f.size)
	}
	c, err := f.loadNode(cmd)
	if err != nil {
		return err
	}
	end := func() error { return nil }
	if f.alone {
		if end, err = f.startAlone(cmd, c); err != nil {
			return err
		}
	}
	measure := map[string]func(context.Context, *dafka.Config) (time.Duration, error){
		"store": f.benchStore, "catch-up": f.benchCatchUp, "live": f.benchLive,
	}[kind]
	cpu := processCPU(os.Getpid())
	took, err := measure(cmd.Context(), c)
	cpu = processCPU(os.Getpid()) - cpu
	if err = errors.Join(err, end()); err != nil {
		return whyEnded(cmd.Context(), err)
	}
	rate := float64(f.count) / took.Seconds()
	if f.json {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{
			"what": kind, "records": f.count, "size": f.size, "seconds": took.Seconds(), "records_per_second": rate,
			"cpu_microseconds_per_record": cpu * 1e6 / float64(f.count),
		})
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%-9s %d B  %10.0f records/s  %7.1f MB/s  %.2f µs CPU a record\n",
		kind, f.size, rate, rate*float64(f.size)/1e6, cpu*1e6/float64(f.count))
	return err
}

// startAlone starts a tower and a store, which c leads to.
func (f *dafkaBenchFlags) startAlone(cmd *cobra.Command, c *dafka.Config) (end func() error, err error) {
	dir, err := os.MkdirTemp(f.dir, "barnabas-dafka-bench-*")
	if err != nil {
		return nil, err
	}
	const local = "tcp://127.0.0.1:*"
	c.Tower.Sub, c.Tower.Pub, c.Beacon.Bind, c.Beacon.Address, c.Store.DB = local, local, local, "127.0.0.1", dir
	t, err := tower.New(c, nil)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	c.Beacon.Sub, c.Beacon.Pub = []string{t.Sub()}, []string{t.Pub()}
	s, err := store.New(c, store.Options{Log: f.log(cmd, false)})
	if err != nil {
		return nil, errors.Join(err, t.Close(context.Background()), os.RemoveAll(dir))
	}
	return func() error {
		return errors.Join(s.Close(context.Background()), t.Close(context.Background()), os.RemoveAll(dir))
	}, nil
}

const benchTopic = "$BENCH"

// publish publishes all records, once the mesh is there.
func (f *dafkaBenchFlags) publish(ctx context.Context, p *dafka.Producer) error {
	content := make([]byte, f.size) // Shared: nobody changes it.
	for i := range content {
		content[i] = byte(i * 7919 >> 3)
	}
	for range f.count {
		if _, err := p.Publish(ctx, content); err != nil {
			return err
		}
	}
	return nil
}

// joined waits until the others are connected.
func (f *dafkaBenchFlags) joined(ctx context.Context, peers func() dafka.Stats, want int) error {
	for peers().Peers < want {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		pause(ctx, 10*time.Millisecond)
	}
	pause(ctx, 500*time.Millisecond) // Connections, and what they subscribe to.
	return ctx.Err()
}

func (f *dafkaBenchFlags) benchStore(ctx context.Context, c *dafka.Config) (took time.Duration, err error) {
	p, err := dafka.NewProducer(benchTopic, dafka.ProducerOptions{Config: c})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.Close(ctx)) }()
	if err := f.joined(ctx, p.Stats, 2); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := f.publish(ctx, p); err != nil {
		return 0, err
	}
	err = p.Flush(ctx)
	return time.Since(began), err
}

func (f *dafkaBenchFlags) benchCatchUp(ctx context.Context, c *dafka.Config) (took time.Duration, err error) {
	p, err := dafka.NewProducer(benchTopic, dafka.ProducerOptions{Config: c})
	if err != nil {
		return 0, err
	}
	if err := errors.Join(f.publish(ctx, p), p.Close(ctx)); err != nil {
		return 0, err
	}
	earliest := *c
	earliest.Consumer.Reset = dafka.Earliest
	return f.consume(ctx, &earliest, p.Address(), nil)
}

func (f *dafkaBenchFlags) benchLive(ctx context.Context, c *dafka.Config) (took time.Duration, err error) {
	p, err := dafka.NewProducer(benchTopic, dafka.ProducerOptions{Config: c})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.Close(ctx)) }()
	earliest := *c
	earliest.Consumer.Reset = dafka.Earliest
	return f.consume(ctx, &earliest, p.Address(), func(peers func() dafka.Stats) error {
		if err := f.joined(ctx, peers, 1); err != nil {
			return err
		}
		return f.publish(ctx, p)
	})
}

// consume reads all records of a producer while something is done, and measures
// from the first to the last.
func (f *dafkaBenchFlags) consume(
	ctx context.Context, c *dafka.Config, producer string, meanwhile func(peers func() dafka.Stats) error,
) (took time.Duration, err error) {
	consumer, err := dafka.NewConsumer(dafka.ConsumerOptions{Config: c})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, consumer.Close(ctx)) }()
	if err := consumer.Subscribe(benchTopic); err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	if meanwhile == nil {
		done <- nil
	} else {
		go func() { done <- meanwhile(consumer.Stats) }()
	}
	var began time.Time
	for n := 0; n < f.count; {
		records, err := consumer.Receive(ctx)
		if err != nil {
			return 0, err
		}
		if began.IsZero() {
			began = time.Now()
		}
		for i := range records {
			if records[i].Producer == producer {
				n++
			}
		}
	}
	return time.Since(began), <-done
}
