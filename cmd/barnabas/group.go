package main

import (
	"cmp"
	"context"
	"errors"
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

func newGroupCmd() *cobra.Command {
	f := new(clientFlags)
	cmd := &cobra.Command{
		Use:   "group",
		Short: "Look at consumer groups, move their offsets, delete them",
		Example: `  barnabas group list
  barnabas group describe payments`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f.add(cmd)
	cmd.AddCommand(newGroupListCmd(f), newGroupDescribeCmd(f), newGroupMembersCmd(f), newGroupLagCmd(f), newGroupResetCmd(f), newGroupDeleteCmd(f))
	return cmd
}

// ofGroup makes cmd a command about one group, its only argument.
func (f *clientFlags) ofGroup(cmd *cobra.Command, run func(cmd *cobra.Command, group string) error) *cobra.Command {
	cmd.Args = args(cobra.ExactArgs(1))
	cmd.ValidArgsFunction = f.completeGroups
	cmd.RunE = func(cmd *cobra.Command, a []string) error { return run(cmd, a[0]) }
	return cmd
}

func (f *clientFlags) completeGroups(cmd *cobra.Command, _ []string, typed string) (names []string, _ cobra.ShellCompDirective) {
	_ = f.with(cmd.Context(), func(ctx context.Context, m *cluster.Map) error {
		groups, err := listGroups(ctx, m)
		for _, g := range groups {
			if strings.HasPrefix(g.Group, typed) {
				names = append(names, g.Group)
			}
		}
		return err
	})
	return names, noFiles
}

// listedGroup is a group as group list shows it.
type listedGroup struct {
	Group    string `json:"group"`
	Type     string `json:"type,omitempty"`
	State    string `json:"state,omitempty"`
	Protocol string `json:"protocol"`
}

func listGroups(ctx context.Context, m *cluster.Map) ([]listedGroup, error) {
	seen := map[string]listedGroup{}
	err := everyBroker(ctx, m, func(b cluster.Broker) error {
		resp, err := ask[*wire.ListGroupsResponse](ctx, b, wire.NewListGroupsRequest())
		if err != nil {
			return err
		}
		for _, g := range resp.Groups {
			seen[g.GroupID] = listedGroup{g.GroupID, strings.ToLower(g.GroupType), g.GroupState, g.ProtocolType}
		}
		return refusal(resp.ErrorCode, nil)
	})
	return slices.SortedFunc(maps.Values(seen), func(a, b listedGroup) int { return cmp.Compare(a.Group, b.Group) }), err
}

func newGroupListCmd(f *clientFlags) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List groups", Example: "  barnabas group list --json", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.with(cmd.Context(), func(ctx context.Context, m *cluster.Map) error {
				groups, err := listGroups(ctx, m)
				if err != nil {
					return err
				}
				return f.print(cmd.OutOrStdout(), groups, func(out io.Writer) error {
					return table(out, "GROUP\tTYPE\tSTATE\tPROTOCOL", func(w io.Writer) {
						for _, g := range groups {
							fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", shown(g.Group), orDash(g.Type), orDash(g.State), orDash(g.Protocol))
						}
					})
				})
			})
		},
	}
}

// table writes rows under a head, in columns.
func table(out io.Writer, head string, rows func(io.Writer)) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, head)
	rows(w)
	return w.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return shown(s)
}

// groupView is a group in full.
type groupView struct {
	Group    string       `json:"group"`
	Type     string       `json:"type"`
	State    string       `json:"state"`
	Epoch    int32        `json:"epoch,omitempty"` // Of groups of the consumer protocol.
	Assignor string       `json:"assignor"`
	Members  []memberView `json:"members"`
	Offsets  []offsetView `json:"offsets,omitempty"`
}

type memberView struct {
	Member     string             `json:"member"`
	Instance   string             `json:"instance,omitempty"`
	Client     string             `json:"client"`
	Host       string             `json:"host"`
	Partitions map[string][]int32 `json:"partitions,omitempty"` // By topic; unknown for protocols of others.
}

type offsetView struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"` // -1 without a commit.
	End       int64  `json:"end"`
	Lag       int64  `json:"lag"` // -1 without a commit.
	Metadata  string `json:"metadata,omitempty"`
}

// describeGroup finds a group of either protocol.
func describeGroup(ctx context.Context, m *cluster.Map, group string) (groupView, error) {
	b, err := coordinator(ctx, m, coordinatorOfGroup, group)
	if err != nil {
		return groupView{}, err
	}
	var view groupView
	err = retry(ctx, func() error {
		view, err = describeConsumerGroup(ctx, b, group)
		if errors.Is(err, wire.GroupIDNotFound) || errors.Is(err, wire.UnsupportedVersion) { // Not of that protocol.
			view, err = describeClassicGroup(ctx, b, group)
		}
		return err
	})
	return view, err
}

func describeConsumerGroup(ctx context.Context, b cluster.Broker, group string) (groupView, error) {
	req := wire.NewConsumerGroupDescribeRequest()
	req.GroupIDs = []string{group}
	resp, err := ask[*wire.ConsumerGroupDescribeResponse](ctx, b, req)
	if err != nil {
		return groupView{}, err
	}
	g := &resp.Groups[0]
	if err := refusal(g.ErrorCode, g.ErrorMessage); err != nil {
		return groupView{}, err
	}
	v := groupView{Group: group, Type: "consumer", State: g.GroupState, Epoch: g.GroupEpoch, Assignor: g.AssignorName, Members: []memberView{}}
	for i := range g.Members {
		x := &g.Members[i]
		one := memberView{Member: x.MemberID, Client: x.ClientID, Host: strings.TrimPrefix(x.ClientHost, "/"), Partitions: map[string][]int32{}}
		if x.InstanceID != nil {
			one.Instance = *x.InstanceID
		}
		for _, t := range x.Assignment.TopicPartitions {
			one.Partitions[t.TopicName] = t.Partitions
		}
		v.Members = append(v.Members, one)
	}
	return v, nil
}

func describeClassicGroup(ctx context.Context, b cluster.Broker, group string) (groupView, error) {
	req := wire.NewDescribeGroupsRequest()
	req.Groups = []string{group}
	resp, err := ask[*wire.DescribeGroupsResponse](ctx, b, req)
	if err != nil {
		return groupView{}, err
	}
	g := &resp.Groups[0]
	if err := refusal(g.ErrorCode, g.ErrorMessage); err != nil {
		return groupView{}, fmt.Errorf("group %s: %w", group, err)
	}
	v := groupView{Group: group, Type: "classic", State: g.GroupState, Assignor: g.ProtocolData, Members: []memberView{}}
	for i := range g.Members {
		x := &g.Members[i]
		one := memberView{Member: x.MemberID, Client: x.ClientID, Host: strings.TrimPrefix(x.ClientHost, "/")}
		if x.GroupInstanceID != nil {
			one.Instance = *x.GroupInstanceID
		}
		if g.ProtocolType == "consumer" {
			one.Partitions = classicAssignment(x.MemberAssignment)
		}
		v.Members = append(v.Members, one)
	}
	return v, nil
}

// classicAssignment reads what the consumer protocol's assignors write: a
// version, and partitions by topic. What is none of it gives nothing.
func classicAssignment(b []byte) map[string][]int32 {
	if len(b) < 2 {
		return nil
	}
	r := wire.NewReader(b)
	version := r.Int16()
	var a wire.ConsumerProtocolAssignment
	if err := a.ReadFrom(r, min(version, 3)); err != nil {
		return nil
	}
	out := map[string][]int32{}
	for _, t := range a.AssignedPartitions {
		out[t.Topic] = t.Partitions
	}
	return out
}

// groupOffsets are what a group has committed, with the ends of the partitions.
func groupOffsets(ctx context.Context, m *cluster.Map, group string) ([]offsetView, error) {
	views, err := committedOffsets(ctx, m, group, false)
	if err != nil {
		return nil, err
	}
	return views, withEnds(ctx, m, views)
}

// committedOffsets are what a group has committed. If they have to be stable,
// transactions that are about to commit others are waited for.
func committedOffsets(ctx context.Context, m *cluster.Map, group string, stable bool) ([]offsetView, error) {
	b, err := coordinator(ctx, m, coordinatorOfGroup, group)
	if err != nil {
		return nil, err
	}
	req := wire.NewOffsetFetchRequest()
	req.Groups = []wire.OffsetFetchRequestGroup{{GroupID: group, MemberEpoch: -1}}
	req.RequireStable = stable
	names, err := knownTopics(ctx, m)
	if err != nil {
		return nil, err
	}
	var views []offsetView
	err = retry(ctx, func() error {
		views = nil
		resp, err := ask[*wire.OffsetFetchResponse](ctx, b, req)
		if err != nil {
			return err
		}
		g := &resp.Groups[0]
		for i := range g.Topics {
			for _, p := range g.Topics[i].Partitions {
				if err := refusal(p.ErrorCode, nil); err != nil {
					return err
				}
				v := offsetView{Topic: cmp.Or(g.Topics[i].Name, names.byID[g.Topics[i].TopicID]), Partition: p.PartitionIndex, Offset: p.CommittedOffset, Lag: -1}
				if p.Metadata != nil {
					v.Metadata = *p.Metadata
				}
				views = append(views, v)
			}
		}
		return refusal(g.ErrorCode, nil)
	})
	slices.SortFunc(views, func(a, b offsetView) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return views, err
}

// topicIDs are the topics of the cluster: newer brokers are told, and tell, ids.
type topicIDs struct {
	byID map[wire.UUID]string
	ids  map[string]wire.UUID
}

func knownTopics(ctx context.Context, m *cluster.Map) (topicIDs, error) {
	n := topicIDs{map[wire.UUID]string{}, map[string]wire.UUID{}}
	meta, err := m.Metadata(ctx, nil, false)
	if err != nil {
		return n, err
	}
	for i := range meta.Topics {
		if t := &meta.Topics[i]; t.Name != nil {
			n.byID[t.TopicID], n.ids[*t.Name] = *t.Name, t.TopicID
		}
	}
	return n, nil
}

// withEnds fills in where the partitions end.
func withEnds(ctx context.Context, m *cluster.Map, views []offsetView) error {
	for i := range views {
		v := &views[i]
		ends, err := offsetsAt(ctx, m, v.Topic, []int32{v.Partition}, timeLatest)
		if err != nil {
			return err
		}
		if v.End = int64(ends[v.Partition]); v.Offset >= 0 {
			v.Lag = max(0, v.End-v.Offset)
		}
	}
	return nil
}

func newGroupDescribeCmd(f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "describe GROUP", Short: "Show a group, its members and its offsets", Example: "  barnabas group describe payments"}
	return f.ofGroup(cmd, func(cmd *cobra.Command, group string) error {
		return f.with(cmd.Context(), func(ctx context.Context, m *cluster.Map) error {
			v, err := describeGroup(ctx, m, group)
			if err != nil {
				return err
			}
			if v.Offsets, err = groupOffsets(ctx, m, group); err != nil {
				return err
			}
			return f.print(cmd.OutOrStdout(), v, v.show)
		})
	})
}

func (v *groupView) show(out io.Writer) error {
	fmt.Fprintf(out, "group %s: %s, %s, %d members", shown(v.Group), v.Type, v.State, len(v.Members))
	if v.Assignor != "" {
		fmt.Fprintf(out, ", assignor %s", shown(v.Assignor))
	}
	fmt.Fprintln(out)
	if len(v.Members) > 0 {
		fmt.Fprintln(out)
		if err := showMembers(out, v.Members); err != nil {
			return err
		}
	}
	if len(v.Offsets) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	return showOffsets(out, v.Offsets)
}

func showMembers(out io.Writer, members []memberView) error {
	return table(out, "MEMBER\tINSTANCE\tCLIENT\tHOST\tPARTITIONS", func(w io.Writer) {
		for _, x := range members {
			var held []string
			for _, topic := range slices.Sorted(maps.Keys(x.Partitions)) {
				held = append(held, fmt.Sprintf("%s%v", topic, x.Partitions[topic]))
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", shown(x.Member), orDash(x.Instance), orDash(x.Client), orDash(x.Host), orDash(strings.Join(held, " ")))
		}
	})
}

func showOffsets(out io.Writer, offsets []offsetView) error {
	number := func(n int64) string {
		if n < 0 {
			return "-"
		}
		return fmt.Sprint(n)
	}
	return table(out, "TOPIC\tPARTITION\tOFFSET\tEND\tLAG", func(w io.Writer) {
		for _, o := range offsets {
			fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%s\n", o.Topic, o.Partition, number(o.Offset), o.End, number(o.Lag))
		}
	})
}

func newGroupMembersCmd(f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "members GROUP", Short: "Show who is in a group, and what each reads", Example: "  barnabas group members payments"}
	return f.ofGroup(cmd, func(cmd *cobra.Command, group string) error {
		return f.with(cmd.Context(), func(ctx context.Context, m *cluster.Map) error {
			v, err := describeGroup(ctx, m, group)
			if err != nil {
				return err
			}
			return f.print(cmd.OutOrStdout(), v.Members, func(out io.Writer) error { return showMembers(out, v.Members) })
		})
	})
}

func newGroupLagCmd(f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "lag GROUP", Short: "Show how far a group is behind", Example: "  barnabas group lag payments --json"}
	return f.ofGroup(cmd, func(cmd *cobra.Command, group string) error {
		return f.with(cmd.Context(), func(ctx context.Context, m *cluster.Map) error {
			offsets, err := groupOffsets(ctx, m, group)
			if err == nil && len(offsets) == 0 { // There may be no such group.
				_, err = describeGroup(ctx, m, group)
			}
			if err != nil {
				return err
			}
			return f.print(cmd.OutOrStdout(), offsets, func(out io.Writer) error { return showOffsets(out, offsets) })
		})
	})
}

func newGroupDeleteCmd(f *clientFlags) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "delete GROUP", Short: "Delete a group that has no members, and its offsets", Example: "  barnabas group delete old --yes",
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return f.ofGroup(cmd, func(cmd *cobra.Command, group string) error {
		if err := confirm(cmd, yes, fmt.Sprintf("Delete group %s and its offsets?", group)); err != nil {
			return err
		}
		return f.with(cmd.Context(), func(ctx context.Context, m *cluster.Map) error {
			b, err := coordinator(ctx, m, coordinatorOfGroup, group)
			if err != nil {
				return err
			}
			req := wire.NewDeleteGroupsRequest()
			req.GroupsNames = []string{group}
			return retry(ctx, func() error {
				resp, err := ask[*wire.DeleteGroupsResponse](ctx, b, req)
				if err != nil {
					return err
				}
				if err := refusal(resp.Results[0].ErrorCode, resp.Results[0].ErrorMessage); err != nil {
					return fmt.Errorf("group %s: %w", group, err)
				}
				return nil
			})
		})
	})
}

// commitOffsets sets offsets of a group without members.
func commitOffsets(ctx context.Context, m *cluster.Map, group string, to []offsetView) error {
	b, err := coordinator(ctx, m, coordinatorOfGroup, group)
	if err != nil {
		return err
	}
	names, err := knownTopics(ctx, m)
	if err != nil {
		return err
	}
	req := wire.NewOffsetCommitRequest()
	req.GroupID, req.GenerationIDOrMemberEpoch = group, -1
	for _, o := range to {
		if n := len(req.Topics); n == 0 || req.Topics[n-1].Name != o.Topic {
			t := wire.Extend(&req.Topics)
			t.Name, t.TopicID = o.Topic, names.ids[o.Topic]
		}
		p := wire.Extend(&req.Topics[len(req.Topics)-1].Partitions)
		p.PartitionIndex, p.CommittedOffset, p.CommittedLeaderEpoch, p.CommittedMetadata = o.Partition, o.Offset, int32(model.NoEpoch), new("")
	}
	return retry(ctx, func() error {
		resp, err := ask[*wire.OffsetCommitResponse](ctx, b, req)
		if err != nil {
			return err
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if err := refusal(p.ErrorCode, nil); err != nil {
					return fmt.Errorf("offset of %s-%d: %w", cmp.Or(t.Name, names.byID[t.TopicID]), p.PartitionIndex, err)
				}
			}
		}
		return nil
	})
}
