package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/barnabas-log/barnabas/cluster"
	"github.com/barnabas-log/barnabas/conn"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// seenNode is a broker as it looks from here.
type seenNode struct {
	nodeStatus
	cluster string
	metrics *metrics // nil if they cannot be read from here
}

// checkBroker looks at the cluster as a client would. Without an answer nothing
// else can be asked.
func (d *doctor) checkBroker(ctx context.Context, given bool) []*seenNode {
	const check = "broker"
	m := d.flags.open()
	defer m.Close()
	s := &statusRun{m: m, nodes: map[model.NodeID]*nodeStatus{}, sizes: map[string]*topicSize{}}
	var status clusterStatus
	err := d.within(ctx, func(ctx context.Context) (err error) {
		status, err = s.gather(ctx, nil)
		return err
	})
	brokers := strings.Join(d.flags.brokers, ", ")
	switch {
	case err != nil && !given:
		d.ok(check, "none at %s: only the machine is looked at", brokers)
		return nil
	case err != nil:
		d.change(check, "start the broker, or look at its listeners and at firewalls in between", "%s: %v", brokers, err)
		return nil
	}
	d.ok(check, "%s: cluster %s, %s", brokers, status.Cluster, count(len(status.Nodes), "node"))
	var seen []*seenNode
	for _, n := range status.Nodes {
		x := &seenNode{nodeStatus: *n, cluster: status.Cluster}
		d.checkNode(ctx, s, x)
		seen = append(seen, x)
	}
	return seen
}

// within bounds one question by --timeout, but by no more than ten seconds: a
// doctor who waits for long has seen enough.
func (d *doctor) within(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, min(d.flags.timeout, 10*time.Second), errors.New("no answer in time"))
	defer cancel()
	return do(ctx)
}

func (d *doctor) checkNode(ctx context.Context, s *statusRun, n *seenNode) {
	check := fmt.Sprintf("node %d", n.ID)
	for _, e := range n.Errors {
		d.note(check, "", "%s", e)
	}
	switch {
	case n.Offline > 0:
		d.change(check, "look in its log for the disk that failed or the directory that is missing", "%d of %s offline", n.Offline, count(n.Partitions, "partition"))
	case n.UnderReplicated > 0:
		d.note(check, "see that the other brokers run and keep up", "%d partitions lack replicas", n.UnderReplicated)
	}
	for _, x := range n.Directories {
		d.checkNodeDir(check, x)
	}
	if d.checkAddress(ctx, n) {
		d.checkAPIs(ctx, s.m, n.ID)
	}
	_ = d.within(ctx, func(ctx context.Context) (err error) {
		n.metrics, err = nodeMetrics(ctx, &n.nodeStatus, brokerSettings(ctx, s.m, n.ID))
		return err // Not having them is no finding: many hide them on purpose.
	})
}

func (d *doctor) checkNodeDir(check string, x dirStatus) {
	if x.Err != "" {
		d.change(check, "replace the disk, or take the directory out of log.dirs", "directory %s: %s", x.Path, x.Err)
	}
	const advice = "delete topics or records, add space, or set log.retention.disk.percent"
	used, known := x.used()
	switch {
	case x.Full: // It keeps a reserve, so there is less than nothing left.
		d.change(check, advice, "directory %s: the disk is full, and records are refused", x.Path)
	case known && used >= fullChange:
		d.change(check, advice, "directory %s: the disk is %.0f%% full", x.Path, used)
	}
}

// checkAddress follows the address that a broker tells its clients, as a client
// on this machine would.
func (d *doctor) checkAddress(ctx context.Context, n *seenNode) bool {
	check := fmt.Sprintf("address of node %d", n.ID)
	host, _, err := net.SplitHostPort(n.Address)
	if err != nil {
		d.change(check, "mend advertised.listeners", "%q: %v", n.Address, err)
		return false
	}
	const advice = "set advertised.listeners (--advertise) to a name that all clients can resolve and reach"
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		d.change(check, advice, "clients are told %s, which is nowhere", n.Address)
		return false
	}
	if isLoopback(host) && !d.seedsLocal() {
		d.change(check, advice, "clients are told %s, which is their own machine", n.Address)
		return false
	}
	var addresses []string
	err = d.within(ctx, func(ctx context.Context) (err error) {
		addresses, err = net.DefaultResolver.LookupHost(ctx, host)
		return err
	})
	if err != nil {
		d.change(check, advice, "clients are told %s: %v", n.Address, err)
		return false
	}
	return d.tryAddresses(ctx, n, check, addresses)
}

// tryAddresses asks at every address that the name stands for who is there.
func (d *doctor) tryAddresses(ctx context.Context, n *seenNode, check string, addresses []string) bool {
	_, port, _ := net.SplitHostPort(n.Address)
	reached := 0
	for _, a := range addresses {
		at := net.JoinHostPort(a, port)
		err := d.within(ctx, func(ctx context.Context) error { return whoIsAt(ctx, at, n) })
		switch {
		case errors.Is(err, errAnother):
			d.change(check, "give each broker an address of its own", "%s: %v", at, err)
		case err != nil:
			d.note(check, "clients that try this address first wait until it fails: take it out of the name, or listen there", "%s: %v", at, err)
		default:
			reached++
		}
	}
	if reached == 0 {
		d.change(check, "look at listeners, advertised.listeners and firewalls", "clients are told %s, and nobody of this cluster answers there", n.Address)
		return false
	}
	d.ok(check, "clients are told %s and reach it", n.Address)
	return true
}

var errAnother = errors.New("another broker answers")

// whoIsAt asks the broker at an address whether it is that node of that
// cluster.
func whoIsAt(ctx context.Context, address string, n *seenNode) error {
	c := conn.New(address, conn.Options{ClientID: "barnabas-doctor", SoftwareVersion: softwareVersion()})
	defer c.Close()
	resp, err := ask[*wire.DescribeClusterResponse](ctx, c, wire.NewDescribeClusterRequest())
	if err != nil {
		return err
	}
	if err := refusal(resp.ErrorCode, resp.ErrorMessage); err != nil {
		return err
	}
	if resp.ClusterID != n.cluster {
		return fmt.Errorf("%w: of cluster %s", errAnother, resp.ClusterID)
	}
	// A broker describes itself and no other.
	req := wire.NewDescribeConfigsRequest()
	req.Resources = []wire.DescribeConfigsRequestDescribeConfigsResource{{ResourceType: kindBroker.code, ResourceName: strconv.Itoa(int(n.ID)), ConfigurationKeys: []string{"node.id"}}}
	described, err := ask[*wire.DescribeConfigsResponse](ctx, c, req)
	if err != nil {
		return err
	}
	for _, r := range described.Results {
		if wire.ErrorCode(r.ErrorCode) == wire.InvalidRequest {
			return fmt.Errorf("%w: %w", errAnother, refusal(r.ErrorCode, r.ErrorMessage))
		}
	}
	return nil
}

// seedsLocal reports that the brokers were looked for on this machine.
func (d *doctor) seedsLocal() bool {
	return slices.ContainsFunc(d.flags.brokers, func(b string) bool {
		host, _, err := net.SplitHostPort(b)
		if err != nil {
			host = b
		}
		return isLoopback(host)
	})
}

// needed are the APIs without which commands of this binary fail.
func needed() []wire.Key {
	return []wire.Key{
		wire.ProduceKey, wire.FetchKey, wire.ListOffsetsKey, wire.MetadataKey, wire.CreateTopicsKey, wire.DeleteTopicsKey, wire.InitProducerIDKey,
		wire.DescribeConfigsKey, wire.IncrementalAlterConfigsKey, wire.CreatePartitionsKey, wire.DeleteRecordsKey, wire.DescribeLogDirsKey,
	}
}

// checkAPIs compares what the broker speaks with what this binary speaks.
func (d *doctor) checkAPIs(ctx context.Context, m *cluster.Map, id model.NodeID) {
	check := fmt.Sprintf("protocol of node %d", id)
	var resp *wire.ApiVersionsResponse
	err := d.within(ctx, func(ctx context.Context) error {
		b, err := m.Node(ctx, id)
		if err != nil {
			return err
		}
		req := wire.NewApiVersionsRequest()
		req.ClientSoftwareName, req.ClientSoftwareVersion = "barnabas", softwareVersion()
		resp, err = ask[*wire.ApiVersionsResponse](ctx, b, req)
		return err
	})
	if err != nil {
		d.change(check, "", "%v", err)
		return
	}
	var missing []string
	for _, key := range needed() {
		if !speaks(resp, key) {
			missing = append(missing, key.String())
		}
	}
	if len(missing) > 0 {
		d.note(check, "take a newer broker, or do without the commands that need them", "%d APIs; this client misses %s", len(resp.ApiKeys), strings.Join(missing, ", "))
		return
	}
	d.ok(check, "%d APIs, metadata.version %s", len(resp.ApiKeys), metadataVersion(resp))
}

func speaks(resp *wire.ApiVersionsResponse, key wire.Key) bool {
	ours, ok := wire.LookupAPI(key)
	return ok && slices.ContainsFunc(resp.ApiKeys, func(v wire.ApiVersionsResponseApiVersion) bool {
		return wire.Key(v.ApiKey) == key && v.MinVersion <= ours.MaxVersion && v.MaxVersion >= ours.MinVersion
	})
}

func metadataVersion(resp *wire.ApiVersionsResponse) string {
	for _, f := range resp.FinalizedFeatures {
		if f.Name == "metadata.version" {
			return strconv.Itoa(int(f.MaxVersionLevel))
		}
	}
	return "unknown"
}
