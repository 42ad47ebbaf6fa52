package config

import "slices"

// Dafka is the broker's part in a mesh of Dafka nodes.
type Dafka struct {
	Enable        bool
	File          string // dafka.config: where the mesh is; empty for Dafka's defaults.
	MaxPartitions int    // That its producers are given.
}

func (b *Broker) fillDafka() {
	file, _ := b.value("dafka.config")
	b.Dafka = Dafka{Enable: b.bool("dafka.enable"), File: file.text, MaxPartitions: int(b.int("dafka.max.partitions"))}
}

// DafkaProducers is the topic key that names the producer of each partition.
const DafkaProducers = "dafka.producers"

const dafkaPublish = "dafka.publish"

// ProducersOf are the Dafka producers of a topic that has these configs, by partition.
func ProducersOf(configs map[string]string) []string { return splitList(configs[DafkaProducers]) }

// Published reports whether a topic that has these configs is published to Dafka consumers (dafka.publish).
func Published(configs map[string]string) bool {
	text, ok := configs[dafkaPublish]
	if !ok {
		return false
	}
	key, _ := LookupTopicKey(dafkaPublish)
	v, err := key.parse(text)
	return err == nil && v.bool
}

// checkDafka keeps the numbers of producers' partitions: who changed the list would give records to others.
func (v values) checkDafka(was, will map[string]string) error {
	producers := will[DafkaProducers]
	switch {
	case was[DafkaProducers] != producers:
		return &InvalidError{DafkaProducers + " is kept by the broker and cannot be set; name it unchanged where all configs of a topic are replaced"}
	case producers == "":
		return nil
	case v.bool(dafkaPublish):
		return &InvalidError{"dafka.publish is for topics that Kafka producers write to; what Dafka producers write, Dafka consumers see anyway"}
	case will["cleanup.policy"] != "" && slices.Contains(v.list("cleanup.policy"), "compact"):
		return &InvalidError{"records of Dafka producers have no keys and cannot be compacted"}
	}
	return nil
}
