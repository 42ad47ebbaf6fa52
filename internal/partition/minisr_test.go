package partition

import (
	"errors"
	"testing"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/replication"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// TestTooFewInSync: acks=all is refused with fewer replicas in sync than
// min.insync.replicas, wherever that is set, and never because there are fewer
// replicas at all.
func TestTooFewInSync(t *testing.T) {
	two := map[string]string{"min.insync.replicas": "2"}
	f := func(what string, replicas int, options []string, all, topic map[string]string, want error) {
		t.Helper()
		b, _, err := config.Load(config.Sources{Flags: map[string]string{"log.dirs": "/data"}, Options: options, MemoryBytes: 1 << 30})
		if err == nil {
			b, err = b.WithDynamic(nil, all)
		}
		if err != nil {
			t.Fatal(err)
		}
		c, err := config.ResolveTopic(b, topic)
		if err != nil {
			t.Fatal(err)
		}
		p := open(t, vfs.NewMem(), &c)
		p.Assign(replication.Assignment{Epoch: 2, Leader: 1, Members: []model.NodeID{1}, Replicas: replicas})
		one := func() record.Batch { return batch(t, record.BuilderOptions{}, "x") }
		if _, err := p.Append(one(), true, now); !errors.Is(err, want) {
			t.Errorf("%s: acks=all: %v, want %v", what, err, want)
		}
		if _, err := p.Append(one(), false, now); err != nil {
			t.Errorf("%s: acks=1: %v", what, err)
		}
	}
	f("nobody sets it", 2, nil, nil, nil, nil)
	f("the topic does", 2, nil, nil, two, ErrTooFewInSync)
	f("the file does", 2, []string{"min.insync.replicas=2"}, nil, nil, ErrTooFewInSync)
	f("all brokers do", 2, nil, two, nil, ErrTooFewInSync)
	f("the topic does otherwise", 2, nil, two, map[string]string{"min.insync.replicas": "1"}, nil)
	f("there is one replica", 1, nil, nil, two, nil)
}
