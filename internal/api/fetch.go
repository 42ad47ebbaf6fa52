package api

import (
	"slices"
	"strings"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/listener"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// Versions of Fetch that change what is asked.
const (
	fetchByID       = 13 // Topics by id (KIP-516).
	fetchDiverging  = 12 // Last fetched epoch (KIP-595).
	fetchInSessions = 7  // KIP-227.
)

// serveFetch gives readers what there is, or waits until there is enough.
func (s *session) serveFetch(c *call) {
	q := &s.fetch
	defer s.forgetFetch()
	if err := q.ReadFrom(&s.reader, c.Version); err != nil {
		s.malformed(c.a, c.RequestHeader, err)
		return
	}
	f := s.fetches.get()
	if f == nil {
		f = &fetchAnswer{session: s}
	}
	known := f.begin(c, q)
	if !known {
		f.refuseAll(q)
		return
	}
	if refused := f.enter(q); refused != wire.None {
		f.refuse(refused)
		return
	}
	f.look()
	if f.enough() {
		f.send()
		return
	}
	f.park()
}

// forgetFetch forgets the request, and gives back what a large one took.
func (s *session) forgetFetch() {
	s.parts.reset()
	n := 0
	for i := range s.fetch.Topics {
		n += len(s.fetch.Topics[i].Partitions)
		s.fetch.Topics[i].Topic = ""
	}
	if n > keptParts || cap(s.fetch.Topics) > keptTopics || cap(s.fetch.ForgottenTopicsData) > 0 {
		s.fetch = wire.FetchRequest{}
	}
	s.fetch.Reset()
}

// fetchAnswer is the answer to one Fetch, while it is made.
type fetchAnswer struct {
	session   *session
	call      call
	maxBytes  int
	minBytes  int
	wait      time.Duration
	deadline  time.Time
	isolation partition.Isolation
	follower  bool // It says that it is one of our replicas.

	// In a fetch session: which, and that only changes are answered.
	inSession   *fetchSession
	sessionID   int32
	incremental bool

	parts  []fetchPart
	bytes  int
	exist  int            // Partitions that there are.
	urgent bool           // Some partition has an answer that cannot wait.
	failed wire.ErrorCode // Of the whole.

	parked bool
	alarm  alarm
	need   *partition.Need
}

// fetchPart is one partition of a fetch. Its names never alias a frame.
type fetchPart struct {
	topic     string
	id        model.TopicID
	index     int32
	want      partition.Want
	cached    *cachedPart // In a session.
	partition *partition.Partition
	read      partition.Read
	aborted   []commitlog.AbortedTxn
	err       error
	missing   bool // There is no such partition.
}

// begin reads what is not about partitions. It reports false for an isolation
// level that does not exist.
func (f *fetchAnswer) begin(c *call, q *wire.FetchRequest) (known bool) {
	f.call = *c
	f.call.client, f.call.ClientID = f.session.named(c.client), nil // Both aliased the frame.
	f.maxBytes = min(int(q.MaxBytes), int(f.session.opts.Config.FetchMaxBytes))
	f.maxBytes = f.session.throttle.fetch.largest(c.client, f.maxBytes)
	f.minBytes = min(int(q.MinBytes), f.maxBytes)
	f.wait = time.Duration(q.MaxWaitMs) * time.Millisecond
	f.follower = q.ReplicaID >= 0 || q.ReplicaState.ReplicaID >= 0
	f.inSession, f.sessionID, f.incremental = nil, 0, false
	f.parts, f.bytes, f.urgent, f.parked, f.failed = f.parts[:0], 0, false, false, wire.None
	f.isolation, known = isolationOf(q.IsolationLevel)
	return known
}

// enter finds out which partitions are asked for: those of the request, or
// those of its session.
func (f *fetchAnswer) enter(q *wire.FetchRequest) wire.ErrorCode {
	sessions := f.session.sessions
	switch {
	case f.call.Version < fetchInSessions || q.SessionEpoch == finalEpoch:
		sessions.remove(q.SessionID)
		f.addAll(q)
		return wire.None
	case q.SessionEpoch == initialEpoch:
		sessions.remove(q.SessionID)
		f.addAll(q)
		if f.inSession = sessions.create(f); f.inSession != nil {
			f.sessionID = f.inSession.id
		}
		return wire.None
	}
	return sessions.resume(f, q)
}

// addAll asks for the partitions of a request, once each: of one that is named
// twice, the last offset counts, as in Kafka.
func (f *fetchAnswer) addAll(q *wire.FetchRequest) {
	image := f.session.opts.Metadata.Image()
	seen := &f.session.parts
	seen.reset()
	for i := range q.Topics {
		t := &q.Topics[i]
		name, id := f.resolve(image, t.Topic, t.TopicID)
		for j := range t.Partitions {
			p := newFetchPart(name, id, &t.Partitions[j])
			if place, isNew := seen.at(p.key(f.byID())); isNew {
				f.parts = append(f.parts, p)
			} else {
				f.parts[place] = p
			}
		}
	}
}

// byID reports whether topics are named by id.
func (f *fetchAnswer) byID() bool { return f.call.Version >= fetchByID }

// resolve returns a topic's name, in memory of its own, and id. By id it may
// be a topic without a name: one that we do not know.
func (f *fetchAnswer) resolve(image *metadata.Image, name string, id model.TopicID) (string, model.TopicID) {
	if f.byID() {
		if t := image.TopicByID(id); t != nil {
			return t.Name, id
		}
		return "", id
	}
	if t := image.Topic(name); t != nil {
		return t.Name, t.ID
	}
	return strings.Clone(name), model.TopicID{}
}

func newFetchPart(name string, id model.TopicID, q *wire.FetchRequestFetchPartition) fetchPart {
	return fetchPart{topic: name, id: id, index: q.Partition, want: partition.Want{
		From: model.Offset(q.FetchOffset), MaxBytes: int(q.PartitionMaxBytes),
		Believes: max(model.NoEpoch, model.Epoch(q.CurrentLeaderEpoch)), LastEpoch: max(model.NoEpoch, model.Epoch(q.LastFetchedEpoch)),
	}}
}

// look reads all partitions, in the order asked. The first that has something
// gives at least one whole batch, however large (KIP-74).
func (f *fetchAnswer) look() {
	f.release()
	left := f.maxBytes
	image := f.session.opts.Metadata.Image()
	var t *metadata.Topic // Of the partition before: most have the same.
	for i := range f.parts {
		p := &f.parts[i]
		if i == 0 || p.topic != f.parts[i-1].topic || p.id != f.parts[i-1].id {
			t = f.topic(image, p)
		}
		f.lookAt(p, t, left)
		switch {
		case p.missing:
			continue // It ends no wait for the others: Kafka does not look at it.
		case p.err != nil || p.read.Diverged != nil:
			f.urgent = true
		}
		n := p.read.View.Size()
		f.exist++
		f.bytes += n
		left = max(0, left-n)
	}
}

func (f *fetchAnswer) lookAt(p *fetchPart, t *metadata.Topic, left int) {
	p.partition, p.read, p.aborted, p.missing = nil, partition.Read{}, nil, false
	if p.err = f.find(p, t); p.err != nil {
		return
	}
	switch {
	case f.maxBytes < 0 || p.want.MaxBytes < 0: // Kafka fails on them.
		p.err = wire.UnknownServerError
		return
	case f.follower: // Nobody else has replicas of ours.
		p.err = wire.NotLeaderOrFollower
		return
	}
	want := p.want
	want.MaxBytes = min(want.MaxBytes, left)
	want.Isolation = f.isolation
	want.AtLeast = f.bytes == 0
	if p.read, p.err = p.partition.Read(want); p.err != nil {
		return
	}
	if f.isolation != partition.Committed || p.read.View.Size() == 0 {
		return
	}
	if p.aborted, p.err = p.partition.Aborted(want.From, p.read.View.End()); p.err != nil {
		p.read.View.Close() // Without the list, nobody may see the records.
		p.read.View = commitlog.View{}
	}
}

// topic finds a partition's topic, or nil.
func (f *fetchAnswer) topic(image *metadata.Image, p *fetchPart) *metadata.Topic {
	if f.byID() {
		return image.TopicByID(p.id)
	}
	return image.Topic(p.topic)
}

// find looks for the partition here, and tells apart what is missing.
func (f *fetchAnswer) find(p *fetchPart, t *metadata.Topic) error {
	switch {
	case t == nil && f.byID():
		p.missing = true
		return wire.UnknownTopicID
	case t == nil || p.index < 0 || int(p.index) >= len(t.Partitions):
		p.missing = true
		return wire.UnknownTopicOrPartition
	}
	var err error
	p.partition, err = f.session.opts.Replicas.Partition(model.Partition{Topic: t.Name, Index: p.index})
	return err
}

// enough reports whether the answer can go now.
func (f *fetchAnswer) enough() bool {
	return f.wait <= 0 || f.exist == 0 || f.bytes >= f.minBytes || f.urgent
}

// release gives back what look has read.
func (f *fetchAnswer) release() {
	for i := range f.parts {
		f.parts[i].read.View.Close()
		f.parts[i].read.View = commitlog.View{}
	}
	f.bytes, f.exist, f.urgent = 0, 0, false
}

// park waits for more, at every partition.
func (f *fetchAnswer) park() {
	now := f.session.opts.Now()
	f.call.park(now)
	f.deadline = now.Add(f.wait)
	f.parked = true
	f.alarm.set(f.wait, f.call.a)
	f.await()
	f.call.a.Park(f)
}

// await registers at all partitions, and holds nothing meanwhile.
func (f *fetchAnswer) await() {
	lacking := int64(f.minBytes - f.bytes)
	f.release()
	f.need = partition.NewNeed(f.call.a, lacking, f.isolation == partition.Committed)
	for i := range f.parts {
		p := &f.parts[i]
		if p.partition != nil && !p.partition.AwaitData(p.read.State, f.need) {
			f.call.a.Wake()
		}
	}
}

func (f *fetchAnswer) forget() {
	for i := range f.parts {
		if p := f.parts[i].partition; p != nil {
			p.ForgetData(f.need)
		}
	}
}

// Poll looks again. See [listener.Pending].
func (f *fetchAnswer) Poll(*listener.Answer) {
	f.forget()
	f.look()
	if f.enough() || !f.session.opts.Now().Before(f.deadline) {
		f.alarm.stop()
		f.send()
		return
	}
	f.await()
}

// Cancel forgets the waits of a connection that has ended.
func (f *fetchAnswer) Cancel() {
	f.session.stats.unanswered(f.call.Key)
	f.alarm.stop()
	f.forget()
	f.release()
	f.leave()
}

// refuse answers the fetch as a whole with an error.
func (f *fetchAnswer) refuse(e wire.ErrorCode) {
	f.session.stats.FetchErrors.Add(1)
	r := wire.NewFetchResponse()
	r.ErrorCode = int16(e)
	f.session.reply(&f.call, r)
	f.free()
}

// refuseAll answers every partition, and the fetch as a whole, as Kafka does
// when it fails on a request.
func (f *fetchAnswer) refuseAll(q *wire.FetchRequest) {
	f.addAll(q)
	f.failed = wire.UnknownServerError
	for i := range f.parts {
		f.parts[i].err, f.parts[i].missing = f.failed, true
	}
	f.send()
}

// send answers. Views belong to the listener's answer from now on.
func (f *fetchAnswer) send() {
	s, a := f.session, f.call.a
	now := s.opts.Now()
	if f.charge(now); f.call.wait > 0 {
		f.sendNothing(now)
		return
	}
	if f.inSession != nil {
		f.parts = f.inSession.answered(f.parts, f.incremental)
	}
	f.missingLast()
	out := f.encode(a.Buffer())
	s.stats.FetchedBytes.Add(uint64(f.bytes))
	s.stats.answered(&f.call, now, len(out)+f.bytes)
	f.leave()
	a.Send(out)
	f.free()
}

// charge counts the bytes of the answer and the time that it took. Who has to
// wait gets none of the bytes, so they were not used.
func (f *fetchAnswer) charge(now time.Time) {
	s, c := f.session, &f.call
	s.chargeTime(c, now)
	if f.follower || !s.throttle.fetch.on.Load() {
		return
	}
	size := float64(f.size())
	c.mute(s.throttle.fetch.charge(now, c.client, size))
	if c.wait > 0 {
		s.throttle.fetch.refund(now, c.client, size)
	}
}

// What an answer takes besides records, near enough: for itself and for a
// partition.
const (
	fetchOverhead     = 20
	fetchPartOverhead = 45
)

// size is how many bytes the answer will have.
func (f *fetchAnswer) size() int {
	n := fetchOverhead + f.bytes
	for i := range f.parts {
		if !f.incremental || f.parts[i].read.View.Size() > 0 {
			n += fetchPartOverhead
		}
	}
	return n
}

// sendNothing answers who has to wait: with the time, and no partitions. A
// session that would have begun with this answer does not begin.
func (f *fetchAnswer) sendNothing(now time.Time) {
	f.release()
	if f.inSession != nil && !f.incremental {
		f.session.sessions.remove(f.sessionID)
		f.sessionID = 0
	}
	r := wire.NewFetchResponse()
	r.SessionID = f.sessionID
	f.call.tell(r)
	out, err := wire.AppendResponse(f.call.a.Buffer(), f.call.Version, f.call.CorrelationID, r)
	if err != nil {
		f.session.opts.Log.Error("answer cannot be encoded", "api", f.call.Key, "version", f.call.Version, "err", err)
	}
	f.leave()
	f.session.stats.answered(&f.call, now, len(out))
	f.call.a.Send(out)
	f.free()
}

// missingLast puts what does not exist behind what does, as Kafka does.
func (f *fetchAnswer) missingLast() {
	isMissing := func(p fetchPart) bool { return p.missing }
	if !slices.ContainsFunc(f.parts, isMissing) {
		return
	}
	slices.SortStableFunc(f.parts, func(a, b fetchPart) int {
		switch {
		case a.missing == b.missing:
			return 0
		case a.missing:
			return 1
		}
		return -1
	})
}

// leave lets the next fetch of the session in.
func (f *fetchAnswer) leave() {
	if f.inSession != nil {
		f.inSession.leave()
		f.inSession = nil
	}
}

func (f *fetchAnswer) free() {
	clear(f.parts[:min(cap(f.parts), keptParts)])
	f.parts = f.parts[:0]
	f.need = nil
	if cap(f.parts) <= keptParts {
		f.session.fetches.put(f)
	}
}

// keptParts is how large a fetch may be to be kept for the next one.
const keptParts = 256

// byTopic calls each for every run of partitions of one topic.
func (f *fetchAnswer) byTopic(each func(parts []fetchPart)) (topics int) {
	rest := f.parts
	for len(rest) > 0 {
		n := slices.IndexFunc(rest, func(p fetchPart) bool { return p.topic != rest[0].topic || p.id != rest[0].id })
		if n < 0 {
			n = len(rest)
		}
		topics++
		if each != nil {
			each(rest[:n])
		}
		rest = rest[n:]
	}
	return topics
}
