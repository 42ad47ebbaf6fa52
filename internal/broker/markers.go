package broker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/barnabas-log/barnabas/internal/coordinator/txn"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/internal/producers"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// markerPause is how long a partition that does not take a marker is left
// alone before the next try.
const markerPause = 200 * time.Millisecond

// markers writes what ends transactions, for the coordinator that has decided
// it, and tries until each partition has its marker or is gone.
type markers struct {
	// write writes a marker to a partition, and calls done when it is committed.
	write func(p model.Partition, m partition.Marker, done func(error))
	// exists reports whether the cluster has a partition.
	exists func(model.Partition) bool
	// written tells the shard that a transactional id belongs to.
	written func(shard int32, news txn.MarkersWritten)
	log     *slog.Logger
	// order is held while markers are given to partitions: those of an attempt
	// that was replaced must not come after its successor's.
	order sync.Mutex

	mu struct {
		sync.Mutex
		jobs    map[string]*markerJob // By transactional id.
		waiting map[*markerJob]bool   // For the next try.
	}
	wake chan struct{}
}

// markerJob is one transaction that ends.
type markerJob struct {
	shard  int32
	epoch  model.Epoch
	send   txn.WriteMarkers
	failed []model.Partition // To be tried again.
	left   int               // Tries under way.
}

func newMarkers(log *slog.Logger) *markers {
	m := &markers{log: log, wake: make(chan struct{}, 1)}
	m.mu.jobs, m.mu.waiting = map[string]*markerJob{}, map[*markerJob]bool{}
	return m
}

// start begins to write markers. A newer attempt for the same transactional id
// takes the place of an older one.
func (m *markers) start(shard int32, epoch model.Epoch, send txn.WriteMarkers) {
	j := &markerJob{shard: shard, epoch: epoch, send: send}
	m.order.Lock()
	defer m.order.Unlock()
	m.mu.Lock()
	if old := m.mu.jobs[send.TransactionalID]; old != nil {
		delete(m.mu.waiting, old)
	}
	m.mu.jobs[send.TransactionalID] = j
	m.mu.Unlock()
	m.try(j, send.Partitions)
}

// try writes to partitions that have no marker yet.
func (m *markers) try(j *markerJob, partitions []model.Partition) {
	m.mu.Lock()
	j.left, j.failed = len(partitions), nil
	m.mu.Unlock()
	marker := partition.Marker{
		ProducerID: j.send.ProducerID, ProducerEpoch: j.send.Epoch, CoordinatorEpoch: int32(j.epoch),
		Committed: j.send.Committed, TransactionVersion: j.send.TransactionVersion,
	}
	for _, p := range partitions {
		if !m.exists(p) {
			m.took(j, p, nil) // Its topic is gone, and its records with it.
			continue
		}
		m.write(p, marker, func(err error) { m.took(j, p, err) })
	}
}

// again tries what has failed, unless another attempt has taken its place.
func (m *markers) again(j *markerJob) {
	m.order.Lock()
	defer m.order.Unlock()
	m.mu.Lock()
	current, failed := m.mu.jobs[j.send.TransactionalID] == j, j.failed
	m.mu.Unlock()
	if current {
		m.try(j, failed)
	}
}

// took is told of one partition.
func (m *markers) took(j *markerJob, p model.Partition, err error) {
	switch {
	case err == nil:
		m.written(j.shard, txn.MarkersWritten{TransactionalID: j.send.TransactionalID, Attempt: j.send.Attempt, Partitions: []model.Partition{p}})
	case overtaken(err):
		// A later coordinator, or a later incarnation of the producer, was here:
		// the transaction is theirs.
		m.log.Warn("marker refused: somebody else has ended the transaction", "topic", p.Topic, "partition", p.Index, "txn", j.send.TransactionalID, "err", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil && !overtaken(err) {
		j.failed = append(j.failed, p)
	}
	if j.left--; j.left > 0 || m.mu.jobs[j.send.TransactionalID] != j {
		return
	}
	if len(j.failed) == 0 {
		delete(m.mu.jobs, j.send.TransactionalID)
		return
	}
	m.mu.waiting[j] = true
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func overtaken(err error) bool {
	var c wire.ErrorCode
	if errors.As(err, &c) {
		return c == wire.TransactionCoordinatorFenced || c == wire.InvalidProducerEpoch
	}
	return errors.Is(err, producers.ErrCoordinatorFenced) || errors.Is(err, producers.ErrInvalidEpoch)
}

// run tries again what was not taken, until ctx ends.
func (m *markers) run(ctx context.Context) {
	for {
		select {
		case <-m.wake:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(markerPause):
		case <-ctx.Done():
			return
		}
		m.mu.Lock()
		again := m.mu.waiting
		m.mu.waiting = map[*markerJob]bool{}
		m.mu.Unlock()
		for j := range again {
			m.again(j)
		}
	}
}

// pending is how many transactions wait for markers.
func (m *markers) pending() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.mu.jobs)
}
