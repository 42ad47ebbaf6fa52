package broker

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/internal/coordinator/txn"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/internal/producers"
	"github.com/barnabas-log/barnabas/internal/replication"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// stage is a shard of the transaction coordinator over a partition on a disk in
// memory, in virtual time. Nothing is on disk before flush.
type stage struct {
	t         *testing.T
	fs        *vfs.Mem
	partition *partition.Partition
	runtime   *coordinator.Runtime
	epoch     model.Epoch
	markers   []txn.WriteMarkers
}

func openPartition(t *testing.T, fs vfs.FS, epoch model.Epoch) *partition.Partition {
	t.Helper()
	b, _, err := config.Load(config.Sources{Flags: map[string]string{"log.dirs": "/a"}, MemoryBytes: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	topic, err := config.ResolveTopic(b, map[string]string{"cleanup.policy": "compact", "durability": "fsync"})
	if err != nil {
		t.Fatal(err)
	}
	if err := fs.MkdirAll("/a/x-0"); err != nil {
		t.Fatal(err)
	}
	p, err := partition.Open(partition.Options{
		FS: fs, Dir: "/a/x-0", ID: model.Partition{Topic: "x"}, Self: 1, Config: &topic, ProducerExpiry: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	p.Assign(replication.Assignment{Epoch: epoch, Leader: 1, Members: []model.NodeID{1}, Replicas: 1})
	return p
}

func flush(t *testing.T, p *partition.Partition) {
	t.Helper()
	s, err := p.BeginSync()
	if err != nil {
		t.Fatal(err)
	}
	p.Synced(s, s.Flush())
}

// lead begins an epoch: the node has started, from what is on its disk.
func (s *stage) lead() {
	s.epoch++
	s.partition = openPartition(s.t, s.fs, s.epoch)
	settings := config.Txn{MaxTimeout: time.Hour, Expiration: time.Hour, AbortCheck: time.Second, ExpireCheck: time.Hour}
	s.runtime = coordinator.NewRuntime(coordinator.Options{
		Name: "transaction", Now: time.Now, Log: slog.New(slog.DiscardHandler), MaxBatch: 1 << 20,
		New: func(int32, *coordinator.Share) coordinator.Machine {
			return txn.New(txn.Options{Settings: settings, TransactionVersion: 2})
		},
		Send: func(_ int32, epoch model.Epoch, send any) {
			switch send := send.(type) {
			case txn.NeedProducerIDs:
				id := model.ProducerID(1000 * epoch)
				if err := s.runtime.Submit(0, txn.ProducerIDs{First: id, End: id + 1000}, nil); err != nil {
					s.t.Error(err)
				}
			case txn.WriteMarkers:
				s.markers = append(s.markers, send)
			}
		},
	})
	s.runtime.Lead(0, s.epoch, coordLog{s.partition, time.Now})
	synctest.Wait()
	flush(s.t, s.partition)
	synctest.Wait()
}

// crash takes what was not flushed, and starts anew.
func (s *stage) crash() {
	s.runtime.Close()
	s.fs = s.fs.CrashClone(rand.New(rand.NewPCG(uint64(s.epoch), 1)))
	s.markers = nil
	s.lead()
}

// ask gives a request and returns a place for the answer.
func (s *stage) ask(q wire.Request, version int16) *any {
	s.t.Helper()
	answer := new(any)
	err := s.runtime.Submit(0, txn.Request{Body: q, Version: version}, func(a any, err error) {
		if *answer = a; err != nil {
			*answer = err
		}
	})
	if err != nil {
		s.t.Fatal(err)
	}
	synctest.Wait()
	return answer
}

func initProducer() *wire.InitProducerIDRequest {
	id := "a"
	q := wire.NewInitProducerIDRequest()
	q.TransactionalID, q.TransactionTimeoutMs = &id, 60_000
	return q
}

// A transaction over a real log: no answer and no marker before the commit, and
// after a crash the markers are asked for again.
func TestTransactionLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{t: t, fs: vfs.NewMem()}
		s.lead()
		defer func() { s.runtime.Close() }()
		lost := s.ask(initProducer(), 5)
		if *lost != nil {
			t.Fatalf("answered %v before the commit", *lost)
		}
		s.crash()
		if !errors.Is((*lost).(error), coordinator.ErrNotCoordinator) {
			t.Errorf("lost: %v", *lost)
		}
		answer := s.ask(initProducer(), 5)
		flush(t, s.partition)
		synctest.Wait()
		who := (*answer).(*wire.InitProducerIDResponse)
		if who.ErrorCode != 0 { // It has the first one's id, or a new one: crashes take what they like.
			t.Fatalf("%+v", who)
		}
		add := wire.NewAddPartitionsToTxnRequest()
		x := wire.Extend(&add.Transactions)
		x.TransactionalID, x.ProducerID, x.ProducerEpoch = "a", who.ProducerID, who.ProducerEpoch
		*wire.Extend(&x.Topics) = wire.AddPartitionsToTxnRequestAddPartitionsToTxnTopic{Name: "t", Partitions: []int32{3, 4}}
		s.ask(add, 5)
		end := wire.NewEndTxnRequest()
		end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Committed = "a", who.ProducerID, who.ProducerEpoch, true
		ended := s.ask(end, 5)
		if *ended != nil || len(s.markers) != 0 {
			t.Fatalf("%v %v before the commit", *ended, s.markers)
		}
		flush(t, s.partition)
		synctest.Wait()
		if r := (*ended).(*wire.EndTxnResponse); r.ErrorCode != 0 || r.ProducerEpoch != who.ProducerEpoch+1 || len(s.markers) != 1 {
			t.Fatalf("%+v %v", r, s.markers)
		}
		s.crash()
		if len(s.markers) != 1 || !s.markers[0].Committed || s.markers[0].Epoch != who.ProducerEpoch+1 || len(s.markers[0].Partitions) != 2 {
			t.Fatalf("after a crash: %+v", s.markers)
		}
		m := s.markers[0]
		if err := s.runtime.Submit(0, txn.MarkersWritten{TransactionalID: "a", Attempt: m.Attempt, Partitions: m.Partitions}, nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		flush(t, s.partition)
		s.crash()
		if len(s.markers) != 0 {
			t.Fatalf("completed: %+v", s.markers)
		}
	})
}

// What a log says is told in the words of shards.
func TestCoordLogErrors(t *testing.T) {
	p := openPartition(t, vfs.NewMem(), 3)
	l := coordLog{p, time.Now}
	batch := func() record.Batch { return record.EndTxnMarker(7, 4, 9, record.Commit, 0) }
	if end, err := l.Append(3, batch()); end != 1 || err != nil {
		t.Fatal(end, err)
	}
	for _, epoch := range []model.Epoch{2, 4} {
		if _, err := l.Append(epoch, batch()); !errors.Is(err, coordinator.ErrNotCoordinator) {
			t.Error(err)
		}
		if _, err := l.Acknowledged(1, epoch); !errors.Is(err, coordinator.ErrNotCoordinator) {
			t.Error(err)
		}
	}
	f := func(epoch int16, m *coordinator.Marker, want error) {
		t.Helper()
		if err := l.Admit(coordinator.Batch{Producer: &record.Producer{ID: 7, Epoch: epoch}, Marker: m}); !errors.Is(err, want) {
			t.Error(err)
		}
	}
	f(3, nil, producers.ErrInvalidEpoch)
	f(4, nil, producers.ErrInvalidTxnState)
	f(4, &coordinator.Marker{CoordinatorEpoch: 9, TransactionVersion: 2}, nil)
	f(5, &coordinator.Marker{CoordinatorEpoch: 8}, producers.ErrCoordinatorFenced)
	p.Retire()
	if _, err := l.Append(3, batch()); !errors.Is(err, coordinator.ErrNotCoordinator) {
		t.Error(err)
	}
}
