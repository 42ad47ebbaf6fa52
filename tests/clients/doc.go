// Package clients drives the broker with the clients that its users have:
// franz-go, Sarama, librdkafka by kcat and by confluent-kafka-go, KafkaJS,
// kafka-python, Apache Kafka's Java client, Streams, Connect and its command
// line tools. They make topics, produce with every codec and every acks, read
// by offset and by time, join groups of both protocols and leave them, and copy
// in transactions, with restarts of the broker in between.
//
// What one client wrote is read by another: all write the same records (see
// sample), and print what they read in the same form (see row); copies are of
// numbers (see wantCopied).
package clients
