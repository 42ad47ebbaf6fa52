package txn

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/barnabas-log/barnabas/internal/coordinator"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/wire"
)

// status is the state of a transaction, by the numbers of the log.
type status int8

const (
	empty status = iota
	ongoing
	prepareCommit
	prepareAbort
	completeCommit
	completeAbort
)

// names are Kafka's. The last two are never in the log: a dead id has no record,
// and fencing is one step with the abort. Clients may ask for them.
var names = [...]string{
	"Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "Dead", "PrepareEpochFence",
}

func (s status) String() string { return names[s] }

// prepared says that the end is decided, and markers are missing.
func (s status) prepared() bool { return s == prepareCommit || s == prepareAbort }

// idle says that nothing is under way: the id may expire.
func (s status) idle() bool { return s == empty || s == completeCommit || s == completeAbort }

// epochTwo is the transaction version from which on each transaction's end
// bumps the epoch (KIP-890 part 2).
const epochTwo = 2

// exhausted is the first epoch after which a producer gets a new id: the one
// above it is kept for the markers that fence it.
const exhausted = math.MaxInt16 - 1

// noTime stands for no timestamp, noEpoch for no epoch.
const (
	noTime  = -1
	noEpoch = -1
)

// forever is the timeout of transactions that another coordinator decides
// about (KIP-939), in milliseconds.
const forever = math.MaxInt32

// topics are partitions, sorted by topic and partition, none of them twice.
type topics []wire.TransactionLogRecordValuePartitionsSchema

// transaction is all that the log says about one transactional id.
type transaction struct {
	producer model.ProducerID
	previous model.ProducerID // The producer before the last change.
	next     model.ProducerID // The producer after this transaction, if its epochs are used up.
	started  int64            // Milliseconds since 1970, or noTime.
	updated  int64            // Of the last change.
	timeout  int32            // Milliseconds, or forever.
	epoch    int16
	version  int16 // The transaction version of the client, as far as known.
	status   status
	topics   topics
}

// Apply implements [coordinator.Machine].
func (m *Machine) Apply(_ coordinator.Origin, key, value []byte) error {
	r := &m.reader
	r.Reset(key)
	if kind := r.Int16(); r.Err() == nil && kind != wire.TransactionLogRecordType {
		return nil // Of a newer version.
	}
	id := r.Text(false)
	if err := r.Err(); err != nil {
		return fmt.Errorf("txn: record key: %w", err)
	}
	if value == nil {
		m.forget(id)
		return nil
	}
	r.Reset(value)
	version := r.Int16()
	if r.Err() == nil && (version < 0 || version > 1) {
		return nil // Of a newer version.
	}
	if err := m.value.ReadFrom(r, version); err != nil {
		return fmt.Errorf("txn: record of %q: %w", id, err)
	}
	if s := m.value.TransactionStatus; s < 0 || s > int8(completeAbort) {
		return fmt.Errorf("txn: record of %q: %w: status %d", id, wire.ErrMalformed, s)
	}
	m.set(id, &m.value)
	if cap(m.value.TransactionPartitions) > keptTopics {
		m.value = wire.TransactionLogRecordValue{}
	}
	return nil
}

// keptTopics is how much memory for records is used again.
const keptTopics = 1000

// ApplyMarker implements [coordinator.Machine]. Nobody's transactions write to
// this log.
func (m *Machine) ApplyMarker(coordinator.Origin, bool) error { return nil }

// set makes a transactional id what a record says. The record's memory is not
// kept.
func (m *Machine) set(id string, v *wire.TransactionLogRecordValue) {
	e := m.ids[id]
	if e == nil {
		e = &entry{id: strings.Clone(id), lastEpoch: noEpoch, most: usualBytes}
		m.ids[e.id] = e
	} else {
		m.count(-e.cost())
	}
	kept, was := e.topics, e.status
	e.transaction = transaction{
		producer: model.ProducerID(v.ProducerID), previous: model.ProducerID(v.PreviousProducerID), next: model.ProducerID(v.NextProducerID),
		started: v.TransactionStartTimestampMs, updated: v.TransactionLastUpdateTimestampMs, timeout: v.TransactionTimeoutMs,
		epoch: v.ProducerEpoch, version: v.ClientTransactionVersion, status: status(v.TransactionStatus),
	}
	if e.status != empty {
		e.topics = own(kept, v.TransactionPartitions)
		e.most = max(e.most, e.topics.cost())
	}
	m.count(e.cost())
	m.follow(e, was)
}

// forget removes a transactional id.
func (m *Machine) forget(id string) {
	e := m.ids[id]
	if e == nil {
		return
	}
	m.count(-e.cost())
	delete(m.ids, id)
	delete(m.open, id)
}

// own returns from as topics with memory of their own. kept is what there was
// before: most records change no topics at all, others mostly add some.
func own(kept, from topics) topics {
	if slices.EqualFunc(kept, from, sameTopic) {
		return kept
	}
	out := make(topics, len(from))
	for i, t := range from {
		out[i].Topic, out[i].PartitionIDs = kept.name(t.Topic), slices.Clone(t.PartitionIDs)
	}
	return out.sorted()
}

func sameTopic(a, b wire.TransactionLogRecordValuePartitionsSchema) bool {
	return a.Topic == b.Topic && slices.Equal(a.PartitionIDs, b.PartitionIDs)
}

// name returns a topic's name in memory that may be kept.
func (t topics) name(topic string) string {
	if i, ok := t.find(topic); ok {
		return t[i].Topic
	}
	return strings.Clone(topic)
}

func (t topics) find(topic string) (int, bool) {
	return slices.BinarySearchFunc(t, topic, func(t wire.TransactionLogRecordValuePartitionsSchema, name string) int {
		return strings.Compare(t.Topic, name)
	})
}

// sorted brings topics into order, in place. Kafka's records have none.
func (t topics) sorted() topics {
	slices.SortStableFunc(t, func(a, b wire.TransactionLogRecordValuePartitionsSchema) int {
		return strings.Compare(a.Topic, b.Topic)
	})
	out := t[:0]
	for _, next := range t {
		if n := len(out); n > 0 && out[n-1].Topic == next.Topic {
			out[n-1].PartitionIDs = append(out[n-1].PartitionIDs, next.PartitionIDs...)
			continue
		}
		out = append(out, next)
	}
	for i := range out {
		slices.Sort(out[i].PartitionIDs)
		out[i].PartitionIDs = slices.Compact(out[i].PartitionIDs)
	}
	return out
}

// has reports whether a partition is among them.
func (t topics) has(topic string, partition int32) bool {
	i, known := t.find(topic)
	if !known {
		return false
	}
	_, ok := slices.BinarySearch(t[i].PartitionIDs, partition)
	return ok
}

// all lists them one by one, in order.
func (t topics) all() []model.Partition {
	n := 0
	for i := range t {
		n += len(t[i].PartitionIDs)
	}
	list := make([]model.Partition, 0, n)
	for i := range t {
		for _, p := range t[i].PartitionIDs {
			list = append(list, model.Partition{Topic: t[i].Topic, Index: p})
		}
	}
	return list
}

// What memory an entry and a topic take beside their names, roughly; a partition
// with what it takes while it gets its marker.
const (
	entryBytes     = 360
	usualBytes     = 500 // What every transaction may take.
	topicBytes     = 64
	partitionBytes = 100
)

// count says how much more, or less, is kept than before.
func (m *Machine) count(bytes int) {
	m.bytes += bytes
	m.opts.Memory.Add(bytes)
}

// cost is the memory that an entry takes, roughly.
func (e *entry) cost() int { return entryBytes + len(e.id) + e.most }

func (t topics) cost() int {
	n := 0
	for i := range t {
		n += topicBytes + len(t[i].Topic) + partitionBytes*len(t[i].PartitionIDs)
	}
	return n
}

// appendKey appends the key of a transactional id's records.
func appendKey(dst []byte, id string) []byte {
	return wire.AppendString(wire.AppendInt16(dst, wire.TransactionLogRecordType), id)
}

// write makes the record that will make a transactional id be t.
func (m *Machine) write(id string, t *transaction) {
	v := &m.written
	*v = wire.TransactionLogRecordValue{
		ProducerID: int64(t.producer), PreviousProducerID: int64(t.previous), NextProducerID: int64(t.next), ProducerEpoch: t.epoch,
		NextProducerEpoch: noEpoch, TransactionTimeoutMs: t.timeout, TransactionStatus: int8(t.status), TransactionPartitions: t.topics,
		TransactionLastUpdateTimestampMs: t.updated, TransactionStartTimestampMs: t.started, ClientTransactionVersion: t.version,
	}
	if t.status != empty && v.TransactionPartitions == nil {
		v.TransactionPartitions = topics{} // Null is for the empty state alone.
	}
	version := int16(1)
	if m.version < 1 && t.version < epochTwo {
		// As long as no version is finalised, brokers of before Kafka 4.0 must be
		// able to read it.
		version, v.PreviousProducerID, v.NextProducerID, v.ClientTransactionVersion = 0, -1, -1, 0
	}
	key := m.key(id)
	at := len(m.memory)
	memory, err := wire.AppendCoordinatorValue(m.memory, v, version)
	if err != nil {
		panic("txn: encode " + id + ": " + err.Error()) // All its names came from messages.
	}
	m.memory = memory
	m.record(key, m.memory[at:len(m.memory):len(m.memory)])
}

// remove makes the record that forgets a transactional id.
func (m *Machine) remove(id string) { m.record(m.key(id), nil) }

func (m *Machine) key(id string) []byte {
	at := len(m.memory)
	m.memory = appendKey(m.memory, id)
	return m.memory[at:len(m.memory):len(m.memory)]
}

func (m *Machine) record(key, value []byte) {
	m.records = append(m.records, coordinator.Record{Key: key, Value: value})
	n := len(m.records)
	m.out.Batches = append(m.out.Batches, coordinator.Batch{Records: m.records[n-1 : n : n]})
}

// What a record takes in a batch beside id and topics, at most, with all that
// may be added when the transaction ends; and what a topic takes beside its
// name.
const (
	recordBytes   = 256
	topicOverhead = 10
)

// fits reports whether a record of these topics, and those of the same
// transaction's end, are small enough for the log.
func (m *Machine) fits(id string, t topics) bool {
	n := recordBytes + len(id)
	for i := range t {
		n += topicOverhead + len(t[i].Topic) + 4*len(t[i].PartitionIDs)
	}
	return n <= min(m.opts.MaxBatch, maxRecord)
}

// maxRecord keeps every list in a record below the million elements that codecs
// take.
const maxRecord = 3 << 20
