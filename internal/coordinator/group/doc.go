// Package group is the machine of Kafka's group coordinator, for one partition
// of __consumer_offsets: it decides who is in a group, who gets which
// partitions, and how far each group has read. It never knows logs, sockets,
// clocks, or who may do what.
//
// A group is one of three kinds, and may become another. It has offsets in each.
//
// A simple one has nothing else: its consumers commit by hand. It is there as
// long as an offset is.
//
// In a classic group (KIP-62, KIP-345, KIP-394, KIP-559, KIP-814) the members'
// leader deals partitions out. One record says what the group is; it is written
// when an assignment is known, or the last member has gone.
//
//	        join                    all have joined,           the leader's assignment
//	                                or their time is up        is in the log
//	Empty ────────▶ PreparingRebalance ────────▶ CompletingRebalance ────────▶ Stable
//	  ▲                 │       ▲                        │                       │
//	  └─────────────────┘       └────────────────────────┴───────────────────────┘
//	       nobody is left          somebody joins, leaves, or is silent for too long
//
// In a consumer group (KIP-848) the coordinator deals them out. There are three
// epochs. That of the group grows when what a dealing depends on changes: the
// members, their subscriptions, the topics. The assignment's says for which group
// epoch each member's target was computed. A member's says how far it has got
// towards its target:
//
//	                  has to give something up
//	Stable ────────────────────────────────────▶ UnrevokedPartitions
//	  ▲ │                                                │ has given it up
//	  │ └──────▶ UnreleasedPartitions ◀──────────────────┤
//	  └────────────────┴─────────────────────────────────┘
//	     others have given up what it is to get
//
// A partition has one owner at a time, because a member gets it only when it is
// in no other member's records. All of that is in the log, a record for each
// fact; members whose session or time for giving up is over are taken out.
//
// A classic group becomes a consumer group when the first such member comes, and
// the other way when the last goes, if group.consumer.migration.policy allows;
// until then members of both protocols are in it, and the classic ones are told
// their assignments by what they know: a rebalance.
//
// The rules, records, codes and messages are those of Apache Kafka 4.4.0. It
// differs where strangers would fill memory or take time:
//
//   - a group has at most 10,000 members, and as many who were given an id and
//     have not joined; 10,000 groups exist in which nobody has joined yet. A
//     classic group's members have to fit a record, and with all their protocols
//     eight, or GROUP_MAX_SIZE_REACHED;
//   - memory is bounded: beyond [Options.Memory] who comes, or wants more topics,
//     gets GROUP_MAX_SIZE_REACHED, and a commit for a partition of which the group
//     has no offset INVALID_COMMIT_OFFSET_SIZE. Who is there goes on;
//   - regular expressions are Go's, which RE2/J's are but for details of Unicode
//     classes; they have at most 4096 bytes and 1000 instructions, and those of a
//     group 250 in number and 10,000 instructions: INVALID_REGULAR_EXPRESSION;
//   - no record is written for a group in which nobody has joined yet: Kafka
//     writes an empty one with the first MEMBER_ID_REQUIRED;
//   - a JoinGroup or SyncGroup that waits is answered with REBALANCE_IN_PROGRESS
//     when its member asks again: Kafka forgets the first one.
//
// Files: input says what comes in; machine what happens to it; hard is Apply, and
// soft what a failover may lose. memory says what all of it takes. offsets, commit, fetch and expire are about
// offsets; classic, join and sync about classic groups; member, consumer, beat,
// reconcile, regex and watch about consumer groups; migrate and classicside about
// what is between them.
package group
