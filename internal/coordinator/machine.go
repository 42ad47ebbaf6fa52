package coordinator

import (
	"errors"
	"time"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// Errors of [Runtime.Submit], and of inputs that were taken and then lost.
var (
	// ErrNotCoordinator says that another node has the shard, or had it taken
	// away from this one (NOT_COORDINATOR).
	ErrNotCoordinator = errors.New("coordinator: not the coordinator")
	// ErrLoading says that the shard is replaying its log
	// (COORDINATOR_LOAD_IN_PROGRESS).
	ErrLoading = errors.New("coordinator: loading")
	// ErrUnavailable says that the shard could not write, or has too much to do
	// (COORDINATOR_NOT_AVAILABLE).
	ErrUnavailable = errors.New("coordinator: not available")
)

// Token names an input whose reply is owed. 0 is an input that wants none.
type Token uint64

// Machine decides for one shard. It is pure: no goroutine, lock, clock, or
// chance of its own. The shard's goroutine alone calls it.
type Machine interface {
	// Handle takes an input, or nil when its deadline has passed, and says what
	// follows. It does not change durable state: Apply does, with the records
	// that Handle returns, before Handle is called again.
	Handle(now time.Time, to Token, in any) Effects
	// Apply takes in one record, new or replayed. key and value are valid until
	// it returns. What it cannot read, because a newer version wrote it, it
	// skips; an error ends the shard.
	Apply(o Origin, key, value []byte) error
	// ApplyMarker ends a producer's transaction in this partition.
	ApplyMarker(o Origin, committed bool) error
	// Loaded is called once, when the log was replayed and before the first
	// Handle: timers of what was found begin now.
	Loaded(now time.Time)
	// Deadline is when Handle wants to be called with nil; zero is never.
	Deadline() time.Time
}

// Origin says where a record comes from.
type Origin struct {
	// Timestamp is the record's, in milliseconds since 1970.
	Timestamp int64
	// Producer is that of a transactional batch or marker; nil otherwise.
	Producer *record.Producer
	// CoordinatorEpoch is a marker's.
	CoordinatorEpoch int32
}

// Sized is an input that takes memory while it waits for its shard.
type Sized interface{ HeldBytes() int }

// Effects are what follows from an input.
type Effects struct {
	// Batches are appended in this order, each whole or not at all. One must
	// not be larger than [Options.MaxBatch]: the machine sees to it. They are
	// done with when the machine is called again.
	Batches []Batch
	// Replies are given once all that the machine has seen is committed.
	Replies []Reply
	// Sends are for the world outside of the shard, like the markers that a
	// transaction's end asks for. They wait as replies do: what was not
	// committed may not change other logs.
	Sends []any
}

// Batch are records that belong together, or a marker.
type Batch struct {
	Records []Record
	// Producer makes the records part of its transaction.
	Producer *record.Producer
	// Marker ends Producer's transaction in this partition; there are no
	// records then.
	Marker *Marker
}

// Marker is the end of a transaction.
type Marker struct {
	Committed        bool
	CoordinatorEpoch int32
	// TransactionVersion is that of the coordinator that decided: an [Admitter]
	// may be stricter about later ones.
	TransactionVersion int16
}

// Record is a record to write. A nil Value deletes the key.
type Record struct{ Key, Value []byte }

// Reply answers an input, maybe one of long ago.
type Reply struct {
	To     Token
	Answer any
}

// Log is what a shard needs of its partition.
type Log interface {
	// Append writes a batch, and returns one past its last offset. It refuses
	// with an error that is [ErrNotCoordinator] unless epoch is still that of
	// the leader and this node leads.
	Append(epoch model.Epoch, b record.Batch) (end model.Offset, err error)
	// Acknowledged reports whether all below end is committed. It fails with
	// ErrNotCoordinator when the epoch is over.
	Acknowledged(end model.Offset, epoch model.Epoch) (bool, error)
	// AwaitCommitted calls Wake once when end is committed, or the epoch is
	// over; it reports false, and calls nothing, if that is so already.
	AwaitCommitted(end model.Offset, epoch model.Epoch, w Waker) bool
	// Replay calls each with all batches from the log's start on, and returns
	// the log's end.
	Replay(each func(record.Batch) error) (end model.Offset, err error)
}

// Admitter is a [Log] that keeps an eye on producers, as Kafka's partitions do.
type Admitter interface {
	// Admit says whether Append will refuse a batch, or a marker, because of
	// its producer. If so, nothing of the [Effects] happens, and who is answered
	// with them is answered with the error: it is theirs alone, and no reason to
	// load the shard again.
	Admit(b Batch) error
}

// Waker is told that there is something to look at; it does not block.
type Waker interface{ Wake() }

// Done takes the answer of an input, or an error of this package. It is called
// once, by the shard's goroutine, and must not block.
type Done func(answer any, err error)
