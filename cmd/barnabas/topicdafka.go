package main

import (
	"github.com/barnabas-log/barnabas/internal/bridge"
	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/model"
)

// dafkaProducersKey is the setting that names the Dafka producer of each partition.
const dafkaProducersKey = config.DafkaProducers

// dafkaProducers says, of each partition of a topic, which Dafka producer writes it, or as which one it is published: "" for neither.
func dafkaProducers(topic model.TopicID, configs map[string]string) func(partition int32) string {
	producers := config.ProducersOf(configs)
	return func(partition int32) string {
		switch {
		case int(partition) < len(producers):
			return producers[partition]
		case len(producers) == 0 && configs["dafka.publish"] == "true":
			return bridge.Address(topic, partition)
		}
		return ""
	}
}
