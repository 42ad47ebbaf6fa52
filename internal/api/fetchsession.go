package api

import (
	"container/list"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// Session epochs with a meaning of their own (KIP-227).
const (
	initialEpoch = 0
	finalEpoch   = -1
)

// evictAfter is how long a session is safe from others that want its place.
const evictAfter = 2 * time.Minute

// maxCachedParts bounds the partitions of all sessions: each costs some 250
// bytes, and a stranger can name any number. That is 64 MiB. Above it fetches
// get no session, which every client understands.
const maxCachedParts = 1 << 18

// sessions caches what readers ask for, so that they need only name changes.
type sessions struct {
	max int
	now func() time.Time
	mu  struct {
		sync.Mutex
		byID  map[int32]*fetchSession
		used  list.List // Of *fetchSession, the least recently used first.
		parts int
	}
}

func newSessions(slots int, now func() time.Time) *sessions {
	s := &sessions{max: slots, now: now}
	s.mu.byID = map[int32]*fetchSession{}
	return s
}

func (s *sessions) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mu.byID)
}

// fetchSession is one cached fetch. What it holds belongs to the fetch that is
// under way in it; a second one at the same time is refused, because its epoch
// cannot be the next one yet.
type fetchSession struct {
	id      int32
	owner   *sessions
	element *list.Element
	byID    bool // Names or ids: a session does not mix them.
	created time.Time
	size    int // Of parts, as the cache counts it.

	// Guarded by owner.mu.
	lastUsed time.Time
	epoch    int32
	busy     bool
	doomed   bool // To be removed when no longer busy.

	parts []*cachedPart // In the order to serve.
	index map[partKey]*cachedPart
}

type partKey struct {
	topic string
	id    model.TopicID
	index int32
}

// cachedPart is one partition of a session, and what its reader knows.
type cachedPart struct {
	topic               string
	id                  model.TopicID
	index               int32
	want                partition.Want
	known               bool
	forgotten           bool
	committed, logStart model.Offset
}

func (p *fetchPart) key(byID bool) partKey {
	if byID {
		return partKey{id: p.id, index: p.index}
	}
	return partKey{topic: p.topic, index: p.index}
}

// create makes a session of the partitions that f asks for, or returns nil
// when there is no place for it. The session is busy.
func (s *sessions) create(f *fetchAnswer) *fetchSession {
	now := s.now()
	x := &fetchSession{owner: s, byID: f.byID(), created: now, lastUsed: now, busy: true, epoch: 1}
	x.index = make(map[partKey]*cachedPart, len(f.parts))
	x.put(f.parts)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.placeLocked(x, now) {
		return nil
	}
	for x.id == 0 || s.mu.byID[x.id] != nil {
		x.id = rand.Int32N(1<<31-1) + 1 // Unguessable enough; KIP-227 asks for no more.
	}
	s.mu.byID[x.id] = x
	x.size = len(x.parts)
	s.mu.parts += x.size
	x.element = s.mu.used.PushBack(x)
	for i := range f.parts {
		f.parts[i].cached = x.index[f.parts[i].key(x.byID)]
	}
	return x
}

// placeLocked makes a place as Kafka does: first of a session unused for long,
// else of a smaller one that has had its time.
func (s *sessions) placeLocked(x *fetchSession, now time.Time) bool {
	if s.mu.parts+len(x.parts) > maxCachedParts || s.max <= 0 {
		return false
	}
	if len(s.mu.byID) < s.max {
		return true
	}
	oldest := s.mu.used.Front().Value.(*fetchSession)
	if !oldest.busy && now.Sub(oldest.lastUsed) > evictAfter {
		s.removeLocked(oldest)
		return true
	}
	var least *fetchSession
	for e := s.mu.used.Front(); e != nil; e = e.Next() {
		y := e.Value.(*fetchSession)
		if !y.busy && now.Sub(y.created) > evictAfter && (least == nil || y.size < least.size) {
			least = y
		}
	}
	if least == nil || least.size >= len(x.parts) {
		return false
	}
	s.removeLocked(least)
	return true
}

// remove ends a session; 0 is none.
func (s *sessions) remove(id int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch x := s.mu.byID[id]; {
	case x == nil:
	case x.busy:
		x.doomed = true
	default:
		s.removeLocked(x)
	}
}

func (s *sessions) removeLocked(x *fetchSession) {
	if s.mu.byID[x.id] != x {
		return
	}
	delete(s.mu.byID, x.id)
	s.mu.used.Remove(x.element)
	s.mu.parts -= x.size
}

// resume continues a session with what a request adds, changes and forgets.
func (s *sessions) resume(f *fetchAnswer, q *wire.FetchRequest) wire.ErrorCode {
	s.mu.Lock()
	x := s.mu.byID[q.SessionID]
	switch {
	case x == nil:
		s.mu.Unlock()
		return wire.FetchSessionIDNotFound
	case x.busy || q.SessionEpoch != x.epoch:
		s.mu.Unlock()
		return wire.InvalidFetchSessionEpoch
	case x.byID != f.byID():
		s.mu.Unlock()
		return wire.FetchSessionTopicIDError
	}
	x.busy = true
	x.epoch = nextSessionEpoch(x.epoch)
	x.lastUsed = s.now()
	s.mu.used.MoveToBack(x.element)
	s.mu.Unlock()

	x.update(f, q)
	s.mu.Lock()
	s.mu.parts += len(x.parts) - x.size
	x.size = len(x.parts)
	if x.size == 0 { // Kafka ends a session that has nothing left.
		s.removeLocked(x)
	}
	s.mu.Unlock()

	f.sessionID, f.incremental = x.id, true
	if x.size == 0 {
		f.sessionID = 0
	}
	f.inSession = x
	for _, p := range x.parts {
		f.parts = append(f.parts, fetchPart{topic: p.topic, id: p.id, index: p.index, want: p.want, cached: p})
	}
	return wire.None
}

func nextSessionEpoch(e int32) int32 {
	if e == 1<<31-1 {
		return 1
	}
	return e + 1
}

// update takes a request's changes.
func (x *fetchSession) update(f *fetchAnswer, q *wire.FetchRequest) {
	f.addAll(q)
	x.put(f.parts)
	f.parts = f.parts[:0]
	image := f.session.opts.Metadata.Image()
	gone := false
	for i := range q.ForgottenTopicsData {
		t := &q.ForgottenTopicsData[i]
		name, id := f.resolve(image, t.Topic, t.TopicID)
		for _, index := range t.Partitions {
			p := fetchPart{topic: name, id: id, index: index}
			if c := x.index[p.key(x.byID)]; c != nil {
				delete(x.index, p.key(x.byID))
				c.forgotten, gone = true, true
			}
		}
	}
	if gone {
		x.parts = slices.DeleteFunc(x.parts, func(c *cachedPart) bool { return c.forgotten })
	}
}

// put adds partitions, or changes what is wanted of those that are there.
func (x *fetchSession) put(parts []fetchPart) {
	for i := range parts {
		p := &parts[i]
		k := p.key(x.byID)
		if c := x.index[k]; c != nil {
			c.want, c.topic = p.want, p.topic
			continue
		}
		c := &cachedPart{topic: p.topic, id: p.id, index: p.index, want: p.want}
		x.index[k] = c
		x.parts = append(x.parts, c)
	}
}

// answered remembers what the reader will know and returns the parts to send:
// all of a full fetch, of an incremental one those that changed. A partition
// that gave records goes to the end, so that no other starves.
func (x *fetchSession) answered(parts []fetchPart, incremental bool) []fetchPart {
	var moved []*cachedPart
	out := parts[:0]
	for _, p := range parts {
		c := p.cached
		if c == nil {
			out = append(out, p)
			continue
		}
		hw, _, start := p.offsets()
		news := p.err != nil || p.read.Diverged != nil || p.read.View.Size() > 0
		changed := !c.known || c.committed != model.Offset(hw) || c.logStart != model.Offset(start)
		c.known, c.committed, c.logStart = p.err == nil, model.Offset(hw), model.Offset(start)
		if p.read.View.Size() > 0 {
			moved = append(moved, c)
		}
		if !incremental || news || changed {
			out = append(out, p)
		}
	}
	if len(moved) > 0 && len(moved) < len(x.parts) {
		x.rotate(moved)
	}
	return out
}

func (x *fetchSession) rotate(moved []*cachedPart) {
	back := make(map[*cachedPart]struct{}, len(moved))
	for _, c := range moved {
		back[c] = struct{}{}
	}
	x.parts = slices.DeleteFunc(x.parts, func(c *cachedPart) bool { _, ok := back[c]; return ok })
	x.parts = append(x.parts, moved...)
}

// leave ends a fetch within the session.
func (x *fetchSession) leave() {
	x.owner.mu.Lock()
	x.busy = false
	if x.doomed {
		x.owner.removeLocked(x)
	}
	x.owner.mu.Unlock()
}
