// Package mesh makes a program a node of a Dafka mesh: it has the sockets, tells
// towers where it is, connects to the nodes that towers tell of, and gives up
// those that fell silent. What a node says and hears is its
// owner's; [Backlog] and [Desk] are what stores of all kinds have in common, and
// know nothing of where records are kept.
//
//	owner ──Publish──▶ publisher ─ ─ ─▶ whoever subscribes
//	owner ◀──Receive── inlets ◀─ ─ ─ ─ publishers of all peers
//	                     ▲ connect, disconnect
//	            Peers ───┘◀──beacons──▶ towers
//
// A node starts without a tower, and finds the others when there is one.
//
// Goroutines: three for towers and peers, one for each inlet, and one that hears
// what was subscribed to if the publisher is an XPUB. Each calls its function of
// the owner's and nothing else waits for it: an owner who is slow in one is read
// from more slowly, and TCP passes the pressure on.
package mesh
