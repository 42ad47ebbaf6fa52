// Package txn decides about transactions: it is the machine of Kafka's
// transaction coordinator, for one partition of __transaction_state. It never
// knows sockets, logs, brokers or clocks, and no partition's data: it says which
// markers are to be written, and is told when they are.
//
//	          InitProducerId            first partition, or group
//	(nothing) ─────────────▶ Empty ──────────────────────────────▶ Ongoing ◀─┐ next
//	    ▲                      ▲                                      │  └───┘ partition
//	    │ expired              │ InitProducerId        EndTxn, or its time is up,
//	    │                      │                       or another producer came
//	    │                      │                                      ▼
//	    └───────────── CompleteCommit, CompleteAbort ◀──── PrepareCommit, PrepareAbort
//	                                              all markers are written
//
// Each arrow is one record. A Prepare state is a decision: whoever leads the
// partition next writes the markers again, until all partitions have them. From
// Complete, too, a first partition leads to Ongoing.
//
// The rules are those of KIP-98, KIP-360, KIP-447, KIP-664, KIP-890 and KIP-939,
// as Apache Kafka 4.4.0 keeps them, and so are the records. It differs where
// Kafka gives up, or gives away:
//
//   - a request is judged by what is in the log, also while that is being
//     committed; Kafka answers CONCURRENT_TRANSACTIONS then;
//   - a producer whose epochs are used up, and whose answer was lost, is known
//     again; Kafka answers UNKNOWN_SERVER_ERROR;
//   - the producer id that takes over is told to wait for the markers of the
//     last one; Kafka does not know it yet and fences it;
//   - a zombie of transactions version 2 is not taken for a producer that repeats
//     its EndTxn because a later one of version 1 has ended a transaction; Kafka
//     gives it that one's epoch, and both write under it;
//   - memory is bounded: beyond [Options.Memory], POLICY_VIOLATION;
//   - patterns of transactional ids have at most 4096 bytes and 1000 instructions:
//     INVALID_REGULAR_EXPRESSION.
package txn
