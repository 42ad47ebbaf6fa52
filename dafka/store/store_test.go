package store

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/dafka"
	"github.com/barnabas-log/barnabas/dafka/tower"
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
