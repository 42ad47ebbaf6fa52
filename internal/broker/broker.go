package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/internal/api"
	"github.com/barnabas-log/barnabas/internal/bridge"
	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/listener"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/internal/quorum"
	"github.com/barnabas-log/barnabas/internal/replicas"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
)

// Options are what a broker is started with.
type Options struct {
	Config *config.Broker
	FS     vfs.FS
	Log    *slog.Logger
	Now    func() time.Time
	// Listen opens a listener; nil is net.Listen.
	Listen func(network, address string) (net.Listener, error)
}

// stopPatience is how long connections have to take the answers they are owed
// when the broker stops.
const stopPatience = 3 * time.Second

// Broker is a node that runs.
type Broker struct {
	opts     Options
	config   *config.Broker
	dirs     []*datadir.Dir
	unusable []replicas.Unusable
	metadata *datadir.Dir // Holds the metadata log; one of dirs, or another.
	quorum   *quorum.Quorum
	configs  *api.Configs
	replicas atomic.Pointer[replicas.Replicas] // Nil until the image is known.
	api      *api.API
	doors    listeners
	http     *http.Server
	httpAddr net.Addr
	budget   *listener.Budget
	logging  *logging
	limits   atomic.Pointer[limits] // Nil until the image is known.
	// published is api, for those who tell it of images: nil until it is there.
	published atomic.Pointer[api.API]

	bridge atomic.Pointer[bridge.Bridge] // Nil without dafka.enable.

	// Nil until they may be asked.
	coordinators atomic.Pointer[coordinators]

	epoch   int64       // Broker epoch.
	opened  atomic.Bool // Everything above is there, for who comes by http.
	ready   atomic.Bool
	fatal   chan error // Receives what ends the process.
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// Start starts a node. It serves when Start returns, until Stop.
func Start(o Options) (*Broker, error) {
	if o.Listen == nil {
		o.Listen = net.Listen
	}
	logging, err := newLogging(o.Log.Handler(), o.Config.LogLevels)
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	b := &Broker{opts: o, config: o.Config, logging: logging, fatal: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	if err := b.start(ctx); err != nil {
		b.abandon()
		return nil, fmt.Errorf("broker: %w", err)
	}
	b.ready.Store(true)
	return b, nil
}

func (b *Broker) start(ctx context.Context) error {
	// First, so that whoever watches the node sees that it starts: that may take minutes after a crash.
	if err := b.serveHTTP(); err != nil {
		return err
	}
	if err := b.openDirs(); err != nil {
		return err
	}
	if err := b.openQuorum(ctx); err != nil {
		return err
	}
	b.configs = api.NewConfigs(b.config, b.self())
	b.doors.init(b)
	if err := b.doors.openAll(b.configIn(b.quorum.Image()).Listeners); err != nil {
		return err
	}
	if err := b.join(ctx); err != nil {
		return err
	}
	r, err := replicas.Open(replicas.Options{
		Self: b.self(), Dirs: b.dirs, Unusable: b.unusable, MetadataDir: b.metadata.Path(), Removed: b.quorum.TakeRemoved(),
		Config: b.configIn(b.quorum.Image()), Propose: b.quorum.Propose, Fatal: b.fail,
		Now: b.opts.Now, Log: b.log("replicas"), Random: rand.Reader,
	}, b.quorum.Image())
	if err != nil {
		return err
	}
	b.replicas.Store(r)
	b.running.Go(func() { r.Run(ctx) })
	c := newCoordinators(b)
	b.coordinators.Store(c)
	b.serve(ctx)
	if err := b.startBridge(); err != nil {
		return err
	}
	b.opened.Store(true)
	return nil
}

// ClusterID is the id of the cluster that the node belongs to.
func (b *Broker) ClusterID() string { return b.metadata.Meta().Cluster }

// NodeID is the node's id.
func (b *Broker) NodeID() model.NodeID { return b.self() }

func (b *Broker) openQuorum(ctx context.Context) error {
	log := b.config.MetadataLog
	q, err := quorum.Open(quorum.Options{
		Dir: b.metadata, Self: b.self(), Now: b.opts.Now, Log: b.log("quorum"),
		Publish: b.publish, SnapshotBytes: log.SnapshotBytes, SnapshotInterval: log.SnapshotInterval,
		SegmentBytes: log.SegmentBytes, SegmentAge: log.SegmentAge, Synced: b.applied(),
	}, controller.Format())
	if err != nil {
		return err
	}
	b.quorum = q
	if err := controller.CheckLevel(q.Image()); err != nil {
		return err
	}
	b.running.Go(func() {
		if err := q.Run(ctx); err != nil {
			b.fail(fmt.Errorf("metadata log: %w", err))
		}
	})
	return nil
}

// publish makes the node act on a new image.
func (b *Broker) publish(d *metadata.Delta, i *metadata.Image) {
	r := b.replicas.Load()
	if r == nil {
		return
	}
	r.Publish(d, i)
	reconfigured := slices.ContainsFunc(d.Configs, func(c metadata.Resource) bool { return c.Type == metadata.ResourceBroker })
	if reconfigured {
		cfg := b.configIn(i)
		r.Reconfigure(cfg)
		b.doors.want(cfg.Listeners)
	}
	if a := b.published.Load(); a != nil {
		a.Publish(d, i)
	}
	if c := b.coordinators.Load(); c != nil {
		c.publish(d, i)
	}
	if x := b.bridge.Load(); x != nil {
		x.Publish(d, i)
	}
	if l := b.limits.Load(); l != nil && (d.Quotas || reconfigured) {
		l.set(i)
	}
}

// fail reports what ends the process: a metadata log that cannot be trusted.
func (b *Broker) fail(err error) {
	b.log("broker").Error("broker cannot go on", "err", err)
	select {
	case b.fatal <- err:
	default:
	}
}

// Fatal receives an error when the process should end.
func (b *Broker) Fatal() <-chan error { return b.fatal }

// join registers the node in the metadata log and elects it anew for its
// partitions.
func (b *Broker) join(ctx context.Context) error {
	me := metadata.Broker{ID: b.self(), Rack: b.config.Rack}
	for name, at := range b.doors.advertised() {
		if at.Host == "" {
			at.Host = "127.0.0.1" // Other nodes need some address; there are none yet.
		}
		me.Endpoints = append(me.Endpoints, metadata.Endpoint{Listener: name, Host: at.Host, Port: uint16(at.Port)})
	}
	for _, d := range b.dirs {
		me.Directories = append(me.Directories, d.Meta().Directory)
	}
	return b.quorum.Propose(ctx, func(image *metadata.Image) ([]metadata.Record, error) {
		records, err := controller.Register(image, me, rand.Reader)
		b.epoch = int64(image.End())
		return append(records, controller.Restart(image, b.self(), me.Directories)...), err
	})
}

// serve lets clients in.
func (b *Broker) serve(ctx context.Context) {
	b.api = api.New(api.Options{
		Self: b.self(), ClusterID: b.ClusterID(), Config: b.config, Configs: b.configs, Metadata: b.quorum, Replicas: partitions{b.replicas.Load()}, Disks: b.replicas.Load(),
		Rules: b.rules(),
		Now:   b.opts.Now, Log: b.log("api"), Loggers: b.logging, IsHost: isHost,
		Groups: b.coordinators.Load().groups, Transactions: b.coordinators.Load().txns,
	})
	b.coordinators.Load().start(ctx)
	b.published.Store(b.api)
	b.api.Publish(nil, b.quorum.Image())
	b.budget = listener.NewBudget(b.config.InFlightBytes)
	limits := newLimits(ctx, b, b.quorum.Image())
	b.limits.Store(limits)
	limits.set(b.quorum.Image())
	b.doors.serve(ctx, limits)
}

// rules are those of this node about topics.
func (b *Broker) rules() controller.Rules {
	r := b.replicas.Load()
	return controller.Rules{Config: b.config, Place: r.Place, Cordoned: r.Cordoned, Random: rand.Reader}
}

// partitions is how requests reach partitions.
type partitions struct{ *replicas.Replicas }

// Partition returns this node's replica, with errors that the API knows.
func (d partitions) Partition(p model.Partition) (*partition.Partition, error) {
	x, err := d.Replicas.Partition(p)
	switch {
	case errors.Is(err, replicas.ErrUnknown):
		return nil, api.ErrNoReplica
	case errors.Is(err, replicas.ErrMissing):
		return nil, fmt.Errorf("%w: %w", partition.ErrOffline, err)
	}
	return x, err
}

// Stop ends the node: no more requests, then the answers that are owed, then
// everything durable and marked.
func (b *Broker) Stop() error {
	b.ready.Store(false)
	patience, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	var stopping sync.WaitGroup
	stopping.Go(func() { b.doors.stop(patience) })
	stopping.Go(func() { b.stopBridge(patience) })
	b.replicas.Load().Resign()
	b.coordinators.Load().close() // Members that wait for others would wait longer than we do.
	stopping.Wait()
	b.stopHTTP(patience)
	b.cancel()
	b.running.Wait()
	return errors.Join(b.quorum.Close(), b.replicas.Load().Close(b.epoch), b.closeMetadata())
}

// abandon gives back what a start that failed has taken.
func (b *Broker) abandon() {
	b.cancel()
	if b.http != nil {
		b.http.Close()
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	b.doors.stop(gone)
	b.stopBridge(gone)
	if c := b.coordinators.Load(); c != nil {
		c.close()
	}
	b.running.Wait()
	if b.quorum != nil {
		b.quorum.Close()
	}
	if r := b.replicas.Load(); r != nil {
		r.Abandon()
	}
	for _, d := range b.dirs {
		d.Close()
	}
	b.closeMetadata()
}
