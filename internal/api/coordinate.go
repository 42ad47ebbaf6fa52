package api

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/barnabas-log/barnabas/internal/controller"
	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/internal/coordinator/group"
	"github.com/barnabas-log/barnabas/internal/coordinator/txn"
	"github.com/barnabas-log/barnabas/internal/listener"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// Coordinator is how requests reach the shards of one coordinator on this node.
type Coordinator interface {
	// Submit gives an input to a partition's shard. Done is called with its
	// answer, from another goroutine, unless Submit returns an error.
	Submit(partition int32, in any, done coordinator.Done) error
	// Shards lists the partitions that this node leads.
	Shards() []int32
}

// coordinated is an answer that a coordinator gives.
type coordinated struct {
	session *session
	call    call
	mu      sync.Mutex
	given   func() wire.Response
}

// coordinated prepares to wait for a coordinator. What it keeps of the call
// does not alias the frame.
func (s *session) coordinated(c *call) *coordinated {
	p := &coordinated{session: s, call: *c}
	p.call.client, p.call.ClientID = s.named(c.client), nil
	return p
}

// park waits for the answer. The wait is no work of the client's.
func (p *coordinated) park() {
	p.call.park(p.session.opts.Now())
	p.call.a.Park(p)
}

// give takes the answer, from any goroutine.
func (p *coordinated) give(r wire.Response) { p.promise(func() wire.Response { return r }) }

// promise takes how the answer is to be made, from any goroutine. That is done
// by the connection's, for a shard has others to serve.
func (p *coordinated) promise(answer func() wire.Response) {
	p.mu.Lock()
	p.given = answer
	p.mu.Unlock()
	p.call.a.Wake()
}

// Poll sends the answer once it is there. See [listener.Pending].
func (p *coordinated) Poll(*listener.Answer) {
	p.mu.Lock()
	answer := p.given
	p.mu.Unlock()
	if answer != nil {
		p.session.reply(&p.call, answer())
	}
}

// Cancel ends the wait: what was asked of a coordinator is done, whether the
// client is still there or not.
func (p *coordinated) Cancel() { p.session.stats.unanswered(p.call.Key) }

// ask gives an input to a shard and answers with what comes back. refused makes
// an answer of an error of the shard's.
func (s *session) ask(c *call, of Coordinator, partition int32, in any, refused func(wire.ErrorCode) wire.Response) {
	p := s.coordinated(c)
	err := of.Submit(partition, in, func(answer any, err error) {
		if err != nil {
			p.give(refused(code(err)))
			return
		}
		p.give(answer.(wire.Response))
	})
	if err != nil {
		s.reply(c, refused(code(err)))
		return
	}
	p.park()
}

// question is one part of a request that several shards answer.
type question struct {
	partition int32
	in        any
}

// askAll gives inputs to shards and answers when all have answered. whole
// makes the answer; got[i] and errs[i] are what came of the question i.
func (s *session) askAll(c *call, of Coordinator, questions []question, whole func(got []any, errs []error) wire.Response) {
	p := s.coordinated(c)
	got, errs := make([]any, len(questions)), make([]error, len(questions))
	var mu sync.Mutex
	left := len(questions) + 1 // And this function.
	share(questions)
	one := func(i int, answer any, err error) {
		mu.Lock()
		defer mu.Unlock()
		if i >= 0 {
			got[i], errs[i] = answer, err
		}
		if left--; left == 0 {
			p.promise(func() wire.Response { return whole(got, errs) })
		}
	}
	for i, q := range questions {
		if err := of.Submit(q.partition, q.in, func(answer any, err error) { one(i, answer, err) }); err != nil {
			one(i, nil, err)
		}
	}
	one(-1, nil, nil)
	p.park()
}

// share lets each of the questions take its part of what their request takes.
func share(questions []question) {
	for i := range questions {
		switch in := questions[i].in.(type) {
		case group.Request:
			in.Bytes /= len(questions)
			questions[i].in = in
		case txn.Request:
			in.Bytes /= len(questions)
			questions[i].in = in
		}
	}
}

// owned makes an operation of a function whose request outlives the frame: it
// has memory of its own, and so have the names of the call.
func owned[Q wire.Request](serve func(*session, *call, Q)) func(*session, *call) {
	return func(s *session, c *call) {
		api, _ := wire.LookupAPI(c.Key)
		q := api.NewRequest().(Q)
		var r wire.Reader
		r.Reset(bytes.Clone(s.frame[s.reader.Offset():]))
		if err := q.ReadFrom(&r, c.Version); err != nil {
			s.malformed(c.a, c.RequestHeader, err)
			return
		}
		c.client = strings.Clone(c.client)
		serve(s, c, q)
	}
}

// readBytes is about how many bytes a request takes for each of its frame, with
// what was read from it.
const readBytes = 4

// errNoCoordinator says that the topic of a coordinator has no leader to ask.
var errNoCoordinator = errors.New("api: coordinator not available")

// stateTopic is the topic that holds a coordinator's state. It is made when it
// is needed first.
func (s *session) stateTopic(name string) (*metadata.Topic, error) {
	if t := s.opts.Metadata.Image().Topic(name); t != nil {
		return t, nil
	}
	err := s.propose(autoCreateMillis, func(image *metadata.Image) ([]metadata.Record, error) {
		return s.opts.Rules.StateTopic(image, name)
	})
	if err != nil {
		s.opts.Log.Warn("topic of a coordinator not created", "topic", name, "err", err)
		return nil, errNoCoordinator
	}
	return s.opts.Metadata.Image().Topic(name), nil
}

// shardOf is the partition of a coordinator that has a key; -1 if its topic
// does not exist yet: then nothing has the key.
func (s *session) shardOf(topic, key string) int32 {
	t := s.opts.Metadata.Image().Topic(topic)
	if t == nil {
		return -1
	}
	return coordinator.Partition(key, int32(len(t.Partitions)))
}

func (s *session) groupShard(group string) int32 { return s.shardOf(controller.OffsetsTopic, group) }

func (s *session) txnShard(id string) int32 { return s.shardOf(controller.TransactionsTopic, id) }

// ProducerIDs takes producer ids for a coordinator: none if there are none to
// be had now.
func (a *API) ProducerIDs(ctx context.Context, n int) (first, end model.ProducerID) {
	s := &session{API: a, ctx: ctx}
	first, err := s.newProducerID()
	if err != nil {
		return 0, 0
	}
	return first, a.producers.more(first, n)
}
