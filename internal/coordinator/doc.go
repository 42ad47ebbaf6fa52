// Package coordinator runs machines over replicated logs: it is the shell of
// the coordinators of groups and of transactions. It never knows groups,
// transactions, requests or sockets.
//
// A coordinator's state is spread over the partitions of one topic. Each
// partition that this node leads is a shard: one goroutine, one [Machine], one
// [Log]. The goroutine loads the machine by replaying the log; then, for each
// input or deadline,
//
//	Handle → Apply each record → Append → park the replies at the end of the log
//
// and releases what is parked when the log is committed that far. Inputs that
// arrive together are appended as one batch and synced together.
//
//	       Lead                  replayed, and committed
//	───────────────▶ loading ───────────────────────────▶ serving
//	                   ▲ │                                  │ │
//	                   │ │            append failed         │ │ Resign, or the
//	                   └─┼──────────────────────────────────┘ │ epoch is over
//	                     ▼                                    ▼
//	                   ended ◀────────────────────────────────┘
//
// The epoch is the fence. A shard of epoch 5 that wakes up when this node leads
// again at 7 is refused by the log and ends; epoch 7 has a shard of its own,
// which replays what epochs 5 and 6 have written.
//
// # The law
//
// A machine's durable state changes in Apply only. What Handle changes may be
// lost with the next failover: members that wait, timers. So replaying the log
// gives the same durable state, and so does replaying the log after it was
// compacted. No reply, and nothing that a machine sends to others, leaves before
// all that the machine had seen is committed.
package coordinator
