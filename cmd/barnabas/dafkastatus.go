package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/barnabas-log/barnabas/dafka"
)

type dafkaStatusFlags struct {
	dafkaFlags
	wait time.Duration
	json bool
}

func newDafkaStatusCmd() *cobra.Command {
	f := new(dafkaStatusFlags)
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show who is in the mesh, and what stores have",
		Long: `Show who is in the mesh, what each does there, and for each partition how many records were published and how far behind each store is. It joins
the mesh, and listens for a moment. Roles are told from what nodes subscribe to.`,
		Example: `  barnabas dafka status
  barnabas dafka status --wait 5s --json | jq .partitions`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.addNode(cmd)
	cmd.Flags().DurationVar(&f.wait, "wait", 2500*time.Millisecond, "how long to listen")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

func (f *dafkaStatusFlags) run(cmd *cobra.Command) error {
	c, err := f.loadNode(cmd)
	if err != nil {
		return err
	}
	o, err := dafka.Observe(c, f.log(cmd, false))
	if err != nil {
		return err
	}
	pause(cmd.Context(), f.wait)
	nodes, partitions, towers := o.Nodes(), o.Partitions(), o.Stats().Towers
	if err := errors.Join(cmd.Context().Err(), o.Close(context.Background())); err != nil {
		return err
	}
	if len(nodes) == 0 && towers == 0 {
		return fmt.Errorf("nobody is heard of by %s: does a tower run there?", strings.Join(c.Beacon.Pub, ", "))
	}
	if f.json {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]any{"nodes": orNone(nodes), "partitions": orNone(partitions)})
	}
	if len(nodes) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "a tower is there, and nobody else")
		return nil
	}
	return showMesh(cmd.OutOrStdout(), nodes, partitions)
}

// orNone is [] as JSON, and not null, if there is nothing.
func orNone[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func showMesh(to io.Writer, nodes []dafka.NodeInfo, partitions []dafka.PartitionInfo) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ROLE\tADDRESS\tENDPOINT\tTOPICS")
	for _, n := range nodes {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", n.Role, n.Address, n.Endpoint, strings.Join(quotedIfEmpty(n.Topics), " "))
	}
	if len(partitions) > 0 {
		fmt.Fprintln(w, "\nTOPIC\tPRODUCER\tLIVE\tPUBLISHED\tSTORE\tSTORED\tLAG")
	}
	for i := range partitions {
		showPartition(w, &partitions[i])
	}
	return w.Flush()
}

// showPartition writes a line for each store that has the partition.
func showPartition(w io.Writer, p *dafka.PartitionInfo) {
	live := map[bool]string{true: "yes", false: "no"}[p.Live]
	if len(p.Stored) == 0 {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t-\t-\t-\n", p.Topic, p.Producer, live, p.Published)
	}
	for _, store := range slices.Sorted(maps.Keys(p.Stored)) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%d\t%d\n", p.Topic, p.Producer, live, p.Published, store, p.Stored[store], p.Lag(store))
	}
}

func quotedIfEmpty(topics []string) []string {
	out := slices.Clone(topics)
	for i, t := range out {
		if t == "" {
			out[i] = `""`
		}
	}
	return out
}
