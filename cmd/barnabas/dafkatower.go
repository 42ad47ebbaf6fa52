package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/barnabas-log/barnabas/dafka/tower"
)

func newDafkaTowerCmd() *cobra.Command {
	f := new(dafkaFlags)
	cmd := &cobra.Command{
		Use:   "tower",
		Short: "Run a tower, where the nodes of a mesh meet",
		Long: `Run a tower, where the nodes of a mesh meet. Nodes tell it where they are, and it tells everybody; records do not pass through it. Nodes take
several towers (--pub and --sub with commas): they meet while one of them runs.`,
		Example: `  barnabas dafka tower
  barnabas dafka tower --pub 'tcp://*:5557' --sub 'tcp://*:5556' --http 127.0.0.1:9645`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.tower(cmd) },
	}
	f.add(cmd, "where to speak (default tcp://*:5557)", "where to hear (default tcp://*:5556)")
	f.addHTTP(cmd)
	return cmd
}

func (f *dafkaFlags) tower(cmd *cobra.Command) error {
	c, err := f.load(cmd, "tower/pub_address", "tower/sub_address")
	if err != nil {
		return err
	}
	t, err := tower.New(c, f.log(cmd, c.Tower.Verbose))
	if err != nil {
		return err
	}
	h, err := f.serveHTTP(func() string { return "" }, func() []figure {
		s := t.Stats()
		return []figure{
			{"nodes", "gauge", "Nodes that listen to this tower. Fewer than there should be: they cannot reach it.", float64(s.Nodes)},
			{"beacons_total", "counter", "Beacons passed on. Stands still: no node reaches tower/sub_address.", float64(s.Beacons)},
			{"malformed_total", "counter", "Beacons and frames that were not understood. Grows: something else speaks here.", float64(s.Malformed)},
		}
	})
	if err != nil {
		return err
	}
	defer h.close()
	fmt.Fprintf(cmd.OutOrStdout(), "tower is ready: nodes need --pub %s --sub %s\n", reachable(t.Pub()), reachable(t.Sub()))
	return untilStopped(cmd, t.Close)
}
