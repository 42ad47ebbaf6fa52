// Package zmtp speaks ZMTP 3.1, the protocol of ZeroMQ (RFC 23 and 37), over
// TCP: the sockets PUB, SUB, XPUB and XSUB with the mechanisms NULL and CURVE
// (RFC 26). It knows frames, subscriptions and connections, and behaves as
// libzmq 4.3 does where the RFC leaves a choice. It must never know what is in
// a message.
//
// # What is promised
//
//   - Messages from one connection come in their order. Publish and subscribe
//     promise no more: a message for a peer whose queue is full is dropped whole,
//     for that peer, and counted.
//   - A socket that has connected dials for ever, and sends all subscriptions anew
//     on each connection.
//   - One bad peer never disturbs others: what it costs is its own connection, its
//     own bounded queue, and its turn in the socket's bounded inbox.
//   - Memory grows with what has arrived, never with what a length claims.
//
// # Who runs what
//
// A listener has one goroutine that accepts, a connected endpoint one that dials.
// Each connection has two: the reader (accepted connections have one of their own,
// dialled ones use the dialler's) shakes hands, cuts frames and hands [Batch]es to
// the socket's inbox; the writer sends what its queue holds, as much as there is
// with one system call. [Socket.Send] finds the peers and copies small frames to
// their queues; it never waits. All of them have ended when [Socket.Close] returns.
//
//	Send ─→ subscriptions ─→ queue of each peer ─→ writer ─→ TCP
//	TCP ─→ reader ─→ batch ─→ filter ─→ inbox ─→ Receive
//
// # Locks
//
// Socket.mu first, then the lock of one or more queues, or of the filter, or of
// the inbox. Nobody holds one while waiting for a socket or for another goroutine.
package zmtp
