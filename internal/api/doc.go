// Package api is what a broker answers: one file per Kafka API, each of which
// checks, translates and delegates. It holds the one map from errors to Kafka's
// codes, and the fetch sessions. It never knows files, sockets or Raft.
package api
