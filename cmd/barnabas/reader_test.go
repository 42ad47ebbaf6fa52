package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/barnabas-log/barnabas/cluster"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// fakeBroker is a cluster of one broker that answers as the test says.
type fakeBroker struct {
	answer func(wire.Request) wire.Response
}

func (b *fakeBroker) Do(_ context.Context, req wire.Request) (wire.Response, error) {
	return b.answer(req), nil
}

func (b *fakeBroker) Close() error { return nil }

// fakeCluster is a cluster of one such broker.
func fakeCluster(answer func(wire.Request) wire.Response) *cluster.Map {
	return cluster.New([]string{"k:1"}, func(string) cluster.Conn { return &fakeBroker{answer} })
}

// topicAnswer is metadata of a topic with one partition.
func topicAnswer(id byte, code wire.ErrorCode) *wire.MetadataResponse {
	resp := wire.NewMetadataResponse()
	resp.Brokers = []wire.MetadataResponseBroker{{NodeID: 1, Host: "k", Port: 1}}
	name := "letters"
	t := wire.MetadataResponseTopic{Name: &name, ErrorCode: int16(code), TopicID: wire.UUID{id}}
	if code == wire.None {
		t.Partitions = []wire.MetadataResponsePartition{{LeaderID: 1}}
	}
	resp.Topics = []wire.MetadataResponseTopic{t}
	return resp
}

func fetchAnswer(code wire.ErrorCode) *wire.FetchResponse {
	resp := wire.NewFetchResponse()
	resp.Responses = []wire.FetchResponseFetchableTopicResponse{{Partitions: []wire.FetchResponsePartitionData{{ErrorCode: int16(code)}}}}
	return resp
}

// readUntilError follows a topic whose answers are given, one for each request
// and then the last again and again.
func readUntilError(t *testing.T, metadata []*wire.MetadataResponse, fetches ...*wire.FetchResponse) (took time.Duration, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := fakeCluster(func(req wire.Request) wire.Response {
			if _, ok := req.(*wire.MetadataRequest); ok {
				resp := metadata[0]
				metadata = metadata[min(1, len(metadata)-1):]
				return resp
			}
			resp := fetches[0]
			fetches = fetches[min(1, len(fetches)-1):]
			return resp
		})
		defer m.Close()
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		r := newReader(m, "letters", map[int32]model.Offset{0: 7}, nil)
		err = r.run(ctx, func(partitionRecord) error { return nil }, func() error { time.Sleep(fetchWait); return nil })
		took = time.Since(began)
	})
	return took, err
}

// A topic that is deleted under its reader ends the reading soon, and not as if
// nothing more were written.
func TestReadDeleted(t *testing.T) {
	there, gone := topicAnswer(1, wire.None), topicAnswer(1, wire.UnknownTopicOrPartition)
	took, err := readUntilError(t, []*wire.MetadataResponse{there, gone}, fetchAnswer(wire.None), fetchAnswer(wire.UnknownTopicID))
	if !errors.Is(err, errGone) || took < gonePatience || took > 2*gonePatience {
		t.Errorf("after %v: %v", took, err)
	}
	took, err = readUntilError(t, []*wire.MetadataResponse{there, topicAnswer(2, wire.None)}, fetchAnswer(wire.None), fetchAnswer(wire.UnknownTopicID))
	if !errors.Is(err, errGone) || !strings.Contains(err.Error(), "another was made") || took > 2*time.Second {
		t.Errorf("made anew, after %v: %v", took, err)
	}
}

// A topic that a starting broker does not know yet is no reason to end.
func TestReadForgottenForAMoment(t *testing.T) {
	there, gone := topicAnswer(1, wire.None), topicAnswer(1, wire.UnknownTopicOrPartition)
	_, err := readUntilError(t, []*wire.MetadataResponse{there, gone, gone, there},
		fetchAnswer(wire.UnknownTopicID), fetchAnswer(wire.None), fetchAnswer(wire.OffsetOutOfRange))
	if !errors.Is(err, wire.OffsetOutOfRange) || !strings.Contains(err.Error(), "letters-0 at 7") || !strings.Contains(err.Error(), "trimmed") {
		t.Error(err)
	}
}
