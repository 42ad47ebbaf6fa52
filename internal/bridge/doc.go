// Package bridge makes a broker a node of a Dafka mesh: a store, whose partitions
// are those of topics, and a publisher of topics. It knows which partition of a
// topic is which producer's, and hands records over between the mesh and the
// partitions. It must never know requests of Kafka's clients, or files.
//
//	producers ──RECORD, HEAD──▶ ┌ writer ┐ ──batches──▶ partitions of topics ──▶ Kafka consumers
//	          ◀──FETCH, ACK──── └────────┘              that Dafka producers made
//	consumers ◀─DIRECT-RECORD── ┌ reader ┐ ◀─────────────────┤
//	          ──FETCH─────────▶ │        │ ◀── partitions of topics with dafka.publish ◀── Kafka producers
//	          ◀──RECORD, HEAD── └────────┘
//
// # Dafka's records for Kafka
//
// A producer on a topic is a partition of the topic of that name. Which one, the
// topic's configuration says (dafka.producers): the first producer's partition is
// 0, and so on; numbers are never used again while the topic exists. The list and
// the partition are made together, in one change of the metadata, before the first
// record is asked for. A record has the offset that is its sequence, no key, and
// the time of its arrival. It is acknowledged when it is committed, as the topic's
// durability says. Nobody else can write to such a topic.
//
// What strangers can make is bounded: partitions by dafka.max.partitions and by
// the length of a topic's list, topics by what Kafka takes for a name. Who is
// refused is counted, and told in the log; its records are not acknowledged.
//
// # Kafka's records for Dafka
//
// A partition of a topic with dafka.publish is published as that of a producer
// whose address is made of the topic's id and the partition's number
// ([Address]). Values become contents, offsets sequences. Consumers of Dafka want
// numbers without holes, so what is no record that a Kafka consumer would see (the
// ends of transactions, what they aborted, what compaction removed) comes as an
// empty record. Only what is stable is published: nothing of open transactions.
//
// # What changes
//
// Each image of the cluster makes a new table of partitions. While it only grows,
// everything goes on. When a partition is gone, or is another one now, the
// machines are made anew from the table, and ask the mesh for what they lack.
package bridge
