package controller

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
)

// producers tells the cluster of Dafka producers.
func (c *cluster) producers(most int, topic string, addresses ...string) error {
	c.t.Helper()
	records, errs := c.rules.DafkaProducers(c.track.Image(), []DafkaTopic{{topic, addresses}}, most)
	c.apply(records)
	return errs[0]
}

func (c *cluster) list(topic string) string {
	return c.track.Image().Config(metadata.Resource{Type: metadata.ResourceTopic, Name: topic})[config.DafkaProducers]
}

func (c *cluster) expectProducers(topic, want string, partitions int) {
	c.t.Helper()
	if got := c.list(topic); got != want {
		c.t.Errorf("%s has the producers %q, want %q", topic, got, want)
	}
	if t := c.track.Image().Topic(topic); t == nil || len(t.Partitions) != partitions {
		c.t.Errorf("%s has other partitions than %d", topic, partitions)
	}
}

// TestDafkaProducers: each producer gets the next partition, once and for ever.
func TestDafkaProducers(t *testing.T) {
	c := newCluster(t, 1)
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	ok(c.producers(9, "letters", "A", "B"))
	c.expectProducers("letters", "A,B", 2)
	ok(c.producers(9, "letters", "C", "A", "C"))
	c.expectProducers("letters", "A,B,C", 3)
	ok(c.producers(9, "letters", "B"))
	c.expectProducers("letters", "A,B,C", 3)

	// Somebody adds a partition: it is the next producer's.
	more, errs, err := c.rules.CreatePartitions(c.track.Image(), []MorePartitions{{Topic: "letters", Count: 5}})
	if errs[0] != nil || err != nil {
		t.Fatal(errs, err)
	}
	c.apply(more)
	ok(c.producers(9, "letters", "D"))
	c.expectProducers("letters", "A,B,C,D", 5)

	// A new topic of the name begins anew.
	gone, errs := c.rules.DeleteTopics(c.track.Image(), []model.TopicID{c.track.Image().Topic("letters").ID})
	ok(errs[0])
	c.apply(gone)
	ok(c.producers(9, "letters", "D"))
	c.expectProducers("letters", "D", 1)
}

// TestDafkaProducersRefused: what strangers name cannot take other topics, nor
// more than there is.
func TestDafkaProducersRefused(t *testing.T) {
	c := newCluster(t, 1)
	c.create(named("kafkas"))
	f := func(err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	f(c.producers(9, "kafkas", "A"), ErrTopicExists)
	f(c.producers(9, "__consumer_offsets", "A"), ErrInvalidName)
	f(c.producers(9, "a b", "A"), ErrInvalidName)
	f(c.producers(9, "", "A"), ErrInvalidName)
	for _, odd := range []string{"", "A,B", "A B", "A\n", "Ä", `"`, "A\x00"} {
		f(c.producers(9, "odd", odd), ErrInvalidName)
	}
	f(c.producers(2, "letters", "A", "B", "C"), ErrPolicy)
	f(c.producers(2, "letters", "A", "B"), nil)
	f(c.producers(2, "parcels", "C"), ErrPolicy)
	f(c.producers(2, "letters", "A"), nil)

	var many []string
	for i := range 2000 {
		many = append(many, fmt.Sprintf("%032X", i))
	}
	f(c.producers(10_000, "many", many...), ErrPolicy)
	f(c.producers(10_000, "many", many[:900]...), nil)
	c.expectProducers("many", strings.Join(many[:900], ","), 900)
	if c.track.Image().Topic("odd") != nil || c.track.Image().Topic("parcels") != nil {
		t.Error("a topic was made for nobody")
	}
}

// TestDafkaProducersAreKept: who alters configs does not alter whose partition
// is whose.
func TestDafkaProducersAreKept(t *testing.T) {
	c := newCluster(t, 1)
	c.create(named("kafkas"))
	if err := c.producers(9, "letters", "A", "B"); err != nil {
		t.Fatal(err)
	}
	alter := func(topic string, replace, ok bool, keys ...KeyChange) {
		t.Helper()
		records, errs, err := c.rules.AlterConfigs(c.track.Image(), []ConfigChange{
			{Resource: metadata.Resource{Type: metadata.ResourceTopic, Name: topic}, Keys: keys, Replace: replace},
		})
		if err != nil {
			t.Fatal(err)
		}
		if invalid := new(config.InvalidError); ok != (errs[0] == nil) || !ok && !errors.As(errs[0], &invalid) {
			t.Errorf("%s %v: %v", topic, keys, errs[0])
		}
		c.apply(records)
	}
	set := func(k, v string) KeyChange { return KeyChange{Name: k, Op: SetConfig, Value: v} }
	alter("letters", false, false, set(config.DafkaProducers, "B,A"))
	alter("letters", false, false, KeyChange{Name: config.DafkaProducers, Op: AppendConfig, Value: "C"})
	alter("letters", false, false, KeyChange{Name: config.DafkaProducers, Op: DeleteConfig})
	alter("letters", true, false, set("retention.ms", "5"))
	alter("letters", true, true, set("retention.ms", "5"), set(config.DafkaProducers, "A,B"))
	alter("letters", false, true, set("retention.ms", "6"))
	alter("letters", false, false, set("dafka.publish", "true"))
	alter("letters", false, false, set("cleanup.policy", "compact"))
	alter("kafkas", false, false, set(config.DafkaProducers, "A"))
	alter("kafkas", false, true, set("dafka.publish", "true"))
	c.expectProducers("letters", "A,B", 2)
	_, created, _ := c.rules.CreateTopics(c.track.Image(), []TopicSpec{
		{Name: "mine", Partitions: 1, Replication: 1, Configs: []config.Override{{Name: config.DafkaProducers, Value: new("A")}}},
	})
	if created[0].Err == nil {
		t.Error("a topic can be made with producers")
	}
	var names []string
	DafkaTopics(c.track.Image(), func(t *metadata.Topic, p []string) { names = append(names, t.Name+" "+strings.Join(p, "+")) })
	if d := cmp.Diff([]string{"kafkas ", "letters A+B"}, names); d != "" {
		t.Error(d)
	}
}
