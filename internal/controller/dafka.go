package controller

import (
	"slices"
	"strings"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/metadata"
)

// DafkaTopic names producers of a Dafka mesh that publish on a topic.
type DafkaTopic struct {
	Name      string
	Producers []string // Addresses, each once.
}

// DafkaProducers decides about producers that are new: each gets the next
// partition of its topic, which is made if need be, and keeps it for ever. What
// an earlier life could not finish is completed. Topics of Kafka producers are
// refused, and so is what is beyond most partitions of all Dafka topics. The
// errors stand beside the topics, each of which changes whole or not at all.
func (r Rules) DafkaProducers(image *metadata.Image, topics []DafkaTopic, most int) ([]metadata.Record, []error) {
	room := most - dafkaPartitions(image)
	var records []metadata.Record
	errs := make([]error, len(topics))
	for i := range topics {
		made, more, err := r.dafkaTopic(image, &topics[i], room)
		if errs[i] = err; err == nil {
			room -= more
			records = append(records, made...)
		}
	}
	return records, errs
}

// dafkaPartitions is how many partitions Dafka producers have.
func dafkaPartitions(image *metadata.Image) (n int) {
	image.Configs(metadata.ResourceTopic, func(_ string, values map[string]string) bool {
		n += len(config.ProducersOf(values))
		return true
	})
	return n
}

func (r Rules) dafkaTopic(image *metadata.Image, d *DafkaTopic, room int) (records []metadata.Record, more int, err error) {
	resource := metadata.Resource{Type: metadata.ResourceTopic, Name: d.Name}
	t, has := image.Topic(d.Name), config.ProducersOf(image.Config(resource))
	if err := checkDafkaTopic(d.Name, t, has); err != nil {
		return nil, 0, err
	}
	all := slices.Clone(has)
	for _, p := range d.Producers {
		if err := checkProducer(p); err != nil {
			return nil, 0, err
		}
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	value := strings.Join(all, ",")
	switch more = len(all) - len(has); {
	case more > room:
		return nil, 0, refuse(ErrPolicy, "Dafka producers have all partitions that dafka.max.partitions allows.")
	case len(value) > maxValueLength:
		return nil, 0, refuse(ErrPolicy, "The topic '%s' has as many Dafka producers as a topic can have.", d.Name)
	}
	if records, err = r.dafkaPartitionsUpTo(image, t, d.Name, len(all)); err == nil && more > 0 {
		records = append(records, metadata.Record{Message: metadata.ConfigRecord(resource, config.DafkaProducers, &value)})
	}
	return records, more, err
}

// dafkaPartitionsUpTo makes a topic, or its partitions, up to a count.
func (r Rules) dafkaPartitionsUpTo(image *metadata.Image, t *metadata.Topic, name string, count int) ([]metadata.Record, error) {
	switch {
	case t == nil:
		replication := min(r.Config.ReplicationFactor, int16(max(1, len(image.Live()))))
		return r.create(image, TopicSpec{Name: name, Partitions: int32(count), Replication: replication}, &TopicCreated{})
	case len(t.Partitions) < count:
		return r.morePartitions(image, MorePartitions{Topic: name, Count: int32(count)})
	}
	return nil, nil
}

// checkDafkaTopic refuses topics that are not for Dafka's producers.
func checkDafkaTopic(name string, t *metadata.Topic, producers []string) error {
	switch {
	case strings.HasPrefix(name, "__"):
		return refuse(ErrInvalidName, "Topic '%s' may be internal, and Dafka producers do not get it.", name)
	case t != nil && len(producers) == 0:
		return refuse(ErrTopicExists, "Topic '%s' belongs to Kafka producers; if one of their consumers has made it, delete it.", name)
	}
	return nil
}

// checkProducer refuses what cannot be told from its neighbours in a list.
func checkProducer(address string) error {
	odd := func(c rune) bool { return c <= ' ' || c > '~' || c == ',' || c == '"' || c == '\\' }
	if address == "" || strings.ContainsFunc(address, odd) {
		return refuse(ErrInvalidName, "The address %q of a Dafka producer cannot be kept.", address)
	}
	return nil
}

// DafkaTopics calls each for every topic of Dafka producers, with those, and for
// every topic that is published, without, in the order of names.
func DafkaTopics(image *metadata.Image, each func(t *metadata.Topic, producers []string)) {
	image.Configs(metadata.ResourceTopic, func(name string, values map[string]string) bool {
		producers := config.ProducersOf(values)
		if t := image.Topic(name); t != nil && (len(producers) > 0 || config.Published(values)) {
			each(t, producers)
		}
		return true
	})
}
