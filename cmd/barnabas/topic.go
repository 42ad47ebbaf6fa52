package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/barnabas-log/barnabas/cluster"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

func newTopicCmd() *cobra.Command {
	f := new(clientFlags)
	cmd := &cobra.Command{
		Use:   "topic",
		Short: "Create, list, describe, alter, trim and delete topics",
		Example: `  barnabas topic create letters -p 12
  barnabas topic describe letters`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f.add(cmd)
	cmd.AddCommand(newTopicCreateCmd(f), newTopicListCmd(f), newTopicDescribeCmd(f), newTopicAlterCmd(f),
		newTopicAddPartitionsCmd(f), newTopicTrimCmd(f), newTopicDeleteCmd(f))
	return cmd
}

func newTopicCreateCmd(f *clientFlags) *cobra.Command {
	var (
		partitions int32
		replicas   int16
		configs    []string
	)
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a topic",
		Example: `  barnabas topic create letters
  barnabas topic create letters -p 12 -c retention.ms=86400000 -c compression.type=zstd`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			topic := wire.CreateTopicsRequestCreatableTopic{Name: a[0], NumPartitions: partitions, ReplicationFactor: replicas}
			pairs, err := parsePairs("--config", configs)
			if err != nil {
				return err
			}
			for _, c := range pairs {
				topic.Configs = append(topic.Configs, wire.CreateTopicsRequestCreatableTopicConfig{Name: c.key, Value: &c.value})
			}
			return f.createTopic(cmd.Context(), cmd.OutOrStdout(), topic)
		},
	}
	cmd.Flags().Int32VarP(&partitions, "partitions", "p", -1, "number of partitions, -1 for the broker's num.partitions")
	cmd.Flags().Int16VarP(&replicas, "replicas", "r", -1, "replicas of each partition, -1 for the broker's default.replication.factor")
	cmd.Flags().StringArrayVarP(&configs, "config", "c", nil, "topic setting, `key=value`; may be repeated")
	complete(cmd, "config", f.completeTopicConfig)
	return cmd
}

func (f *clientFlags) createTopic(ctx context.Context, out io.Writer, topic wire.CreateTopicsRequestCreatableTopic) error {
	ctx, cancel := f.bounded(ctx)
	defer cancel()
	m := f.open()
	defer m.Close()
	req := wire.NewCreateTopicsRequest()
	req.TimeoutMs = int32(f.timeout.Milliseconds())
	req.Topics = append(req.Topics, topic)
	r, err := f.controller(ctx, m, req)
	if err != nil {
		return err
	}
	resp, ok := r.(*wire.CreateTopicsResponse)
	if !ok || len(resp.Topics) != 1 {
		return fmt.Errorf("create %s: the broker answered about %d topics", topic.Name, len(resp.Topics))
	}
	t := resp.Topics[0]
	if err := refusal(t.ErrorCode, t.ErrorMessage); err != nil {
		return fmt.Errorf("create %s: %w", topic.Name, err)
	}
	if f.json {
		return json.NewEncoder(out).Encode(map[string]any{
			"topic": topic.Name, "id": model.UUID(t.TopicID).String(),
			"partitions": t.NumPartitions, "replicas": t.ReplicationFactor,
		})
	}
	_, err = fmt.Fprintf(out, "created %s: %s\n", topic.Name, count(int(t.NumPartitions), "partition"))
	return err
}

// controller sends a request that changes the cluster.
func (f *clientFlags) controller(ctx context.Context, m *cluster.Map, req wire.Request) (wire.Response, error) {
	b, err := m.Controller(ctx)
	if err != nil {
		return nil, err
	}
	return b.Do(ctx, req)
}

func count(n int, what string) string { return plural(int64(n), what, what+"s") }

// plural is count for words that do not only take an s.
func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func newTopicListCmd(f *clientFlags) *cobra.Command {
	var internal bool
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List topics",
		Example: "  barnabas topic list\n  barnabas topic list --internal --json",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.listTopics(cmd.Context(), cmd.OutOrStdout(), internal)
		},
	}
	cmd.Flags().BoolVar(&internal, "internal", false, "also those that the brokers keep for themselves")
	return cmd
}

// topicLine is one topic in lists.
type topicLine struct {
	Name       string `json:"topic"`
	ID         string `json:"id"`
	Partitions int    `json:"partitions"`
	Replicas   int    `json:"replicas"`
	Internal   bool   `json:"internal"`
}

func (f *clientFlags) listTopics(ctx context.Context, out io.Writer, internal bool) error {
	ctx, cancel := f.bounded(ctx)
	defer cancel()
	m := f.open()
	defer m.Close()
	resp, err := m.Metadata(ctx, nil, false)
	if err != nil {
		return err
	}
	lines := []topicLine{}
	for _, t := range resp.Topics {
		if t.Name == nil || t.IsInternal && !internal {
			continue
		}
		l := topicLine{Name: *t.Name, ID: model.UUID(t.TopicID).String(), Partitions: len(t.Partitions), Internal: t.IsInternal}
		if len(t.Partitions) > 0 {
			l.Replicas = len(t.Partitions[0].ReplicaNodes)
		}
		lines = append(lines, l)
	}
	slices.SortFunc(lines, func(a, b topicLine) int { return strings.Compare(a.Name, b.Name) })
	if f.json {
		return json.NewEncoder(out).Encode(lines)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TOPIC\tPARTITIONS\tREPLICAS")
	for _, l := range lines {
		fmt.Fprintf(w, "%s\t%d\t%d\n", l.Name, l.Partitions, l.Replicas)
	}
	return w.Flush()
}

func newTopicDescribeCmd(f *clientFlags) *cobra.Command {
	return f.ofTopic(&cobra.Command{
		Use:     "describe NAME",
		Short:   "Show a topic's partitions and the settings made for it",
		Example: "  barnabas topic describe letters\n  barnabas topic describe letters --json",
	}, func(cmd *cobra.Command, name string) error {
		return f.describeTopic(cmd.Context(), cmd.OutOrStdout(), name)
	})
}

// topicDescription is what describe prints.
type topicDescription struct {
	Name     string            `json:"topic"`
	ID       string            `json:"id"`
	Internal bool              `json:"internal"`
	Configs  map[string]string `json:"configs"`
	// DiskMarks are log.retention.disk.percent of the nodes that have replicas, where it is on and takes from this topic.
	DiskMarks  map[model.NodeID]int `json:"retentionDiskPercent,omitempty"`
	Partitions []partitionLine      `json:"partitions"`
}

type partitionLine struct {
	Partition int32          `json:"partition"`
	Leader    model.NodeID   `json:"leader"`
	Epoch     model.Epoch    `json:"leaderEpoch"`
	Replicas  []model.NodeID `json:"replicas"`
	InSync    []model.NodeID `json:"inSync"`
	Start     model.Offset   `json:"startOffset"`
	End       model.Offset   `json:"endOffset"`
	// Producer is the address in a Dafka mesh of who writes, or as whom it is published.
	Producer string `json:"dafkaProducer,omitempty"`
	Err      string `json:"error,omitempty"`
}

func (f *clientFlags) describeTopic(ctx context.Context, out io.Writer, name string) error {
	ctx, cancel := f.bounded(ctx)
	defer cancel()
	m := f.open()
	defer m.Close()
	t, err := m.Topic(ctx, name)
	if err != nil {
		return err
	}
	d := topicDescription{Name: t.Name, ID: t.ID.String(), Internal: t.Internal}
	all, err := describeConfig(ctx, m, resource{kindTopic, name}, describeOptions{})
	if err != nil {
		return err
	}
	d.Configs = ownConfigs(resource{kindTopic, name}, all)
	if !t.Internal && deletes(all) {
		d.DiskMarks = diskMarks(ctx, m, t.Partitions)
	}
	producer := dafkaProducers(t.ID, d.Configs)
	starts := listOffsets(ctx, m, name, indexesOf(t), timeEarliest, readUncommitted)
	ends := listOffsets(ctx, m, name, indexesOf(t), timeLatest, readUncommitted)
	for i, p := range t.Partitions {
		l := partitionLine{
			Partition: p.Index, Leader: p.Leader, Epoch: p.Epoch, Replicas: p.Replicas, InSync: p.InSync, Producer: producer(p.Index),
		}
		l.Start, l.End = starts[i].offset, ends[i].offset
		if err := cmp.Or(starts[i].err, ends[i].err); err != nil {
			l.Err = err.Error()
		}
		d.Partitions = append(d.Partitions, l)
	}
	if f.json {
		return json.NewEncoder(out).Encode(d)
	}
	return d.print(out)
}

func (d *topicDescription) print(out io.Writer) error {
	fmt.Fprintf(out, "topic  %s\nid     %s\n", d.Name, d.ID)
	keys := make([]string, 0, len(d.Configs))
	for k := range d.Configs {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if k != dafkaProducersKey { // It is beside the partitions.
			fmt.Fprintf(out, "config %s=%s\n", k, d.Configs[k])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(d.DiskMarks)) {
		fmt.Fprintf(out, "disk   node %d deletes the oldest segments above %d%% of its disks (log.retention.disk.percent)\n", id, d.DiskMarks[id])
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	dafka := slices.ContainsFunc(d.Partitions, func(p partitionLine) bool { return p.Producer != "" })
	fmt.Fprint(w, "PARTITION\tLEADER\tEPOCH\tREPLICAS\tIN SYNC\tSTART\tEND")
	if dafka {
		fmt.Fprint(w, "\tDAFKA PRODUCER")
	}
	fmt.Fprintln(w)
	for _, p := range d.Partitions {
		fmt.Fprintf(w, "%d\t%d\t%d\t%v\t%v\t%d\t%d", p.Partition, p.Leader, p.Epoch, p.Replicas, p.InSync, p.Start, p.End)
		if dafka {
			fmt.Fprintf(w, "\t%s", p.Producer)
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, p := range d.Partitions {
		if p.Err != "" {
			fmt.Fprintf(out, "partition %d: %s\n", p.Partition, p.Err)
		}
	}
	return nil
}

// ownConfigs are the settings that were made for r itself.
func ownConfigs(r resource, all []setting) map[string]string {
	out := make(map[string]string)
	for _, s := range all {
		if r.own(s) && s.Value != nil {
			out[s.Key] = *s.Value
		}
	}
	return out
}

// deletes reports a topic whose old segments may be deleted.
func deletes(all []setting) bool {
	return slices.ContainsFunc(all, func(s setting) bool {
		return s.Key == "cleanup.policy" && s.Value != nil && strings.Contains(*s.Value, "delete")
	})
}

// diskMarks asks the nodes that have a topic for log.retention.disk.percent. Kafka's have no such key, and one that does not
// answer has its partitions' errors to show.
func diskMarks(ctx context.Context, m *cluster.Map, partitions []cluster.Partition) map[model.NodeID]int {
	marks := map[model.NodeID]int{}
	asked := map[model.NodeID]bool{}
	for _, p := range partitions {
		for _, id := range p.Replicas {
			if asked[id] {
				continue
			}
			asked[id] = true
			if mark := retentionMark(brokerSettings(ctx, m, id, diskPercentKey)); mark != nil {
				marks[id] = *mark
			}
		}
	}
	return marks
}

func newTopicDeleteCmd(f *clientFlags) *cobra.Command {
	var yes bool
	cmd := f.ofTopic(&cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete a topic and all its records",
		Long:    "Delete a topic and all its records. On a terminal it asks first.",
		Example: "  barnabas topic delete letters\n  barnabas topic delete letters --yes",
	}, func(cmd *cobra.Command, name string) error {
		if err := confirm(cmd, yes, "Delete topic "+name+" and all its records, for ever?"); err != nil {
			return err
		}
		return f.deleteTopic(cmd.Context(), cmd.OutOrStdout(), name)
	})
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (f *clientFlags) deleteTopic(ctx context.Context, out io.Writer, name string) error {
	ctx, cancel := f.bounded(ctx)
	defer cancel()
	m := f.open()
	defer m.Close()
	req := wire.NewDeleteTopicsRequest()
	req.TimeoutMs = int32(f.timeout.Milliseconds())
	b, err := m.Controller(ctx)
	if err != nil {
		return err
	}
	// One field until version 5, the other from 6 on.
	req.TopicNames = []string{name}
	req.Topics = []wire.DeleteTopicsRequestDeleteTopicState{{Name: &name}}
	r, err := b.Do(ctx, req)
	if err != nil {
		return err
	}
	resp, ok := r.(*wire.DeleteTopicsResponse)
	if !ok || len(resp.Responses) != 1 {
		return fmt.Errorf("delete %s: the broker answered about %d topics", name, len(resp.Responses))
	}
	if err := refusal(resp.Responses[0].ErrorCode, resp.Responses[0].ErrorMessage); err != nil {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	if f.json {
		return json.NewEncoder(out).Encode(map[string]any{"topic": name, "deleted": true})
	}
	_, err = fmt.Fprintf(out, "deleted %s\n", name)
	return err
}
