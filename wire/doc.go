// Package wire is Kafka's binary protocol: one struct per message and per
// coordinator or metadata record, every version of each, read and written; the
// headers and frames around them; error codes; and a Reader that bounds what
// hostile bytes can cost.
//
// The structs are generated from Apache Kafka's own message definitions, so
// that names, versions, defaults and null rules are Kafka's. A struct has the
// fields of all versions. Reading sets every field: those the version lacks get
// Kafka's default. Writing refuses a set field that the version lacks, unless
// Kafka marks the field as ignorable.
//
// # Ownership
//
// Strings and byte slices that a Reader returns alias the frame. They are valid
// as long as its owner leaves the frame alone: copy what is kept longer
// (strings.Clone). Structs are made for reuse: reading into a struct again, or
// Reset and Extend, reuse the memory of its slices and of the slices inside
// their elements.
//
// The package knows bytes and versions. It must never know connections, what a
// request means, or what is inside a record batch. It is pure: no goroutines,
// locks, clocks, files or network.
package wire

//go:generate sh ../tools/wiregen/generate.sh
