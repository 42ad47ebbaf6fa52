package txn

import (
	"time"

	"github.com/barnabas-log/barnabas/internal/config"
	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// Request is an input: what a client asks about a transactional id of this
// shard, or a broker about one transaction. It is answered with a new
// [wire.Response] of the same API, whose fields the caller may keep. A request
// of another API is answered with UNKNOWN_SERVER_ERROR by [wire.ErrorCode].
//
//	InitProducerId        with a transactional id; idempotent producers need no coordinator
//	AddPartitionsToTxn    up to version 3 the client's form; from 4 on with exactly one of Transactions
//	AddOffsetsToTxn       with the group's partition in Partition
//	EndTxn
//	DescribeTransactions  with ids of this shard
//	ListTransactions      what this shard has; the caller merges the shards' answers
type Request struct {
	// Body is the machine's from now on: its memory must be nobody else's.
	Body wire.Request
	// Version is the one the client spoke, and will be answered in.
	Version int16
	// Partition is where AddOffsetsToTxn's group keeps its offsets.
	Partition model.Partition
	// Bytes is what Body takes in memory, roughly.
	Bytes int
}

// HeldBytes implements [coordinator.Sized].
func (q Request) HeldBytes() int { return q.Bytes }

// MarkersWritten is an input: these partitions have their marker, or are gone
// with their topic. It may come in parts, late, and more than once. If an answer
// is wanted, it is nil.
type MarkersWritten struct {
	TransactionalID string
	// Attempt is that of the [WriteMarkers] that was obeyed.
	Attempt    uint64
	Partitions []model.Partition
}

// ProducerIDs is an input: fresh producer ids from First on, below End. It
// answers [NeedProducerIDs], always: an empty block says that none can be had
// now. If an answer is wanted, it is nil.
type ProducerIDs struct{ First, End model.ProducerID }

// News is an input: settings or features have changed. If an answer is wanted,
// it is nil.
type News struct {
	Settings config.Txn
	// TransactionVersion is the finalised level of the feature
	// transaction.version: 0, 1 or 2.
	TransactionVersion int16
}

// WriteMarkers is sent when the end of a transaction is decided, and after each
// load for those that have not got all markers. The sender writes a marker to
// each partition, tries for ever, and says so with [MarkersWritten]. A newer
// attempt for the same transactional id takes the place of an older one; to one
// partition, the markers of one transactional id go in the order of the sends.
//
// The markers' coordinator epoch is the shard's epoch, which comes beside this.
type WriteMarkers struct {
	TransactionalID string
	Attempt         uint64
	ProducerID      model.ProducerID
	// Epoch is the markers': from transaction version 2 on it is above that of
	// the transaction's records.
	Epoch     int16
	Committed bool
	// TransactionVersion is that of the transaction that ends: partitions are
	// stricter about markers of version 2 (KIP-890).
	TransactionVersion int16
	Partitions         []model.Partition
}

// NeedProducerIDs is sent when producer ids run low: some ten are wanted at
// least, better a hundred.
type NeedProducerIDs struct{}

// TimedOut is sent, for the log and the metrics, when a transaction was open for
// longer than its producer allowed, and is being aborted.
type TimedOut struct {
	TransactionalID string
	ProducerID      model.ProducerID
	Epoch           int16
	OpenFor         time.Duration
}

// Options of a [Machine].
type Options struct {
	Settings           config.Txn
	TransactionVersion int16
	// MaxBatch is the most bytes that one batch of records may have; it is that
	// of the runtime. A transaction cannot have more partitions than the list of
	// fits.
	MaxBatch int
	// Memory counts, roughly, what the machine keeps; where there is no room, new
	// ids and partitions are refused. Nil is no bound.
	Memory *coordinator.Share
}
