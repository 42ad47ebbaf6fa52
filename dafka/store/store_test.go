package store

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/dafka"
	"github.com/barnabas-log/barnabas/dafka/tower"
	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/storelog"
	"github.com/barnabas-log/barnabas/internal/vfs"
)

// TestHeldIsBounded: while the disk stands still, a store takes in as much as it
// may hold, and no more, whatever is published; then it goes on.
func TestHeldIsBounded(t *testing.T) {
	c := dafka.DefaultConfig()
	c.Tower.Sub, c.Tower.Pub, c.Beacon.Bind, c.Beacon.Address = "tcp://127.0.0.1:*", "tcp://127.0.0.1:*", "tcp://127.0.0.1:*", "127.0.0.1"
	c.Beacon.Interval, c.Producer.HeadInterval, c.Store.DB = 50*time.Millisecond, 100*time.Millisecond, "/store"
	tw, err := tower.New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tw.Close(context.Background())
	c.Beacon.Sub, c.Beacon.Pub = []string{tw.Sub()}, []string{tw.Pub()}

	stands, goes := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s, err := New(c, Options{FS: vfs.NewFaulty(vfs.NewMem(), func(op vfs.Op) error {
		if op.Kind == vfs.OpSync && strings.Contains(op.Path, "/large-0/") {
			once.Do(func() { close(stands) })
			<-goes
		}
		return nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(context.Background())
	const most = 1 << 20
	s.writer.mu.Lock()
	s.writer.backlog.Most = most
	s.writer.mu.Unlock()

	p, err := dafka.NewProducer("large", dafka.ProducerOptions{Config: c})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for range 4000 {
		if _, err := p.Publish(ctx, make([]byte, 10_000)); err != nil {
			t.Fatal(err)
		}
	}
	<-stands
	for full := false; !full && ctx.Err() == nil; time.Sleep(time.Millisecond) {
		s.writer.mu.Lock()
		if full = s.writer.backlog.Bytes() >= most; s.writer.backlog.Bytes() > most+(1<<20) {
			t.Errorf("%d bytes are held", s.writer.backlog.Bytes())
		}
		s.writer.mu.Unlock()
	}
	if n := s.Stats().Records; n != 0 {
		t.Errorf("%d records are stored on a disk that stands still", n)
	}
	close(goes)
	if err := p.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if all := s.Partitions(); len(all) != 1 || all[0].End != 4000 {
		t.Errorf("%+v", all)
	}
}

// TestTooManyProducers: a store that has no room for another producer says so,
// and not at each of its records.
func TestTooManyProducers(t *testing.T) {
	logs, err := storelog.Open("/store", storelog.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	var said bytes.Buffer
	w := newWriter(logs, "WRITER", "READER", slog.New(slog.NewTextHandler(&said, nil)))
	now := time.Now()
	w.machine = fabric.NewWriter(now, fabric.WriterOptions{Address: "WRITER", MaxPartitions: 1}, nil, nil)
	told := func() int {
		w.take()
		return strings.Count(said.String(), "too many partitions")
	}
	publish := func(producer string, sequence uint64) {
		w.machine.Handle(now, &fabric.Message{Kind: fabric.Record, Subject: []byte("t"), Address: []byte(producer), Sequence: sequence}, []byte("x"), producer)
	}
	publish("A", 0)
	if n := told(); n != 0 {
		t.Error("said with room for all")
	}
	publish("B", 0)
	publish("B", 1)
	if n := told(); n != 1 {
		t.Errorf("said %d times: %s", n, &said)
	}
	publish("B", 2)
	if n := told(); n != 1 {
		t.Errorf("said %d times within a minute", n)
	}
}
