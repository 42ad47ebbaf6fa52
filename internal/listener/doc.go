// Package listener owns client connections: it accepts them, cuts requests out
// of the byte stream and sends the answers in the order of the requests, while
// several requests of one connection may be in flight. It never knows what a
// request means.
//
// # Who runs what
//
// One goroutine accepts. Each connection has two: the reader cuts frames and
// calls [Session.Handle]; the writer waits for answers that could not be given
// at once. Handle fixes the order of what it does before it returns; an answer
// that has to wait is parked with a [Pending]. When somebody wakes it and it is
// the connection's next answer, the connection polls it and writes.
//
// # Memory
//
// All frames of all connections that are being read or handled share one
// [Budget]. A frame is charged once its first 8 KiB are here: 64 KiB, or as much as
// the connection has sent before; then as its body arrives, at most four times
// what is here; and given back when Handle returns. So who only claims to send
// much keeps nobody waiting. A parked Pending holds no frame. A body that stops
// arriving for 30 seconds, and a client that takes no answer for the idle time,
// end their connection. When the budget is spent, reading pauses: TCP passes the
// pressure on to the clients. One frame at a time may go beyond the budget, or
// frames that are all half here would wait for each other.
// Frames up to smallFrame bytes have a reserve of their own, so that heartbeats
// and fetches pass while large produce requests wait.
package listener
