package api

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// sessionWorld plays random fetches against the cache and against a model that
// has no index, no list and no lock.
type sessionWorld struct {
	t     *testing.T
	r     *rand.Rand
	now   time.Time
	cache *sessions
	conn  *session
	model []*modelSession // The least recently used first.
	busy  []*busyFetch
}

type modelSession struct {
	id       int32
	epoch    int32
	byID     bool
	busy     bool
	doomed   bool
	created  time.Time
	lastUsed time.Time
	size     int // As the cache counts it.
	parts    []modelPart
}

type modelPart struct {
	key  partKey
	from model.Offset
}

type busyFetch struct {
	f *fetchAnswer
	m *modelSession
}

const modelSlots = 4

// TestFetchSessions holds the session cache against a model: who gets a
// session, which errors others get, whom a new one evicts, and what each
// session holds in which order (KIP-227).
func TestFetchSessions(t *testing.T) {
	for seed := range uint64(60) {
		w := &sessionWorld{t: t, r: rand.New(rand.NewPCG(seed, 7)), now: time.Unix(1_700_000_000, 0)}
		w.cache = newSessions(modelSlots, func() time.Time { return w.now })
		w.conn = &session{API: &API{sessions: w.cache, opts: Options{
			Config: &config.Broker{FetchMaxBytes: 1 << 20}, Now: func() time.Time { return w.now }, Metadata: noTopics{},
		}}}
		for range 400 {
			w.step(fmt.Sprintf("seed %d", seed))
			if t.Failed() {
				return
			}
		}
	}
}

type noTopics struct{ Metadata }

func (noTopics) Image() *metadata.Image { return metadata.Empty() }

func (w *sessionWorld) step(where string) {
	w.now = w.now.Add(time.Duration(w.r.IntN(40)) * time.Second)
	switch w.r.IntN(6) {
	case 0, 1:
		w.create(where)
	case 2, 3:
		w.resume(where)
	case 4:
		w.finish(where)
	default:
		w.closeSession()
	}
	w.check(where)
}

// request names some partitions, by name or by id.
func (w *sessionWorld) request(byID bool) (*fetchAnswer, *wire.FetchRequest, []modelPart) {
	q := wire.NewFetchRequest()
	version := int16(12)
	if byID {
		version = 13
	}
	var parts []modelPart
	for range w.r.IntN(4) {
		x := wire.Extend(&q.Topics)
		topic := w.r.IntN(3)
		key := partKey{topic: fmt.Sprint("t", topic)}
		if x.Topic = key.topic; byID {
			key = partKey{id: model.TopicID{byte(topic + 1)}}
			x.Topic, x.TopicID = "", key.id
		}
		for range w.r.IntN(3) {
			y := wire.Extend(&x.Partitions)
			y.Partition, y.FetchOffset = int32(w.r.IntN(4)-1), int64(w.r.IntN(100))
			key.index = y.Partition
			parts = putModel(parts, modelPart{key, model.Offset(y.FetchOffset)})
		}
	}
	f := &fetchAnswer{session: w.conn}
	f.begin(&call{RequestHeader: wire.RequestHeader{Key: wire.FetchKey, Version: version}}, q)
	return f, q, parts
}

func putModel(parts []modelPart, p modelPart) []modelPart {
	if i := slices.IndexFunc(parts, func(o modelPart) bool { return o.key == p.key }); i >= 0 {
		parts[i] = p
		return parts
	}
	return append(parts, p)
}

func (w *sessionWorld) create(where string) {
	f, q, parts := w.request(w.r.IntN(2) == 0)
	q.SessionEpoch = initialEpoch
	if e := f.enter(q); e != wire.None {
		w.t.Errorf("%s: create: %v", where, e)
	}
	place := w.place(len(parts))
	if place != (f.inSession != nil) {
		w.t.Errorf("%s: a place is %v, session %v", where, place, f.inSession != nil)
		return
	}
	if !place {
		return
	}
	m := &modelSession{id: f.sessionID, epoch: 1, byID: f.byID(), busy: true, created: w.now, lastUsed: w.now, size: len(parts), parts: parts}
	w.model = append(w.model, m)
	w.busy = append(w.busy, &busyFetch{f, m})
}

// place finds a place as Kafka's rules say, and removes who has it.
func (w *sessionWorld) place(size int) bool {
	if len(w.model) < modelSlots {
		return true
	}
	if oldest := w.model[0]; !oldest.busy && w.now.Sub(oldest.lastUsed) > evictAfter {
		w.model = w.model[1:]
		return true
	}
	least := -1
	for i, m := range w.model {
		if !m.busy && w.now.Sub(m.created) > evictAfter && (least < 0 || m.size < w.model[least].size) {
			least = i
		}
	}
	if least < 0 || w.model[least].size >= size {
		return false
	}
	w.model = slices.Delete(w.model, least, least+1)
	return true
}

func (w *sessionWorld) resume(where string) {
	byID := w.r.IntN(2) == 0
	m := w.any()
	if m != nil && w.r.IntN(4) > 0 {
		byID = m.byID
	}
	f, q, parts := w.request(byID)
	q.SessionID, q.SessionEpoch = 12345, 7 // Nobody has it.
	if m != nil {
		q.SessionID, q.SessionEpoch = m.id, m.epoch
		if w.r.IntN(8) == 0 {
			q.SessionEpoch++
		}
		if w.r.IntN(20) == 0 && !m.busy { // Epochs wrap.
			m.epoch, w.cache.mu.byID[m.id].epoch, q.SessionEpoch = 1<<31-1, 1<<31-1, 1<<31-1
		}
	}
	forgotten := w.forget(q, byID)
	want := wire.None
	switch {
	case m == nil:
		want = wire.FetchSessionIDNotFound
	case m.busy || q.SessionEpoch != m.epoch:
		want = wire.InvalidFetchSessionEpoch
	case m.byID != byID:
		want = wire.FetchSessionTopicIDError
	}
	if got := f.enter(q); got != want {
		w.t.Errorf("%s: resume: %v, want %v", where, got, want)
	}
	if want != wire.None {
		return
	}
	m.busy, m.lastUsed = true, w.now
	if m.epoch++; m.epoch < 0 {
		m.epoch = 1
	}
	for _, p := range parts {
		m.parts = putModel(m.parts, p)
	}
	m.parts = slices.DeleteFunc(m.parts, func(p modelPart) bool { return slices.Contains(forgotten, p.key) })
	m.size = len(m.parts)
	at := slices.Index(w.model, m)
	w.model = slices.Delete(w.model, at, at+1)
	if len(m.parts) > 0 { // Else it ends.
		w.model = append(w.model, m)
	}
	w.busy = append(w.busy, &busyFetch{f, m})
	w.compare(where, f, m)
}

// compare looks at what a resumed fetch asks for.
func (w *sessionWorld) compare(where string, f *fetchAnswer, m *modelSession) {
	var got []modelPart
	for i := range f.parts {
		got = append(got, modelPart{f.parts[i].key(m.byID), f.parts[i].want.From})
	}
	if !slices.Equal(got, m.parts) {
		w.t.Errorf("%s: session %d has %v, want %v", where, m.id, got, m.parts)
	}
	if id := f.sessionID; len(m.parts) > 0 && id != m.id || len(m.parts) == 0 && id != 0 {
		w.t.Errorf("%s: session %d is answered as %d", where, m.id, id)
	}
}

func (w *sessionWorld) forget(q *wire.FetchRequest, byID bool) (keys []partKey) {
	for range w.r.IntN(3) {
		x := wire.Extend(&q.ForgottenTopicsData)
		topic := w.r.IntN(3)
		key := partKey{topic: fmt.Sprint("t", topic), index: int32(w.r.IntN(4) - 1)}
		if x.Topic = key.topic; byID {
			key = partKey{id: model.TopicID{byte(topic + 1)}, index: key.index}
			x.Topic, x.TopicID = "", key.id
		}
		x.Partitions = []int32{key.index}
		keys = append(keys, key)
	}
	return keys
}

// finish answers a fetch that is under way. None of its partitions gave
// records, so the order stays.
func (w *sessionWorld) finish(where string) {
	if len(w.busy) == 0 {
		return
	}
	i := w.r.IntN(len(w.busy))
	b := w.busy[i]
	w.busy = slices.Delete(w.busy, i, i+1)
	b.f.inSession.answered(b.f.parts, b.f.incremental)
	b.f.leave()
	b.m.busy = false
	if at := slices.Index(w.model, b.m); b.m.doomed && at >= 0 {
		w.model = slices.Delete(w.model, at, at+1)
	}
}

func (w *sessionWorld) closeSession() {
	m := w.any()
	if m == nil {
		w.cache.remove(0)
		w.cache.remove(99)
		return
	}
	f, q, _ := w.request(m.byID)
	q.SessionID, q.SessionEpoch = m.id, finalEpoch
	f.enter(q)
	if f.inSession != nil {
		w.t.Error("closing made a session")
	}
	if m.busy {
		m.doomed = true
		return
	}
	at := slices.Index(w.model, m)
	w.model = slices.Delete(w.model, at, at+1)
}

func (w *sessionWorld) any() *modelSession {
	if len(w.model) == 0 || w.r.IntN(10) == 0 {
		return nil
	}
	return w.model[w.r.IntN(len(w.model))]
}

func (w *sessionWorld) check(where string) {
	total := 0
	for _, m := range w.model {
		x := w.cache.mu.byID[m.id]
		if x == nil || x.epoch != m.epoch || x.busy != m.busy || len(x.parts) != len(m.parts) || len(x.index) != len(m.parts) {
			w.t.Errorf("%s: session %d is %+v, want %+v", where, m.id, x, m)
			return
		}
		total += m.size
	}
	if w.cache.len() != len(w.model) || w.cache.mu.used.Len() != len(w.model) || w.cache.mu.parts != total {
		w.t.Errorf("%s: %d sessions, %d in the list, %d partitions; want %d and %d", where,
			w.cache.len(), w.cache.mu.used.Len(), w.cache.mu.parts, len(w.model), total)
	}
}

// An incremental answer has what changed, a partition that gave records goes to
// the end, and an error is told every time.
func TestFetchSessionAnswers(t *testing.T) {
	n := newNode(t, "durability=os")
	n.topic("t", 3)
	c := n.dial()
	put := func(index int32) {
		t.Helper()
		ask[*wire.ProduceResponse](c, produce("t", index, -1, batch(t, record.BuilderOptions{}, "v")), 9)
	}
	put(0)
	q := fetch("t", 0, 1, 2, 9)
	q.SessionEpoch = initialEpoch
	r := ask[*wire.FetchResponse](c, q, 12)
	id := r.SessionID
	f := func(what string, epoch int32, change func(*wire.FetchRequest), want ...int32) {
		t.Helper()
		q := fetch("t")
		q.Topics, q.SessionID, q.SessionEpoch = nil, id, epoch
		change(q)
		r := ask[*wire.FetchResponse](c, q, 12)
		var got []int32
		for _, x := range r.Responses {
			for _, p := range x.Partitions {
				got = append(got, p.PartitionIndex)
			}
		}
		if r.ErrorCode != 0 || r.SessionID != id || !slices.Equal(got, want) {
			t.Errorf("%s: error %d, session %d, partitions %v, want %v", what, r.ErrorCode, r.SessionID, got, want)
		}
	}
	same := func(*wire.FetchRequest) {}
	beyond := func(index int32, offset int64) func(*wire.FetchRequest) {
		return func(q *wire.FetchRequest) {
			q.Topics = fetch("t", index).Topics
			q.Topics[0].Partitions[0].FetchOffset = offset
		}
	}
	f("records again, and the error", 1, same, 0, 9)
	put(1)
	f("what gave records went to the end", 2, same, 1, 0, 9)
	put(2)
	f("and the others too", 3, same, 2, 1, 0, 9)
	f("read", 4, beyond(0, 1), 2, 1, 9)
	f("the error is forgotten", 5, func(q *wire.FetchRequest) {
		q.ForgottenTopicsData = []wire.FetchRequestForgottenTopic{{Topic: "t", Partitions: []int32{9}}}
	}, 2, 1)
}
