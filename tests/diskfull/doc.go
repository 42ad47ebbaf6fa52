// Package diskfull fills a small real file system under a broker: produce is
// refused, everything else goes on, and freed space is used again without a
// restart. The file system is a tmpfs in a mount namespace of the test's own,
// which takes root; CI runs it always.
package diskfull
