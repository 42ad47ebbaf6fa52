// Package telemetry keeps the broker's side of client metrics (KIP-714): which
// metrics a client is asked for, how often it may push, and what the pushes of
// all clients come to.
//
// It is a machine. [Clients] remembers the client instances that asked lately
// and answers their requests; [ReadMetrics] reads what they push, which is
// OpenTelemetry's protobuf; [Totals] adds it up, by metric and by the software
// that sent it, never by client. Everything comes from strangers, and all of it
// is bounded.
//
// It must never know connections, compression, or who shows the totals.
package telemetry
