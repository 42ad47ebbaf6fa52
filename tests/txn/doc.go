// Package txn holds the broker to exactly-once while everything else fails.
// Writers fill a topic in transactions; copiers read it as one group and write
// it to another, each batch and its offsets in one transaction. Clients are
// killed, stall beyond their timeouts, abort, and come back while their zombies
// are still at work; the broker's process is killed at random moments, and the
// version of transactions goes down and up again. In the end a reader of what
// is committed has to find each number once and in order, whole transactions
// only, and no log may have anything open.
//
// It must never know how the coordinators work.
package txn
