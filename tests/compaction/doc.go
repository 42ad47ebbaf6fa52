// Package compaction compacts more keys than fit into the memory for them, in a
// broker as its users run it.
//
// It must never know how compaction works.
package compaction
