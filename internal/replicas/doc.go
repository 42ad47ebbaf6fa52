// Package replicas holds all replicas of this node: it makes, opens, assigns,
// configures and retires partitions as the cluster's image changes, and does
// the periodic work of their directories. It never knows requests or groups.
//
// # Who runs what
//
// Each data directory has a flusher, which makes appends durable in groups, a
// keeper, which writes marks and checkpoints, applies retention and removes what
// was deleted, and a trimmer, which keeps the file system below
// log.retention.disk.percent. All call the partitions; partitions have no
// goroutines. Movers copy partitions from one directory to another. The cleaner, one for all directories, compacts: its workers choose the dirtiest
// log, and keep in the directory's cleaner-offset-checkpoint how far they came.
// A partition that moves is not compacted meanwhile.
//
// # A directory that fails
//
// An error of the disk, wherever it shows, takes all partitions of the data
// directory offline, and no others; the cluster is told. See failed.go.
//
// # A directory that is missing
//
// A partition of the image whose directory should exist and does not is
// offline, never an empty log. Which should exist is kept in each data
// directory (appliedFile): the metadata offset up to which the node has made
// the directories it was told to make. A partition decided after that is made
// at start; one decided before is missing.
package replicas
