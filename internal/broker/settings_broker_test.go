package broker

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/record"
	"github.com/barnabas-log/barnabas/wire"
)

// decidesBroker checks that what f sees depends on a setting of the broker,
// key=value: in its file and, where Kafka can change it then, while it runs.
func decidesBroker[T comparable](t *testing.T, option string, unset, set T, f func(w *world) T, with ...string) {
	t.Helper()
	name, _, _ := strings.Cut(option, "=")
	run := func(how string, options []string, change func(w *world), want T) {
		t.Helper()
		inWorld(t, append(options, with...), func(w *world) {
			change(w)
			if got := f(w); got != want {
				t.Errorf("%s: %v, want %v", how, got, want)
			}
		})
	}
	nothing := func(*world) {}
	run("without "+name, nil, nothing, unset)
	run("with "+option, []string{option}, nothing, set)
	k, _ := config.LookupBrokerKey(name)
	update := k.Update
	if strings.HasPrefix(name, "listener.name.") { // The limits of one listener.
		update = config.ClusterWide
	}
	switch update {
	case config.ClusterWide:
		if usual := name + "=" + k.Default; k.HasDefault {
			run("all given "+option+", one "+usual, nil, func(w *world) { w.set(option); w.setFor("1", usual) }, unset)
			run("with "+option+", all given "+usual, []string{option}, func(w *world) { w.set(usual) }, unset)
		}
		run("all given "+option, nil, func(w *world) { w.set(option) }, set)
		fallthrough
	case config.PerBroker:
		run("one given "+option, nil, func(w *world) { w.setFor("1", option) }, set)
		run("none given "+name+" any more", nil, func(w *world) { w.setFor("1", option); w.setFor("1", name) }, unset)
	}
}

// claim sends the size of a frame and so many bytes of it; false if the
// connection is closed.
func (c *client) claim(size, bytes int) bool {
	frame := binary.BigEndian.AppendUint32(nil, uint32(size))
	_, err := c.conn.Write(append(frame, make([]byte, bytes)...))
	return err == nil
}

func TestRequestSettings(t *testing.T) {
	decidesBroker(t, "socket.request.max.bytes=2000", true, false, func(w *world) bool {
		c := w.dial()
		if c.claim(3000, 0) {
			time.Sleep(time.Second)
		}
		return c.claim(0, 1000) // More of the frame, if it is wanted.
	})
	decidesBroker(t, "fetch.max.bytes=1024", true, false, func(w *world) bool {
		for _, topic := range []string{"x", "y"} {
			w.create(topic)
			w.put(topic, strings.Repeat("x", 5000))
		}
		r := w.fetchAll("x", "y").Responses
		return len(r[0].Partitions[0].Records) > 0 && len(r[1].Partitions[0].Records) > 0
	})
	decidesBroker(t, "queued.max.request.bytes=1000000", true, false, func(w *world) bool {
		w.create("t")
		for range 2 { // One may have more than there is, for all would wait for each other else.
			w.dial().claim(600_000, 500_000) // And never the rest.
		}
		b := w.records(record.BuilderOptions{}, strings.Repeat("x", 600_000))
		answered := make(chan bool)
		c := w.dial()
		go func() {
			c.conn.SetDeadline(time.Now().Add(time.Second))
			answered <- c.send(produceTo("t", b), 9) && c.frame() != nil
		}()
		return <-answered
	}, "socket.request.max.bytes=1000000")
	decidesBroker(t, "max.request.partition.size.limit=2", 5, 2, func(w *world) int {
		w.createMany("t", 5)
		q := wire.NewDescribeTopicPartitionsRequest()
		q.Topics = []wire.DescribeTopicPartitionsRequestTopicRequest{{Name: "t"}}
		return len(ask[*wire.DescribeTopicPartitionsResponse](w.main(), q).Topics[0].Partitions)
	})
	decidesBroker(t, "max.incremental.fetch.session.cache.slots=0", true, false, func(w *world) bool {
		q := wire.NewFetchRequest()
		q.SessionEpoch = 0
		w.create("t")
		q.Topics = []wire.FetchRequestFetchTopic{{Topic: "t", Partitions: []wire.FetchRequestFetchPartition{{}}}}
		return askAt[*wire.FetchResponse](w.main(), q, 12).SessionID != 0
	})
}

func TestTopicCreationSettings(t *testing.T) {
	metadata := func(w *world) wire.MetadataResponseTopic {
		name := "wished"
		q := wire.NewMetadataRequest()
		q.Topics = []wire.MetadataRequestTopic{{Name: &name}}
		ask[*wire.MetadataResponse](w.main(), q)
		q.AllowAutoTopicCreation = false
		return ask[*wire.MetadataResponse](w.main(), q).Topics[0]
	}
	decidesBroker(t, "auto.create.topics.enable=false", 0, int16(wire.UnknownTopicOrPartition), func(w *world) int16 { return metadata(w).ErrorCode })
	decidesBroker(t, "num.partitions=3", 1, 3, func(w *world) int { return len(metadata(w).Partitions) })
	decidesBroker(t, "default.replication.factor=2", 0, int16(wire.InvalidReplicationFactor), func(w *world) int16 {
		q := wire.NewCreateTopicsRequest()
		q.Topics = []wire.CreateTopicsRequestCreatableTopic{{Name: "t", NumPartitions: 1, ReplicationFactor: -1}}
		return ask[*wire.CreateTopicsResponse](w.main(), q).Topics[0].ErrorCode
	})
	decidesBroker(t, "delete.topic.enable=false", 0, int16(wire.TopicDeletionDisabled), func(w *world) int16 {
		w.create("t")
		name := "t"
		q := wire.NewDeleteTopicsRequest()
		q.TimeoutMs = 1000
		q.Topics = []wire.DeleteTopicsRequestDeleteTopicState{{Name: &name}}
		return ask[*wire.DeleteTopicsResponse](w.main(), q).Responses[0].ErrorCode
	})
}

func TestProducerSettings(t *testing.T) {
	known := func(d time.Duration) func(w *world) int {
		return func(w *world) int {
			w.create("t")
			w.produce("t", w.records(record.BuilderOptions{Producer: &record.Producer{ID: 1}}, "x"))
			time.Sleep(d)
			q := wire.NewDescribeProducersRequest()
			q.Topics = []wire.DescribeProducersRequestTopicRequest{{Name: "t", PartitionIndexes: []int32{0}}}
			return len(ask[*wire.DescribeProducersResponse](w.main(), q).Topics[0].Partitions[0].ActiveProducers)
		}
	}
	decidesBroker(t, "producer.id.expiration.ms=60000", 1, 0, known(12*time.Minute))
	decidesBroker(t, "producer.id.expiration.check.interval.ms=3600000", 0, 1, known(12*time.Minute), "producer.id.expiration.ms=60000")
}

func TestCheckpointSettings(t *testing.T) {
	decidesBroker(t, "replica.high.watermark.checkpoint.interval.ms=600000", true, false, func(w *world) bool {
		w.create("t")
		time.Sleep(time.Minute)
		w.forget()
		w.put("t", "x")
		time.Sleep(10 * time.Second)
		return w.count(vfs.OpRename, "/a/replication-offset-checkpoint") > 0
	})
	decidesBroker(t, "log.flush.start.offset.checkpoint.interval.ms=600000", true, false, func(w *world) bool {
		w.create("t", "retention.ms=1000")
		time.Sleep(31 * time.Second) // The first looks.
		w.put("t", "x")
		w.forget()
		time.Sleep(150 * time.Second)
		return w.count(vfs.OpRename, "/a/log-start-offset-checkpoint") > 0
	}, "log.retention.check.interval.ms=70000")
}

// What is read at the start counts at the next one if it was changed while the
// node ran.
func TestRecoverySettings(t *testing.T) {
	decidesBroker(t, "num.recovery.threads.per.data.dir=4", 2, 4, func(w *world) int64 {
		w.createMany("t", 8)
		most := w.hinder(vfs.OpReadDir, "/a/t-*", time.Second)
		w.restart()
		return most.Load()
	})
}

func TestIdentitySettings(t *testing.T) {
	node := func(w *world) string { return fmt.Sprint(w.b.NodeID()) }
	decidesBroker(t, "node.id=7", "1", "7", node)
	decidesBroker(t, "broker.id=7", "1", "7", node)
	decidesBroker(t, "broker.rack=cellar", "", "cellar", func(w *world) string {
		if rack := ask[*wire.MetadataResponse](w.main(), wire.NewMetadataRequest()).Brokers[0].Rack; rack != nil {
			return *rack
		}
		return ""
	})
}

func TestLogLevelSetting(t *testing.T) {
	decidesBroker(t, "log.level=error", true, false, func(w *world) bool {
		w.stop()
		chatty := strings.Contains(w.log.String(), "level=INFO")
		w.start()
		return chatty
	})
}
