package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/barnabas-log/barnabas/dafka/store"
)

type dafkaStoreFlags struct {
	dafkaFlags
	dataDir string
}

func newDafkaStoreCmd() *cobra.Command {
	f := new(dafkaStoreFlags)
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Run a store, which keeps what producers publish",
		Long: `Run a store, which keeps what producers publish, acknowledges it when it is on disk, and gives it to consumers that come late, and to other stores. Each
partition is a log in Kafka's file format: see "barnabas log dump".`,
		Example: `  barnabas dafka store --data-dir ./store
  barnabas dafka store -c store.conf --http 127.0.0.1:9646
  barnabas dafka store -o store/retention_ms=86400000 -o store/retention_disk_percent=80`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.addNode(cmd)
	f.addHTTP(cmd)
	cmd.Flags().StringVar(&f.dataDir, "data-dir", "", "directory of the store (store/db; default storedb)")
	return cmd
}

func (f *dafkaStoreFlags) run(cmd *cobra.Command) error {
	c, err := f.loadNode(cmd)
	if err != nil {
		return err
	}
	if f.dataDir != "" {
		c.Store.DB = f.dataDir
	}
	s, err := store.New(c, store.Options{Log: f.log(cmd, c.Store.Verbose)})
	if err != nil {
		return err
	}
	h, err := f.serveHTTP(func() string { return storeLacks(s.Stats()) }, func() []figure { return storeFigures(s.Stats(), len(s.Partitions())) })
	if err != nil {
		return err
	}
	defer h.close()
	fmt.Fprintf(cmd.OutOrStdout(), "store is ready: %s in %s\n", count(len(s.Partitions()), "partition"), c.Store.DB)
	return untilStopped(cmd, s.Close)
}

// storeLacks is why a store cannot do its work now.
func storeLacks(s store.Stats) string {
	switch {
	case s.Full:
		return "the disk is full"
	case s.Writer.Towers == 0:
		return "no tower is heard"
	}
	return ""
}

func storeFigures(s store.Stats, partitions int) []figure {
	full := 0.0
	if s.Full {
		full = 1
	}
	return []figure{
		{"peers", "gauge", "Nodes of the mesh that the store is connected to. None: it reaches no tower.", float64(s.Writer.Peers)},
		{"towers", "gauge", "Towers that speak to the store. Fewer than configured: those are away.", float64(s.Writer.Towers)},
		{"partitions", "gauge", "Producers' partitions that the store has.", float64(partitions)},
		{"stored_records_total", "counter", "Records stored.", float64(s.Records)},
		{"stored_bytes_total", "counter", "Bytes of their contents.", float64(s.Bytes)},
		{"syncs_total", "counter", "Groups of records that were put on disk together.", float64(s.Syncs)},
		{"refused_records_total", "counter", "Records that could not be stored. Grows: the disk is full or fails; see the log.", float64(s.Refused)},
		{"served_records_total", "counter", "Records sent to who asked for them.", float64(s.Served)},
		{"deleted_segments_total", "counter", "Segments that retention deleted.", float64(s.Deleted)},
		{"strangers_total", "counter", "Messages of partitions that there was no room for. Grows: more than 262,144 producers and topics came in the life of store/db; begin a new directory.", float64(s.Strangers)},
		{"dropped_messages_total", "counter", "Messages dropped because a peer did not read. It asks again.", float64(s.Writer.Dropped + s.Reader.Dropped)},
		{"malformed_total", "counter", "Messages that were not understood.", float64(s.Writer.Malformed + s.Reader.Malformed)},
		{"disk_full", "gauge", "1 while the disk is full: nothing is stored or acknowledged until there is space.", full},
	}
}
