package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/barnabas-log/barnabas/cluster"
	"github.com/barnabas-log/barnabas/wire"
)

func newTxnCmd() *cobra.Command {
	f := new(clientFlags)
	cmd := &cobra.Command{
		Use:   "txn",
		Short: "Look at transactions, find and end those that hang",
		Example: `  barnabas txn list
  barnabas txn describe payments-1`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f.add(cmd)
	cmd.AddCommand(newTxnListCmd(f), newTxnDescribeCmd(f), newTxnFindHangingCmd(f), newTxnAbortCmd(f))
	return cmd
}

// listedTxn is a transactional id as txn list shows it.
type listedTxn struct {
	ID       string `json:"transactional_id"`
	Producer int64  `json:"producer_id"`
	State    string `json:"state"`
}

func listTxns(ctx context.Context, m *cluster.Map, req *wire.ListTransactionsRequest) ([]listedTxn, error) {
	seen := map[string]listedTxn{}
	err := everyBroker(ctx, m, func(b cluster.Broker) error {
		resp, err := ask[*wire.ListTransactionsResponse](ctx, b, req)
		if err != nil {
			return err
		}
		for _, t := range resp.TransactionStates {
			seen[t.TransactionalID] = listedTxn{t.TransactionalID, t.ProducerID, t.TransactionState}
		}
		if len(resp.UnknownStateFilters) > 0 {
			return usage("no such state: %q", resp.UnknownStateFilters)
		}
		return refusal(resp.ErrorCode, nil)
	})
	return slices.SortedFunc(maps.Values(seen), func(a, b listedTxn) int { return cmp.Compare(a.ID, b.ID) }), err
}

func newTxnListCmd(f *clientFlags) *cobra.Command {
	var states []string
	var longer time.Duration
	cmd := &cobra.Command{
		Use: "list", Short: "List transactional ids",
		Example: `  barnabas txn list --state Ongoing --longer-than 1m`,
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			req := wire.NewListTransactionsRequest()
			if req.StateFilters = states; longer > 0 {
				req.DurationFilter = longer.Milliseconds()
			}
			return f.with(cmd.Context(), func(ctx context.Context, m *cluster.Map) error {
				list, err := listTxns(ctx, m, req)
				if err != nil {
					return err
				}
				return f.print(cmd.OutOrStdout(), list, func(out io.Writer) error {
					return table(out, "TRANSACTIONAL ID\tPRODUCER\tSTATE", func(w io.Writer) {
						for _, t := range list {
							fmt.Fprintf(w, "%s\t%d\t%s\n", shown(t.ID), t.Producer, t.State)
						}
					})
				})
			})
		},
	}
	cmd.Flags().StringSliceVar(&states, "state", nil, "only those in these states")
	cmd.Flags().DurationVar(&longer, "longer-than", 0, "only transactions that are open for longer")
	complete(cmd, "state", words("Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "Dead"))
	return cmd
}

// txnView is a transactional id in full.
type txnView struct {
	ID         string             `json:"transactional_id"`
	State      string             `json:"state"`
	Producer   int64              `json:"producer_id"`
	Epoch      int16              `json:"producer_epoch"`
	Timeout    string             `json:"timeout"`
	Started    *time.Time         `json:"started,omitempty"`
	Partitions map[string][]int32 `json:"partitions,omitempty"`
}

func newTxnDescribeCmd(f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use: "describe TRANSACTIONAL-ID", Short: "Show a transaction and its partitions", Example: "  barnabas txn describe payments-1",
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			return f.with(cmd.Context(), func(ctx context.Context, m *cluster.Map) error {
				v, err := describeTxn(ctx, m, a[0])
				if err != nil {
					return err
				}
				return f.print(cmd.OutOrStdout(), v, v.show)
			})
		},
	}
}

func describeTxn(ctx context.Context, m *cluster.Map, id string) (txnView, error) {
	b, err := coordinator(ctx, m, coordinatorOfTxn, id)
	if err != nil {
		return txnView{}, err
	}
	req := wire.NewDescribeTransactionsRequest()
	req.TransactionalIDs = []string{id}
	v := txnView{ID: id, Partitions: map[string][]int32{}}
	err = retry(ctx, func() error {
		resp, err := ask[*wire.DescribeTransactionsResponse](ctx, b, req)
		if err != nil {
			return err
		}
		t := &resp.TransactionStates[0]
		v.State, v.Producer, v.Epoch = t.TransactionState, t.ProducerID, t.ProducerEpoch
		v.Timeout = (time.Duration(t.TransactionTimeoutMs) * time.Millisecond).String()
		if t.TransactionStartTimeMs > 0 {
			v.Started = new(time.UnixMilli(t.TransactionStartTimeMs).UTC())
		}
		for _, x := range t.Topics {
			v.Partitions[x.Topic] = x.Partitions
		}
		if err := refusal(t.ErrorCode, nil); err != nil {
			return fmt.Errorf("transactional id %s: %w", id, err)
		}
		return nil
	})
	return v, err
}

func (v *txnView) show(out io.Writer) error {
	fmt.Fprintf(out, "transactional id %s: %s\nproducer %d, epoch %d, timeout %s\n", shown(v.ID), v.State, v.Producer, v.Epoch, v.Timeout)
	if v.Started != nil {
		fmt.Fprintf(out, "started %s\n", v.Started.Format(time.RFC3339))
	}
	for _, topic := range slices.Sorted(maps.Keys(v.Partitions)) {
		fmt.Fprintf(out, "writes to %s %v\n", topic, v.Partitions[topic])
	}
	return nil
}

// hanging is a transaction that is open in a partition.
type hanging struct {
	Topic            string `json:"topic"`
	Partition        int32  `json:"partition"`
	Producer         int64  `json:"producer_id"`
	Epoch            int16  `json:"producer_epoch"`
	CoordinatorEpoch int32  `json:"coordinator_epoch"`
	Start            int64  `json:"start_offset"`
	Last             string `json:"last_write"`
	idle             time.Duration
}

// openTransactions finds the transactions that are open in a topic.
func openTransactions(ctx context.Context, m *cluster.Map, topic string) ([]hanging, error) {
	t, err := m.Topic(ctx, topic)
	if err != nil {
		return nil, err
	}
	var out []hanging
	for _, p := range indexesOf(t) {
		err := retry(ctx, func() error {
			list, err := openIn(ctx, m, topic, p)
			out = append(out, list...)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func openIn(ctx context.Context, m *cluster.Map, topic string, partition int32) (out []hanging, err error) {
	b, err := m.Leader(ctx, topic, partition)
	if err != nil {
		return nil, err
	}
	req := wire.NewDescribeProducersRequest()
	req.Topics = []wire.DescribeProducersRequestTopicRequest{{Name: topic, PartitionIndexes: []int32{partition}}}
	resp, err := ask[*wire.DescribeProducersResponse](ctx, b, req)
	if err != nil {
		return nil, err
	}
	p := &resp.Topics[0].Partitions[0]
	for _, x := range p.ActiveProducers {
		if x.CurrentTxnStartOffset >= 0 {
			last := time.UnixMilli(x.LastTimestamp)
			out = append(out, hanging{
				Topic: topic, Partition: partition, Producer: x.ProducerID, Epoch: int16(x.ProducerEpoch), CoordinatorEpoch: x.CoordinatorEpoch,
				Start: x.CurrentTxnStartOffset, Last: last.UTC().Format(time.RFC3339), idle: time.Since(last),
			})
		}
	}
	return out, refusal(p.ErrorCode, p.ErrorMessage)
}

func newTxnFindHangingCmd(f *clientFlags) *cobra.Command {
	var longer time.Duration
	cmd := &cobra.Command{
		Use:   "find-hanging TOPIC",
		Short: "Find transactions that are open in a topic and that no coordinator will end",
		Long: `Find transactions that are open in a topic and that no coordinator will end. Readers of committed records wait for them for ever;
end them with txn abort.`,
		Example: "  barnabas txn find-hanging orders --longer-than 20m",
	}
	cmd.Flags().DurationVar(&longer, "longer-than", 15*time.Minute, "silent for longer: the most that a transaction may take, unless the broker says otherwise")
	return f.ofTopic(cmd, func(cmd *cobra.Command, topic string) error {
		return f.with(cmd.Context(), func(ctx context.Context, m *cluster.Map) error {
			list, err := openTransactions(ctx, m, topic)
			if err != nil {
				return err
			}
			if list, err = withoutOwned(ctx, m, list, longer); err != nil {
				return err
			}
			return f.print(cmd.OutOrStdout(), list, func(out io.Writer) error {
				return table(out, "TOPIC\tPARTITION\tPRODUCER\tEPOCH\tSTART\tLAST WRITE", func(w io.Writer) {
					for _, h := range list {
						fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%s\n", h.Topic, h.Partition, h.Producer, h.Epoch, h.Start, h.Last)
					}
				})
			})
		})
	})
}

// withoutOwned leaves those that are old, and whose producer has no transaction
// of which that partition is a part.
func withoutOwned(ctx context.Context, m *cluster.Map, list []hanging, longer time.Duration) ([]hanging, error) {
	out := []hanging{}
	for _, h := range list {
		if h.idle < longer {
			continue
		}
		req := wire.NewListTransactionsRequest()
		req.ProducerIDFilters = []int64{h.Producer}
		owners, err := listTxns(ctx, m, req)
		if err != nil {
			return nil, err
		}
		owned := false
		for _, o := range owners {
			v, err := describeTxn(ctx, m, o.ID)
			if err != nil {
				return nil, err
			}
			owned = owned || slices.Contains(v.Partitions[h.Topic], h.Partition)
		}
		if !owned {
			out = append(out, h)
		}
	}
	return out, nil
}

func newTxnAbortCmd(f *clientFlags) *cobra.Command {
	var partition int32
	var start int64
	var yes bool
	cmd := &cobra.Command{
		Use:   "abort TOPIC",
		Short: "End a transaction that hangs in a partition",
		Long: `End a transaction that hangs in a partition: its records there are as if never written. Use it only for what txn find-hanging finds;
a transaction that its producer still writes would be torn.`,
		Example: "  barnabas txn abort orders --partition 3 --start-offset 4711",
	}
	cmd.Flags().Int32Var(&partition, "partition", -1, "the partition")
	cmd.Flags().Int64Var(&start, "start-offset", -1, "where the transaction begins, as find-hanging shows")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return f.ofTopic(cmd, func(cmd *cobra.Command, topic string) error {
		if partition < 0 || start < 0 {
			return usage("want --partition and --start-offset")
		}
		return f.with(cmd.Context(), func(ctx context.Context, m *cluster.Map) error {
			list, err := openIn(ctx, m, topic, partition)
			if err != nil {
				return err
			}
			at := slices.IndexFunc(list, func(h hanging) bool { return h.Start == start })
			if at < 0 {
				return fmt.Errorf("no open transaction begins at offset %d of %s-%d", start, topic, partition)
			}
			question := fmt.Sprintf("Abort what producer %d wrote to %s-%d from offset %d on?", list[at].Producer, topic, partition, start)
			if err := confirm(cmd, yes, question); err != nil {
				return err
			}
			return abortHanging(ctx, m, list[at])
		})
	})
}

func abortHanging(ctx context.Context, m *cluster.Map, h hanging) error {
	b, err := m.Leader(ctx, h.Topic, h.Partition)
	if err != nil {
		return err
	}
	req := wire.NewWriteTxnMarkersRequest()
	req.Markers = []wire.WriteTxnMarkersRequestWritableTxnMarker{{
		ProducerID: h.Producer, ProducerEpoch: h.Epoch, CoordinatorEpoch: max(0, h.CoordinatorEpoch),
		Topics: []wire.WriteTxnMarkersRequestWritableTxnMarkerTopic{{Name: h.Topic, PartitionIndexes: []int32{h.Partition}}},
	}}
	resp, err := ask[*wire.WriteTxnMarkersResponse](ctx, b, req)
	if err != nil {
		return err
	}
	return refusal(resp.Markers[0].Topics[0].Partitions[0].ErrorCode, nil)
}
