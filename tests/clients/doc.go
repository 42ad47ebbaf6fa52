// Package clients drives the broker with the clients that its users have:
// franz-go, Sarama, librdkafka by kcat, KafkaJS, Apache Kafka's Java client and
// its command line tools. Each goes as far as it can without groups: topics,
// producing with every codec and every acks, reading by offset and by time,
// large records, a restart in between.
//
// What one client wrote is read by another: all write the same records (see
// sample), and print what they read in the same form (see row).
package clients
