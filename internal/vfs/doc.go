// Package vfs is the disk as the rest of Barnabas sees it: FS and File, with
// three implementations. [OS] is the operating system. [Mem] lives in memory
// and can be crashed: a crash clone has lost a random part of what was not
// synced. [Faulty] wraps another FS and fails, or is stopped, at operations of
// the test's choice.
//
// The package never knows what the files mean.
//
// What a caller may rely on, and what the implementations for tests take away
// from one who relies on more:
//
//   - File.Sync makes the bytes and the size of a file durable, not its name.
//   - FS.SyncDir makes the names in one directory durable: creations, renames
//     and removals. Before it, each of them may or may not survive a crash;
//     operations on one name keep their order, those on different names do not.
//   - Rename is atomic: after a crash the new name shows the old file or the
//     new one.
//   - A write that was not synced may survive whole, in part (by 512-byte
//     sectors, in any order) or not at all, and the size of the file
//     independently of it.
package vfs
