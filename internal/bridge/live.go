package bridge

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/mesh"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/model"
)

// live publishes topics with dafka.publish: records as they become stable, and
// heads. Who misses one asks the reader.
type live struct {
	b     *Bridge
	wake  mesh.Bell
	pages pages
	sends []fabric.Send

	mu    sync.Mutex
	feeds map[*part]*feed
	due   []*feed // Those to look at.
}

// feed is a partition that is published.
type feed struct {
	l    *live
	part *part
	next uint64          // Run's: the sequence that is published next.
	need *partition.Need // Run's, and forget's: at which it waits, or nil.
	due  bool            // It is in live.due.
	over bool            // It is published no more.
}

func newLive(b *Bridge) *live {
	return &live{b: b, wake: mesh.NewBell(), feeds: map[*part]*feed{}}
}

// follow takes a new table. A partition that is new is published from its end on:
// what it has, its head tells.
func (l *live) follow(t *table) {
	l.mu.Lock()
	defer l.mu.Unlock()
	here := map[*part]bool{}
	for _, p := range t.parts {
		if !p.published || p.replica == nil {
			continue
		}
		here[p] = true
		if l.feeds[p] == nil {
			_, end := p.holds()
			l.feeds[p] = &feed{l: l, part: p, next: end}
			l.dueLocked(l.feeds[p])
		}
	}
	for p, f := range l.feeds {
		if !here[p] {
			l.overLocked(f)
		}
	}
}

func (l *live) overLocked(f *feed) {
	f.over = true
	delete(l.feeds, f.part)
	if f.need != nil {
		f.part.replica.ForgetData(f.need)
	}
}

// forget ends all feeds.
func (l *live) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.feeds {
		l.overLocked(f)
	}
}

// Wake implements [partition.Waker]: there is something to publish.
func (f *feed) Wake() {
	f.l.mu.Lock()
	defer f.l.mu.Unlock()
	f.l.dueLocked(f)
}

func (l *live) dueLocked(f *feed) {
	if f.due || f.over {
		return
	}
	f.due = true
	l.due = append(l.due, f)
	l.wake.Ring()
}

// run publishes until ctx ends.
func (l *live) run(ctx context.Context) {
	heads := time.NewTicker(l.b.o.Config.Producer.HeadInterval)
	defer heads.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-heads.C:
			l.heads()
		case <-l.wake:
		}
		for _, f := range l.take() {
			if ctx.Err() == nil {
				l.publish(f)
			}
		}
	}
}

func (l *live) take() []*feed {
	l.mu.Lock()
	defer l.mu.Unlock()
	due := l.due
	l.due = nil
	for _, f := range due {
		f.due = false
	}
	return due
}

// publish publishes some of what a partition has, and sees to it that it is
// looked at again when there is more.
func (l *live) publish(f *feed) {
	seen, err := f.part.replica.State(model.NoEpoch)
	if err != nil || l.isOver(f) {
		return // Heads look at it again, if it is not over.
	}
	end := uint64(seen.Stable)
	f.next = max(f.next, uint64(seen.Start))
	if l.b.reader.Node.Stats().Peers == 0 {
		f.next = end // Nobody hears it; heads tell who comes.
	}
	if f.next < end {
		l.records(f, end)
		l.b.reader.holds(f.part)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if f.over {
		return
	}
	if f.next < end || !l.awaitLocked(f, seen) {
		l.dueLocked(f)
	}
}

// isOver reports whether a feed is published no more. It is asked after it was
// seen how far the partition goes: what came when that was said is not published.
func (l *live) isOver(f *feed) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return f.over
}

// awaitLocked reports whether the feed will be woken.
func (l *live) awaitLocked(f *feed, seen partition.State) bool {
	if f.need != nil {
		f.part.replica.ForgetData(f.need)
	}
	f.need = partition.NewNeed(f, 1, true)
	return f.part.replica.AwaitData(seen, f.need) || f.part.replica.Err() != nil
}

func (l *live) records(f *feed, end uint64) {
	p := f.part
	l.sends = l.sends[:0]
	_, err := l.pages.read(p, f.next, end, func(sequence uint64, content []byte) bool {
		l.sends = append(l.sends, fabric.Send{
			Message: fabric.Message{Kind: fabric.Record, Topic: p.subject, Address: p.address, Subject: p.subject, Sequence: sequence},
			Content: content,
		})
		return true
	})
	l.b.reader.Node.Publish(l.sends)
	l.b.published.Add(uint64(len(l.sends)))
	f.next += uint64(len(l.sends))
	clear(l.sends)
	if len(l.sends) == 0 {
		f.next = end // It cannot be read, or is deleted by now: who wants it asks.
	}
	if err != nil && !errors.Is(err, partition.ErrOutOfRange) {
		l.b.o.Log.Error("partition is not published", "topic", p.Subject, "partition", p.index, "err", err)
	}
}

// headsAtATime is how many heads are handed to the socket at once.
const headsAtATime = 1024

// heads tells of the last record of each partition, as producers do, and looks at
// all.
func (l *live) heads() {
	l.mu.Lock()
	feeds := make([]*feed, 0, len(l.feeds))
	for _, f := range l.feeds {
		feeds = append(feeds, f)
		l.dueLocked(f)
	}
	l.mu.Unlock()
	l.sends = l.sends[:0]
	for _, f := range feeds {
		if p := f.part; f.next > 0 {
			l.sends = append(l.sends, fabric.Send{Message: fabric.Message{
				Kind: fabric.Head, Topic: p.subject, Address: p.address, Subject: p.subject, Sequence: f.next - 1,
			}})
		}
		if len(l.sends) == headsAtATime {
			l.b.reader.Node.Publish(l.sends)
			l.sends = l.sends[:0]
		}
	}
	l.b.reader.Node.Publish(l.sends)
}
