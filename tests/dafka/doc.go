// Package dafka tests meshes without brokers: nodes in one process, and processes
// that are killed, with towers, stores, producers and consumers; and brokers that
// are nodes of such a mesh.
package dafka
