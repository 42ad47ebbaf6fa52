// Package dafka tests meshes without brokers: nodes in one process, and processes
// that are killed, with towers, stores, producers and consumers.
package dafka
