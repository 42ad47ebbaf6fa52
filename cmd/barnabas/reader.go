package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/barnabas-log/barnabas/cluster"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// What one fetch asks for.
const (
	fetchWait         = 500 * time.Millisecond // how long a broker may wait for the first byte
	fetchBytes        = 32 << 20
	fetchPartitionMax = 4 << 20
	// readPatience is how long errors that may pass are tried again in a row.
	readPatience = 30 * time.Second
	// gonePatience is that for a topic nobody knows: brokers that start or elect
	// may say so for a moment, but then it was deleted.
	gonePatience = 5 * time.Second
)

// errGone says that the topic which was being read is no more.
var errGone = errors.New("deleted while it was read")

// partitionRecord is a record and where it is from.
type partitionRecord struct {
	record.Record
	Partition int32
}

// reader fetches partitions of a topic in rounds: one request to each leader,
// all at once, then the records of all answers.
type reader struct {
	m        *cluster.Map
	topic    string
	id       model.TopicID // zero before the first round, and with brokers that give none
	next     map[int32]model.Offset
	ends     map[int32]model.Offset // nil without an end
	level    isolation
	troubled time.Time // since when every round failed, zero if not
}

func newReader(m *cluster.Map, topic string, next, ends map[int32]model.Offset) *reader {
	return &reader{m: m, topic: topic, next: next, ends: ends}
}

// run gives each record to each, in the order of its partition, until all ends
// are reached, each returns an error or ctx ends. Pause is called when there is
// nothing more at once.
func (r *reader) run(ctx context.Context, each func(partitionRecord) error, pause func() error) error {
	for {
		r.dropDone()
		if len(r.next) == 0 {
			return nil
		}
		got, err := r.round(ctx, each)
		if err != nil {
			return err
		}
		if !got {
			if err := pause(); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (r *reader) dropDone() {
	for p, o := range r.next {
		if end, ok := r.ends[p]; ok && o >= end {
			delete(r.next, p)
		}
	}
}

// answer is what one leader said.
type answer struct {
	resp *wire.FetchResponse
	err  error
}

func (r *reader) round(ctx context.Context, each func(partitionRecord) error) (got bool, err error) {
	asked, err := r.ask(ctx)
	if err != nil {
		return false, r.wait(ctx, err)
	}
	var trouble error
	for _, a := range asked {
		if a.err != nil {
			trouble = errors.Join(trouble, a.err)
			continue
		}
		for _, t := range a.resp.Responses {
			for i := range t.Partitions {
				n, err := r.take(&t.Partitions[i], each)
				got = got || n > 0
				if err != nil && retriable(err) {
					trouble = errors.Join(trouble, err)
				} else if err != nil {
					return got, err
				}
			}
		}
	}
	if trouble != nil {
		return got, r.wait(ctx, trouble)
	}
	r.troubled = time.Time{}
	return got, nil
}

// wait pauses after an error that may pass, with fresh metadata to follow.
func (r *reader) wait(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !retriable(err) {
		return err
	}
	if r.troubled.IsZero() {
		r.troubled = time.Now()
	}
	switch gone := unknownTopic(err); {
	case gone && time.Since(r.troubled) > gonePatience:
		return fmt.Errorf("topic %s: %w: %w", r.topic, errGone, err)
	case time.Since(r.troubled) > readPatience:
		return err
	}
	r.m.Forget(r.topic)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(retryPause):
		return nil
	}
}

func unknownTopic(err error) bool {
	return errors.Is(err, wire.UnknownTopicOrPartition) || errors.Is(err, wire.UnknownTopicID)
}

// same makes sure that the topic is still the one that was there at first:
// another one of its name has other offsets.
func (r *reader) same(t cluster.Topic) error {
	if r.id != (model.TopicID{}) && t.ID != r.id {
		return fmt.Errorf("topic %s: %w, and another was made under its name", r.topic, errGone)
	}
	r.id = t.ID
	return nil
}

// ask sends one fetch to each leader and waits for all answers.
func (r *reader) ask(ctx context.Context) ([]answer, error) {
	t, err := r.m.Topic(ctx, r.topic)
	if err != nil {
		return nil, err
	}
	if err := r.same(t); err != nil {
		return nil, err
	}
	requests := make(map[cluster.Broker]*wire.FetchRequest)
	for _, p := range indexesOf(t) {
		offset, ok := r.next[p]
		if !ok {
			continue
		}
		b, err := r.m.Leader(ctx, r.topic, p)
		if err != nil {
			return nil, err
		}
		if requests[b] == nil {
			requests[b] = fetchRequest(t, r.level)
		}
		parts := &requests[b].Topics[0].Partitions
		q := wire.Extend(parts)
		q.Partition, q.FetchOffset, q.PartitionMaxBytes = p, int64(offset), fetchPartitionMax
	}
	answers := make([]answer, 0, len(requests))
	var mu sync.Mutex
	var all sync.WaitGroup
	for b, req := range requests {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, fetchWait+30*time.Second)
			defer cancel()
			a := fetch(ctx, b, req)
			mu.Lock()
			defer mu.Unlock()
			answers = append(answers, a)
		})
	}
	all.Wait()
	return answers, nil
}

func fetchRequest(t cluster.Topic, level isolation) *wire.FetchRequest {
	req := wire.NewFetchRequest()
	req.MaxWaitMs, req.MinBytes, req.MaxBytes, req.IsolationLevel = int32(fetchWait.Milliseconds()), 1, fetchBytes, int8(level)
	topic := wire.Extend(&req.Topics)
	topic.Topic, topic.TopicID = t.Name, wire.UUID(t.ID)
	return req
}

func fetch(ctx context.Context, b cluster.Broker, req *wire.FetchRequest) answer {
	resp, err := b.Do(ctx, req)
	if err != nil {
		return answer{err: err}
	}
	f, ok := resp.(*wire.FetchResponse)
	if !ok {
		return answer{err: fmt.Errorf("fetch answered by %T", resp)}
	}
	if code := wire.ErrorCode(f.ErrorCode); code != wire.None {
		return answer{err: fmt.Errorf("fetch: %w", code)}
	}
	return answer{resp: f}
}

// take walks the batches of one partition's answer.
func (r *reader) take(p *wire.FetchResponsePartitionData, each func(partitionRecord) error) (n int, err error) {
	index := p.PartitionIndex
	switch code := wire.ErrorCode(p.ErrorCode); code {
	case wire.None:
	case wire.OffsetOutOfRange:
		return 0, fmt.Errorf("fetch %s-%d at %d: %w: no such record any more: retention took it, or the topic was trimmed", r.topic, index, r.next[index], code)
	default:
		return 0, fmt.Errorf("fetch %s-%d at %d: %w", r.topic, index, r.next[index], refusal(p.ErrorCode, nil))
	}
	gone := newAborts(p.AbortedTransactions)
	for rest := p.Records; ; {
		var b record.Batch
		if b, rest, err = record.Next(rest); errors.Is(err, record.ErrShort) {
			return n, nil // The broker may cut the last batch.
		}
		if err != nil {
			return n, fmt.Errorf("%s-%d at %d: %w", r.topic, index, r.next[index], err)
		}
		m, err := r.takeBatch(index, b, gone, each)
		n += m
		if err != nil {
			return n, err
		}
	}
}

func (r *reader) takeBatch(index int32, b record.Batch, gone *aborts, each func(partitionRecord) error) (n int, err error) {
	if b.End() <= r.next[index] {
		return 0, nil
	}
	if b.CRC() != b.ComputeCRC() {
		return 0, fmt.Errorf("%s-%d: batch at %d: %w: checksum", r.topic, index, b.BaseOffset(), record.ErrCorrupt)
	}
	hidden, err := gone.hides(b)
	if err != nil {
		return 0, fmt.Errorf("%s-%d: batch at %d: %w", r.topic, index, b.BaseOffset(), err)
	}
	if hidden || b.IsControl() {
		r.next[index] = b.End()
		return 0, nil
	}
	for rec, err := range b.Records(0) {
		if err != nil {
			return n, fmt.Errorf("%s-%d: batch at %d: %w", r.topic, index, b.BaseOffset(), err)
		}
		end, bounded := r.ends[index]
		if rec.Offset < r.next[index] || bounded && rec.Offset >= end {
			continue
		}
		n++
		if err := each(partitionRecord{Record: rec, Partition: index}); err != nil {
			return n, err
		}
	}
	r.next[index] = b.End()
	return n, nil
}
