package partition

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/producers"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// keyedBatch builds records key=value.
func keyedBatch(t testing.TB, o record.BuilderOptions, items ...string) record.Batch {
	t.Helper()
	b := record.NewBuilder(o)
	for _, item := range items {
		k, v, _ := strings.Cut(item, "=")
		if err := b.Add(record.Record{Timestamp: now.UnixMilli(), Key: []byte(k), Value: []byte(v)}); err != nil {
			t.Fatal(err)
		}
	}
	_, out, err := b.Build(nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// compactAll seals what there is, marks it and compacts all of it.
func compactAll(t testing.TB, p *Partition) commitlog.Cleaned {
	t.Helper()
	if err := p.Roll(); err != nil {
		t.Fatal(err)
	}
	m, err := p.BeginMark()
	if err != nil {
		t.Fatal(err)
	}
	mark, err := m.Finish()
	if err != nil {
		t.Fatal(err)
	}
	d, ok, err := p.Dirt(now, model.NoOffset, mark)
	if !ok || err != nil {
		t.Fatalf("%+v %v %v", d, ok, err)
	}
	om, err := commitlog.NewOffsetMap(1<<20, 0.9)
	if err != nil {
		t.Fatal(err)
	}
	done, err := p.Clean(t.Context(), now, d, mark, CleanTools{Map: om})
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func left(t testing.TB, p *Partition) string {
	t.Helper()
	var out []string
	err := p.Log().Scan(p.Log().Start(), func(b record.Batch) error {
		if b.Count() == 0 {
			out = append(out, fmt.Sprintf("[%d,%d)", b.BaseOffset(), b.End()))
		}
		for r, err := range b.Records(0) {
			if err != nil {
				return err
			}
			if b.IsControl() {
				out = append(out, fmt.Sprintf("%d:marker", r.Offset))
			} else {
				out = append(out, fmt.Sprintf("%d:%s=%s", r.Offset, r.Key, r.Value))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, " ")
}

// TestCompactBelowOpenTransactions: nothing is compacted that is not decided,
// and nothing in the segment in which an open transaction begins.
func TestCompactBelowOpenTransactions(t *testing.T) {
	p := open(t, vfs.NewMem(), topicConfig(t, "durability", "os", "cleanup.policy", "compact"))
	must := func(_ Appended, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(p.Append(keyedBatch(t, record.BuilderOptions{}, "a=1", "a=2"), true, now))
	if err := p.Roll(); err != nil {
		t.Fatal(err)
	}
	g, err := p.VerifyTransaction(record.Producer{ID: 7}, false, now)
	if err != nil {
		t.Fatal(err)
	}
	pr := record.Producer{ID: 7}
	must(p.AppendWith(keyedBatch(t, record.BuilderOptions{Producer: &pr, Transactional: true}, "a=3", "b=1"), AppendOptions{AcksAll: true, Guard: g}, now))
	must(p.Append(keyedBatch(t, record.BuilderOptions{}, "c=1", "c=2"), true, now))
	if done := compactAll(t, p); done.End != 2 {
		t.Errorf("compacted up to %d", done.End)
	}
	if got := left(t, p); got != "1:a=2 2:a=3 3:b=1 4:c=1 5:c=2" {
		t.Error(got)
	}
	end(t, p, Marker{ProducerID: 7})
	if done := compactAll(t, p); done.End != 7 {
		t.Errorf("compacted up to %d", done.End)
	}
	// What was aborted is gone; its last batch keeps the producer's sequence.
	if got := left(t, p); got != "1:a=2 [2,4) 5:c=2 6:marker" {
		t.Error(got)
	}
}

// TestCompactNothingUncommitted: what is not synced yet is not looked at.
func TestCompactNothingUncommitted(t *testing.T) {
	p := open(t, vfs.NewMem(), topicConfig(t, "cleanup.policy", "compact"))
	if _, err := p.Append(keyedBatch(t, record.BuilderOptions{}, "a=1", "a=2"), true, now); err != nil {
		t.Fatal(err)
	}
	if err := p.Roll(); err != nil {
		t.Fatal(err)
	}
	d, ok, err := p.Dirt(now, model.NoOffset, commitlog.Mark{Segment: 2, Offset: 2})
	if !ok || err != nil || d.Limit != 0 || d.Dirty != 0 || d.Due() {
		t.Errorf("%+v %v %v", d, ok, err)
	}
	flush(t, p)
	if d, _, err = p.Dirt(now, model.NoOffset, commitlog.Mark{Segment: 2, Offset: 2}); err != nil || d.Limit != 2 || !d.Due() {
		t.Errorf("%+v %v", d, err)
	}
}

// TestCompactedProducersGoOn: a producer whose records were all compacted away
// is still known after its partition was read anew, snapshots or not.
func TestCompactedProducersGoOn(t *testing.T) {
	mem := vfs.NewMem()
	cfg := topicConfig(t, "durability", "os", "cleanup.policy", "compact")
	p := open(t, mem, cfg)
	send := func(p *Partition, sequence int32, item string) (Appended, error) {
		pr := record.Producer{ID: 7, Sequence: sequence}
		return p.Append(keyedBatch(t, record.BuilderOptions{Producer: &pr}, item), true, now)
	}
	for i := range int32(5) {
		if _, err := send(p, i, "a=1"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Append(keyedBatch(t, record.BuilderOptions{}, "a=2"), true, now); err != nil {
		t.Fatal(err)
	}
	compactAll(t, p)
	if got := left(t, p); got != "[4,5) 5:a=2" {
		t.Error(got)
	}
	p.Close()
	infos, err := mem.ReadDir("/data/x-0")
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range infos {
		if strings.HasSuffix(i.Name, ".snapshot") {
			if err := mem.Remove("/data/x-0/" + i.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
	p = open(t, mem, cfg, func(o *Options) { o.Log.Foreign = true })
	if a, err := send(p, 4, "a=1"); err != nil || !a.Duplicate || a.Base != 4 {
		t.Errorf("repeated: %+v %v", a, err)
	}
	if _, err := send(p, 6, "a=3"); !errors.Is(err, producers.ErrOutOfOrderSequence) {
		t.Errorf("out of order: %v", err)
	}
	if _, err := send(p, 5, "a=3"); err != nil {
		t.Error(err)
	}
}

// TestCompactedTopicsNeedKeys: also where batches are not looked into.
func TestCompactedTopicsNeedKeys(t *testing.T) {
	for _, depth := range []string{"full", "header"} {
		p := open(t, vfs.NewMem(), topicConfig(t, "durability", "os", "cleanup.policy", "compact,delete", "record.validation", depth))
		_, err := p.Append(batch(t, record.BuilderOptions{}, "no key"), true, now)
		var refused *record.Error
		if !errors.As(err, &refused) || refused.Kind != record.InvalidRecord || len(refused.Records) != 1 {
			t.Errorf("record.validation=%s: %v", depth, err)
		}
	}
}

// TestDelay: how much longer than max.compaction.lag.ms something has waited.
func TestDelay(t *testing.T) {
	p := open(t, vfs.NewMem(), topicConfig(t, "durability", "os", "cleanup.policy", "compact", "max.compaction.lag.ms", "60000"))
	if _, err := p.Append(keyedBatch(t, record.BuilderOptions{}, "a=1", "a=2"), true, now); err != nil {
		t.Fatal(err)
	}
	f := func(later, want time.Duration) {
		t.Helper()
		d, _, err := p.Dirt(now.Add(later), model.NoOffset, commitlog.Mark{Segment: 2, Offset: 2})
		if err != nil || d.Delay != want {
			t.Errorf("after %v: %v %v", later, d.Delay, err)
		}
	}
	f(time.Hour, 0) // The active segment does not count.
	if err := p.Roll(); err != nil {
		t.Fatal(err)
	}
	f(time.Minute, 0)
	f(time.Minute+5*time.Second, 5*time.Second)
}
