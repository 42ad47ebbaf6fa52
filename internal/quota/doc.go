// Package quota says how long a client has to wait because it uses more than
// its share: Kafka's quotas of bytes, request time, controller mutations and
// connections (KIP-13, 124, 219, 257, 546, 599, 612).
//
// It is a machine. [Limits] say who may use how much and find the limit of a
// client in Kafka's order. A [Rate] measures use in samples, a [Bucket] in
// tokens; a [Meter] keeps one of them for each client that has a limit and
// turns what is used into a time to wait. Clients are strangers: how many are
// remembered is bounded, and who is idle is forgotten.
//
// It must never know requests, sockets, or who enforces the wait.
package quota
