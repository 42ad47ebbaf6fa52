package partition

import (
	"errors"
	"slices"
	"testing"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// TestAppendNumbered: a partition of a Dafka producer takes records at the
// offsets that they have, none twice, and from nobody else.
func TestAppendNumbered(t *testing.T) {
	fs := vfs.NewMem()
	c := topicConfig(t, "durability", "os", "dafka.producers", "A", "cleanup.policy", "compact")
	if c.Compact || !c.Delete {
		t.Error("records without keys would be compacted")
	}
	p := open(t, fs, c)
	at := func(first model.Offset, values ...string) error {
		a, err := p.AppendNumbered(batch(t, record.BuilderOptions{BaseOffset: first}, values...), now)
		if err == nil && (a.Base != first || a.End != first+model.Offset(len(values))) {
			t.Errorf("%d: %+v", first, a)
		}
		return err
	}
	f := func(err, want error, start, end model.Offset) {
		t.Helper()
		s, _ := p.State(model.NoEpoch)
		if !errors.Is(err, want) || s.Start != start || s.End != end || s.Committed != end {
			t.Errorf("%v, %+v; want %v, from %d to %d", err, s, want, start, end)
		}
	}
	f(nil, nil, 0, 0)
	f(at(7, "h", "i"), nil, 7, 9) // It begins there.
	f(at(9, "j"), nil, 7, 10)
	f(at(9, "j"), commitlog.ErrNotNext, 7, 10)
	f(at(8, "i", "j", "k"), commitlog.ErrNotNext, 7, 10)
	f(at(12, "m"), nil, 7, 13) // 10 and 11 are gone for good.

	if _, err := p.Append(batch(t, record.BuilderOptions{}, "x"), true, now); !errors.Is(err, ErrForeign) {
		t.Errorf("a Kafka producer: %v", err)
	}
	a, err := p.AppendMarker(Marker{ProducerID: 5, Committed: false}, now)
	if done, _ := p.Acknowledged(a.End, a.Epoch); err != nil || !done || p.Log().End() != 13 {
		t.Errorf("a marker: %+v, %v, end %d", a, err, p.Log().End())
	}
	var got []model.Offset
	_, err = p.Replay(func(b record.Batch) error {
		for r, err := range b.Records(0) {
			if err != nil {
				return err
			}
			got = append(got, r.Offset)
		}
		return nil
	})
	if want := []model.Offset{7, 8, 9, 12}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
}

// TestNumberedCommit: what is above 0 from the start is committed when it is
// synced.
func TestNumberedCommit(t *testing.T) {
	p := open(t, vfs.NewMem(), topicConfig(t, "dafka.producers", "A"))
	a, err := p.AppendNumbered(batch(t, record.BuilderOptions{BaseOffset: 1000}, "a", "b"), now)
	if err != nil {
		t.Fatal(err)
	}
	if done, err := p.Acknowledged(a.End, a.Epoch); done || err != nil {
		t.Errorf("before the sync: %v, %v", done, err)
	}
	flush(t, p)
	if done, err := p.Acknowledged(a.End, a.Epoch); !done || err != nil {
		t.Errorf("after the sync: %v, %v", done, err)
	}
}
