// Package model holds the nouns of a log that speaks Kafka: offsets, epochs,
// nodes, topics and partitions. Every other package may use these words; this
// one knows no I/O, no protocol and no other package.
package model
