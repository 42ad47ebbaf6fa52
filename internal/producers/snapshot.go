package producers

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// ErrSnapshot says that a snapshot is not one, or is damaged. The state is then
// rebuilt from the log.
var ErrSnapshot = errors.New("producers: bad snapshot")

// Sizes of Kafka's .snapshot file, version 1.
const (
	snapshotVersion = 1
	snapshotHead    = 2 + 4 + 4 // version, checksum, count
	snapshotCRC     = 2         // position of the checksum
	snapshotBody    = 6         // what the checksum covers begins here
	entrySize       = 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Snapshot appends the state in the format of Kafka's .snapshot files. Kafka
// keeps one entry for each producer, so a restart forgets all but the last
// batch; we write one for each remembered batch, oldest first, of which Kafka
// takes the last. Only that one names the open transaction: Kafka would make a
// second one of every mention.
func (s *State) Snapshot(dst []byte) []byte {
	at := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, snapshotVersion)
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0) // checksum and count
	n := uint32(0)
	for p := s.oldest; p != nil; p = p.newer {
		for i := 0; i < int(p.count)-1; i++ {
			dst = p.appendEntry(dst, p.batches[i], p.batches[i].timestamp, model.NoOffset)
			n++
		}
		last := written{lastOffset: model.NoOffset, lastSequence: record.NoSequence}
		if p.count > 0 {
			last = *p.last()
		}
		dst = p.appendEntry(dst, last, p.lastTimestamp, p.txnFirst)
		n++
	}
	file := dst[at:]
	binary.BigEndian.PutUint32(file[snapshotBody:], n)
	binary.BigEndian.PutUint32(file[snapshotCRC:], crc32.Checksum(file[snapshotBody:], castagnoli))
	return dst
}

func (p *producer) appendEntry(dst []byte, w written, timestamp int64, txnFirst model.Offset) []byte {
	be := binary.BigEndian
	dst = be.AppendUint64(dst, uint64(p.id))
	dst = be.AppendUint16(dst, uint16(p.epoch))
	dst = be.AppendUint32(dst, uint32(w.lastSequence))
	dst = be.AppendUint64(dst, uint64(w.lastOffset))
	dst = be.AppendUint32(dst, uint32(w.offsetDelta))
	dst = be.AppendUint64(dst, uint64(timestamp))
	dst = be.AppendUint32(dst, uint32(p.coordinatorEpoch))
	return be.AppendUint64(dst, uint64(txnFirst))
}

// Load replaces the state by a snapshot's, Kafka's or ours. On an error, which
// is ErrSnapshot, the state is as it was.
func (s *State) Load(snapshot []byte) error {
	entries, err := open(snapshot)
	if err != nil {
		return err
	}
	loaded := New(Options{MaxProducers: s.max})
	for ; len(entries) > 0; entries = entries[entrySize:] {
		loaded.loadEntry(entries[:entrySize])
	}
	for p := loaded.oldest; p != nil; p = p.newer {
		if p.txnFirst != model.NoOffset {
			loaded.open = insert(loaded.open, txn{producer: p.id, first: p.txnFirst, since: p.lastTimestamp})
		}
	}
	loaded.guards = s.guards // None is given twice.
	*s = *loaded
	return nil
}

// open checks a snapshot's frame and returns its entries.
func open(snapshot []byte) ([]byte, error) {
	be := binary.BigEndian
	if len(snapshot) < snapshotHead {
		return nil, fmt.Errorf("%w: %d bytes", ErrSnapshot, len(snapshot))
	}
	if v := be.Uint16(snapshot); v != snapshotVersion {
		return nil, fmt.Errorf("%w: version %d", ErrSnapshot, int16(v))
	}
	if have, want := crc32.Checksum(snapshot[snapshotBody:], castagnoli), be.Uint32(snapshot[snapshotCRC:]); have != want {
		return nil, fmt.Errorf("%w: checksum %#x, computed %#x", ErrSnapshot, want, have)
	}
	entries, n := snapshot[snapshotHead:], int64(be.Uint32(snapshot[snapshotBody:]))
	if n*entrySize != int64(len(entries)) {
		return nil, fmt.Errorf("%w: %d entries in %d bytes", ErrSnapshot, n, len(entries))
	}
	return entries, nil
}

// loadEntry takes one entry. A later entry of the same producer and epoch is a
// later batch; all but the batch is the last entry's.
func (s *State) loadEntry(e []byte) {
	be := binary.BigEndian
	p := s.touch(model.ProducerID(be.Uint64(e)))
	p.enter(int16(be.Uint16(e[8:])))
	w := written{
		lastSequence: int32(be.Uint32(e[10:])), lastOffset: model.Offset(be.Uint64(e[14:])),
		offsetDelta: int32(be.Uint32(e[22:])), timestamp: int64(be.Uint64(e[26:])),
	}
	if w.lastOffset >= 0 && w.offsetDelta >= 0 {
		p.add(w)
	}
	p.lastTimestamp, p.coordinatorEpoch = w.timestamp, int32(be.Uint32(e[34:]))
	p.txnFirst = max(model.NoOffset, model.Offset(be.Uint64(e[38:])))
}
