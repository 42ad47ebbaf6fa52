// Package diskpercent fills real file systems without end, on a broker that keeps them below log.retention.disk.percent, and
// takes a file system away from a broker that has two.
//
// It needs Linux and the right to make a mount namespace: elsewhere it is skipped, but never in CI.
package diskpercent
