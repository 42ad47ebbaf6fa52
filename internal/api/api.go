package api

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/listener"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// Replicas is how requests reach the partitions of this node.
type Replicas interface {
	// Partition returns this node's replica, or an error: ErrNoReplica when the
	// node has none, or why it is offline.
	Partition(p model.Partition) (*partition.Partition, error)
}

// ErrNoReplica says that this node has no replica of a partition.
var ErrNoReplica = errors.New("api: no replica here")

// Metadata is how requests see and change the cluster.
type Metadata interface {
	// Image is the newest state of the cluster that this node acts on.
	Image() *metadata.Image
	// Epoch is the leader epoch of the metadata log.
	Epoch() model.Epoch
	// Propose lets decide look at the newest image and returns when what it
	// wants is committed and this node acts on it. An error of decide comes
	// back as it is, and nothing is changed.
	Propose(ctx context.Context, decide func(*metadata.Image) ([]metadata.Record, error)) error
}

// Options are what the API needs of its node.
type Options struct {
	Self      model.NodeID
	ClusterID string
	Config    *config.Broker // What the node was started with.
	Configs   *Configs       // Nil: nobody else asks for them.
	Metadata  Metadata
	Replicas  Replicas
	Disks     Disks
	Rules     controller.Rules
	// Groups and Transactions are this node's coordinators.
	Groups, Transactions Coordinator
	Now                  func() time.Time
	Log                  *slog.Logger
	Loggers              Loggers // Nil: there is none to see or change.
	// IsHost tells whether a name is that of a host. Nil knows addresses only.
	IsHost func(ctx context.Context, name string) bool
}

// Address is a host and a port.
type Address struct {
	Host string
	Port int32
}

// API answers requests. One serves all connections of a node.
type API struct {
	opts      Options
	configs   *Configs
	sessions  *sessions
	producers producerIDs
	throttle  throttle
	metrics   clientMetrics
	limit     *logLimit
	stats     Stats
}

// New returns the API of a node.
func New(o Options) *API {
	a := &API{opts: o, limit: newLogLimit(o.Now), configs: cmp.Or(o.Configs, NewConfigs(o.Config, o.Self))}
	a.opts.Rules.Effective = a.configs.In
	a.sessions = newSessions(o.Config.FetchSessions, o.Now)
	a.throttle.init(o.Config, o.Now())
	a.metrics.init(o.Config.TelemetryMaxBytes)
	a.Publish(nil, o.Metadata.Image())
	return a
}

// Publish tells of a new image: what is enforced between requests follows it.
// Without a delta, everything may have changed.
func (a *API) Publish(d *metadata.Delta, image *metadata.Image) {
	if d == nil || d.Quotas {
		a.throttle.set(image)
	}
	isMetrics := func(r metadata.Resource) bool { return r.Type == metadata.ResourceClientMetrics }
	if d == nil || slices.ContainsFunc(d.Configs, isMetrics) {
		a.subscribe(image)
	}
}

// Stats returns the counters.
func (a *API) Stats() *Stats { return &a.stats }

// FetchSessions is the number of fetch sessions that are cached.
func (a *API) FetchSessions() int { return a.sessions.len() }

// Serving returns a function that makes the sessions of connections that come
// in by the named listener. Their clients find this node at an address of which
// a host of "" stands for the one that the connection came in by. ctx ends when
// the node stops.
func (a *API) Serving(ctx context.Context, name string, at Address) func(*listener.Conn) listener.Session {
	return func(c *listener.Conn) listener.Session {
		ctx, cancel := context.WithCancelCause(ctx)
		return &session{API: a, conn: c, listener: name, home: at, ctx: ctx, cancel: cancel, software: software{unknownSoftware, unknownSoftware}}
	}
}

// session is one connection. Handle and the Polls of its answers may run at
// the same time; what they share is guarded where it stands.
type session struct {
	*API
	conn     *listener.Conn
	listener string
	home     Address         // Of this node, for its client.
	ctx      context.Context // Ends with the connection.
	cancel   context.CancelCauseFunc

	// Used by Handle only.
	client   string     // Client id of the last request that had to be named.
	software software   // What the client says it runs.
	instance model.UUID // The client instance that came with the connection (KIP-714).

	// Used by Handle only, and empty between requests: what they hold aliases a
	// frame.
	frame   []byte
	reader  wire.Reader
	call    call
	produce produceScratch
	fetch   wire.FetchRequest
	parts   places[partKey]

	produces freeList[produceAnswer]
	fetches  freeList[fetchAnswer]
}

var errConnectionClosed = errors.New("api: connection closed")

// Close ends what the connection has under way.
func (s *session) Close() {
	s.cancel(errConnectionClosed)
	s.forgetInstance()
}

// call is one request that is being answered.
type call struct {
	wire.RequestHeader
	client string // Client id.
	a      *listener.Answer
	began  time.Time
	bytes  int           // Of the request.
	worked time.Duration // Until it was parked.
	idle   time.Duration // Of the time since began, waiting for the metadata log.
	wait   time.Duration // What the client is told to wait, because of quotas.
	parked bool
}

// park notes that the answer has to wait: from now on nothing is worked for it.
func (c *call) park(now time.Time) {
	c.worked = c.work(now)
	c.parked = true
}

// work is how long the node was busy with the request.
func (c *call) work(now time.Time) time.Duration {
	if c.parked {
		return c.worked
	}
	return now.Sub(c.began) - c.idle
}

// operation is one API that we serve.
type operation struct {
	key      wire.Key
	min, max int16
	serve    func(*session, *call)
}

// operations are all APIs that we serve, and so advertise.
func operations() []operation {
	op := func(k wire.Key, serve func(*session, *call)) operation {
		api, _ := wire.LookupAPI(k)
		return operation{k, api.MinVersion, api.MaxVersion, serve}
	}
	return []operation{
		op(wire.ProduceKey, (*session).serveProduce),
		op(wire.FetchKey, (*session).serveFetch),
		op(wire.ListOffsetsKey, answer((*session).listOffsets)),
		op(wire.MetadataKey, answer((*session).metadata)),
		op(wire.FindCoordinatorKey, answer((*session).findCoordinator)),
		op(wire.OffsetCommitKey, owned((*session).offsetCommit)),
		op(wire.OffsetFetchKey, owned((*session).offsetFetch)),
		op(wire.JoinGroupKey, owned((*session).joinGroup)),
		op(wire.HeartbeatKey, owned((*session).heartbeat)),
		op(wire.LeaveGroupKey, owned((*session).leaveGroup)),
		op(wire.SyncGroupKey, owned((*session).syncGroup)),
		op(wire.DescribeGroupsKey, owned((*session).describeGroups)),
		op(wire.ListGroupsKey, owned((*session).listGroups)),
		op(wire.DeleteGroupsKey, owned((*session).deleteGroups)),
		op(wire.OffsetDeleteKey, owned((*session).offsetDelete)),
		op(wire.ConsumerGroupHeartbeatKey, owned((*session).consumerGroupHeartbeat)),
		op(wire.ConsumerGroupDescribeKey, owned((*session).consumerGroupDescribe)),
		op(wire.AddPartitionsToTxnKey, owned((*session).addPartitionsToTxn)),
		op(wire.AddOffsetsToTxnKey, owned((*session).addOffsetsToTxn)),
		op(wire.EndTxnKey, owned((*session).endTxn)),
		op(wire.TxnOffsetCommitKey, owned((*session).txnOffsetCommit)),
		op(wire.WriteTxnMarkersKey, owned((*session).writeTxnMarkers)),
		op(wire.ListTransactionsKey, owned((*session).listTransactions)),
		op(wire.DescribeTransactionsKey, owned((*session).describeTransactions)),
		op(wire.ApiVersionsKey, (*session).serveApiVersions),
		op(wire.CreateTopicsKey, answer((*session).createTopics)),
		op(wire.DeleteTopicsKey, answer((*session).deleteTopics)),
		op(wire.DeleteRecordsKey, answer((*session).deleteRecords)),
		op(wire.InitProducerIDKey, owned((*session).initProducerID)),
		op(wire.OffsetForLeaderEpochKey, answer((*session).offsetForLeaderEpoch)),
		op(wire.DescribeConfigsKey, answer((*session).describeConfigs)),
		op(wire.AlterReplicaLogDirsKey, answer((*session).alterReplicaLogDirs)),
		op(wire.DescribeLogDirsKey, answer((*session).describeLogDirs)),
		op(wire.DescribeClientQuotasKey, answer((*session).describeClientQuotas)),
		op(wire.AlterClientQuotasKey, answer((*session).alterClientQuotas)),
		op(wire.DescribeClusterKey, answer((*session).describeCluster)),
		op(wire.GetTelemetrySubscriptionsKey, answer((*session).getTelemetrySubscriptions)),
		op(wire.PushTelemetryKey, answer((*session).pushTelemetry)),
		op(wire.DescribeTopicPartitionsKey, answer((*session).describeTopicPartitions)),
		op(wire.AlterConfigsKey, answer((*session).alterConfigs)),
		op(wire.IncrementalAlterConfigsKey, answer((*session).incrementalAlterConfigs)),
		op(wire.ListConfigResourcesKey, answer((*session).listConfigResources)),
		op(wire.CreatePartitionsKey, answer((*session).createPartitions)),
		op(wire.ElectLeadersKey, answer((*session).electLeaders)),
		op(wire.AlterPartitionReassignmentsKey, answer((*session).alterPartitionReassignments)),
		op(wire.ListPartitionReassignmentsKey, answer((*session).listPartitionReassignments)),
		op(wire.DescribeProducersKey, answer((*session).describeProducers)),
		op(wire.DescribeQuorumKey, answer((*session).describeQuorum)),
		op(wire.UpdateFeaturesKey, answer((*session).updateFeatures)),
		op(wire.UnregisterBrokerKey, answer((*session).unregisterBroker)),
		op(wire.AddRaftVoterKey, answer((*session).addRaftVoter)),
		op(wire.RemoveRaftVoterKey, answer((*session).removeRaftVoter)),
		op(wire.UnregisterControllerKey, answer((*session).unregisterController)),
		op(wire.DescribeAclsKey, answer((*session).describeACLs)),
		op(wire.CreateAclsKey, answer((*session).createACLs)),
		op(wire.DeleteAclsKey, answer((*session).deleteACLs)),
		op(wire.DescribeUserScramCredentialsKey, answer((*session).describeScram)),
	}
}

// served is operations by key, for dispatch. It is written once, here.
var served = func() (table [128]*operation) {
	for _, op := range operations() {
		table[op.key] = &op
	}
	return table
}()

// Handle answers one request. What it cannot parse it answers as Kafka does:
// by closing the connection. Bytes after the request are ignored, also as Kafka
// does: some clients of old wrote them.
func (s *session) Handle(frame []byte, a *listener.Answer) {
	s.frame = frame
	s.reader.Reset(frame)
	defer func() {
		s.frame = nil
		s.reader.Reset(nil)
	}()
	h, err := wire.ReadRequestHeader(&s.reader)
	if err != nil && (h.Key != wire.ApiVersionsKey || h.Version >= 0 || !errors.Is(err, wire.ErrVersion)) {
		s.malformed(a, h, err)
		return
	}
	var op *operation
	if h.Key >= 0 && int(h.Key) < len(served) {
		op = served[h.Key]
	}
	c := &s.call
	*c = call{RequestHeader: h, a: a, began: s.opts.Now(), bytes: len(frame)}
	if h.ClientID != nil {
		c.client = *h.ClientID
	}
	s.stats.received(h.Key, len(frame))
	switch {
	case op == nil:
		s.malformed(a, h, errNotServed)
	case h.Key == wire.ApiVersionsKey:
		op.serve(s, c) // Answers versions that it does not know.
	case h.Version < op.min || h.Version > op.max:
		s.malformed(a, h, errNotServed)
	default:
		op.serve(s, c)
	}
	*c = call{}
}

var errNotServed = errors.New("api: key or version not served")

// malformed closes the connection of a client that cannot be understood.
func (s *session) malformed(a *listener.Answer, h wire.RequestHeader, err error) {
	s.stats.Malformed.Add(1)
	s.stats.unanswered(h.Key)
	if s.limit.allow() {
		s.opts.Log.Warn("request refused, connection closed", "peer", s.conn.RemoteAddr(), "api", h.Key, "version", h.Version, "err", err)
	}
	a.Hangup()
}

// answer makes an operation of a function that answers at once, or waits for
// the metadata log.
func answer[Q wire.Request](serve func(*session, *call, Q) wire.Response) func(*session, *call) {
	return func(s *session, c *call) {
		api, _ := wire.LookupAPI(c.Key)
		q := api.NewRequest().(Q)
		if err := q.ReadFrom(&s.reader, c.Version); err != nil {
			s.malformed(c.a, c.RequestHeader, err)
			return
		}
		s.reply(c, serve(s, c, q))
	}
}

// reply sends an answer.
func (s *session) reply(c *call, r wire.Response) { s.replyIn(c, c.Version, r) }

func (s *session) replyIn(c *call, version int16, r wire.Response) {
	now := s.opts.Now()
	s.chargeTime(c, now)
	c.tell(r)
	if c.Key != wire.ProduceKey { // It counts its errors where it meets them.
		r.EachError(func(e wire.ErrorCode) { s.stats.failed(c.Key, e) })
	}
	out, err := wire.AppendResponse(c.a.Buffer(), version, c.CorrelationID, r)
	if err != nil { // A bug of ours: an answer that its version cannot say.
		s.opts.Log.Error("answer cannot be encoded", "api", c.Key, "version", version, "err", err)
		s.stats.unanswered(c.Key)
		c.a.Hangup()
		return
	}
	s.stats.answered(c, now, len(out))
	c.a.Send(out)
}

// address is where this client finds a broker.
func (s *session) address(b *metadata.Broker) (Address, bool) {
	if b.ID == s.opts.Self {
		at := s.home
		if at.Host == "" {
			at = localAddress(s.conn.LocalAddr(), at.Port)
		}
		return at, true
	}
	for _, e := range b.Endpoints {
		if e.Listener == s.listener {
			return Address{e.Host, int32(e.Port)}, true
		}
	}
	return Address{}, false
}

// localAddress is the address that the client's connection came in by: what
// the client used to reach us will reach us again.
func localAddress(a net.Addr, port int32) Address {
	if tcp, ok := a.(*net.TCPAddr); ok {
		ip := tcp.IP
		if v4 := ip.To4(); v4 != nil {
			ip = v4
		}
		return Address{ip.String(), int32(tcp.Port)}
	}
	return Address{a.String(), port}
}

// Dropped tells of a connection that ended by an error.
func (a *API) Dropped(remote net.Addr, err error) {
	if a.limit.allow() {
		a.opts.Log.Info("connection dropped", "peer", remote, "err", err)
	}
}
