package replicas

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// keyValue is a record as it was appended; without a value it is a tombstone.
type keyValue struct{ key, value string }

// togetherModel is a world in which everything that a node does with logs goes on
// at once: appends, syncs, marks, compaction, retention, DeleteRecords, the trimmer,
// moves, other configurations and deletions of topics, until all crashes.
type togetherModel struct {
	*diskModel
	appended map[model.Partition][]keyValue // By offset.
	trimmed  map[model.Partition]model.Offset
	clock    *atomic.Int64 // How far it was set ahead, in nanoseconds.
}

// togetherTopics: what is acknowledged when it is on disk, and what is not.
var togetherTopics = map[string][]string{
	"x": {"cleanup.policy=compact", "durability=os"},
	"y": {"cleanup.policy=compact,delete", "retention.bytes=20000"},
}

// TestTogetherWorlds: of each key there is the last record, or none if it is
// deleted, and never one that came before without it; what was committed is
// there, and nothing stands still.
func TestTogetherWorlds(t *testing.T) {
	eachSeed(t, func(t *testing.T, seed uint64) {
		if *diskSeed == 0 && seed%4 != 1 {
			return // They take long.
		}
		m := &togetherModel{
			newDiskModel(t, seed, "log.retention.disk.percent=1", "log.segment.delete.delay.ms=0", "log.cleaner.backoff.ms=1",
				"log.cleaner.dedupe.buffer.size=4194304", "log.cleaner.threads=2", "log.cleaner.min.cleanable.ratio=0.01",
				"log.cleaner.delete.retention.ms=1000"),
			map[model.Partition][]keyValue{},
			map[model.Partition]model.Offset{},
			&atomic.Int64{},
		}
		m.change = append(m.change, func(o *Options) {
			began := m.now
			o.Now = func() time.Time { return began.Add(time.Duration(m.clock.Load())) }
		})
		m.removed = map[model.TopicID]struct{}{}
		m.cluster()
		m.boot()
		for topic := range togetherTopics {
			m.make(topic)
		}
		for range 4 {
			m.life(120)
			m.restart()
		}
		m.quiet()
		m.drop()
	})
}

func (m *togetherModel) make(topic string) {
	m.create(topic, modelParts, append([]string{"internal.segment.bytes=1500"}, togetherTopics[topic]...)...)
	for i := range int32(modelParts) {
		p := model.Partition{Topic: topic, Index: i}
		delete(m.appended, p)
		delete(m.trimmed, p)
		delete(m.safe, p)
	}
}

// life lets all of it go on until a crash or the end of the steps.
func (m *togetherModel) life(steps int) {
	ctx, cancel := context.WithCancel(m.t.Context())
	var all sync.WaitGroup
	for i := range 2 {
		all.Go(func() { m.carryMoves(ctx) })
		all.Go(func() { m.disks[i].trim(ctx) })
		rng := rand.New(rand.NewPCG(m.rng.Uint64(), 7))
		all.Go(func() { m.keepOn(ctx, m.disks[i], rng) })
	}
	all.Go(func() { m.cleaner.run(ctx) })
	if m.rng.IntN(4) > 0 {
		m.crashAfter(1 + m.rng.IntN(3000))
	}
	for range steps {
		if m.step(); m.crashed() || m.t.Failed() {
			break
		}
	}
	cancel()
	all.Wait()
	m.crashAfter(0)
}

// keepOn does what the flusher and the keeper of a disk do.
func (m *togetherModel) keepOn(ctx context.Context, d *disk, rng *rand.Rand) {
	jobs := []func() error{
		func() error { d.flusher.flush(); return nil },
		d.markGrown, d.retain, d.dropTrimmed, d.removeRetired, d.idle, d.checkpointStarts,
	}
	for ctx.Err() == nil {
		err := jobs[rng.IntN(len(jobs))]()
		if err != nil && !m.crashed() && d.hasFailed() == nil {
			m.t.Error(err)
		}
		d.brim.poke()
		time.Sleep(time.Duration(rng.IntN(200)) * time.Microsecond)
	}
}

func (m *togetherModel) step() {
	switch m.rng.IntN(27) {
	default:
		for range 8 {
			if !m.put(m.anyPart()) {
				return
			}
		}
	case 16, 17:
		m.trim()
	case 18, 19:
		if err := m.Move(m.anyPart(), m.paths[m.rng.IntN(2)]); err != nil && !m.crashed() {
			m.t.Error(err)
		}
	case 20:
		p := m.anyPart()
		s, err := m.part(p.Topic, p.Index).State(model.NoEpoch)
		if d := m.part(p.Topic, p.Index).Owner().(*disk); err == nil && s.End > 0 && d.hasFailed() == nil {
			m.setMark(d)
		}
	case 21:
		policy := []string{"compact", "compact,delete", "delete", "compact"}[m.rng.IntN(4)]
		topic := []string{"x", "y"}[m.rng.IntN(2)]
		m.apply(metadata.Record{Message: metadata.ConfigRecord(metadata.Resource{Type: metadata.ResourceTopic, Name: topic}, "cleanup.policy", &policy)})
	case 22:
		m.reconfigured(map[string]string{
			"log.cleaner.threads":                            fmt.Sprint(1 + m.rng.IntN(3)),
			"log.cleaner.io.max.bytes.per.second":            []string{"1", "1e6", "1e9", "1e9", "1e9"}[m.rng.IntN(5)],
			"replica.alter.log.dirs.io.max.bytes.per.second": []string{"100000", "0", "9223372036854775807"}[m.rng.IntN(3)],
		})
	case 23:
		m.noteSafe()
	case 25, 26:
		ahead := time.Second
		if m.rng.IntN(20) == 0 {
			ahead = 1000 * time.Hour
		}
		m.clock.Add(int64(ahead))
	case 24:
		if m.rng.IntN(3) == 0 {
			topic := []string{"x", "y"}[m.rng.IntN(2)]
			m.removed[m.id(topic)] = struct{}{} // As the metadata log knows.
			m.remove(topic)
			m.make(topic)
		}
	}
	time.Sleep(time.Duration(m.rng.IntN(300)) * time.Microsecond)
}

// setMark puts the mark of log.retention.disk.percent a little above or below what
// is used.
func (m *togetherModel) setMark(d *disk) {
	mem := m.mems[d.dir.Path()]
	u, err := mem.DiskUsage("/")
	m.ok(err)
	mem.SetCapacity(max(100*(u.Used+int64(m.rng.IntN(20_000))-8_000), 2*cleanMargin))
}

// put reports false when the world has crashed.
func (m *togetherModel) put(p model.Partition) bool {
	m.tick++
	kv := keyValue{fmt.Sprintf("k%d", m.rng.IntN(9)), fmt.Sprintf("%d %0*d", m.tick, 1+m.rng.IntN(300), 0)}
	r := record.Record{Timestamp: m.now.UnixMilli() + m.tick, Key: []byte(kv.key)}
	if m.rng.IntN(4) == 0 {
		kv.value = ""
	} else {
		r.Value = []byte(kv.value)
	}
	b := record.NewBuilder(record.BuilderOptions{Codec: record.Codec(m.rng.IntN(5))})
	m.ok(b.Add(r))
	_, batch, err := b.Build(nil)
	m.ok(err)
	m.appended[p], m.flying = append(m.appended[p], kv), p
	a, err := m.part(p.Topic, p.Index).Append(batch, true, m.now)
	if m.crashed() {
		return false
	}
	m.ok(err)
	if int(a.End) != len(m.appended[p]) {
		m.t.Fatalf("%s: appended up to %d, want %d", p, a.End, len(m.appended[p]))
	}
	m.flying = model.Partition{}
	return true
}

// trim deletes records where the policy allows it.
func (m *togetherModel) trim() {
	p := m.anyPart()
	x := m.part(p.Topic, p.Index)
	s, _ := x.State(model.NoEpoch)
	start, err := x.Trim(s.Start + model.Offset(m.rng.Int64N(int64(s.Committed-s.Start)/3+1)))
	if errors.Is(err, partition.ErrKept) {
		return
	}
	if err == nil {
		err = m.KeepStarts([]model.Partition{p})[0]
	}
	if m.crashed() || errors.Is(err, ErrUnknown) { // It moved in that moment.
		return
	}
	m.ok(err)
	m.trimmed[p] = max(m.trimmed[p], start)
}

// restart stops, or takes what a crash has left, and opens it.
func (m *togetherModel) restart() {
	if m.t.Failed() {
		m.t.FailNow()
	}
	cut := false
	if !m.crashed() {
		if err := m.Close(1); err != nil {
			m.t.Fatal(err)
		}
		m.Replicas = nil
	} else {
		m.drop()
		m.mems, cut = m.crash.clones, !m.crash.kill
	}
	for _, mem := range m.mems {
		mem.SetCapacity(0)
	}
	m.apply(controller.Restart(m.tracker.Image(), 1, m.online)...)
	m.boot()
	m.eachPart(func(p model.Partition, x *partition.Partition) {
		end := x.Log().End()
		if !cut {
			m.safe[p] = model.Offset(len(m.appended[p]))
			if m.flying == p {
				m.safe[p]--
			}
		}
		if end < m.safe[p] || end > model.Offset(len(m.appended[p])) {
			m.t.Fatalf("%s ends at %d, want %d to %d (power cut: %v)", p, end, m.safe[p], len(m.appended[p]), cut)
		}
		m.appended[p], m.safe[p] = m.appended[p][:end], end
		if start := x.Log().Start(); start < m.trimmed[p] {
			m.t.Fatalf("%s starts at %d; somebody was told %d", p, start, m.trimmed[p])
		}
	})
	m.flying = model.Partition{}
	m.checkKeys()
}

// checkKeys compares what is there with what was appended.
func (m *togetherModel) checkKeys() {
	m.t.Helper()
	m.eachPart(func(p model.Partition, x *partition.Partition) {
		there := m.readKeys(p, x.Log().Start())
		last := map[string]model.Offset{}
		for i, kv := range m.appended[p] {
			last[kv.key] = model.Offset(i)
		}
		for key, o := range last {
			offsets := there[key]
			has := len(offsets) > 0 && offsets[len(offsets)-1] == o
			switch isDeleted := m.appended[p][o].value == ""; {
			case o < x.Log().Start():
				if len(offsets) > 0 {
					m.t.Errorf("%s: key %s at %v, and the log starts at %d", p, key, offsets, x.Log().Start())
				}
			case !has && !isDeleted:
				m.t.Errorf("%s: key %s at %v, its last record was at %d", p, key, offsets, o)
			case !has && len(offsets) > 0:
				m.t.Errorf("%s: key %s at %v again, deleted at %d", p, key, offsets, o)
			}
		}
	})
}

// readKeys are the offsets at which a log has each key; its records are those
// that were appended there.
func (m *togetherModel) readKeys(p model.Partition, start model.Offset) map[string][]model.Offset {
	there := map[string][]model.Offset{}
	err := m.part(p.Topic, p.Index).Log().Scan(start, func(b record.Batch) error {
		for r, err := range b.Records(1 << 20) {
			if err != nil {
				return err
			}
			if kv := (keyValue{string(r.Key), string(r.Value)}); r.Offset < start || m.appended[p][r.Offset] != kv {
				return fmt.Errorf("at %d: %v, was %v", r.Offset, kv, m.appended[p][r.Offset])
			}
			there[string(r.Key)] = append(there[string(r.Key)], r.Offset)
		}
		return nil
	})
	if err != nil {
		m.t.Fatalf("%s: %v", p, err)
	}
	return there
}

// quiet lets everything come to its end: moves settle, and no key is there
// twice in what is compacted.
func (m *togetherModel) quiet() {
	m.reconfigured(nil)
	compact := "compact"
	for topic := range togetherTopics {
		m.apply(metadata.Record{Message: metadata.ConfigRecord(metadata.Resource{Type: metadata.ResourceTopic, Name: topic}, "cleanup.policy", &compact)})
	}
	m.carryAll(m.t.Context())
	m.tellPlaces(m.t.Context())
	m.eachPart(func(_ model.Partition, x *partition.Partition) { m.ok(x.Roll()) })
	m.flush()
	m.compact()
	for _, d := range m.disks {
		m.ok(d.removeRetired())
	}
	m.eachPart(func(p model.Partition, x *partition.Partition) {
		for key, offsets := range m.readKeys(p, x.Log().Start()) {
			if len(offsets) > 1 {
				m.t.Errorf("%s: key %s still at %v", p, key, offsets)
			}
		}
		if got := m.where(p); len(got) != 1 || got[0] != x.Owner().(*disk).dir.Path() {
			m.t.Errorf("%s: directories in %v, it lies in %s", p, got, x.Owner().(*disk).dir.Path())
		}
	})
	m.checkKeys()
}
