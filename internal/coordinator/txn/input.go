package txn

import (
	"time"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// Request is an input: one client's request, or one transaction of a broker's.
// It is answered with the wire.Response of the same API, in which the throttle
// time is not set. Errors are in the response; the shard's own errors come
// beside it.
//
//	InitProducerId        with a transactional id; without one no coordinator is asked
//	AddPartitionsToTxn    up to version 3 the client's form; from 4 on exactly one element of Transactions
//	AddOffsetsToTxn       the group's partition of __consumer_offsets is in Partition
//	EndTxn
//	DescribeTransactions  only ids of this shard
//	ListTransactions      what this shard has; the api merges the shards' answers
type Request struct {
	// Body has memory of its own: the machine keeps what it needs of it.
	Body    wire.Request
	Version int16
	// ClientID is for the log.
	ClientID string
	// Partition is where AddOffsetsToTxn's group keeps its offsets.
	Partition model.Partition
}

// MarkersWritten is an input: these partitions have their marker, or are gone
// with their topic. It may come in parts, late and more than once.
type MarkersWritten struct {
	TransactionalID string
	// Attempt is that of the WriteMarkers that is answered.
	Attempt    uint64
	Partitions []model.Partition
}

// ProducerIDs is an input: fresh producer ids from First on, below End. It
// answers [NeedProducerIDs]; an empty block says that there are none to be had
// now.
type ProducerIDs struct{ First, End model.ProducerID }

// News is an input: settings or features have changed.
type News struct {
	Settings Settings
	// TransactionVersion is the finalised level of transaction.version: 0, 1
	// or 2.
	TransactionVersion int16
}

// WriteMarkers is sent when a transaction's end is decided, and again after each
// load while it has partitions without a marker. The sender writes to all
// partitions, tries for ever, and gives MarkersWritten to this shard. A newer
// attempt for the same transactional id takes the place of an older one.
//
// The coordinator epoch of the markers is the shard's epoch, which comes beside
// it.
type WriteMarkers struct {
	TransactionalID string
	Attempt         uint64
	ProducerID      model.ProducerID
	// Epoch is the marker's: from transaction version 2 on it is above that of
	// the transaction's records.
	Epoch     int16
	Committed bool
	// TransactionVersion is that of the transaction that ends: markers of
	// version 2 are checked more strictly.
	TransactionVersion int16
	Partitions         []model.Partition
}

// NeedProducerIDs asks for [ProducerIDs]: some ten at least, better a hundred.
type NeedProducerIDs struct{}

// Settings are the broker's. The zero value is not usable: see DefaultSettings.
type Settings struct {
	// MaxTimeout bounds what clients may ask for (transaction.max.timeout.ms).
	MaxTimeout time.Duration
	// IDExpiry is how long a transactional id without a transaction is
	// remembered (transactional.id.expiration.ms).
	IDExpiry time.Duration
	// AbortInterval and ExpiryInterval are between looks for what has timed out
	// (transaction.abort.timed.out.transaction.cleanup.interval.ms) and for what
	// has expired (transaction.remove.expired.transaction.cleanup.interval.ms).
	AbortInterval  time.Duration
	ExpiryInterval time.Duration
	// VerifyPartitions is transaction.partition.verification.enable: else all
	// that AddPartitionsToTxn wants verified is.
	VerifyPartitions bool
	// TwoPhaseCommit lets producers ask for transactions that never time out
	// (transaction.two.phase.commit.enable, KIP-939).
	TwoPhaseCommit bool
}

// DefaultSettings are Kafka's defaults.
func DefaultSettings() Settings {
	return Settings{
		MaxTimeout: 15 * time.Minute, IDExpiry: 7 * 24 * time.Hour, AbortInterval: 10 * time.Second,
		ExpiryInterval: time.Hour, VerifyPartitions: true,
	}
}
