// Package producers knows what each producer id last wrote to one partition:
// which sequence comes next, which batches are repeats, which transactions are
// open and how far a read_committed consumer may read. It never knows files,
// clocks or how the commit point came about.
//
// It is a machine: [State.Check] asks, [State.Apply] alone changes what is
// durable, and replaying a log through Apply gives the same State as writing it
// did.
//
//	              data batch, first of a transaction
//	┌──────────┐ ─────────────────────────────────────▶ ┌──────────┐
//	│  no open │                                         │   open   │ holds the stable offset
//	│   txn    │ ◀─┐                                     └────┬─────┘ at its first offset
//	└──────────┘   │ commit point passes the marker           │ abort or commit marker
//	               │                                     ┌────▼─────┐
//	               └──────────────────────────────────── │ undecided│ holds it still
//	                                                     └──────────┘
//
// The rules are those of KIP-98, KIP-360 and KIP-890, read off Apache Kafka
// 4.4.0. Snapshots are Kafka's .snapshot files, docs/formats/producer-snapshot.md.
package producers
