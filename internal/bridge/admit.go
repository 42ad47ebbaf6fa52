package bridge

import (
	"context"
	"sync"
	"time"

	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/metadata"
)

const (
	// maxWishes is how many producers may wait to be given a partition, and how
	// many of those that were refused are remembered: about as many as there are
	// in a large mesh. Who is forgotten is asked about again.
	maxWishes = 4096
	// refusedFor is how long a refused producer is not heard: a topic may be
	// deleted, or a limit be raised.
	refusedFor = 30 * time.Second
	// toldEvery is how often the log tells of refusals.
	toldEvery = 10 * time.Second
)

// admits gives producers their partitions. Records of a producer that is new are
// dropped: it is asked for them when it has one.
type admits struct {
	b    *Bridge
	wake chan struct{}

	mu struct {
		sync.Mutex
		wishes  map[fabric.Partition]uint64 // The highest sequence that was heard of.
		refused map[fabric.Partition]time.Time
	}
	told time.Time // Run's.
}

func newAdmits(b *Bridge) *admits {
	a := &admits{b: b, wake: make(chan struct{}, 1)}
	a.mu.wishes, a.mu.refused = map[fabric.Partition]uint64{}, map[fabric.Partition]time.Time{}
	return a
}

// wish notes a producer that has no partition.
func (a *admits) wish(m *fabric.Message) {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := fabric.Partition{Subject: string(m.Subject), Address: string(m.Address)}
	sequence, known := a.mu.wishes[p]
	if until, refused := a.mu.refused[p]; refused && time.Now().Before(until) || !known && len(a.mu.wishes) >= maxWishes {
		a.b.refused.Add(1)
		return
	}
	a.mu.wishes[p] = max(sequence, m.Sequence)
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *admits) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
		}
		a.admit(ctx, a.take())
	}
}

func (a *admits) take() map[fabric.Partition]uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	wishes := a.mu.wishes
	a.mu.wishes = map[fabric.Partition]uint64{}
	return wishes
}

// admit has the cluster decide. Producers of one topic stand together; if they
// are refused, each is tried alone, lest one is refused for another.
func (a *admits) admit(ctx context.Context, wishes map[fabric.Partition]uint64) {
	byTopic := map[string][]string{}
	for p := range wishes {
		byTopic[p.Subject] = append(byTopic[p.Subject], p.Address)
	}
	var all, alone []controller.DafkaTopic
	for topic, producers := range byTopic {
		all = append(all, controller.DafkaTopic{Name: topic, Producers: producers})
	}
	for i, err := range a.propose(ctx, all) {
		switch {
		case err == nil || len(all[i].Producers) == 1:
			a.decided(wishes, &all[i], err)
		default:
			for _, p := range all[i].Producers {
				alone = append(alone, controller.DafkaTopic{Name: all[i].Name, Producers: []string{p}})
			}
		}
	}
	for _, t := range alone {
		for _, err := range a.propose(ctx, []controller.DafkaTopic{t}) {
			a.decided(wishes, &t, err)
		}
	}
}

// propose returns the errors beside the topics: none at all if the cluster
// cannot decide just now. Then they will be heard of again.
func (a *admits) propose(ctx context.Context, topics []controller.DafkaTopic) (errs []error) {
	err := a.b.o.Propose(ctx, func(image *metadata.Image) (records []metadata.Record, err error) {
		records, errs = a.b.o.Rules.DafkaProducers(image, topics, a.b.o.MaxPartitions)
		return records, nil
	})
	if err != nil {
		if ctx.Err() == nil {
			a.b.o.Log.Error("dafka producers get no partitions", "err", err)
		}
		return nil
	}
	return errs
}

func (a *admits) decided(wishes map[fabric.Partition]uint64, t *controller.DafkaTopic, err error) {
	for _, address := range t.Producers {
		p := fabric.Partition{Subject: t.Name, Address: address}
		if err == nil {
			a.b.writer.found(p, wishes[p])
			continue
		}
		a.refuse(p, err)
	}
}

func (a *admits) refuse(p fabric.Partition, err error) {
	now := time.Now()
	a.mu.Lock()
	if len(a.mu.refused) >= maxWishes {
		clear(a.mu.refused)
	}
	a.mu.refused[p] = now.Add(refusedFor)
	a.mu.Unlock()
	a.b.refused.Add(1)
	if now.Sub(a.told) >= toldEvery {
		a.told = now
		a.b.o.Log.Warn("dafka producer is refused: its records are not stored and not acknowledged", "topic", p.Subject, "producer", p.Address, "err", err)
	}
}
