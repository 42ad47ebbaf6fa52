package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/barnabas-log/barnabas/cluster"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

func newNodeCmd() *cobra.Command {
	f := new(clientFlags)
	cmd := &cobra.Command{
		Use:     "node",
		Short:   "Look at the brokers of a cluster",
		Example: `  barnabas node status`,
		Args:    args(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f.add(cmd)
	cmd.AddCommand(newNodeStatusCmd(f))
	return cmd
}

func newNodeStatusCmd(f *clientFlags) *cobra.Command {
	var top int
	cmd := &cobra.Command{
		Use:   "status [ID]",
		Short: "Show what each broker has: partitions, disks, connections, the largest topics",
		Long: `Show what each broker has, or the one with that number: partitions, data directories with their disks, and the largest topics.
It asks through Kafka's protocol; connections are known if the broker's /metrics can be reached from here.

RETENTION is log.retention.disk.percent: above it, the oldest segments go.`,
		Example: "  barnabas node status\n  barnabas node status 1 --top 3 --json",
		Args:    args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			var only *model.NodeID
			if len(a) == 1 {
				n, err := strconv.ParseInt(a[0], 10, 32)
				if err != nil {
					return usage("broker %q: want its number", a[0])
				}
				id := model.NodeID(n)
				only = &id
			}
			return f.nodeStatus(cmd, only, top)
		},
		ValidArgsFunction: func(_ *cobra.Command, have []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(have) > 0 {
				return nil, noFiles
			}
			return f.asking(brokerNames)
		},
	}
	cmd.Flags().IntVar(&top, "top", 10, "how many of the largest topics")
	return cmd
}

// clusterStatus is what node status prints.
type clusterStatus struct {
	Cluster    string        `json:"cluster"`
	Controller model.NodeID  `json:"controller"`
	Nodes      []*nodeStatus `json:"nodes"`
	Topics     []topicSize   `json:"largestTopics"`
}

type nodeStatus struct {
	ID              model.NodeID `json:"node"`
	Address         string       `json:"address"`
	Rack            string       `json:"rack,omitempty"`
	Partitions      int          `json:"partitions"`
	Leads           int          `json:"leads"`
	Offline         int          `json:"offline"`
	UnderReplicated int          `json:"underReplicated"`
	Bytes           int64        `json:"bytes"`
	Connections     *int         `json:"connections"` // nil if unknown
	Directories     []dirStatus  `json:"directories"`
	Errors          []string     `json:"errors,omitempty"`
}

type dirStatus struct {
	Path       string `json:"path"`
	Partitions int    `json:"partitions"`
	Bytes      int64  `json:"bytes"`
	// Disk sizes are of the file system, -1 where the broker does not tell.
	DiskBytes     int64    `json:"diskBytes"`
	DiskFreeBytes int64    `json:"diskFreeBytes"`
	UsedPercent   *float64 `json:"diskUsedPercent"`      // as df has it; nil if unknown
	RetentionMark *int     `json:"retentionDiskPercent"` // nil if off or unknown
	Cordoned      bool     `json:"cordoned,omitempty"`
	Full          bool     `json:"full,omitempty"` // It refuses records for want of space, as far as is known.
	Err           string   `json:"error,omitempty"`
}

// used is how full the disk is in percent: what df says if the broker tells
// that, else what is not free of the whole, which counts what is kept for the
// superuser, too.
func (d *dirStatus) used() (percent float64, ok bool) {
	if d.UsedPercent != nil {
		return *d.UsedPercent, true
	}
	if d.DiskBytes <= 0 || d.DiskFreeBytes < 0 {
		return 0, false
	}
	return 100 * float64(d.DiskBytes-d.DiskFreeBytes) / float64(d.DiskBytes), true
}

type topicSize struct {
	Topic    string `json:"topic"`
	Replicas int    `json:"replicas"`
	Bytes    int64  `json:"bytes"` // of all replicas
}

// statusRun gathers the answers of all brokers.
type statusRun struct {
	m     *cluster.Map
	nodes map[model.NodeID]*nodeStatus
	sizes map[string]*topicSize
}

func (f *clientFlags) nodeStatus(cmd *cobra.Command, only *model.NodeID, top int) error {
	s := &statusRun{nodes: map[model.NodeID]*nodeStatus{}, sizes: map[string]*topicSize{}}
	var status clusterStatus
	err := f.with(cmd.Context(), func(ctx context.Context, m *cluster.Map) (err error) {
		s.m = m
		status, err = s.gather(ctx, only)
		return err
	})
	if err != nil {
		return err
	}
	status.Topics = s.largest(top)
	var errs []error
	for _, n := range status.Nodes {
		for _, e := range n.Errors {
			errs = append(errs, fmt.Errorf("node %d: %s", n.ID, e))
		}
	}
	return errors.Join(f.print(cmd.OutOrStdout(), status, status.show), errors.Join(errs...))
}

func (s *statusRun) gather(ctx context.Context, only *model.NodeID) (clusterStatus, error) {
	resp, err := s.m.Metadata(ctx, nil, false)
	if err != nil {
		return clusterStatus{}, err
	}
	c := clusterStatus{Controller: model.NodeID(resp.ControllerID)}
	if resp.ClusterID != nil {
		c.Cluster = *resp.ClusterID
	}
	for _, b := range resp.Brokers {
		n := &nodeStatus{ID: model.NodeID(b.NodeID), Address: net.JoinHostPort(b.Host, strconv.Itoa(int(b.Port))), Directories: []dirStatus{}}
		if b.Rack != nil {
			n.Rack = *b.Rack
		}
		s.nodes[n.ID] = n
		if only == nil || *only == n.ID {
			c.Nodes = append(c.Nodes, n)
		}
	}
	if only != nil && len(c.Nodes) == 0 {
		return c, fmt.Errorf("no broker %d in cluster %s", *only, c.Cluster)
	}
	slices.SortFunc(c.Nodes, func(a, b *nodeStatus) int { return cmp.Compare(a.ID, b.ID) })
	for i := range resp.Topics {
		s.count(&resp.Topics[i])
	}
	for _, n := range c.Nodes {
		if err := s.askNode(ctx, n); err != nil {
			n.Errors = append(n.Errors, err.Error())
		}
	}
	return c, nil
}

// count gives the partitions of a topic to the nodes that have them.
func (s *statusRun) count(t *wire.MetadataResponseTopic) {
	for _, p := range t.Partitions {
		for _, id := range p.ReplicaNodes {
			n := s.nodes[model.NodeID(id)]
			if n == nil {
				continue
			}
			n.Partitions++
			if slices.Contains(p.OfflineReplicas, id) {
				n.Offline++
			}
			if p.LeaderID == id {
				n.Leads++
			}
			if p.LeaderID == id && len(p.IsrNodes) < len(p.ReplicaNodes) {
				n.UnderReplicated++
			}
		}
	}
}

func (s *statusRun) askNode(ctx context.Context, n *nodeStatus) error {
	b, err := s.m.Node(ctx, n.ID)
	if err != nil {
		return err
	}
	req := wire.NewDescribeLogDirsRequest()
	req.Topics = nil // All of them.
	resp, err := ask[*wire.DescribeLogDirsResponse](ctx, b, req)
	if err != nil {
		return err
	}
	if err := refusal(resp.ErrorCode, nil); err != nil {
		return fmt.Errorf("describe log dirs: %w", err)
	}
	settings := brokerSettings(ctx, s.m, n.ID)
	for i := range resp.Results {
		d := s.dir(n, &resp.Results[i])
		d.RetentionMark = retentionMark(settings)
		n.Directories = append(n.Directories, d)
	}
	slices.SortFunc(n.Directories, func(a, b dirStatus) int { return cmp.Compare(a.Path, b.Path) })
	if m, err := nodeMetrics(ctx, n, settings); err == nil {
		n.measured(m)
	}
	return nil
}

// measured takes from metrics what the protocol does not tell.
func (n *nodeStatus) measured(m *metrics) {
	if v, ok := m.sums["barnabas_listener_connections"]; ok {
		open := int(v)
		n.Connections = &open
	}
	for i := range n.Directories {
		d := &n.Directories[i]
		if ratio, ok := m.dirs[d.Path]["barnabas_datadir_used_ratio"]; ok {
			percent := 100 * ratio
			d.UsedPercent = &percent
		}
		d.Full = m.dirs[d.Path]["barnabas_datadir_full"] == 1
	}
}

func (s *statusRun) dir(n *nodeStatus, r *wire.DescribeLogDirsResponseDescribeLogDirsResult) dirStatus {
	d := dirStatus{Path: r.LogDir, DiskBytes: r.TotalBytes, DiskFreeBytes: r.UsableBytes, Cordoned: r.IsCordoned}
	if err := refusal(r.ErrorCode, nil); err != nil {
		d.Err = err.Error()
	}
	for _, t := range r.Topics {
		size := s.sizes[t.Name]
		if size == nil {
			size = &topicSize{Topic: t.Name}
			s.sizes[t.Name] = size
		}
		for _, p := range t.Partitions {
			d.Bytes += p.PartitionSize
			size.Bytes += p.PartitionSize
			if !p.IsFutureKey {
				d.Partitions++
				size.Replicas++
			}
		}
	}
	n.Bytes += d.Bytes
	return d
}

// diskPercentKey is one of Barnabas' own.
const diskPercentKey = "log.retention.disk.percent"

// brokerSettings are the values of a broker's settings, of all or those of the named keys. Kafka does not have all that ours
// has, and without them there is less to show.
func brokerSettings(ctx context.Context, m *cluster.Map, id model.NodeID, keys ...string) map[string]string {
	out := map[string]string{}
	list, err := describeConfig(ctx, m, resource{kindBroker, strconv.Itoa(int(id))}, describeOptions{keys: keys})
	if err != nil {
		return out
	}
	for _, c := range list {
		if c.Value != nil {
			out[c.Key] = *c.Value
		}
	}
	return out
}

func retentionMark(settings map[string]string) *int {
	n, err := strconv.Atoi(settings[diskPercentKey])
	if err != nil || n <= 0 || n >= 100 {
		return nil
	}
	return &n
}

// nodeMetrics are a broker's metrics. A port may belong to somebody else: only
// one that names the same data directories counts.
func nodeMetrics(ctx context.Context, n *nodeStatus, settings map[string]string) (*metrics, error) {
	listen := settings["http.listen"]
	if listen == "" {
		return nil, errors.New("no metrics are served")
	}
	url, err := metricsURL(listen, n.Address)
	if err != nil {
		return nil, err
	}
	m, err := scrape(ctx, url)
	if err != nil {
		return nil, err
	}
	for _, d := range n.Directories {
		if m.dirs[d.Path] != nil {
			return m, nil
		}
	}
	return nil, fmt.Errorf("%s is of another broker", url)
}

// largest are the topics with most bytes.
func (s *statusRun) largest(top int) []topicSize {
	list := []topicSize{}
	for _, name := range slices.Sorted(maps.Keys(s.sizes)) {
		list = append(list, *s.sizes[name])
	}
	slices.SortStableFunc(list, func(a, b topicSize) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return list[:min(max(top, 0), len(list))]
}

func (c *clusterStatus) show(out io.Writer) error {
	fmt.Fprintf(out, "cluster %s, %s, controller %d\n", c.Cluster, count(len(c.Nodes), "node"), c.Controller)
	for _, n := range c.Nodes {
		if err := n.show(out); err != nil {
			return err
		}
	}
	if len(c.Topics) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TOPIC\tREPLICAS\tBYTES")
	for _, t := range c.Topics {
		fmt.Fprintf(w, "%s\t%d\t%s\n", t.Topic, t.Replicas, formatBytes(float64(t.Bytes)))
	}
	return w.Flush()
}

func (n *nodeStatus) show(out io.Writer) error {
	fmt.Fprintf(out, "\nnode %d at %s: %s, leads %d, offline %d, under-replicated %d; %s", n.ID, n.Address,
		count(n.Partitions, "partition"), n.Leads, n.Offline, n.UnderReplicated, formatBytes(float64(n.Bytes)))
	if n.Connections != nil {
		fmt.Fprintf(out, "; %s", count(*n.Connections, "connection"))
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if len(n.Directories) > 0 {
		fmt.Fprintln(w, "DIRECTORY\tPARTITIONS\tBYTES\tDISK\tFREE\tUSED\tRETENTION")
	}
	for _, d := range n.Directories {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", d.Path, d.Partitions, formatBytes(float64(d.Bytes)), d.shownDisk())
	}
	return w.Flush()
}

// shownDisk is DISK, FREE, USED and RETENTION of a directory.
func (d *dirStatus) shownDisk() string {
	disk := "-\t-\t-"
	if used, ok := d.used(); ok {
		disk = fmt.Sprintf("%s\t%s\t%.0f%%", formatBytes(float64(d.DiskBytes)), formatBytes(float64(d.DiskFreeBytes)), used)
	}
	mark := "off"
	if d.RetentionMark != nil {
		mark = fmt.Sprintf("%d%%", *d.RetentionMark)
	}
	if d.Cordoned {
		mark += ", cordoned"
	}
	if d.Full {
		mark += "\tfull: it refuses records"
	}
	if d.Err != "" {
		mark += "\t" + d.Err
	}
	return disk + "\t" + mark
}
