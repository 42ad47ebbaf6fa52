// Package commitlog is a directory of record batches: Kafka's segments and
// indexes, byte for byte, with the epochs, snapshots and aborted transactions
// that belong to them. It knows offsets, epochs, timestamps and what is synced.
// It never knows topics, replication or the commit point: callers say how far
// to read and how far to delete.
//
// # Files
//
// A segment is named by its base offset in 20 digits and holds the batches up
// to the base of the next one. The last segment is the active one, the only one
// that grows. Beside NAME.log stand NAME.index (offset to position),
// NAME.timeindex, NAME.txnindex (aborted transactions, if any) and NAME.snapshot
// (producer state at that offset; opaque here). docs/formats/log-directory.md
// has the bytes.
//
// # What is durable
//
// An append is one write into the page cache. Sync makes it durable; SyncedEnd
// says how far. A Mark, taken every so often, says: below this position data,
// indexes, epochs and snapshot are all durable. The caller keeps it and gives it back to Open, which
// then reads only what lies above it, and nothing at all if there is nothing.
//
// A failed sync is never retried: the kernel may have dropped the dirty pages
// and marked them clean, so a second sync would lie. The log goes offline
// (ErrOffline) until it is opened anew. A full disk is not that: the partial
// write is cut away and the log goes on.
//
// # Compaction
//
// Clean does one pass: it learns the last offset of each key, writes segments
// without what is given up, and swaps them for their originals, as Kafka does,
// safe at any crash. The caller says how far, how fast, and with how much
// memory. There is one pass at a time; Close ends it.
//
// # Locks
//
// Three locks. `removal` is held by what takes segments away or replaces them, disk work
// included, and comes first. `append` is held through every change of the log and, by
// truncation and the assignment of an epoch only, through a sync; `mu` guards
// what readers see and is held for memory, and for opening a file, only.
// append comes before it. A reader notes under mu a segment, its published size and
// a reference on its file, and reads without a lock: bytes below the published
// size change only by truncation, whose victims no consumer may have seen.
// What a reader opens by name afterwards, an index, may belong to a segment
// that took the place of its own: then it looks again.
//
// There is no goroutine, no timer, and after Idle no open file.
package commitlog
