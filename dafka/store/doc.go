// Package store is a Dafka store: it keeps what producers publish and gives it to
// who missed it, as C's dafka_store does. It knows the two nodes that a store is,
// and hands records over between them and the logs; what is asked for and
// answered is decided by package fabric, how records lie on disk is known to
// package storelog. It must never know Kafka's requests.
//
//	producers, stores ─RECORD, HEAD─▶ ┌ writer ┐ ──runs──▶ storelog ──sections──▶ ┌ reader ┐ ─▶ who asks
//	                  ◀────FETCH, ACK─└────────┘                                  └────────┘ ◀─ FETCH, GET-HEADS
//
// A record is acknowledged when it is stored: on disk with store/fsync, else with
// the operating system. While one group of records is stored the next gathers,
// in bounded memory; then sockets are not read, and TCP holds producers back.
//
// A store that comes back has the writer's address that it had before, so that
// producers which want several acknowledgements do not count it twice. The
// address is the directory's, so a copied directory is the same store.
package store
