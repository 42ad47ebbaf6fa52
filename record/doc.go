// Package record knows Kafka's record batch, format v2: its header, its
// records, its checksum and its compression. It never knows topics, requests
// or files.
//
// The byte layout is in docs/formats/record-batch.md.
package record
