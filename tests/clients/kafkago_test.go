package clients

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/barnabas-log/barnabas/tests/node"
)

// TestKafkaGo drives kafka-go: its writer, and two readers of a group that commit
// each record; the broker is killed when they have half of them.
func TestKafkaGo(t *testing.T) {
	t.Parallel()
	n := node.Start(t, quickGroups...)
	const topic = "kafka-go"
	create(t, n, topic)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	writeWithKafkaGo(ctx, t, n, topic)
	seen := &seenNumbers{count: map[string]int{}, half: make(chan struct{}), all: make(chan struct{})}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	var readers sync.WaitGroup
	for range 2 {
		r := kafka.NewReader(kafka.ReaderConfig{
			Brokers: []string{n.Addr}, GroupID: topic, Topic: topic, StartOffset: kafka.FirstOffset, MaxWait: 100 * time.Millisecond,
			HeartbeatInterval: 300 * time.Millisecond, SessionTimeout: 6 * time.Second, ReadBackoffMax: 200 * time.Millisecond,
		})
		readers.Go(func() {
			defer r.Close()
			seen.read(reading, r)
		})
	}
	await(ctx, t, seen.half)
	n.Kill()
	n.Again()
	await(ctx, t, seen.all)
	wantAtEnd(t, n, topic)
	stop()
	readers.Wait()
	for v, times := range seen.count {
		if times > 3 { // A commit that the kill has cost, at each of the readers.
			t.Errorf("%s was read %d times", v, times)
		}
	}
}

func writeWithKafkaGo(ctx context.Context, t *testing.T, n *node.Node, topic string) {
	t.Helper()
	w := &kafka.Writer{
		Addr: kafka.TCP(n.Addr), Topic: topic, RequiredAcks: kafka.RequireAll, Compression: kafka.Lz4, BatchTimeout: 10 * time.Millisecond,
		Balancer: kafka.BalancerFunc(func(m kafka.Message, partitions ...int) int { return partitions[m.Offset%int64(len(partitions))] }),
	}
	defer w.Close()
	var messages []kafka.Message
	for i := range numbers {
		messages = append(messages, kafka.Message{Offset: int64(i), Value: fmt.Append(nil, i), Headers: []kafka.Header{{Key: "n", Value: []byte{byte(i)}}}})
	}
	if err := w.WriteMessages(ctx, messages...); err != nil {
		t.Fatal(err)
	}
}

func await(ctx context.Context, t *testing.T, what <-chan struct{}) {
	t.Helper()
	select {
	case <-what:
	case <-ctx.Done():
		t.Fatal("it takes too long")
	}
}

// seenNumbers are how often each was read.
type seenNumbers struct {
	sync.Mutex
	count     map[string]int
	half, all chan struct{}
}

func (s *seenNumbers) read(ctx context.Context, r *kafka.Reader) {
	for ctx.Err() == nil {
		m, err := r.FetchMessage(ctx)
		if err != nil {
			continue // The broker is away.
		}
		s.note(string(m.Value))
		for err = errors.New("not yet"); err != nil && ctx.Err() == nil; {
			if err = r.CommitMessages(ctx, m); err != nil {
				time.Sleep(20 * time.Millisecond)
			}
		}
	}
}

func (s *seenNumbers) note(v string) {
	s.Lock()
	defer s.Unlock()
	if s.count[v]++; s.count[v] > 1 {
		return
	}
	switch len(s.count) {
	case numbers / 2:
		close(s.half)
	case numbers:
		close(s.all)
	}
}
