package dafka

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/barnabas-log/barnabas/internal/commitlog"
	"github.com/barnabas-log/barnabas/internal/fabric"
	"github.com/barnabas-log/barnabas/internal/mesh"
	"github.com/barnabas-log/barnabas/internal/vfs"
	"github.com/barnabas-log/barnabas/model"
	"github.com/barnabas-log/barnabas/record"
)

// ErrDir says that the directory of a durable producer cannot be used.
var ErrDir = errors.New("dafka: bad producer directory")

// outbox is what a durable producer finds again: who it is, and a log of what is
// not acknowledged. A record is in the log before anybody hears of it, lest
// another one gets its number in the next life.
type outbox struct {
	name   string // Of the identity's file.
	id     identity
	lock   io.Closer
	log    *commitlog.Log
	sync   bool
	build  *record.Builder
	buffer []byte
}

// identity is in a file of its own.
type identity struct {
	Topic   string `json:"topic"`
	Address string `json:"address"`
	// First is the first record that was not acknowledged when the producer was
	// closed. The log, of which whole segments go, may begin before.
	First model.Offset `json:"first"`
}

const (
	identityFile  = "producer.json"
	outboxLog     = "records"
	outboxSegment = 16 << 20
	outboxBatch   = 1 << 20 // Bytes of contents, unless one record has more.
)

// openOutbox opens or makes a directory, and reads what is in it.
func openOutbox(dir, topic string, sync bool) (*outbox, string, *fabric.ProducerState, error) {
	if err := os.MkdirAll(filepath.Join(dir, outboxLog), 0o755); err != nil {
		return nil, "", nil, fmt.Errorf("%w: %w", ErrDir, err)
	}
	lock, err := vfs.OS{}.Lock(filepath.Join(dir, ".lock"))
	if err != nil {
		return nil, "", nil, fmt.Errorf("%w: %s: another producer has it, or: %w", ErrDir, dir, err)
	}
	o := &outbox{lock: lock, sync: sync, build: record.NewBuilder(record.BuilderOptions{})}
	address, state, err := o.open(dir, topic)
	if err != nil {
		return nil, "", nil, errors.Join(fmt.Errorf("%w: %s: %w", ErrDir, dir, err), o.close())
	}
	return o, address, state, nil
}

func (o *outbox) open(dir, topic string) (string, *fabric.ProducerState, error) {
	o.name = filepath.Join(dir, identityFile)
	var err error
	if o.id, err = readIdentity(o.name, topic); err != nil {
		return "", nil, err
	}
	if o.log, err = commitlog.Open(vfs.OS{}, filepath.Join(dir, outboxLog), commitlog.Options{SegmentBytes: outboxSegment}); err != nil {
		return "", nil, err
	}
	first := max(o.log.Start(), o.id.First)
	if first > o.log.End() {
		return "", nil, fmt.Errorf("records up to %d are missing: the log ends at %d", first, o.log.End())
	}
	state := &fabric.ProducerState{First: uint64(first)}
	err = o.log.Scan(first, func(b record.Batch) error {
		for r, err := range b.Records(0) {
			if err != nil {
				return err
			}
			if r.Offset >= first {
				state.Contents = append(state.Contents, append([]byte{}, r.Value...))
			}
		}
		return nil
	})
	return o.id.Address, state, err
}

// readIdentity finds out who the producer is, and makes somebody new in a new
// directory.
func readIdentity(name, topic string) (id identity, err error) {
	text, err := os.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		id = identity{Topic: topic, Address: mesh.NewAddress()}
		return id, id.write(name)
	case err != nil:
		return id, err
	}
	if err := json.Unmarshal(text, &id); err != nil {
		return id, fmt.Errorf("%s: %w", identityFile, err)
	}
	if id.Address == "" || fabric.CheckName(id.Address) != nil {
		return id, fmt.Errorf("%s has no address", identityFile)
	}
	if id.Topic != topic {
		return id, fmt.Errorf("it is a producer of topic %q", id.Topic)
	}
	return id, nil
}

func (id identity) write(name string) error {
	text, err := json.Marshal(id)
	if err != nil {
		return err
	}
	return vfs.WriteFile(vfs.OS{}, name, append(text, '\n'))
}

// keep writes the new records among sends. It returns when they survive a crash.
func (o *outbox) keep(sends []fabric.Send) error {
	end := o.log.End()
	for i := range sends {
		s := &sends[i]
		if s.Kind != fabric.Record || model.Offset(s.Sequence) != o.log.End()+model.Offset(o.build.Count()) {
			continue
		}
		if err := o.build.Add(record.Record{Timestamp: time.Now().UnixMilli(), Value: s.Content}); err != nil {
			return err
		}
		if o.build.Size() >= outboxBatch {
			if err := o.write(); err != nil {
				return err
			}
		}
	}
	if o.build.Count() > 0 {
		if err := o.write(); err != nil {
			return err
		}
	}
	if o.sync && o.log.End() > end {
		return o.log.Sync()
	}
	return nil
}

func (o *outbox) write() (err error) {
	if o.buffer, _, err = o.build.Build(o.buffer[:0]); err == nil {
		_, _, err = o.log.Append(o.buffer, 0, time.Now())
	}
	o.build.Reset(record.BuilderOptions{})
	return err
}

// forget lets go of what is acknowledged. Files go by segments: what is
// published again after a crash because of that, stores drop.
func (o *outbox) forget(first uint64, log *slog.Logger) {
	if model.Offset(first) < o.log.Start()+1 || model.Offset(first) > o.log.End() {
		return
	}
	err := o.log.SetStart(model.Offset(first))
	if err == nil {
		_, err = o.log.Retain(time.Now(), commitlog.Retention{Limit: model.Offset(first)})
	}
	if err == nil {
		_, err = o.log.DeleteExpired(time.Now(), 0)
	}
	if err != nil {
		log.Warn("acknowledged records are not removed", "err", err)
	}
}

func (o *outbox) close() error {
	var err error
	if o.log != nil {
		if o.id.First = max(o.id.First, o.log.Start()); o.id.First > 0 {
			err = o.id.write(o.name)
		}
		err = errors.Join(err, o.log.Close())
	}
	return errors.Join(err, o.lock.Close())
}
