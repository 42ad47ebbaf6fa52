package api

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/listener"
	"github.com/barnabas-log/barnabas/internal/partition"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// The encoder that is written by hand gives the bytes of the generated one, in
// every version, for any answer without records: within sessions and not, with
// errors, aborted transactions and diverging epochs.
func TestFetchEncoding(t *testing.T) {
	s := &session{API: &API{opts: Options{Log: slog.New(slog.DiscardHandler)}, limit: newLogLimit(time.Now)}}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 0))
		for v := int16(4); v <= 18; v++ {
			f := anyFetchAnswer(r, s, v)
			want, err := wire.AppendResponse(nil, v, f.call.CorrelationID, generated(f))
			if err != nil {
				t.Fatal(err)
			}
			if got := f.encode(nil); string(got) != string(want) {
				t.Fatalf("seed %d, version %d:\n got %x\nwant %x", seed, v, got, want)
			}
		}
	}
}

func anyFetchAnswer(r *rand.Rand, s *session, v int16) *fetchAnswer {
	f := &fetchAnswer{session: s, isolation: partition.Isolation(r.IntN(2))}
	f.call = call{RequestHeader: wire.RequestHeader{Key: wire.FetchKey, Version: v, CorrelationID: int32(r.Uint32())}, a: new(listener.Answer)}
	if v >= fetchInSessions && r.IntN(2) == 0 {
		f.sessionID, f.failed = int32(r.Uint32()), wire.ErrorCode(r.IntN(130)-1)
	}
	for topic := range r.IntN(4) {
		name := string(rune('a'+topic)) + "-topic"
		for range r.IntN(3) {
			f.parts = append(f.parts, anyFetchPart(r, name, model.TopicID{byte(topic)}))
		}
	}
	return f
}

func anyFetchPart(r *rand.Rand, topic string, id model.TopicID) fetchPart {
	p := fetchPart{topic: topic, id: id, index: int32(r.Uint32())}
	p.read.State = partition.State{Start: model.Offset(r.Int64()), Committed: model.Offset(r.Int64()), Stable: model.Offset(r.Int64())}
	for range r.IntN(3) {
		p.aborted = append(p.aborted, commitlog.AbortedTxn{ProducerID: model.ProducerID(r.Int64()), First: model.Offset(r.Int64())})
	}
	switch r.IntN(5) {
	case 0:
		p.err, p.missing = wire.UnknownTopicOrPartition, true
	case 1:
		p.err = partition.ErrOutOfRange
	case 2:
		p.read.Diverged = &partition.EpochEnd{Epoch: model.Epoch(r.Int32()), End: model.Offset(r.Int64())}
	}
	return p
}

// generated says the same as f with the generated types.
func generated(f *fetchAnswer) *wire.FetchResponse {
	v := f.call.Version
	m := wire.NewFetchResponse()
	m.SessionID, m.ErrorCode = f.sessionID, int16(f.failed)
	for i := range f.parts {
		p := &f.parts[i]
		if n := len(m.Responses); n == 0 || f.parts[i-1].topic != p.topic {
			x := wire.Extend(&m.Responses)
			if x.Topic = p.topic; v >= fetchByID {
				x.Topic, x.TopicID = "", p.id
			}
		}
		y := wire.Extend(&m.Responses[len(m.Responses)-1].Partitions)
		generatedPart(f, p, y)
	}
	return m
}

func generatedPart(f *fetchAnswer, p *fetchPart, y *wire.FetchResponsePartitionData) {
	v := f.call.Version
	y.PartitionIndex, y.ErrorCode = p.index, int16(code(p.err))
	y.HighWatermark, y.LastStableOffset, y.LogStartOffset = -1, -1, -1
	y.PreferredReadReplica, y.Records, y.AbortedTransactions = -1, []byte{}, nil
	if p.err == nil {
		y.HighWatermark, y.LastStableOffset = int64(p.read.State.Committed), int64(p.read.State.Stable)
		if y.LogStartOffset = int64(p.read.State.Start); v < 5 {
			y.LogStartOffset = -1
		}
	}
	switch {
	case p.missing:
		y.AbortedTransactions = []wire.FetchResponseAbortedTransaction{}
	case p.err == nil && f.isolation == partition.Committed:
		y.AbortedTransactions = []wire.FetchResponseAbortedTransaction{}
		for _, a := range p.aborted {
			y.AbortedTransactions = append(y.AbortedTransactions, wire.FetchResponseAbortedTransaction{ProducerID: int64(a.ProducerID), FirstOffset: int64(a.First)})
		}
	}
	if d := p.read.Diverged; d != nil && v >= fetchDiverging {
		y.DivergingEpoch.Epoch, y.DivergingEpoch.EndOffset = int32(d.Epoch), int64(d.End)
	}
}

// With records, which are written between the bytes, the frame reads back and
// is what the generated encoder makes of it.
func TestFetchEncodingRecords(t *testing.T) {
	n := newNode(t, "durability=os")
	id := n.topic("t", 3).ID
	c := n.dial()
	for i, values := range [][]string{{"a", "b"}, nil, {"c"}} {
		if values != nil {
			ask[*wire.ProduceResponse](c, produce("t", int32(i), -1, batch(t, record.BuilderOptions{}, values...)), 9)
		}
	}
	var first []byte
	for v := int16(4); v <= 18; v++ {
		for isolation := range int8(2) {
			q := fetch("t", 0, 1, 2, 7)
			if q.IsolationLevel = isolation; v >= fetchByID {
				q.Topics[0].Topic, q.Topics[0].TopicID = "", id
			}
			c.write(q, v)
			frame := c.frame()
			m := decode[*wire.FetchResponse](t, frame, v)
			again, err := wire.AppendResponse(nil, v, c.next, m)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(again[wire.FrameSizeBytes:], frame); d != "" {
				t.Errorf("version %d: (-generated +ours)\n%s", v, d)
			}
			p := m.Responses[0].Partitions
			if len(p) != 4 || len(p[0].Records) == 0 || len(p[1].Records) != 0 || len(p[2].Records) == 0 || p[3].ErrorCode != 3 {
				t.Errorf("version %d: %+v", v, p)
			}
			if first == nil {
				first = p[0].Records
			}
			if string(first) != string(p[0].Records) {
				t.Errorf("version %d: other records", v)
			}
		}
	}
}

// Answers are found by the code of their error only through the map.
func TestCodeOfWrapped(t *testing.T) {
	if got := code(errors.Join(errors.New("context"), partition.ErrDiskFull)); got != wire.KafkaStorageError {
		t.Errorf("%v", got)
	}
	if got := code(errors.New("nobody foresaw")); got != wire.UnknownServerError {
		t.Errorf("%v", got)
	}
}
