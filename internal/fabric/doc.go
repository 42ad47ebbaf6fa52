// Package fabric decides for Dafka: what producers, consumers, stores and towers
// without brokers say to each other (RFC 46, as the C implementation speaks it).
// It has the messages and the machines; it must never know sockets, logs, clocks,
// files or who runs it.
//
//	Producer ──RECORD, HEAD──▶ Consumer         a partition is what one producer
//	    ▲ │                      │ ▲            publishes on one topic; its records
//	 ACK│ └──RECORD, HEAD──┐     │ │            are numbered from 0
//	    │   ┌──────────────┘     │ │
//	    │   ▼          FETCH     │ │ DIRECT-RECORD
//	  Writer ◀─ ─ ─ ┐   ┌────────┘ │ DIRECT-HEAD
//	   (store)     FETCH▼          │
//	                Reader ────────┘            Peers: who is there, by beacons
//
// Who misses a record, because a number was left out or a HEAD told of it, sends
// a FETCH to the producer and to all stores. Whoever has it answers. Everything
// can be lost on the way: messages are dropped where queues are full.
//
// Each machine is told what came and what time it is, and gathers what it wants
// done until its shell drains it. A shell has one goroutine or one lock for each
// of them, looks at Deadline and calls Tick.
//
// What is better here than in C, and what C's nodes see of it:
//
//   - a fetch that is not answered is sent again, later and later, and the next
//     chunk is asked for at once; C asks once for each HEAD;
//   - stores acknowledge again what they have, when a record or a HEAD comes that
//     they need not fetch for: C's producers then end although an ACK was lost;
//   - as many records as were asked for are answered, and if there are more, one
//     DIRECT-HEAD: C's consumers then ask for the next chunk;
//   - a store whose retention has deleted records says so in eight bytes at the
//     end of a DIRECT-HEAD, [Message.First], which C does not look at. Our
//     consumers wait a while for other stores, then go on behind the gap and tell
//     the user ([Skip]). C's consumers that want the deleted records, for they
//     begin with the earliest, wait for ever, as they would for any record that
//     nobody has; they ask once a second, and are not sent records that they
//     would drop. With the latest they do not notice.
//   - stores ask each other for everything, so that a partition whose producer is
//     gone is copied, too; and where a store and a producer both have a record,
//     the store's is taken, because C's producers answer with wrong contents.
package fabric
