// Package zmtp holds our ZMTP to libzmq, the implementation that all others are
// measured by: a small program on top of it, built here with gcc, publishes and
// subscribes at the other end.
package zmtp
