package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/internal/coordinator/txn"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/internal/producers"
	"github.com/barnabas-log/barnabas/model"
)

// writer is what partitions say to markers.
type writer struct {
	*markers
	says    map[int32]error // By partition.
	gone    map[int32]bool
	written []string // "attempt/partition", as told to partitions.
	told    []string // As told to shards.
}

func newWriter() *writer {
	w := &writer{markers: newMarkers(slog.New(slog.DiscardHandler)), says: map[int32]error{}, gone: map[int32]bool{}}
	w.exists = func(p model.Partition) bool { return !w.gone[p.Index] }
	w.write = func(p model.Partition, m partition.Marker, done func(error)) {
		w.written = append(w.written, fmt.Sprint(m.ProducerEpoch, "/", p.Index))
		done(w.says[p.Index])
	}
	w.markers.written = func(_ int32, in txn.MarkersWritten) {
		for _, p := range in.Partitions {
			w.told = append(w.told, fmt.Sprint(in.Attempt, "/", p.Index))
		}
	}
	return w
}

func (w *writer) want(t *testing.T, written, told []string) {
	t.Helper()
	w.order.Lock()
	defer w.order.Unlock()
	if diff := cmp.Diff([][]string{written, told}, [][]string{w.written, w.told}); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	w.written, w.told = nil, nil
}

func attempt(n int, partitions ...int32) txn.WriteMarkers {
	s := txn.WriteMarkers{TransactionalID: "a", Attempt: uint64(n), Epoch: int16(n)}
	for _, p := range partitions {
		s.Partitions = append(s.Partitions, model.Partition{Topic: "t", Index: p})
	}
	return s
}

// Markers are tried until partitions have them, or are gone, or somebody else
// was there; an attempt that was replaced is not tried again.
func TestMarkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w := newWriter()
		go w.run(ctx)
		defer cancel()
		w.says[1], w.says[2], w.gone[3] = errors.New("no disk"), producers.ErrInvalidEpoch, true
		w.start(0, 5, attempt(1, 0, 1, 2, 3))
		w.want(t, []string{"1/0", "1/1", "1/2"}, []string{"1/0", "1/3"})
		time.Sleep(markerPause)
		synctest.Wait()
		w.want(t, []string{"1/1"}, nil)
		w.start(0, 5, attempt(2, 0, 1))
		w.want(t, []string{"2/0", "2/1"}, []string{"2/0"})
		w.order.Lock()
		w.says[1] = nil
		w.order.Unlock()
		time.Sleep(markerPause)
		synctest.Wait()
		w.want(t, []string{"2/1"}, []string{"2/1"})
		if w.pending() != 0 {
			t.Errorf("%d transactions wait for nothing", w.pending())
		}
		time.Sleep(10 * markerPause)
		synctest.Wait()
		w.want(t, nil, nil)
	})
}

// A retry that was on its way when a new attempt came writes nothing.
func TestReplacedAttemptIsNotRetried(t *testing.T) {
	w := newWriter()
	w.says[0] = errors.New("no disk")
	w.start(0, 5, attempt(1, 0))
	old := w.mu.jobs["a"]
	w.says[0] = nil
	w.start(0, 5, attempt(2, 0))
	w.again(old)
	w.want(t, []string{"1/0", "2/0"}, []string{"2/0"})
}
