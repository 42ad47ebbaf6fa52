package replicas

import (
	"fmt"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/metadata"
	"github.com/barnabas-log/barnabas/model"
)

// Reconfigure gives the node another effective configuration: what it was
// started with under what the metadata log sets for brokers. All partitions
// get what it says about topics that do not say it themselves.
func (r *Replicas) Reconfigure(b *config.Broker) {
	r.changing.Lock()
	defer r.changing.Unlock()
	r.config.Store(b)
	for _, d := range r.disks {
		d.reconfigure(b)
	}
	r.cleaner.reconfigure()
	image := r.image.Load()
	image.Topics("", func(t *metadata.Topic) bool {
		r.configure(image, t.Name)
		return true
	})
}

// topicConfig is the effective configuration of a topic. Those that set nothing
// share one.
func (r *Replicas) topicConfig(image *metadata.Image, topic string) (*config.Topic, error) {
	broker := r.config.Load()
	set := image.Config(metadata.Resource{Type: metadata.ResourceTopic, Name: topic})
	if len(set) == 0 {
		return &broker.Topic, nil
	}
	c, err := config.ResolveTopic(broker, set)
	if err != nil {
		return nil, fmt.Errorf("config of topic %s: %w", topic, err)
	}
	return &c, nil
}

// configure gives a topic's partitions their configuration.
func (r *Replicas) configure(image *metadata.Image, topic string) {
	t := image.Topic(topic)
	if t == nil {
		return
	}
	cfg, err := r.topicConfig(image, topic)
	if err != nil {
		r.opts.Log.Error("topic config not applied", "topic", topic, "err", err)
		return
	}
	for i := range t.Partitions {
		if x := r.entry(model.Partition{Topic: topic, Index: int32(i)}); x != nil && x.err == nil {
			x.Configure(cfg)
			if !cfg.Compact {
				r.cleaner.stop(x.Partition) // What it would remove is to be kept.
			}
			x.SetProducerExpiry(r.config.Load().ProducerExpiration)
			x.SetUnverified(!r.config.Load().Coordinators.Txn.Verify)
			x.disk.touch(x.Partition)
			r.cleaner.retry(x.Partition)
		}
	}
}
