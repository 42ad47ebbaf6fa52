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
	// maxRefused is how many refused producers are remembered: about as many as
	// there are in a large mesh. Who is forgotten is asked about again.
	maxRefused = 4096
	// refusedFor is how long a refused producer is not heard: a topic may be
	// deleted, or a limit be raised.
	refusedFor = 30 * time.Second
	// toldEvery is how often the log tells of refusals.
	toldEvery = 10 * time.Second
)

// admits gives producers their partitions. Who has heard of some that are new
// waits until it is decided, and reads nothing meanwhile: were their first records
// dropped and asked for again, C's producers would answer with wrong contents.
type admits struct {
	b    *Bridge
	asks chan ask
	over chan struct{} // Closed when nothing is decided any more.

	mu struct {
		sync.Mutex
		refused map[fabric.Partition]time.Time // Until when.
	}
	told time.Time // Run's.
}

// ask is a question about producers.
type ask struct {
	fresh []fabric.Partition
	done  chan struct{}
}

func newAdmits(b *Bridge) *admits {
	a := &admits{b: b, asks: make(chan ask), over: make(chan struct{})}
	a.mu.refused = map[fabric.Partition]time.Time{}
	return a
}

// isRefused reports whether a producer is not heard just now.
func (a *admits) isRefused(p fabric.Partition) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	until, refused := a.mu.refused[p]
	return refused && time.Now().Before(until)
}

// wait returns when it is decided about producers, or when nothing is decided any
// more.
func (a *admits) wait(fresh []fabric.Partition) {
	q := ask{fresh, make(chan struct{})}
	select {
	case a.asks <- q:
	case <-a.over:
		return
	}
	<-q.done
}

// run decides until ctx ends.
func (a *admits) run(ctx context.Context) {
	defer close(a.over)
	for {
		select {
		case <-ctx.Done():
			return
		case q := <-a.asks:
			a.admit(ctx, q.fresh)
			close(q.done)
		}
	}
}

// admit has the cluster decide. Producers of one topic stand together; if they
// are refused, each is tried alone, lest one is refused for another.
func (a *admits) admit(ctx context.Context, fresh []fabric.Partition) {
	at := map[string]int{}
	var all, alone []controller.DafkaTopic
	for _, p := range fresh {
		i, known := at[p.Subject]
		if !known {
			i = len(all)
			at[p.Subject], all = i, append(all, controller.DafkaTopic{Name: p.Subject})
		}
		all[i].Producers = append(all[i].Producers, p.Address)
	}
	for i, err := range a.propose(ctx, all) {
		if err == nil || len(all[i].Producers) == 1 {
			a.decided(&all[i], err)
			continue
		}
		for _, p := range all[i].Producers {
			alone = append(alone, controller.DafkaTopic{Name: all[i].Name, Producers: []string{p}})
		}
	}
	for _, t := range alone {
		for _, err := range a.propose(ctx, []controller.DafkaTopic{t}) {
			a.decided(&t, err)
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

func (a *admits) decided(t *controller.DafkaTopic, err error) {
	for _, address := range t.Producers {
		if err != nil {
			a.refuse(fabric.Partition{Subject: t.Name, Address: address}, err)
		}
	}
}

func (a *admits) refuse(p fabric.Partition, err error) {
	now := time.Now()
	a.mu.Lock()
	if len(a.mu.refused) >= maxRefused {
		clear(a.mu.refused)
	}
	a.mu.refused[p] = now.Add(refusedFor)
	a.mu.Unlock()
	if now.Sub(a.told) >= toldEvery {
		a.told = now
		a.b.o.Log.Warn("dafka producer is refused: its records are not stored and not acknowledged", "topic", p.Subject, "producer", p.Address, "err", err)
	}
}
