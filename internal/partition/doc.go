// Package partition is one replica of one partition: a log, what its producers
// wrote, its view of replication, and those who wait for it. It never knows
// other partitions, requests or sockets.
//
// Everything that has an order happens under the partition's lock: the
// producer check, the offset, one write to the page cache, and the wake-ups
// that follow. Checksums and parsing come before the lock; syncing and waiting
// after it. Wakers are called without the lock.
package partition
