// Package txn decides about transactions: it is the machine of Kafka's
// transaction coordinator, for one partition of __transaction_state. It never
// knows sockets, logs, brokers or clocks, and no partition's data: it says which
// markers are to be written, and is told when they are.
//
//	           InitProducerId            first partition or group
//	(nothing) ────────────────▶ Empty ───────────────────────────▶ Ongoing
//	    ▲                         ▲                                 ▲  │
//	    │                         │ InitProducerId      next partition  │ EndTxn, or time is up
//	    │ expired                 │                                 │  ▼
//	   Dead ◀────────── CompleteCommit, CompleteAbort ◀──── PrepareCommit, PrepareAbort
//	                                              all markers are written
//
// Each arrow is one record. What leaves a Prepare state is decided: whoever leads
// the partition next writes the markers again, until all partitions have them.
//
// The rules are those of KIP-98, KIP-360, KIP-447, KIP-664, KIP-890 and KIP-939,
// as Apache Kafka 4.4.0 keeps them.
package txn
