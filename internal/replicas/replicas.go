package replicas

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/datadir"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/internal/replication"
	"github.com/barnabas-log/barnabas/model"
)

// Errors of partitions that this node cannot serve.
var (
	// ErrUnknown says that this node has no replica of a partition.
	ErrUnknown = errors.New("replicas: no replica here")
	// ErrMissing says that a partition's directory should exist and does not: a
	// disk was wiped or not mounted.
	ErrMissing = errors.New("replicas: directory missing")
	// ErrDiskFull says that there was no space to make a partition's directory.
	ErrDiskFull = errors.New("replicas: disk full")
)

// Options are what the replicas of a node need.
type Options struct {
	Self model.NodeID
	Dirs []*datadir.Dir
	// Unusable are the data directories that could not be opened: what is missing
	// may be there.
	Unusable []Unusable
	// MetadataDir is the path of the data directory that holds the metadata log.
	// When it fails, so does the node.
	MetadataDir string
	// Removed are topics that the metadata log knows to be deleted: what is left
	// of them goes.
	Removed map[model.TopicID]struct{}
	// Config is the effective configuration: see Reconfigure.
	Config *config.Broker
	// Propose changes the cluster: see [quorum.Quorum.Propose]. If it is nil,
	// nobody is told what becomes of directories.
	Propose func(context.Context, func(*metadata.Image) ([]metadata.Record, error)) error
	// Fatal is told what ends the node.
	Fatal  func(error)
	Now    func() time.Time
	Log    *slog.Logger
	Random io.Reader
}

// Replicas are all partitions of this node.
type Replicas struct {
	opts   Options
	disks  []*disk
	stats  Stats
	config atomic.Pointer[config.Broker]
	image  atomic.Pointer[metadata.Image] // The newest that was published.
	news   chan struct{}                  // There is something to tell the cluster.

	moves moves

	cleaner *cleaner

	// changing is held by whoever makes, opens, moves or removes partitions.
	changing sync.Mutex

	mu struct {
		sync.RWMutex
		parts map[model.Partition]*replica
		// planned says where partitions will be that are decided and not made yet,
		// preferred where somebody wants one that does not exist.
		planned, preferred map[model.Partition]*disk
	}
}

// replica is one partition, or why it cannot be served.
type replica struct {
	*partition.Partition
	id   model.TopicID
	disk *disk // Nil if it is not known where the directory is.
	err  error // Set instead of Partition.

	marked atomic.Int64 // The time of the last mark, in nanoseconds since 1970.
	told   bool         // That it is offline was logged; the keeper's.
}

// Open opens the replicas that the image gives to this node.
func Open(o Options, image *metadata.Image) (*Replicas, error) {
	r := &Replicas{opts: o, news: make(chan struct{}, 1)}
	r.config.Store(o.Config)
	r.image.Store(image)
	r.mu.parts = map[model.Partition]*replica{}
	r.mu.planned, r.mu.preferred = map[model.Partition]*disk{}, map[model.Partition]*disk{}
	r.moves.under, r.moves.settling = map[model.Partition]*move{}, map[model.Partition]*move{}
	r.moves.wake = make(chan struct{}, 1)
	r.cleaner = newCleaner(r)
	for _, d := range o.Dirs {
		k, err := openDisk(r, d)
		if err != nil {
			return nil, fmt.Errorf("replicas: %w", err)
		}
		r.disks = append(r.disks, k)
	}
	if err := r.load(image); err != nil {
		r.closeAll()
		return nil, fmt.Errorf("replicas: %w", err)
	}
	return r, nil
}

// load opens every partition of the image that is ours, the disks side by
// side, and puts away directories that no topic of the image owns.
func (r *Replicas) load(image *metadata.Image) error {
	ours := r.ours(image)
	dirs, failed := r.survey()
	open := r.sortOut(ours, dirs)
	var all sync.WaitGroup
	errs := make([]error, len(r.disks))
	for i, d := range r.disks {
		all.Go(func() {
			if errs[i] = failed[d]; errs[i] == nil {
				errs[i] = d.load(image, ours, open[d])
			}
			if errs[i] != nil {
				d.fail(errs[i])
			}
		})
	}
	all.Wait()
	if !slices.Contains(errs, nil) {
		return errors.Join(errs...)
	}
	for p, t := range ours {
		if r.entry(p) == nil {
			r.makeMissing(image, p, t)
		}
	}
	for _, d := range r.disks {
		if d.hasFailed() == nil {
			d.failUnlessShort("marks", d.own())
			d.failUnlessShort("applied", d.applied(image.End()))
		}
	}
	return nil
}

// ours are the partitions of the image that this node has a replica of.
func (r *Replicas) ours(image *metadata.Image) map[model.Partition]*metadata.Topic {
	ours := map[model.Partition]*metadata.Topic{}
	image.Topics("", func(t *metadata.Topic) bool {
		for i, p := range t.Partitions {
			if slices.Contains(p.Replicas, r.opts.Self) {
				ours[model.Partition{Topic: t.Name, Index: int32(i)}] = t
			}
		}
		return true
	})
	return ours
}

// makeMissing makes a partition that was decided but not made before the node
// stopped; one that had been made is offline.
func (r *Replicas) makeMissing(image *metadata.Image, p model.Partition, t *metadata.Topic) {
	d := r.diskOf(t.Partitions[p.Index])
	if d == nil || d.hasFailed() != nil || d.wasMade(t.Partitions[p.Index].Created) {
		r.opts.Log.Error("partition offline: its directory is missing", "topic", p.Topic, "partition", p.Index)
		r.put(p, &replica{id: t.ID, err: ErrMissing})
		return
	}
	r.create(image, d, p, t.ID)
}

// diskOf is the disk that the image gives to our replica of a partition, nil
// if that disk is not here. Where the image does not say, it is the emptiest.
func (r *Replicas) diskOf(p *metadata.Partition) *disk {
	i := slices.Index(p.Replicas, r.opts.Self)
	if i < 0 || i >= len(p.Directories) || p.Directories[i].IsZero() {
		if len(r.opts.Unusable) > 0 {
			return nil
		}
		return r.emptiest()
	}
	return r.diskByID(p.Directories[i])
}

func (r *Replicas) entry(p model.Partition) *replica {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.mu.parts[p]
}

func (r *Replicas) put(p model.Partition, x *replica) {
	r.mu.Lock()
	r.mu.parts[p] = x
	r.mu.Unlock()
}

// Partition returns this node's replica: ErrUnknown, ErrMissing, or why it
// could not be opened.
func (r *Replicas) Partition(p model.Partition) (*partition.Partition, error) {
	x := r.entry(p)
	switch {
	case x == nil:
		return nil, ErrUnknown
	case x.err != nil:
		return nil, x.err
	}
	return x.Partition, nil
}

// PartitionOf is Partition for who means that of one topic, whatever bears its
// name by now: else ErrUnknown.
func (r *Replicas) PartitionOf(topic model.TopicID, p model.Partition) (*partition.Partition, error) {
	x := r.entry(p)
	switch {
	case x == nil || x.id != topic:
		return nil, ErrUnknown
	case x.err != nil:
		return nil, x.err
	}
	return x.Partition, nil
}

// each calls do for every partition that is open.
func (r *Replicas) each(do func(*replica)) {
	r.mu.RLock()
	all := make([]*replica, 0, len(r.mu.parts))
	for _, x := range r.mu.parts {
		if x.err == nil {
			all = append(all, x)
		}
	}
	r.mu.RUnlock()
	for _, x := range all {
		do(x)
	}
}

// Publish makes the node act on a new image.
func (r *Replicas) Publish(delta *metadata.Delta, image *metadata.Image) {
	r.changing.Lock()
	defer r.changing.Unlock()
	r.image.Store(image)
	r.forgetPlans()
	var made []made
	for _, id := range slices.Compact(delta.Topics) {
		made = append(made, r.topic(delta.From.TopicByID(id), image.TopicByID(id), image)...)
	}
	r.openMade(image, made)
	for _, c := range delta.Configs {
		if c.Type == metadata.ResourceTopic {
			r.configure(image, c.Name)
		}
	}
}

// made is a partition whose directory has been made.
type made struct {
	disk *disk
	p    model.Partition
	id   model.TopicID
}

// topic acts on what became of one topic, and returns the partitions to make.
func (r *Replicas) topic(from, to *metadata.Topic, image *metadata.Image) (add []made) {
	if to == nil {
		if from != nil {
			r.remove(from)
		}
		return nil
	}
	for i, p := range to.Partitions {
		if !slices.Contains(p.Replicas, r.opts.Self) {
			continue
		}
		name := model.Partition{Topic: to.Name, Index: int32(i)}
		if from != nil && i < len(from.Partitions) {
			if from.Partitions[i] != p {
				r.assign(name, p)
			}
			continue
		}
		if r.entry(name) != nil {
			continue
		}
		if d := r.diskOf(p); d != nil {
			add = append(add, made{d, name, to.ID})
		} else {
			r.put(name, &replica{id: to.ID, err: ErrMissing})
		}
	}
	return add
}

// fewMade is up to how many partitions are synced one by one; more are made
// first and synced together.
const fewMade = 4

// openMade makes and opens partitions, and makes their directories durable.
func (r *Replicas) openMade(image *metadata.Image, add []made) {
	if len(add) == 0 {
		return
	}
	byDisk := map[*disk][]made{}
	for _, m := range add {
		byDisk[m.disk] = append(byDisk[m.disk], m)
	}
	for d, some := range byDisk {
		each := len(some) <= fewMade
		for _, m := range some {
			err := d.hasFailed()
			if err == nil {
				err = d.fresh(m.p)
			}
			if err == nil {
				err = d.dir.CreateLog(m.p, m.id, each)
			}
			if err != nil {
				r.notMade(d, m.p, m.id, err)
				continue
			}
			r.open(image, d, m.p, m.id, false)
		}
		if !each {
			d.failUnlessShort("create", d.dir.SyncAll())
		}
		d.failUnlessShort("applied", d.applied(image.End()))
	}
}

// create makes and opens one partition.
func (r *Replicas) create(image *metadata.Image, d *disk, p model.Partition, id model.TopicID) {
	err := d.fresh(p)
	if err == nil {
		err = d.dir.CreateLog(p, id, true)
	}
	if err != nil {
		r.notMade(d, p, id, err)
		return
	}
	r.open(image, d, p, id, false)
}

// notMade notes a partition whose directory could not be made: the next start
// tries again, or whoever finds that there is space, or are descriptors.
func (r *Replicas) notMade(d *disk, p model.Partition, id model.TopicID, err error) {
	d.mu.Lock()
	d.mu.unmade[p] = struct{}{}
	d.mu.Unlock()
	r.failed(d, p, id, err)
	if isShortage(err) {
		d.refuse(p, false)
	}
}

// isMade says that nothing is to be made any more: it is there, or not wanted.
func (d *disk) isMade(p model.Partition) {
	d.mu.Lock()
	delete(d.mu.unmade, p)
	d.mu.Unlock()
}

func (r *Replicas) failed(d *disk, p model.Partition, id model.TopicID, err error) {
	r.opts.Log.Error("partition offline", "topic", p.Topic, "partition", p.Index, "err", err)
	why := partition.ErrOffline
	if full(err) {
		why = ErrDiskFull
	}
	r.put(p, &replica{id: id, disk: d, err: fmt.Errorf("%w: %w", why, err)})
	d.judge(err)
}

// open opens a partition whose directory is there, and assigns it. found says
// that the directory was not made just now.
func (r *Replicas) open(image *metadata.Image, d *disk, p model.Partition, id model.TopicID, found bool) {
	cfg, err := r.topicConfig(image, p.Topic)
	if err != nil {
		r.failed(d, p, id, err)
		return
	}
	options := d.partitionOptions(p, cfg, d.logOptions(p, found))
	var x *partition.Partition
	err = d.dir.Spend(func() (err error) { // Recovery writes indexes.
		x, err = partition.Open(options)
		return err
	})
	if err != nil {
		r.failed(d, p, id, err)
		if isShortage(err) {
			d.refuse(p, found)
		}
		return
	}
	d.isMade(p)
	d.placed.Add(1)
	y := &replica{Partition: x, id: id, disk: d}
	y.marked.Store(r.opts.Now().UnixNano())
	r.put(p, y)
	d.touch(x)
	d.brim.hasRolled(p) // It may have segments to give.
	if t := image.Topic(p.Topic); t != nil && int(p.Index) < len(t.Partitions) {
		r.assign(p, t.Partitions[p.Index])
	}
}

func (r *Replicas) assign(name model.Partition, p *metadata.Partition) {
	x, err := r.Partition(name)
	if err != nil {
		return
	}
	x.Assign(replication.Assignment{Epoch: p.LeaderEpoch, Leader: p.Leader, Members: p.ISR, Replicas: len(p.Replicas)})
}

// remove closes a topic's partitions and puts their directories away; the
// keeper removes them later.
func (r *Replicas) remove(t *metadata.Topic) {
	for i := range t.Partitions {
		p := model.Partition{Topic: t.Name, Index: int32(i)}
		r.mu.Lock()
		x := r.mu.parts[p]
		if x != nil && x.id == t.ID {
			delete(r.mu.parts, p)
		}
		r.mu.Unlock()
		if x == nil || x.id != t.ID || x.disk == nil {
			continue
		}
		x.disk.isMade(p)
		r.endMove(p)
		var err error
		if x.Partition != nil {
			x.Retire()
			err = x.disk.retire(x)
		} else {
			err = x.disk.putAway(p) // Offline; its directory may be there.
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.opts.Log.Error("directory of a deleted partition not put away", "topic", p.Topic, "partition", p.Index, "err", err)
		}
	}
}

// Run does the periodic work until ctx ends.
func (r *Replicas) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, d := range r.disks {
		all.Go(func() { d.flusher.run(ctx) })
		all.Go(func() { d.keep(ctx) })
		all.Go(func() { d.trim(ctx) })
	}
	all.Go(func() { r.tellCluster(ctx) })
	all.Go(func() { r.cleaner.run(ctx) })
	if len(r.disks) > 1 {
		for range max(1, r.config.Load().Disks.MoveThreads) {
			all.Go(func() { r.carryMoves(ctx) })
		}
	}
	all.Wait()
}

// Resign ends all leaderships, so that whoever waits is told, before the node
// stops.
func (r *Replicas) Resign() { r.each(func(x *replica) { x.Resign() }) }

// Close marks and closes every log and says that the node stopped cleanly. Run
// has returned.
func (r *Replicas) Close(brokerEpoch int64) error {
	var errs []error
	r.closeLeft()
	for _, d := range r.disks {
		errs = append(errs, d.close(brokerEpoch))
	}
	return errors.Join(errs...)
}

// closeLeft closes the logs that partitions have left and that are still there:
// the next start puts them away.
func (r *Replicas) closeLeft() {
	for _, m := range r.moves.settling {
		m.left.Close()
	}
}

// Abandon closes the files of a node whose start failed. Nothing is said of a
// clean stop.
func (r *Replicas) Abandon() { r.closeAll() }

func (r *Replicas) closeAll() {
	r.closeLeft()
	r.each(func(x *replica) { x.Close() })
}
